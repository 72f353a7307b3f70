"Triton's MLS and matching loss against plain formulas in float64: in its interpreter on a CPU, compiled on a GPU."

import contextlib

import pytest
import torch
from torch.nn import functional as F

from medret_nb.kernels import forms
from medret_nb.kernels.gaussian import matching_in_tiles, mls_scores, own_parts, true_pairs
from medret_nb.losses.gaussian import matching_terms, mls

SHAPES = [(1, 1, 1), (5, 3, 7), (33, 65, 64), (1, 130, 4), (10, 300, 5)]
LABELS = ["own", "groups", "targets"]
pytestmark = [
    pytest.mark.usefixtures("triton_form"),
    pytest.mark.filterwarnings("ignore:overflow"),  # exp(100) in the interpreter, for a sigmoid of -100
]


def clouds(n, d, seed, device, spread=6.0):
    "Means and variances in float32."
    generator = torch.Generator().manual_seed(seed)
    mu = torch.randn(n, d, generator=generator)
    variance = ((torch.rand(n, d, generator=generator) * 2 - 1) * spread).exp()
    return mu.to(device), variance.to(device)


def leaves(*tensors):
    return [x.detach().clone().requires_grad_() for x in tensors]


def exact(tensors):
    "The same numbers in float64."
    return leaves(*(x.double() for x in tensors))


def far(found, expected):
    "The largest error over the largest number, and for lists the worst of these."
    if isinstance(found, list | tuple):
        return max(far(x, y) for x, y in zip(found, expected))
    assert found.shape == expected.shape
    return ((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30)).item()


def naive_mls(mu_x, var_x, mu_y, var_y):
    variance = var_x[:, None] + var_y
    return -0.5 * ((mu_x[:, None] - mu_y).square() / variance + variance.log()).sum(-1)


@pytest.mark.parametrize("n,m,d", SHAPES)
def test_mls_and_its_gradients_to_single_precision(n, m, d, device):
    inputs = leaves(*clouds(n, d, 1, device), *clouds(m, d, 2, device))
    doubles = exact(inputs)
    weight = torch.randn(n, m, generator=torch.Generator().manual_seed(3)).to(device)
    ours, theirs = mls_scores(*inputs), naive_mls(*doubles)
    assert ours.dtype == torch.float32 and far(ours, theirs) < 2e-6
    assert far(torch.autograd.grad(ours, inputs, weight), torch.autograd.grad(theirs, doubles, weight.double())) < 5e-6


@pytest.mark.parametrize("level", [-22.0, -6.0, 6.0, 21.0])
def test_very_small_and_very_large_variances(level, device):
    mu, variance = clouds(6, 21, 1, device)
    variance = torch.full_like(variance, level).exp()
    inputs = leaves(mu * variance.sqrt(), variance, mu.flip(0) * variance.sqrt(), variance)
    doubles = exact(inputs)
    ours, theirs = mls_scores(*inputs), naive_mls(*doubles)
    assert far(ours, theirs) < 2e-6
    assert far(torch.autograd.grad(ours.sum(), inputs), torch.autograd.grad(theirs.sum(), doubles)) < 1e-5


def test_views_and_expanded_gradients(device):
    (mu_x, var_x), (mu_y, var_y) = clouds(12, 40, 1, device), clouds(40, 40, 2, device)
    views = leaves(mu_x[::2, ::2], var_x[::2, ::2], mu_y.T[20:, :20], var_y.T[20:, :20])
    assert not mu_x[::2, ::2].is_contiguous()
    ours = mls_scores(mu_x[::2, ::2], var_x[::2, ::2], mu_y.T[20:, :20], var_y.T[20:, :20])
    assert far(ours, naive_mls(*exact(views))) < 2e-6
    doubles = exact(views)
    summed = torch.autograd.grad(mls_scores(*views).sum(), views)  # its gradient is one number, expanded
    assert far(summed, torch.autograd.grad(naive_mls(*doubles).sum(), doubles)) < 5e-6


def test_only_wanted_gradients_are_given(device, kernels, monkeypatch):
    inputs = [*clouds(4, 6, 1, device), *clouds(5, 6, 2, device)]
    inputs[3].requires_grad_()
    calls = []
    monkeypatch.setattr(kernels, "_gradients", lambda *x: calls.append(x) or torch.zeros(2, 64, 64, device=device))
    mls_scores(*inputs).sum().backward()
    assert len(calls) == 1 and inputs[3].grad is not None and inputs[2].grad is None
    own = leaves(torch.rand(4, device=device))[0]
    numbers = torch.ones(2, device=device).unbind()
    matching_in_tiles(inputs[0], own, inputs[2][:4], own.detach(), *numbers)[0].backward()
    assert own.grad is not None


def test_no_side_or_no_coordinate(device):
    for n, m, d in ((0, 4, 3), (4, 0, 3), (2, 3, 0)):
        inputs = leaves(*(torch.ones(k, d, device=device) for k in (n, n, m, m)))
        scores = mls_scores(*inputs)
        assert scores.shape == (n, m) and not scores.detach().any()
        scores.sum().backward()
        assert all(x.grad.shape == x.shape and not x.grad.any() for x in inputs)


def test_it_is_differentiable_once(device):
    inputs = leaves(*clouds(3, 4, 1, device), *clouds(3, 4, 2, device))
    slope = torch.autograd.grad(mls_scores(*inputs).sum(), inputs[0], create_graph=True)[0]
    with pytest.raises(RuntimeError, match="does not require grad|once_differentiable"):
        slope.sum().backward()


def test_the_walk_is_split_where_tiles_are_few(device, kernels):
    per_part = kernels._per_part(2, 320, device)
    assert per_part % 64 == 0 and per_part < 320  # so that (10, 300, 5) above has parts, the last of them shorter
    assert kernels._per_part(10**6, 320, device) == 320


@pytest.mark.parametrize("n,d", [(1, 1), (5, 7), (6, 300)])
def test_own_parts_and_their_gradients(n, d, device):
    mu, variance = clouds(n, d, 1, device)
    inputs = leaves(mu, variance.log())
    doubles = exact(inputs)
    ours = own_parts(*inputs)
    theirs = (doubles[0].square() + doubles[1].exp()).sum(1)
    assert far(ours, theirs) < 2e-6
    for weight in (torch.ones((), device=device).expand(n), torch.arange(1.0, n + 1, device=device)):
        slopes = torch.autograd.grad(ours, inputs, weight, retain_graph=True)
        assert far(slopes, torch.autograd.grad(theirs, doubles, weight.double(), retain_graph=True)) < 2e-6


def problem(n, m, d, labels, device):
    "Six leaves for the matching loss and its labels by name."
    (mu_x, var_x), (mu_y, var_y) = clouds(n, d, 1, device, 1.5), clouds(m, d, 2, device, 1.5)
    own = [mu.square().sum(1) + variance.sum(1) for mu, variance in ((mu_x, var_x), (mu_y, var_y))]
    inputs = leaves(mu_x, own[0], mu_y, own[1], *torch.tensor([0.2, 3.0], device=device))
    generator = torch.Generator().manual_seed(5)
    if labels == "groups":
        return inputs, {"groups": torch.randint(0, max(n // 3, 1), (n,), generator=generator).to(device)}
    if labels == "targets":
        return inputs, {"targets": torch.rand(n, m, generator=generator).round(decimals=1).to(device)}
    return inputs, {}


def dense_matching(mu_x, own_x, mu_y, own_y, scale, shift, targets):
    logits = shift - scale * (own_x[:, None] + own_y - 2 * mu_x @ mu_y.T)
    bce = F.binary_cross_entropy_with_logits
    pseudo = 0
    for scores, wanted in ((logits, targets), (logits.T, targets.T)):
        label, true = true_pairs(wanted)
        reached = scores.detach() >= scores.detach().gather(1, true[:, None])
        pseudo = pseudo + 0.5 * bce(scores, torch.where(reached, label[:, None], wanted))
    return bce(logits, targets), pseudo


@pytest.mark.parametrize("strip", [1 << 27, 1])
@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("n,m,d", [(1, 1, 1), (5, 5, 7), (37, 37, 140), (37, 150, 20), (150, 3, 4)])
def test_matching_and_its_gradients_to_single_precision(n, m, d, labels, strip, device, kernels, monkeypatch):
    if labels != "targets" and n != m:
        pytest.skip("without targets both sides are equally long")
    monkeypatch.setattr(kernels, "_STRIP", strip)  # 1: strips of the least height, 16 rows
    inputs, given = problem(n, m, d, labels, device)
    doubles = exact(inputs)
    if labels == "targets":
        wanted = given["targets"].double()
    else:
        groups = given.get("groups", torch.arange(n, device=device))
        wanted = (groups[:, None] == groups).double()
    ours, theirs = matching_in_tiles(*inputs, **given), dense_matching(*doubles, wanted)
    assert far(ours, theirs) < 2e-6
    slopes = torch.autograd.grad(ours[0] + 0.3 * ours[1], inputs)
    assert far(slopes, torch.autograd.grad(theirs[0] + 0.3 * theirs[1], doubles)) < 2e-5


def test_tiny_costs_keep_their_digits(device):
    "All logits are about -18: log(1 + e^-18) is 1.5e-8, which 1 + e^-18 loses in float32."
    mu = torch.zeros(6, 3, device=device)
    own = torch.full((6,), 9.0, device=device)
    numbers = torch.tensor([1.0, 0.0], device=device).unbind()
    wanted = torch.zeros(6, 6, device=device)
    match, _ = matching_in_tiles(mu, own, mu, own, *numbers, targets=wanted)
    assert match.item() == pytest.approx(1.522998e-8, rel=1e-5)


@pytest.mark.parametrize("labels", LABELS)
def test_the_same_batch_gives_the_same_bits(labels, device):
    inputs, given = problem(37, 37, 9, labels, device)
    sides = leaves(*clouds(37, 9, 1, device), *clouds(37, 9, 2, device))

    def once():
        match, pseudo = matching_in_tiles(*inputs, **given)
        scores = mls_scores(*sides)
        slopes = torch.autograd.grad(match + pseudo, inputs) + torch.autograd.grad(scores.square().sum(), sides)
        return [match, pseudo, scores, *slopes]

    assert all(torch.equal(x, y) for x, y in zip(once(), once()))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_inputs_are_added_up_in_single_precision(half, device):
    (mu_x, var_x), (mu_y, var_y) = clouds(9, 11, 1, device), clouds(9, 11, 2, device)
    sides = [x.to(half) for x in (mu_x, var_x.log(), mu_y, var_y.log())]
    wide = [x.float() for x in sides]
    assert torch.equal(mls(*sides), mls(*wide)) and mls(*sides).dtype == torch.float32
    for ours, theirs in zip(matching_terms(*sides, 0.01, 3.0), matching_terms(*wide, 0.01, 3.0)):
        assert torch.equal(ours, theirs) and ours.dtype == torch.float32
    inputs = leaves(*sides)
    mls(*inputs).sum().backward()
    assert all(x.grad.dtype == half and x.grad.isfinite().all() for x in inputs)


def test_a_gpu_chooses_triton_by_itself(device, monkeypatch):
    monkeypatch.setattr(forms, "_FORCED", [])
    sides = (*clouds(4, 6, 1, device), *clouds(5, 6, 2, device))
    node = mls_scores(*leaves(*sides)).grad_fn.name()
    assert node.startswith("_TritonMLS" if device.type == "cuda" else "_MLS")
    doubles = exact(sides)
    assert mls_scores(*doubles).grad_fn.name().startswith("_MLS")
    assert torch.autograd.gradcheck(mls_scores, doubles)


@contextlib.contextmanager
def no_waiting(device):
    "An error where the host waits for the GPU."
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("labels", LABELS)
def test_nothing_waits_for_the_gpu(labels, device):
    inputs, given = problem(20, 20, 9, labels, device)
    sides = leaves(*clouds(20, 9, 1, device), *clouds(20, 9, 2, device))
    with no_waiting(device):
        sum(matching_in_tiles(*inputs, **given)).backward()
        mls_scores(*sides).sum().backward()
    assert all(x.grad is not None for x in inputs + sides)
