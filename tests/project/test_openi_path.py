"""Reports of OpenI with drawn films go through every command: films with scenes and without a truth."""

import re

import pytest
from invented import openi_report, pack

from medret_nb.cli.evaluate import OF_A_MODEL, Evaluate
from medret_nb.cli.figures import Figures
from medret_nb.cli.report import Report
from medret_nb.cli.search import Search
from medret_nb.data.files import DataError
from medret_nb.data.runs import Run
from medret_nb.evaluation.results import Results
from medret_nb.methods.rra_vl import RRAVL, RRAVLConfig
from medret_nb.phantom.drawn import openi_with_drawn_films
from medret_nb.phantom.records import has_scenes, has_truth
from medret_nb.training.loop import TrainConfig, fit
from medret_nb.views.failures import failures_view

CODES = ("normal", "Pleural Effusion/right/large", "Cardiomegaly/mild", "Pulmonary Atelectasis/lung/base/left", "")
TEXTS = ("Clear lungs.", "Large right effusion.", "Mild cardiomegaly.", "Left basal atelectasis.", "Stable.")
RETRIEVAL = ("exact", "text", "labels", "labels-abnormal", "graded")


@pytest.fixture(scope="module")
def openi_run(tmp_path_factory):
    """A run of one epoch on sixty reports with films that were drawn for them; some have no code at all."""
    home = tmp_path_factory.mktemp("openi")
    reports = {f"r/{n}.xml": openi_report(n, f"{TEXTS[n % 5]} Case {n % 9}.", CODES[n % 5]) for n in range(1, 61)}
    studies = openi_with_drawn_films(pack(home / "reports.tgz", reports), home / "set", 32)
    assert has_scenes(studies.folder) and not has_truth(studies.folder)
    config = RRAVLConfig(dim=16, size=32, max_words=16)
    fit(RRAVL.create(config), studies, TrainConfig(epochs=1, batch_size=8), home / "run", progress=False)
    return home / "run"


@pytest.mark.parametrize("protocol", RETRIEVAL)
def test_retrieval_is_measured(openi_run, protocol):
    Evaluate(openi_run, split="train", protocol=(protocol,), k=(1, 10)).run()
    assert Results.there(Run(openi_run).result_folder("train", protocol))


@pytest.mark.parametrize("protocol", ["corruptions", "falsified", "zero-shot"])
def test_the_model_is_asked(openi_run, protocol, capsys):
    Evaluate(openi_run, split="train", protocol=(protocol,)).run()
    assert Results.there(Run(openi_run).result_folder("train", protocol)) and capsys.readouterr().out


@pytest.mark.parametrize("protocol", ["fits-open", "fits-closed", "location", "grounding"])
def test_what_needs_a_truth_is_one_line(openi_run, protocol):
    with pytest.raises(DataError) as told:
        Evaluate(openi_run, split="train", protocol=(protocol,)).run()
    assert "\n" not in str(told.value) and "there is no such file" not in str(told.value)


def test_zero_shot_measures_what_codes_do_not_name_as_absent(openi_run, capsys):
    Evaluate(openi_run, split="train", protocol=("zero-shot",), blank="negative", minimum=3).run()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("Pleural Effusion", "Cardiom"))]
    assert len(rows) == 2 and not any("not measurable" in row for row in rows)


def test_options_of_zero_shot_belong_to_it(openi_run):
    assert set(OF_A_MODEL) >= {"zero-shot"}
    with pytest.raises(DataError, match="blank: is an option of --protocol zero-shot"):
        Evaluate(openi_run, protocol=("exact",), blank="negative").run()


def test_figures_page_search_and_failures(openi_run, tmp_path, capsys):
    Evaluate(openi_run, split="train", protocol=("exact", "text"), k=(1, 10)).run()
    Figures(openi_run, split="train", out=tmp_path / "figures", show=True).run()
    assert (tmp_path / "figures" / "captions.md").is_file()
    Report(openi_run, split="train", show=True, out=tmp_path / "page").run()
    html = (tmp_path / "page" / "report.html").read_text()
    assert str(openi_run.parent) not in html and re.search("report names: |no labels given", html)
    view = failures_view(openi_run, split="train", whatif=2)
    assert any("no truth to check" in said for said in view.payload["says"])
    capsys.readouterr()
    Search(openi_run, text="Large right pleural effusion.", k=2).run()
    assert "CXR" in capsys.readouterr().out
