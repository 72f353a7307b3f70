"""Contrast in Triton against dense forms in float64: in Triton's interpreter on a CPU, compiled on a GPU.

Single precision: a value to 1e-5 of itself, a gradient to 1e-4 of the largest of its tensor.
"""

import pytest
import torch
from torch.nn import functional as F

from medret_nb.losses.contrastive import info_nce, softmax_matching

pytestmark = [
    pytest.mark.usefixtures("triton_form"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:triton"),  # numpy's, of the interpreter: log(0)
]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def units(n, d, device, dtype=torch.float32):
    return [F.normalize(normal(n, d, seed=k), dim=1).to(device, dtype).requires_grad_() for k in (0, 1)]


def one_way(scores, targets):
    "Mean over the rows with targets of their cross-entropy, row by row."
    kept = [(s, t) for s, t in zip(scores, targets, strict=True) if t.sum() > 0]
    each = [-(t / t.sum() * F.log_softmax(s, 0)).sum() for s, t in kept]
    return sum(each) / len(each) if each else scores.sum() * 0


def dense(scores, targets):
    scores, targets = scores.double(), targets.double()
    return (one_way(scores, targets) + one_way(scores.T, targets.T)) / 2


def alike(groups, n, device):
    own = torch.arange(n, device=device) if groups is None else groups
    return own[:, None] == own


def close(found, wanted, share):
    for x, y in zip(found, wanted, strict=True):
        assert torch.isfinite(x).all() and x.shape == y.shape
        assert (x.double() - y.double()).abs().max() <= share * y.abs().max().clamp_min(1e-3)


def check_nce(a, b, scale, groups, tile, value=1e-5, gradient=1e-4):
    found = info_nce(a, b, scale, groups, tile)
    wide = [x.detach().double().requires_grad_() for x in (a, b, scale)]
    wanted = dense(wide[2] * wide[0] @ wide[1].T, alike(groups, len(a), a.device))
    assert found.dtype == torch.float32
    assert abs(found.item() - wanted.item()) <= value * max(1, abs(wanted.item()))
    close(torch.autograd.grad(found, (a, b, scale)), torch.autograd.grad(wanted, wide), gradient)


@pytest.mark.parametrize("tile", [None, 7, 64])
@pytest.mark.parametrize("n, d", [(1, 1), (2, 3), (65, 5), (130, 17)])
def test_info_nce_equals_the_dense_form(n, d, tile, triton_device):
    a, b = units(n, d, triton_device)
    scale = torch.tensor(14.3, device=triton_device, requires_grad=True)
    kinds = torch.randint(0, max(1, n // 3), (n,), generator=torch.Generator().manual_seed(n)).to(triton_device)
    for groups in (None, kinds):
        check_nce(a, b, scale, groups, tile)


@pytest.mark.parametrize("size", [1.0, 100.0, 3000.0])
def test_scores_of_any_size(size, triton_device):
    a, b = units(70, 8, triton_device)
    scale = torch.tensor(size, device=triton_device, requires_grad=True)
    check_nce(a, b, scale, None, 33, value=1e-4, gradient=2e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_are_computed_in_single_precision(dtype, triton_device):
    a, b = units(40, 16, triton_device, dtype)
    scale = torch.tensor(30.0, device=triton_device, requires_grad=True)
    check_nce(a, b, scale, None, 16, gradient=1e-2)
    scores = normal(9, 7).to(triton_device, dtype).requires_grad_()
    targets = (normal(9, 7, seed=1) > 0).to(triton_device)
    found, wanted = softmax_matching(scores, targets), dense(scores, targets)
    assert found.dtype == torch.float32 and abs(found.item() - wanted.item()) < 1e-5
    slopes = [torch.autograd.grad(x, scores)[0] for x in (found, wanted)]
    assert slopes[0].dtype == dtype
    close(slopes[:1], slopes[1:], 2e-2)


def test_all_alike_and_strange_memory(triton_device):
    a, b = units(9, 12, triton_device)
    turned = [x.detach().T.contiguous().T.requires_grad_() for x in (a, b)]  # columns first
    scale = torch.tensor(5.0, device=triton_device, requires_grad=True)
    check_nce(*turned, scale, torch.zeros(18, dtype=torch.long, device=triton_device)[::2], 4)


@pytest.mark.parametrize("n, m", [(1, 1), (3, 130), (65, 2), (70, 140)])
@pytest.mark.parametrize("kind", ["float", "bool", "double"])
def test_soft_targets_equal_the_dense_form(n, m, kind, triton_device):
    scores = (4 * normal(n, m)).to(triton_device).requires_grad_()
    targets = normal(n, m, seed=1).clamp_min(0).to(triton_device)
    targets[n // 2] = 0
    targets[:, m // 2] = 0
    targets = targets > 0 if kind == "bool" else targets.to(getattr(torch, kind))
    found, wanted = softmax_matching(scores, targets), dense(scores, targets)
    assert abs(found.item() - wanted.item()) <= 1e-5 * max(1, wanted.item())
    close(torch.autograd.grad(found, scores), torch.autograd.grad(wanted, scores), 1e-4)


def test_targets_that_ask_nothing_cost_nothing(triton_device):
    scores = normal(5, 6).to(triton_device).requires_grad_()
    loss = softmax_matching(scores, torch.zeros(5, 6, device=triton_device))
    assert loss == 0 and (torch.autograd.grad(loss, scores)[0] == 0).all()


def test_scores_that_are_ruled_out(kernels, triton_device):
    "Minus infinity where a pair may not be: no NaN comes of it, and no gradient goes there."
    scores = normal(4, 5).to(triton_device)
    scores[:, 2] = scores[1, :] = -torch.inf
    targets = torch.zeros(4, 5, device=triton_device)
    targets[0, 0] = targets[3, 4] = 1
    scores.requires_grad_()
    rows, columns = torch.empty(3, 4, device=triton_device), torch.empty(3, 5, device=triton_device)
    one = torch.ones((), device=triton_device)
    kernels._tile_sums(scores.detach(), one, targets, kernels.TARGETS, 0, rows, columns)
    torch.testing.assert_close(rows[0], scores.logsumexp(1))
    torch.testing.assert_close(columns[0], scores.logsumexp(0))


def test_a_score_that_is_not_finite_shows_in_the_loss(triton_device):
    for bad in (torch.nan, torch.inf):
        scores = normal(4, 5).to(triton_device)
        scores[1, 2] = bad
        assert not torch.isfinite(softmax_matching(scores, torch.ones(4, 5, device=triton_device)))


def test_the_same_bits_again_and_after_a_kept_graph(triton_device):
    a, b = units(100, 8, triton_device)
    scale = torch.tensor(9.0, device=triton_device, requires_grad=True)
    groups = (torch.arange(100) // 4).to(triton_device)
    for tile in (None, 30):
        loss = info_nce(a, b, scale, groups, tile)
        first = torch.autograd.grad(loss, (a, b, scale), retain_graph=True)
        second = torch.autograd.grad(loss, (a, b, scale))
        again = info_nce(a, b, scale, groups, tile)
        third = torch.autograd.grad(again, (a, b, scale))
        assert torch.equal(loss, again)
        assert all(torch.equal(x, y) and torch.equal(x, z) for x, y, z in zip(first, second, third, strict=True))


def test_only_what_is_asked_gets_a_gradient(triton_device):
    a, b = units(10, 4, triton_device)
    info_nce(a, b.detach(), 5.0).backward()
    assert a.grad.shape == a.shape and b.grad is None
    with torch.no_grad():
        assert info_nce(a, b, 5.0).requires_grad is False


def test_empty_batches_take_the_blocks(triton_device):
    empty = torch.zeros(0, 4, device=triton_device)
    assert torch.isnan(info_nce(empty, empty, 5.0))


def test_tiles_are_as_tall_as_memory_allows(kernels):
    assert kernels._starts(32_768, 32_768, None) == (range(0, 32_768, 2048), 2048)
    assert kernels._starts(8_192, 8_192, None)[0] == range(0, 8192, 8192)
    assert kernels._starts(10**6, 10**8, None)[1] == 32


def test_places_beyond_two_billion(triton_device):
    "A batch of 48,000 has more scores than int32 can count."
    if triton_device.type == "cpu" or torch.cuda.get_device_properties(triton_device).total_memory < 4e10:
        pytest.skip("needs a GPU with 40 GB")
    n = 48_000
    scores = torch.zeros(n, n, device=triton_device).requires_grad_()
    loss = softmax_matching(scores, torch.eye(n, device=triton_device, dtype=torch.bool))
    loss.backward()
    assert loss.item() == pytest.approx(torch.log(torch.tensor(float(n))).item(), rel=1e-5)
    assert scores.grad[-1, -1].item() == pytest.approx((1 / n - 1) / n, rel=1e-4)
