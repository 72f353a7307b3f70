"""What the device computes is what the CPU computes: kernels, methods, augmentation, draws, and the tests for it."""

import copy
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from medret_nb.data.batches import BatchMaker
from medret_nb.data.counters import keyed_noise
from medret_nb.data.images import augment, mix
from medret_nb.methods.table import METHODS

from .forms import csd_case, mls_case, nce_case, region_case
from .measure import Task, apart, tf32

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 4e-2}  # of the length of a value or a gradient, against float64


def gradients(function, leaves):
    "The value of a function and the gradients of a fixed random weighting of it."
    value = function()
    rng = torch.Generator().manual_seed(7)
    weight = torch.randn(value.shape, generator=rng).to(value)
    return [value, *torch.autograd.grad((value * weight).sum(), leaves)]


def against_float64(case):
    "The largest distance of value and gradients from those of the usual form in float64."
    found = gradients(lambda: case.ours(*case.leaves), case.leaves)
    exact = [leaf.detach().double().requires_grad_() for leaf in case.leaves]
    wanted = gradients(lambda: case.naive(*exact), exact)
    return max(apart(a, b) for a, b in zip(found, wanted))


KERNELS = {
    "MLS": mls_case,
    "CSD loss": csd_case,
    "info_nce": nce_case,
    "region-word": lambda n, *more: region_case(max(n // 8, 1), 13, 21, *more),
}


def kernel_rows(world, name):
    shapes = [(1, 7), (33, 65)] + ([] if world.quick else [(257, 96), (512, 512)])
    for dtype in (torch.float32, torch.bfloat16):
        worst, where = 0.0, ""
        for n, d in shapes:
            far = against_float64(KERNELS[name](n, d, world.device, dtype))
            if not far <= worst:
                worst, where = far, f"worst at N={n} D={d}"
        kind = str(dtype).removeprefix("torch.")
        what = f"{name}, {kind} inputs: farthest from float64, value and gradients"
        yield {"what": what, "value": worst, "unit": "of its length", "target": TOLERANCE[dtype], "note": where}


def steady(method, batch):
    "Terms and the whole gradient of a method on a batch, in eval mode, without tf32."
    method.eval()
    method.zero_grad()
    terms = method(batch)
    sum(terms.values()).backward()
    grads = [p.grad.flatten().double().cpu() for p in method.parameters() if p.grad is not None]
    return {name: value.item() for name, value in terms.items()}, torch.cat(grads)


def method_rows(world, name):
    method = world.tiny_method(name)
    maker = BatchMaker.for_method(world.small.split("train"), method, 0, 1.0)
    batch = maker.batch(np.arange(16 if world.quick else 48), 1)
    method.to("cpu")
    expected, slope = steady(method, batch.to("cpu"))
    moved = copy.deepcopy(method).to(world.device)
    found, found_slope = steady(moved, batch.to(world.device))
    far = max(abs(found[k] - expected[k]) / max(abs(expected[k]), 1e-6) for k in expected)
    yield {"what": f"{name}: terms, CPU against device", "value": far, "unit": "of a term", "target": 1e-4}
    told = apart(found_slope, slope)
    yield {"what": f"{name}: gradient, CPU against device", "value": told, "unit": "of its length", "target": 1e-3}


def same(a, b):
    "Share of equal entries of two tensors; NaN is equal to NaN."
    a, b = a.cpu(), b.cpu()
    if a.shape != b.shape:
        return 0.0
    equal = (a == b) | ((a != a) & (b != b)) if a.is_floating_point() else a == b
    return equal.double().mean().item() if equal.numel() else 1.0


def draw_rows(world):
    keys = torch.from_numpy(np.random.default_rng(0).integers(0, 2**62, 64))
    rng = torch.Generator().manual_seed(0)
    films, others = (torch.rand(64, 1, 64, 64, generator=rng) for _ in range(2))
    boxes = torch.rand(64, 5, 4, generator=rng).sort(-1).values
    here = [
        films,
        *augment(films.clone(), keys, boxes, 1.0)[0:2],
        *mix(films.clone(), others, keys),
        keyed_noise(keys, 64),
    ]
    d = world.device
    on = [x.to(d) for x in (films, others, boxes, keys)]
    there = [
        on[0],
        *augment(on[0].clone(), on[3], on[2], 1.0),
        *mix(on[0].clone(), on[1], on[3]),
        keyed_noise(on[3], 64),
    ]
    names = ("", "augmented films", "their boxes", "mixed films", "shares of mixing", "keyed noise")
    for name, a, b in list(zip(names, here, there))[1:]:
        far = (a - b.cpu()).abs().nan_to_num().max().item()
        told = f"equal bits in {same(a, b):.2%}"
        yield {
            "what": f"{name}, CPU against device: largest difference",
            "value": far,
            "unit": "",
            "target": 1e-5,
            "note": told,
        }


def batch_rows(world):
    method = world.tiny_method("rra_vl")
    maker = BatchMaker.for_method(world.small.split("train"), method, 3, 1.0)
    rows = np.arange(24)
    here = maker.batch(rows, 2)
    if hasattr(maker, "to"):
        there = maker.to(world.device).batch(rows, 2)
    else:
        there = maker.batch(rows, 2, world.device)
    worst, far = "", 0.0
    for name, value in vars(here).items():
        if isinstance(value, torch.Tensor):
            other = getattr(there, name)
            if value.is_floating_point() and value.shape == other.shape:
                apart_by = (value - other.cpu()).abs().nan_to_num().max().item()
            else:
                apart_by = 1.0 - same(value, other)
            if apart_by > far:
                far, worst = apart_by, name
    yield {
        "what": "a batch, made on the CPU against on the device: largest difference",
        "value": far,
        "unit": "",
        "target": 1e-4,
        "note": worst,
    }


def test_rows(world):
    "pytest -k cuda on the files that were named, with what is left of this part's time."
    left = max(int(world.watch.part_left), 20)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "4",
        "-k",
        "cuda",
        "-p",
        "no:cacheprovider",
        *world.options.tests,
    ]
    try:
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=left)
        said = ended.stdout[-6000:]
    except subprocess.TimeoutExpired as error:
        said = (error.stdout or b"").decode()[-6000:] + f"\nstopped after {left} s"
    print(said[-3000:], flush=True)
    counts = {kind: int(n) for n, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", said)}
    wrong = counts.get("failed", 0) + counts.get("error", 0)
    names = ", ".join(re.findall(r"FAILED (\S+)", said)[:8])
    told = f"{counts}; {names}"
    yield {"what": "pytest -k cuda: failures", "value": wrong, "unit": "tests", "target": 0, "note": told}


def guarded(rows):
    "Rows, made without tf32."

    def made():
        with tf32(False):
            yield from rows()

    return made


def tasks(world):
    made = [("draws", lambda: draw_rows(world)), ("a batch", lambda: batch_rows(world))]
    made += [(name, lambda n=name: kernel_rows(world, n)) for name in KERNELS]
    made += [(name, lambda n=name: method_rows(world, n)) for name in METHODS]
    if world.options.tests:
        made.append(("tests", lambda: test_rows(world)))
    return [Task(n, guarded(rows), most=25 if n in KERNELS else 1e9) for n, rows in made if world.wanted(n)]
