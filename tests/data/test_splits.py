"Splits: components that share a patient or a group stay whole; counts are met and never exceeded."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.data.files import DataError
from medret_nb.data.splits import assign_splits, check_splits, connected_groups
from medret_nb.data.tables import check_studies

STUDIES = pd.DataFrame({"study_id": ["s1", "s2", "s3"], "patient_id": ["a", "a", "b"]})


def walk(studies):
    """Components by repeated joining of sets."""
    sets = []
    for i, (patient, group) in enumerate(zip(studies["patient_id"], studies["group_id"])):
        joined = {i, ("patient", patient)} | ({("group", group)} if group else set())
        overlapping = [s for s in sets if s & joined]
        sets = [s for s in sets if not s & joined]
        sets.append(joined.union(*overlapping))
    first = {}
    for component in sets:
        rows = [i for i in component if isinstance(i, int)]
        first |= dict.fromkeys(rows, min(rows))
    return [first[i] for i in range(len(studies))]


def as_studies(rows):
    table = pd.DataFrame(rows, columns=["patient_id", "group_id"])
    return table.assign(study_id=[f"s{i:02d}" for i in range(len(rows))])


rows_of_two = st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["", "", "x", "y", "z"]))
tables = st.lists(rows_of_two, min_size=1, max_size=25).map(as_studies)


@given(tables)
def test_components_equal_those_of_joined_sets(studies):
    assert (connected_groups(studies) == pd.factorize(np.array(walk(studies)))[0]).all()


@given(tables, st.integers(0, 5))
@settings(max_examples=50)
def test_splits_keep_components_whole_whatever_the_order_of_rows(studies, seed):
    try:
        split = assign_splits(studies, seed=seed)
    except DataError:
        return
    check_splits(studies.assign(split=split))
    shuffled = studies.sample(frac=1, random_state=seed)
    assert (assign_splits(shuffled, seed=seed).sort_index() == split).all()


def test_counts_are_met_exactly_with_one_study_per_patient_and_never_exceeded():
    alone = pd.DataFrame({"study_id": [f"s{i}" for i in range(500)], "patient_id": [f"p{i}" for i in range(500)]})
    assert assign_splits(alone, counts={"test": 123, "val": 45}).value_counts().to_dict() == {
        "train": 332,
        "test": 123,
        "val": 45,
    }
    assert assign_splits(alone, {"train": 0.7, "val": 0.1, "test": 0.2}).value_counts().to_dict() == {
        "train": 350,
        "test": 100,
        "val": 50,
    }
    triples = alone.assign(patient_id=[f"p{i // 3}" for i in range(500)])
    counts = assign_splits(triples, counts={"test": 100, "val": 50}).value_counts()
    assert 97 < counts["test"] <= 100 and 47 < counts["val"] <= 50
    assert (assign_splits(alone, seed=0) != assign_splits(alone, seed=1)).any()


def test_shares_of_few_large_groups_still_give_every_split_something():
    groups = pd.DataFrame({"study_id": [f"s{i}" for i in range(9)], "patient_id": list("aaabbbccc")})
    assert assign_splits(groups).value_counts().to_dict() == {"train": 3, "val": 3, "test": 3}
    with pytest.raises(DataError, match="would be empty: 9 studies in 3"):
        assign_splits(groups, counts={"test": 2})


@pytest.mark.parametrize(
    "arguments, error",
    [
        ({"fractions": {"train": 0.5, "test": 0.4}}, ValueError),
        ({"fractions": {"train": 1.5, "test": -0.5}}, ValueError),
        ({"counts": {"dev": 3}}, ValueError),
        ({"fractions": {"train": 1.0}, "counts": {"test": 1}}, ValueError),
        ({"counts": {"test": 3}}, DataError),
        ({"counts": {"test": 1, "val": 1}}, DataError),
    ],
)
def test_splits_that_cannot_be_are_refused(arguments, error):
    with pytest.raises(error):
        assign_splits(STUDIES, **arguments)


def test_a_patient_in_two_splits_is_refused_also_through_a_chain_of_groups():
    with pytest.raises(DataError, match=r"patient a stands in two splits \(test, train\)"):
        check_splits(check_studies(STUDIES.assign(split=["train", "test", "train"])))
    chain = pd.DataFrame(
        {
            "study_id": list("1234"),
            "patient_id": list("abbc"),
            "group_id": ["x", "x", "y", "y"],
            "split": ["train", "", "", "val"],
        }
    )
    with pytest.raises(DataError, match="patients a, c, joined by group_id, stand in two splits"):
        check_splits(check_studies(chain))
    check_splits(check_studies(chain.assign(split=["train", "", "train", ""])))


def texts_of(rows, with_text):
    studies = pd.DataFrame({"study_id": [f"s{k}" for k in range(rows)], "patient_id": [f"p{k}" for k in range(rows)]})
    return studies.assign(findings=["Words." if k % with_text == 0 else "" for k in range(rows)])


@pytest.mark.parametrize("with_text", [1, 2, 5, 9])
def test_shares_are_of_the_studies_with_a_text(with_text):
    studies = texts_of(90, with_text)
    split = assign_splits(studies)
    written = studies["findings"] != ""
    assert split[written].value_counts()["test"] == max(1, round(0.1 * written.sum()))
    assert split[~written].value_counts().get("test", 0) == round(0.1 * (~written).sum())
    assert (assign_splits(studies.assign(findings="")) == assign_splits(studies.drop(columns="findings"))).all()


def test_what_is_usable_may_be_said_and_too_little_is_refused():
    studies = texts_of(30, 1)
    usable = pd.Series([k in (3, 9, 20) for k in range(30)])
    assert set(assign_splits(studies, usable=usable)[usable]) == {"train", "val", "test"}
    with pytest.raises(DataError, match="2 studies with a text in 2 connected"):
        assign_splits(studies, usable=pd.Series([k in (3, 9) for k in range(30)]))
