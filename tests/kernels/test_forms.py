"Which form of a kernel a tensor gets, and that the library imports without Triton."

import subprocess
import sys

import pytest
import torch
from support import child_environment

from medret_nb.kernels import forms
from medret_nb.kernels.forms import chosen_form, forced_form, triton_module


def test_a_cpu_tensor_gets_blocks_and_a_forced_form_wins():
    x = torch.zeros(2)
    assert chosen_form(x) == "blocks"
    with forced_form("triton"):
        assert chosen_form(x) == "triton"
        with forced_form("blocks"):
            assert chosen_form(x) == "blocks"
        assert chosen_form(x) == "triton"
    with pytest.raises(RuntimeError), forced_form("triton"):
        raise RuntimeError
    assert chosen_form(x) == "blocks"


def test_another_form_is_refused():
    with pytest.raises(ValueError, match="naive"), forced_form("naive"):
        pass


def test_on_a_device(device, monkeypatch):
    x = torch.zeros(2, device=device)
    triton = device.type == "cuda" and forms._installed() and forms._compiles_for(device)
    assert chosen_form(x) == ("triton" if triton else "blocks")
    assert chosen_form(x.bfloat16()) == chosen_form(x.half()) == chosen_form(x)
    assert chosen_form(x.double()) == "blocks"
    monkeypatch.setattr(forms, "_installed", lambda: False)
    assert chosen_form(x) == "blocks"


def test_a_triton_module_is_imported_by_name():
    with pytest.raises(ModuleNotFoundError, match="nothing_triton"):
        triton_module("nothing")


def test_no_module_of_losses_or_methods_imports_triton():
    code = (
        "import sys; sys.modules['triton'] = None\n"  # importing it is an error from here on
        "import medret_nb.losses.gaussian, medret_nb.losses.contrastive, medret_nb.losses.region_word\n"
        "import medret_nb.methods.table\n"
        "import torch; x = torch.randn(3, 4)\n"
        "print(medret_nb.losses.gaussian.mls(x, x, x, x).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=child_environment())
    assert done.returncode == 0 and "[3, 3]" in done.stdout, done.stderr
