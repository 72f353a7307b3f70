"""Effects of claims: row statistics against other judges, patients drawn again, ambiguity."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from medret_nb.data.files import DataError
from medret_nb.evaluation.intervals import paired_bootstrap, seed_interval
from medret_nb.methods.clip import CLIP
from medret_nb.phantom.phantom import make_phantom
from medret_nb.training.effects import (
    CLAIM_MEASURES,
    CLAIM_PLACES,
    ambiguity_rows,
    location_effect,
    row_effect,
    seed_effects,
)


def rows_of(hits, patients):
    return [pd.DataFrame({"hit_10": h, "patient_id": patients}) for h in hits]


def test_the_mean_effect_is_the_paired_bootstrap():
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(150), 2)
    first, second = (rng.random((3, 300)) < share for share in (0.4, 0.5))
    found = row_effect(
        CLAIM_MEASURES["R@10"],
        rows_of(first.astype(float), patients),
        rows_of(second.astype(float), patients),
        patients,
        1500,
    )
    judge = paired_bootstrap(first.mean(0), second.mean(0), patients, 1500)
    assert found.value == pytest.approx(judge.value) and found.queries == 300
    assert (found.low, found.high) == pytest.approx((judge.low, judge.high)) and found.patients == 150
    assert found.discordant == pytest.approx(np.mean([np.sum(a != b) for a, b in zip(first, second)]))
    assert np.mean(found.by_seed) == pytest.approx(found.value)
    assert seed_interval(found.by_seed) == pytest.approx(
        stats.t.interval(0.95, 2, np.mean(found.by_seed), stats.sem(found.by_seed))
    )


def test_less_error_speaks_for_the_claim():
    rng = np.random.default_rng(2)
    ease = rng.random(600)
    hit = (rng.random(600) < ease).astype(float)

    def table(sure):
        return pd.DataFrame({"hit_10": hit, "hit_1": hit, "group_softmax": sure, "calibrated": sure})

    knows, guesses, boasts = table(ease), table(rng.random(600)), table(np.full(600, 0.99))
    for name, worse in (("AUROC", guesses), ("Brier", boasts)):
        found = row_effect(CLAIM_MEASURES[name], [worse], [knows], np.arange(600), 60)
        assert found.low > 0.1, name
        turned = row_effect(CLAIM_MEASURES[name], [knows], [worse], np.arange(600), 60)
        assert turned.value == pytest.approx(-found.value)
    loop = np.mean([(c - p) ** 2 for c, p in zip(hit, ease)]) - np.mean([(c - 0.99) ** 2 for c in hit])
    assert found.value == pytest.approx(-loop)
    with pytest.raises(DataError, match="no temperature was fitted"):
        row_effect(CLAIM_MEASURES["Brier"], [knows.drop(columns="calibrated")], [knows], np.arange(600), 5)


def test_arms_of_other_accuracy_and_equal_knowledge_do_not_differ():
    """Two calibrated arms, one more accurate; two equally good confidences. ECE and excess AURC told them apart."""
    rng = np.random.default_rng(5)
    told = {"AUROC": [], "Brier": []}
    for _ in range(60):
        tables = []
        for accuracy in (0.106, 0.169):
            hit = (rng.random(1000) < accuracy).astype(float)
            sure = hit + rng.normal(size=1000)
            tables.append(pd.DataFrame({"hit_10": hit, "hit_1": hit, "group_softmax": sure, "calibrated": accuracy}))
        found = row_effect(CLAIM_MEASURES["AUROC"], [tables[0]], [tables[1]], np.arange(1000), 40)
        told["AUROC"].append(found.low <= 0 <= found.high)
        expected = 0.106 * 0.894 - 0.169 * 0.831  # Brier's score of a calibrated constant is a (1 - a)
        found = row_effect(CLAIM_MEASURES["Brier"], [tables[0]], [tables[1]], np.arange(1000), 40)
        told["Brier"].append(found.low <= expected <= found.high)
    assert np.mean(told["AUROC"]) > 0.85 and np.mean(told["Brier"]) > 0.85


def test_uncertainty_must_beat_its_rivals():
    rng = np.random.default_rng(3)
    true = rng.normal(size=300)
    rows = pd.DataFrame(
        {
            "ambiguity": true,
            "uncertainty": true + rng.normal(size=300),
            "shortness": true + 3 * rng.normal(size=300),
            "few findings": rng.normal(size=300),
            "1 - max softmax": -true,
        }
    )
    found = row_effect(CLAIM_MEASURES["ambiguity over rivals"], None, [rows], np.arange(300), 100)

    def tau(name):
        return stats.kendalltau(rows[name], true).statistic

    assert found.value == pytest.approx(tau("uncertainty") - tau("shortness")) and found.low > 0
    plain = row_effect(CLAIM_MEASURES["ambiguity"], None, [rows], np.arange(300), 50)
    assert plain.value == pytest.approx(tau("uncertainty")), "to reflect asks for no rival"
    swapped = rows.rename(columns={"uncertainty": "few findings", "few findings": "uncertainty"})
    assert row_effect(CLAIM_MEASURES["ambiguity over rivals"], None, [swapped], np.arange(300), 100).high < 0


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    """Twenty-four patients with a study each."""
    out = tmp_path_factory.mktemp("effects") / "studies"
    return make_phantom({"test": 24}, 4, 32, out, one_study_per_patient=True, progress=False)


def test_vague_reports_are_ambiguous(patients):
    queries = pd.DataFrame(
        {
            "direction": "text-to-image",
            "study_id": patients.studies["study_id"],
            "minus_sum_variance": 0.0,
            "max_softmax": 0.5,
        }
    )
    rows = ambiguity_rows(queries, patients, "findings", fresh=2000)
    assert rows["ambiguity"].le(0).all() and stats.spearmanr(rows["ambiguity"], rows["few findings"]).statistic > 0.3


def test_what_cannot_be_asked_is_refused(patients):
    with pytest.raises(DataError, match="no variances"):
        ambiguity_rows(pd.DataFrame({"direction": []}), patients, "findings")
    with pytest.raises(DataError, match="clip has no vectors for regions"):
        location_effect([CLIP.create()], patients, "test", "whole film")
    assert all(CLAIM_MEASURES[name].statistic is None for name in CLAIM_PLACES)
    with pytest.raises(ValueError, match="is no statistic of rows"):
        seed_effects(CLAIM_MEASURES["location"], None, [pd.DataFrame({"hit_10": [1.0]})], np.arange(1))
