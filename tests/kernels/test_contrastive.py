"Sums of a score matrix in tiles, against plain loops, the dense form, finite differences and the meta device."

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from medret_nb.kernels.contrastive import (
    matching_from_sums,
    matching_sums,
    matching_sums_in_tiles,
    tiled_logsumexp,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 9), m=st.integers(1, 9), tile=st.integers(1, 10), seed=st.integers(0, 10**6))
def test_log_sums_equal_the_loop(n, m, tile, seed):
    a, b, s = normal(n, 3, seed=seed), normal(m, 3, seed=seed + 1), 2.5
    rows, columns = tiled_logsumexp(a, b, torch.tensor(s, dtype=torch.double), tile)
    scores = [[s * math.fsum(x * y for x, y in zip(p, q)) for q in b.tolist()] for p in a.tolist()]
    for i in range(n):
        assert rows[i].item() == pytest.approx(math.log(math.fsum(math.exp(scores[i][j]) for j in range(m))))
    for j in range(m):
        assert columns[j].item() == pytest.approx(math.log(math.fsum(math.exp(scores[i][j]) for i in range(n))))


def test_gradients_of_the_log_sums():
    a, b = normal(7, 4).requires_grad_(), normal(5, 4, seed=1).requires_grad_()
    scale = torch.tensor(3.0, dtype=torch.double, requires_grad=True)
    for tile in (2, 3, 100):
        assert torch.autograd.gradcheck(lambda *x, tile=tile: tiled_logsumexp(*x, tile), (a, b, scale))
    rows, columns = tiled_logsumexp(a, b, scale, 3)
    dense = scale * a @ b.T
    ours = torch.autograd.grad(rows.square().sum() - columns.sum(), (a, b, scale))
    plain = torch.autograd.grad(dense.logsumexp(1).square().sum() - dense.logsumexp(0).sum(), (a, b, scale))
    torch.testing.assert_close(ours, plain)


def test_large_scores_do_not_overflow():
    a = F.normalize(normal(6, 4), dim=1).float()
    rows, columns = tiled_logsumexp(a, a, torch.tensor(1000.0), 2)
    assert torch.isfinite(rows).all() and torch.isfinite(columns).all()


def test_sums_of_pieces_are_those_of_the_whole():
    scores, targets = normal(8, 5), (normal(8, 5, seed=1) > 0.3).double()
    targets[3] = 0
    loss, count, normaliser, right, total = matching_sums(scores, targets)
    assert count == sum(bool(row.any()) for row in targets)
    each = [-(t / t.sum() * s.log_softmax(0)).sum() for s, t in zip(scores, targets) if t.any()]
    torch.testing.assert_close(loss, torch.stack(each).sum())
    torch.testing.assert_close(normaliser, scores.logsumexp(0))
    torch.testing.assert_close(right, (targets * scores).sum(0))
    torch.testing.assert_close(total, targets.sum(0))
    whole = matching_from_sums([matching_sums(scores, targets)])
    pieces = [matching_sums(scores[i : i + 3], targets[i : i + 3]) for i in (0, 3, 6)]
    torch.testing.assert_close(matching_from_sums(pieces), whole)


def test_tiles_are_computed_again_in_the_backward_pass():
    scores, asked = normal(7, 4).requires_grad_(), []

    def rows(start, stop):
        asked.append((start, stop))
        return scores[start:stop]

    parts = matching_sums_in_tiles(rows, lambda i, j: torch.ones(j - i, 4, dtype=torch.double), rows=7, tile=3)
    assert asked == [(0, 3), (3, 6), (6, 7)]
    matching_from_sums(parts).backward()
    assert sorted(asked) == sorted([(0, 3), (3, 6), (6, 7)] * 2) and scores.grad.abs().max() > 0


def test_runs_on_the_meta_device():
    a = torch.empty(8, 4, device="meta", requires_grad=True)
    rows, columns = tiled_logsumexp(a, a, torch.tensor(3.0, device="meta"), 3)
    (rows.sum() + columns.sum()).backward()
    parts = matching_sums_in_tiles(lambda i, j: a[i:j] @ a.T, lambda i, j: a[i:j] @ a.T, rows=8, tile=3)
    assert a.grad.shape == a.shape and matching_from_sums(parts).shape == ()
