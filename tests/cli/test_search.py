"""The command that asks: sentences, films and places, and text that must not steer a terminal."""

import dataclasses
import io
import re

import pytest
from invented import make_dicom
from PIL import Image

from medret_nb.cli.ask import Ask
from medret_nb.cli.evaluate import Evaluate
from medret_nb.cli.search import Search
from medret_nb.data.dicom_film import read_film
from medret_nb.data.files import DataError
from medret_nb.data.printing import printable
from medret_nb.data.studies import StudySet
from medret_nb.methods.rra_vl import RRAVL


def test_search_with_a_sentence_and_with_a_film(way, medret):
    home = way[0]
    done = medret("search", home / "run", "--text", "large right pleural effusion", "-k", 3)
    assert done.returncode == 0, done.stderr
    ranks = re.findall(r"^ +(\d+)  ([+-]\d\.\d{3})  (\S+)  (\S+)$", done.stdout, re.M)
    assert [r[0] for r in ranks] == ["1", "2", "3"] and sorted((float(r[1]) for r in ranks), reverse=True) == [
        float(r[1]) for r in ranks
    ]
    film = ranks[0][3]
    done = medret("search", home / "run", "--image", film, "-k", 2)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.startswith("48 reports (both) searched")
        and len(re.findall(r"^ +\d+  [+-]\d", done.stdout, re.M)) == 2
    )


def test_search_by_place(way, medret, tmp_path):
    "A film, a sentence or both, with one region or two, and the measure of it; a method without regions says so."
    home = way[0]
    method = RRAVL.create()
    method.config = dataclasses.replace(method.config, data=str(home / "studies"))
    method.save_pretrained(tmp_path / "run")
    film = next((home / "studies" / "images").iterdir())

    def lines(done):
        return re.findall(r"^ +(\d+)  ([+-]\d\.\d{3})  (\S+)", done.stdout, re.M)

    done = medret(
        "search",
        tmp_path / "run",
        "--image",
        film,
        "--find",
        "films",
        "--region",
        "left lung",
        "--region",
        "cardiac silhouette",
        "-k",
        3,
    )
    assert done.returncode == 0, done.stderr
    assert (
        "at left lung, cardiac silhouette, weight 0.5" in done.stdout
        and "drawn by the model: in the question" in done.stdout
        and len(lines(done)) == 3
    )
    assert (
        "48 films searched" in done.stdout
        and (tmp_path / "run" / "embeddings" / "all-gallery-image-regions.npy").is_file()
    )
    assert lines(done)[0][2] == film.name.rsplit("-", 1)[0] and float(lines(done)[0][1]) > 0.9  # itself
    both = medret(
        "search",
        tmp_path / "run",
        "--image",
        film,
        "--text",
        "left effusion",
        "--region",
        "left lung",
        "--rho",
        0.8,
        "-k",
        2,
    )
    assert (
        both.returncode == 0
        and "48 reports (both) searched" in both.stdout
        and "weight 0.8, and as a whole, weight 0.2" in both.stdout
    ), both.stderr
    told = medret("evaluate", tmp_path / "run", "--protocol", "location")
    assert told.returncode == 0, told.stderr
    assert (
        "image-to-report, true boxes: R@1 macro over (finding, region)" in told.stdout
        and "mirrored place" in told.stdout
    )
    assert "cropped film" in (tmp_path / "run" / "evaluation" / "test" / "location" / "metrics.json").read_text()
    none = medret("evaluate", home / "run", "--protocol", "location")
    assert none.returncode == 2 and "clip has no vectors for regions" in none.stderr
    with pytest.raises(DataError, match="against: there is no paired difference of location"):
        Evaluate(home / "run", protocol=("location",), against=home / "run").run()
    for run, region, words in (
        (tmp_path / "run", "spleen", ("'spleen'", "left lung")),
        (home / "run", "left lung", ("clip", "no vectors for regions")),
    ):
        wrong = medret("search", run, "--image", film, "--region", region)
        assert (
            wrong.returncode == 2
            and len(wrong.stderr.strip().splitlines()) == 1
            and all(w in wrong.stderr for w in words)
        ), wrong.stderr


def test_films_without_a_report_are_found_by_a_sentence(way, medret, tmp_path):
    "A search of films takes every film that can be read, a search of reports every text; neither needs its partner."
    studies = StudySet.load(way[0] / "studies")
    silent = studies.studies["study_id"].tolist()[:30]
    emptied = studies.studies["study_id"].isin(silent)
    for column in ("indication", "findings", "impression", "note"):
        studies.studies.loc[emptied, column] = None
    unreported = dataclasses.replace(studies) if dataclasses.is_dataclass(studies) else studies
    unreported.save(tmp_path / "studies")
    asked = ["search", way[0] / "run", "--data", tmp_path / "studies"]
    films = medret(*asked, "--text", "left effusion", "-k", 48)
    assert films.returncode == 0, films.stderr
    assert films.stdout.startswith("48 films searched") and all(study in films.stdout for study in silent)
    assert films.stdout.count("(no report)") == 30
    reports = medret(*asked, "--text", "left effusion", "--find", "reports", "-k", 3)
    assert reports.stdout.startswith("18 reports (both) searched"), reports.stderr


def test_a_dicom_file_is_a_question(way, tmp_path, capsys, monkeypatch):
    "A DICOM film is answered as its picture is, in `search` and in `ask`; nothing of its patient is printed."
    run = way[0] / "run"
    film = make_dicom(tmp_path / "film.dcm")
    Image.fromarray(read_film(film)).save(tmp_path / "film.png")
    said = []
    for path in (film, film.with_suffix(".png")):
        Search(run, image=path, k=3).run()
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{path}\n"))
        Ask(run, k=3).run()
        said.append(capsys.readouterr())
    assert said[0] == said[1] and said[0].out.count("48 reports (both) searched") == 2 and not said[0].err
    assert "SECRET" not in said[0].out
    with pytest.raises(DataError, match="ct.dcm: .*CT") as caught:
        Search(run, image=make_dicom(tmp_path / "ct.dcm", Modality="CT")).run()
    assert "\n" not in str(caught.value) and "SECRET" not in str(caught.value)


def test_search_shows_no_more_than_there_is(way, medret):
    done = medret("search", way[0] / "run", "--text", "effusion", "--split", "test", "-k", 500)
    assert done.returncode == 0 and "only" in done.stderr


def test_untrusted_text_cannot_steer_the_terminal():
    assert printable("a\x1b]0;title\x07b\r\nc\u202ed") == "a ]0;title b c d"
