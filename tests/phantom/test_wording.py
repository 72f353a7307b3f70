"""The phrase book is complete and consistent; the keyed die is what it says."""

import math
from collections import Counter

import numpy as np

from medret_nb.data.tables import FINDINGS
from medret_nb.phantom import wording as book
from medret_nb.phantom.assertions import COVERS
from medret_nb.phantom.scenes import DEVICE_KINDS, FINDING_KINDS
from medret_nb.phantom.dice import Dice


def test_every_size_word_covers_the_severity_it_is_used_for():
    assert set(book.SIZES) == set(FINDING_KINDS) - {"device"}
    for table in book.SIZES.values():
        for severity, words in table.items():
            assert all(low <= severity <= high for _, low, high in words)
        assert all((word == "") == ((low, high) == (1, 3)) for words in table.values() for word, low, high in words)


def test_names_absences_and_labels_are_known():
    for site in "AB":
        for kind, names in book.NAMES[site].items():
            for name in names:
                asserted = name[2] if len(name) > 2 else kind
                assert kind in COVERS[asserted] and book.LABEL[asserted] in FINDINGS
        for kind, words in book.ABSENT[site].items():
            assert all(kind in COVERS[finding] or set(COVERS[finding]) <= set(COVERS[kind]) for _, finding, _ in words)
            assert all(label in FINDINGS for *_, label in words)
        assert set(book.DEVICES[site]) == set(DEVICE_KINDS)
        for zone, sides in book.PLACES[site].items():
            for side, phrases in sides.items():
                told = {"right": "right", "left": ("left", "lingular"), "bilateral": ("bi",)}[side]
                assert all(p.startswith(told) for p in phrases)
    assert set(book.REASONS) - {""} == set(FINDING_KINDS)


def test_only_site_b_has_its_marks():
    def words(value):
        if isinstance(value, str):
            return [value]
        parts = value.values() if isinstance(value, dict) else value
        return [w for part in parts if isinstance(part, (str, dict, list, tuple)) for w in words(part)]

    for table in (book.FRAMES, book.INCIDENTAL, book.CLEAR, book.HEART, book.REMARKS, book.DEVICES):
        assert not any("XXXX" in w for w in words(table["A"])) and not any("___" in w for w in words(table["B"]))


def test_dice_are_uniform_keyed_and_order_free():
    u = np.array([Dice("u", i).uniform("x") for i in range(5000)])
    counts = np.histogram(u, 10, (0, 1))[0]
    assert ((counts - 500) ** 2 / 500).sum() < 27.9  # chi-square, 9 degrees of freedom, p = 0.001
    a, b = Dice(1, 2), Dice(1, 2)
    a.pick("something else", "xyz")
    assert a.uniform("x") == b.uniform("x") != Dice(1, 3).uniform("x") and a.uniform("x") != a.uniform("y")
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
