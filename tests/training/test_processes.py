"Two processes (gloo) give the loss and the gradients of one, through forward, for every method."

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support import child_environment

from medret_nb.data.files import shipped_data
from medret_nb.data.runs import Run
from medret_nb.methods.table import METHODS

SCRIPT = str(Path(__file__).with_name("two_processes.py"))


TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def run_script(words):
    """Run Python with these words; a process that aborts says in which line."""
    done = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"PYTHONFAULTHANDLER": "1"},
    )
    assert done.returncode == 0, done.stderr[:6000] + "\n...\n" + done.stderr[-2000:]


@pytest.fixture(scope="module")
def found(small_phantom, tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    small_phantom.pixels(64)
    one, two, parts = (folder / f"{name}.safetensors" for name in ("one", "two", "parts"))
    for launcher, out, more in (([], one, []), (TWO, two, []), (TWO, parts, ["3"])):
        run_script([*launcher, SCRIPT, str(small_phantom.folder), str(out), *more])
    return load_file(one), load_file(two), load_file(parts)


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_equal_one_all_at_once_and_in_parts(found, name):
    one, *others = ({k: v for k, v in part.items() if k.startswith(name + "/")} for part in found)
    assert len(one) > 20
    for two in others:
        assert set(one) == set(two)
        for key, value in one.items():
            assert torch.allclose(value, two[key], atol=1e-5), (key, (value - two[key]).abs().max())


def test_two_processes_killed_and_gone_on_with_end_in_the_same_bits(small_phantom, tmp_path):
    script = str(Path(__file__).with_name("two_trainings.py"))
    run_script([*TWO, script, str(small_phantom.folder), str(tmp_path)])
    whole, killed, parts = (Run(tmp_path / name) for name in ("whole", "killed", "parts"))
    columns = ["step", "epoch", "loss", "lr", "val_recall"]
    assert killed.log[columns].equals(whole.log[columns])
    one, two = load_file(whole.weights_file), load_file(killed.weights_file)
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert parts.log["step"].equals(whole.log["step"])
    assert (parts.log["loss"] - whole.log["loss"]).abs().max() < 0.5  # other dropout


@pytest.mark.slow
def test_the_command_is_started_twice_as_the_readme_says(tmp_path):
    "torchrun --nproc_per_node 2 $(which medret) train ...: one folder, one report, and the recall is that of one log."
    script = Path(sys.executable).with_name("medret")
    if not script.exists():
        pytest.skip("medret is not installed as a command")
    words = [str(script), "train", "clip", "--data", str(shipped_data("phantom-small")), "--epochs", "2"]
    command = [sys.executable, *TWO, *words, "--out", str(tmp_path / "run"), "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=child_environment())
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("written to") == 1 and "batch size 16" in done.stdout
    run = Run(tmp_path / "run")
    assert (
        run.has_model and run.log["step"].dropna().is_monotonic_increasing and len(run.log["val_recall"].dropna()) == 2
    )
    again = subprocess.run(command, capture_output=True, text=True, timeout=600, env=child_environment())
    assert again.returncode and "holds a run already" in again.stderr
