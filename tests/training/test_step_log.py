"""The log of the steps: blocks, the step of a loss that is no number, and what fetching cost."""

import json
import math
import time

import pytest
import torch

from medret_nb.data.files import DataError
from medret_nb.data.runs import Run
from medret_nb.training.step_log import Log, Pace, StepBlock


def test_a_block_gives_every_step_in_order_by_one_copy(device, monkeypatch):
    copies = []
    real = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: copies.append(len(self)) or real(self))
    block = StepBlock(3)
    for step in (1, 2, 3):
        assert not block.full
        losses = {"loss": torch.tensor(float(step), device=device, requires_grad=True)}
        if step == 2:
            losses["loss_more"] = torch.tensor(math.nan, device=device, dtype=torch.float64)
        block.add({"step": step}, losses)
    assert block.full and not any(value.requires_grad for _, given in block.waiting for value in given.values())
    one, two, three = block.fetched()
    assert copies == [4] and one == {"step": 1, "loss": 1.0} and three == {"step": 3, "loss": 3.0}
    assert two["loss"] == 2.0 and math.isnan(two["loss_more"])
    assert block.fetched() == [] and not block.full


def test_a_block_also_fills_by_the_clock_unless_told():
    for timed in (True, False):
        block = StepBlock(100, timed)
        assert not block.full
        block.add({"step": 1}, {"loss": torch.tensor(0.0)})
        block.since -= 6
        assert block.full is timed


def test_the_log_is_shortened_and_told(tmp_path):
    told = []
    log = Log(Run(tmp_path), told.append, True)
    for step in (1, 2, 3):
        log(step=step, loss=0.5)
    log.shorten(2)
    assert [entry["step"] for entry in told] == [1, 2, 3]
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == told[:2]
    silent = Log(Run(tmp_path / "other"), told.append, False)
    silent(step=1)
    silent.shorten(0)
    assert len(told) == 3 and not (tmp_path / "other").exists()
    with pytest.raises(DataError, match="cannot write"):
        Log(Run(tmp_path / "nowhere"), None, True)(step=1)


def test_the_share_of_fetching():
    def slow():
        for number in range(4):
            time.sleep(0.02)
            yield number

    pace = Pace(slow())
    for _ in pace:
        time.sleep(0.02)
    told = pace.told(8)
    assert 0.3 < told["loader_share"] < 0.7 and told["pairs_per_second"] < 8 / 0.04
    assert Pace(iter(())).told(8) == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_share_of_fetching_by_the_cards_clock_on_cuda():
    x = torch.rand(4096, 4096, device="cuda")

    def batches():
        for _ in range(10):
            yield x @ x

    for work, low, high in ((9, 0.02, 0.3), (0, 0.7, 1.01)):
        pace = Pace(batches(), "cuda")
        for batch in pace:
            for _ in range(work):
                batch = batch @ x
        assert low < pace.told(1)["loader_share"] < high
