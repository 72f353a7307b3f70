"""Relevance by codes against pairwise comparison; duplicate ceilings against the best possible reader."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.data.files import DataError
from medret_nb.data.finding_names import FINDINGS
from medret_nb.data.reports import normalise_text
from medret_nb.evaluation import ranking
from medret_nb.evaluation.relevance import (
    OBSERVATIONS,
    PROTOCOLS,
    duplicate_ceiling,
    gallery_facts,
    jaccard,
    label_sets,
    relevance,
)

LABELS = st.dictionaries(st.sampled_from(FINDINGS[:5]), st.sampled_from([1, 0, -1, None]), max_size=4)
TEXTS = st.sampled_from(
    ["Normal.", "NORMAL", "normal XXXX", "Effusion, right", "effusion right.", "", "  ", "Large heart"]
)
STUDIES = st.lists(st.tuples(LABELS, TEXTS), min_size=1, max_size=9).filter(
    lambda rows: any(v is not None for labels, _ in rows for v in labels.values())
)


def positive(labels, counted):
    return {name for name, value in labels.items() if value in counted and name != "No Finding"}


def pair(protocol, a, b, same, counted):
    """Gain of a pair of (labels, text) rows, written out."""
    if protocol == "exact":
        return float(same)
    if protocol == "text":
        return float(bool(a[1].strip()) and normalise_text(a[1]) == normalise_text(b[1]))
    if not all(any(v is not None for v in row[0].values()) for row in (a, b)):
        return 0.0
    x, y = positive(a[0], counted), positive(b[0], counted)
    if protocol == "graded":
        return len(x & y) / len(x | y) if x | y else 1.0
    return float(x == y and (protocol == "labels" or bool(x)))


@settings(max_examples=60, deadline=None)
@given(STUDIES, st.sampled_from(["drop", "positive"]), st.integers(0, 2**31))
def test_codes_equal_pairwise_comparison(rows, uncertain, seed):
    frame, texts = pd.DataFrame({"labels": [labels for labels, _ in rows]}), [text for _, text in rows]
    rng = np.random.default_rng(seed)
    queries, gallery = rng.integers(0, len(rows), 5), rng.permutation(len(rows))
    counted = (1,) if uncertain == "drop" else (1, -1)
    for protocol in ("exact", "text", "labels", "labels-abnormal", "graded"):
        got = relevance(protocol, frame, texts, queries=queries, gallery=gallery, uncertain=uncertain)
        expected = np.array([[pair(protocol, rows[q], rows[g], q == g, counted) for g in gallery] for q in queries])
        np.testing.assert_allclose(got.rows().astype(float), expected, rtol=1e-6, err_msg=protocol)
        np.testing.assert_array_equal(got.counts(), (expected > 0).sum(1))
        np.testing.assert_allclose(got.rows(1, 4).astype(float), expected[1:4], rtol=1e-6)
        scores = rng.integers(0, 3, expected.shape).astype(float)
        by_part = ranking.recall_at_k(scores, got.part(0, 5), 2, per_query=True)
        np.testing.assert_allclose(by_part, ranking.recall_at_k(scores, expected > 0, 2, per_query=True))


def test_own_report_is_relevant_under_every_protocol():
    frame = pd.DataFrame({"labels": [{"Edema": 1}, {"No Finding": 1}, {"Edema": 0, "Fracture": 1}]})
    for protocol in PROTOCOLS:
        got = relevance(protocol, frame, ["a", "b", "c"], fits=np.eye(3, dtype=bool))
        asked = got.queries >= 0
        assert (got.rows()[asked, np.flatnonzero(asked)] == 1).all(), protocol
        np.testing.assert_array_equal(got.flipped().rows(), got.rows().T)


def test_fits_keeps_its_direction():
    fits = np.random.default_rng(0).random((6, 6)) < 0.4  # reports by scenes
    frame = pd.DataFrame({"labels": [{}] * 6})
    films, reports = np.array([5, 0, 2]), np.array([1, 3, 4, 0])
    forward = relevance("fits-open", frame, fits=fits, queries=films, gallery=reports)
    np.testing.assert_array_equal(forward.rows(), fits[np.ix_(reports, films)].T)
    backward = relevance("fits-open", frame, fits=fits, queries=reports, gallery=films, direction="text-to-image")
    np.testing.assert_array_equal(backward.rows(), fits[np.ix_(reports, films)])
    np.testing.assert_array_equal(forward.flipped().rows(), backward.rows())
    np.testing.assert_array_equal(forward.counts(), forward.rows().sum(1))


def test_the_thirteen_observations_leave_no_finding_out():
    assert len(OBSERVATIONS) == 13 and "No Finding" not in OBSERVATIONS
    sets, known = label_sets(pd.DataFrame({"labels": [{"No Finding": 1}, {"Edema": -1}, {}, None, {"Edema": None}]}))
    assert not sets.any() and known.tolist() == [True, True, False, False, False]


def test_jaccard_by_hand():
    sets = np.array([[0, 0, 0], [1, 1, 0], [0, 1, 1], [1, 1, 1]], dtype=bool)
    np.testing.assert_allclose(
        jaccard(sets), [[1, 0, 0, 0], [0, 1, 1 / 3, 2 / 3], [0, 1 / 3, 1, 2 / 3], [0, 2 / 3, 2 / 3, 1]], rtol=1e-6
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=25), st.integers(1, 12))
def test_the_ceiling_is_what_a_perfect_reader_reaches_in_both_directions(groups, k):
    groups = np.array(groups)
    reader, own = (groups[:, None] == groups).astype(float), np.eye(len(groups), dtype=bool)
    ceiling = duplicate_ceiling(groups, k)
    assert ranking.recall_at_k(reader, own, k) == pytest.approx(ceiling)
    # text to image: equal queries share one ranking of the films;
    # any fixed order of a group's films serves min(g, k) of them
    ranked = reader + np.linspace(0, 0.1, len(groups))
    assert ranking.recall_at_k(ranked, own, k) == pytest.approx(ceiling)


def test_gallery_facts():
    frame = pd.DataFrame({"labels": [{"Edema": 1}, {"Edema": 1}, {"Edema": -1}, {}]})
    facts = gallery_facts(frame, ["Edema.", "edema", "Perhaps edema", "Nothing"], (1, 5))
    assert facts["duplicate_share"] == 0.5 and facts["distinct_texts"] == 3
    assert facts["duplicate_ceiling"] == {"1": 0.75, "5": 1.0} and facts["distinct_label_sets"] == 2


def test_a_large_gallery_needs_no_matrix():
    n = 40_000
    frame = pd.DataFrame({"labels": [{"Edema": 1}, {"Fracture": 1}] * (n // 2)})
    got = relevance("labels", frame)
    assert got.counts()[0] == n // 2 and got.rows(7, 9).shape == (2, n)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(protocol="lables"), "'lables' is none of exact"),
        (dict(protocol="text"), "one text for each of the 3"),
        (dict(protocol="text", texts=["a"]), "one text for each of the 3"),
        (dict(protocol="fits"), "phantoms only"),
        (dict(protocol="fits-closed", fits=np.ones((2, 3))), "3 reports by 3 scenes"),
        (dict(protocol="labels"), "none of the 3 studies has labels"),
        (dict(protocol="graded"), "none of the 3 studies has labels"),
    ],
)
def test_what_is_missing_is_said_in_one_line(arguments, words):
    with pytest.raises(DataError, match=words):
        relevance(studies=pd.DataFrame({"labels": [{}, {}, {}]}), **arguments)


def test_bad_switches_name_themselves():
    frame = pd.DataFrame({"labels": [{"Edema": 1}]})
    with pytest.raises(ValueError, match="uncertain"):
        relevance("labels", frame, uncertain="maybe")
    with pytest.raises(ValueError, match="direction"):
        relevance("exact", frame, direction="up")


def test_counts_of_a_part_of_the_studies_know_codes_that_are_not_in_it():
    studies = pd.DataFrame({"labels": [{name: 1} for name in OBSERVATIONS]})
    got = relevance("graded", studies, queries=np.array([0, 12]), gallery=np.array([0, 1]))
    np.testing.assert_array_equal(got.counts(), [1, 0])
