"The pretended card keeps the rules of a real one."

import numpy as np
import pytest
import torch
from pretend_card import Carded, pretended_card
from torch import nn


def test_it_computes_what_the_processor_does():
    x = torch.randn(5, 3)
    layer = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.LayerNorm(4))
    expected = layer(x)
    expected.sum().backward()
    wanted = layer[0].weight.grad.clone()
    layer.zero_grad()
    with pretended_card() as card:
        layer.to(card.device)
        there = layer(x.to(card.device))
        assert there.device == card.device and isinstance(there, Carded)
        there.sum().backward()
        torch.testing.assert_close(there.detach().cpu(), expected.detach())
        torch.testing.assert_close(layer[0].weight.grad.cpu(), wanted)
        with torch.inference_mode():
            torch.testing.assert_close(layer(x.to(card.device)).cpu(), expected.detach())


def test_tensors_made_there_lie_there():
    with pretended_card() as card:
        a = torch.arange(4, device=card.device)
        assert isinstance(a, Carded) and isinstance(a.new_zeros(3), Carded)
        a[1:] += 1
        assert a.cpu().tolist() == a.tolist() == [0, 2, 3, 4]
        a.masked_fill_(a > 2, 0)
        assert a.tolist() == [0, 2, 0, 0]
        b = torch.zeros(4, dtype=torch.long, device=card.device).copy_(torch.arange(4))
        assert torch.cat([a, b]).tolist() == [0, 2, 0, 0, 0, 1, 2, 3]


@pytest.mark.parametrize(
    "meet",
    [
        lambda a, b: a + b,
        lambda a, b: b @ a,
        lambda a, b: torch.cat([a, b]),
        lambda a, b: torch.where(a > 0, b, b),
        lambda a, b: a.add_(b),
        lambda a, b: a.numpy(),
        lambda a, b: np.asarray(a),
        lambda a, b: torch.arange(3)[b.long()] + a,
    ],
)
def test_the_two_sides_do_not_meet(meet):
    with pretended_card() as card:
        a = torch.ones(3, device=card.device)
        with pytest.raises((RuntimeError, TypeError)):
            meet(a, torch.ones(3))


def test_one_number_of_the_processor_may_meet_the_card():
    with pretended_card() as card:
        a = torch.ones(3, device=card.device)
        assert (a * torch.tensor(2.0) + 1).tolist() == [3, 3, 3]


def test_who_waits_is_told():
    with pretended_card() as card:
        a = torch.arange(3.0, device=card.device)
        b = a * 2 + 1
        assert not card.waits
        b.sum().item()
        b.cpu()
        bool(b.max() > 1)
        b[b > 1]
        assert sum(card.waits.values()) == 4
        assert all(place.startswith("tests/project/test_pretend_card.py:") for place in card.waits)
