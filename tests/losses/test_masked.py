"Keyed masks, reconstruction losses, the order of mapping and pooling: loops, known answers, the meta device."

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from medret_nb.data.counters import keyed_noise
from medret_nb.losses.masked import (
    attention_mean,
    keep_patches,
    keep_tokens,
    mask_words,
    masked_mean,
    masked_pixel_loss,
    masked_word_loss,
    patchify,
    restore_tokens,
    unpatchify,
)


@settings(max_examples=40, deadline=None)
@given(b=st.integers(1, 4), n=st.integers(1, 20), ratio=st.floats(0, 0.99), seed=st.integers(0, 10**6))
def test_kept_patches_are_those_with_the_smallest_noise(b, n, ratio, seed):
    noise = keyed_noise(torch.arange(seed, seed + b), n)
    keep, hidden = keep_patches(noise, ratio)
    count = max(1, n - round(ratio * n))
    for row, kept, gone in zip(noise.tolist(), keep.tolist(), hidden):
        assert kept == sorted(sorted(range(n), key=row.__getitem__)[:count])
        assert (~gone).nonzero().flatten().tolist() == kept


def test_tokens_go_and_come_back():
    tokens, filler = torch.randn(3, 9, 4, requires_grad=True), torch.randn(4, requires_grad=True)
    keep, hidden = keep_patches(keyed_noise(torch.arange(3), 9), 0.6)
    back = restore_tokens(keep_tokens(tokens, keep), keep, filler, 9)
    assert torch.equal(back[~hidden], tokens[~hidden]) and torch.equal(
        back[hidden], filler.expand(int(hidden.sum()), 4)
    )
    back.sum().backward()
    assert torch.equal(filler.grad, torch.full((4,), float(hidden.sum()))) and (tokens.grad[hidden] == 0).all()
    with pytest.raises(ValueError, match="ratio"):
        keep_patches(torch.rand(2, 4), 1.0)


@settings(max_examples=50, deadline=None)
@given(pieces=st.lists(st.integers(1, 3), max_size=6), ratio=st.floats(0, 1), seed=st.integers(0, 10**6))
def test_whole_words_are_hidden(pieces, ratio, seed):
    ids = [-1] + [w for w, count in enumerate(pieces) for _ in range(count)]
    ids = torch.tensor(ids + [-1] * (20 - len(ids)))[None]
    tokens = torch.arange(100, 120)[None]
    noise = keyed_noise(torch.tensor([seed]), 20)
    masked, hidden = mask_words(tokens, ids, noise, ratio, 4)
    count = 0 if ratio == 0 else max(1, round(ratio * len(pieces)))
    wanted = set(sorted(range(len(pieces)), key=noise[0].tolist().__getitem__)[:count])
    assert hidden[0].tolist() == [w in wanted for w in ids[0].tolist()]
    assert torch.equal(masked, torch.where(hidden, 4, tokens))


def test_word_masks_follow_the_batch_order_and_any_leading_shape():
    ids = torch.tensor([[-1, 0, 0, 1, 2, -1], [-1, 0, 1, 1, 1, -1], [-1, 0, -1, -1, -1, -1]])
    tokens, noise, order = torch.randint(5, 50, (3, 6)), keyed_noise(torch.arange(3), 6), torch.tensor([2, 0, 1])
    masked, hidden = mask_words(tokens, ids, noise, 0.5, 4)
    again = mask_words(tokens[order], ids[order], noise[order], 0.5, 4)
    assert torch.equal(again[0], masked[order]) and torch.equal(again[1], hidden[order])
    stacked = mask_words(tokens[:, None], ids[:, None], noise[:, None], 0.5, 4)
    assert torch.equal(stacked[1][:, 0], hidden)


def test_patches_are_rows_from_the_top_left_and_fit_back():
    films = torch.arange(2 * 4 * 6.0).view(2, 1, 4, 6)
    assert patchify(films, 2)[0, 1].tolist() == [2.0, 3.0, 8.0, 9.0] and patchify(films, 2)[0, 3].tolist() == [
        12.0,
        13.0,
        18.0,
        19.0,
    ]
    assert torch.equal(unpatchify(patchify(films, 2), 4, 6), films)
    with pytest.raises(ValueError, match="divide"):
        patchify(films, 4)


@pytest.mark.parametrize("normalise", [True, False])
def test_pixel_loss_equals_the_loop(normalise):
    generator = torch.Generator().manual_seed(0)
    films, painted = (
        torch.rand(3, 1, 4, 6, generator=generator, dtype=torch.double),
        torch.randn(3, 6, 4, generator=generator, dtype=torch.double),
    )
    hidden = torch.rand(3, 6, generator=generator) < 0.5
    costs = []
    for b in range(3):
        for n in range(6):
            y, x = 2 * (n // 3), 2 * (n % 3)
            target = films[b, 0, y : y + 2, x : x + 2].flatten()
            if normalise:
                target = (target - target.mean()) / (target.var() + 1e-6).sqrt()
            if hidden[b, n]:
                costs.append(((painted[b, n] - target) ** 2).mean())
    torch.testing.assert_close(masked_pixel_loss(painted, films, hidden, 2, normalise), torch.stack(costs).mean())
    assert torch.autograd.gradcheck(
        lambda p: masked_pixel_loss(p, films, hidden, 2, normalise), painted.requires_grad_()
    )


def test_visible_patches_do_not_count_and_flat_ones_are_finite():
    films, painted = torch.full((1, 1, 4, 4), 0.3), torch.zeros(1, 4, 4, requires_grad=True)
    hidden = torch.tensor([[True, False, True, False]])
    loss = masked_pixel_loss(painted, films, hidden, 2)
    assert loss < 1e-9
    masked_pixel_loss(painted + 1, films, hidden, 2).backward()
    assert (painted.grad[0, [1, 3]] == 0).all() and (painted.grad[0, [0, 2]] != 0).all()
    assert masked_pixel_loss(painted, films, torch.zeros(1, 4, dtype=torch.bool), 2) == 0


def test_word_loss_is_the_cross_entropy_of_hidden_pieces():
    logits, tokens = torch.randn(2, 3, 7, 11, dtype=torch.double), torch.randint(0, 11, (2, 3, 7))
    hidden = torch.rand(2, 3, 7) < 0.4
    hidden[0, 0, 0] = True
    torch.testing.assert_close(
        masked_word_loss(logits, tokens, hidden), F.cross_entropy(logits[hidden], tokens[hidden])
    )
    assert masked_word_loss(logits, tokens, torch.zeros_like(hidden)) == 0


def test_word_loss_equals_the_loop():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 7, generator=generator, dtype=torch.double)
    tokens, hidden = torch.randint(0, 7, (3, 5), generator=generator), torch.rand(3, 5, generator=generator) < 0.5
    costs = []
    for b in range(3):
        for w in range(5):
            if hidden[b, w]:
                odds = [math.exp(x) for x in logits[b, w].tolist()]
                costs.append(-math.log(odds[int(tokens[b, w])] / math.fsum(odds)))
    assert masked_word_loss(logits, tokens, hidden).item() == pytest.approx(math.fsum(costs) / len(costs))


def test_attention_mean_equals_the_loop():
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(3, 4, 5, generator=generator, dtype=torch.double)
    query = torch.randn(5, generator=generator, dtype=torch.double)
    found = attention_mean(features, query)
    for b in range(3):
        odds = [math.exp((query @ features[b, n]).item() / math.sqrt(5)) for n in range(4)]
        expected = sum(odds[n] / math.fsum(odds) * features[b, n] for n in range(4))
        torch.testing.assert_close(found[b], expected)


def test_errors_of_single_places_add_up_to_the_means():
    films, painted, hidden = torch.rand(3, 1, 4, 6), torch.randn(3, 6, 4), torch.rand(3, 6) < 0.5
    errors = masked_pixel_loss(painted, films, hidden, 2, reduction="none")
    assert errors.shape == (3, 6) and (errors[~hidden] == 0).all()
    torch.testing.assert_close(errors.sum() / hidden.sum(), masked_pixel_loss(painted, films, hidden, 2))
    logits, tokens, gone = torch.randn(2, 3, 7, 11), torch.randint(0, 11, (2, 3, 7)), torch.rand(2, 3, 7) < 0.4
    nats = masked_word_loss(logits, tokens, gone, "none")
    assert nats.shape == (2, 3, 7) and (nats[~gone] == 0).all()
    torch.testing.assert_close(nats.sum() / gone.sum().clamp_min(1), masked_word_loss(logits, tokens, gone))
    with pytest.raises(ValueError, match="reduction"):
        masked_word_loss(logits, tokens, gone, "sum")


def test_means_equal_the_loop_and_ignore_padding():
    features, query = torch.randn(4, 6, 5, dtype=torch.double), torch.randn(5, dtype=torch.double)
    mask = torch.arange(6) < torch.tensor([6, 2, 0, 4])[:, None]
    spoilt = features.masked_fill(~mask[..., None], torch.nan)
    plain, attended = masked_mean(spoilt, mask), attention_mean(spoilt, query, mask)
    for b in (0, 1, 3):
        kept = features[b][mask[b]]
        torch.testing.assert_close(plain[b], kept.mean(0))
        torch.testing.assert_close(attended[b], (kept @ query / 5**0.5).softmax(0) @ kept)
    assert plain[2].abs().max() == 0 and attended[2].abs().max() == 0
    torch.testing.assert_close(masked_mean(features), features.mean(1))


def test_mapping_before_and_after_pooling_coincide_for_a_linear_map_with_a_mean():
    torch.manual_seed(0)
    features, mask = torch.randn(5, 8, 6, dtype=torch.double), torch.arange(8) < torch.tensor([8, 3, 1, 5, 7])[:, None]
    linear = nn.Linear(6, 4).double()
    mlp = nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 4)).double()
    torch.testing.assert_close(masked_mean(linear(features), mask), linear(masked_mean(features, mask)))
    assert (masked_mean(mlp(features), mask) - mlp(masked_mean(features, mask))).abs().max() > 0.01

    def unit(x):  # a normalisation of each patch is not linear either
        return F.normalize(linear(x), dim=-1)

    assert (masked_mean(unit(features), mask) - unit(masked_mean(features, mask))).abs().max() > 0.01


def test_everything_runs_on_the_meta_device():
    def meta(*shape, dtype=torch.float32):
        return torch.ones(*shape, dtype=dtype, device="meta")

    noise = keyed_noise(meta(2, dtype=torch.int64), 16)
    keep, hidden = keep_patches(noise, 0.5)
    tokens = meta(2, 16, 3).requires_grad_()
    full = restore_tokens(keep_tokens(tokens, keep), keep, meta(3), 16)
    assert keep.shape == (2, 8) and full.shape == (2, 16, 3)
    masked, chosen = mask_words(meta(2, 16, dtype=torch.int64), meta(2, 16, dtype=torch.int64), noise, 0.5, 4)
    painted, logits = meta(2, 16, 4).requires_grad_(), meta(2, 16, 9).requires_grad_()
    loss = masked_pixel_loss(painted, meta(2, 1, 8, 8), hidden, 2) + masked_word_loss(logits, masked, chosen)
    (loss + masked_mean(full, hidden).sum() + attention_mean(full, meta(3), hidden).sum()).backward()
