import pytest
from hypothesis import given
from hypothesis import strategies as st

from medret_nb.data.codes import RULES, breath, labels_from_codes, rules_for, split_code, unused_codes
from medret_nb.phantom.drawn import findings_from_codes, scene_from_codes
from medret_nb.data.tables import FINDINGS
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
    assert findings_from_codes(codes) == findings_from_codes(codes[::-1] + codes)


@pytest.mark.parametrize(
    "code, expected",
    [
        ("Opacity/lung/base/left/mild", ("consolidation", "left", "lower", 1)),
        ("Opacity/lung/middle lobe", ("consolidation", "right", "mid", 2)),
        ("Pneumonia/lung/lingula/severe", ("pneumonia", "left", "mid", 3)),
        ("Pleural Effusion/bilateral/small", ("pleural effusion", "bilateral", "", 1)),
        ("Pneumothorax/apex/right/large", ("pneumothorax", "right", "", 3)),
        ("Pulmonary Edema/mild", ("edema", "bilateral", "", 1)),
        ("Cardiomegaly", ("cardiomegaly", "", "", 2)),
        ("Infiltrate/lung/scattered", ("consolidation", "bilateral", "", 2)),
        ("Fractures, Bone/ribs/left/healed", ("rib fracture", "left", "", 2)),
        ("Implanted Medical Device/left", ("device", "left", "", 2)),
        ("Tube, Inserted/trachea, carina", ("device", "", "", 2)),
    ],
)
def test_place_and_degree(code, expected):
    (finding,) = findings_from_codes([code])
    assert (finding.name, finding.side, finding.zone, finding.severity) == expected
    assert (finding.kind in DEVICE_KINDS) == (finding.name == "device")


@pytest.mark.parametrize(
    "code",
    [
        "Implanted Medical Device/aortic valve",
        "Implanted Medical Device/humerus/right",
        "Density/thorax",
        "normal",
        "Fractures, Bone/clavicle/right",
        "Calcified Granuloma/lung/hilum/lymph nodes",
    ],
)
def test_what_the_phantom_cannot_draw(code):
    assert findings_from_codes([code]) == ()


def test_nodules_have_a_size_and_the_greater_severity_wins():
    (finding,) = findings_from_codes(["Nodule/lung/right/small", "Nodule/lung/right/large"])
    assert finding.size_mm == 24.0 and finding.severity == 3
    (granuloma,) = findings_from_codes(["Calcified Granuloma/lung/right"])
    assert granuloma.size_mm == 6.0


@given(CODES, st.integers(0, 5))
def test_scenes_repeat_and_hold_what_the_codes_say(codes, seed):
    scene = scene_from_codes(codes, "s1", seed, ("PA", "LATERAL"))
    assert scene == scene_from_codes(codes, "s1", seed, ("PA", "LATERAL"))
    assert [film.view for film in scene.acquisitions] == ["PA", "LATERAL"]
    for found, said in zip(scene.findings, findings_from_codes(codes), strict=True):
        assert (found.name, found.zone, found.severity, found.kind) == (said.name, said.zone, said.severity, said.kind)
        assert found.side == said.side or said.side == ""
        if found.name in ("pneumothorax", "pleural effusion", "consolidation", "nodule"):
            assert found.side
    if "Lung/hypoinflation" in codes:
        assert scene.acquisitions[0].inspiration == 0.2


def test_another_study_is_another_person():
    assert len({scene_from_codes(["normal"], f"s{k}", seed).patient for k in range(20) for seed in range(3)}) == 60


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
