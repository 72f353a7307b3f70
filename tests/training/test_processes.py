"Two processes (gloo) give the loss and the gradients of one, through forward, for every method."

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from medret_nb.data.runs import Run
from medret_nb.methods.table import METHODS

SCRIPT = str(Path(__file__).with_name("two_processes.py"))


TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@pytest.fixture(scope="module")
def found(small_phantom, tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    small_phantom.pixels(64)
    one, two, parts = (folder / f"{name}.safetensors" for name in ("one", "two", "parts"))
    for launcher, out, more in (([], one, []), (TWO, two, []), (TWO, parts, ["3"])):
        done = subprocess.run(
            [sys.executable, *launcher, SCRIPT, str(small_phantom.folder), str(out), *more],
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr[-2000:]
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
    done = subprocess.run(
        [sys.executable, *TWO, script, str(small_phantom.folder), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    whole, killed, parts = (Run(tmp_path / name) for name in ("whole", "killed", "parts"))
    columns = ["step", "epoch", "loss", "lr", "val_recall"]
    assert killed.log[columns].equals(whole.log[columns])
    one, two = load_file(whole.weights_file), load_file(killed.weights_file)
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert parts.log["step"].equals(whole.log["step"])
    assert (parts.log["loss"] - whole.log["loss"]).abs().max() < 0.5  # other dropout
