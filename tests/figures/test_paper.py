"Figures and tables of a paper: what is drawn equals what was given; no character of a name means anything to LaTeX."

import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from medret_nb.evaluation.reliability import calibration_curve, risk_coverage
from medret_nb.figures.figures import COLUMN, PAGE, save_figure
from medret_nb.figures.paper import (
    calibration_figure,
    latex_table,
    latex_text,
    risk_coverage_figure,
    seen_points,
    wilson_interval,
)

RNG = np.random.default_rng(0)
RIGHT, SURE = (RNG.random(50) < 0.4).astype(float), RNG.random(50)


def test_curves_lie_between_the_references():
    fig = risk_coverage_figure(
        {"a $_": risk_coverage(RIGHT, SURE), "best": risk_coverage(RIGHT, RIGHT)}, RIGHT, "wrong"
    )
    oracle, flat, curve, best = fig.axes[0].lines
    wrong = 1 - RIGHT.mean()
    assert oracle.get_ydata() == pytest.approx(best.get_ydata())
    assert flat.get_ydata()[0] == pytest.approx(wrong)
    assert (curve.get_ydata() >= oracle.get_ydata() - 1e-12).all()
    assert curve.get_ydata()[-1] == pytest.approx(wrong)
    with pytest.raises(ValueError, match="there is none"):
        risk_coverage_figure({}, RIGHT, "wrong")


def test_calibration_dots_and_wilson_intervals():
    stated, found, count = calibration_curve(RIGHT, SURE, 5)
    ax = calibration_figure(stated, found, count, "right").axes[0]
    bars = ax.collections[0]
    dots = next(c for c in ax.collections if hasattr(c, "get_sizes") and len(c.get_offsets()) == len(stated))
    assert np.asarray(dots.get_offsets()) == pytest.approx(np.stack([stated, found], 1))
    for (low, high), share, n in zip((s[:, 1] for s in bars.get_segments()), found, count):
        wanted = binomtest(round(share * n), int(n)).proportion_ci(method="wilson")
        assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=1e-4)
    with pytest.raises(ValueError, match="no bin"):
        calibration_figure([], [], [], "right")


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 1000)), min_size=1, max_size=8), st.floats(0.1, 4))
def test_wilson_interval_is_its_formula(bins, z):
    share = np.array([p for p, _ in bins])
    count = np.array([n for _, n in bins], float)
    low, high = wilson_interval(share, count, z)
    for i, (p, n) in enumerate(bins):
        half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        assert low[i] == pytest.approx((p + z**2 / (2 * n) - half) / (1 + z**2 / n), abs=1e-12)
        assert high[i] == pytest.approx((p + z**2 / (2 * n) + half) / (1 + z**2 / n), abs=1e-12)


@pytest.mark.parametrize(
    "draw",
    [
        lambda w: risk_coverage_figure({"a": risk_coverage(RIGHT, SURE)}, RIGHT, "wrong at rank 1", w),
        lambda w: calibration_figure(*calibration_curve(RIGHT, SURE, 5), "right", w),
    ],
)
def test_sizes_fonts_and_bytes(draw, tmp_path):
    for width in (COLUMN, PAGE):
        first, second = (save_figure(draw(width), tmp_path / f"{name}.pdf").read_bytes() for name in "ab")
        assert first == second and b"/Type3" not in first and (b"/TrueType" in first or b"/CIDFontType2" in first)
        box = [float(v) for v in re.search(rb"/MediaBox \[ ([\d. ]+) \]", first).group(1).split()]
        assert abs(box[2] - 72 * width) < 0.5


@given(st.text(max_size=30))
def test_no_special_character_is_left_bare(text):
    made = latex_text(text)
    bare = re.sub(r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater)\{\}|\\[&%$#_{}]", "", made)
    assert not re.search(r"[\\&%$#_{}~^<>]", bare) and "\n" not in made


def test_a_table_in_latex():
    frame = pd.DataFrame({"a_b": ["x", "50 %"], "n": [1, 2], "v": [0.25, np.nan]})
    lines = latex_table(frame, "Of & on", "tab:a", digits=2).splitlines()
    assert r"\begin{tabular}{lrr}" in lines
    assert r"a\_b & n & v \\" in lines
    assert r"x & 1 & 0.25 \\" in lines
    assert r"50 \% & 2 & -- \\" in lines
    assert r"\caption{Of \& on}" in lines
    assert lines.count(r"\midrule") == 1
    for label in ("", "a b", "a_b", "a}"):
        with pytest.raises(ValueError, match="label"):
            latex_table(frame, "c", label)
    with pytest.raises(ValueError, match="no column"):
        latex_table(pd.DataFrame(), "c", "a")


def test_a_long_curve_is_drawn_at_few_of_its_points():
    for count in (1, 7, 300, 301, 5000, 10**6):
        at = seen_points(count)
        assert at[0] == 0 and at[-1] == count - 1 and (np.diff(at) > 0).all() and len(at) <= min(count, 300)
    assert np.diff(seen_points(5000)).max() < 5000 / 140  # no gap that could be seen
    right = np.random.default_rng(0).random(9000) < 0.3
    fig = risk_coverage_figure({"a": risk_coverage(right * 1.0, np.random.default_rng(1).random(9000))}, right, "wrong")
    assert max(len(line.get_xdata()) for line in fig.axes[0].lines) <= 300
    x, y = fig.axes[0].lines[-1].get_data()
    assert x[-1] == 1 and np.isclose(y[-1], 1 - right.mean())
