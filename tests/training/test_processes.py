"Two processes (gloo) give the loss and the gradients of one, through forward, for every method."

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from medret_nb.methods.table import METHODS

SCRIPT = str(Path(__file__).with_name("two_processes.py"))


@pytest.fixture(scope="module")
def found(small_phantom, tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    small_phantom.pixels(64)
    one, two = folder / "one.safetensors", folder / "two.safetensors"
    for launcher, out in (([], one), (["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"], two)):
        done = subprocess.run(
            [sys.executable, *launcher, SCRIPT, str(small_phantom.folder), str(out)],
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    return load_file(one), load_file(two)


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_equal_one(found, name):
    one, two = ({k: v for k, v in part.items() if k.startswith(name + "/")} for part in found)
    assert set(one) == set(two) and len(one) > 20
    for key, value in one.items():
        assert torch.allclose(value, two[key], atol=1e-5), (key, (value - two[key]).abs().max())
