"""make_phantom: tables that agree, work that goes on, strange folders refused, the shipped set."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medret_nb.data.files import DataError, read_json, read_parquet, shipped_data
from medret_nb.data.finding_names import FINDINGS
from medret_nb.data.studies import StudySet
from medret_nb.phantom import phantom, planning
from medret_nb.phantom.dictation import dictate
from medret_nb.phantom.phantom import make_phantom
from medret_nb.phantom.planning import PhantomConfig, plan, split_counts
from medret_nb.phantom.records import read_ambiguity
from medret_nb.phantom.rendering import render
from medret_nb.phantom.rows import piece_file
from medret_nb.phantom.truth_tables import load_truth

TRUTH = ("truth", "visibility", "scenes", "sentences", "assertions", "ambiguity")


def make(studies, out=None, **settings):
    return make_phantom(studies, **{"seed": 3, "size": 24, "out": out, "progress": False, "views": ("PA",), **settings})


def tables(folder):
    return {t: read_parquet(folder / f"{t}.parquet") for t in (*TRUTH, "studies", "images", "regions")}


def test_tables_agree(small_phantom):
    folder, studies = small_phantom.folder, small_phantom.studies
    t = tables(folder)
    assert len(studies) == 48 and studies["split"].value_counts().to_dict() == {"train": 33, "val": 5, "test": 10}
    for name in ("scenes", "ambiguity"):
        assert t[name]["study_id"].tolist() == studies["study_id"].tolist()
    held = {row.study_id: json.loads(row.scene) for row in t["scenes"].itertuples()}
    for study, scene in held.items():
        rows = t["truth"][t["truth"]["study_id"] == study]
        assert rows["finding"].tolist() == [f["kind"] or f["name"] for f in scene["findings"]]
        seen = t["visibility"][t["visibility"]["study_id"] == study]
        assert len(seen) == len(scene["findings"]) * len(scene["acquisitions"])
    assert (t["visibility"]["dprime"] >= 0).all() and t["visibility"]["image_id"].isin(
        small_phantom.images["image_id"]
    ).all()
    assert not set(t["truth"].columns) & {"labels"} and not {"severity", "dprime"} & set(studies.columns)
    for row in studies.itertuples():
        told = t["sentences"][t["sentences"]["study_id"] == row.study_id]
        for section in ("findings", "impression"):
            assert " ".join(told.loc[told["section"] == section, "text"]) == getattr(row, section)
        assert set(row.labels) == set(FINDINGS) and set(row.labels.values()) <= {1, 0, -1, None}


def test_ambiguity_columns(small_phantom):
    a = read_ambiguity(small_phantom.folder)
    assert (a["report_open"] <= 0).all() and (a["report_closed"] <= a["report_open"]).all()
    assert (a["image"] >= 0).all() and (a["wording"] > 0).all() and a["report_open"].nunique() > 20


def test_same_settings_same_tables_whatever_the_size(tmp_path):
    one, two = make(6, tmp_path / "a"), make(6, tmp_path / "b", size=32)
    assert one.folder == tmp_path / "a"
    a, b = tables(tmp_path / "a"), tables(tmp_path / "b")
    for name in a:
        drop = ["height", "width"] if name == "images" else []
        pd.testing.assert_frame_equal(a[name].drop(columns=drop), b[name].drop(columns=drop))
    assert make(6, seed=4).hash() != one.hash() and two.images["height"].tolist() == [32] * len(two.images)


def test_test_set_does_not_depend_on_the_training_set():
    few, more = (make({"train": n, "test": 6}, one_study_per_patient=("test",)) for n in (2, 5))
    columns = ["study_id", "findings", "impression", "indication"]
    pd.testing.assert_frame_equal(few.split("test").studies[columns], more.split("test").studies[columns])
    assert few.split("test").studies["patient_id"].nunique() == 6


def test_goes_on_after_an_interruption(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "CHUNK", 1)
    whole = make(8, tmp_path / "whole")
    real, calls = phantom.draw_piece, []

    def dies(config, number, entries, folder):
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(number)
        return real(config, number, entries, folder)

    monkeypatch.setattr(phantom, "draw_piece", dies)
    with pytest.raises(KeyboardInterrupt):
        make(8, tmp_path / "part")
    assert len(list((tmp_path / "part" / "parts").iterdir())) == 1
    assert not StudySet.there(tmp_path / "part")
    resumed = []
    monkeypatch.setattr(phantom, "draw_piece", lambda c, n, e, f: resumed.append(n) or real(c, n, e, f))
    again = make(8, tmp_path / "part")
    assert again.hash() == whole.hash() and 0 not in resumed
    assert len(resumed) == len(plan(_config(tmp_path / "whole"))) - 1
    resumed.clear()
    assert make(8, tmp_path / "part").hash() == whole.hash() and not resumed
    assert not (tmp_path / "part" / "parts").exists()
    for path in whole.image_paths():
        assert path.read_bytes() == (tmp_path / "part" / "images" / path.name).read_bytes()


def _config(folder):
    saved = read_json(folder / "phantom.json")
    return PhantomConfig(saved["counts"], saved["seed"], saved["size"], views=("PA",))


def test_other_settings_and_strange_folders_are_refused(tmp_path):
    make(4, tmp_path / "a")
    with pytest.raises(DataError, match="seed differ"):
        make(4, tmp_path / "a", seed=9)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        make(4, tmp_path / "b")


def test_wrong_arguments():
    for settings, word in (({"size": 4}, "size"), ({"site": "C"}, "site"), ({"prevalence": "all"}, "prevalence")):
        with pytest.raises(ValueError, match=word):
            make(4, **settings)


def test_two_processes_make_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "CHUNK", 1)
    one, two = make(6, tmp_path / "one"), make(6, tmp_path / "two", workers=2)
    files = sorted(path.relative_to(one.folder) for path in one.folder.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(two.folder) for path in two.folder.rglob("*") if path.is_file())
    for file in files:
        assert (one.folder / file).read_bytes() == (two.folder / file).read_bytes(), file
    assert one.hash() == two.hash()


def test_processes_are_as_many_as_are_worth_their_start(monkeypatch):
    monkeypatch.setattr(phantom, "usable_cores", lambda: 16)
    pieces = [(number, [("train", number, (0, 1))]) for number in range(400)]
    assert [phantom._processes(0, pieces[:n]) for n in (0, 10, 49, 50, 100, 400)] == [1, 1, 1, 2, 4, 16]
    assert phantom._processes(3, pieces) == 3 and phantom._processes(8, pieces[:5]) == 5
    with pytest.raises(ValueError, match="workers must be a whole number between 0 and 256"):
        make(4, workers=-1)


@pytest.mark.parametrize("left", [b"", b'{"studies": {"study_id": ["A0', bytes(4096)])
def test_a_piece_that_a_power_cut_left_broken_is_made_again(left, tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "CHUNK", 1)
    whole = make(4, tmp_path / "whole")
    config = _config(tmp_path / "whole")
    phantom._claim_folder(tmp_path / "part", PhantomConfig(config.counts, config.seed, config.size, views=("PA",)))
    for name in ("parts", "images"):
        (tmp_path / "part" / name).mkdir()
    piece_file(tmp_path / "part", 1).write_bytes(left)
    assert make(4, tmp_path / "part").hash() == whole.hash()


def test_natural_and_other_site():
    made = make(6, prevalence="natural", site="B")
    assert made.studies["patient_id"].str.startswith("B").all() and made.info["config"]["forms"]["incidental"] == 0.5
    assert "OpenI" in made.info["source"]


def test_shipped_set_is_what_its_command_makes_today():
    """If this fails after a change of grammar or drawing, make data/phantom-small anew (data/README.md says how)."""
    shipped = StudySet.load(shipped_data("phantom-small"))
    config = PhantomConfig(split_counts(60), 0, 64)
    assert read_json(shipped.folder / "phantom.json") == config.record()
    truth = load_truth(shipped)
    best = truth.visibility.groupby(["study_id", "index"])["dprime"].max()
    for row, study in enumerate(shipped.studies.itertuples()):
        dprime = [best[study.study_id, i] for i in range(len(truth.scenes[row].findings))]
        scene, key, prior = truth.scenes[row], truth.keys[row], truth.priors[row]
        report = dictate(scene, key, "A", prior, dprime, config.observer, config.forms)
        assert (report.findings, report.impression) == (study.findings, study.impression)
    for image, path in list(zip(shipped.images.itertuples(), shipped.image_paths()))[:20:7]:
        row = shipped.studies.index[shipped.studies["study_id"] == image.study_id][0]
        a = next(a for a in truth.scenes[row].acquisitions if a.view == image.view)
        assert np.abs(render(truth.scenes[row], a, 64).astype(int) - np.asarray(Image.open(path))).max() <= 2
    assert sum(f.stat().st_size for f in shipped.folder.rglob("*") if f.is_file()) < 1.5e6


def test_tables_of_somebody_else_in_a_phantoms_folder_are_not_its_own(tmp_path):
    made = make_phantom(4, seed=1, size=32, out=tmp_path / "p", progress=False)
    made.info = {"name": "mine", "restricted": False}
    made.save(tmp_path / "p")
    with pytest.raises(DataError, match="those of another StudySet"):
        make_phantom(4, seed=1, size=32, out=tmp_path / "p", progress=False)
