"""Consistency: overlaps against loops and chance, planted models, other words that say the same."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import Planted, noise_of

from medret_nb.data.files import DataError
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.phantom.changes import best_seen
from medret_nb.phantom.phantom import make_phantom
from medret_nb.phantom.reading import read_claims
from medret_nb.phantom.truth_tables import load_truth, retell
from medret_nb.probes.consistency import (
    ask_again,
    chance_overlaps,
    consistency_cases,
    evaluate_consistency,
    first_listed,
    paraphrase,
    rank_overlaps,
)


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    sizes = {"seed": 12, "size": 64, "out": tmp_path_factory.mktemp("again") / "clinic", "progress": False}
    return make_phantom({"train": 4, "test": 60}, **sizes)


@pytest.fixture(scope="module")
def asked(clinic):
    return ask_again(clinic, "test", "findings", most=40)


def findings_said(text):
    """A point that depends on what a text says is there, not on its words."""
    said = sorted({(c.finding, c.side, c.zone) for c in read_claims(text) if c.present})
    return noise_of(repr(said))


lists = st.permutations(range(8)).map(lambda order: list(order)[:4])


@settings(max_examples=60, deadline=None)
@given(lists, lists)
def test_overlaps_are_those_of_a_loop(first, second):
    jaccard, biased = rank_overlaps(np.array([first]), np.array([second]), 0.8)
    assert jaccard[0] == pytest.approx(len(set(first) & set(second)) / len(set(first) | set(second)))
    shares = [len(set(first[:d]) & set(second[:d])) / d for d in (1, 2, 3, 4)]
    weights = [0.8**d for d in range(4)]
    assert biased[0] == pytest.approx(np.average(shares, weights=weights))
    assert rank_overlaps(np.array([second]), np.array([first]), 0.8) == (jaccard, biased)


def test_chance_is_the_mean_over_all_pairs_of_lists():
    subsets = [set(chosen) for chosen in combinations(range(7), 3)]
    every = [len(a & b) / len(a | b) for a in subsets for b in subsets]
    assert chance_overlaps(7, 3)[0] == pytest.approx(np.mean(every))
    assert chance_overlaps(10, 10) == pytest.approx(
        (1, np.average(np.arange(1, 11) / 10, weights=0.9 ** np.arange(10)))
    )


def test_ties_are_broken_by_the_seed_and_order_is_kept():
    scores = np.tile(np.array([0.0, 2, 1, 1, 1, 1]), (400, 1))
    listed = first_listed(scores, 3, 0)
    assert (listed[:, 0] == 1).all()
    counts = np.bincount(listed[:, 1:].ravel(), minlength=6)
    assert counts[0] == 0 and counts[2:].min() > 150
    assert (listed == first_listed(scores, 3, 0)).all() and (listed != first_listed(scores, 3, 1)).any()


def test_who_answers_all_alike_has_no_order(clinic, asked):
    def one(_):
        return np.ones(4)

    cases = consistency_cases(Planted(one, one), clinic, "test", asked)
    assert (cases["candidates"] == 1).all() and (cases["value"] == 1).all()  # one distinct point: nothing to choose

    def same_scores(film):  # distinct candidates, all at one angle to every text
        return np.r_[0.0, noise_of(film)]

    cases = consistency_cases(Planted(same_scores, lambda _: np.eye(17)[0]), clinic, "test", asked)
    words = cases.loc[cases["group"] == "paraphrase"]
    assert words["value"].mean() == pytest.approx(words["control"].iloc[0], abs=0.06)
    assert words["repeat"].mean() == pytest.approx(words["control"].iloc[0], abs=0.06)


def test_meaning_survives_other_words_and_bytes_do_not(clinic, asked):
    means = {}
    for name, reads in (("meaning", findings_said), ("bytes", noise_of)):
        cases = consistency_cases(Planted(noise_of, reads), clinic, "test", asked)
        words = cases.loc[cases["group"] == "paraphrase"]
        means[name] = words["value"].mean()
        assert (words["repeat"] == 1).all() and (words["control"] < 0.15).all()
    assert means["meaning"] > 0.9 and means["bytes"] < 0.25


def test_who_does_not_look_at_noise_is_steady_under_dose(clinic, asked):
    def smooth(film):
        coarse = film.reshape(8, 8, 8, 8).mean((1, 3))
        return np.r_[coarse.ravel() - coarse.mean(), 1.0]

    def text(said):
        return np.random.default_rng(list(said.encode())).normal(size=65)

    cases = consistency_cases(Planted(smooth, text), clinic, "test", asked)
    rates = cases.groupby("group")["value"].mean()
    noisy = consistency_cases(Planted(noise_of, lambda said: text(said)[:16]), clinic, "test", asked)
    assert rates["dose"] > 0.85 > rates["view"]
    assert noisy.groupby("group")["value"].mean()["dose"] < 0.25


def test_other_words_say_the_same(clinic, asked):
    part = clinic.split("test")
    truth = load_truth(part)
    place = {study: row for row, study in enumerate(part.studies["study_id"])}
    seen = best_seen(truth, list(place))
    for study, own, other in zip(asked.studies["text"], asked.texts["own"], asked.texts["paraphrase"], strict=True):
        row = place[study]
        assert own == part.studies["findings"].iloc[row] and own != other
        assert other == paraphrase(load_truth(part, asked_texts(part)), row, own, "findings", seen[row])
        break
    assert asked.without + len(asked.texts["own"]) == len(asked.studies["image"])
    said = retell(truth, 0, truth.scenes[0], dprime=seen[0], words=("another",))
    assert said.errors == retell(truth, 0, truth.scenes[0], dprime=seen[0]).errors


def asked_texts(part):
    """The findings of each study, else its impression, as the policy `findings` has it."""
    from medret_nb.data.reports import section_text

    return section_text(part, "findings")


def test_a_method_is_measured(clinic, asked):
    method = CLIP.create(CLIPConfig(dim=8, inference_policy="findings"), image="tiny-random")
    results = evaluate_consistency(method, clinic, "test", asked, draws=50, verbose=False)
    assert [row["kind"] for row in results.rows] == ["paraphrase", "view", "dose"]
    assert all(row["repeat"] > 0.99 for row in results.rows)
    assert "paraphrase" in str(results) and len(results.table()) == 6
    assert results.cases["case"].is_unique and {"patient", "value", "group", "control"} <= set(results.cases)
    with pytest.raises(DataError, match="its texts are findings, clip reads both"):
        consistency_cases(CLIP.create(CLIPConfig(dim=8), image="tiny-random"), clinic, "test", asked)
