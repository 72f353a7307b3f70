import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from invented import openi_archive
from PIL import Image

from medret_nb.data.files import DataError
from medret_nb.data.openi import code_sets, read_openi
from medret_nb.data.studies import StudySet
from medret_nb.phantom.drawn import findings_from_codes, openi_with_drawn_films, scene_from_codes, scene_sets
from medret_nb.phantom.scenes import DEVICE_KINDS

NO_FILMS = pd.DataFrame(columns=["image_id", "study_id", "path"])
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


@pytest.fixture
def archive(tmp_path):
    return openi_archive(tmp_path / "reports.tgz")


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


@given(CODES)
def test_order_and_repetition_of_codes_do_not_matter(codes):
    assert findings_from_codes(codes) == findings_from_codes(codes[::-1] + codes)


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


def test_drawn_films_are_one_per_report_and_go_on_after_an_interruption(archive, tmp_path):
    out = tmp_path / "out"
    made = openi_with_drawn_films(archive, out, size=48, views=("PA", "LATERAL"), quiet=True)
    assert len(made.images) == 48 and made.images["view"].value_counts().to_dict() == {"PA": 24, "LATERAL": 24}
    files = {path: path.read_bytes() for path in made.image_paths()}
    assert {Image.open(path).size for path in files} == {(48, 48)} and len(set(files.values())) == 48
    victims = list(files)[5:9]
    for path in victims:
        path.unlink()
    (out / "images" / ".CXR9-PA-12345678.tmp.png").write_bytes(b"half")
    os.utime(list(files)[0], (1, 1))
    openi_with_drawn_films(archive, out, size=48, views=("PA", "LATERAL"), quiet=True)
    assert {path: path.read_bytes() for path in (out / "images").glob("*.png")} == {
        path.resolve(): data for path, data in files.items()
    }
    assert list(files)[0].stat().st_mtime == 1
    openi_with_drawn_films(archive, out, size=32, quiet=True)
    assert {Image.open(path).size for path in (out / "images").glob("*.png")} == {(32, 32)} and len(
        list((out / "images").glob("*.png"))
    ) == 24


def test_a_killed_drawing_goes_on_to_the_same_files(archive, tmp_path):
    arguments = f"{str(archive)!r}, {str(tmp_path / 'killed')!r}, size=96, quiet=True"
    code = f"from medret_nb.phantom.drawn import openi_with_drawn_films as draw; draw({arguments})"
    child = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    )
    films, until = tmp_path / "killed" / "images", time.monotonic() + 90
    while time.monotonic() < until and child.poll() is None and len(list(films.glob("C*.png"))) < 3:
        time.sleep(0.002)
    child.kill()
    child.wait()
    assert 3 <= len(list(films.glob("C*.png"))) <= 24 and not (tmp_path / "killed" / "studies.parquet").exists()
    for name in ("killed", "whole"):
        openi_with_drawn_films(archive, tmp_path / name, size=96, quiet=True)
    whole, killed = (
        {
            path.relative_to(tmp_path / name).as_posix(): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("whole", "killed")
    )
    assert whole == killed and len(whole) == 24 + 6


def test_drawing_never_removes_films_of_others(archive, tmp_path):
    (tmp_path / "out" / "images").mkdir(parents=True)
    (tmp_path / "out" / "images" / "precious.png").write_bytes(b"mine")
    with pytest.raises(DataError, match="not drawn here"):
        openi_with_drawn_films(archive, tmp_path / "out", size=32, quiet=True)
    assert (tmp_path / "out" / "images" / "precious.png").read_bytes() == b"mine"


def test_arguments_are_checked(archive, tmp_path):
    with pytest.raises(TypeError, match="'out'"):
        openi_with_drawn_films(archive)
    with pytest.raises(ValueError, match="size: -1"):
        openi_with_drawn_films(archive, tmp_path / "o", size=-1)


def test_reports_are_numbered_by_what_can_be_drawn(archive, tmp_path, capsys):
    reports = read_openi(archive)
    assert code_sets(reports).max() + 1 == 4
    assert scene_sets(reports).max() + 1 == 3  # a curved spine is not drawn
    made = openi_with_drawn_films(archive, tmp_path / "out", size=16)
    printed = capsys.readouterr().out
    assert "distinct sets of codes: 4 for 24 reports" in printed
    assert "distinct drawn scenes: 3 for 24 reports" in printed
    assert made.restricted and "not radiographs" in made.info["notes"][-1]


@pytest.mark.parametrize("name", ["../../x", "/elsewhere/x"])
def test_an_id_that_leads_elsewhere_draws_nothing(tmp_path, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.xml").write_text(f'<eCitation><uId id="{name}"/></eCitation>')
    with pytest.raises(DataError, match="no name of a file"):
        openi_with_drawn_films(tmp_path / "in", tmp_path / "a" / "b", size=32, quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_drawn_films_do_not_go_over_another_set(archive, tmp_path):
    StudySet(pd.DataFrame({"study_id": ["a"]}), NO_FILMS, info={"made_by": "somebody"}).save(tmp_path / "out")
    with pytest.raises(DataError, match="made by somebody"):
        openi_with_drawn_films(archive, tmp_path / "out", size=32, quiet=True)
    assert len(StudySet.load(tmp_path / "out")) == 1 and not (tmp_path / "out" / "images").exists()
