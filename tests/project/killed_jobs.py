"""Jobs that are killed. It reads lines `[job, input, out, times, renames, seed]` (JSON) and answers each with one line.

A job is first run to its end in out/whole. Then, for so many random moments and random renames of a file (just before
or just after it), a process that does the same job in a folder of its own is killed with signal 9; the state is
copied to out/<n>-killed, and the job is run once more in out/<n>. Each is a process of its own, forked from this one,
which has the libraries loaded.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path


def csv(source: Path, folder: Path):
    from medret_nb.data.sources import from_csv

    from_csv(source, folder, quiet=True)


def csv_again(source: Path, folder: Path):
    "The folder already holds another StudySet."
    from medret_nb.data.sources import from_csv

    from_csv(source, folder, quiet=True)


def phantom(source: Path, folder: Path):
    from medret_nb.phantom.phantom import make_phantom

    make_phantom(8, seed=3, size=32, out=folder, progress=False)


def cache(source: Path, folder: Path):
    from medret_nb.data.studies import StudySet

    StudySet.load(folder).pixels(48)


def embed(source: Path, folder: Path):
    from medret_nb.data.studies import StudySet
    from medret_nb.methods.table import load_method
    from medret_nb.retrieval.embeddings import embed

    embed(load_method(source / "run"), StudySet.load(folder), None, batch=1, out=folder / "embeddings", progress=False)


def train(source: Path, folder: Path):
    from medret_nb.data.studies import StudySet
    from medret_nb.methods.clip import CLIP, CLIPConfig
    from medret_nb.training.loop import TrainConfig, fit

    fit(
        CLIP.create(CLIPConfig(dim=16, size=32, max_words=32)),
        StudySet.load(source),
        TrainConfig(epochs=3, batch_size=8, checkpoint_steps=2, seed=4),
        folder,
        resume=True,
        progress=False,
    )


JOBS = {job.__name__: job for job in (csv, csv_again, phantom, cache, embed, train)}
STARTS = {"csv_again": "other", "cache": "data", "embed": "data"}  # what lies in the folder before


def start(name: str, source: Path, folder: Path, stop_at: tuple | None, note: Path) -> int:
    "Fork a process that does the job; it counts renames and kills itself at one of them if asked. Returns its number."
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        rename, count = os.replace, 0

        def counted(*names, **more):
            nonlocal count
            count += 1
            if stop_at == (count, "before"):
                os.kill(os.getpid(), signal.SIGKILL)
            rename(*names, **more)
            if stop_at == (count, "after"):
                os.kill(os.getpid(), signal.SIGKILL)

        os.replace = counted
        JOBS[name](source, folder)
        note.write_text(str(count))
        code = 0
    finally:
        os._exit(code)


def prepare(name: str, source: Path, folder: Path):
    if name in STARTS:
        shutil.copytree(source / STARTS[name], folder)


def kill_and_go_on(name: str, source: Path, out: Path, times: int, renames: int, seed: int) -> dict:
    rng, note = random.Random(seed), out / "note"
    prepare(name, source, out / "whole")
    begun = time.perf_counter()
    status = os.waitpid(start(name, source, out / "whole", None, note), 0)[1]
    if status:
        return {"whole": status}
    seconds, count = time.perf_counter() - begun, int(note.read_text())
    moments = [rng.uniform(0.02, 0.9) * seconds for _ in range(times)]
    moments += [(n, rng.choice(["before", "after"])) for n in rng.sample(range(1, count + 1), min(renames, count))]
    ends = []
    for number, moment in enumerate(moments):
        folder = out / str(number)
        prepare(name, source, folder)
        child = start(name, source, folder, moment if isinstance(moment, tuple) else None, note)
        if not isinstance(moment, tuple):
            time.sleep(moment)
            os.kill(child, signal.SIGKILL)
        killed = os.waitpid(child, 0)[1]
        if folder.exists():
            shutil.copytree(folder, out / f"{number}-killed")
        ends.append((moment, killed, os.waitpid(start(name, source, folder, None, note), 0)[1]))
    return {"whole": 0, "seconds": seconds, "renames": count, "ends": ends}


if __name__ == "__main__":
    import medret_nb.data.sources
    import medret_nb.phantom.phantom  # noqa: E401, F401
    from medret_nb.methods.clip import CLIP

    CLIP.create()  # loads what transformers loads late
    for line in sys.stdin:
        job, source, out, *numbers = json.loads(line)
        print("done", json.dumps(kill_and_go_on(job, Path(source), Path(out), *numbers)), flush=True)
