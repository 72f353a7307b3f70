"""Killed at random moments and started again: the same files, bit for bit, none half-written, nothing left over."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.torch import load_file

from medret_nb.data.runs import Run
from medret_nb.data.studies import StudySet
from medret_nb.methods.clip import CLIP, CLIPConfig

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be forked and killed")
SCRIPT, ROOT = Path(__file__).with_name("killed_jobs.py"), Path(__file__).parents[2]


@pytest.fixture(scope="module")
def inputs(small_phantom, tmp_path_factory):
    "CSV tables, another StudySet in the way, a phantom without a pixel cache, and a model."
    home, rng = tmp_path_factory.mktemp("kills"), random.Random(0)
    words = [
        "lungs",
        "clear",
        "heart",
        "normal",
        "effusion",
        "small",
        "left",
        "right",
        "lower",
        "zone",
        "unchanged",
        "tube",
    ]
    for name, many in (("csv", 3000), ("few", 20)):
        (home / name).mkdir()
        rows = "".join(
            f"{name}{k},p{k // 2},{' '.join(rng.choices(words, k=60))},Edema=1;Pneumonia=-1\n" for k in range(many)
        )
        (home / name / "studies.csv").write_text("study_id,patient_id,findings,labels\n" + rows)
    from medret_nb.data.sources import from_csv

    from_csv(home / "few", home / "csv" / "other", quiet=True)
    shutil.copytree(
        small_phantom.folder, home / "phantom" / "data", ignore=shutil.ignore_patterns("pixels-*", ".pixels-*")
    )
    CLIP.create(CLIPConfig(dim=16, size=32, max_words=32)).save_pretrained(home / "phantom" / "run")
    StudySet.load(small_phantom.folder).pixels(32)
    return {
        "csv": home / "csv",
        "csv_again": home / "csv",
        "phantom": home,
        "cache": home / "phantom",
        "embed": home / "phantom",
        "train": small_phantom.folder,
    }


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    "The process of killed_jobs.py."
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    with open(tmp_path_factory.mktemp("kills-log") / "stderr", "w+") as errors:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        )
        process.errors = errors
        yield process
        process.stdin.close()
        process.wait(20)


@pytest.fixture
def run(workers, inputs, tmp_path):
    """run(job, times, renames, seed).

    What killed_jobs says. At least half of the processes must have died in the middle.
    """

    def ask(name, times, renames, seed):
        workers.stdin.write(json.dumps([name, str(inputs[name]), str(tmp_path), times, renames, seed]) + "\n")
        workers.stdin.flush()
        line = next((line for line in workers.stdout if line.startswith("done ")), None)
        workers.errors.seek(0)
        assert line, workers.errors.read()[-3000:]
        told = json.loads(line[5:])
        assert told["whole"] == 0 and all(again == 0 for *_, again in told["ends"]), (
            told,
            workers.errors.read()[-3000:],
        )
        died = [killed == signal.SIGKILL for _, killed, _ in told["ends"]]
        assert sum(died) >= max(1, len(died) // 2) and all(
            killed in (0, signal.SIGKILL) for _, killed, _ in told["ends"]
        )
        return told

    return ask


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def hidden(name):
    return any(part.startswith(".") for part in name.split("/"))


def is_whole(path):
    "Whether a file can be read to its end."
    if path.suffix == ".png":
        Image.open(path).load()
    elif path.suffix == ".parquet":
        pq.read_table(path)
    elif path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".npy":
        np.load(path)
    elif path.suffix == ".safetensors":
        load_file(path)
    return True


def compare(out, told, half_done=()):
    """Each folder equals `whole`, and no killed one held a visible file that is not whole and, if it is in `whole`,
    the same.
    """
    whole = tree(out / "whole")
    assert not any(map(hidden, whole))
    for number, _ in enumerate(told["ends"]):
        again = tree(out / str(number))
        assert set(again) == set(whole), (told["ends"][number], set(again) ^ set(whole))
        assert [name for name in whole if again[name] != whole[name]] == [], told["ends"][number]
        for name, content in tree(out / f"{number}-killed").items() if (out / f"{number}-killed").exists() else ():
            if hidden(name):
                continue
            assert is_whole(out / f"{number}-killed" / name), name
            assert name not in whole or content == whole[name] or name.startswith(half_done), (
                told["ends"][number],
                name,
            )
    return whole


def test_an_import_of_tables(run, inputs, tmp_path):
    whole = compare(tmp_path, run("csv", 2, 4, seed=1))
    assert set(whole) == {"dataset.json", "images.parquet", "regions.parquet", "studies.parquet"}


def test_an_import_over_another_set_never_leaves_two_halves(run, inputs, tmp_path):
    told = run("csv_again", 2, 6, seed=2)
    compare(tmp_path, told, half_done=("dataset.json", "images.parquet", "regions.parquet", "studies.parquet"))
    before, after = StudySet.load(inputs["csv_again"] / "other").hash(), StudySet.load(tmp_path / "whole").hash()
    for folder in tmp_path.glob("*-killed"):
        assert not (folder / "studies.parquet").exists() or StudySet.load(folder).hash() in (before, after)


def test_a_phantom(run, inputs, tmp_path):
    whole = compare(tmp_path, run("phantom", 2, 2, seed=3))
    assert (
        "studies.parquet" in whole
        and not any(name.startswith("parts") for name in whole)
        and sum(name.endswith(".png") for name in whole) >= 8
    )


def test_a_phantom_killed_while_it_tidies_up(tmp_path):
    from medret_nb.phantom.phantom import make_phantom

    make_phantom(2, seed=3, size=32, out=tmp_path / "p", progress=False)
    before = tree(tmp_path / "p")
    (tmp_path / "p" / "parts").mkdir()
    (tmp_path / "p" / "parts" / "000000.json").write_text("{}")
    make_phantom(2, seed=3, size=32, out=tmp_path / "p", progress=False)
    assert tree(tmp_path / "p") == before and not (tmp_path / "p" / "parts").exists()


def test_the_pixel_cache(run, inputs, tmp_path):
    whole = compare(tmp_path, run("cache", 4, 2, seed=4))
    assert {"pixels-48.npy", "pixels-48.json"} < set(whole)


def test_embedding(run, inputs, tmp_path):
    whole = compare(tmp_path, run("embed", 4, 4, seed=5))
    assert {"embeddings/all-image.parquet", "embeddings/all-text.parquet", "pixels-32.npy"} < set(whole)


def test_a_training_killed_five_times_ends_in_the_same_weights(run, inputs, tmp_path):
    told = run("train", 5, 1, seed=6)
    assert sum(killed == signal.SIGKILL for _, killed, _ in told["ends"]) >= 5
    whole, log = tree(tmp_path / "whole"), Run(tmp_path / "whole").log
    timeless = [column for column in log if column not in ("pairs_per_second", "loader_share")]
    for number, end in enumerate(told["ends"]):
        again = tree(tmp_path / str(number))
        assert set(again) == set(whole), (end, set(again) ^ set(whole))
        differ = [
            name for name in whole if name not in ("log.jsonl", "fingerprint.json") and again[name] != whole[name]
        ]
        assert differ == [], end  # weights, settings, and the last checkpoint with its optimiser too
        marks = [
            {k: v for k, v in json.loads(files["fingerprint.json"]).items() if k != "code"} for files in (whole, again)
        ]
        assert marks[0] == marks[1]  # the package's own hash may change under a developer's hands
        assert Run(tmp_path / str(number)).log[timeless].equals(log[timeless]), end
        killed = tmp_path / f"{number}-killed"
        assert all(
            is_whole(path)
            for path in killed.rglob("*")
            if path.is_file() and not hidden(path.relative_to(killed).as_posix())
        )
