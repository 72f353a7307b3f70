"Counts taken from tensors are those taken from arrays, on every device."

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pretend_card import pretended_card

from medret_nb.evaluation.ranking import first_relevant, median_rank, ranks, recall_at_k
from medret_nb.evaluation.tensor_counts import first_in_tensor, relevant_mask

FIELDS = ("ahead", "tied", "tied_relevant", "relevant")


def equal(a, b):
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        assert getattr(a, name).dtype == getattr(b, name).dtype == np.int64
    assert a.candidates == b.candidates


def case(seed, q=17, g=23, levels=4):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (q, g)).astype(np.float32)
    asked, held = rng.integers(-1, 6, q), rng.integers(-1, 6, g)
    return scores, asked, held


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64])
def test_counts_equal_those_of_arrays(kind, device):
    scores, asked, held = case(0)
    scores = scores.astype(kind)
    there = torch.from_numpy(scores).to(device)
    mask = (asked[:, None] == held) & (asked[:, None] >= 0)
    rows = [(asked, held), mask, lambda start, stop: mask[start:stop]]
    for relevant in rows:
        expected = first_relevant(scores, relevant)
        equal(first_relevant(there, relevant), expected)
        equal(first_relevant(there.T.contiguous().T, relevant, cells=40), expected)
    equal(first_relevant(lambda start, stop: there[start:stop], (asked, held), 40), first_relevant(scores, mask))
    equal(first_relevant(there, torch.from_numpy(mask).to(device)), first_relevant(scores, mask))
    np.testing.assert_array_equal(recall_at_k(there, mask, (1, 5)), recall_at_k(scores, mask, (1, 5)))
    np.testing.assert_array_equal(ranks(there, mask), ranks(scores, mask))
    assert median_rank(there, mask) == median_rank(scores, mask)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 9), st.integers(1, 9), st.integers(1, 60))
def test_counts_of_all_shapes(seed, q, g, cells):
    scores, asked, held = case(seed, q, g, 3)
    scores[scores == 2] = -np.inf
    if q:
        equal(first_relevant(torch.from_numpy(scores), (asked, held), cells), first_relevant(scores, (asked, held)))


def test_nan_and_wrong_shapes_are_refused(device):
    scores = torch.zeros(3, 4, device=device)
    with pytest.raises(ValueError, match="do not match"):
        first_relevant(scores, np.zeros((3, 5), bool))
    with pytest.raises(ValueError, match="have shape"):
        first_relevant(lambda start, stop: scores, (np.arange(2), np.arange(4)))
    scores[1, 2] = torch.nan
    with pytest.raises(ValueError, match="NaN in the rows 0 to 3"):
        first_relevant(scores, np.ones((3, 4), bool))


def test_only_the_counts_leave_a_card():
    scores, asked, held = case(1)
    with pretended_card() as card:
        there = torch.from_numpy(scores).to(card.device)
        card.waits.clear()
        found = first_in_tensor(there, relevant_mask((asked, held), 0, len(asked), there))
        assert sum(card.waits.values()) == 1
    expected = first_relevant(scores, (asked, held))
    for name, values in zip(FIELDS, found):
        np.testing.assert_array_equal(values, getattr(expected, name))


def test_no_candidates_and_no_queries():
    for shape in ((0, 3), (3, 0)):
        counts = first_in_tensor(torch.zeros(shape), torch.zeros(shape, dtype=torch.bool))
        assert all(len(values) == shape[0] for values in counts)
