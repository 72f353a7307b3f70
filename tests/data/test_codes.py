import pytest
from hypothesis import given
from hypothesis import strategies as st

from medret_nb.data.codes import RULES, breath, labels_from_codes, rules_for, split_code, unused_codes
from medret_nb.data.finding_names import FINDINGS
from medret_nb.phantom.scenes import DEVICE_KINDS, FINDING_KINDS

CODES = st.lists(
    st.sampled_from(
        [
            "normal",
            "Opacity/lung/base/left",
            "Opacity/lung/lingula/mild",
            "Nodule/lung/upper lobe/right/small",
            "Cardiomegaly/borderline",
            "Cardiomegaly",
            "Pleural Effusion/bilateral",
            "Hydropneumothorax",
            "Lung/hypoinflation",
            "Scoliosis/mild",
            "Catheters, Indwelling/right",
            "Mass/mediastinum/right",
        ]
    ),
    max_size=6,
)


def test_the_table_names_only_what_exists():
    for heading, _, label, drawn in RULES:
        assert heading == heading.lower()
        assert label.removesuffix("?") in ("", *FINDINGS)
        assert drawn in ("", *FINDING_KINDS, *DEVICE_KINDS)
        assert label or drawn


@pytest.mark.parametrize(
    "codes, labels",
    [
        ([], {}),
        (["normal"], {"No Finding": 1}),
        (["No Indexing"], {}),
        (["Scoliosis/mild"], {}),
        (["Cardiomegaly/borderline"], {"Cardiomegaly": -1}),
        (["Cardiomegaly/borderline", "Cardiac Shadow/enlarged"], {"Cardiomegaly": 1}),
        (["Cardiac Shadow/obscured"], {}),
        (["Mass/mediastinum/right"], {"Enlarged Cardiomediastinum": 1}),
        (["Mass/lung/upper lobe/right"], {"Lung Lesion": 1}),
        (["Opacity/lung/round"], {"Lung Lesion": 1}),
        (["Opacity/lung/base"], {"Lung Opacity": 1}),
        (["Costophrenic Angle/left/blunted "], {"Pleural Effusion": -1}),
        (["Costophrenic Angle/left/obscured"], {}),
        (["Thickening/pleura/apex"], {"Pleural Other": 1}),
        (["Thickening/bronchovascular"], {}),
        (["Hydropneumothorax/right"], {"Pneumothorax": 1, "Pleural Effusion": 1}),
        (["Fractures, Bone/humerus"], {"Fracture": 1}),
        (["Nodule/breast/left"], {}),
        (["  PNEUMONIA / lung/ left"], {"Pneumonia": 1}),
    ],
)
def test_labels(codes, labels):
    assert labels_from_codes(codes) == labels


@given(CODES)
def test_order_and_repetition_do_not_matter(codes):
    assert labels_from_codes(codes) == labels_from_codes(codes[::-1] + codes)


def test_breath_and_unused():
    assert [
        breath(code)
        for code in ("Lung/hypoinflation/mild", "Lung/hyperdistention", "Emphysema", "Lung/azygos lobe", "normal")
    ] == [0.4, 1.0, 1.0, None, None]
    assert unused_codes([["Scoliosis", "normal"], ["Scoliosis/mild", "Lung/hypoinflation", "Lung/azygos lobe"]]) == {
        "scoliosis": 2,
        "lung": 1,
    }
    assert split_code("Lung/ hilum ") == ("lung", ("hilum",)) and rules_for("Spine/degenerative") == []
