"""How fast the phantom is drawn by 1, 2, 4, ... processes, and what only one can do: python -P benchmarks/drawing.py

Each number of processes draws the same studies into a new folder, in a Python of its own. `start` is the time until
the first film lies there (processes start and import), `rest` that after the last one (tables are joined, checked and
written). Neither gets shorter with more processes; what they allow for 16 follows by Amdahl's law.
The folders must lie on a disk whose times of files are exact (most are).

--studies N, --size PIXELS, --workers W ... (default 1 2 4 8 15, as far as there are cores), --json FILE.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from medret_nb.data.children import usable_cores
from medret_nb.data.files import write_json

MANY = 16  # processes for which the speed is foretold


def drawn(studies, size, workers, folder):
    "Draw in this process: seconds as a whole, until the first film and after the last, and the number of films."
    from medret_nb.phantom.phantom import make_phantom

    warm = Path(folder) / "warm"
    make_phantom(2, 1, 32, warm, progress=False)  # whatever is compiled is compiled, and the fresh patients are there
    out = Path(folder) / "drawn"
    begun = time.time()
    made = make_phantom(studies, 0, size, out, workers=workers, progress=False)
    ended = time.time()
    films = [path.stat().st_mtime for path in (out / "images").iterdir()]
    return {
        "workers": workers,
        "seconds": ended - begun,
        "start_seconds": min(films) - begun,
        "rest_seconds": ended - max(films),
        "studies": len(made),
        "films": len(films),
    }


def drawn_apart(studies, size, workers):
    "The same in a new Python."
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-P", __file__, "--here", folder, "--studies", str(studies), "--size", str(size)]
        done = subprocess.run([*command, "--workers", str(workers)], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def foretold(runs):
    "Studies a second of `MANY` processes: the work of one, divided, and what the largest run could not divide."
    one = min(runs, key=lambda run: run["workers"])
    most = max(runs, key=lambda run: run["workers"])
    work = (one["seconds"] - one["start_seconds"] - one["rest_seconds"]) * one["workers"]
    alone = most["start_seconds"] + most["rest_seconds"]
    return {
        "work_seconds": work,
        "alone_seconds": alone,
        "alone_share": alone / (work / MANY),
        "studies_per_second": one["studies"] / (work / MANY + alone),
    }


def main(arguments=None):
    "Draw with each number of processes, and print a table."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--workers", type=int, nargs="+")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--here", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    cores = usable_cores()
    workers = asked.workers or [w for w in (1, 2, 4, 8, 15) if w <= cores]
    if asked.here:
        print(json.dumps(drawn(asked.studies, asked.size, workers[0], asked.here)))
        return
    print(f"{asked.studies} studies at {asked.size} px, {cores} cores")
    print("processes  seconds  studies/s  films/s  times  start s  rest s")
    runs = []
    for count in workers:
        run = drawn_apart(asked.studies, asked.size, count)
        run["studies_per_second"] = run["studies"] / run["seconds"]
        run["films_per_second"] = run["films"] / run["seconds"]
        runs.append(run)
        times = run["studies_per_second"] / runs[0]["studies_per_second"]
        speeds = f"{run['studies_per_second']:10.1f} {run['films_per_second']:8.1f} {times:6.2f}"
        print(f"{count:9d} {run['seconds']:8.2f} {speeds} {run['start_seconds']:8.2f} {run['rest_seconds']:7.2f}")
    by_law = foretold(runs)
    work = f"{by_law['work_seconds']:.1f} / {MANY} s of work"
    alone = f"{by_law['alone_seconds']:.2f} s alone, {by_law['alone_share']:.0%} of {work}"
    print(f"foretold for {MANY} processes: {by_law['studies_per_second']:.0f} studies/s ({alone})")
    if asked.json:
        write_json({"size": asked.size, "cores": cores, "runs": runs, f"by_law_{MANY}": by_law}, asked.json)


if __name__ == "__main__":
    main()
