"""Local scores in Triton against the plain formula in float64: interpreted on a CPU, compiled on a GPU.

Single precision: a value to 1e-4 of the largest score, a gradient to 1e-3 of the largest of its tensor.
"""

import pytest
import torch

from medret_nb.kernels.forms import forced_form
from medret_nb.kernels.region_word import attended_scores
from medret_nb.losses.region_word import region_word_scores

pytestmark = pytest.mark.usefixtures("triton_form")


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def some(share, *shape, seed=0):
    "A mask; the first place is always True."
    mask = torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < share
    mask[:, 0] = True
    return mask


def naive(v, w, present, tau_1, tau_2, there, shares):
    "The equation of `attended_scores`, one film and one text at a time."
    rows = []
    for film, seen in zip(v, there, strict=True):
        row = []
        for text, told in zip(w, present, strict=True):
            items, words = film[seen], text[told]
            inner = items @ words.T
            alpha = (tau_1 * (inner.softmax(1) if shares else inner)).softmax(0)
            context = alpha.T @ items
            cosine = (context * words).sum(1) / (context.norm(dim=1) * words.norm(dim=1))
            row.append((tau_2 * cosine).logsumexp(0))
        rows.append(torch.stack(row))
    return torch.stack(rows)


def problem(b, c, r, w, d, device, dtype=torch.float32):
    present, there = some(0.6, c, w), some(0.7, b, r, seed=1)
    v = normal(b, r, d).masked_fill(~there[..., None], 0)
    t = normal(c, w, d, seed=1).masked_fill(~present[..., None], 0)
    taus = [torch.tensor(tau, device=device, requires_grad=True) for tau in (3.0, 5.0)]
    return [x.to(device, dtype).requires_grad_() for x in (v, t)] + taus, present.to(device), there.to(device)


def check(leaves, present, there, shares, value=1e-4, gradient=1e-3):
    found = attended_scores(leaves[0], leaves[1], present, *leaves[2:], there, shares)
    wide = [x.detach().double().requires_grad_() for x in leaves]
    wanted = naive(wide[0], wide[1], present, *wide[2:], there, shares)
    assert found.dtype == torch.float32
    assert (found.double() - wanted).abs().max() <= value * wanted.abs().max()
    weights = normal(*found.shape, seed=9).to(found.device)
    ours = torch.autograd.grad((weights * found).sum(), leaves)
    theirs = torch.autograd.grad((weights * wanted).sum(), wide)
    theres = (there[..., None], present[..., None], True, True)  # what comes in as zeros, the caller masks
    for x, y, kept in zip(ours, theirs, theres, strict=True):
        assert torch.isfinite(x).all()
        x = x * kept
        assert (x.double() - y).abs().max() <= gradient * y.abs().max().clamp_min(1e-2)


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("b, c, r, w, d", [(1, 1, 2, 1, 3), (3, 2, 9, 5, 8), (2, 3, 50, 17, 6), (2, 2, 140, 3, 5)])
def test_scores_and_gradients_equal_the_formula(b, c, r, w, d, shares, triton_device):
    leaves, present, there = problem(b, c, r, w, d, triton_device)
    check(leaves, present, there, shares)


@pytest.mark.parametrize("shares", [True, False])
def test_blocks_of_films(monkeypatch, shares, kernels, triton_device):
    def blocks(films, size):
        return [slice(i, min(i + 2, films)) for i in range(0, films, 2)]

    leaves, present, there = problem(5, 3, 9, 5, 8, triton_device)
    monkeypatch.setattr(kernels, "_film_blocks", blocks)
    check(leaves, present, there, shares)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_are_computed_in_single_precision(dtype, triton_device):
    leaves, present, there = problem(2, 2, 7, 5, 8, triton_device, dtype)
    check(leaves, present, there, False, gradient=2e-2)


@pytest.mark.parametrize("look", ["words", "regions"])
@pytest.mark.parametrize("shares", [True, False])
def test_what_is_not_there_is_as_in_the_blocks(look, shares, triton_device):
    "A text without words, a film without regions, and NaN in the padding."
    leaves, present, there = problem(3, 2, 6, 5, 4, triton_device)
    present[1], there[2] = False, False
    v = leaves[0].detach().masked_fill(~there[..., None], torch.nan).requires_grad_()
    w = leaves[1].detach().masked_fill(~present[..., None], torch.nan).requires_grad_()
    made = []
    for form in ("triton", "blocks"):
        with forced_form(form):
            scores = region_word_scores(v, w, present, there, look, *leaves[2:], shares)
            made.append((scores, *torch.autograd.grad(scores.square().sum(), (v, w, *leaves[2:]))))
    torch.testing.assert_close(*made, rtol=1e-4, atol=1e-4)
    assert all(torch.isfinite(x).all() for x in made[0])


def test_channels_first_features(triton_device):
    leaves, present, there = problem(3, 2, 7, 5, 4, triton_device)
    turned = [x.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for x in leaves[:2]]
    check([*turned, *leaves[2:]], present, there, True)


def test_large_temperatures_do_not_overflow(triton_device):
    leaves, present, there = problem(2, 2, 6, 5, 4, triton_device)
    sharp = attended_scores(leaves[0], leaves[1], present, 1000.0, 5.0, there, shares=False)
    assert torch.isfinite(sharp).all()
    assert all(torch.isfinite(x).all() for x in torch.autograd.grad(sharp.sum(), leaves[:2]))


def test_the_same_bits_again_and_after_a_kept_graph(triton_device):
    leaves, present, there = problem(4, 3, 9, 5, 8, triton_device)
    scores = attended_scores(leaves[0], leaves[1], present, *leaves[2:], there)
    first = torch.autograd.grad(scores.sum(), leaves, retain_graph=True)
    second = torch.autograd.grad(scores.sum(), leaves)
    assert torch.equal(scores, attended_scores(leaves[0], leaves[1], present, *leaves[2:], there))
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


def test_texts_fit_their_tiles_and_blocks_cover_all_films(kernels):
    assert [kernels._width(words) for words in (1, 16, 17, 64, 2048)] == [16, 16, 32, 64, 2048]
    for films, size in ((1, 1), (7, 1 << 24), (5, 1 << 30)):
        covered = [i for b in kernels._film_blocks(films, size) for i in range(films)[b]]
        assert covered == list(range(films))


def test_empty_inputs_and_very_long_texts_take_the_blocks(triton_device):
    v, w = torch.ones(0, 3, 4, device=triton_device), torch.ones(2, 5, 4, device=triton_device)
    assert attended_scores(v, w, torch.ones(2, 5, dtype=torch.bool, device=triton_device), 4.0, 5.0).shape == (0, 2)
    long = torch.ones(1, 2049, 2, device=triton_device)
    present = torch.ones(1, 2049, dtype=torch.bool, device=triton_device)
    assert attended_scores(v[:, :, :2].new_ones(1, 2, 2), long, present, 4.0, 5.0).shape == (1, 1)
