"""The first answer: planted retrievers whose numbers are known, ties, critical misses, labels, truth, RadEval."""

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from medret_nb.data.files import DataError
from medret_nb.data.studies import StudySet
from medret_nb.evaluation import first_answers as fa
from medret_nb.evaluation.labeller import MISPLACED, read_sightings
from medret_nb.retrieval.points import Embeddings

ILL = (
    "Large right pneumothorax.",
    "Left lower lobe consolidation.",
    "Small left effusion and left lower lobe atelectasis.",
    "Nodule in the right upper lobe.",
    "Nasogastric tube ends above the diaphragm.",
)
NORMAL = "Heart size is normal. Lungs are clear. No effusion or pneumothorax."


def mirrored(text):
    return text.replace("left", "#").replace("right", "left").replace("#", "right").replace("Left", "Right")


def clinic(texts, chosen, **columns):
    """A StudySet of these reports, each a patient's, and points whose film i brings up report chosen[i] first."""
    ids = np.array([f"s{i:04d}" for i in range(len(texts))])
    names = {"study_id": ids, "patient_id": columns.pop("patients", ids), "split": "test", "findings": texts}
    images = pd.DataFrame({"image_id": ids, "study_id": ids, "view": "PA", "path": "none.png"})
    corners = np.eye(len(texts), dtype=np.float32)
    films = np.stack([corners[np.atleast_1d(which)].mean(0) for which in chosen])
    meta = {"similarity": "cosine", "logit_scale": 1.0, "policy": "findings", "split": "test"}
    points = {}
    for name, mu in (("image", films), ("text", corners)):
        points[name] = Embeddings(ids.astype(object), ids, mu, None, meta | {"modality": name})
    return StudySet(pd.DataFrame(names | columns), images), points


def told(texts):
    """Reports made different by a word that no rule reads, so that none is a copy of another."""
    return [f"{text} Word{i}." for i, text in enumerate(texts)]


def quality(texts, chosen, answer="first answer", **columns):
    studies, points = clinic(texts, chosen, **columns)
    found = fa.evaluate_first_answers(points, studies, draws=40, verbose=False)
    return found, found.row("report", answer)


def values(row):
    return {name: row[name]["value"] for name in ("micro F1", "macro F1", "micro F1 of places", "critical misses")}


def test_a_perfect_retriever():
    texts = told([*ILL, NORMAL] * 40)
    found, row = quality(texts, np.arange(240))
    assert values(row) == {"micro F1": 1, "macro F1": 1, "micro F1 of places": 1, "critical misses": 0}
    assert found.report["recalls"]["R@1"]["value"] == 1 and row["critical"] == 80
    assert found.report["recalls"]["R@10"]["chance"] == pytest.approx(10 / 240)
    assert row["micro F1"]["low"] > 0.97 and row["micro F1"]["high"] == 1


def test_a_retriever_that_always_gives_the_normal_report():
    texts = told([*ILL, NORMAL] * 40)
    found, row = quality(texts, np.full(240, 5))
    assert values(row) == pytest.approx(
        {"micro F1": 0, "macro F1": 0, "micro F1 of places": 0, "critical misses": 100 / 3}
    )
    assert row["critical misses"]["low"] < 100 / 3 < row["critical misses"]["high"]
    assert values(found.row("report", "normal report")) == pytest.approx(values(row))
    assert found.report["recalls"]["R@1"]["value"] == pytest.approx(1 / 240)


def test_a_retriever_that_swaps_the_sides():
    """Report i + n is report i mirrored, and each film brings up the other: findings right, every side wrong."""
    first = list(ILL[:4]) * 30
    texts = told([*first, *map(mirrored, first)])
    n = len(first)
    _, row = quality(texts, np.roll(np.arange(2 * n), n))
    assert values(row) == {"micro F1": 1, "macro F1": 1, "micro F1 of places": 0, "critical misses": 25}


def test_own_reports_are_left_out_by_patient():
    """Two studies of each patient have the same findings; without the patient the next best is another finding."""
    texts = told([text for text in ILL[:4] for _ in range(2)])
    patients = np.repeat([f"p{i}" for i in range(4)], 2)
    studies, points = clinic(texts, [0, 1, 2, 3, 4, 5, 6, 7], patients=patients)
    points["image"].mu[:] = np.eye(8) + 0.5 * np.roll(np.eye(8), 1, 1) + 0.4 * np.roll(np.eye(8), 2, 1)
    found = fa.evaluate_first_answers(points, studies, draws=10, verbose=False)
    assert found.row("report", "first answer")["micro F1"]["value"] == 1
    assert found.row("report", "first of other patients")["micro F1"]["value"] < 0.2
    assert found.row("report", "first answer")["micro F1"]["few"], "four patients are too few for an interval"
    with pytest.raises(DataError, match="no report of another patient"):
        alone, points = clinic(texts, np.arange(8), patients=["p"] * 8)
        fa.evaluate_first_answers(points, alone, verbose=False)


def test_ties_are_shared():
    """A film between a right and a wrong report claims half of each; copies of a text share one place."""
    texts = told([ILL[0], NORMAL, *[NORMAL] * 4])
    _, row = quality(texts, [[0, 1], 1, 2, 3, 4, 5])
    assert row["micro F1"]["value"] == pytest.approx(2 * 0.5 / 1.5)
    assert row["critical misses"]["value"] == pytest.approx(100 * 0.5 / 6)
    same = [ILL[0], ILL[0], *told([NORMAL] * 4)]
    studies, points = clinic(same, np.arange(6))
    for side in points.values():
        side.mu[1] = side.mu[0]
    found = fa.evaluate_first_answers(points, studies, draws=10, verbose=False)
    assert found.report["recalls"]["R@1"]["value"] == pytest.approx((0.5 + 0.5 + 4) / 6)


def test_ties_against_all_orders():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 3, (20, 7)).astype(float)
    columns = rng.random((7, 4)) < 0.4
    drawn = np.zeros((20, 4))
    for _ in range(3000):
        order = rng.permutation(7)
        drawn += columns[order[scores[:, order].argmax(1)]]
    assert np.abs(drawn / 3000 - fa.first_claims(scores, columns)).max() < 0.05


def test_f1_is_sklearns():
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    wanted = rng.random((200, 13)) < 0.3
    claimed = wanted ^ (rng.random((200, 13)) < 0.2)
    counts = [part.astype(float) for part in (wanted & claimed, claimed, wanted)]
    assert fa.micro_f1(*counts) == pytest.approx(sklearn.f1_score(wanted, claimed, average="micro"))
    assert fa.macro_f1(*counts) == pytest.approx(sklearn.f1_score(wanted, claimed, average="macro"))
    nothing = np.zeros((3, 2))
    assert np.isnan(fa.micro_f1(nothing, nothing, nothing)) and np.isnan(fa.macro_f1(nothing, nothing, nothing))


def test_critical_findings_and_who_covers_them():
    texts = ["Right pneumothorax.", "Bilateral pneumothoraces.", "Pneumothorax is present.", ILL[4], NORMAL]
    held, covered = fa.critical_columns(fa.place_columns(map(read_sightings, texts)))
    assert held.astype(int).tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert covered.astype(int).tolist() == [[1, 0, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert ("Support Devices", "", MISPLACED) in fa.PLACE_NAMES and len(set(fa.PLACE_NAMES)) == len(fa.PLACE_NAMES)


def test_the_sets_labels_are_used_where_all_have_some():
    texts = told([*ILL, NORMAL] * 10)
    fracture = [{"Fracture": int(i % 2)} for i in range(60)]
    found, row = quality(texts, np.arange(60), labels=fracture)
    assert found.report["labels"] == "given" and row["macro F1"]["columns"] == 1
    studies, points = clinic(texts, np.arange(60), labels=[*fracture[:-1], {}])
    assert fa.evaluate_first_answers(points, studies, draws=10, verbose=False).report["labels"] == "rules"
    for labels, words in (("given", "not every study"), ("mine", "neither 'given' nor 'rules'")):
        with pytest.raises(DataError, match=words):
            fa.evaluate_first_answers(points, studies, labels=labels, verbose=False)


def test_on_a_phantom_also_by_truth(small_phantom, tmp_path, capsys):
    """Points that find every report: against the truth the first answer is the own report, and that is not perfect."""
    names = small_phantom.studies["study_id"].to_numpy()
    corners = np.eye(len(names), dtype=np.float32)
    meta = {"similarity": "cosine", "logit_scale": 1.0, "policy": "findings"}
    points = {}
    for name in ("image", "text"):
        points[name] = Embeddings(names.astype(object), names, corners, None, meta | {"modality": name})
    found = fa.evaluate_first_answers(points, small_phantom, draws=20)
    shown = capsys.readouterr().out
    assert "against the truth" in shown and "critical misses per 100 films" in shown and "R@10" in shown
    own = found.row("truth", "own report")
    assert 0.5 < own["micro F1"]["value"] < 1
    assert values(found.row("truth", "first answer")) == pytest.approx(values(own), abs=0.02), "copies of texts apart"
    assert found.row("truth", "random report")["micro F1"]["value"] < own["micro F1"]["value"]
    assert fa.FirstAnswers.there(found.save(tmp_path / "kept")) and len(found.table()) == 9
    with pytest.raises(KeyError):
        found.row("truth", "nobody")


def test_radeval_is_asked_only_where_it_is(monkeypatch, capsys):
    with pytest.raises(DataError, match="stay on this machine"):
        fa.radeval_scores(["a"], ["b"], ["crimson"])
    monkeypatch.setattr(fa, "find_spec", lambda name: None)
    assert fa.radeval_scores(["a"], ["b"]) is None
    assert capsys.readouterr().out.count("\n") == 1

    class Judge:
        def __init__(self, metrics, show_progress):
            self.metrics = metrics

        def __call__(self, refs, hyps):
            return dict.fromkeys(self.metrics, float(refs == hyps)) | {"note": "words"}

    monkeypatch.setattr(fa, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "radeval", SimpleNamespace(RadEval=Judge))
    assert fa.radeval_scores(["a"], ["a"]) == {"bleu": 1.0, "rouge": 1.0}
