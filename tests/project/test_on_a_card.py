"What asks a model, on a card: the numbers of the processor, and no tensor of the one side meets one of the other."

import numpy as np
import pandas as pd
import pytest
import torch
from pretend_card import pretended_card

import medret_nb.data.devices as devices
from medret_nb.data.files import DataError
from medret_nb.evaluation.results import evaluate
from medret_nb.methods.rra_vl import RRAVL
from medret_nb.methods.table import METHODS, load_method
from medret_nb.probes.falsified_runs import evaluate_falsified
from medret_nb.probes.grounding_runs import evaluate_grounding
from medret_nb.probes.location import evaluate_location
from medret_nb.probes.robustness_runs import evaluate_robustness
from medret_nb.probes.zero_shot_runs import evaluate_zero_shot
from medret_nb.retrieval.embeddings import embed
from medret_nb.training.pretrain import PretrainConfig, pretrain_image, pretrain_text
from medret_nb.views.looks import Looker

QUICK = {"draws": 5, "verbose": False}
PROBES = {
    "falsified": lambda method, studies: evaluate_falsified(method, studies, "train", **QUICK).rows,
    "grounding": lambda method, studies: evaluate_grounding(method, studies, "train", grid=16, **QUICK).rows,
    "location": lambda method, studies: evaluate_location(method, studies, "train", **QUICK).rows,
    "zero-shot": lambda method, studies: evaluate_zero_shot(method, studies, "train", minimum=2, **QUICK).rows,
    "corruptions": lambda method, studies: (
        evaluate_robustness(method, studies, "test", kinds=["quantum noise"], severities=(3,), **QUICK).rows
    ),
}


@pytest.fixture
def everywhere(monkeypatch):
    "`on_card(work)`: what `work` gives on the processor and on the pretended card, which is there what auto means."
    monkeypatch.delenv(devices.DEVICE_VARIABLE, raising=False)

    def run(work):
        monkeypatch.setattr(devices, "_best", lambda: torch.device("cpu"))
        here = work()
        with pretended_card() as card:
            monkeypatch.setattr(devices, "_best", lambda: card.device)
            there = work()
        return here, there

    return run


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_of_a_method_on_a_card(name, small_phantom, everywhere):
    def ask():
        method = RRAVL.create(RRAVL.Config(dim=16), seed=2).eval().to(devices.chosen_device())
        return pd.DataFrame(PROBES[name](method, small_phantom))

    here, there = everywhere(ask)
    assert len(here) and list(here.columns) == list(there.columns)
    found, wanted = numbers_in(there.to_dict("list")), numbers_in(here.to_dict("list"))
    np.testing.assert_allclose(found, wanted, atol=2e-3, rtol=2e-3)


def numbers_in(tree):
    "All numbers of nested lists and records, in order."
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, (list, tuple)):
        return [number for part in tree for number in numbers_in(part)]
    return [float(tree)] if isinstance(tree, (int, float)) else []


@pytest.mark.parametrize("name", METHODS)
def test_a_look_into_a_method_on_a_card(name, small_phantom, everywhere):
    def ask():
        method = METHODS[name].create(METHODS[name].Config(dim=8, data=str(small_phantom.folder)))
        study = small_phantom.studies["study_id"].iloc[0]
        try:
            look = Looker(method.to(devices.chosen_device()), small_phantom).look(study, "Small left effusion.")
        except DataError as error:
            return np.array([len(str(error))])
        return look.grid if look.grid is not None else look.places

    here, there = everywhere(ask)
    np.testing.assert_allclose(there, here, atol=1e-5)


def test_a_run_is_loaded_embedded_and_measured_on_the_chosen_device(tmp_path, small_phantom, everywhere):
    METHODS["medprobclip"].create(seed=1).save_pretrained(tmp_path)

    def measure():
        method = load_method(tmp_path)
        assert devices.device_of(method) == devices.chosen_device()
        assert devices.device_of(load_method(tmp_path, device="cpu")).type == "cpu"
        points = embed(method, small_phantom, "train", progress=False)
        return evaluate(points, small_phantom, "text", ks=(1, 5), draws=5, verbose=False).queries

    here, there = everywhere(measure)
    pd.testing.assert_frame_equal(here, there, atol=1e-4, rtol=1e-3)


def test_the_encoders_are_pretrained_on_the_chosen_device(everywhere):
    rng = np.random.default_rng(0)
    films = rng.integers(0, 255, (20, 64, 64), dtype=np.uint8)
    table = (rng.random((20, 5)) < 0.3).astype(np.float32)
    for encoder in ("resnet", "vit"):
        config = PretrainConfig(encoder=encoder, image_steps=2, batch_size=8)
        here, there = everywhere(lambda config=config: pretrain_image(films, table, config, False)[1])
        assert there["naming"][0] == pytest.approx(here["naming"][0], rel=1e-4)
        assert all(len(losses) == 2 and np.isfinite(losses).all() for losses in there.values())
    config = PretrainConfig(text_steps=2, batch_size=4)
    here, there = everywhere(lambda: pretrain_text(["no effusion", "the heart is large"] * 4, config, False)[2])
    assert there[0] == pytest.approx(here[0], rel=1e-4)
