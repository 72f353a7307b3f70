"""The command that compares: its options, and what it shows."""

import pandas as pd

from medret_nb.cli.compare import compare_command, show_protocol
from medret_nb.training.compare import Comparison


def test_the_training_is_an_option_of_the_comparison(tmp_path):
    job = compare_command()(tmp_path / "studies", tmp_path / "out")
    assert job.seeds == (0, 1, 2) and job.config.batch_size > 0


def test_the_line_above_the_table(tmp_path, capsys):
    row = {"arm": "clip", "protocol": "exact", "direction": "image-to-text", "metric": "R@1", "value": 0.5}
    row |= {"low": 0.4, "high": 0.6, "chance": 0.1, "queries": 10, "gallery": 12, "seeds": 1}
    rows = pd.DataFrame([row, row | {"direction": "text-to-image"}])
    costs = pd.DataFrame({"arm": ["clip"], "train_seconds": [1.0], "peak_mib": [1.0], "parameters": [1]})
    found = Comparison(tmp_path, rows, costs, {})
    found.wide = lambda metric, protocol: rows[["arm", "value"]]
    show_protocol(found, "exact", "R@1", tmp_path)
    told = capsys.readouterr().out.splitlines()
    assert told[1] == (
        "protocol exact, 10 queries, gallery of 12, chance of R@1 0.100; mean over 1 seeds, "
        "in brackets the 95 % interval over patients"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"comparison-exact.pdf", "comparison-exact.svg"}
