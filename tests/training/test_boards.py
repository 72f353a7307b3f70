"""Boards: judging measured rows as one family, joining budgets."""

import json

import pandas as pd
import pytest

from medret_nb.data.files import DataError
from medret_nb.evaluation.intervals import holm
from medret_nb.evaluation.seeds import combined_luck
from medret_nb.training.boards import Board, board_figure, join_budgets, judge_rows
from medret_nb.training.verdicts import VERDICTS

REPORT = {"data": "0" * 12, "claims": "1" * 12, "interval": "95 % interval", "family": "one family"}


def asked(name="x", effect=0.05, half=0.01, spread=0.001, seeds=3, **more):
    """A measured row whose trainings lie `spread` apart."""
    by_seed = [effect + spread * (i - (seeds - 1) / 2) for i in range(seeds)]
    row = {"name": name, "paper": "p", "words": "w", "source": "s", "arm": "a", "against": "b", "measure": "R@10"}
    row |= {"kind": "better", "event": "R@10", "direction": "image-to-text", "margin": 0.02, "queries": 900}
    row |= {"effect": effect, "low": effect - half, "high": effect + half, "by_seed": by_seed, "patients": 900}
    return row | {"discordant": 100.0} | more


def said(*rows):
    return [row["verdict"] for row in judge_rows(list(rows))]


@pytest.mark.parametrize(
    "row, expected",
    [
        (asked(), "supported here"),
        (asked(spread=0.04), "undecided here"),
        (asked(seeds=2), "undecided here"),
        (asked(seeds=1), "undecided here"),
        (asked(effect=-0.05), "contradicted here"),
        (asked(effect=0.002), "no relevant difference here"),
        (asked(effect=-0.018), "not this much here"),
        (asked(low=None, high=None, patients=12), "undecided here"),
        (asked(effect=-0.005, kind="no worse"), "supported here"),
        (asked(effect=-0.005, kind="no worse", discordant=3.0), "undecided here"),
        (asked(effect=-0.025, kind="no worse"), "contradicted here"),
    ],
)
def test_verdicts_of_single_rows(row, expected):
    assert said(row) == [expected]


def test_one_family_for_the_board():
    rows = [asked(f"r{i}", effect=0.03 + 0.004 * i, spread=0.006) for i in range(8)]
    judged = judge_rows(rows)
    assert [row["p_holm"] for row in judged] == pytest.approx(list(holm([row["p"] for row in judged])))
    alone = [judge_rows([row])[0] for row in rows]
    lost = [name for one, name in zip(alone, judged) if one["verdict"] != name["verdict"]]
    assert lost and all("Holm" in row["why"] for row in lost)
    for row in judged:
        both = combined_luck(row["effect"], row["low"], row["high"], 900, row["by_seed"])
        assert (row["both_low"], row["both_high"]) == pytest.approx((both.low, both.high))
        assert row["detectable"] > row["margin"], "the margin counts in what could have been seen"


def test_why_is_said():
    why = [row["why"] for row in judge_rows([asked(seeds=1), asked(low=None, high=None, patients=12)])]
    assert "1 training(s), 3 are needed" in why[0] and "12 patients, 30 are needed" in why[1]


def test_a_board_of_any_row_can_be_kept(tmp_path):
    board = Board(dict(REPORT), judge_rows([asked(), asked("y", seeds=1), asked("z", low=None, high=None, patients=2)]))
    again = Board.load(board.save(tmp_path))
    assert again.rows == json.loads(json.dumps(board.rows)) and "too few" in str(again)
    assert len(board_figure(again.table()).axes[0].get_yticklabels()) == 3


TRAINED = {"trained_on": "abc123", "training_studies": "16000", "seeds": 3, "training_budget": "744 steps of 256"}


def test_what_all_trainings_share_is_said_once(tmp_path):
    other = TRAINED | {"training_budget": "a: 10 steps of 256; b: 20 steps of 256"}
    board = Board(dict(REPORT), judge_rows([asked() | TRAINED, asked("y") | other]))
    text = str(board)
    assert "all rows: trained on the studies abc123, training studies 16000, seeds 3\n" in text
    assert text.count("abc123") == 1 and text.count("budget a: 10 steps of 256; b: 20") == 1
    assert text.count("744 steps") == 1
    again = Board.load(board.save(tmp_path))
    assert str(again) == text and again.rows == json.loads(json.dumps(board.rows))
    table = pd.read_csv(tmp_path / "board.csv")
    assert table["training_studies"].tolist() == [16000, 16000] and table["seeds"].tolist() == [3, 3]


def test_a_board_that_says_nothing_of_its_trainings_still_prints():
    assert "all rows" not in str(Board(dict(REPORT), judge_rows([asked()])))
    mixed = str(Board(dict(REPORT), judge_rows([asked() | TRAINED, asked("y")])))
    assert "all rows" not in mixed and mixed.count("trained on the studies abc123") == 1
    assert str(Board(dict(REPORT), []))


def test_budgets_that_differ_change_the_verdict():
    boards = {
        "equal passes": Board(dict(REPORT), judge_rows([asked(), asked("y")])),
        "equal steps": Board(dict(REPORT), judge_rows([asked(spread=0.04), asked("y")])),
    }
    joined = join_budgets(boards)
    by_name = {}
    for row in joined.rows:
        by_name.setdefault(row["name"], []).append((row["budget"], row["alone"], row["verdict"]))
    assert by_name["x"] == [
        ("equal passes", "supported here", VERDICTS[5]),
        ("equal steps", "undecided here", VERDICTS[5]),
    ]
    assert {told for _, _, told in by_name["y"]} == {"supported here"}
    assert "changes with budget" in str(joined)
    for why, board in zip(("no runs of m", "no runs of m (did you mean n?)"), boards.values(), strict=True):
        board.report["not_judged"] = {"z": why, why: "here alone"}
    assert join_budgets(boards).report["not_judged"] == {"z": "no runs of m; no runs of m (did you mean n?)"}
    with pytest.raises(DataError, match="answer no claim in common"):
        join_budgets(boards | {"other": Board(dict(REPORT), judge_rows([asked("other")]))})
