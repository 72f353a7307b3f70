"One decision about the device, and one line for a wrong name."

import os
import subprocess
import sys

import pytest
import torch
from support import child_environment

from medret_nb.data.devices import (
    DEVICE_VARIABLE,
    checked_device_name,
    chosen_device,
    device_of,
    is_card,
    use_device,
    using_device,
)
from medret_nb.data.files import DataError


@pytest.fixture(autouse=True)
def undecided(monkeypatch):
    monkeypatch.setenv(DEVICE_VARIABLE, "")  # so that it is put back as it was


def pretend(monkeypatch, cards=0, apple=False):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cards > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)


@pytest.mark.parametrize(
    ("cards", "apple", "expected"), [(0, False, "cpu"), (0, True, "mps"), (2, False, "cuda:0"), (1, True, "cuda:0")]
)
def test_without_a_word_the_best_device_is_taken(monkeypatch, cards, apple, expected):
    pretend(monkeypatch, cards, apple)
    assert str(chosen_device()) == str(chosen_device("auto")) == expected


def test_the_order_of_who_is_asked(monkeypatch):
    pretend(monkeypatch, cards=2)
    monkeypatch.setenv(DEVICE_VARIABLE, "cuda:1")
    assert str(chosen_device()) == "cuda:1"
    use_device("cpu")
    assert str(chosen_device("auto")) == "cpu"
    assert str(chosen_device("cuda")) == "cuda:0"  # a name goes before both
    use_device("auto")
    assert str(chosen_device()) == "cuda:0"


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:x", "cuda:-1", "CPU", "meta", "cpu:1", "cuda:0\n", 3])
def test_a_name_that_means_nothing_is_one_line(name):
    for ask in (chosen_device, use_device, checked_device_name):
        with pytest.raises(DataError, match="^device: .* is none of auto, cpu") as error:
            ask(name)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("cards", "name", "why"), [(0, "cuda", "no CUDA card"), (2, "cuda:2", "2 CUDA card"), (1, "mps", "no Apple")]
)
def test_a_device_that_is_not_there_is_one_line(monkeypatch, cards, name, why):
    pretend(monkeypatch, cards)
    with pytest.raises(DataError, match=f"^device: '{name}' is not there.*{why}"):
        use_device(name)
    monkeypatch.setenv(DEVICE_VARIABLE, name)
    with pytest.raises(DataError, match=f"^{DEVICE_VARIABLE}: '{name}' is not there.*{why}"):
        chosen_device()


def test_a_wrong_environment_is_named(monkeypatch):
    monkeypatch.setenv(DEVICE_VARIABLE, "fast")
    with pytest.raises(DataError, match=f"^{DEVICE_VARIABLE}: 'fast' is none of"):
        chosen_device()


def test_processes_that_are_started_decide_alike():
    use_device("cpu")
    code = "from medret_nb.data.devices import chosen_device; print(chosen_device())"
    child = child_environment(**{DEVICE_VARIABLE: os.environ[DEVICE_VARIABLE]})
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=child)
    assert child[DEVICE_VARIABLE] == done.stdout.strip() == "cpu", done.stderr


def test_a_block_has_a_device_of_its_own(monkeypatch):
    pretend(monkeypatch, cards=2)
    use_device("cuda:1")
    for name, inside in (("cpu", "cpu"), ("auto", "cuda:1"), (None, "cuda:1")):
        with pytest.raises(KeyError), using_device(name):
            assert str(chosen_device()) == inside
            raise KeyError
        assert str(chosen_device()) == "cuda:1"
    with pytest.raises(DataError, match="'mps' is not there"), using_device("mps"):
        pass


def test_a_device_is_taken_as_it_is():
    assert chosen_device(torch.device("meta")) == torch.device("meta")


def test_torch_is_not_imported_for_it():
    code = (
        "import sys; import medret_nb.data.devices as d; d.checked_device_name('auto'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=child_environment())
    assert done.stdout.strip() == "False", done.stderr


def test_where_things_lie(device):
    assert device_of(torch.nn.Linear(2, 2).to(device)).type == torch.device(device).type
    assert device_of(torch.nn.ReLU()).type == device_of(object()).type == "cpu"
    assert is_card(device) == (torch.device(device).type != "cpu")
