"""The tour's plan, which was promised, and its clock."""

import json

from medret_nb.cli.plan import QUICK, WRITTEN, Clock, Plan


def test_plan_is_the_one_that_was_promised():
    assert Plan().test == 400 and 10 in Plan().ks


def test_clock_adds_up(tmp_path, capsys):
    for _ in range(2):
        with Clock(2, tmp_path / "t.json").step("wait"):
            pass
    assert "[1/2] wait" in capsys.readouterr().out
    assert set(json.loads((tmp_path / "t.json").read_text())) == {"wait"}


def test_every_study_of_a_tour_has_a_text():
    assert WRITTEN.neither == 0 and QUICK.counts == {"train": 96, "val": 24, "test": 40}
