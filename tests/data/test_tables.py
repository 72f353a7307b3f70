import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.data.files import DataError
from medret_nb.data.tables import FINDINGS, IMAGE_COLUMNS, REGION_COLUMNS, STUDY_COLUMNS, as_text, check_images, check_regions, check_studies, parse_labels, standard_view
from medret_nb.data.splits import assign_splits, check_splits, connected_groups

STUDIES = pd.DataFrame({"study_id": ["s1", "s2", "s3"], "patient_id": ["a", "a", "b"]})
IMAGES = pd.DataFrame({"image_id": ["i1", "i2"], "study_id": ["s1", "s2"], "path": ["1.png", "2.png"]})
REGIONS = pd.DataFrame(
    {"image_id": ["i1"], "region": ["right lung"], "x0": [0.1], "y0": [0.2], "x1": [0.4], "y1": [0.9]}
)


@pytest.mark.parametrize(
    "value, expected",
    [
        (None, {}),
        ("", {}),
        (float("nan"), {}),
        (pd.NA, {}),
        ({}, {}),
        ("  ", {}),
        ("Edema", {"Edema": 1}),
        ("edema;PNEUMONIA=0; fracture = -1", {"Edema": 1, "Pneumonia": 0, "Fracture": -1}),
        ("Nodule=", {"Nodule": None}),
        ("a=b=1", {"a=b": 1}),
        ('{"Edema": null, "No Finding": 0.0}', {"Edema": None, "No Finding": 0}),
        ({"Edema": True, "Rare thing": np.int64(-1)}, {"Edema": 1, "Rare thing": -1}),
    ],
)
def test_labels_in_every_form_are_read(value, expected):
    assert parse_labels(value) == expected


@pytest.mark.parametrize(
    "value", ["Edema=yes", "Edema=2", '{"Edema": 1', '{"Edema": [1]}', 7, ["Edema"], {"Edema": 0.5}]
)
def test_labels_that_make_no_sense_are_refused_with_their_place(value):
    with pytest.raises(DataError, match="studies, study s7"):
        parse_labels(value, "studies, study s7")


@given(st.dictionaries(st.sampled_from(FINDINGS), st.sampled_from([1, 0, -1, None])))
def test_labels_come_back_from_json_and_from_text(labels):
    assert parse_labels(json.dumps(labels)) == labels
    assert (
        parse_labels(";".join(f"{name}={'' if value is None else value}" for name, value in labels.items())) == labels
    )


@pytest.mark.parametrize(
    "raw, view",
    [
        ("PA", "PA"),
        ("pa", "PA"),
        ("AP SUPINE", "AP"),
        ("AP_AXIAL", "AP"),
        ("LL", "LATERAL"),
        ("Left lateral", "LATERAL"),
        ("postero-anterior", "PA"),
        ("Frontal", "FRONTAL"),
        ("", "UNKNOWN"),
        ("SPATIAL", "UNKNOWN"),
        (None, "UNKNOWN"),
    ],
)
def test_views_are_recognised_by_whole_words(raw, view):
    assert standard_view(raw) == view


def test_missing_columns_are_filled_and_unknown_ones_kept_behind():
    studies = check_studies(STUDIES.assign(ward="7B")[["ward", "study_id", "patient_id"]])
    assert tuple(studies.columns) == (*STUDY_COLUMNS, "ward")
    assert studies["labels"].tolist() == [{}, {}, {}] and (studies["findings"] == "").all()
    images = check_images(IMAGES, studies)
    assert (
        tuple(images.columns) == IMAGE_COLUMNS
        and images["view"].tolist() == ["UNKNOWN"] * 2
        and images["height"].isna().all()
    )
    assert (
        tuple(check_regions(None, images).columns) == REGION_COLUMNS
        and tuple(check_regions(REGIONS, images).columns) == REGION_COLUMNS
    )


def test_a_study_without_patient_is_its_own_patient():
    studies = check_studies(pd.DataFrame({"study_id": [7, 8, 9], "patient_id": [1.0, None, 12.0]}))
    assert studies["patient_id"].tolist() == ["1", "8", "12"] and studies["study_id"].tolist() == ["7", "8", "9"]


def test_text_and_number_columns_take_what_pandas_makes_of_them():
    assert as_text(pd.Series([1.0, None, " x ", 2.5, pd.NA, 3], dtype=object)).tolist() == [
        "1",
        "",
        "x",
        "2.5",
        "",
        "3",
    ]
    images = check_images(IMAGES.assign(height=["512", ""], width=[400.0, np.nan]), STUDIES)
    assert images["height"].tolist()[0] == 512 and pd.isna(images["width"][1])


@pytest.mark.parametrize(
    "studies, message",
    [
        (STUDIES.drop(columns="study_id"), "column study_id is missing"),
        (STUDIES.assign(study_id=["s1", "s1", "s3"]), "s1 is repeated"),
        (STUDIES.assign(study_id=["s1", None, "s3"]), "row 2: study_id is empty"),
        (STUDIES.assign(split=["train", "dev", ""]), "row 2: split is 'dev'"),
        (STUDIES.assign(labels=["", "Edema=x", ""]), "study s2: label 'Edema'"),
        ({"study_id": ["s1"]}, "expected a pandas DataFrame"),
    ],
)
def test_bad_studies_are_refused_by_row(studies, message):
    with pytest.raises(DataError, match=message):
        check_studies(studies)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"image_id": ["i1", "i1"]}, "i1 is repeated"),
        ({"study_id": ["s1", "s9"]}, "name a study that is not in studies: i2"),
        ({"view": ["PA", "LL"]}, "row 2: view is 'LL'"),
        ({"height": [10, "abc"]}, "row 2: height is 'abc', not a whole number"),
        ({"height": [10, 2.5]}, "row 2: height is '2.5'"),
        ({"width": [0, 5]}, "row 1: width must be positive"),
        ({"path": ["1.png", ""]}, "row 2: path is empty"),
        ({"height": [10, float("inf")]}, "row 2: height"),
    ],
)
def test_bad_images_are_refused_by_row(change, message):
    with pytest.raises(DataError, match=message):
        check_images(IMAGES.assign(**change), check_studies(STUDIES))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"image_id": "i9"}, "not in images: i9"),
        ({"x0": 0.5}, "x0 < x1"),
        ({"x0": 0.4}, "x0 < x1"),
        ({"y1": 1.2}, "fractions"),
        ({"x1": np.nan}, "image i1"),
        ({"x1": "wide"}, "x1 is 'wide', not a number"),
        ({"value": 2}, "value is '2'"),
        ({"value": 0.5}, "value is '0.5'"),
        ({"kind": "organ"}, "kind is 'organ'"),
        ({"source": "guess"}, "source is 'guess'"),
        ({"x1": np.inf}, "not a number"),
    ],
)
def test_bad_regions_are_refused_by_row(change, message):
    with pytest.raises(DataError, match=message):
        check_regions(REGIONS.assign(**change), check_images(IMAGES, check_studies(STUDIES)))


def test_regions_keep_rounding_errors_inside_and_call_lesions_findings():
    regions = check_regions(
        REGIONS.assign(x1=1 + 1e-9, kind="lesion", value="-1"), check_images(IMAGES, check_studies(STUDIES))
    )
    assert regions["x1"][0] == 1 and regions["kind"][0] == "finding" and regions["value"][0] == -1


def walk(studies):
    """Components by repeated joining of sets."""
    sets = []
    for i, (patient, group) in enumerate(zip(studies["patient_id"], studies["group_id"])):
        joined = {i, ("patient", patient)} | ({("group", group)} if group else set())
        overlapping = [s for s in sets if s & joined]
        sets = [s for s in sets if not s & joined] + [joined.union(*overlapping)]
    return [min(j for j in s if isinstance(j, int)) for i in range(len(studies)) for s in sets if i in s]


tables = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["", "", "x", "y", "z"])), min_size=1, max_size=25
).map(
    lambda rows: pd.DataFrame(rows, columns=["patient_id", "group_id"]).assign(
        study_id=[f"s{i:02d}" for i in range(len(rows))]
    )
)


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
