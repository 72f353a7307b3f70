"""Interference: cosines of planted tasks, layers, what is shared, intervals, methods left as they were."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from medret_nb.data.files import DataError
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.methods.mcr import MCR, MCRConfig
from medret_nb.training.interference import (
    WHOLE,
    cosine_rows,
    first_batches,
    gradient_cosine,
    interference,
    interference_along,
    interference_cases,
    judge_interference,
    layer_of,
    task_gradients,
    tasks_of,
)
from medret_nb.training.loop import TrainConfig

RECONSTRUCTION = {"contrast": ["contrast"], "reconstruction": ["pixels", "words"]}


class Planted(nn.Module):
    """Two tasks of the same loss: the second times `factor`, on a copy of the weights where they are `apart`."""

    name = "planted"

    def __init__(self, factor=1.0, apart=False):
        super().__init__()
        self.trunk = nn.Linear(4, 3)
        self.other = copy.deepcopy(self.trunk) if apart else None
        self.factor = factor

    def forward(self, batch):
        one = self.trunk(batch).square().sum()
        layer = self.trunk if self.other is None else self.other
        return {"one": one, "two": self.factor * layer(batch).square().sum()}


def draws(count, seed=0):
    return torch.randn(count, 5, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("factor, cosine, ratio", [(1.0, 1, 1), (-1.0, -1, 1), (0.25, 1, 0.25), (-3.0, -1, 3)])
def test_opposed_tasks_give_minus_one_and_alike_ones_one(factor, cosine, ratio):
    rows = interference(Planted(factor), draws(3))
    assert rows["cosine"].to_numpy() == pytest.approx(cosine) and rows["ratio"].to_numpy() == pytest.approx(ratio)
    whole = rows.loc[rows["layer"] == WHOLE]
    assert len(whole) == 3 and (whole["weights"] == 15).all()


def test_tasks_without_shared_weights_have_no_cosine():
    rows = interference(Planted(-1.0, apart=True), draws(3))
    assert rows["cosine"].isna().all() and (rows["weights"] == 0).all()
    judged = judge_interference(rows).iloc[0]
    assert judged["batches"] == 0 and np.isnan(judged["cosine"]) and np.isnan(judged["fights"])


def test_a_task_that_is_off_pulls_at_nothing():
    found = gradient_cosine({"w": torch.zeros(3)}, {"w": torch.ones(3)})
    assert np.isnan(found["cosine"]) and found["weights"] == 3

    class Constant(Planted):
        def forward(self, batch):
            return super().forward(batch) | {"two": torch.tensor(2.0)}

    assert interference(Constant(), draws(2))["cosine"].isna().all()


def test_cosines_are_those_of_separate_backward_passes():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))

    def terms(batch):
        out = model(batch)
        return {"a": out[:, 0].square().mean(), "b": out[:, 1].exp().mean(), "c": out.sum().cos()}

    class Of(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, batch):
            return terms(batch)

    batch = draws(1)[0]
    rows = {(r["first"], r["second"], r["layer"]): r["cosine"] for r in cosine_rows(task_gradients(Of(), batch))}
    flat = {}
    for name in "abc":
        model.zero_grad()
        terms(batch)[name].backward()
        flat[name] = torch.cat([p.grad.flatten() for p in model.parameters()])
        flat[name, "model.0"] = torch.cat([p.grad.flatten() for p in model[0].parameters()])
    for first, second in (("a", "b"), ("a", "c"), ("b", "c")):
        expected = torch.cosine_similarity(flat[first], flat[second], 0).item()
        assert rows[first, second, WHOLE] == pytest.approx(expected, abs=1e-5)
        expected = torch.cosine_similarity(flat[first, "model.0"], flat[second, "model.0"], 0).item()
        assert rows[first, second, "model.0"] == pytest.approx(expected, abs=1e-5)
    model.zero_grad()
    joined = cosine_rows(task_gradients(Of(), batch, {"a": ["a"], "rest": ["b", "c"]}))[0]
    expected = torch.cosine_similarity(flat["a"], flat["b"] + flat["c"], 0).item()
    assert joined["cosine"] == pytest.approx(expected, abs=1e-5)
    assert all(p.grad is None for p in model.parameters())


def test_layers_are_named_by_their_first_number():
    assert layer_of("image_encoder.backbone.layers.2.mlp.fc1.weight") == "image_encoder.layers.2"
    assert layer_of("text_encoder.backbone.encoder.layer.0.attention.self.query.bias") == "text_encoder.encoder.layer.0"
    assert layer_of("image_head.map.0.weight") == "image_head.map.0"
    assert layer_of("log_scale") == "log_scale" and layer_of("trunk.bias") == "trunk"


def test_fights_are_counted_with_an_interval():
    class Sometimes(Planted):
        def forward(self, batch):
            self.factor = 1.0 if batch[0, 0] > 0 else -1.0
            return super().forward(batch)

    batches = draws(60, 3)
    judged = judge_interference(interference(Sometimes(), batches, layers=False), draws=400).iloc[0]
    share = float((batches[:, 0, 0] <= 0).float().mean())
    assert judged["fights"] == pytest.approx(share) and judged["cosine"] == pytest.approx(1 - 2 * share)
    assert judged["fights_low"] < share < judged["fights_high"] and judged["batches"] == 60
    few = judge_interference(interference(Sometimes(), batches[:10], layers=False)).iloc[0]
    assert np.isnan(few["cosine_low"])


@pytest.fixture(scope="module")
def mcr(small_phantom):
    return MCR.create(MCRConfig(data=str(small_phantom.folder)), seed=1)


def test_a_method_is_left_as_it_was(mcr, small_phantom):
    before = {name: value.clone() for name, value in mcr.state_dict().items()}
    random = torch.get_rng_state()
    mode = mcr.training
    cases = interference_cases(mcr, small_phantom, "train", RECONSTRUCTION, batches=3, batch_size=8)
    assert all(torch.equal(value, before[name]) for name, value in mcr.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random) and mcr.training == mode
    assert all(weight.grad is None for weight in mcr.parameters())
    again = interference_cases(mcr, small_phantom, "train", RECONSTRUCTION, batches=3, batch_size=8)
    assert cases["case"].tolist() == [f"batch {i}: contrast, reconstruction" for i in range(3)]
    np.testing.assert_allclose(cases["value"], again["value"], atol=1e-5)
    assert cases["value"].between(-1, 1).all() and (cases["control"] == 0).all()
    assert {"case", "patient", "value", "group", "control", "fights"} <= set(cases)


def test_painting_and_guessing_share_what_they_share(mcr, small_phantom):
    mcr.train()
    rows = interference(mcr, first_batches(mcr, small_phantom, "train", 1, 8, 0))
    layers = {pair: set(part["layer"]) for pair, part in rows.groupby(["first", "second"])}
    assert any(layer.startswith("text_encoder") for layer in layers["contrast", "words"])
    assert not any(layer.startswith("text_encoder") for layer in layers["contrast", "pixels"])
    assert not any(layer.startswith("text_encoder") for layer in layers["pixels", "words"])


def test_along_a_training(small_phantom):
    method = MCR.create(MCRConfig(data=str(small_phantom.folder)), seed=1)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    rows = interference_along(method, small_phantom, 5, 2, RECONSTRUCTION, TrainConfig(batch_size=8, seed=1))
    assert rows["step"].tolist() == [0, 2, 4] and rows["cosine"].between(-1, 1).all()
    assert any(not torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_faults_are_one_line(mcr, small_phantom):
    clip = CLIP.create(CLIPConfig(dim=8, data=str(small_phantom.folder)), image="tiny-random")
    with pytest.raises(DataError, match="is one task"):
        interference_cases(clip, small_phantom, batches=1, batch_size=8)
    with pytest.raises(DataError, match="tasks: b has no term"):
        tasks_of(["x", "y"], {"a": ["x"], "b": ["z"]})
    with pytest.raises(DataError, match="batches: train holds"):
        interference_cases(mcr, small_phantom, batches=1000, batch_size=8)
    with pytest.raises(DataError, match="no batch"):
        interference(mcr, [])
    with pytest.raises(DataError, match="steps: 0"):
        interference_along(mcr, small_phantom, 0)
