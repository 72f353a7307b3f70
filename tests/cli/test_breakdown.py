"""The forest plot of a breakdown, of one direction and of a difference; the command is run in test_multiverse."""

import numpy as np
import pandas as pd
import pytest

from medret_nb.cli.breakdown import save_forest
from medret_nb.data.files import DataError
from medret_nb.evaluation.subgroups import Breakdown, breakdown


def found(cells, against=""):
    tables = {"image-to-text": breakdown(np.arange(80) % 2, cells, np.arange(80), draws=50)}
    whole = {"image-to-text": {"queries": 80, "value": 0.5}}
    return Breakdown({"metric": "R@10", "against": against, "whole": whole, "least": 20}, tables)


def test_a_forest_plot_is_written(tmp_path):
    cells = pd.DataFrame({("sex", "F"): np.arange(80) < 40, ("sex", "M"): np.arange(80) >= 40})
    assert save_forest(found(cells, "runs/other"), tmp_path).stat().st_size > 1000


def test_a_breakdown_without_cells_has_no_picture(tmp_path):
    with pytest.raises(DataError, match="no cell has 20 queries"):
        save_forest(found(pd.DataFrame({("sex", "F"): np.arange(80) < 5})), tmp_path)
