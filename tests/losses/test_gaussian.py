"Gaussian distances and the matching loss against loops, Monte Carlo, torch.distributions and finite differences."

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from medret_nb.losses import gaussian
from medret_nb.losses.gaussian import (
    csd,
    kl_to_standard_normal,
    match_probability,
    matching_loss,
    matching_terms,
    mls,
    pseudo_targets,
    wasserstein2,
)


def clouds(n, d, seed=0, dtype=torch.double, spread=6.0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(n, d, generator=generator, dtype=dtype),
        (torch.rand(n, d, generator=generator, dtype=dtype) * 2 - 1) * spread,
    ]


def by_pairs(one):
    "The (N, M) form of a function of one pair of (mu, variance)."

    def all_pairs(mu_x, logvar_x, mu_y, logvar_y):
        return torch.stack(
            [
                torch.stack([one(mx, lx.exp(), my, ly.exp()) for my, ly in zip(mu_y, logvar_y)])
                for mx, lx in zip(mu_x, logvar_x)
            ]
        )

    return all_pairs


NAIVE = {
    csd: by_pairs(lambda m, v, n, w: ((m - n) ** 2).sum() + v.sum() + w.sum()),
    mls: by_pairs(lambda m, v, n, w: -0.5 * ((m - n) ** 2 / (v + w) + (v + w).log()).sum()),
    wasserstein2: by_pairs(lambda m, v, n, w: ((m - n) ** 2 + (v.sqrt() - w.sqrt()) ** 2).sum()),
}
names = pytest.mark.parametrize("function", list(NAIVE), ids=lambda f: f.__name__)


@names
@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 6), m=st.integers(1, 6), d=st.integers(1, 11), seed=st.integers(0, 10**6))
def test_distances_equal_their_loop(function, n, m, d, seed):
    inputs = (*clouds(n, d, seed), *clouds(m, d, seed + 1))
    torch.testing.assert_close(function(*inputs), NAIVE[function](*inputs), rtol=1e-10, atol=1e-9)


@names
def test_single_precision_and_half_inputs(function):
    exact = (*clouds(40, 129, 1), *clouds(30, 129, 2))
    single = [x.float() for x in exact]
    torch.testing.assert_close(function(*single).double(), NAIVE[function](*exact), rtol=1e-5, atol=1e-3)
    half = [x.to(torch.bfloat16) for x in exact]
    assert function(*half).dtype == torch.float32
    torch.testing.assert_close(function(*half), function(*[x.float() for x in half]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = function(*single)
    torch.testing.assert_close(inside, function(*single), rtol=0, atol=0)


@names
def test_gradients_by_finite_differences(function):
    inputs = [x.requires_grad_() for x in (*clouds(3, 5, 3, spread=1.5), *clouds(4, 5, 4, spread=1.5))]
    assert torch.autograd.gradcheck(function, inputs)


@names
def test_a_pair_depends_on_that_pair_alone(function):
    x, y, order = clouds(9, 20, 5), clouds(7, 20, 6), torch.randperm(7)
    whole = function(*x, *y)
    torch.testing.assert_close(function(x[0], x[1], y[0][order], y[1][order]), whole[:, order])
    torch.testing.assert_close(function(x[0][3:5], x[1][3:5], *y), whole[3:5])


@names
def test_wrong_shapes_are_named(function):
    x, y = clouds(3, 5), clouds(3, 6)
    with pytest.raises(ValueError, match="coordinates"):
        function(*x, *y)
    with pytest.raises(ValueError, match="logvar_y"):
        function(*x, x[0], y[1])


def test_csd_and_mls_against_sampling_and_integration():
    x, y = clouds(1, 3, 7, spread=0.5), clouds(1, 3, 8, spread=0.5)
    torch.manual_seed(0)
    draws = [Normal(mu, (0.5 * logvar).exp()).sample((400_000,)) for mu, logvar in (x, y)]
    sampled = (draws[0] - draws[1]).square().sum(-1)
    error = sampled.std().item() / math.sqrt(len(sampled))
    assert abs(sampled.mean().item() - csd(*x, *y).item()) < 4 * error
    grid = torch.linspace(-12, 12, 6001, dtype=torch.double)[:, None]
    both = sum(Normal(mu, (0.5 * logvar).exp()).log_prob(grid) for mu, logvar in (x, y)).exp()  # (grid, 3)
    log_shared = torch.trapezoid(both, grid, dim=0).log().sum()
    torch.testing.assert_close(log_shared, mls(*x, *y)[0, 0] - 1.5 * math.log(2 * math.pi), rtol=1e-8, atol=1e-8)


def test_wasserstein_of_a_cloud_with_itself_is_zero_and_never_negative():
    x = clouds(30, 64, 9, torch.float32, spread=2.0)
    distance = wasserstein2(*x, *x)
    assert distance.min() >= 0 and distance.diagonal().max() < 1e-3


@pytest.mark.parametrize("level", [-22.0, -6.0, 6.0, 21.0])
def test_products_of_variances_stay_within_single_precision(level):
    mu, logvar = torch.zeros(2, 512), torch.full((2, 512), level)
    expected = -0.5 * 512 * (math.log(2) + level)
    torch.testing.assert_close(mls(mu, logvar, mu, logvar), torch.full((2, 2), expected), rtol=1e-5, atol=0)


def test_query_variance_changes_the_order_under_mls_and_not_under_csd():
    query, gallery = clouds(20, 8, 10, spread=2.0), clouds(50, 8, 11, spread=2.0)
    vaguer = query[0], query[1] + torch.linspace(0, 3, 8, dtype=torch.double)
    assert torch.equal(csd(*query, *gallery).argsort(1), csd(*vaguer, *gallery).argsort(1))
    assert not torch.equal(mls(*query, *gallery).argsort(1), mls(*vaguer, *gallery).argsort(1))
    shifted = gallery[0], gallery[1] + torch.linspace(0, 3, 50, dtype=torch.double)[:, None]
    assert not torch.equal(csd(*query, *gallery).argsort(1), csd(*query, *shifted).argsort(1))


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 5), d=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_kl_equals_torch_distributions(n, d, seed):
    mu, logvar = clouds(n, d, seed, spread=3.0)
    oracle = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(torch.zeros_like(mu), 1.0))
    torch.testing.assert_close(kl_to_standard_normal(mu, logvar, "none"), oracle.sum(1))
    torch.testing.assert_close(kl_to_standard_normal(mu, logvar, "sum"), oracle.sum(1).mean())
    torch.testing.assert_close(kl_to_standard_normal(mu, logvar, "mean"), oracle.mean())
    torch.testing.assert_close(kl_to_standard_normal(mu, logvar, "sum"), d * kl_to_standard_normal(mu, logvar, "mean"))


def test_kl_of_unit_means_leaves_only_the_variance_part():
    raw = torch.randn(5, 7, dtype=torch.double, requires_grad=True)
    kl_to_standard_normal(F.normalize(raw, dim=1), torch.zeros(5, 7, dtype=torch.double), "sum").backward()
    assert raw.grad.abs().max() < 1e-12
    with pytest.raises(ValueError, match="reduction"):
        kl_to_standard_normal(raw, raw, "total")


def matching_loop(inputs, scale, shift, targets, pseudo_weight):
    "Pair by pair; the true pair is the largest target, on the diagonal if that is one of them."
    n, m = targets.shape
    logit = (shift - scale * NAIVE[csd](*inputs)).tolist()

    def true_of(row, i):
        return i if i < len(row) and row[i] == max(row) else row.index(max(row))

    def cost(score, wanted):
        return max(score, 0) - score * wanted + math.log1p(math.exp(-abs(score)))

    rows, columns = targets.tolist(), targets.T.tolist()
    match = pseudo = 0.0
    for i in range(n):
        for j in range(m):
            wanted, mine = rows[i][j], logit[i][j]
            by_row = max(rows[i]) if mine >= logit[i][true_of(rows[i], i)] else wanted
            by_column = max(columns[j]) if mine >= logit[true_of(columns[j], j)][j] else wanted
            match += cost(mine, wanted) / (n * m)
            pseudo += 0.5 * (cost(mine, by_row) + cost(mine, by_column)) / (n * m)
    return match + pseudo_weight * pseudo


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 7), tile=st.integers(1, 8), kinds=st.integers(1, 5), seed=st.integers(0, 10**6))
def test_matching_loss_equals_the_loop(n, tile, kinds, seed):
    inputs = (*clouds(n, 4, seed, spread=1.0), *clouds(n, 4, seed + 1, spread=1.0))
    groups = torch.randint(0, kinds, (n,), generator=torch.Generator().manual_seed(seed))
    for options, targets in (({}, torch.eye(n)), ({"groups": groups}, (groups[:, None] == groups).float())):
        loss = matching_loss(*inputs, 0.3, 4.0, pseudo_weight=0.7, tile=tile, **options)
        assert abs(loss.item() - matching_loop(inputs, 0.3, 4.0, targets, 0.7)) < 1e-9


def test_matching_loss_with_soft_targets_and_unequal_sides():
    inputs = (*clouds(5, 4, 1, spread=1.0), *clouds(3, 4, 2, spread=1.0))
    targets = torch.rand(5, 3, dtype=torch.double, generator=torch.Generator().manual_seed(3))
    loss = matching_loss(*inputs, 0.3, 4.0, targets=targets, pseudo_weight=0.5, tile=2)
    assert abs(loss.item() - matching_loop(inputs, 0.3, 4.0, targets, 0.5)) < 1e-9


def test_matching_gradients_equal_those_of_the_dense_form():
    sides = (*clouds(6, 4, 1, spread=1.0), *clouds(6, 4, 2, spread=1.0))
    numbers = [torch.tensor(x, dtype=torch.double) for x in (0.4, 3.0)]
    leaves = [x.requires_grad_() for x in (*sides, *numbers)]
    groups = torch.tensor([0, 1, 0, 2, 3, 3])
    targets = (groups[:, None] == groups).double()
    logits = leaves[5] - leaves[4] * csd(*leaves[:4])
    bce = F.binary_cross_entropy_with_logits
    dense = bce(logits, targets) + 0.35 * (
        bce(logits, pseudo_targets(logits, targets)) + bce(logits, pseudo_targets(logits.T, targets.T).T)
    )
    tiled = matching_loss(*leaves, groups=groups, pseudo_weight=0.7, tile=4)
    torch.testing.assert_close(tiled, dense)
    for ours, plain in zip(torch.autograd.grad(tiled, leaves), torch.autograd.grad(dense, leaves)):
        torch.testing.assert_close(ours, plain)
    assert torch.autograd.gradcheck(lambda *x: matching_loss(*x, groups=groups, tile=4), leaves)


def test_matching_loss_does_not_depend_on_the_order_of_the_batch():
    x, y, order = clouds(12, 6, 3, spread=1.0), clouds(12, 6, 4, spread=1.0), torch.randperm(12)
    groups = torch.randint(0, 5, (12,))
    mixed = [t[order] for t in (*x, *y)]
    for one, other in zip(
        matching_terms(*x, *y, 0.3, 4.0, groups=groups), matching_terms(*mixed, 0.3, 4.0, groups=groups[order])
    ):
        torch.testing.assert_close(one, other)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 5), m=st.integers(1, 5), seed=st.integers(0, 10**6))
def test_pseudo_targets_equal_the_loop(n, m, seed):
    generator = torch.Generator().manual_seed(seed)
    logits, targets = torch.randn(n, m, generator=generator), torch.rand(n, m, generator=generator).round(decimals=1)
    found, rows = pseudo_targets(logits, targets), targets.tolist()
    for i in range(n):
        on_diagonal = n == m and rows[i][i] == max(rows[i])
        true = i if on_diagonal else rows[i].index(max(rows[i]))
        for j in range(m):
            assert found[i, j].item() == (rows[i][true] if logits[i, j] >= logits[i, true] else rows[i][j])


def test_pseudo_targets_take_the_label_of_the_true_pair():
    logits = torch.tensor([[0.1, 0.5, 0.1], [2.0, 1.0, 3.0], [0.0, 0.0, -1.0]], requires_grad=True)
    targets = torch.tensor([[0.8, 0.1, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    found = pseudo_targets(logits, targets)
    assert found.tolist() == torch.tensor([[0.8, 0.8, 0.8], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]).tolist()
    assert not found.requires_grad


def test_matching_arguments_are_checked():
    x, y = clouds(3, 4), clouds(2, 4)
    with pytest.raises(ValueError, match="need targets"):
        matching_loss(*x, *y)
    with pytest.raises(ValueError, match="groups"):
        matching_loss(*x, *x, groups=torch.zeros(4, dtype=torch.long))
    with pytest.raises(ValueError, match="no pair"):
        matching_loss(x[0][:0], x[1][:0], x[0][:0], x[1][:0])
    with pytest.raises(ValueError, match="not both"):
        matching_loss(*x, *x, targets=torch.eye(3), groups=torch.arange(3))


def test_match_probability_is_half_where_the_line_crosses_zero():
    distance = torch.tensor([0.0, 1.0, 2.0])
    assert match_probability(distance, 5.0, 5.0)[1] == 0.5
    assert (match_probability(distance, 5.0, 5.0).diff() < 0).all()


def test_match_probability_equals_its_equation():
    distance = torch.tensor([[0.2, 1.4, 3.0]], dtype=torch.double)
    expected = [1 / (1 + math.exp(-(2.0 - 1.5 * d))) for d in distance[0].tolist()]
    assert match_probability(distance, 1.5, 2.0)[0].tolist() == pytest.approx(expected)


def test_kl_equals_the_loop():
    mu, logvar = clouds(4, 5, 3, spread=2.0)
    for row, widths, found in zip(mu.tolist(), logvar.tolist(), kl_to_standard_normal(mu, logvar, "none")):
        terms = [math.exp(w) + m * m - 1 - w for m, w in zip(row, widths)]
        assert found.item() == pytest.approx(0.5 * math.fsum(terms))


def test_everything_runs_on_the_meta_device():
    meta = [torch.randn(6, 5, device="meta", requires_grad=True) for _ in range(4)]
    for function in NAIVE:
        scores = function(*meta)
        assert scores.shape == (6, 6)
        scores.sum().backward()
    matching_loss(
        *meta, 5.0, 5.0, groups=torch.zeros(6, dtype=torch.long, device="meta"), pseudo_weight=0.1, tile=4
    ).backward()
    matching_loss(*meta, 5.0, 5.0, targets=torch.ones(6, 6, device="meta")).backward()
    assert kl_to_standard_normal(meta[0], meta[1], "mean").shape == ()


def test_logvar_names_are_used_not_std():
    "One name per quantity: no public function calls a log-variance std or sigma."
    import inspect

    for name in gaussian.__all__:
        assert not {"std", "sigma"} & set(inspect.signature(getattr(gaussian, name)).parameters)


LARGE = """
import resource, torch
from medret_nb.losses.gaussian import matching_loss
torch.manual_seed(0)
inputs = [torch.randn(32768, 64) for _ in range(4)]
for x in inputs: x.requires_grad_(); x.grad = torch.zeros_like(x)
matching_loss(*[x[:256] for x in inputs], pseudo_weight=0.1).backward()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
matching_loss(*inputs, 0.05, 5.0, pseudo_weight=0.1).backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
def test_a_batch_of_32768_needs_less_than_a_gigabyte():
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True)
    extra = int(done.stdout)
    print(f"{extra / 1e6:.0f} MB")
    assert extra < 1e9


def test_of_two_halves_of_a_mixed_film_its_own_report_is_the_true_one():
    "A share of exactly one half: both reports are as true, and the pair on the diagonal is the reference."
    logits = torch.tensor([[0.0, 0.5, 1.0], [1.0, 0.5, 0.0], [0.0, 0.5, 1.0]])
    mixed = torch.tensor([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0], [0.5, 0.0, 0.5]])
    found = pseudo_targets(logits, mixed)
    assert found[0].tolist() == [0.5, 0.5, 0.5]  # all reach the own report's 0; the partner's 1 only itself would
    assert found[2].tolist() == [0.5, 0.0, 0.5]
