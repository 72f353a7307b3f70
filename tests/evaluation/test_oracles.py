"""The oracle that sees the scene: the rarest of the reports that fit comes first; there is none for real studies."""

import numpy as np
import pytest

from medret_nb.data.reports import section_text
from medret_nb.data.studies import StudySet
from medret_nb.evaluation.oracles import SCENE_ORACLE, oracle_recalls, phantom_oracles, scene_answers, scene_scores
from medret_nb.evaluation.results import oracle_share
from medret_nb.phantom.truth_tables import load_truth


def expected_hit(scores, own, k):
    "P(own among the k best), ties at random; by counting."
    ahead = sum(score > scores[own] for score in scores)
    tied = sum(score == scores[own] for score in scores)
    return min(max((k - ahead) / tied, 0), 1)


def test_a_report_is_worth_the_less_the_more_scenes_it_fits():
    fits = np.array([[1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]], bool)
    assert scene_scores(fits).tolist() == [[0.25] * 4, [0, 0.5, 0.5, 0], [0] * 4]


@pytest.mark.parametrize("policy", ["both", "findings"])
def test_recalls_are_those_of_a_count(small_phantom, policy):
    part = small_phantom.split("test")
    ids = part.studies["study_id"].tolist()
    fits = load_truth(part, section_text(part, policy)).fits("closed")
    scores = [[fits[r, s] / max(fits[r].sum(), 1) for s in range(len(ids))] for r in range(len(ids))]
    found = oracle_recalls(part, ids, policy, "exact", (1, 3))
    for k in (1, 3):
        to_text = [expected_hit([row[s] for row in scores], s, k) for s in range(len(ids))]
        to_image = [expected_hit(scores[r], r, k) for r in range(len(ids))]
        assert found["image-to-text"][f"R@{k}"] == pytest.approx(np.mean(to_text))
        assert found["text-to-image"][f"R@{k}"] == pytest.approx(np.mean(to_image))


def test_real_studies_have_no_oracle(small_phantom, tmp_path):
    real = StudySet.load(small_phantom.folder).save(tmp_path / "real").split("test")
    ids = real.studies["study_id"].tolist()
    assert scene_answers(real, "both") is None and phantom_oracles(real, "both") == {}
    assert oracle_recalls(real, ids, "both", "exact", (1,)) == {}


def test_a_share_is_told_of_recalls_beside_an_oracle_alone():
    numbers = {"R@10": {"value": 0.3}, "nDCG@10": {"value": 0.3}}
    report = {"directions": {"image-to-text": {"metrics": numbers}}, "references": {}}
    assert oracle_share(report, "image-to-text", "R@10") == {}
    report["references"] = {SCENE_ORACLE: {"image-to-text": {"R@10": {"value": 0.6}, "nDCG@10": {"value": 0.6}}}}
    assert oracle_share(report, "image-to-text", "R@10") == {"of_oracle": 0.5}
    assert oracle_share(report, "image-to-text", "nDCG@10") == {}
