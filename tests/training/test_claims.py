"""Verdicts, effects and boards of claims."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medret_nb.data.files import DataError, shipped_data
from medret_nb.data.studies import StudySet
from medret_nb.evaluation.intervals import paired_bootstrap, seed_interval
from medret_nb.methods.clip import CLIP
from medret_nb.methods.pcmepp import PCMEPP
from medret_nb.methods.rra_vl import RRAVL
from medret_nb.phantom.phantom import make_phantom
from medret_nb.training import claims
from medret_nb.training.claims import (
    MEASURES,
    VERDICTS,
    Board,
    Claim,
    ambiguity_rows,
    board_figure,
    claims_board,
    load_claims,
    location_effect,
    row_effect,
    smallest_detectable,
    verdict,
)

finite = st.floats(-1, 1)


@given(finite, finite, st.floats(0, 0.5), st.booleans())
def test_a_verdict_turns_round_with_the_effect(a, b, margin, agree):
    low, high = sorted((a, b))
    told, turned = verdict(low, high, margin, agree=agree), verdict(-high, -low, margin, agree=agree)
    assert {VERDICTS[0]: VERDICTS[1], VERDICTS[1]: VERDICTS[0], VERDICTS[2]: VERDICTS[2]}[told] == turned
    assert (told == VERDICTS[2]) == (not agree or not (low > margin or high < -margin))


def test_no_worse_asks_for_less_and_no_sign():
    assert verdict(-0.01, 0.03, 0.02, "no worse", agree=False) == VERDICTS[0]
    assert verdict(-0.03, 0.03, 0.02, "no worse") == VERDICTS[2]
    assert verdict(-0.05, -0.03, 0.02, "no worse") == VERDICTS[1]
    assert verdict(np.nan, np.nan, 0.02) == VERDICTS[2]
    with pytest.raises(ValueError, match="kind: 'equal'"):
        verdict(0, 1, 0.1, "equal")
    with pytest.raises(ValueError, match="margin: -0.1"):
        verdict(0, 1, -0.1)


def test_what_is_detectable_is_detected_four_times_in_five():
    rng, n = np.random.default_rng(0), 400
    half = 1.96 / np.sqrt(n)
    effect = smallest_detectable(-half, half)
    found = rng.normal(effect, 1 / np.sqrt(n), 20_000) - half > 0
    assert found.mean() == pytest.approx(0.8, abs=0.01)


def rows_of(hits, patients):
    return [pd.DataFrame({"hit_10": h, "patient_id": patients}) for h in hits]


def test_the_mean_effect_is_the_paired_bootstrap():
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(150), 2)
    first, second = (rng.random((3, 300)) < share for share in (0.4, 0.5))
    found = row_effect(
        MEASURES["R@10"],
        rows_of(first.astype(float), patients),
        rows_of(second.astype(float), patients),
        patients,
        1500,
    )
    judge = paired_bootstrap(first.mean(0), second.mean(0), patients, 1500)
    assert found.value == pytest.approx(judge.value) and found.queries == 300
    assert (found.low, found.high) == pytest.approx((judge.low, judge.high), abs=0.01)
    assert np.mean(found.by_seed) == pytest.approx(found.value)
    assert seed_interval(found.by_seed) == pytest.approx(
        stats.t.interval(0.95, 2, np.mean(found.by_seed), stats.sem(found.by_seed))
    )


def test_less_error_speaks_for_the_claim():
    rng = np.random.default_rng(2)
    ease = rng.random(600)
    hit = (rng.random(600) < ease).astype(float)

    def table(sure):
        return pd.DataFrame({"hit_10": hit, "hit_1": hit, "group_softmax": sure})

    knows, guesses, boasts = table(ease), table(rng.random(600)), table(np.full(600, 0.99))
    for name, worse in (("excess AURC", guesses), ("ECE", boasts)):
        found = row_effect(MEASURES[name], [worse], [knows], np.arange(600), 40)
        assert found.low > 0.1, name
        assert row_effect(MEASURES[name], [knows], [worse], np.arange(600), 2).value == pytest.approx(-found.value)


def test_uncertainty_must_beat_its_rivals():
    rng = np.random.default_rng(3)
    true = rng.normal(size=300)
    rows = pd.DataFrame(
        {
            "ambiguity": true,
            "uncertainty": true + rng.normal(size=300),
            "shortness": true + 3 * rng.normal(size=300),
            "few findings": rng.normal(size=300),
            "1 - max softmax": -true,
        }
    )
    found = row_effect(MEASURES["ambiguity"], None, [rows], np.arange(300), 100)
    tau = lambda name: stats.kendalltau(rows[name], true).statistic
    assert found.value == pytest.approx(tau("uncertainty") - tau("shortness")) and found.low > 0
    swapped = rows.rename(columns={"uncertainty": "few findings", "few findings": "uncertainty"})
    assert row_effect(MEASURES["ambiguity"], None, [swapped], np.arange(300), 100).high < 0


BASE = dict(name="x", paper="p", words="w", source="s", arm="a", against="b", measure="R@10", margin=0.02)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"measure": "R@11"}, "measure 'R@11' is none of R@10"),
        ({"against": ""}, "R@10 needs `against`"),
        ({"measure": "location"}, "location has no `against`"),
        ({"kind": "equal"}, "kind 'equal'"),
        ({"margin": -0.1}, "margin -0.1"),
        ({"margin": "two"}, "margin 'two'"),
        ({"margin": True}, "margin True"),
    ],
)
def test_claims_that_cannot_be_asked_are_refused(change, words):
    with pytest.raises(DataError, match="claim x: .*" + words):
        Claim(**BASE | change)


def test_files_of_claims_say_what_is_wrong(tmp_path):
    for text, words in (
        ("", "holds no claim"),
        ("a = 1", "a must be a section"),
        ("[x]\npaper = 'p'\nfoo = 1", "knows no foo"),
        ("[x]\npaper = 'p'", "missing"),
        ("[x", "not a TOML file"),
    ):
        (tmp_path / "c.toml").write_text(text)
        with pytest.raises(DataError, match=words) as error:
            load_claims(tmp_path / "c.toml")
        assert str(tmp_path / "c.toml") in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(DataError, match="none.toml"):
        load_claims(tmp_path / "none.toml")


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    """Twenty-four patients, and untrained runs of three methods and two seeds."""
    home = tmp_path_factory.mktemp("claims")
    studies = make_phantom({"test": 24}, 4, 32, home / "studies", one_study_per_patient=True, progress=False)
    for arm, method in {"clip": CLIP, "pcmepp": PCMEPP, "rra_vl": RRAVL}.items():
        for seed in (0, 1):
            method.create(seed=seed).save_pretrained(home / "runs" / arm / f"seed-{seed}")
    return home / "runs", studies


def lonely(runs, home):
    """Two arms of one seed each."""
    for arm, source in (("one", "pcmepp"), ("other", "clip")):
        shutil.copytree(runs / source / "seed-0", home / "lonely" / arm / "seed-0")
    return home / "lonely"


def test_a_board_of_untrained_runs_decides_nothing_it_should_not(clinic, tmp_path, capsys):
    runs, studies = clinic
    asked = [
        Claim(**BASE | {"name": m, "measure": m, "arm": "pcmepp", "against": "clip", "margin": 0.5})
        for m in ("R@10", "excess AURC", "ECE")
    ]
    asked += [
        Claim(**BASE | {"name": "c", "measure": "ambiguity", "arm": "pcmepp", "against": ""}),
        Claim(**BASE | {"name": "l", "measure": "location", "arm": "rra_vl", "against": "", "margin": 0.5}),
    ]
    board = claims_board(asked, runs, studies, draws=20)
    table, text = board.table(), capsys.readouterr().out
    assert list(table["direction"]) == ["image-to-text", "text-to-image"] * 3 + ["text-to-image", "image-to-report"]
    assert (table["low"] <= table["effect"] + 1e-9).all() and (table["effect"] <= table["high"] + 1e-9).all()
    assert (
        "does not replicate the papers" in text and "smallest detectable" in text and text.count("(wide)") == len(table)
    )
    board.save(tmp_path)
    again = Board.load(tmp_path)
    assert again.rows == json.loads(json.dumps(board.rows)) and again.report == board.report
    assert pd.read_csv(tmp_path / "board.csv")["verdict"].tolist() == table["verdict"].tolist()
    fig = board_figure(table)
    assert len(fig.axes[0].get_yticklabels()) == len(table)
    one = next(row for row in board.rows if row["measure"] == "R@10" and row["direction"] == "image-to-text")
    alone = claims_board(
        [dataclasses.replace(asked[0], arm="one", against="other")], lonely(runs, tmp_path), studies, draws=5
    )
    assert alone.rows[0]["seed_low"] is None and "(one seed)" in str(alone)
    alone.save(tmp_path / "alone")
    same = claims_board(asked[:1], runs, studies, draws=20, verbose=False).rows[0]
    assert same == one


def test_boards_name_what_is_missing(clinic, tmp_path):
    runs, studies = clinic
    with pytest.raises(DataError, match="mcr: holds no run seed-0"):
        claims_board([Claim(**BASE | {"arm": "clip", "against": "mcr"})], runs, studies)
    with pytest.raises(DataError, match="no variances"):
        claims_board(
            [Claim(**BASE | {"arm": "clip", "against": "", "measure": "ambiguity"})], runs, studies, verbose=False
        )
    with pytest.raises(DataError, match="clip has no vectors for regions"):
        location_effect([CLIP.create()], studies, "test", "whole film")
    kept = studies.studies.iloc[:6]
    few = StudySet(
        kept, studies.images[studies.images["study_id"].isin(kept["study_id"])], None, studies.info, studies.folder
    )
    with pytest.raises(DataError, match="split test holds 5 studies with film and text, 10 are needed"):
        claims_board([Claim(**BASE | {"arm": "clip", "against": "pcmepp"})], runs, few)
    CLIP.create(seed=3).save_pretrained(tmp_path / "clip" / "seed-3")
    CLIP.create(seed=0).save_pretrained(tmp_path / "one" / "seed-0")
    with pytest.raises(DataError, match=r"one has seeds \[0\], clip \[3\]"):
        claims_board([Claim(**BASE | {"arm": "one", "against": "clip"})], tmp_path, studies, verbose=False)


def test_vague_reports_are_ambiguous(clinic):
    _, studies = clinic
    queries = pd.DataFrame(
        {
            "direction": "text-to-image",
            "study_id": studies.studies["study_id"],
            "minus_sum_variance": 0.0,
            "max_softmax": 0.5,
        }
    )
    rows = ambiguity_rows(queries, studies, "findings", fresh=2000)
    assert rows["ambiguity"].le(0).all() and stats.spearmanr(rows["ambiguity"], rows["few findings"]).statistic > 0.3


def test_the_committed_board_answers_the_committed_claims():
    folder = shipped_data("results/claims")
    board, asked = Board.load(folder), load_claims(folder / "claims.toml")
    assert list(dict.fromkeys(row["name"] for row in board.rows)) == [c.name for c in asked]
    for row in board.rows:
        claim = next(c for c in asked if c.name == row["name"])
        assert {k: row[k] for k in dataclasses.asdict(claim)} == dataclasses.asdict(claim)
        assert (
            row["verdict"] == verdict(row["low"], row["high"], row["margin"], row["kind"], row["agree"])
            and row["patients"] >= 1500
        )
    assert board.report["claims"] == claims.hash_of([list(dataclasses.astuple(c)) for c in asked])
