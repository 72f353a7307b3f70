"""All arms of data/results/board/arms.toml at a size where they differ: python -P benchmarks/board.py OUT

Draws a clinic, trains every arm side by side, measures each on the same test patients, and packs what is worth keeping:
the tables, and every run in half precision with its log, its fingerprint and its results. Whatever is unfinished when
--seconds are over is ended, and packed as far as it came (the best weights until then). Called again with the same OUT
it goes on. Equal steps for all; the arms of two views once more with half the epochs, so that all see as many films.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ARMS = Path(__file__).parent.parent / "data/results/board/arms.toml"
MEDRET = "import sys; from medret_nb.cli.main import main; sys.exit(main(sys.argv[1:]))"
DRAW = """
import json, sys
from medret_nb.phantom.phantom import make_phantom

if __name__ == "__main__":
    out, counts, size, seed, workers = sys.argv[1:]
    make_phantom(json.loads(counts), int(seed), int(size), out, one_study_per_patient=("test",), workers=int(workers))
"""
PIECE = 14 * 2**20  # bytes of a packed file, at most


def spoken(words, begun):
    print(f"{time.perf_counter() - begun:6.1f} s  {words}", flush=True)


def run_until(words, deadline, log):
    "Run a program and its children until they are done or the time is over; True if it was done, and well."
    with open(log, "ab") as file:
        process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            return process.wait(max(1, deadline - time.perf_counter())) == 0
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            return False


def toml_of(arms):
    "Sections of plain settings as TOML."
    lines = []
    for name, settings in arms.items():
        lines.append(f"[{name}]")
        for key, value in settings.items():
            lines.append(f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {str(value).lower()}")
    return "\n".join(lines) + "\n"


def two_views(arms):
    "The arms whose training batches hold two films of a study."
    from medret_nb.training.arms import arm_of

    return {name: settings for name, settings in arms.items() if arm_of(dict(settings)).views == 2}


def compare_words(asked, folder, arms_file, epochs):
    words = [sys.executable, "-c", MEDRET, "compare", "--data", asked.out / "clinic", "--out", folder]
    words += ["--arms", arms_file, "--seeds", *asked.seeds, "--passes", epochs, "--budget", "steps"]
    words += ["--batch-size", asked.batch_size, "--workers", asked.workers]
    return [str(word) for word in words]


def halved(run, target):
    "A run's weights as half-precision numbers, in a folder of its own, with what tells how it was made."
    from medret_nb.methods.table import load_method

    load_method(run, device="cpu").half().save_pretrained(target)
    for name in ("log.jsonl", "fingerprint.json", "cost.json"):
        if (run / name).is_file():
            shutil.copy(run / name, target / name)
    for results in run.glob("evaluation/*"):
        if results.is_dir():
            shutil.copytree(results, target / "evaluation" / results.name)


def packed(out, pack):
    "Everything worth keeping, in .tar files of bounded size."
    small = out / "small"
    shutil.rmtree(small, ignore_errors=True)
    for config in sorted(out.glob("*-budget/*/seed-*/config.json")):
        run = config.parent
        try:
            halved(run, small / run.relative_to(out))
        except Exception as error:  # a run that was ended in its first epoch has no weights
            print(f"{run}: not packed ({error})", flush=True)
    for table in [*out.glob("*-budget/comparison.*"), *out.glob("*-budget/costs.csv"), *out.glob("*.toml")]:
        (small / table.relative_to(out)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(table, small / table.relative_to(out))
    pack.mkdir(parents=True, exist_ok=True)
    for number, files in enumerate(pieces(path for path in small.rglob("*") if path.is_file())):
        with tarfile.open(pack / f"board-{number}.tar", "w") as archive:
            for file in files:
                archive.add(file, file.relative_to(small).as_posix())


def pieces(files):
    "Files in groups of a bounded size."
    group = []
    held = 0
    for file in sorted(files):
        size = file.stat().st_size + 1024
        if group and held + size > PIECE:
            yield group
            group = []
            held = 0
        group.append(file)
        held += size
    if group:
        yield group


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=16_000, help="studies to train on")
    parser.add_argument("--val", type=int, default=500)
    parser.add_argument("--test", type=int, default=2_000, help="patients of the test gallery, one study each")
    parser.add_argument("--size", type=int, default=64, help="pixels of a film's side")
    parser.add_argument("--seed", type=int, default=14, help="of the clinic")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the trainings")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--arms", type=Path, default=ARMS)
    parser.add_argument("--workers", type=int, default=12, help="trainings side by side, of each of the two budgets")
    parser.add_argument("--drawing", type=int, default=os.cpu_count(), help="processes that draw")
    parser.add_argument("--seconds", type=float, default=540, help="for drawing and training; packing comes after")
    parser.add_argument("--only-draw", action="store_true", help="draw the clinic and stop")
    parser.add_argument("--pack", type=Path, default=None, help="folder for the packed files")
    asked = parser.parse_args()
    begun = time.perf_counter()
    deadline = begun + asked.seconds
    asked.out.mkdir(parents=True, exist_ok=True)
    draw = asked.out / "draw.py"
    draw.write_text(DRAW, encoding="utf-8")
    counts = f'{{"train": {asked.train}, "val": {asked.val}, "test": {asked.test}}}'
    words = [sys.executable, draw, asked.out / "clinic", counts, asked.size, asked.seed, asked.drawing]
    drawn = run_until([str(word) for word in words], deadline, asked.out / "drawing.log")
    spoken(f"clinic drawn: {drawn}", begun)
    if asked.only_draw:
        return
    arms = tomllib.loads(asked.arms.read_text(encoding="utf-8"))
    (asked.out / "steps.toml").write_text(toml_of(arms), encoding="utf-8")
    (asked.out / "passes.toml").write_text(toml_of(two_views(arms)), encoding="utf-8")
    with ThreadPoolExecutor() as pool:
        waiting = {}
        for budget, epochs in (("steps", asked.epochs), ("passes", max(1, asked.epochs // 2))):
            words = compare_words(asked, asked.out / f"{budget}-budget", asked.out / f"{budget}.toml", epochs)
            waiting[pool.submit(run_until, words, deadline, asked.out / f"{budget}.log")] = budget
        for ended in as_completed(waiting):
            spoken(f"equal {waiting[ended]}: {'done' if ended.result() else 'not done'}", begun)
    packed(asked.out, asked.pack or asked.out / "packed")
    spoken("packed", begun)


if __name__ == "__main__":
    main()
