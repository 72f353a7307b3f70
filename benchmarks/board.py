"""All arms of data/results/board/arms.toml at a size where they differ: python -P benchmarks/board.py OUT

Draws a clinic, trains every arm under three budgets (equal film passes, steps and floating-point operations; a run that
two of them share is trained once), measures each on the same test patients, and packs what is worth keeping: the
tables, and every run in half precision with its log, its fingerprint and its results. Whatever is unfinished when
--seconds are over is ended, and packed as far as it came. Called again with the same OUT it goes on, so two cores can
do it in pieces (--workers 1 --seconds 3000), and a card in one (a few trainings side by side, recorded graphs).

With larger encoders at 128 pixels, taught like the tiny ones (--image and --text name any folder or id of the Hub; MCR
and arms that name a transformer get --vit):
    python -P benchmarks/board.py OUT --size 128 --train 20000 --image BIG/image --text BIG/text --vit BIG-VIT
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


def on_encoders(arms, asked):
    "The arms on other encoders, where some are named, and with films of the asked size."
    changed = {}
    for name, settings in arms.items():
        vit = settings.get("image") == "tiny-vit" or settings["method"] == "mcr"
        image = asked.vit if vit else asked.image
        more = {"image": image, "text": asked.text, "size": 0 if asked.size == 64 else asked.size}
        changed[name] = settings | {key: value for key, value in more.items() if value}
    return changed


def chosen_arms(asked):
    "Sections of the file of arms; with --only those that are named, and the bases of their ablations."
    arms = tomllib.loads(asked.arms.read_text(encoding="utf-8"))
    if asked.only:
        bases = {arms[name].get("base", name) for name in asked.only}
        arms = {name: settings for name, settings in arms.items() if name in bases | set(asked.only)}
    return on_encoders(arms, asked)


def compare_words(asked, arms_file):
    words = [sys.executable, "-c", MEDRET, "compare", "--data", asked.out / "clinic", "--out", asked.out / "board"]
    words += ["--arms", arms_file, "--seeds", *asked.seeds, "--passes", asked.epochs, "--budget", *asked.budgets]
    words += ["--batch-size", asked.batch_size, "--workers", asked.workers, "--compile", asked.compile]
    return [str(word) for word in words]


def has_card():
    import torch

    return torch.cuda.is_available()


def halved(run, target):
    "A run's weights as half-precision numbers, in a folder of its own, with what tells how it was made."
    from medret_nb.training.shipping import halve_run

    halve_run(run, target)
    if (run / "cost.json").is_file():
        shutil.copy(run / "cost.json", target / "cost.json")
    for results in run.glob("evaluation/*"):
        if results.is_dir():
            shutil.copytree(results, target / "evaluation" / results.name)


def packed(out, pack):
    "Everything worth keeping, in .tar files of bounded size."
    small = out / "small"
    shutil.rmtree(small, ignore_errors=True)
    for config in sorted(out.glob("board/*/*/seed-*/config.json")):
        run = config.parent
        try:
            halved(run, small / run.relative_to(out))
        except Exception as error:  # a run that was ended in its first epoch has no weights
            print(f"{run}: not packed ({error})", flush=True)
    tables = [*out.glob("board/*/*.*"), *out.glob("board/budgets.csv"), *out.glob("*.toml")]
    for table in tables:
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
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the trainings")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--arms", type=Path, default=ARMS)
    parser.add_argument("--only", nargs="+", default=[], help="names of arms, where not all are wanted")
    parser.add_argument("--budgets", nargs="+", default=["steps", "passes", "operations"])
    parser.add_argument("--image", default="", help="film encoder: a folder or an id of the Hub, else each arm's own")
    parser.add_argument("--vit", default="", help="the same for arms that need a transformer")
    parser.add_argument("--text", default="", help="text encoder: a folder or an id of the Hub")
    parser.add_argument("--workers", type=int, default=None, help="trainings side by side: 4 on a card, else 1")
    parser.add_argument("--compile", default=None, help="no, default or graphs: graphs on a card, else no")
    parser.add_argument("--drawing", type=int, default=os.cpu_count(), help="processes that draw")
    parser.add_argument("--seconds", type=float, default=540, help="for drawing and training; packing comes after")
    parser.add_argument("--only-draw", action="store_true", help="draw the clinic and stop")
    parser.add_argument("--pack", type=Path, default=None, help="folder for the packed files")
    asked = parser.parse_args()
    card = has_card()
    asked.workers = (4 if card else 1) if asked.workers is None else asked.workers
    asked.compile = asked.compile or ("graphs" if card else "no")
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
    arms_file = asked.out / "arms.toml"
    arms_file.write_text(toml_of(chosen_arms(asked)), encoding="utf-8")
    done = run_until(compare_words(asked, arms_file), deadline, asked.out / "compare.log")
    spoken(f"compared: {'done' if done else 'not done, call again to go on'}", begun)
    packed(asked.out, asked.pack or asked.out / "packed")
    spoken("packed", begun)


if __name__ == "__main__":
    main()
