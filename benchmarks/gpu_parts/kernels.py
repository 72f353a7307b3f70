"""Kernels against the usual forms, and against other packages where they are installed: time, memory, ratio."""

import importlib
from dataclasses import replace

import torch

from medret_nb.losses.region_word import region_word_scores

from .forms import Case, csd_case, mls_case, nce_case, region_case, region_word_inputs
from .measure import Task, cost_of, step_of, tf32

D = 512
MLS = {2048: (6.0, 2.5, "111.8 ms, 0.4 GB"), 512: (0.8, 0.2, "24.6 ms")}  # target, floor, then
CSD = {512: (0.6, 0.1, "3.4 ms"), 2048: (2.0, 0.3, "6.8 ms, 0.14 GB"), 32_768: (150.0, 70.0, "876 ms, 1.2 GB")}
NCE = {512: (None, None, ""), 2048: (None, None, ""), 32_768: (107.0, 55.0, "154.9 ms, 1.4 GB")}
NAIVE_LIMIT = 76e9  # bytes: beyond, the usual form isn't tried


def compared(world, what, case, **more):
    "The row of a kernel: ours first, then the usual form where there is one, forward and backward."
    value, peak = cost_of(step_of(lambda: case.ours(*case.leaves), case.leaves), world.device)
    row = {"what": what, "value": value, "unit": "ms", "naive": None, "peak_bytes": peak} | more
    if case.naive is not None:
        row["naive"], usual_peak = cost_of(step_of(lambda: case.naive(*case.leaves), case.leaves), world.device)
        row |= {} if usual_peak is None else {"naive_bytes": usual_peak}
    return row


def in_blocks(world, what, case):
    "The same with the form that runs without Triton, where there is a choice."
    try:
        forced = importlib.import_module("medret_nb.kernels.forms").forced_form
    except ImportError:
        return
    if world.device.type != "cuda":
        return
    with forced("blocks"):
        yield compared(world, f"{what}, in blocks of torch", replace(case, naive=None))


def mls_rows(world, n, small):
    target, floor, then = MLS[n]
    case = mls_case(small or n, D, world.device)
    what = f"MLS, forward + backward, N={small or n} D={D}"
    yield compared(world, what, case, target=target, floor=floor, then=then, goal=f"mls-{n}")
    yield from in_blocks(world, what, case)


def csd_rows(world, n, small):
    target, floor, then = CSD[n]
    case = csd_case(small or n, D, world.device)
    fits = 2 * 4 * D * n**2 < NAIVE_LIMIT or small
    what = f"CSD matching loss, forward + backward, N={small or n} D={D}"
    more = dict(target=target, floor=floor, then=then, goal=f"csd-{n}")
    row = compared(world, what, case if fits else replace(case, naive=None), **more)
    yield row | ({} if fits else {"naive": "out of memory"})
    yield from in_blocks(world, what, case)


def nce_rows(world, n, small, allowed):
    target, floor, then = NCE[n]
    if allowed and target:
        target, floor, then = 40.0, 10.0, ""
    case = nce_case(small or n, D, world.device)
    kind = "tf32" if allowed else "float32"
    what = f"info_nce, forward + backward, N={small or n} D={D}, {kind}"
    goal = f"info_nce-{n}" + ("-tf32" if allowed else "")
    with tf32(allowed):
        yield compared(world, what, case, target=target, floor=floor, then=then, goal=goal)
        yield from in_blocks(world, what, case)


def half_rows(world, small):
    "The same kernels with bf16 inputs."
    n = small or 2048
    for name, made in {"MLS": mls_case, "CSD matching loss": csd_case, "info_nce": nce_case}.items():
        case = replace(made(n, D, world.device, torch.bfloat16), naive=None)
        yield compared(world, f"{name}, forward + backward, N={n} D={D}, bf16 inputs", case)


def region_rows(world, small):
    b, regions, words, d = (4, 9, 12, 32) if small else (64, 49, 64, 256)
    case = region_case(b, regions, words, d, world.device)
    what = f"region-word scores, forward + backward, B={b}, {regions} regions, {words} words, D={d}"
    row = compared(world, what, case, then="3.3 ms", goal="region-word")
    if isinstance(row["naive"], float):
        row["target"] = row["naive"] / 20
    yield row
    yield from in_blocks(world, what, case)


def peer(world, package, call, what, case):
    "Another package's form of something, where it is there; `call` gets the package, and `case` is ours."
    try:
        found = importlib.import_module(package)
    except Exception as error:
        told = "not installed" if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        return {"what": f"{package}: {what}", "value": None, "unit": "ms", "note": told[:120]}
    if world.device.type != "cuda":
        return {"what": f"{package}: {what}", "value": None, "unit": "ms", "note": "needs a GPU"}
    row = compared(world, f"{package}: {what}", Case(lambda *_: call(found), None, case.leaves))
    ours = cost_of(step_of(lambda: case.ours(*case.leaves), case.leaves), world.device)[0]
    return row | {"note": f"ours {ours} beside it" if isinstance(ours, str) else f"ours {ours:.3g} ms beside it"}


def peer_infinite(world, small):
    "inf-cl's InfoNCE, tiles in Triton, tf32."
    n = small or 32_768
    case = nce_case(n, D, world.device)
    a, b = case.leaves

    def infinite(found):
        return 0.5 * (found.cal_flash_loss(a, b, scale=10.0) + found.cal_flash_loss(b, a, scale=10.0)).mean()

    with tf32(True):
        yield peer(world, "inf_cl", infinite, f"InfoNCE both ways, N={n} D={D}", case)


def peer_maxsim(world, small, package):
    "The MaxSim of two packages, which has no attention, at the size of our region-word scores."
    size = (4, 16, 16, 32) if small else (64, 49, 64, 256)
    films, texts, mask = region_word_inputs(*size, world.device)
    lengths = mask.sum(1, dtype=torch.int32)
    call = {
        "late_interaction_kernels": lambda found: found.maxsim(texts, films, q_mask=mask),
        "flash_maxsim": lambda found: found.flash_maxsim_batched_train(texts, films, query_lengths=lengths),
    }[package]
    what = f"MaxSim, B={size[0]}, {size[1]} regions, {size[2]} words, D={size[3]}"
    ours = Case(lambda *pair: region_word_scores(*pair, mask), None, [films, texts])
    yield peer(world, package, call, what, ours)


def tasks(world):
    small = 24 if world.quick else 0
    made = [(f"mls {n}", lambda n=n: mls_rows(world, n, small)) for n in MLS]
    made += [(f"csd {n}", lambda n=n: csd_rows(world, n, small)) for n in CSD]
    for n in NCE:
        for allowed in (False, True):
            name = f"info_nce {n} {'tf32' if allowed else 'float32'}"
            made.append((name, lambda n=n, t=allowed: nce_rows(world, n, small, t)))
    made += [("region-word", lambda: region_rows(world, small)), ("bf16 inputs", lambda: half_rows(world, small))]
    made += [("peer inf_cl", lambda: peer_infinite(world, small))]
    for package in ("late_interaction_kernels", "flash_maxsim"):
        made.append((f"peer {package}", lambda p=package: peer_maxsim(world, small, p)))
    return [Task(name, rows) for name, rows in made if world.wanted(name)]
