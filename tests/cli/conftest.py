"""What the tests of the commands share: a refused command, the whole way once at toy size, a run on hostile texts."""

import subprocess
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medret_nb.data.studies import StudySet
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.training.loop import TrainConfig, fit


def _refused(done: subprocess.CompletedProcess, *words: str) -> str:
    """The one line of a refused command; checks code 2, nothing on stdout that looks like a result, no traceback."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith("medret: ")]
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert len(said) == 1 and lines[-1] == said[0], done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in said[0], said[0]
    return said[0]


@pytest.fixture
def refused() -> Callable[..., str]:
    """A function that checks a refused command and returns its one line."""
    return _refused


@pytest.fixture(scope="session")
def way(medret, tmp_path_factory):
    """The whole way once, at toy size: studies, a trained run; every command checked where it runs."""
    home = tmp_path_factory.mktemp("way")
    made = medret("data", "phantom", home / "studies", "--studies", 48, "--seed", 3, "--size", 64, "--workers", 2)
    assert made.returncode == 0, made.stderr
    trained = medret(
        "train",
        "clip",
        "--data",
        home / "studies",
        "--out",
        home / "run",
        "--epochs",
        1,
        "--batch-size",
        8,
        "--dim",
        16,
    )
    assert trained.returncode == 0, trained.stderr
    return home, made, trained


HOSTILE = [
    "<script>window.hit=1</script> effusion",
    "<img src=x onerror='window.hit=1'> heart",
    "</script><b>bold</b> lungs",
    "\"quoted\" 'text' & more",
    "\u202eright to left\u202c mark",
    "long " * 2000,
]


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory):
    """A run on forty studies whose reports try to be more than text; its folder holds `set` and `run`."""
    home = tmp_path_factory.mktemp("report")
    films, rows = np.random.default_rng(0), []
    (home / "set").mkdir()
    for k in range(40):
        Image.fromarray(films.integers(20, 250, (40, 40), dtype=np.uint8)).save(home / "set" / f"f{k}.png")
        rows.append(
            {
                "study_id": f"s{k}",
                "patient_id": f"p{k}",
                "split": "test" if k >= 24 else "train",
                "findings": f"{HOSTILE[k % 6]} {'abcdefgh'[k % 8]} Sister Philomena {k}.",
                "licence": "x",
            }
        )
    images = pd.DataFrame(
        {
            "image_id": [f"i{k}" for k in range(40)],
            "study_id": [f"s{k}" for k in range(40)],
            "view": "PA",
            "path": [f"f{k}.png" for k in range(40)],
        }
    )
    StudySet(pd.DataFrame(rows), images, info={"restricted": False}, folder=home / "set").save(home / "set")
    fit(
        CLIP.create(CLIPConfig(dim=16, size=32, max_words=24)),
        StudySet.load(home / "set"),
        TrainConfig(epochs=1, batch_size=8),
        home / "run",
        progress=False,
    )
    return home
