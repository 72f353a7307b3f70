"""Checkpoints: what is restored, what is swept away, what is damaged."""

import pytest
import torch

from medret_nb.data.files import DataError
from medret_nb.data.runs import Run
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.training.checkpoints import (
    OPTIMISER_FILE,
    STATE_FILE,
    WEIGHTS_FILE,
    load_checkpoint,
    packed_optimiser,
    save_checkpoint,
    steps_saved,
    sweep_checkpoints,
)


def trained(seed=0):
    """A method and its optimiser after one step."""
    method = CLIP.create(CLIPConfig(dim=8), seed=seed)
    optimiser = torch.optim.AdamW(method.parameters(), lr=0.01)
    sum(weight.square().sum() for weight in method.parameters()).backward()
    optimiser.step()
    return method, optimiser


def test_a_checkpoint_gives_everything_back(tmp_path):
    method, optimiser = trained()
    torch.manual_seed(3)
    save_checkpoint(tmp_path, method, optimiser, {"step": 7, "best": 0.5})
    ahead = torch.rand(3)
    other, fresh = trained(seed=1)
    fresh.param_groups[0]["lr"] = 0.5
    assert load_checkpoint(tmp_path, other, fresh) == {"step": 7, "best": 0.5}
    assert torch.equal(torch.rand(3), ahead)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in method.state_dict().items())
    packed = packed_optimiser(fresh)
    assert all(torch.equal(value, packed[name]) for name, value in packed_optimiser(optimiser).items())
    assert fresh.param_groups[0]["lr"] == 0.01


def test_no_checkpoint_is_none(tmp_path):
    assert load_checkpoint(tmp_path, *trained()) is None


def test_the_newest_alone_stays(tmp_path):
    method, optimiser = trained()
    for step in (9, 10):
        save_checkpoint(tmp_path, method, optimiser, {"step": step})
    assert [place.name for place in steps_saved(tmp_path)] == ["step-00000010"]
    save_checkpoint(tmp_path, method, optimiser, {"step": 10})  # once more, over itself
    assert {file.name for file in steps_saved(tmp_path)[0].iterdir()} == {WEIGHTS_FILE, OPTIMISER_FILE, STATE_FILE}


def test_what_a_killed_training_left_is_swept_away(tmp_path):
    home = Run(tmp_path).checkpoints_folder
    for name in (".1a2b3c4d", "step-00000002", "step-00000004"):
        (home / name).mkdir(parents=True)
    sweep_checkpoints(tmp_path)
    assert [place.name for place in home.iterdir()] == ["step-00000004"]


@pytest.mark.parametrize("name", [WEIGHTS_FILE, OPTIMISER_FILE, STATE_FILE])
def test_a_damaged_checkpoint_is_named(tmp_path, name):
    method, optimiser = trained()
    save_checkpoint(tmp_path, method, optimiser, {"step": 1})
    damaged = steps_saved(tmp_path)[0] / name
    damaged.write_bytes(damaged.read_bytes()[:40])
    with pytest.raises(DataError, match="step-00000001: this checkpoint is damaged") as error:
        load_checkpoint(tmp_path, method, optimiser)
    assert "\n" not in str(error.value)
