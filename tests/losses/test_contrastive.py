"InfoNCE and soft matching against a naive loop, gradcheck, the dense form, and the meta device."

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from medret_nb.losses.contrastive import group_means, info_nce, softmax_matching


def naive(a, b, scale, groups):
    "One question at a time: mean over positives of -log softmax, both directions."
    n, total = len(a), 0.0
    for x, y in ((a, b), (b, a)):
        for i in range(n):
            logits = [scale * (x[i] @ y[j]) for j in range(n)]
            normaliser = torch.logsumexp(torch.stack(logits), 0)
            positives = [j for j in range(n) if groups[j] == groups[i]]
            total = total + sum(normaliser - logits[j] for j in positives) / len(positives)
    return total / (2 * n)


def pair(n, d=6, seed=0, dtype=torch.double):
    generator = torch.Generator().manual_seed(seed)
    return [F.normalize(torch.randn(n, d, generator=generator, dtype=dtype), dim=1).requires_grad_() for _ in range(2)]


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 12), kinds=st.integers(1, 6), tile=st.integers(1, 13), seed=st.integers(0, 10**6))
def test_equals_the_naive_loop(n, kinds, tile, seed):
    a, b = pair(n, seed=seed)
    groups = torch.randint(0, kinds, (n,), generator=torch.Generator().manual_seed(seed))
    assert torch.allclose(info_nce(a, b, 9.0, groups, tile), naive(a, b, 9.0, groups), atol=1e-10)
    assert torch.allclose(info_nce(a, b, 9.0, None, tile), naive(a, b, 9.0, range(n)), atol=1e-10)


def test_gradients_by_finite_differences():
    a, b = pair(7)
    scale = torch.tensor(5.0, dtype=torch.double, requires_grad=True)
    groups = torch.tensor([0, 1, 1, 2, 3, 3, 3])
    assert torch.autograd.gradcheck(lambda *x: info_nce(*x, groups, tile=3), (a, b, scale))


def test_tiled_equals_dense_in_value_and_gradient():
    a, b = pair(200, 32, dtype=torch.float32)
    scale = torch.tensor(20.0, requires_grad=True)
    groups = torch.randint(0, 90, (200,))
    tiled, dense = (
        info_nce(a, b, scale, groups, tile=33),
        softmax_matching(scale * a @ b.T, (groups[:, None] == groups).float()),
    )
    assert abs(tiled - dense) < 1e-6 * max(1, dense.item())
    for x, y in zip(torch.autograd.grad(tiled, (a, b, scale)), torch.autograd.grad(dense, (a, b, scale))):
        assert torch.allclose(x, y, atol=1e-6)


def soft_direction(scores, targets):
    "Minus the mean over rows with targets of sum_j t_ij / (sum_k t_ik) log softmax(s_i)_j, entry by entry."
    costs = []
    for row, wanted in zip(scores.tolist(), targets.tolist()):
        if sum(wanted) > 0:
            total = math.fsum(map(math.exp, row))
            costs.append(-math.fsum(t / sum(wanted) * math.log(math.exp(s) / total) for s, t in zip(row, wanted)))
    return math.fsum(costs) / max(len(costs), 1)


def test_soft_matching_equals_its_equation():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(5, 4, generator=generator, dtype=torch.double)
    targets = torch.rand(5, 4, generator=generator, dtype=torch.double)
    targets[2] = 0
    expected = 0.5 * soft_direction(scores, targets) + 0.5 * soft_direction(scores.T, targets.T)
    assert softmax_matching(scores, targets).item() == pytest.approx(expected)


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 9), m=st.integers(1, 9), tile=st.integers(1, 10), seed=st.integers(0, 10**6))
def test_soft_matching_in_tiles_equals_its_dense_form(n, m, tile, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(n, m, generator=generator, dtype=torch.double, requires_grad=True)
    targets = torch.rand(n, m, generator=generator, dtype=torch.double) * (torch.rand(n, m, generator=generator) < 0.5)
    dense = softmax_matching(scores, targets)
    tiled = softmax_matching(lambda a, b: scores[a:b], lambda a, b: targets[a:b], rows=n, tile=tile)
    rows = [
        -(targets[i] / targets[i].sum() * F.log_softmax(scores[i], 0)).sum() for i in range(n) if targets[i].sum() > 0
    ]
    columns = [
        -(targets[:, j] / targets[:, j].sum() * F.log_softmax(scores[:, j], 0)).sum()
        for j in range(m)
        if targets[:, j].sum() > 0
    ]
    naive = (
        sum(torch.stack(part).mean() / 2 for part in (rows, columns) if part)
        if rows
        else torch.tensor(0.0, dtype=torch.double)
    )
    assert torch.allclose(tiled, dense, atol=1e-10) and torch.allclose(dense, naive, atol=1e-10)
    if rows:
        for x, y in zip(torch.autograd.grad(tiled, scores), torch.autograd.grad(dense, scores)):
            assert torch.allclose(x, y, atol=1e-10)


def test_order_of_the_batch_does_not_matter():
    a, b = pair(20)
    groups, order = torch.randint(0, 9, (20,)), torch.randperm(20)
    assert torch.allclose(info_nce(a, b, 8.0, groups), info_nce(a[order], b[order], 8.0, groups[order]))


def test_group_means_of_known_groups():
    x = torch.tensor([[1.0], [3.0], [10.0], [5.0]])
    assert group_means(x, torch.tensor([4, 4, -1, 4])).flatten().tolist() == [3.0, 3.0, 10.0, 3.0]


def test_a_model_that_knows_nothing_pays_ln_b():
    z = F.normalize(torch.ones(50, 4), dim=1)
    assert info_nce(z, z, 30.0).item() == pytest.approx(math.log(50), abs=1e-5)


def test_soft_targets_leave_out_rows_without_any():
    scores, targets = torch.randn(3, 4), torch.zeros(3, 4)
    targets[0, 1] = 2.0
    row = -F.log_softmax(scores, 1)[0, 1]
    column = -F.log_softmax(scores, 0)[0, 1]
    assert torch.allclose(softmax_matching(scores, targets), (row + column) / 2)


def test_runs_on_the_meta_device():
    a = torch.empty(8, 4, device="meta", requires_grad=True)
    loss = info_nce(a, a, torch.tensor(3.0, device="meta"), torch.empty(8, dtype=torch.long, device="meta"), tile=3)
    assert loss.device.type == "meta" and torch.autograd.grad(loss, a)[0].shape == a.shape
    assert softmax_matching(a @ a.T, torch.empty(8, 8, device="meta")).device.type == "meta"


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"\(3, 4\).*\(2, 4\)"):
        info_nce(torch.ones(3, 4), torch.ones(2, 4), 1.0)


CALLS = {
    "info_nce": "info_nce(a, b, 14.0, torch.arange(16384) // 2)",
    "softmax_matching": (
        "softmax_matching(lambda i, j: 14 * a[i:j] @ b.T, lambda i, j: (same[i:j, None] == same).float(), rows=16384)"
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_memory_of_a_large_batch(call):
    """A batch of 16,384 at 512 dimensions stays under 1.5 GB beyond inputs and their gradients.

    Measured in a process of its own.
    """
    code = f"""
import resource, torch
from torch.nn import functional as F
from medret_nb.losses.contrastive import info_nce, softmax_matching
a, b = (F.normalize(torch.randn(16384, 512), dim=1).requires_grad_() for _ in range(2))
a.grad, b.grad, same = torch.zeros_like(a), torch.zeros_like(b), torch.arange(16384) // 2
torch.mm(torch.ones(64, 64), torch.ones(64, 64))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
{CALLS[call]}.backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)
"""
    extra = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert extra < 1.5
