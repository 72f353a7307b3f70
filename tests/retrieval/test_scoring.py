"Scores against plain loops: tables, single pairs, copies, and sides that cannot be compared."

import math

import numpy as np
import pytest
import torch
from clouds import naive_matrix, points
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.data.files import DataError
from medret_nb.losses import gaussian
from medret_nb.retrieval.points import SIMILARITIES, Embeddings
from medret_nb.retrieval.scoring import (
    check_sides,
    comparable_vectors,
    distinct_rows,
    pair_scores,
    score_matrix,
    scorer,
    summed_variances,
    unit,
)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_scores_equal_the_loop(similarity):
    queries, gallery = points(7, 9, 1, name="q"), points(11, 9, 2, similarity)
    expected = naive_matrix(similarity, queries, gallery)
    for block in (1, 3, 1024):
        np.testing.assert_allclose(score_matrix(queries, gallery, block=block), expected, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(
        pair_scores(queries, gallery, np.tile(np.arange(11), (7, 1)), similarity), expected, rtol=1e-12, atol=1e-12
    )
    assert score_matrix(queries, gallery).dtype == np.float32


def test_scores_equal_the_losses():
    queries, gallery = points(6, 12, 1, name="q"), points(9, 12, 2)
    four = [torch.from_numpy(x) for e in (queries, gallery) for x in (e.mu, e.logvar)]
    np.testing.assert_allclose(score_matrix(queries, gallery, "csd"), -gaussian.csd(*four), rtol=1e-5)
    np.testing.assert_allclose(score_matrix(queries, gallery, "mls"), gaussian.mls(*four), rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 10), st.integers(0, 10**6))
def test_distinct_rows_against_a_loop(n, distinct, seed):
    e = points(n, 2, seed, distinct=distinct)
    e.mu = np.round(e.mu) * np.float32(1)
    first, inverse = distinct_rows(e)
    seen, expected = [], []
    for row in np.concatenate([e.mu, e.logvar], 1).tolist():
        if row not in seen:
            seen.append(row)
        expected.append(seen.index(row))
    assert inverse.tolist() == expected and first.tolist() == [expected.index(i) for i in range(len(seen))]


def test_unit_vectors_are_divided_by_their_length():
    rows = np.random.default_rng(0).normal(size=(4, 3))
    rows[2] = 0
    for row, found in zip(rows.tolist(), unit(rows, np.float64).tolist()):
        length = math.sqrt(math.fsum(x * x for x in row))
        assert found == pytest.approx([x / length if length else 0.0 for x in row], abs=1e-15)
    assert unit(rows).dtype == np.float32


def test_a_longer_vector_makes_csd_an_ordinary_distance():
    queries, gallery = points(3, 6, 1, "csd", "q"), points(5, 6, 2, "csd")
    asked, held = comparable_vectors(queries, "csd", True), comparable_vectors(gallery, "csd", False)
    assert asked.shape == (3, 7) and held.shape == (5, 7)
    for i in range(3):
        own = math.fsum(math.exp(v) for v in queries.logvar[i].tolist())
        assert summed_variances(queries)[i] == pytest.approx(own)
        for j in range(5):
            distance = math.fsum((a - b) ** 2 for a, b in zip(asked[i].tolist(), held[j].tolist()))
            expected = naive_matrix("csd", queries.select([i]), gallery.select([j]))[0, 0]
            assert -(distance + own) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_a_scorer_serves_many_queries_and_checks_each(similarity):
    gallery = points(9, 4, 2, similarity)
    score = scorer(gallery)
    for n in (1, 6):
        queries = points(n, 4, n, similarity, "q")
        np.testing.assert_array_equal(score(queries), score_matrix(queries, gallery))
    with pytest.raises(DataError, match="queries have 3 dimensions, the gallery 4"):
        score(points(2, 3))


def test_sides_that_cannot_be_compared():
    clouds, plain = points(5), Embeddings(list("abc"), list("abc"), np.eye(3, 5))
    check_sides(plain, clouds, "cosine")
    for queries, gallery, similarity, message in (
        (plain, clouds, "dot", "similarity: 'dot'"),
        (plain, clouds, "csd", "queries: csd compares clouds"),
        (clouds, plain, "mls", "gallery: mls compares clouds"),
        (clouds, clouds.select([]), "cosine", "gallery: there is nothing in it"),
        (clouds.select([]), clouds, "cosine", "queries: there is nothing in it"),
    ):
        with pytest.raises(DataError, match=message):
            check_sides(queries, gallery, similarity)
