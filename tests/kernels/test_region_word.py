"Local scores of all pairs, against a plain loop, finite differences, other blocks, other memory, the meta device."

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from medret_nb.kernels import region_word
from medret_nb.kernels.region_word import attended_scores


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def one_score(items, words, tau_1, tau_2, shares):
    "The equation of `attended_scores` for one film (R, D) and one text (W, D), word by word."
    share = [[(v @ w).item() for w in words] for v in items]
    if shares:
        share = [[math.exp(x) / math.fsum(map(math.exp, row)) for x in row] for row in share]
    total = 0.0
    for t, word in enumerate(words):
        weights = [math.exp(tau_1 * row[t]) for row in share]
        context = sum(weight / math.fsum(weights) * v for weight, v in zip(weights, items))
        total += math.exp(tau_2 * F.cosine_similarity(context, word, dim=0).item())
    return math.log(total)


def scores_loop(items, texts, present, tau_1=4.0, tau_2=5.0, shares=True):
    rows = []
    for v in items:
        found = zip(texts, present, strict=True)
        rows.append([one_score(v, w[p], tau_1, tau_2, shares) if p.any() else -tau_2 for w, p in found])
    return torch.tensor(rows, dtype=torch.double)


def some_words(c, w, d, seed, shortest=0):
    "Words (C, W, D) of texts of different lengths, zeros after their ends, and the mask."
    lengths = torch.randint(shortest, w + 1, (c,), generator=torch.Generator().manual_seed(seed))
    present = torch.arange(w) < lengths[:, None]
    return normal(c, w, d, seed=seed).masked_fill(~present[..., None], 0), present


@settings(max_examples=20, deadline=None)
@given(
    b=st.integers(1, 3),
    c=st.integers(1, 3),
    r=st.integers(1, 5),
    w=st.integers(1, 5),
    tau_2=st.sampled_from([1.0, 5.0]),
    shares=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_scores_equal_the_loop(b, c, r, w, tau_2, shares, seed):
    items, (texts, present) = normal(b, r, 4, seed=seed), some_words(c, w, 4, seed + 1)
    found = attended_scores(items, texts, present, 3.0, tau_2, shares=shares)
    wanted = scores_loop(items, texts, present, 3.0, tau_2, shares)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shares", [True, False])
def test_blocks_of_two_give_the_same_scores_and_gradients(monkeypatch, shares):
    items, (texts, present) = normal(5, 7, 6, seed=1), some_words(4, 6, 6, 2, shortest=1)
    taus = [torch.tensor(tau, dtype=torch.double, requires_grad=True) for tau in (4.0, 5.0)]
    leaves = [items.requires_grad_(), texts.requires_grad_(), *taus]

    def score(v, w, first, second):
        return attended_scores(v, w, present, first, second, shares=shares)

    whole = score(*leaves)
    gradients = torch.autograd.grad(whole.square().sum(), leaves)
    monkeypatch.setattr(
        region_word, "_item_blocks", lambda items, count: [slice(i, i + 2) for i in range(0, len(items), 2)]
    )
    blocks = score(*leaves)
    torch.testing.assert_close(blocks, whole)
    torch.testing.assert_close(torch.autograd.grad(blocks.square().sum(), leaves), gradients)
    assert torch.autograd.gradcheck(score, leaves)


def test_channels_first_features_give_the_same_gradient():
    "A convolution's features are a transposed view; nothing may rely on how they lie in memory."
    items, words, present = normal(3, 7, 5), normal(2, 4, 5, seed=1), torch.ones(2, 4, dtype=torch.bool)
    plain = [x.clone().requires_grad_() for x in (items, words)]
    turned = [x.transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for x in (items, words)]
    gradients = []
    for leaves in (plain, turned):
        scores = attended_scores(*leaves, present, 4.0, 5.0)
        gradients.append(torch.autograd.grad(scores.square().sum(), leaves))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("count", [1, 1000, 10**9])
def test_item_blocks_cover_all_items(count):
    items = torch.zeros(11, 3, 2)
    blocks = region_word._item_blocks(items, count)
    assert [i for block in blocks for i in range(11)[block]] == list(range(11))


def test_a_text_without_words_gets_the_lowest_score_and_no_gradient():
    items, texts = normal(2, 3, 4).requires_grad_(), torch.zeros(1, 5, 4, dtype=torch.double, requires_grad=True)
    scores = attended_scores(items, texts, torch.zeros(1, 5, dtype=torch.bool), 4.0, 5.0)
    assert (scores == -5.0).all()
    scores.sum().backward()
    assert (items.grad == 0).all() and (texts.grad == 0).all()


def test_runs_on_the_meta_device():
    items = torch.ones(2, 5, 4, device="meta", requires_grad=True)
    texts = torch.ones(3, 6, 4, device="meta", requires_grad=True)
    present = torch.ones(3, 6, dtype=torch.bool, device="meta")
    attended_scores(items, texts, present, 4.0, 5.0).sum().backward()
    assert items.grad.shape == items.shape and texts.grad.shape == texts.shape
