"Pooling, attention, all-pairs scores and the loss at one place against loops, finite differences, the meta device."

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from medret_nb.losses.region_word import (
    attend,
    box_weights,
    graded_targets,
    location_contrast,
    pool_boxes,
    region_word_scores,
    sentence_walk,
    times_even,
    walk_loss,
    word_attention,
)


def normal(*shape, seed=0, dtype=torch.double):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def score_loop(items, texts, item_mask, mask, attention=4.0, pool=5.0, shares=True):
    "One film and one text at a time, without padding, the context vectors made."
    out = torch.full((len(items), len(texts)), -pool, dtype=items.dtype)
    for i in range(len(items)):
        for j in range(len(texts)):
            v, w = items[i][item_mask[i]], texts[j][mask[j]]
            if not len(w):
                continue
            if not len(v):
                out[i, j] = math.log(len(w))
                continue  # cosine 0 for every word
            inner = (v @ w.T).softmax(1) if shares else v @ w.T
            alpha = ((attention * inner).softmax(0)).T  # (W, R)
            out[i, j] = (pool * F.cosine_similarity(alpha @ v, w, dim=1)).exp().sum().log()
    return out


def lengths_mask(n, longest, seed, shortest=0):
    lengths = torch.randint(shortest, longest + 1, (n,), generator=torch.Generator().manual_seed(seed))
    return torch.arange(longest) < lengths[:, None]


@settings(max_examples=25, deadline=None)
@given(
    b=st.integers(1, 4),
    c=st.integers(1, 4),
    r=st.integers(1, 6),
    w=st.integers(1, 6),
    d=st.integers(1, 7),
    shares=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_scores_equal_the_loop_both_ways(b, c, r, w, d, shares, seed):
    regions, words = normal(b, r, d, seed=seed), normal(c, w, d, seed=seed + 1)
    mask, region_mask = lengths_mask(c, w, seed), lengths_mask(b, r, seed + 1)
    ours = region_word_scores(regions, words, mask, region_mask, shares=shares)
    wanted = score_loop(regions, words, region_mask, mask, shares=shares)
    torch.testing.assert_close(ours, wanted, rtol=1e-6, atol=1e-6)
    back = region_word_scores(regions, words, mask, region_mask, look="regions", shares=shares)
    wanted = score_loop(words, regions, mask, region_mask, shares=shares).T
    torch.testing.assert_close(back, wanted, rtol=1e-6, atol=1e-6)


def test_gradients_equal_those_of_the_loop():
    regions, words, mask = normal(5, 7, 6, seed=1), normal(4, 6, 6, seed=2), lengths_mask(4, 6, 3, shortest=1)
    leaves = [regions.requires_grad_(), words.requires_grad_()]
    assert torch.autograd.gradcheck(lambda v, w: region_word_scores(v, w, mask), leaves)
    present = torch.ones(5, 7, dtype=torch.bool)
    plain = torch.autograd.grad(score_loop_graph(regions, words, mask).square().sum(), leaves)
    ours = torch.autograd.grad(region_word_scores(regions, words, mask, present).square().sum(), leaves)
    for x, y in zip(ours, plain):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("look", ["words", "regions"])
def test_temperatures_get_the_gradients_of_the_loop(shares, look):
    regions, words, mask = normal(3, 4, 5, seed=1), normal(2, 6, 5, seed=2), lengths_mask(2, 6, 3, shortest=1)
    seen = lengths_mask(3, 4, 5, shortest=1)
    taus = [torch.tensor(tau, dtype=torch.double, requires_grad=True) for tau in (3.0, 2.0)]
    leaves = [regions.requires_grad_(), words.requires_grad_(), *taus]

    def score(v, w, first, second):
        return region_word_scores(v, w, mask, seen, look, first, second, shares)

    assert torch.autograd.gradcheck(score, leaves)
    assert torch.equal(score(*leaves), region_word_scores(regions, words, mask, seen, look, 3.0, 2.0, shares))


def test_sharp_attention_neither_overflows_nor_loses_the_present():
    "Temperatures of a thousandth, cosines of -1, a missing region whose zero vector would be the largest."
    regions, words = torch.eye(3)[None, :2].clone(), -torch.eye(3)[None, :1]
    regions[0, 1] = -regions[0, 0]
    only = torch.tensor([[True, False]])
    word = torch.ones(1, 1, dtype=torch.bool)
    for present, cosine in ((only, -1.0), (torch.ones_like(only), 1.0)):
        score = region_word_scores(regions, words, word, present, "words", 1000.0, 5.0, shares=False)
        assert score.item() == pytest.approx(5 * cosine, abs=1e-4)


def attention_loop(v, w, tau, shares):
    "One film and its report, number by number: weights (R, W)."
    inner = [[float(a @ b) for b in w] for a in v]
    if shares:
        inner = [[math.exp(x) / math.fsum(map(math.exp, row)) for x in row] for row in inner]
    raised = [[math.exp(tau * x) for x in row] for row in inner]
    sums = [math.fsum(row[t] for row in raised) for t in range(len(w))]
    return [[row[t] / sums[t] for t in range(len(w))] for row in raised]


@settings(max_examples=20, deadline=None)
@given(
    r=st.integers(1, 5), w=st.integers(1, 5), shares=st.booleans(), tau=st.sampled_from([1.0, 8.0]), seed=st.integers(0)
)
def test_word_attention_equals_the_loop(r, w, shares, tau, seed):
    seed = seed % 10**6
    regions, words = normal(3, r, 4, seed=seed), normal(3, w, 4, seed=seed + 1)
    mask, seen = lengths_mask(3, w, seed), lengths_mask(3, r, seed + 1)
    spoilt = words.masked_fill(~mask[..., None], torch.nan)
    found = word_attention(regions.masked_fill(~seen[..., None], torch.nan), spoilt, mask, seen, tau, shares)
    for b in range(3):
        wanted = torch.zeros(r, w, dtype=torch.double)
        if seen[b].any() and mask[b].any():
            part = attention_loop(regions[b][seen[b]], words[b][mask[b]], tau, shares)
            wanted[: seen[b].sum(), : mask[b].sum()] = torch.tensor(part, dtype=torch.double)
        torch.testing.assert_close(found[b], wanted, rtol=1e-6, atol=1e-9)


def test_a_planted_alignment_is_seen_without_the_first_softmax_alone():
    "Ten regions, thirty words, one of which is its region's own vector: .120 by GLoRIA's form, even is .1."
    regions, words = torch.eye(11)[:10][None], torch.eye(11)[[4] + [10] * 29][None]
    mask = torch.ones(1, 30, dtype=torch.bool)
    assert word_attention(regions, words, mask)[0, 4, 0].item() == pytest.approx(0.1204, abs=2e-4)
    direct = word_attention(regions, words, mask, attention_scale=10.0, shares=False)
    assert direct[0, 4, 0].item() == pytest.approx(math.exp(10) / (math.exp(10) + 9), rel=1e-5)
    torch.testing.assert_close(direct[0, :, 1:], torch.full((10, 29), 0.1))


def test_even_looks_count_once_perfect_ones_as_often_as_there_are_regions():
    own = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 1, 1, 1]]).bool()
    there = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1]]).bool()
    even = there / there.sum(1, keepdim=True)
    found = times_even(even, own, there)
    assert found[[0, 1, 3]].tolist() == pytest.approx([1, 1, 1]) and found[2].isnan()
    perfect = (own & there) / own.sum(1, keepdim=True)
    assert times_even(perfect, own, there)[[0, 1, 3]].tolist() == pytest.approx([2, 3, 1])
    assert times_even(1.0 * ~own * there / 2, own, there)[[0, 1, 3]].tolist() == [0, 0, 0]


def walk_by_steps(v, w, sentence, tau):
    "P (R, R) of one film and its report, whose words (W, D) belong to sentences (W,), step by step."
    inner = [[tau * float(a @ b) for b in w] for a in v]
    out = torch.zeros(len(v), len(v), dtype=torch.double)
    parts = [[t for t in range(len(w)) if sentence[t] == s] for s in sorted(set(sentence) - {-1})]
    for m in range(len(v)):
        pull = [math.exp(sum(inner[m][t] for t in part) / len(part)) for part in parts]
        for n in range(len(v)):
            for part, strength in zip(parts, pull, strict=True):
                heed = [math.exp(inner[n][t]) / math.fsum(math.exp(row[t]) for row in inner) for t in part]
                out[m, n] += strength / math.fsum(pull) * sum(heed) / len(part)
    return out


def some_sentences(n, longest, seed):
    "Sentence numbers (n, longest) of texts of different lengths, -1 at the edges and after the end."
    generator = torch.Generator().manual_seed(seed)
    ends = torch.rand(n, longest, generator=generator) < 0.4
    numbers = ends.long().cumsum(1) - ends.long()
    numbers[:, 0] = -1
    return numbers.masked_fill(~lengths_mask(n, longest, seed), -1)


@settings(max_examples=20, deadline=None)
@given(r=st.integers(1, 5), w=st.integers(1, 7), seed=st.integers(0, 10**6))
def test_the_walk_and_its_loss_equal_the_loop(r, w, seed):
    regions, words = normal(3, r, 4, seed=seed), normal(3, w, 4, seed=seed + 1)
    sentence, seen = some_sentences(3, w, seed), lengths_mask(3, r, seed + 1)
    wanted = torch.rand(3, r, r, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    wanted = wanted * (wanted > 0.5) * (seen[:, :, None] & seen[:, None])
    spoilt = words.masked_fill(sentence[..., None] < 0, torch.nan)
    found = sentence_walk(regions.masked_fill(~seen[..., None], torch.nan), spoilt, sentence, seen, 2.0)
    costs = []
    for b in range(3):
        chances = torch.zeros(r, r, dtype=torch.double)
        k = int(seen[b].sum())
        chances[:k, :k] = walk_by_steps(regions[b][seen[b]], words[b], sentence[b].tolist(), 2.0)
        torch.testing.assert_close(found[b], chances, rtol=1e-6, atol=1e-9)
        if (sentence[b] >= 0).any():
            torch.testing.assert_close(found[b, :k].sum(1), torch.ones(k, dtype=torch.double))
        for m in range(k):
            share = wanted[b, m] / wanted[b, m].sum()
            if wanted[b, m].sum() > 0:
                costs.append(-sum(share[n].item() * math.log(max(chances[m, n], 1e-6)) for n in range(r)))
    assert walk_loss(found, wanted).item() == pytest.approx(sum(costs) / max(len(costs), 1), rel=1e-6, abs=1e-9)


def test_a_planted_report_leads_back_to_where_it_is_said():
    "Three regions, each the subject of one sentence of two words: at a high temperature every walk returns."
    regions = torch.eye(3)[None]
    words, sentence = torch.eye(3)[[0, 0, 1, 1, 2, 2]][None], torch.tensor([[0, 0, 1, 1, 2, 2]])
    walk = sentence_walk(regions, words, sentence, scale=50.0)
    torch.testing.assert_close(walk, torch.eye(3)[None])
    assert walk_loss(walk, torch.eye(3)[None]) == 0
    shared = torch.zeros(1, 6, dtype=torch.long)  # one sentence about all: it leads anywhere
    torch.testing.assert_close(sentence_walk(regions, words, shared, scale=50.0), torch.full((1, 3, 3), 1 / 3))


def test_the_walk_has_gradients_everywhere_and_none_in_padding():
    regions, words, sentence = normal(2, 3, 4), normal(2, 6, 4, seed=1), some_sentences(2, 6, 2)
    scale = torch.tensor(3.0, dtype=torch.double, requires_grad=True)
    leaves = [regions.requires_grad_(), words.requires_grad_(), scale]
    wanted = torch.eye(3, dtype=torch.double).expand(2, 3, 3)
    assert torch.autograd.gradcheck(lambda v, w, s: walk_loss(sentence_walk(v, w, sentence, None, s), wanted), leaves)
    walk_loss(sentence_walk(regions, words, sentence, None, 500.0 * scale), wanted).backward()
    assert all(torch.isfinite(leaf.grad).all() for leaf in leaves) and words.grad[sentence < 0].abs().sum() == 0
    assert walk_loss(sentence_walk(regions, words, sentence), torch.zeros(2, 3, 3, dtype=torch.double)) == 0


def score_loop_graph(regions, words, mask):
    columns = []
    for w, present in zip(words, mask):
        w = w[present]
        alpha = (4.0 * (regions @ w.T).softmax(-1)).softmax(1).transpose(1, 2)
        columns.append((5.0 * F.cosine_similarity(alpha @ regions, w[None], dim=-1)).exp().sum(1).log())
    return torch.stack(columns, 1)


def test_padding_and_other_studies_leave_a_score_alone():
    regions, words, mask = normal(3, 8, 6), normal(4, 5, 6, seed=1), lengths_mask(4, 5, 2, shortest=1)
    whole = region_word_scores(regions, words, mask)
    padded = torch.cat([words, normal(4, 3, 6, seed=4) * 50], 1).masked_fill(~F.pad(mask, (0, 3))[..., None], torch.nan)
    torch.testing.assert_close(region_word_scores(regions, padded, F.pad(mask, (0, 3))), whole)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(region_word_scores(regions, words[order], mask[order]), whole[:, order])
    torch.testing.assert_close(region_word_scores(regions[1:2], words, mask), whole[1:2])


def test_padding_receives_no_gradient_and_an_empty_report_gives_no_nan():
    regions, words = normal(2, 4, 5).requires_grad_(), normal(3, 6, 5, seed=1).requires_grad_()
    mask = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]], dtype=torch.bool)
    scores = region_word_scores(regions, words, mask)
    assert (scores[:, 2] == -5.0).all()
    scores.sum().backward()
    assert torch.isfinite(words.grad).all() and torch.isfinite(regions.grad).all()
    assert words.grad[~mask].abs().max() == 0 and words.grad[0, :3].abs().min() > 0


def test_score_arguments_are_checked():
    regions, words, mask = normal(2, 4, 5), normal(3, 6, 5), torch.ones(3, 6, dtype=torch.bool)
    with pytest.raises(ValueError, match="look"):
        region_word_scores(regions, words, mask, look="both")
    with pytest.raises(ValueError, match="mask"):
        region_word_scores(regions, words, mask[:, :4])


@settings(max_examples=25, deadline=None)
@given(h=st.integers(1, 6), w=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_box_weights_are_covered_areas(h, w, seed):
    corner = torch.rand(3, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.double) * 1.4 - 0.3
    boxes = torch.cat(
        [corner, corner + torch.rand(3, 2, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.double)], 1
    )
    found = box_weights(boxes, h, w)
    for box, weights in zip(boxes.tolist(), found):
        area = torch.zeros(h, w, dtype=torch.double)
        for i in range(h):
            for j in range(w):
                across = max(0, min(box[2], (j + 1) / w) - max(box[0], j / w))
                down = max(0, min(box[3], (i + 1) / h) - max(box[1], i / h))
                area[i, j] = across * down
        if area.sum() > 1e-9:
            torch.testing.assert_close(weights, area / area.sum())


def test_boxes_without_area_or_unknown_give_zeros():
    boxes = torch.tensor([[[0.2, 0.2, 0.2, 0.8], [2.0, 0.0, 3.0, 1.0], [torch.nan] * 4, [0.0, 0.0, 1.0, 1.0]]])
    pooled = pool_boxes(torch.ones(1, 4, 4, 2), boxes)
    assert pooled[0, :3].abs().max() == 0 and torch.allclose(pooled[0, 3], torch.ones(2))


def test_pooling_follows_a_patch_that_moves():
    patches = torch.zeros(1, 6, 6, 1)
    patches[0, 2, 3] = 1.0
    boxes = torch.tensor([[[3 / 6, 2 / 6, 4 / 6, 3 / 6], [0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]]])
    torch.testing.assert_close(pool_boxes(patches, boxes)[0, :, 0], torch.tensor([1.0, 0.0, 1 / 18]))


def test_attention_is_a_masked_softmax():
    queries, keys, mask = normal(3, 2, 5), normal(3, 7, 5, seed=1), lengths_mask(3, 7, 2, shortest=1)
    attended, weights = attend(queries, keys.masked_fill(~mask[..., None], torch.nan), mask, 0.7)
    for b in range(3):
        kept = keys[b][mask[b]]
        expected = (queries[b] @ kept.T / 0.7).softmax(1)
        torch.testing.assert_close(weights[b][:, mask[b]], expected)
        torch.testing.assert_close(attended[b], expected @ kept)
        assert weights[b][:, ~mask[b]].abs().sum() == 0
    nothing = attend(queries, keys, torch.zeros(3, 7, dtype=torch.bool))[0]
    assert nothing.abs().max() == 0


@settings(max_examples=25, deadline=None)
@given(b=st.integers(1, 5), r=st.integers(1, 3), seed=st.integers(0, 10**6))
def test_graded_targets_are_overlap_over_union(b, r, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, 2, (b, r, 4), generator=generator).float()
    labels[torch.rand(b, r, 4, generator=generator) < 0.2] = torch.nan
    mask = torch.rand(b, r, generator=generator) < 0.8
    found = graded_targets(labels, mask)
    amount = {1.0: 1.0, -1.0: 0.5}
    for i in range(b):
        for j in range(b):
            for m in range(r):
                pairs = [
                    (amount.get(x, 0), amount.get(y, 0)) for x, y in zip(labels[i, m].tolist(), labels[j, m].tolist())
                ]
                union = sum(map(max, pairs))
                expected = (sum(map(min, pairs)) / union if union else 1.0) if mask[i, m] and mask[j, m] else 0.0
                assert abs(found[i, j, m].item() - expected) < 1e-6
    assert torch.equal(found, found.transpose(0, 1))


def location_loop(regions, phrases, targets, temperature, seen, said):
    total, count = 0.0, 0
    for a, b, have_a, have_b, wanted in (
        (regions, phrases, seen, said, targets),
        (phrases, regions, said, seen, targets.transpose(0, 1)),
    ):
        for i in range(len(a)):
            for m in range(a.shape[1]):
                others = [j for j in range(len(b)) if have_b[j, m]]
                grade = [wanted[i, j, m].item() for j in others]
                if not have_a[i, m] or sum(grade) == 0:
                    continue
                odds = [math.exp((a[i, m] @ b[j, m]).item() / temperature) for j in others]
                total -= sum(g / sum(grade) * math.log(o / sum(odds)) for g, o in zip(grade, odds))
                count += 1
    return total / max(count, 1)


@settings(max_examples=20, deadline=None)
@given(b=st.integers(1, 5), r=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_location_contrast_equals_the_loop(b, r, seed):
    generator = torch.Generator().manual_seed(seed)
    regions, phrases = (F.normalize(normal(b, r, 5, seed=seed + k), dim=-1) for k in (0, 1))
    seen, said = (torch.rand(b, r, generator=generator) < 0.7 for _ in range(2))
    targets = torch.rand(b, b, r, generator=generator, dtype=torch.double) * (
        torch.rand(b, b, r, generator=generator) < 0.5
    )
    found = location_contrast(regions, phrases, targets, 0.3, seen, said)
    assert abs(found.item() - location_loop(regions, phrases, targets, 0.3, seen, said)) < 1e-9


def test_location_contrast_gradients_and_missing_regions():
    leaves = [normal(4, 3, 5, seed=k).requires_grad_() for k in (1, 2)]
    seen = torch.ones(4, 3, dtype=torch.bool)
    seen[1, 2] = False
    targets = torch.rand(4, 4, 3, dtype=torch.double)
    assert torch.autograd.gradcheck(lambda v, w: location_contrast(v, w, targets, 0.5, seen, seen), leaves)
    location_contrast(*leaves, targets, 0.5, seen, seen).backward()
    assert leaves[0].grad[1, 2].abs().max() == 0
    with torch.no_grad():
        leaves[0][1, 2] = torch.nan
    assert torch.isfinite(location_contrast(*leaves, targets, 0.5, seen, seen))


def test_regions_are_compared_with_the_same_region_only():
    regions, phrases = normal(4, 3, 5).requires_grad_(), normal(4, 3, 5, seed=1)
    targets = torch.zeros(4, 4, 3, dtype=torch.double)
    targets[..., 1] = 1.0
    location_contrast(regions, phrases, targets, 0.5).backward()
    assert regions.grad[:, 1].abs().min() > 0 and regions.grad[:, [0, 2]].abs().max() == 0


def test_everything_runs_on_the_meta_device():
    def meta(*shape, dtype=torch.float32):
        return torch.ones(*shape, dtype=dtype, device="meta")

    regions, words = meta(2, 5, 4).requires_grad_(), meta(3, 6, 4).requires_grad_()
    told, seen = meta(3, 6, dtype=torch.bool), meta(2, 5, dtype=torch.bool)
    for look, shares in itertools.product(("words", "regions"), (True, False)):
        scores = region_word_scores(regions, words, told, seen, look, torch.ones((), device="meta"), 5.0, shares)
        assert scores.shape == (2, 3)
        scores.sum().backward()
    assert word_attention(regions, words[:2], told[:2], seen).shape == (2, 5, 6)
    numbers = meta(2, 6, dtype=torch.long)
    walk_loss(sentence_walk(regions, words[:2], numbers, seen), meta(2, 5, 5)).backward()
    assert pool_boxes(meta(2, 4, 4, 3), meta(2, 5, 4)).shape == (2, 5, 3)
    assert attend(meta(2, 3, 4), meta(2, 6, 4), meta(2, 6, dtype=torch.bool))[0].shape == (2, 3, 4)
    targets = graded_targets(meta(2, 5, 3), meta(2, 5, dtype=torch.bool))
    location_contrast(regions, meta(2, 5, 4), targets).backward()
