"""Training speed: every method with tiny encoders, then ViT-B/16; fed by the real feeder, and on one held batch."""

import dataclasses
import itertools
import tempfile
import time
from pathlib import Path

import torch
from tqdm.auto import tqdm

from medret_nb.data.batches import BatchMaker
from medret_nb.data.files import DataError
from medret_nb.data.runs import Run
from medret_nb.methods.table import METHODS
from medret_nb.training.loop import TrainConfig, Trainer, with_batch_size

from .measure import Task, busy_of, synchronise, waits_of

GOALS = {"clip": ("tiny-256", 15_000, "3,062 pairs/s"), "medprobclip": ("medprobclip-256", 8_000, "1,266 pairs/s")}


class Some:
    "A maker of batches whose epoch is any number of steps: of its own, epoch after epoch, or of one held batch."

    def __init__(self, maker, batch_size):
        self.maker = maker
        self.batch_size = batch_size
        self.count = 1
        self.held = None
        self.begun = 0

    def __getattr__(self, name):
        return getattr(self.maker, name)

    def __len__(self):
        return len(self.maker)

    def to(self, *where):
        self.maker = self.maker.to(*where)
        return self

    def epoch(self, epoch, batch_size, start=0, *rest, **more):
        if self.held is not None:
            return itertools.repeat(self.held, self.count)
        self.begun += 1
        return iter(self.batches(batch_size, rest, more))

    def batches(self, batch_size, rest=(), more=None):
        left = self.count
        for number in itertools.count(1000 * self.begun):
            for batch in self.maker.epoch(number, batch_size, 0, *rest, **(more or {})):
                yield batch
                left -= 1
                if not left:
                    return


def config_of(asked, world):
    "The settings of a training; those that this version doesn't know are left out, and told."
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    wanted = {"epochs": 100_000, "warmup": 0.0, "device": str(world.device)} | asked
    lost = [name for name in asked if name not in known]
    given = {name: value for name, value in wanted.items() if name in known}
    try:
        return TrainConfig(**given), lost
    except DataError as error:  # a value that this version doesn't know
        refused = str(error).split(":")[0]
        return TrainConfig(**{name: value for name, value in given.items() if name != refused}), [*lost, refused]


class Session:
    "The trainer that `fit` would run, and an epoch of it of any length, fed or held."

    def __init__(self, world, method, studies, asked):
        self.device = world.device
        config, self.lost = config_of(asked, world)
        maker = Some(BatchMaker.for_method(studies.split("train"), method, config.seed, config.augmentation), 0)
        config = with_batch_size(config, len(maker))
        self.batch_size = config.batch_size
        run = Run(Path(tempfile.mkdtemp(dir=world.scratch)))
        self.trainer = Trainer(method, studies, config, run, maker, None, False)
        self.maker = maker
        self.bar = tqdm(disable=True)

    def run(self, count):
        "Seconds of `count` steps, and the share of them that the host waited for batches."
        self.maker.count = count
        synchronise(self.device)
        begun = time.perf_counter()
        pace = self.trainer.train_epoch(0, self.bar)
        synchronise(self.device)
        return time.perf_counter() - begun, (pace or {}).get("loader_share", float("nan"))

    def hold(self):
        "From now on each step gets the same batch."
        self.maker.count = 1
        batch = next(iter(self.maker.batches(self.batch_size, *self.where())))
        self.maker.held = batch.to(self.device)

    def close(self):
        "Leave the method as it was."
        getattr(self.trainer, "close", lambda: None)()

    def where(self):
        "What `epoch` of this version wants beside the batch size: a device, where the maker isn't on one."
        return ((), {}) if hasattr(self.maker.maker, "to") else ((), {"device": self.device})

    def feed(self, count):
        "Seconds of making `count` batches and nothing else."
        self.maker.count = count
        synchronise(self.device)
        begun = time.perf_counter()
        for _ in self.maker.batches(self.batch_size, *self.where()):
            pass
        synchronise(self.device)
        return time.perf_counter() - begun


def measured(session, warm, count):
    "What a session costs: pairs/s fed and held, shares, peak memory, waits, how busy the GPU is."
    session.run(warm)
    if session.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(session.device)
    fed, waited = session.run(count)
    peak = torch.cuda.max_memory_allocated(session.device) if session.device.type == "cuda" else None
    feeding = session.feed(count)
    few = min(count, 6)
    waits, places = waits_of(lambda: session.run(few), few, session.device)
    busy = busy_of(lambda: session.run(few), session.device)
    session.hold()
    session.run(2)
    held, _ = session.run(count)
    session.close()
    pairs = count * session.batch_size
    found = {
        "fed": pairs / fed,
        "held": pairs / held,
        "feeding": pairs / feeding,
        "fetching_share": max(0.0, 1 - held / fed),
        "host_share": waited,
        "busy": None if busy is None else busy / few * count / fed,
        "waits": waits,
        "places": places,
        "peak": peak,
    }
    return {name: value if value == value else None for name, value in found.items()}


def told_rows(found, what, share=None, **more):
    "The rows of what was measured; `share`: of the row on fetching, `more`: of the first."
    fed, held, alone = (
        {"unit": "pairs/s", "better": "higher", "value": found[name]} for name in ("fed", "held", "feeding")
    )
    yield {"what": f"{what}: pairs a second, fed", "peak_bytes": found["peak"]} | fed | more
    yield {"what": f"{what}: on one held batch"} | held
    yield {"what": f"{what}: batches alone"} | alone
    waited = f"1 - held / fed; the host waited {found['host_share'] or 0:.1%} of the time"
    row = {"what": f"{what}: share of fetching", "value": found["fetching_share"], "unit": "", "note": waited}
    yield row | (share or {})
    if found["busy"] is not None:
        note = "the profiler's kernels and copies over the time without a profiler"
        busy = {"what": f"{what}: GPU busy", "value": found["busy"], "unit": "of the time"}
        yield busy | {"better": "higher", "note": note}
        waits = {"what": f"{what}: waits for the device", "value": found["waits"], "unit": "a step"}
        yield waits | {"note": found["places"]}


def unknown(what, lost):
    "The row of a training whose settings this version doesn't know."
    return {"what": what, "value": None, "unit": "", "note": f"this version doesn't know {', '.join(lost)}"}


def speed_rows(world, name, asked, goal=None):
    "A method with tiny encoders."
    count, warm = (2, 1) if world.quick else (30, 12 if asked.get("compile", "no") != "no" else 6)
    asked = asked | ({"batch_size": 16} if world.quick else {})
    begun = time.perf_counter()
    session = Session(world, world.tiny_method(name), world.small, asked)
    ready = time.perf_counter() - begun
    kind = ", ".join(f"{k} {v}" for k, v in asked.items() if k != "batch_size" and v != "no") or "eager, float32"
    what = f"{name}, tiny, 64 px, batch {session.batch_size}, {kind}"
    if session.lost:
        yield unknown(what, session.lost)
        return
    found = measured(session, warm, count)
    more = {"settings": {"method": name, "encoders": "tiny", **asked, "seconds_to_start": round(ready, 2)}}
    if goal:
        key, target, then = goal
        more |= {"goal": key, "target": target, "then": then}
    yield from told_rows(found, what, **more)


def large_rows(world, name, asked, goals):
    "A method with ViT-B/16 and a text encoder of BERT-base's size."
    count, warm = (2, 1) if world.quick else (12, 3)
    asked = {"precision": "bf16", "batch_size": 16 if world.quick else 256} | asked
    if world.quick and asked.get("micro_batch"):
        asked["micro_batch"] = 8
    session = Session(world, world.big_method(name), world.large, asked)
    kind = ", ".join(f"{k} {v}" for k, v in asked.items() if k != "batch_size")
    what = f"{name}, ViT-B/16, 224 px, batch {session.batch_size}, {kind}"
    if session.lost:
        yield unknown(what, session.lost)
        return
    found = measured(session, warm, count)
    share = {"target": 0.03} | ({"goal": "vit-fetching"} if goals else {})
    yield from told_rows(found, what, share, settings={"method": name, "encoders": "ViT-B/16", **asked})
    fed = {"what": f"{what}: fed against held", "value": found["fed"] / found["held"], "unit": "", "better": "higher"}
    yield fed | {"target": 0.95} | ({"goal": "vit-fed"} if goals else {})


def plan():
    "The rows in order of importance: (name, function of the world, seconds without which it isn't begun)."
    made = []

    def tiny(name, goal=None, **asked):
        title = " ".join([name, "tiny", *(str(value) for value in asked.values())])
        made.append((title, lambda world: speed_rows(world, name, asked, goal), 4))

    def large(name, goals=False, **asked):
        title = " ".join([name, "ViT-B/16", *(f"{key} {value}" for key, value in asked.items())])
        made.append((title, lambda world: large_rows(world, name, asked, goals), 10))

    tiny("clip", GOALS["clip"], batch_size=256)
    tiny("clip", ("tiny-1024", 40_000, ""), batch_size=1024)
    large("clip", True)
    tiny("medprobclip", GOALS["medprobclip"], batch_size=256)
    tiny("clip", GOALS["clip"], batch_size=256, compile="graphs")
    large("rra_vl")
    large("medprobclip")
    for name in METHODS:
        if name not in GOALS:
            tiny(name, batch_size=256)
    tiny("clip", ("tiny-1024", 40_000, ""), batch_size=1024, compile="graphs")
    large("clip", micro_batch=64)
    large("clip", checkpointing=True)
    tiny("clip", batch_size=256, precision="bf16")
    tiny("clip", batch_size=256, precision="tf32")
    tiny("medprobclip", batch_size=256, compile="graphs")
    tiny("clip", batch_size=1024, precision="bf16", compile="graphs")
    large("rra_vl", micro_batch=64)
    large("medprobclip", micro_batch=64)
    large("clip", compile="default")
    return made


MINIATURE = (*(f"{name} tiny 256" for name in METHODS), "clip ViT-B/16", "rra_vl ViT-B/16", "clip tiny 256 graphs",
             "clip ViT-B/16 micro_batch 64", "clip ViT-B/16 checkpointing True", "clip tiny 256 tf32")  # fmt: skip


def tasks(world):
    chosen = [row for row in plan() if not world.quick or row[0] in MINIATURE]
    if world.device.type != "cuda":
        chosen = [row for row in chosen if not row[0].endswith(("graphs", "tf32"))]  # those want a card
    return [Task(name, lambda f=rows: f(world), least) for name, rows, least in chosen if world.wanted(name)]
