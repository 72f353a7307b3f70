"""Files of claims, boards of claims."""

import dataclasses
import json
import shutil

import pandas as pd
import pytest

from medret_nb.data.files import DataError, shipped_data
from medret_nb.data.runs import Run, shipped_run
from medret_nb.data.studies import StudySet
from medret_nb.methods.clip import CLIP
from medret_nb.methods.pcmepp import PCMEPP
from medret_nb.methods.rra_vl import RRAVL
from medret_nb.phantom.phantom import make_phantom
from medret_nb.training.arms import read_arms
from medret_nb.training.boards import Board, board_figure, judge_rows, judged_again
from medret_nb.training.claims import Claim, claims_board, load_claims, said_by_arms, size_of_training
from medret_nb.training.verdicts import verdict

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


SECTION = "[x]\npaper = 'p'\nwords = 'w'\nsource = 's'\narm = 'a'\nagainst = 'b'\nmeasure = 'R@10'\n"


def test_files_of_claims_say_what_is_wrong(tmp_path):
    for text, words in (
        ("", "holds no claim"),
        ("a = 1", "a must be names and values, not 1"),
        ("[x]\npaper = 'p'\nwords = 5", "x lacks source"),
        ("[x]\npaper = 'p'", "x lacks words, source, arm, measure, margin"),
        (f"{SECTION}margin = 1\nfoo = 1", "x knows no foo"),
        (f"{SECTION}margin = inf", "x.margin inf is above 100"),
        (f"{SECTION}margin = nan", "margin nan must be a number"),
        (SECTION.replace("'a'", "5") + "margin = 1", "x.arm must be a text, not 5"),
        (SECTION.replace("'a'", "'../clip'") + "margin = 1", "arm: '../clip' is no name"),
        ("x = " + "[" * 200 + "]" * 200, "nested"),
        ("x = " + "[" * 20000 + "]" * 20000, "nested"),
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
    """Forty patients, and untrained runs of three methods and two seeds."""
    home = tmp_path_factory.mktemp("claims")
    studies = make_phantom({"val": 40, "test": 40}, 4, 32, home / "studies", one_study_per_patient=True, progress=False)
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
        for m in ("R@10", "AUROC", "Brier")
    ]
    asked += [
        Claim(**BASE | {"name": "c", "measure": "ambiguity", "arm": "pcmepp", "against": ""}),
        Claim(**BASE | {"name": "l", "measure": "location", "arm": "rra_vl", "against": "", "margin": 0.5}),
    ]
    board = claims_board(asked, runs, studies, draws=20)
    table, text = board.table(), capsys.readouterr().out
    assert set(table["verdict"]) == {"undecided here"} and table["why"].str.contains("2 training").all()
    assert "one learning rate for all" in text and f"Holm over the {table['p'].notna().sum()} questions" in text
    assert list(table["direction"]) == ["image-to-text", "text-to-image"] * 3 + ["text-to-image", "image-to-report"]
    known = table.dropna(subset=["low"])
    assert (known["low"] <= known["effect"]).all() and (known["effect"] <= known["high"]).all() and len(known) >= 4
    assert (known["both_low"] <= known["low"]).all() and (known["high"] <= known["both_high"]).all()
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
    assert alone.rows[0]["both_low"] is None and alone.rows[0]["verdict"] == "undecided here"
    alone.save(tmp_path / "alone")
    same = claims_board(asked[:1], runs, studies, draws=20, verbose=False).rows[0]
    assert {name: same[name] for name in ("effect", "low", "both_low", "p")} == {
        name: one[name] for name in ("effect", "low", "both_low", "p")
    }


def test_rows_say_what_their_runs_were_trained_on(tmp_path):
    "By fingerprint, log and record; what one of the arms does not tell is left out."
    studies = StudySet.load(shipped_data("phantom-small"))
    for arm, method in (("clip", "clip"), ("pcmepp", "pcmepp"), ("mine", "clip")):
        shutil.copytree(shipped_run(method), tmp_path / arm / "seed-0")
    asked = [Claim(**BASE | {"name": "one", "arm": "pcmepp", "against": "clip"})]
    row = claims_board(asked, tmp_path, studies, draws=5, verbose=False).rows[0]
    made = Run(shipped_run("clip")).made_by()
    assert row["trained_on"] == made["data"]["hash"][:12] and row["training_studies"] == "16000" and row["seeds"] == 1
    assert "744 steps of 256 studies, 12 epochs" in row["training_budget"]
    mine = Run(tmp_path / "mine" / "seed-0")
    mine.log_file.write_text("no log\n")
    mine.made_by_file.unlink()
    asked = [Claim(**BASE | {"name": "two", "arm": "mine", "against": "clip"})]
    row = claims_board(asked, tmp_path, studies, draws=5, verbose=False).rows[0]
    assert row["trained_on"] and "training_studies" not in row and "training_budget" not in row


def test_the_size_of_a_training_is_that_of_its_own_studies(tmp_path):
    "Counted where the run remembers them, unless they are others by now."
    studies = StudySet.load(shipped_data("phantom-small"))
    for name, hashed in (("same", studies.hash()), ("other", "0" * 64), ("none", "")):
        CLIP.create(CLIP.Config(data=str(studies.folder), data_hash=hashed)).save_pretrained(tmp_path / name)
    sizes = [size_of_training(Run(tmp_path / name)) for name in ("same", "other", "none")]
    assert sizes == [str((studies.studies["split"] == "train").sum()), "", ""]


def test_what_arms_say_is_said_once_or_by_arm():
    assert said_by_arms({"a": ["x", "x"], "b": ["x"]}) == "x"
    assert said_by_arms({"a": ["x", "y"], "b": ["x"]}) == "a: x / y; b: x"
    assert said_by_arms({"a": ["x", ""], "b": ["x"]}) == ""


def test_a_folder_with_nearly_the_name_may_have_been_meant(clinic, tmp_path):
    runs, studies = clinic
    for arm, name in (("clip", "clip"), ("pcmepp", "pcmepp"), ("rra_vl", "rra-vl")):
        shutil.copytree(runs / arm / "seed-0", tmp_path / name / "seed-0")
    named = (("pcmepp", "clip"), ("rra_vl", "clip"), ("clipp", "pcmepp"), ("mcr", "clip"))
    asked = [Claim(**BASE | {"name": f"{a} {b}", "arm": a, "against": b}) for a, b in named]
    board = claims_board(asked, tmp_path, studies, draws=5, verbose=False)
    assert board.report["not_judged"] == {
        "rra_vl clip": "no runs of rra_vl (did you mean rra-vl?)",
        "clipp pcmepp": "no runs of clipp",  # clip is an arm of these claims, and not meant
        "mcr clip": "no runs of mcr",
    }
    assert "not judged: rra_vl clip, no runs of rra_vl (did you mean rra-vl?)" in str(board)


def test_calibration_needs_as_many_validation_studies(clinic):
    runs, studies = clinic
    asked = [Claim(**BASE | {"name": m, "measure": m, "arm": "pcmepp", "against": "clip"}) for m in ("R@10", "Brier")]
    rows = studies.studies
    fewer = studies.select(rows.loc[(rows["split"] == "test") | (rows.index % 2 == 0), "study_id"])
    board = claims_board(asked, runs, fewer, draws=5, verbose=False)
    assert list(board.report["not_judged"]) == ["Brier"] and {row["name"] for row in board.rows} == {"R@10"}
    assert "not judged: Brier, its temperature is fitted on as many studies of val" in str(board)


def test_boards_name_what_is_missing(clinic, tmp_path):
    runs, studies = clinic
    with pytest.raises(DataError, match="none of the claims can be answered; x: no runs of mcr"):
        claims_board([Claim(**BASE | {"arm": "clip", "against": "mcr"})], runs, studies)
    with pytest.raises(DataError, match="no variances"):
        claims_board(
            [Claim(**BASE | {"arm": "clip", "against": "", "measure": "ambiguity"})], runs, studies, verbose=False
        )
    rows = studies.studies
    kept = rows.loc[rows["split"] == "test"].iloc[:6]
    few = StudySet(
        kept, studies.images[studies.images["study_id"].isin(kept["study_id"])], None, studies.info, studies.folder
    )
    with pytest.raises(DataError, match="split test holds . studies with film and text, 10 are needed"):
        claims_board([Claim(**BASE | {"arm": "clip", "against": "pcmepp"})], runs, few)
    CLIP.create(seed=3).save_pretrained(tmp_path / "clip" / "seed-3")
    CLIP.create(seed=0).save_pretrained(tmp_path / "one" / "seed-0")
    with pytest.raises(DataError, match=r"one has seeds \[0\], clip \[3\]"):
        claims_board([Claim(**BASE | {"arm": "one", "against": "clip"})], tmp_path, studies, verbose=False)


def test_the_committed_board_answers_the_committed_claims():
    folder = shipped_data("results/claims")
    board, asked = Board.load(folder), load_claims(folder / "claims.toml")
    not_judged = board.report["not_judged"]
    names = list(dict.fromkeys(row["name"] for row in board.rows))
    assert names == [c.name for c in asked if c.name in names], "the order of the file"
    assert set(not_judged) <= {c.name for c in asked}
    assert judge_rows(board.rows) == board.rows, "judged again it says the same"
    for row in board.rows:
        claim = next(c for c in asked if c.name == row["name"])
        for name in ("arm", "against", "measure", "kind", "margin"):
            assert row[name] == getattr(claim, name), "a claim that was answered stays what it was"
        sure = row["p_holm"] < 0.05
        said = verdict(row["both_low"], row["both_high"], row["margin"], row["kind"], row["agree"], sure)
        assert row["verdict"] == said and row["patients"] >= 1500 and len(row["by_seed"]) == 3
    assert judged_again(board).rows == board.rows


def test_the_claims_of_the_four_abstracts():
    "Each is asked of an arm that the board trains, and every margin that stood stands."
    folder = shipped_data("results")
    asked = load_claims(folder / "claims" / "claims.toml")
    arms = read_arms(folder / "board" / "arms.toml")
    assert len(asked) >= 24 and len({claim.paper for claim in asked}) == 5
    assert {claim.reading for claim in asked} == {"plain", "hard"} and all(claim.asked for claim in asked)
    for claim in asked:
        assert claim.arm in arms and (not claim.against or claim.against in arms)
        assert (claim.said == "ours") == (claim.paper == "ours")
