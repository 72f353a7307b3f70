"""How time, memory, waiting and business of a device are measured."""

import statistics
import time
import warnings
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass
class Task:
    "A row, or a few, of a part: its name, what yields the rows, and the seconds without which it isn't begun."

    name: str
    rows: object
    least: float = 3.0
    most: float = 1e9  # seconds after which it is stopped, if its part doesn't end before


def synchronise(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(function, device, about=0.4, most=25, warm=2):
    "Median seconds of a call, by events on a GPU and by the clock elsewhere, after a warm-up."
    for _ in range(warm):
        function()
    synchronise(device)
    begun = time.perf_counter()
    function()
    synchronise(device)
    once = time.perf_counter() - begun
    count = int(min(max(about / max(once, 1e-6), 3), most))
    if device.type != "cuda":
        return statistics.median([once, *(timed(function) for _ in range(count))])
    marks = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(count)]
    for start, end in marks:
        start.record()
        function()
        end.record()
    synchronise(device)
    return statistics.median(start.elapsed_time(end) for start, end in marks) / 1e3


def timed(function):
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def peak_of(function, device):
    "Bytes of device memory that a call takes at most, beyond what is held before; None without a GPU."
    if device.type != "cuda":
        function()
        return None
    synchronise(device)
    held = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    function()
    synchronise(device)
    return torch.cuda.max_memory_allocated(device) - held


def cost_of(function, device, **how):
    "(milliseconds, peak bytes) of a call; where memory is not enough, (why, None)."
    try:
        function()  # whatever is compiled or tried out at the first call doesn't count
        peak = peak_of(function, device)
        return 1e3 * seconds_of(function, device, **how), peak
    except (torch.OutOfMemoryError, MemoryError):
        torch.cuda.empty_cache()
        return "out of memory", None
    except RuntimeError as error:
        if "alloc" not in str(error) and "out of memory" not in str(error):
            raise
        return "out of memory", None


def step_of(function, leaves):
    "A call of `function()`, its backward pass, and the gradients taken away again."

    def step():
        value = function()
        value.sum().backward()
        for leaf in leaves:
            leaf.grad = None

    return step


@contextmanager
def tf32(allowed):
    "Inside, products of float32 matrices may, or may not, run as tf32."
    before = torch.get_float32_matmul_precision()
    convolutions = torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cudnn.allow_tf32 = convolutions


def apart(found, wanted):
    "How far a tensor is from what it should be, as a share of its length (of 1 for zeros); infinite where it has NaN."
    found, wanted = found.detach().double().cpu(), wanted.detach().double().cpu()
    length = float(wanted.norm())
    far = float((found - wanted).norm()) / (length if length > 1e-9 else 1.0)
    return far if far == far else float("inf")


def waits_of(function, steps, device):
    "How often a step waits for the device, and where: (a step, the three most frequent places)."
    if device.type != "cuda":
        return None, ""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            function()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    found = [w for w in heard if "synchroniz" in str(w.message)]
    places = Counter(f"{'/'.join(w.filename.split('/')[-2:])}:{w.lineno}" for w in found)
    return len(found) / steps, ", ".join(f"{place} x{count}" for place, count in places.most_common(4))


def union(intervals):
    "Length of what intervals (start, end) cover together."
    total, until = 0, 0
    for start, end in sorted(intervals):
        total += max(0, end - max(start, until))
        until = max(until, end)
    return total


def busy_of(function, device):
    "Seconds in which the GPU does something during a call (the profiler's kernels and copies); None without one."
    if device.type != "cuda":
        return None
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        function()
        synchronise(device)
    events = seen.profiler.kineto_results.events()
    spans = []
    for event in events:
        told = getattr(event, "activity_type", lambda: "")()
        mine = event.device_type() == DeviceType.CUDA and "annotation" not in str(told)
        if mine and not event.name().startswith(("ProfilerStep", "Optimizer.", "Torch-Compiled", "##")):
            spans.append((event.start_ns(), event.start_ns() + event.duration_ns()))
    return union(spans) / 1e9
