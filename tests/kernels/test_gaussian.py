"Gaussian scores in blocks and the matching loss in tiles, against plain loops, finite differences, the meta device."

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.kernels import gaussian
from medret_nb.kernels.gaussian import full_precision, matching_in_tiles, mls_scores, own_parts, true_pairs


def clouds(n, d, seed=0, dtype=torch.double):
    "Means and variances."
    generator = torch.Generator().manual_seed(seed)
    mu = torch.randn(n, d, generator=generator, dtype=dtype)
    return mu, (torch.rand(n, d, generator=generator, dtype=dtype) * 3 - 1.5).exp()


def mls_loop(mu_x, var_x, mu_y, var_y):
    "The equation of `mls_scores`, one coordinate after the other."
    out = torch.zeros(len(mu_x), len(mu_y), dtype=torch.double)
    for i in range(len(mu_x)):
        for j in range(len(mu_y)):
            total = 0.0
            for k in range(mu_x.shape[1]):
                variance = float(var_x[i, k] + var_y[j, k])
                total += float(mu_x[i, k] - mu_y[j, k]) ** 2 / variance + math.log(variance)
            out[i, j] = -0.5 * total
    return out


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 5), m=st.integers(1, 5), d=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_mls_equals_the_loop(n, m, d, seed):
    inputs = (*clouds(n, d, seed), *clouds(m, d, seed + 1))
    torch.testing.assert_close(mls_scores(*inputs), mls_loop(*inputs), rtol=1e-10, atol=1e-10)


def small_blocks(n, m, d, device):
    "Blocks of two rows and three columns."
    for i in range(0, n, 2):
        for j in range(0, m, 3):
            yield slice(i, i + 2), slice(j, j + 3)


def test_mls_in_small_blocks(monkeypatch):
    inputs = [x.requires_grad_() for x in (*clouds(5, 6, 1), *clouds(7, 6, 2))]
    whole = mls_scores(*inputs)
    gradients = torch.autograd.grad(whole.square().sum(), inputs)
    monkeypatch.setattr(gaussian, "_blocks", small_blocks)
    blocks = mls_scores(*inputs)
    torch.testing.assert_close(blocks, whole)
    torch.testing.assert_close(torch.autograd.grad(blocks.square().sum(), inputs), gradients)
    assert torch.autograd.gradcheck(mls_scores, inputs)


@pytest.mark.parametrize("d", [1, 64, 512, 10**6])
def test_blocks_cover_every_pair_once(d):
    count = torch.zeros(90, 70)
    for rows, columns in gaussian._blocks(90, 70, d, count.device):
        count[rows, columns] += 1
    assert (count == 1).all()


def test_full_precision_widens_and_leaves_autocast():
    @full_precision
    def product(x, y, extra=None):
        "A docstring."
        return x @ y.T

    halves = torch.randn(3, 4).half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert product(halves, halves, extra="kept").dtype == torch.float32
    doubles = torch.randn(3, 4, dtype=torch.double)
    assert product(doubles, doubles).dtype == torch.double and product.__doc__ == "A docstring."


def test_true_pairs_prefer_the_diagonal():
    label, position = true_pairs(torch.tensor([[0.5, 0.5, 0.1], [0.9, 0.2, 0.9], [0.0, 0.0, 0.0]]))
    assert label.tolist() == pytest.approx([0.5, 0.9, 0.0]) and position.tolist() == [0, 0, 2]
    assert true_pairs(torch.tensor([[0.1, 0.7, 0.7]]))[1].tolist() == [1]


def test_own_parts_equal_the_loop():
    mu, variance = clouds(3, 4, 1)
    expected = [sum(m * m + v for m, v in zip(*row)) for row in zip(mu.tolist(), variance.tolist())]
    assert own_parts(mu, variance.log()).tolist() == pytest.approx(expected)


def matching_loop(mu_x, own_x, mu_y, own_y, scale, shift, targets):
    "The equations of `matching_in_tiles`, pair by pair."
    n, m = targets.shape
    rows, columns = true_pairs(targets), true_pairs(targets.T)
    match = pseudo = 0.0

    def logit(i, j):
        return shift - scale * float(own_x[i] + own_y[j] - 2 * mu_x[i] @ mu_y[j])

    def cost(score, wanted):
        return math.log1p(math.exp(-abs(score))) + max(score, 0.0) - wanted * score

    for i in range(n):
        for j in range(m):
            score, wanted = logit(i, j), float(targets[i, j])
            by_row = float(rows[0][i]) if score >= logit(i, int(rows[1][i])) else wanted
            by_column = float(columns[0][j]) if score >= logit(int(columns[1][j]), j) else wanted
            match += cost(score, wanted) / (n * m)
            pseudo += 0.5 * (cost(score, by_row) + cost(score, by_column)) / (n * m)
    return match, pseudo


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 6), m=st.integers(1, 6), tile=st.integers(1, 7), seed=st.integers(0, 10**6))
def test_matching_equals_the_loop(n, m, tile, seed):
    (mu_x, own_x), (mu_y, own_y) = clouds(n, 3, seed), clouds(m, 3, seed + 1)
    sides = (mu_x, own_x.sum(1), mu_y, own_y.sum(1))
    targets = torch.rand(n, m, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    scale, shift = torch.tensor(0.3, dtype=torch.double), torch.tensor(2.0, dtype=torch.double)
    found = matching_in_tiles(*sides, scale, shift, targets, tile=tile)
    assert [x.item() for x in found] == pytest.approx(matching_loop(*sides, 0.3, 2.0, targets), abs=1e-10)


def test_matching_by_groups_equals_matching_by_targets():
    (mu_x, own_x), (mu_y, own_y) = clouds(6, 4, 1), clouds(6, 4, 2)
    leaves = [x.requires_grad_() for x in (mu_x, own_x.sum(1), mu_y, own_y.sum(1))]
    numbers = [torch.tensor(x, dtype=torch.double, requires_grad=True) for x in (0.3, 2.0)]
    groups = torch.tensor([0, 1, 0, 2, 3, 3])
    same = (groups[:, None] == groups).double()
    by_groups = matching_in_tiles(*leaves, *numbers, groups=groups, tile=4)
    by_targets = matching_in_tiles(*leaves, *numbers, targets=same)
    torch.testing.assert_close(by_groups, by_targets)
    for ours, other in zip(
        torch.autograd.grad(sum(by_groups), leaves + numbers), torch.autograd.grad(sum(by_targets), leaves + numbers)
    ):
        torch.testing.assert_close(ours, other)


def test_everything_runs_on_the_meta_device():
    meta = [torch.ones(6, 5, device="meta", requires_grad=True) for _ in range(4)]
    mls_scores(*meta).sum().backward()
    sides = (meta[0], meta[1].sum(1), meta[2], meta[3].sum(1))
    numbers = torch.ones(2, device="meta").unbind()
    sum(matching_in_tiles(*sides, *numbers, tile=4)).backward()
    assert all(x.grad.shape == x.shape for x in meta)
