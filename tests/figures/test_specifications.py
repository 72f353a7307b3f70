"""Specification curves and forest plots: the values in order, the choices below, the same bytes."""

import numpy as np
import pandas as pd
import pytest

from medret_nb.figures.figures import save_figure
from medret_nb.figures.specifications import forest_figure, specification_figure


def a_table(rows=6):
    values = np.random.default_rng(0).permutation(rows) / rows
    table = pd.DataFrame({"value": values, "low": values - 0.1, "high": values + 0.1, "chance": 0.05})
    choices = pd.DataFrame(
        {"unit": ["film", "study"] * (rows // 2), "size": [str(i) for i in range(rows)], "same": "x"}
    )
    return table, choices


def test_values_stand_in_order_above_their_choices(tmp_path):
    table, choices = a_table()
    other = table["value"].to_numpy() - 0.3
    figure = specification_figure(table, choices, "R@1", {"$another_run$": other})
    top, bottom = figure.axes
    drawn = {line.get_label(): line.get_ydata() for line in top.lines}
    assert np.all(np.diff(drawn["R@1"]) > 0) and drawn["$another_run$"] == pytest.approx(drawn["R@1"] - 0.3)
    names = [label.get_text() for label in bottom.get_yticklabels()]
    assert names[:3] == ["unit: film", "unit: study", "size: 0"] and not any("same" in name for name in names)
    order = np.argsort(table["value"])
    assert bottom.lines[0].get_xdata().tolist() == np.flatnonzero(choices["unit"].to_numpy()[order] == "film").tolist()
    assert top.get_xlim() == bottom.get_xlim()
    files = [save_figure(figure, tmp_path / f"{i}.svg").read_bytes() for i in range(2)]
    assert files[0] == files[1]


def test_one_line_for_each_cell():
    cells = pd.DataFrame({"by": ["sex", "sex", "view"], "cell": ["F", "M", "AP"], "queries": [40, 60, 20]})
    cells = cells.assign(
        value=[0.5, 0.6, 0.1], low=[0.4, 0.5, np.nan], high=[0.6, 0.7, np.nan], differs=[False, True, False]
    )
    ax = forest_figure(cells, 0.5).axes[0]
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["sex: F (40)", "sex: M (60)", "view: AP (20)"]
    marks = [line for line in ax.lines if len(line.get_xdata()) == 1]
    assert [line.get_marker() for line in marks] == ["o", "s", "o"] and marks[2].get_markerfacecolor() == "white"


def test_nothing_to_draw_is_refused():
    table, choices = a_table()
    with pytest.raises(ValueError, match="6 values and 5 specifications"):
        specification_figure(table, choices.iloc[:5])
    with pytest.raises(ValueError, match="there is no cell"):
        forest_figure(pd.DataFrame({"by": []}), 0.5)
