"Tables: what is wrong is refused with its row, what is incomplete is filled; labels and views as they come."

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medret_nb.data.files import DataError
from medret_nb.data.finding_names import FINDINGS
from medret_nb.data.tables import (
    IMAGE_COLUMNS,
    REGION_COLUMNS,
    STUDY_COLUMNS,
    as_text,
    check_images,
    check_regions,
    check_studies,
    parse_labels,
    standard_view,
)

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
        ("Edema;edema=1;", {"Edema": 1}),
        ('{"opacity, left|right": 1}', {"opacity, left|right": 1}),
        ('{"Edema": null, "No Finding": 0.0}', {"Edema": None, "No Finding": 0}),
        ({"Edema": True, "Rare thing": np.int64(-1)}, {"Edema": 1, "Rare thing": -1}),
    ],
)
def test_labels_in_every_form_are_read(value, expected):
    assert parse_labels(value) == expected


@pytest.mark.parametrize(
    "value",
    ["Edema=yes", "Edema=2", '{"Edema": 1', '{"Edema": [1]}', 7, ["Edema"], {"Edema": 0.5}]
    + ["Edema,Pneumonia", "Edema|Pneumonia", "Edema:0", "0", "1.0", "nan", "=1", '["Edema"]', "Edema=1;Edema=0"]
    + ["edema;Edema=-1", {"edema": 1, "Edema": 0}, '{"Edema": 1, "Edema": 0}', {"": 1}, {"0": 1}, "Edema=;Edema=1"]
    + ["[" * 5000, '{"a":' * 5000, '{"Edema": 1e300}', f'{{"Edema": {"9" * 400}}}', {"Edema": 10**400}],
)
def test_labels_that_make_no_sense_are_refused_with_their_place(value):
    with pytest.raises(DataError, match="studies, study s7"):
        parse_labels(value, "studies, study s7")


@pytest.mark.parametrize("value", [1e300, 2**63, -(2**63), 10**400, "1e300", "9" * 400, float("inf"), 2**53 + 2, 0.5])
@pytest.mark.parametrize("column", ["height", "value"])
def test_numbers_beyond_whole_ones_are_refused_with_their_row(column, value):
    with pytest.raises(DataError, match=f"row 1: {column} is") as caught:
        if column == "height":
            check_images(IMAGES.assign(height=pd.Series([value, 3], dtype=object)), STUDIES)
        else:
            check_regions(REGIONS.assign(value=pd.Series([value], dtype=object)), IMAGES)
    assert len(str(caught.value)) < 120


@given(st.dictionaries(st.sampled_from(FINDINGS), st.sampled_from([1, 0, -1, None])))
def test_labels_come_back_from_json_and_from_text(labels):
    assert parse_labels(json.dumps(labels)) == labels
    pairs = [f"{name}={'' if value is None else value}" for name, value in labels.items()]
    assert parse_labels(";".join(pairs)) == labels


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
    assert studies["labels"].tolist() == [{}, {}, {}]
    assert (studies["findings"] == "").all()
    images = check_images(IMAGES, studies)
    assert tuple(images.columns) == IMAGE_COLUMNS
    assert images["view"].tolist() == ["UNKNOWN"] * 2
    assert images["height"].isna().all()
    assert tuple(check_regions(None, images).columns) == REGION_COLUMNS
    assert tuple(check_regions(REGIONS, images).columns) == REGION_COLUMNS


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
