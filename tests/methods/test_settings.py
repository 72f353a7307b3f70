"Settings: kinds and ranges in field metadata, checked in one place, with the words of each error."

import dataclasses
import math
from dataclasses import dataclass, field

import pytest

from medret_nb.data.files import DataError
from medret_nb.methods.settings import bound_in_words, broken_bound, check_settings, fits_kind, kind_of, setting
from medret_nb.methods.table import METHODS


@dataclass
class Example:
    count: int = setting(3, least=1)
    weight: float = setting(1.0, least=0)
    step: float = setting(0.5, above=0, below=2)
    share: float = setting(0.5, least=0, most=1, says="must lie in 0..1")
    warmup: float = setting(0.1, least=0, most=1, says={"most": "is a share"})
    order: str = setting("up", choices=("up", "down"))
    loud: bool = False
    more: dict = field(default_factory=dict)
    free: float = 1.0

    def __post_init__(self):
        check_settings(self)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(count=0), "count: 0 must be at least 1"),
        (dict(count=2.0), "count: 2.0 is not a whole number"),
        (dict(count=True), "count: True is not a whole number"),
        (dict(weight=-0.1), "weight: -0.1 must not be negative"),
        (dict(weight=math.inf), "weight: inf is not a finite number"),
        (dict(weight="1"), "weight: '1' is not a finite number"),
        (dict(step=0), "step: 0 must be above 0"),
        (dict(step=2.0), "step: 2.0 must be below 2"),
        (dict(share=1.5), "share: 1.5 must lie in 0..1"),
        (dict(share=-1), "share: -1 must lie in 0..1"),
        (dict(warmup=-1.0), "warmup: -1.0 must not be negative"),
        (dict(warmup=2.0), "warmup: 2.0 is a share"),
        (dict(order="left"), "order: 'left' is none of up, down"),
        (dict(order=3), "order: 3 is not a text"),
        (dict(loud=1), "loud: 1 is not true or false"),
        (dict(more=[]), "more: a list is not a map"),
        (dict(free=math.nan), "free: nan is not a finite number"),
    ],
)
def test_what_lies_outside_is_named(wrong, message):
    with pytest.raises(DataError) as caught:
        Example(**wrong)
    assert str(caught.value) == message


def test_bounds_themselves_are_allowed():
    Example(count=1, weight=0, step=1.999, share=1, warmup=0, order="down", loud=True, more={"a": 1}, free=-5)


def test_a_wrong_kind_is_told_before_a_range():
    with pytest.raises(DataError, match="weight: None is not a finite number"):
        Example(count=0, weight=None)


def test_ranges_stand_in_the_metadata():
    bounds = {entry.name: dict(entry.metadata) for entry in dataclasses.fields(Example)}
    assert bounds["count"] == {"least": 1, "says": ""} and bounds["order"]["choices"] == ("up", "down")
    assert bounds["free"] == {} and Example.__dataclass_fields__["count"].default == 3


def test_kinds_are_those_of_the_defaults():
    assert [kind_of(entry) for entry in dataclasses.fields(Example)] == [int, *4 * [float], str, bool, dict, float]
    assert fits_kind(1, float) and not fits_kind(True, float) and fits_kind(True, bool) and not fits_kind(0, bool)


def test_the_first_broken_bound_has_its_words():
    bounds = {"least": 2, "most": 5}
    assert [broken_bound(value, bounds) for value in (1, 2, 5, 6)] == ["least", "", "", "most"]
    assert (
        bound_in_words("least", bounds) == "must be at least 2"
        and bound_in_words("most", bounds) == "must be at most 5"
    )


@pytest.mark.parametrize("name", METHODS)
def test_the_defaults_of_every_method_lie_in_their_ranges(name):
    check_settings(METHODS[name].Config())
