"""Drawing the phantom with one process and with many, and the studies on which the curves are trained."""

import os
import time

from medret_nb.phantom.phantom import make_phantom

from .measure import Task


def drawn(world, what, studies, size, workers, **more):
    begun = time.perf_counter()
    made = make_phantom(studies, 5, size, world.scratch / what, workers=workers, progress=False, **more)
    return time.perf_counter() - begun, made


def many(world):
    "Processes to draw with."
    return 2 if world.quick else max((os.cpu_count() or 2) - 1, 1)


def drawing_rows(world):
    "One process; then many, with what starting them costs and without."
    few, lots = (4, 8) if world.quick else (96, 2400)
    size = 32 if world.quick else 128
    if not world.quick:
        drawn(world, "warm", {"train": 2}, size, 1)
    seconds, _ = drawn(world, "one", {"train": few}, size, 1)
    one = few / seconds
    row = {"what": f"drawing at {size} px, one process", "value": one, "unit": "studies/s", "better": "higher"}
    yield row | {"then": "53/s"}
    workers = many(world)
    start = 0.0 if world.quick else drawn(world, "start", {"train": 2 * workers}, size, workers)[0]
    seconds, _ = drawn(world, "many", {"train": lots}, size, workers)
    world.pace = lots / seconds
    row = {"what": f"drawing at {size} px, {workers} processes", "value": lots / seconds, "goal": "drawing-15"}
    row |= {"unit": "studies/s", "better": "higher", "target": 500, "then": "133/s"}
    steady = max(lots - 2 * workers, 1) / max(seconds - start, 1e-3)
    note = f"{lots} studies; {2 * workers} take {start:.1f} s; without that start {steady:,.0f} a second"
    yield row | {"note": f"{note}; {lots / seconds / one:.1f} times one process"}


def curve_rows(world):
    "PA films of 64 px for the curves: as many studies as half a minute allows."
    pace = getattr(world, "pace", 100.0)
    count = 24 if world.quick else int(min(8000, max(1500, 1.2 * pace * max(min(world.watch.part_left - 5, 30), 5))))
    size = 32 if world.quick else 64
    held = {"train": count, "test": max(count // 8, 8)}
    workers = 1 if world.quick else many(world)
    seconds, made = drawn(world, "curves", held, size, workers, views=("PA",))
    world.phantom = made
    total = sum(held.values())
    yield {"what": f"drawing at {size} px, PA films, {workers} processes", "value": total / seconds,
           "unit": "studies/s", "better": "higher", "note": f"{count} to train on, {held['test']} to test"}  # fmt: skip


def tasks(world):
    made = [("speed", lambda: drawing_rows(world), 8), ("studies for the curves", lambda: curve_rows(world), 5)]
    return [Task(name, rows, least) for name, rows, least in made if world.wanted(name)]
