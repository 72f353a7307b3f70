"""The command line as a user types it: real processes, real folders, one line for each mistake."""

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support import child_environment

from medret_nb.cli.evaluate import Evaluate
from medret_nb.cli.main import COMMANDS, main, one_line, overview, read_arguments, split_command
from medret_nb.cli.search import printable
from medret_nb.data.files import DataError


def refused(done: subprocess.CompletedProcess, *words: str) -> str:
    """The one line of a refused command; checks code 2, nothing on stdout that looks like a result, no traceback."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith("medret: ")]
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert len(said) == 1 and lines[-1] == said[0], done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in said[0], said[0]
    return said[0]


@pytest.fixture(scope="module")
def way(medret, tmp_path_factory):
    """The whole way once, at toy size: studies, a trained run; every command checked where it runs."""
    home = tmp_path_factory.mktemp("way")
    made = medret("data", "phantom", home / "studies", "--studies", 48, "--seed", 3, "--size", 64, "--workers", 2)
    assert made.returncode == 0, made.stderr
    trained = medret(
        "train",
        "clip",
        "--data",
        home / "studies",
        "--out",
        home / "run",
        "--epochs",
        1,
        "--batch-size",
        8,
        "--dim",
        16,
    )
    assert trained.returncode == 0, trained.stderr
    return home, made, trained


def test_phantom_and_train(way):
    home, made, trained = way
    assert "48 studies" in made.stdout and str(home / "studies") in made.stdout
    assert {"studies.parquet", "images.parquet", "dataset.json", "truth.parquet"} <= {
        f.name for f in (home / "studies").iterdir()
    }
    assert "trained clip for 4 steps" in trained.stdout  # 34 training studies, batches of 8
    assert {"config.json", "model.safetensors", "tokenizer.json", "log.jsonl", "fingerprint.json"} <= {
        f.name for f in (home / "run").iterdir()
    }
    settings = json.loads((home / "run" / "config.json").read_text())
    assert settings["dim"] == 16 and settings["method"] == "clip"
    assert "training clip" in trained.stderr, "no progress was shown"


def test_training_resumes_or_refuses(way, medret):
    home = way[0]
    again = (
        "train",
        "clip",
        "--data",
        home / "studies",
        "--out",
        home / "run",
        "--epochs",
        1,
        "--batch-size",
        8,
        "--dim",
        16,
    )
    before = (home / "run" / "model.safetensors").read_bytes()
    refused(medret(*again), str(home / "run"))
    done = medret(*again, "--resume")
    assert done.returncode == 0, done.stderr
    assert (home / "run" / "model.safetensors").read_bytes() == before


def test_embed_then_evaluate(way, medret):
    home = way[0]
    done = medret("embed", home / "run", "--split", "test")
    assert done.returncode == 0, done.stderr
    assert (home / "run" / "embeddings" / "test-image.parquet").is_file() and "16 dimensions" in done.stdout
    done = medret("evaluate", home / "run", "--protocol", "exact", "labels", "fits-open", "--k", 1, 5)
    assert done.returncode == 0, done.stderr
    for protocol in ("exact", "labels", "fits-open"):
        report = json.loads((home / "run" / "evaluation" / "test" / protocol / "metrics.json").read_text())
        assert report["protocol"] == protocol and report["directions"]["image-to-text"]["queries"] > 0
    for word in ("R@5", "95 % interval", "chance", "ties", "identical other", "oracle that sees the scene"):
        assert word in done.stdout, word


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
    assert done.stdout.startswith("48 reports searched") and len(re.findall(r"^ +\d+  [+-]\d", done.stdout, re.M)) == 2


@pytest.mark.parametrize("protocol", ["zero-shot", "grounding", "corruptions", "falsified"])
def test_measures_that_ask_the_model(way, medret, protocol):
    home = way[0]
    told = medret("evaluate", home / "run", "--protocol", protocol)
    assert told.returncode == 0, told.stderr
    kept = json.loads((home / "run" / "evaluation" / "test" / protocol / "metrics.json").read_text())
    assert kept["rows"] and all(
        not isinstance(v, str) or not v.replace(".", "").isdigit() for row in kept["rows"] for v in row.values()
    )


def test_search_by_place(way, medret, tmp_path):
    "A film, a sentence or both, with one region or two, and the measure of it; a method without regions says so."
    import dataclasses

    from medret_nb.methods.rra_vl import RRAVL

    home = way[0]
    method = RRAVL.create()
    method.config = dataclasses.replace(method.config, data=str(home / "studies"))
    method.save_pretrained(tmp_path / "run")
    film = next((home / "studies" / "images").iterdir())
    lines = lambda done: re.findall(r"^ +(\d+)  ([+-]\d\.\d{3})  (\S+)", done.stdout, re.M)
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
    assert "48 films searched" in done.stdout and (tmp_path / "run" / "embeddings" / "all-image-regions.npy").is_file()
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
        and "48 reports searched" in both.stdout
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


def test_search_shows_no_more_than_there_is(way, medret):
    done = medret("search", way[0] / "run", "--text", "effusion", "--split", "test", "-k", 500)
    assert done.returncode == 0 and "only" in done.stderr


def test_csv_import(medret, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(source / "a.png")
    pd.DataFrame({"study_id": ["s1"], "patient_id": ["p1"], "findings": ["No effusion."]}).to_csv(
        source / "studies.csv", index=False
    )
    pd.DataFrame({"image_id": ["i1"], "study_id": ["s1"], "path": ["a.png"], "view": ["PA"]}).to_csv(
        source / "images.csv", index=False
    )
    done = medret("data", "csv", source, tmp_path / "out", "--restricted")
    assert done.returncode == 0, done.stderr
    assert "1 studies" in done.stdout and "RESTRICTED" in done.stdout
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["restricted"] is True


def test_openi_import(medret, tmp_path, shared_data):
    done = medret("data", "openi", shared_data / "openi" / "NLMCXR_reports.tgz", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "3955 studies" in done.stdout.replace(",", "")


def test_mimic_import(medret, tmp_path):
    """An invented tree of two patients: tables, films, reports, a scene graph and a phrase; a wrong annotation leaves nothing behind."""
    source, out = tmp_path / "source", tmp_path / "out"
    table = pd.DataFrame(
        {
            "dicom_id": ["a1", "b1"],
            "subject_id": ["10000001", "11000002"],
            "study_id": ["50000001", "50000002"],
            "ViewPosition": ["PA", "LL"],
            "Rows": 20,
            "Columns": 40,
        }
    )
    for row in table.itertuples():
        film = (
            source
            / "files"
            / f"p{row.subject_id[:2]}"
            / f"p{row.subject_id}"
            / f"s{row.study_id}"
            / f"{row.dicom_id}.jpg"
        )
        film.parent.mkdir(parents=True)
        Image.fromarray(np.zeros((20, 40), np.uint8)).save(film)
        film.parent.with_suffix(".txt").write_text("FINAL REPORT\n FINDINGS: Invented.")
    table.to_csv(source / "mimic-cxr-2.0.0-metadata.csv.gz", index=False)
    table[["dicom_id"]].assign(split=["train", "validate"]).to_csv(source / "mimic-cxr-2.0.0-split.csv", index=False)
    (tmp_path / "graphs").mkdir()
    lung = {"bbox_name": "left lung", "original_x1": 20, "original_y1": 0, "original_x2": 40, "original_y2": 10}
    (tmp_path / "graphs" / "a1_SceneGraph.json").write_text(
        json.dumps({"image_id": "a1", "objects": [lung], "attributes": []})
    )
    phrases = pd.DataFrame(
        {
            "dicom_id": ["a1"],
            "category_name": ["Edema"],
            "label_text": ["invented"],
            "x": 0,
            "y": 0,
            "w": 10,
            "h": 10,
            "image_width": 40,
            "image_height": 20,
        }
    )
    phrases.drop(columns="w").to_csv(tmp_path / "wrong.csv", index=False)
    phrases.to_csv(tmp_path / "phrases.csv", index=False)
    refused(
        medret("data", "mimic", source, out, "--ms-cxr", tmp_path / "wrong.csv"), "wrong.csv", "column w is missing"
    )
    assert not out.exists()
    done = medret(
        "data", "mimic", source, out, "--imagenome", tmp_path / "graphs", "--ms-cxr", tmp_path / "phrases.csv"
    )
    assert done.returncode == 0, done.stderr
    assert (
        "RESTRICTED" in done.stdout
        and "2 studies" in done.stdout
        and "1 of 2 films have annotations" in done.stdout
        and "no table of labels" in done.stdout
    )
    info, regions = json.loads((out / "dataset.json").read_text()), pd.read_parquet(out / "regions.parquet")
    assert info["restricted"] is True and regions[["kind", "source", "x0", "y1"]].values.tolist() == [
        ["anatomy", "silver", 0.5, 0.5],
        ["finding", "manual", 0.0, 0.5],
    ]
    assert pd.read_parquet(out / "studies.parquet")["split"].tolist() == ["train", "val"]


def test_points_of_another_program_are_measured(way, medret, tmp_path):
    """A folder with embeddings and no model is enough: here points that find every pair but the two that were exchanged."""
    studies = pd.read_parquet(way[0] / "studies" / "studies.parquet")
    ids = studies.loc[studies["split"] == "train", "study_id"].tolist()
    points = {"image": np.eye(len(ids)), "text": np.eye(len(ids))}
    points["text"][[0, 1]] = points["text"][[1, 0]]
    (tmp_path / "embeddings").mkdir()
    for kind, mu in points.items():
        pd.DataFrame({"id": ids, "study_id": ids, "mu": list(mu)}).to_parquet(
            tmp_path / "embeddings" / f"train-{kind}.parquet"
        )
    done = medret(
        "evaluate", tmp_path, "--data", way[0] / "studies", "--split", "train", "--protocol", "exact", "--k", 1
    )
    assert done.returncode == 0, done.stderr
    assert "cosine is taken" in done.stdout, "embeddings without a similarity are compared by cosine, and it is said"
    report = json.loads((tmp_path / "evaluation" / "train" / "exact" / "metrics.json").read_text())
    assert report["directions"]["image-to-text"]["metrics"]["R@1"]["value"] == pytest.approx(1 - 2 / len(ids))


WRONG = {
    "no such command": (["trian"], ["'trian'", "train"]),
    "unknown option": (["data", "phantom", "OUT", "--sise", "3"], ["--sise", "medret data phantom --help"]),
    "not a number": (["data", "phantom", "OUT", "--studies", "many"], ["--studies", "many"]),
    "nothing given": (["train"], ["--data", "--out"]),
    "no such method": (["train", "clap", "--data", "OUT", "--out", "RUN"], ["clap", "clip"]),
    "unknown split": (["data", "phantom", "OUT", "--counts", "nonsense", "3"], ["nonsense", "train, val, test"]),
    "negative studies": (["data", "phantom", "OUT", "--studies", "-3"], ["-3"]),
    "size too small": (["data", "phantom", "OUT", "--size", "2"], ["size", "2"]),
    "no such source": (["data", "csv", "NOWHERE", "OUT"], ["NOWHERE"]),
    "no such archive": (["data", "openi", "NOWHERE", "OUT"], ["NOWHERE"]),
    "no such DICOM folder": (["data", "dicom", "NOWHERE", "OUT"], ["NOWHERE"]),
    "no such MIMIC folder": (["data", "mimic", "NOWHERE", "OUT"], ["NOWHERE"]),
    "unknown labeller": (["data", "mimic", "NOWHERE", "OUT", "--labeller", "ann"], ["labeller", "ann"]),
    "no such studies": (["train", "clip", "--data", "NOWHERE", "--out", "RUN"], ["NOWHERE"]),
    "zero epochs": (["train", "clip", "--data", "OUT", "--out", "RUN", "--epochs", "0"], ["epochs", "0"]),
    "no run": (["embed", "NOWHERE"], ["NOWHERE", "no run"]),
    "no run to evaluate": (["evaluate", "NOWHERE"], ["NOWHERE"]),
    "unknown protocol": (["evaluate", "NOWHERE", "--protocol", "fuzzy"], ["fuzzy"]),
    "no run to search": (["search", "NOWHERE", "--text", "x"], ["NOWHERE"]),
    "no question": (["search", "NOWHERE"], ["--image", "--text"]),
    "no such thing to find": (["search", "NOWHERE", "--text", "x", "--find", "socks"], ["--find", "socks"]),
    "k below one": (["search", "NOWHERE", "--text", "x", "-k", "0"], ["-k", "0"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_one_line(capsys, monkeypatch, tmp_path, case):
    words, expected = WRONG[case]
    monkeypatch.chdir(tmp_path)
    code = main(words)
    refused(subprocess.CompletedProcess(words, code, *capsys.readouterr()), *expected)
    assert not list(tmp_path.iterdir()), "a refused command left files behind"


@pytest.mark.parametrize("case", ["no such command", "unknown option", "no such studies", "k below one"])
def test_a_mistake_is_one_line_in_a_shell(medret, tmp_path, case):
    words, expected = WRONG[case]
    refused(medret(*words, cwd=tmp_path), *expected)


def test_mistakes_on_a_real_run(way, capsys, tmp_path):
    run = way[0] / "run"
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")

    def typed(*words):
        code = main([str(word) for word in words])
        return subprocess.CompletedProcess(words, code, *capsys.readouterr())

    refused(typed("search", run, "--image", tmp_path / "empty.png"), "empty.png")
    refused(typed("search", run, "--text", "  "), "word")
    refused(typed("embed", run, "--split", "tset"), "tset", "train")
    refused(typed("evaluate", run, "--k", 0), "0")
    refused(typed("embed", run, "--data", tmp_path), str(tmp_path))
    refused(typed("embed", tmp_path / "broken", "--data", way[0] / "studies"), "config.json")


def test_debug_shows_the_traceback(medret):
    done = medret("embed", "nowhere", MEDRET_DEBUG="1")
    assert done.returncode not in (0, 2) and "Traceback" in done.stderr and "DataError" in done.stderr


def test_help_is_complete_and_loads_nothing_slow(medret):
    done = medret("--help")
    assert done.returncode == 0 and all(f"medret {name}" in done.stdout for name in COMMANDS)
    code = "import sys, medret_nb.cli.main; print(sorted({'torch', 'transformers', 'faiss', 'pandas', 'matplotlib'} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=child_environment())
    assert not set(json.loads(loaded.stdout.replace("'", '"'))) & {"torch", "transformers", "faiss", "matplotlib"}, (
        loaded.stdout
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        read_arguments(name, ["--help"])
    assert stop.value.code == 0
    assert f"usage: medret {name}" in capsys.readouterr().out


def test_version(medret):
    import medret_nb

    assert medret("--version").stdout.strip() == medret_nb.__version__


def test_interrupt_gives_130(tmp_path):
    code = "import sys; from medret_nb.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "data", "phantom", str(tmp_path / "out"), "--studies", "5000"]
    running = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=child_environment(OMP_NUM_THREADS="1"),
        cwd=tmp_path,
    )
    until = time.monotonic() + 90
    while not (tmp_path / "out").exists() and time.monotonic() < until and running.poll() is None:
        time.sleep(0.2)
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 130 and "medret: interrupted" in stderr and "Traceback" not in stderr
    assert not (tmp_path / "out" / "studies.parquet").exists(), "half a StudySet must not look like a whole one"


def test_words_are_split_into_command_and_arguments():
    assert split_command(["data", "openi", "x"]) == ("data openi", ["x"])
    assert split_command(["tour"]) == ("tour", [])
    with pytest.raises(DataError, match="did you mean data csv"):
        split_command(["data", "cvs"])
    assert "medret data csv" in overview("data") and "medret train" not in overview("data")


def test_untrusted_text_cannot_steer_the_terminal():
    assert printable("a\x1b]0;title\x07b\r\nc\u202ed") == "a ]0;title b c d"


def test_frame_of_an_error_becomes_one_line():
    frame = "╭─ Value error ─────────╮\n│ Error parsing --k: no │\n│ number                │\n│ ───────────────────── │\n│ For full helptext     │\n╰───────────────────────╯"
    assert one_line(frame) == "Value error: Error parsing --k: no number"
    bare = " Value error           \n --------------------- \n Error parsing --k: no \n number                \n --------------------- \n For full helptext     \n"
    assert one_line(bare) == "Value error: Error parsing --k: no number"


def test_the_difference_to_another_run(way, medret):
    home = way[0]
    first = medret("evaluate", home / "run", "--protocol", "exact", "--k", 1, "--against", home / "run")
    assert first.returncode == 0, first.stderr
    rows = [
        line
        for line in first.stdout.split("this run minus")[1].splitlines()
        if line.startswith(("image-to-text", "text-to-image"))
    ]
    assert len(rows) == 2 and all("+0.000  [+0.000, +0.000]  p 1.000" in row for row in rows)
    refused(
        medret("evaluate", home / "run", "--protocol", "exact", "--k", 1, "--against", home / "studies"),
        "is not measured on test under exact yet",
    )
