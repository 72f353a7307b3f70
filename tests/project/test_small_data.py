"""Own small data as the README says: a few dozen studies in CSV tables, from the tables to the page."""

import shutil

import pytest

from medret_nb.cli.main import main
from medret_nb.data.runs import Run
from medret_nb.data.studies import StudySet


def write_tables(phantom: StudySet, folder, count: int):
    "The first studies of a phantom as somebody's own CSV tables, without splits, labels or views; one has no report."
    (folder / "films").mkdir(parents=True)
    studies = phantom.studies.head(count)[["study_id", "patient_id", "findings", "impression"]].copy()
    studies.iloc[0, 2:] = ""
    images = phantom.images.loc[phantom.images["study_id"].isin(studies["study_id"]), ["image_id", "study_id"]]
    for image, path in zip(phantom.images["image_id"], phantom.image_paths()):
        if image in set(images["image_id"]):
            shutil.copy(path, folder / "films" / f"{image}.png")
    studies.to_csv(folder / "studies.csv", index=False)
    images.assign(path="films/" + images["image_id"] + ".png").to_csv(folder / "images.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def walked(small_phantom, tmp_path_factory):
    "The commands of the README, one after the other, with a training as short as can be; what each printed."
    home = tmp_path_factory.mktemp("own")
    write_tables(small_phantom, home / "tables", 48)
    return home


def run(capsys, *words):
    "A command that must end well; returns what it printed."
    code = main([str(word) for word in words])
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out + said.err


def test_the_way_of_the_readme(walked, capsys):
    data, folder = walked / "studies", walked / "run"
    said = run(capsys, "data", "csv", walked / "tables", data)
    assert "48 studies" in said
    splits = StudySet.load(data).studies["split"].value_counts()
    assert {"train", "val", "test"} == set(splits.index) and splits["train"] > 20
    said = run(capsys, "train", "clip", "--data", data, "--out", folder, "--words", "corpus", "--epochs", "1")
    assert "batch size" in said and "usable training studies (--batch-size)" in said
    assert Run(folder).fingerprint()["training"]["batch_size"] in (8, 16)
    run(capsys, "embed", folder)
    said = run(capsys, "evaluate", folder)
    assert "R@1" in said and "chance" in said
    said = run(capsys, "search", folder, "--text", "small left pleural effusion", "-k", "2")
    assert "medret" not in said or "Traceback" not in said
    film = next((walked / "tables" / "films").glob("*.png"))
    run(capsys, "search", folder, "--image", film, "-k", "2")
    run(capsys, "report", folder, "--no-views")
    assert list(folder.rglob("*.html"))


@pytest.mark.parametrize("count", [20, 80])
def test_the_usual_batch_fits_sets_of_twenty_to_eighty_studies(count):
    from medret_nb.training.loop import TrainConfig, with_batch_size

    usable = round(0.7 * count)
    assert 2 <= with_batch_size(TrainConfig(), usable).batch_size <= usable // 2


def test_a_batch_that_is_too_large_names_the_option_and_leaves_no_folder(walked, capsys):
    data = walked / "studies"
    if not StudySet.there(data):
        assert main(["data", "csv", str(walked / "tables"), str(data)]) == 0
    capsys.readouterr()
    words = ["train", "clip", "--data", data, "--out", walked / "too" / "large", "--batch-size", "500"]
    assert main([str(word) for word in words]) == 2
    said = capsys.readouterr().err
    assert "give a smaller --batch-size" in said and said.strip().count("medret:") == 1
    assert not (walked / "too").exists()
