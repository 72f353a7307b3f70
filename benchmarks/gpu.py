"""What training and searching cost on a GPU, in one command: python benchmarks/gpu.py [--quick] [--only PART ...]

The parts, in order of importance, are: correctness, kernels, training, fit, retrieval, drawing, curves. Each has its
share of `--budget` seconds; what it leaves goes to the next. A row that fails, or for which no time is left, is noted,
and the rest goes on. After every row, results.json and table.md are written to `--out`, so that a run which is killed
leaves what it had, and `--go-on` takes it up there. `--quick` runs everything in miniature, on a CPU in a minute.

Where a row breaks the card for its process (a kernel that writes where it must not) or hangs, the run starts itself
anew behind that row.
"""

import argparse
import contextlib
import importlib
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HERE = str(ROOT / "benchmarks")
sys.path[:] = [str(ROOT), *(p for p in sys.path if p not in (HERE, str(ROOT)))]  # kernels.py here hides a package

from benchmarks.gpu_parts.report import Report  # noqa: E402

# the share of each part in the time
PARTS = {"correctness": 45, "kernels": 70, "training": 140, "fit": 20, "retrieval": 40, "drawing": 45, "curves": 120}
GRACE = 15  # seconds that a row may take beyond the end of its part
BROKEN = ("CUDA error", "illegal memory access", "misaligned address", "device-side assert", "unspecified launch")


class OutOfTime(BaseException):
    "The row has used up its time. No `Exception`, so that nothing on the way takes it for a failure of its own."


def name_the_package():
    "Give a checkout that was never installed a version, which every run writes down."
    with contextlib.suppress(PackageNotFoundError):
        version("medret_nb")
        return
    place = Path(tempfile.mkdtemp(prefix="medret-gpu-")) / "medret_nb-0.dist-info"
    place.mkdir()
    (place / "METADATA").write_text("Metadata-Version: 2.1\nName: medret_nb\nVersion: 0\n")
    sys.path.append(str(place.parent))


class Watch:
    "The budget of a run: when it began, when each part and each row must have ended."

    def __init__(self, begun, budget):
        self.begun = begun
        self.budget = budget
        self.part_end = begun + budget
        self.row_end = 0.0

    @property
    def elapsed(self):
        return time.time() - self.begun

    @property
    def left(self):
        "Seconds of the whole run."
        return self.begun + self.budget - time.time()

    @property
    def part_left(self):
        return min(self.part_end - time.time(), self.left)

    def enter(self, part, coming):
        "A part begins: it gets its share of what is left among itself and those that come."
        share = PARTS[part] / sum(PARTS[name] for name in (part, *coming))
        self.part_end = time.time() + max(self.left, 0) * share


def say(watch, text):
    print(f"[{watch.elapsed:6.1f} s] {text}", flush=True)


def start_anew(report, why):
    "The same run in a new process, behind the row that is being measured."
    signal.setitimer(signal.ITIMER_REAL, 0)  # it would outlive the change
    report.fail(why)
    report.write()
    print(f"         {why}; the run goes on in a new process", flush=True)
    sys.stdout.flush()
    again = [argument for argument in sys.argv[1:] if argument != "--go-on"]
    os.execv(sys.executable, [sys.executable, "-u", str(Path(__file__).resolve()), *again, "--go-on"])


def guard(report, watch):
    "A thread that starts the run anew when a row neither ends nor hears the alarm."

    def look():
        while True:
            time.sleep(1)
            if watch.row_end and time.time() > watch.row_end + 10:
                start_anew(report, "hung")

    threading.Thread(target=look, daemon=True).start()


def ring(signum, frame):
    raise OutOfTime


def run_row(task, report, watch):
    "One row: what it yields is written down as it comes; what it raises is noted."
    left = watch.left if report.quick else max(watch.part_left, 0) + GRACE
    seconds = min(left, max(watch.left, 1), task.most)
    watch.row_end = time.time() + seconds
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        for row in task.rows() or ():
            report.add(row)
            report.write()
            say(watch, "  " + report.told(row))
        report.done(time.time())
    except OutOfTime:
        report.fail(f"stopped after {time.time() - report.row_begun:.0f} s, its time was up")
        say(watch, f"  {task.name}: out of time")
    except Exception as error:
        signal.setitimer(signal.ITIMER_REAL, 0)
        told = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        say(watch, f"  {task.name} FAILED: {told}")
        print("".join(traceback.format_exc().splitlines(True)[-12:]), flush=True)
        if any(sign in str(error) for sign in BROKEN):
            watch.row_end = 0
            start_anew(report, told)
        report.fail(told)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        watch.row_end = 0
        with contextlib.suppress(Exception):
            clean()


def clean():
    "Give memory back between two rows."
    import gc

    import torch

    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def run_part(part, world, report, watch):
    "All rows of a part, until its time is up."
    begun = time.time()
    say(watch, f"{part} (at most {watch.part_left:.0f} s)")
    try:
        tasks = list(importlib.import_module(f"benchmarks.gpu_parts.{part}").tasks(world))
    except Exception as error:
        report.begin(part, "start")
        report.fail(f"{type(error).__name__}: {error}")
        print(traceback.format_exc(), flush=True)
        return
    for task in tasks:
        if report.has(part, task.name):
            continue
        report.begin(part, task.name)
        if (watch.left if world.quick else watch.part_left) < task.least:
            report.fail("no time was left")
            say(watch, f"  {task.name}: no time is left")
            continue
        run_row(task, report, watch)
        report.write()
    report.times[part] = report.times.get(part, 0) + time.time() - begun
    report.write()


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="everything in miniature")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--rows", nargs="+", metavar="WORD", help="only rows whose names hold one of these words")
    parser.add_argument("--budget", type=float, default=480, help="seconds for all (480)")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "results" / "gpu", help="folder of the results")
    parser.add_argument("--commit", default="", help="of the code, for the record")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--tests", nargs="+", metavar="PATH", help="also pytest -k cuda on these, in correctness")
    parser.add_argument("--go-on", action="store_true", help="take up the run in --out where it ended")
    return parser.parse_args()


def main():
    options = parse()
    name_the_package()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    report = Report(options.out, options.commit, options.quick, options.go_on)
    watch = Watch(report.begun, options.budget)
    signal.signal(signal.SIGALRM, ring)
    guard(report, watch)
    from benchmarks.gpu_parts.world import World

    with tempfile.TemporaryDirectory(prefix="medret-gpu-") as scratch:
        world = World(options, Path(scratch), watch)
        report.machine = world.machine()
        say(watch, ", ".join(f"{name} {value}" for name, value in report.machine.items()))
        parts = [part for part in PARTS if not options.only or part in options.only]
        for number, part in enumerate(parts):
            watch.enter(part, parts[number + 1 :])
            run_part(part, world, report, watch)
    report.finished = True
    report.write()
    print(report.table(), flush=True)
    say(watch, f"done: {options.out}")


if __name__ == "__main__":
    main()
