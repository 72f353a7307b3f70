import numpy as np
import pandas as pd
import pytest

from medret_nb.data.balanced import FIVE, draw_balanced, five_by_200
from medret_nb.data.studies import StudySet


def labelled(n=400, seed=0):
    rng = np.random.default_rng(seed)
    names = [*FIVE, "Pneumonia"]
    drawn = [
        {
            name: int(v)
            for name, v in zip(names, rng.choice([1, 0, -1, 2], len(names), p=[0.2, 0.3, 0.1, 0.4]))
            if v != 2
        }
        for _ in range(n)
    ]
    return StudySet(
        pd.DataFrame(
            {
                "study_id": [f"s{k}" for k in range(n)],
                "labels": drawn,
                "split": np.where(np.arange(n) % 2, "test", "train"),
            }
        ),
        pd.DataFrame(columns=["image_id", "study_id", "path"]),
        info={"restricted": True},
    )


def test_five_by_n_is_balanced_exclusive_and_repeats(tmp_path):
    studies = labelled()
    chosen = five_by_200(studies, n=10, out=tmp_path / "ids.csv")
    held = dict(zip(studies.studies["study_id"], studies.studies["labels"]))
    assert chosen.groupby("finding").size().to_dict() == dict.fromkeys(FIVE, 10) and chosen["study_id"].is_unique
    for finding, study in chosen.itertuples(index=False):
        assert [name for name in FIVE if held[study].get(name) == 1] == [finding]
    assert set(chosen["study_id"]) <= set(studies.split("test").studies["study_id"])
    assert (tmp_path / "ids.csv").read_text().splitlines()[0] == "finding,study_id" and pd.read_csv(
        tmp_path / "ids.csv"
    ).equals(chosen.astype(pd.read_csv(tmp_path / "ids.csv").dtypes))
    shuffled = StudySet(studies.studies.sample(frac=1, random_state=1), studies.images)
    assert five_by_200(shuffled, n=10).equals(chosen) and not five_by_200(studies, n=10, seed=1).equals(chosen)


def test_too_few_are_said_in_one_line(capsys):
    studies = labelled(60)
    counts = five_by_200(studies, split=None).groupby("finding").size()
    printed = capsys.readouterr().out
    assert (
        printed.count("\n") == 1
        and all(f"{name} {counts.get(name, 0)}" in printed for name in FIVE)
        and "all splits" in printed
    )
    with pytest.raises(ValueError, match="n: 0"):
        five_by_200(studies, n=0)


def test_a_place_in_the_draw_depends_on_seed_class_and_id_alone():
    ids = [f"s{k}" for k in range(50)]
    few = draw_balanced({"Edema": ids}, 10, seed=3)["Edema"]
    assert few == sorted(few) and len(set(few)) == 10
    assert draw_balanced({"Edema": ids[::-1], "Nodule": ids}, 10, seed=3)["Edema"] == few
    assert set(few) <= set(draw_balanced({"Edema": ids}, 20, seed=3)["Edema"])
    assert draw_balanced({"Nodule": ids}, 10, seed=3)["Nodule"] != few
