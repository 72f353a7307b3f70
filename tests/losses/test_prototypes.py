"Prototypes, balanced codes and confidence against loops, known answers and the meta device."

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from medret_nb.losses.prototypes import (
    confidence_loss,
    confidence_weighted,
    distribution_confidence,
    diversity,
    pool_prototypes,
    prototype_scores,
    prototype_vector,
    sinkhorn_codes,
    swapped_prediction,
)


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double), dim=-1)


@settings(max_examples=25, deadline=None)
@given(b=st.integers(1, 4), n=st.integers(1, 6), k=st.integers(1, 4), d=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_pooling_equals_the_loop_and_ignores_padding(b, n, k, d, seed):
    features, queries = unit(b, n, d, seed=seed) * 3, unit(k, d, seed=seed + 1)
    mask = torch.arange(n) < torch.randint(1, n + 1, (b,), generator=torch.Generator().manual_seed(seed))[:, None]
    pooled, weights = pool_prototypes(features.masked_fill(~mask[..., None], torch.nan), queries, mask)
    for i in range(b):
        kept = features[i][mask[i]]
        expected = (queries @ kept.T / math.sqrt(d)).softmax(1)
        torch.testing.assert_close(weights[i][:, mask[i]], expected)
        torch.testing.assert_close(pooled[i], F.normalize(expected @ kept, dim=1))
        assert weights[i][:, ~mask[i]].abs().sum() == 0


def test_a_study_without_features_gives_zeros_and_finite_gradients():
    features, queries = unit(2, 3, 4).requires_grad_(), unit(2, 4, seed=1).requires_grad_()
    mask = torch.tensor([[True, True, False], [False, False, False]])
    pooled, _ = pool_prototypes(features, queries, mask)
    assert pooled[1].abs().max() == 0
    pooled.sum().backward()
    assert torch.isfinite(features.grad).all() and torch.isfinite(queries.grad).all()


def test_prototype_scores_equal_the_loop():
    x, y = [unit(4, 3, 5, seed=1), unit(4, 2, 5, seed=2)], [unit(6, 3, 5, seed=3), unit(6, 2, 5, seed=4)]
    weights = torch.tensor([0.3, 0.7], dtype=torch.double)
    found = prototype_scores(x, y, weights)
    for i in range(4):
        for j in range(6):
            expected = sum(
                w * sum(a[i, k] @ b[j, k] for k in range(a.shape[1])) / a.shape[1] for a, b, w in zip(x, y, weights)
            )
            assert abs(found[i, j] - expected) < 1e-12
    torch.testing.assert_close(prototype_vector(x, weights).norm(dim=1), torch.ones(4, dtype=torch.double))
    leaves = [t.requires_grad_() for t in (x[0], x[1], weights)]
    assert torch.autograd.gradcheck(lambda a, b, w: prototype_scores([a, b], y, w), leaves)
    with pytest.raises(ValueError, match="levels"):
        prototype_vector(x, weights[:1])


def test_diversity_of_known_arrangements():
    assert diversity(torch.eye(5)) == 0 and diversity(torch.ones(3, 1, 4)) == 0
    torch.testing.assert_close(diversity(torch.ones(4, 1)), torch.tensor(1.0))
    prototypes = unit(3, 4, 6)
    expected = sum(float(p[a] @ p[b]) ** 2 for p in prototypes for a in range(4) for b in range(4) if a != b) / (3 * 12)
    assert abs(diversity(prototypes).item() - expected) < 1e-12
    assert torch.autograd.gradcheck(diversity, prototypes.requires_grad_())


@settings(max_examples=20, deadline=None)
@given(b=st.integers(2, 30), k=st.integers(2, 6), seed=st.integers(0, 10**6))
def test_sinkhorn_balances_rows_and_columns(b, k, seed):
    scores = torch.randn(b, k, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    codes = sinkhorn_codes(scores, epsilon=0.5, iterations=200)
    torch.testing.assert_close(codes.sum(1), torch.ones(b, dtype=torch.double))
    torch.testing.assert_close(codes.sum(0), torch.full((k,), b / k, dtype=torch.double), rtol=1e-3, atol=1e-3)
    q = (scores / 0.5).exp()
    for _ in range(3):
        q = q / q.sum(0, keepdim=True)
        q = q / q.sum(1, keepdim=True)
    torch.testing.assert_close(sinkhorn_codes(scores, 0.5, 3), q)


def test_sinkhorn_follows_the_batch_order_and_survives_large_scores():
    scores, order = 50 * unit(12, 5), torch.randperm(12)
    codes = sinkhorn_codes(scores)
    assert torch.isfinite(codes).all()
    torch.testing.assert_close(sinkhorn_codes(scores[order]), codes[order])


def test_swapped_prediction_prefers_agreement_and_has_the_right_gradient():
    x, y = unit(10, 4, seed=1), unit(10, 4, seed=2)
    assert swapped_prediction(x, x) < swapped_prediction(x, y)
    code_x, code_y = sinkhorn_codes(x), sinkhorn_codes(y)
    expected = (
        -0.5
        * sum(
            (code_y[i] * (x[i] / 0.2).log_softmax(0)).sum() + (code_x[i] * (y[i] / 0.2).log_softmax(0)).sum()
            for i in range(10)
        )
        / 10
    )
    torch.testing.assert_close(swapped_prediction(x, y), expected)
    leaf = x.clone().requires_grad_()  # codes carry no gradient: softmax minus code remains
    swapped_prediction(leaf, y).backward()
    torch.testing.assert_close(leaf.grad, ((x / 0.2).softmax(1) - code_y) / (0.2 * 2 * 10))


def test_confidence_of_known_distributions():
    low = -1e4
    scores = torch.tensor([[0.0, low, low, low], [0.0, 0.0, low, low], [1.0, 1.0, 1.0, 1.0]])
    torch.testing.assert_close(distribution_confidence(scores, 1.0), torch.tensor([1.0, 0.5, 0.0]), atol=1e-6, rtol=0)
    assert distribution_confidence(torch.zeros(2, 1), 1.0).tolist() == [1.0, 1.0]


@settings(max_examples=25, deadline=None)
@given(m=st.integers(2, 30), seed=st.integers(0, 10**6))
def test_confidence_is_one_minus_normalised_entropy(m, seed):
    scores = torch.randn(3, m, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    found = distribution_confidence(scores, 0.3)
    for row, value in zip(scores, found):
        entropy = torch.distributions.Categorical(logits=row / 0.3).entropy()
        assert abs(value - (1 - entropy / math.log(m))) < 1e-9
    assert ((found >= 0) & (found <= 1)).all()


def test_confidence_over_the_best_ignores_a_longer_gallery():
    best, rest = torch.rand(4, 10) + 1, torch.rand(4, 90) - 1
    torch.testing.assert_close(
        distribution_confidence(torch.cat([best, rest], 1), 0.1, top=10), distribution_confidence(best, 0.1)
    )


def test_a_query_only_factor_keeps_the_order_and_a_mixture_does_not():
    generator = torch.Generator().manual_seed(0)
    whole, local = torch.randn(30, 40, generator=generator), torch.randn(30, 40, generator=generator)
    query, gallery = torch.rand(30, generator=generator) + 0.05, torch.rand(40, generator=generator)
    order = (whole + local).argsort(1)
    assert torch.equal((query[:, None] * (whole + local)).argsort(1), order)
    mixed = confidence_weighted(whole, local, query.clamp_max(1), torch.ones(40))
    assert not torch.equal(mixed.argsort(1), order)
    same_query = confidence_weighted(whole, local, torch.ones(30), torch.ones(40))
    both = confidence_weighted(whole, local, torch.ones(30), gallery)
    torch.testing.assert_close(same_query, whole + local)
    assert not torch.equal(both.argsort(1), order)


def test_confidence_weight_by_hand_and_for_a_shortlist():
    whole, local = torch.tensor([[0.6, 0.2]]), torch.tensor([[0.5, 1.0]])
    expected = torch.tensor([[0.6 + 0.45 * 0.5, 0.2 + 0.9 * 1.0]])
    torch.testing.assert_close(
        confidence_weighted(whole, local, torch.tensor([0.81]), torch.tensor([0.25, 1.0])), expected
    )
    torch.testing.assert_close(
        confidence_weighted(whole, local, torch.tensor([0.81]), torch.tensor([[0.25, 1.0]])), expected
    )


def test_confidence_loss_is_binary_cross_entropy_and_finite_at_the_ends():
    confidence, correct = torch.tensor([0.2, 0.9, 0.5]), torch.tensor([True, False, True])
    torch.testing.assert_close(
        confidence_loss(confidence, correct), F.binary_cross_entropy(confidence, correct.float())
    )
    assert torch.isfinite(confidence_loss(torch.tensor([0.0, 1.0]), torch.tensor([True, False])))


def test_the_long_vector_is_its_equation():
    levels, weights = [unit(2, 3, 4, seed=1), unit(2, 2, 4, seed=2)], torch.tensor([0.3, 0.7], dtype=torch.double)
    found = prototype_vector(levels, weights)
    for b in range(2):
        expected = []
        for weight, level in zip(weights.tolist(), levels):
            count = level.shape[1]
            for k in range(count):
                expected += [math.sqrt(weight / count) * x for x in level[b, k].tolist()]
        assert found[b].tolist() == pytest.approx(expected)


def sinkhorn_loop(scores, epsilon, turns):
    q = [[math.exp(s / epsilon) for s in row] for row in scores.tolist()]
    studies, prototypes = range(len(q)), range(len(q[0]))
    for _ in range(turns):
        for k in prototypes:
            total = math.fsum(q[b][k] for b in studies)
            for b in studies:
                q[b][k] /= total
        for b in studies:
            total = math.fsum(q[b])
            q[b] = [x / total for x in q[b]]
    return q


def test_codes_and_swapped_prediction_equal_the_loop():
    x, y = unit(6, 4, seed=3), unit(6, 4, seed=4)
    codes = [sinkhorn_loop(scores, 0.5, 2) for scores in (x, y)]
    for scores, q in ((x, codes[0]), (y, codes[1])):
        found = sinkhorn_codes(scores, 0.5, 2).tolist()
        assert sum(found, []) == pytest.approx(sum(q, []))
    total = 0.0
    for scores, q in ((x, codes[1]), (y, codes[0])):
        for b in range(6):
            odds = [math.exp(s / 0.2) for s in scores[b].tolist()]
            total -= math.fsum(q[b][k] * math.log(odds[k] / math.fsum(odds)) for k in range(4))
    assert swapped_prediction(x, y, 0.2, 0.5, 2).item() == pytest.approx(total / 12)


def test_confidence_equals_the_loop():
    scores = torch.randn(3, 8, generator=torch.Generator().manual_seed(5), dtype=torch.double)
    for row, found, best in zip(
        scores.tolist(), distribution_confidence(scores, 0.4), distribution_confidence(scores, 0.4, top=3)
    ):
        for kept, value in ((row, found), (sorted(row)[-3:], best)):
            odds = [math.exp(s / 0.4) for s in kept]
            shares = [o / math.fsum(odds) for o in odds]
            entropy = -math.fsum(p * math.log(p) for p in shares)
            assert value.item() == pytest.approx(1 - entropy / math.log(len(kept)))


def test_weighting_and_its_loss_equal_the_loop():
    whole, local = unit(3, 4, seed=6), unit(3, 4, seed=7)
    query, gallery = torch.tensor([0.1, 0.5, 0.9]).double(), torch.tensor([0.2, 0.4, 0.6, 0.8]).double()
    found = confidence_weighted(whole, local, query, gallery, 0.7)
    for i in range(3):
        for j in range(4):
            pair = math.sqrt(query[i].item() * gallery[j].item())
            assert found[i, j].item() == pytest.approx(whole[i, j].item() + 0.7 * pair * local[i, j].item())
    correct = [True, False, True]
    costs = [-math.log(c) if right else -math.log(1 - c) for c, right in zip(query.tolist(), correct)]
    assert confidence_loss(query, torch.tensor(correct)).item() == pytest.approx(math.fsum(costs) / 3)


def test_everything_runs_on_the_meta_device():
    def meta(*shape, dtype=torch.float32):
        return torch.ones(*shape, dtype=dtype, device="meta")

    features = meta(2, 5, 4).requires_grad_()
    pooled, weights = pool_prototypes(features, meta(3, 4), meta(2, 5, dtype=torch.bool))
    assert pooled.shape == (2, 3, 4) and weights.shape == (2, 3, 5)
    scores = prototype_scores([pooled], [pooled], meta(1))
    loss = diversity(pooled) + scores.sum() + swapped_prediction(pooled[:, 0], pooled[:, 1])
    confidence = distribution_confidence(scores, 0.1, top=2)
    (
        loss + confidence_loss(confidence, meta(2)) + confidence_weighted(scores, scores, confidence, confidence).sum()
    ).backward()
