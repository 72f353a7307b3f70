"""What `fit` spends beside its steps: reading, hashing, tokenising, validating, saving."""

import time

import torch

from medret_nb.data.studies import StudySet
from medret_nb.training.loop import fit

from .measure import Task
from .training import config_of


def in_steps(log, steps, batch_size):
    "Seconds that the epochs' steps took, by the pace in the log."
    paces = log["pairs_per_second"].dropna() if "pairs_per_second" in log else []
    return sum(steps * batch_size / pace for pace in paces), len(paces)


def fit_rows(world, name):
    epochs, batch_size = 2, 16 if world.quick else 256
    studies = StudySet.load(world.small.folder)  # as a command would read them
    studies.pixels(64)
    torch.manual_seed(0)
    method = world.tiny_method(name)
    config, _ = config_of({"epochs": epochs, "batch_size": batch_size}, world)
    begun = time.perf_counter()
    run = fit(method, studies, config, world.scratch / f"fit-{name}", progress=False)
    wall = time.perf_counter() - begun
    count = int((studies.studies["split"] == "train").sum())
    steps, counted = in_steps(run.log, count // batch_size, batch_size)
    what = f"fit, {name}, tiny, {count:,} studies, {counted} epochs, batch {batch_size}"
    goal = {"goal": "fit-beside"} if name == "clip" else {}
    yield {
        "what": f"{what}: seconds beside the steps",
        "value": wall - steps,
        "unit": "s",
        "target": 2.0,
        "then": "23 s",
    } | goal
    yield {
        "what": f"{what}: seconds in all",
        "value": wall,
        "unit": "s",
        "then": "29 s",
        "note": f"{steps:.2f} s in steps",
    }


def tasks(world):
    names = ["clip", "rra_vl"]
    return [Task(name, lambda n=name: fit_rows(world, n)) for name in names if world.wanted(name)]
