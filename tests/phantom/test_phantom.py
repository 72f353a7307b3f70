"""make_phantom: tables that agree, work that goes on, splits as asked, truth apart, counterfactuals."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import medret_nb.phantom.phantom as phantom
from medret_nb.data.files import DataError, read_json, read_parquet
from medret_nb.data.studies import StudySet
from medret_nb.data.files import shipped_data
from medret_nb.data.tables import FINDINGS
from medret_nb.phantom.dictation import dictate
from medret_nb.phantom.truth_tables import load_truth, retell
from medret_nb.phantom.phantom import make_phantom
from medret_nb.phantom.planning import plan, split_counts
from medret_nb.phantom.rendering import render
from medret_nb.phantom.scenes import DEVICE_KINDS

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


def test_films_and_boxes(small_phantom):
    for row, path in zip(small_phantom.images.itertuples(), small_phantom.image_paths()):
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
            right, left = (rows[rows["region"].str.startswith(side)].iloc[0] for side in ("right", "left"))
            assert right.x1 <= left.x0 + 0.1  # each its own part, the patient's right on the film's left
            seen += 1
    assert seen


def test_reports_fit_unless_the_observer_erred(small_phantom):
    truth = load_truth(small_phantom)
    errors = [json.loads(e) for e in read_parquet(small_phantom.folder / "scenes.parquet")["errors"]]
    for reading in ("open", "closed"):
        own = np.diag(truth.fits(reading))
        assert all(fit or err for fit, err in zip(own, errors)) and own.mean() > 0.6
    part = load_truth(small_phantom.split("test"))
    rows = small_phantom.studies.index[small_phantom.studies["split"] == "test"]
    assert [truth.scenes[i] for i in rows] == part.scenes and [truth.reports[i] for i in rows] == part.reports


def test_a_text_claims_what_its_own_sections_claim(small_phantom):
    from medret_nb.data.reports import section_text

    whole = load_truth(small_phantom)
    both, short = (load_truth(small_phantom, section_text(small_phantom, policy)) for policy in ("both", "impression"))
    assert both.reports == whole.reports
    table = small_phantom.studies
    for row, (all_of, some) in enumerate(zip(whole.reports, short.reports)):
        here = "impression" if table["impression"][row].strip() else "findings"
        assert [a for a in all_of if a.section == here] == [a for a in some if a.section == here]
        assert {a.section for a in some} <= {here} or table["findings"][row].strip() in table["impression"][row]
    assert sum(map(len, short.reports)) < sum(map(len, whole.reports)) and (short.fits() >= whole.fits()).all()


def test_ambiguity_columns(small_phantom):
    a = read_parquet(small_phantom.folder / "ambiguity.parquet")
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
    monkeypatch.setattr(phantom, "CHUNK", 1)
    whole = make(8, tmp_path / "whole")
    real, calls = phantom._make_chunk, []

    def dies(config, number, entries, folder):
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(number)
        return real(config, number, entries, folder)

    monkeypatch.setattr(phantom, "_make_chunk", dies)
    with pytest.raises(KeyboardInterrupt):
        make(8, tmp_path / "part")
    assert (
        len(list((tmp_path / "part" / "parts").iterdir())) == 1 and not (tmp_path / "part" / "studies.parquet").exists()
    )
    resumed = []
    monkeypatch.setattr(phantom, "_make_chunk", lambda c, n, e, f: resumed.append(n) or real(c, n, e, f))
    again = make(8, tmp_path / "part")
    assert (
        again.hash() == whole.hash() and 0 not in resumed and len(resumed) == len(plan(_config(tmp_path / "whole"))) - 1
    )
    resumed.clear()
    assert make(8, tmp_path / "part").hash() == whole.hash() and not resumed
    assert not (tmp_path / "part" / "parts").exists()
    for path in whole.image_paths():
        assert path.read_bytes() == (tmp_path / "part" / "images" / path.name).read_bytes()


def _config(folder):
    saved = read_json(folder / "phantom.json")
    return phantom.PhantomConfig(saved["counts"], saved["seed"], saved["size"], views=("PA",))


def test_other_settings_and_strange_folders_are_refused(tmp_path):
    make(4, tmp_path / "a")
    with pytest.raises(DataError, match="seed differ"):
        make(4, tmp_path / "a", seed=9)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        make(4, tmp_path / "b")
    with pytest.raises(DataError, match="only a phantom"):
        load_truth(
            StudySet(
                pd.DataFrame({"study_id": ["a"]}),
                pd.DataFrame({"image_id": [], "study_id": [], "path": []}),
                folder=tmp_path,
            )
        )


@pytest.mark.parametrize("wrong", [0, -3, 2.5, {"train": -1}, {"all": 3}, {}])
def test_numbers_of_studies_are_checked(wrong):
    with pytest.raises(ValueError, match="studies must"):
        split_counts(wrong)


def test_wrong_arguments():
    for settings, word in (({"size": 4}, "size"), ({"site": "C"}, "site"), ({"prevalence": "all"}, "prevalence")):
        with pytest.raises(ValueError, match=word):
            make(4, **settings)


def test_splits_sum_and_patients_stay_whole():
    for n in (1, 2, 7, 48, 1000):
        assert sum(split_counts(n).values()) == n
    config = phantom.PhantomConfig(split_counts({"train": 500, "test": 400}), 1, 64, one_study_per_patient=("test",))
    entries = [e for chunk in plan(config) for e in chunk]
    count = lambda split: sum(len(keep) for s, _, keep in entries if s == split)
    assert count("train") == 500 and count("test") == 400
    assert len({i for s, i, _ in entries if s == "test"}) == 400 and len({i for _, i, _ in entries}) == len(entries)


def test_two_processes_make_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(phantom, "CHUNK", 1)
    one, two = make(6, tmp_path / "one"), make(6, tmp_path / "two", workers=2)
    assert one.hash() == two.hash()


def test_retelling_the_same_scene_gives_the_report(small_phantom):
    truth = load_truth(small_phantom)
    for row in range(6):
        report = retell(truth, row, truth.scenes[row])
        assert (
            report.findings == small_phantom.studies["findings"][row]
            and report.impression == small_phantom.studies["impression"][row]
        )


def test_natural_and_other_site():
    made = make(6, prevalence="natural", site="B")
    assert made.studies["patient_id"].str.startswith("B").all() and made.info["config"]["forms"]["incidental"] == 0.5
    assert "OpenI" in made.info["source"]


def test_shipped_set_is_what_its_command_makes_today():
    """If this fails after a change of the grammar or the drawing, make data/phantom-small anew (data/README.md says how)."""
    shipped = StudySet.load(shipped_data("phantom-small"))
    config = phantom.PhantomConfig(split_counts(60), 0, 64)
    assert read_json(shipped.folder / "phantom.json") == config.record()
    truth = load_truth(shipped)
    best = truth.visibility.groupby(["study_id", "index"])["dprime"].max()
    for row, study in enumerate(shipped.studies.itertuples()):
        dprime = [best[study.study_id, i] for i in range(len(truth.scenes[row].findings))]
        report = dictate(
            truth.scenes[row], truth.keys[row], "A", truth.priors[row], dprime, config.observer, config.forms
        )
        assert (report.findings, report.impression) == (study.findings, study.impression)
    for image, path in list(zip(shipped.images.itertuples(), shipped.image_paths()))[:20:7]:
        row = shipped.studies.index[shipped.studies["study_id"] == image.study_id][0]
        a = next(a for a in truth.scenes[row].acquisitions if a.view == image.view)
        assert np.abs(render(truth.scenes[row], a, 64).astype(int) - np.asarray(Image.open(path))).max() <= 2
    assert sum(f.stat().st_size for f in shipped.folder.rglob("*") if f.is_file()) < 1.5e6
