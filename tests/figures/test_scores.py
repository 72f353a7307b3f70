"Figures of scores: same bytes twice, and what is drawn equals what was given."

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.figures import scores as S
from medret_nb.figures.figures import COLUMN, PAGE, save_figure

NASTY = ["$5 \\alpha_", "\\frac{"]
TABLE = pd.DataFrame(
    [
        ("CLIP $_", d, k, v, v - 0.05, v + 0.05, k / 100)
        for d in ("image to text", "text to image")
        for k, v in ((1, 0.2), (10, 0.5))
    ],
    columns=["name", "direction", "k", "value", "low", "high", "chance"],
)
COMPARED = TABLE[TABLE["k"] == 10].assign(metric="R@10", arm=["$a_", "b"], by_seed=["0.4 0.5 0.6", ""])
LOG = pd.DataFrame(
    {
        "step": [1, 2, 3, 4],
        "loss": [4.0, 3.0, np.nan, 2.0],
        "val_loss": [np.nan, 3.5, np.nan, 2.5],
        "R@10": [np.nan, 0.1, np.nan, 0.3],
    }
)


def curves():
    bands = {"a $": ([0, 1, 2], [2, 3, 4])}
    return S.curve_figure([1, 2, 4], {"a $": [1, 2, 3], "b": [2, 2, 2]}, "x", "y", bands=bands, log_x=True)


ALL = {
    "recall": lambda: S.recall_figure(TABLE),
    "comparison": lambda: S.comparison_figure(COMPARED),
    "ranks": lambda: S.rank_histogram([1, 2, 3.5, 100], 100),
    "loss": lambda: S.loss_figure(LOG, scores=["R@10"]),
    "curve": curves,
    "matrix": lambda: S.matrix_figure([[0.1, np.nan], [0.3, 0.4]], NASTY, ["a", "long name"], "score"),
}


@pytest.mark.parametrize("kind", ["pdf", "svg", "png"])
@pytest.mark.parametrize("name", ["recall", "curve"])
def test_same_bytes_twice(tmp_path, name, kind):
    first = save_figure(ALL[name](), tmp_path / f"a.{kind}", dpi=100)
    second = save_figure(ALL[name](), tmp_path / f"b.{kind}", dpi=100)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a.{kind}", f"b.{kind}"]


@pytest.mark.parametrize("name", list(ALL))
def test_every_figure_draws_at_a_print_width_whatever_the_text(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fig = ALL[name]()
        assert fig._repr_png_().startswith(b"\x89PNG")
    assert fig.get_size_inches()[0] in (COLUMN, PAGE)
    assert fig.get_size_inches()[1] < 12


def test_comparison_figure_draws_means_seeds_intervals_and_chance():
    fig = S.comparison_figure(COMPARED)
    left, right = fig.axes
    assert list(left.lines[0].get_xdata()) == [0.4, 0.5, 0.6]
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["$a_", "b"]
    assert any(list(line.get_xdata()) == [0.1, 0.1] for line in left.lines)  # chance
    bars = right.containers[0].lines[2][0].get_segments()[0]
    assert bars[:, 0].tolist() == pytest.approx([0.45, 0.55]) and bars[0, 1] == 1  # arm b stands in the second row
    with pytest.raises(ValueError, match="one metric"):
        S.comparison_figure(pd.concat([COMPARED, COMPARED.assign(metric="R@1")]))
    with pytest.raises(ValueError, match="high"):
        S.comparison_figure(COMPARED.drop(columns="high"))


def test_recall_figure_draws_values_intervals_and_chance():
    fig = S.recall_figure(TABLE)
    ax = fig.axes[0]
    (bars,) = [c for c in ax.containers]
    np.testing.assert_allclose(bars.lines[0].get_ydata(), [0.2, 0.5])
    ends = np.array([s[:, 1] for s in bars.lines[2][0].get_segments()])
    np.testing.assert_allclose(ends, [[0.15, 0.25], [0.45, 0.55]])
    chance = sorted(s[0, 1] for c in ax.collections if c is not bars.lines[2][0] for s in c.get_segments())
    np.testing.assert_allclose(chance, [0.01, 0.1])
    other = TABLE.assign(name="fits", chance=TABLE["chance"] + 0.3)
    ax = S.recall_figure(pd.concat([TABLE.assign(name="exact"), other])).axes[0]  # two protocols: each its own chance
    lines = {round(float(s[0, 1]), 2) for c in ax.collections for s in c.get_segments() if s[0, 1] == s[1, 1]}
    assert lines == {0.01, 0.1, 0.31, 0.4}
    told = [text.get_text() for text in ax.figure.axes[-1].get_legend().get_texts()]
    assert told.count("chance") == 1
    with pytest.raises(ValueError, match="low"):
        S.recall_figure(TABLE.drop(columns="low"))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(0, 10**6))
def test_rank_histogram_loses_no_query(gallery, seed):
    ranks = np.random.default_rng(seed).integers(1, gallery + 1, 50)
    ax = S.rank_histogram(ranks, gallery).axes[0]
    assert sum(b.get_height() for b in ax.patches) == pytest.approx(1)
    assert sum(ax.lines[0].get_ydata()) == pytest.approx(1)
    assert ax.patches[0].get_height() == pytest.approx(np.mean(ranks == 1))


def test_rank_histogram_refuses_impossible_ranks():
    for ranks in ([0], [11], []):
        with pytest.raises(ValueError, match="ranks"):
            S.rank_histogram(ranks, 10)


def test_loss_figure_leaves_gaps_out():
    fig = S.loss_figure(LOG, scores=["R@10"])
    loss, val = fig.axes[0].lines
    np.testing.assert_array_equal(loss.get_xdata(), [1, 2, 4])
    np.testing.assert_array_equal(val.get_ydata(), [3.5, 2.5])
    np.testing.assert_array_equal(fig.axes[1].lines[0].get_xdata(), [2, 4])
    with pytest.raises(ValueError, match="loss"):
        S.loss_figure(LOG[["step"]])
    with pytest.raises(ValueError, match="nothere"):
        S.loss_figure(LOG, scores=["nothere"])


def test_matrix_writes_its_numbers():
    fig = S.matrix_figure([[0.125, 2.0]])
    assert [t.get_text() for t in fig.axes[0].texts] == ["0.12", "2.00"]
    with pytest.raises(ValueError, match="matrix"):
        S.matrix_figure([1.0, 2.0])
