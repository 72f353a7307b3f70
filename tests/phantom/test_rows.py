"""One study as rows: films that are there, boxes that are named where the truth has the finding."""

import subprocess
import sys

import numpy as np
from PIL import Image
from support import child_environment

from medret_nb.phantom.planning import PhantomConfig
from medret_nb.phantom.rendering import render
from medret_nb.phantom.rows import DRAWING_MODULE, STUDY_TABLES, _regions_of, draw_film, study_rows
from medret_nb.phantom.scenes import DEVICE_KINDS, Acquisition, Finding, Patient, Scene
from medret_nb.phantom.truth_tables import load_truth


def test_films_and_boxes(small_phantom):
    for path in small_phantom.image_paths():
        with Image.open(path) as film:
            assert film.mode == "L" and film.size == (64, 64) and np.asarray(film).std() > 15
    regions = small_phantom.regions
    anatomy = regions[regions["kind"] == "anatomy"].groupby("image_id")["region"].nunique()
    assert (anatomy >= 20).all() and len(anatomy) == len(small_phantom.images)
    assert (regions["source"] == "gold").all() and regions.loc[regions["kind"] == "finding", "label"].ne("").all()


def test_findings_are_named_where_the_truth_has_them(small_phantom):
    told = small_phantom.regions[small_phantom.regions["kind"] == "finding"]
    truth = load_truth(small_phantom).findings.set_index(["study_id", "index"])
    seen = 0
    for (image, note), rows in told.groupby(["image_id", "annotation_id"]):
        f = truth.loc[(image.rsplit("-", 1)[0], int(note.rsplit("-", 1)[1]))]
        sides = {"bilateral": {"right", "left"}}.get(f.side, {f.side})
        if f.finding in ("cardiomegaly", "enlarged mediastinum"):
            assert set(rows["region"]) == {{"cardiomegaly": "cardiac silhouette"}.get(f.finding, "mediastinum")}
        elif f.finding in DEVICE_KINDS:
            assert set(rows["region"]) == {""}
        else:
            assert set(rows["region"]) == {f"{side} {f.zone} lung zone" if f.zone else f"{side} lung" for side in sides}
        if f.side == "bilateral" and not image.endswith("LATERAL"):
            right = rows[rows["region"].str.startswith("right")].iloc[0]
            left = rows[rows["region"].str.startswith("left")].iloc[0]
            assert right.x1 <= left.x0 + 0.1  # each its own part, the patient's right on the film's left
            seen += 1
    assert seen


def test_a_study_fills_every_table(tmp_path):
    (tmp_path / "images").mkdir()
    config = PhantomConfig({"train": 1}, 5, 24)
    films = (Acquisition("PA", seed=1), Acquisition("LATERAL", seed=2))
    before = Scene(Patient(3), (Finding("edema", "bilateral"),), films[:1])
    scene = Scene(Patient(3), (Finding("nodule", "right", "mid", 2, 16.0, seed=3),), films)
    rows = study_rows(config, "train", 7, 1, scene, before, tmp_path)
    assert tuple(sorted(rows)) == tuple(sorted(STUDY_TABLES)) and all(rows.values())
    assert {row["study_id"] for row in rows["studies"] + rows["truth"] + rows["images"]} == {"A00000007-2"}
    assert [row["view"] for row in rows["images"]] == ["PA", "LATERAL"]
    assert len(rows["visibility"]) == 2 and rows["scenes"][0]["prior"] != ""
    assert all((tmp_path / row["path"]).is_file() for row in rows["images"])


def test_a_box_over_both_lungs_is_cut_in_two():
    regions = {"right lung": (0.1, 0.1, 0.45, 0.9), "left lung": (0.55, 0.1, 0.9, 0.9)}
    box = (0.2, 0.3, 0.8, 0.6)
    both = _regions_of(Finding("edema", "bilateral"), box, regions)
    assert both == [("right lung", (0.2, 0.3, 0.45, 0.6)), ("left lung", (0.55, 0.3, 0.8, 0.6))]
    assert _regions_of(Finding("nodule", "left", "mid", 1, 9.0), box, regions) == [("left mid lung zone", box)]
    assert _regions_of(Finding("device", "right", kind="central line"), box, regions) == [("", box)]


def test_a_process_that_draws_imports_little(tmp_path):
    "Many processes that begin at once all wait for what this module imports."
    seen = f"import sys, {DRAWING_MODULE}; print(*{{'torch', 'pandas', 'pyarrow', 'matplotlib'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, env=child_environment())
    assert done.returncode == 0 and not done.stdout.split(), done.stdout + done.stderr


def test_a_film_by_itself_is_what_is_rendered(tmp_path):
    film = Acquisition("PA", seed=4)
    scene = Scene(Patient(1, "F", 50), (), (film,))
    assert draw_film((scene, film, 48, tmp_path / "film.png")) == str(tmp_path / "film.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "film.png")), render(scene, film, 48))
