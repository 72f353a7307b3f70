"""The keyed die is what it says: even, free of order, and honest about its entropy."""

import math
from collections import Counter

import numpy as np
import pytest

from medret_nb.phantom.dice import Dice, _choice_bits


def test_dice_are_uniform_keyed_and_order_free():
    u = np.array([Dice("u", i).uniform("x") for i in range(5000)])
    counts = np.histogram(u, 10, (0, 1))[0]
    assert ((counts - 500) ** 2 / 500).sum() < 27.9  # chi-square, 9 degrees of freedom, p = 0.001
    a, b = Dice(1, 2), Dice(1, 2)
    a.pick("something else", "xyz")
    assert a.uniform("x") == b.uniform("x") != Dice(1, 3).uniform("x")
    assert a.uniform("x") != a.uniform("y")
    assert Dice("report", 0, 1, 2).uniform("known") == 0.3415180368824363  # the same on every machine and version


def test_entropy_of_a_choice_is_that_of_its_distribution():
    options, habits = ["a", "b", "c"], Dice("someone")
    picks, bits = Counter(), 0.0
    for i in range(6000):
        dice = Dice("entropy", i, habits=habits, loyalty=0.4)
        picks[dice.pick("word", options)] += 1
        bits = dice.bits
    shares = np.array(sorted(picks.values())) / 6000
    assert np.allclose(shares, [0.2, 0.2, 0.6], atol=0.02)
    assert math.isclose(bits, -(0.6 * math.log2(0.6) + 0.4 * math.log2(0.2)))
    assert Dice(0).pick("one", ["only"]) == "only" and Dice(0).bits == 0


@pytest.mark.parametrize("n", [2, 3, 7])
@pytest.mark.parametrize("loyalty", [0.0, 0.3, 1.0])
def test_bits_are_the_sum_over_the_options(n, loyalty):
    shares = [(1 - loyalty) / n] * n
    shares[0] += loyalty
    bits = 0.0
    for share in shares:
        if share > 0:
            bits -= share * math.log2(share)
    assert _choice_bits(n, loyalty) == pytest.approx(bits, abs=1e-9)
