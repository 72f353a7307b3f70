"""The table of confidences and the curves, against the functions they are made with."""

import numpy as np
import pandas as pd

from medret_nb.cli.trust import CONFIDENCES, trust_table
from medret_nb.evaluation.reliability import auroc


def test_trust_table_against_the_functions():
    rng = np.random.default_rng(0)
    queries = pd.DataFrame(
        {
            "direction": "image-to-text",
            "group_id": np.arange(60) * 2 // 3,
            "relevant": [0] * 5 + [1] * 55,
            "hit_1": (rng.random(60) < 0.4).astype(float),
            "margin": rng.random(60),
            "minus_entropy": [np.nan] + [0.5] * 59,
        }
    )
    table = trust_table(queries, "image-to-text").set_index("confidence")
    assert list(table.index) == [
        CONFIDENCES["margin"],
        CONFIDENCES["minus_entropy"],
    ]  # the excluded query's NaN does not count
    assert (
        table["AUROC"].iloc[0] == auroc(queries.hit_1.to_numpy()[5:], queries.margin.to_numpy()[5:])
        and table["AUROC"].iloc[1] == 0.5
    )
    assert (table["low"] <= table["AUROC"]).all() and (table["AUROC"] <= table["high"]).all()
