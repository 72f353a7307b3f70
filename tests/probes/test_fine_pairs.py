"""Fine pairs: fair by the truth, one fact apart; planted models that see it, ignore sides, or like one report."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from medret_nb.data.files import DataError
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.phantom.changes import FACTS, finding_changes
from medret_nb.phantom.phantom import make_phantom
from medret_nb.phantom.truth_tables import load_truth
from medret_nb.probes.fine_pairs import (
    draw_pairs,
    evaluate_fine_pairs,
    fine_pairs_cases,
    own_preferred,
    pair_preferences,
)


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    sizes = {"seed": 11, "size": 64, "out": tmp_path_factory.mktemp("fine") / "clinic", "progress": False}
    return make_phantom({"train": 4, "test": 90}, **sizes)


@pytest.fixture(scope="module")
def pairs(clinic):
    return draw_pairs(clinic, "test", "findings", most=25)


def scenes_of_pairs(pairs, clinic):
    """The two scenes of each pair."""
    part = clinic.split("test")
    truth = load_truth(part)
    place = {study: row for row, study in enumerate(part.studies["study_id"])}
    for study, about in zip(pairs.table["study_id"], pairs.table["about"], strict=True):
        scene = truth.scenes[place[study]]
        changes = {change.name: change.scene for change in finding_changes(scene)}
        yield scene, changes[about]


class Planted(nn.Module):
    """A model that knows the scene behind each film and text of the pairs, but for what `sees` leaves out."""

    name = "planted"
    similarity = "cosine"

    def __init__(self, pairs, clinic, sees):
        super().__init__()
        self.config = SimpleNamespace(size=64, inference_policy=pairs.policy)
        self.points = {}
        self.texts = {}
        axes = {}
        for films, texts, scenes in zip(pairs.films, pairs.texts, scenes_of_pairs(pairs, clinic), strict=True):
            for film, text, scene in zip(films, texts, scenes, strict=True):
                known = frozenset(sees(f) for f in scene.findings)
                axis = axes.setdefault(known, len(axes))
                self.points[film.tobytes()] = axis
                self.texts[text] = axis
        self.axes = torch.eye(len(axes))

    def prepare_pixels(self, films):
        return torch.as_tensor(films)

    def prepare_text(self, texts):
        rows = torch.tensor([[self.texts[text]] for text in texts])
        return rows, torch.ones_like(rows, dtype=torch.bool)

    def encode_image(self, films, boxes=None):
        rows = [self.points[film.numpy().tobytes()] for film in films]
        return SimpleNamespace(mu=self.axes[rows], logvar=None, local={})

    def encode_text(self, tokens, mask):
        return SimpleNamespace(mu=self.axes[tokens[:, 0]], logvar=None, local={})


def by_fact(cases):
    return cases.groupby(["group", "direction"])["value"].mean().to_dict()


def test_pairs_differ_in_one_fact(pairs, clinic):
    assert set(pairs.table["fact"]) == set(FACTS) and len(pairs) == len(pairs.table) == len(pairs.films)
    assert pairs.table["case"].is_unique
    assert (pairs.table.groupby(["study_id", "fact"]).size() == 1).all()
    for (own, changed), (scene, other), fact in zip(
        pairs.texts, scenes_of_pairs(pairs, clinic), pairs.table["fact"], strict=True
    ):
        assert own != changed
        assert scene.acquisitions == other.acquisitions and scene.patient == other.patient
        gone = [f for f in scene.findings if f not in other.findings]
        come = [f for f in other.findings if f not in scene.findings]
        assert len(gone) == 1 and len(come) == (fact != "presence")
    assert all((films[0] != films[1]).any() for films in pairs.films)


def test_the_first_film_and_text_are_the_stored_ones(pairs, clinic):
    part = clinic.split("test")
    own = dict(zip(part.studies["study_id"], part.studies["findings"], strict=True))
    stored = clinic.pixels(64)
    shown = part.images.drop_duplicates("study_id").set_index("study_id")["image_id"]
    for study, films, (text, _) in list(zip(pairs.table["study_id"], pairs.films, pairs.texts, strict=True))[:20]:
        np.testing.assert_array_equal(films[0], stored.take([shown[study]])[0])
        assert text == own[study] or not own[study]


def test_who_sees_everything_is_always_right(pairs, clinic):
    model = Planted(pairs, clinic, lambda f: (f.name, f.kind, f.side, f.zone, f.severity, f.size_mm))
    rates = by_fact(fine_pairs_cases(model, clinic, "test", pairs))
    assert len(rates) == 2 * len(FACTS) and all(value == 1 for value in rates.values())


def test_who_ignores_sides_is_at_one_half_there_alone(pairs, clinic):
    model = Planted(pairs, clinic, lambda f: (f.name, f.kind, f.zone, f.severity, f.size_mm))
    rates = by_fact(fine_pairs_cases(model, clinic, "test", pairs))
    for (fact, _), value in rates.items():
        assert value == (0.5 if fact == "side" else 1), fact
    results = evaluate_fine_pairs(model, clinic, "test", pairs, draws=50, verbose=False)
    sides = [row for row in results.rows if row["fact"] == "side"]
    assert all(
        row["ties"] == row["pairs"] and row["rate"]["value"] == 0.5 and row["rate"]["chance"] == 0.5 for row in sides
    )
    assert "side" in str(results) and len(results.table()) == 10


def test_liking_one_report_earns_nothing():
    rng = np.random.default_rng(0)
    liked = np.repeat(rng.normal(size=(30, 1, 2)), 2, axis=1)  # the same scores for both queries
    assert (own_preferred(liked).mean(1) == 0.5).all()
    assert (own_preferred(np.zeros((4, 2, 2))) == 0.5).all()
    assert own_preferred(np.array([[[1.0, 0.0], [0.0, 0.0]]])).tolist() == [[1, 0.5]]


def test_cases_are_the_same_questions_for_every_method(pairs, clinic):
    tables = []
    for seed in (0, 1):
        method = CLIP.create(CLIPConfig(dim=8, inference_policy="findings"), image="tiny-random", seed=seed)
        tables.append(fine_pairs_cases(method, clinic, "test", pairs))
    assert tables[0]["case"].tolist() == tables[1]["case"].tolist() and tables[0]["case"].is_unique
    assert set(tables[0].columns) >= {"case", "patient", "value", "group", "direction", "control"}
    assert tables[0]["value"].isin([0, 0.25, 0.5, 0.75, 1]).all()
    found = pair_preferences(method, pairs, part=7)  # whatever the parts
    np.testing.assert_array_equal(found["image-to-text"].mean(1), tables[1]["value"].iloc[: len(pairs)])


def test_the_same_seed_draws_the_same_pairs(pairs, clinic):
    again = draw_pairs(clinic, "test", "findings", most=25)
    assert again.table.equals(pairs.table) and again.texts == pairs.texts and (again.films == pairs.films).all()
    few = draw_pairs(clinic, "test", "findings", facts=("side",), most=3)
    assert few.table["fact"].tolist() == ["side"] * 3


def test_faults_are_one_line(pairs, clinic):
    with pytest.raises(DataError, match="facts: 'colour'"):
        draw_pairs(clinic, "test", facts=("colour",))
    other = CLIP.create(CLIPConfig(dim=8, inference_policy="impression"), image="tiny-random")
    with pytest.raises(DataError, match="their texts are findings, clip reads impression"):
        fine_pairs_cases(other, clinic, "test", pairs)
