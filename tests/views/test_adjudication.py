"""The view of adjudication: keys in a browser, nothing lost by a reload, nothing told, texts that would do harm."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from pages import HOSTILE, alive, opened
from PIL import Image
from playwright.sync_api import expect

from medret_nb.data.files import DataError
from medret_nb.data.studies import StudySet
from medret_nb.evaluation.adjudication import SheetReader, adjudicate, make_sheet
from medret_nb.evaluation.results import evaluate
from medret_nb.figures.figures import save_figure
from medret_nb.retrieval.points import Embeddings
from medret_nb.views.adjudication import adjudication_view, bounds_figure, reading_order
from medret_nb.views.widget import view_html

TEXTS = [text for text in HOSTILE if "\ud800" not in text]  # half a pair is in no table


def harmful(folder, restricted=False):
    "Studies whose reports are hostile texts, each with a film of its own grey."
    ids = [f"study{i}" for i in range(len(TEXTS))]
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(ids):
        Image.fromarray(np.full((40, 30), 20 * i + 20, np.uint8)).save(folder / f"{name}.png")
    table = pd.DataFrame(
        {"study_id": ids, "patient_id": ids, "findings": TEXTS, "labels": [{"Fracture": 1}] * len(ids)}
    )
    images = pd.DataFrame({"image_id": [f"film{i}" for i in ids], "study_id": ids, "view": "PA"})
    images["path"] = [f"{name}.png" for name in ids]
    return StudySet(table, images, info={"restricted": restricted, "name": "x"}, folder=folder)


def sheet_of(studies, folder, **more):
    "A sheet of two methods with random points."
    ids, made = studies.studies["study_id"].to_numpy(object), {}
    for seed in (0, 1):
        mu = np.random.default_rng(seed).normal(size=(2, len(ids), 8)).astype(np.float32)
        meta = {"similarity": "cosine", "split": "all", "policy": "findings"}
        points = {
            "image": Embeddings(
                studies.images["image_id"].to_numpy(object), ids, mu[0], None, meta | {"modality": "image"}
            ),
            "text": Embeddings(ids, ids, mu[1], None, meta | {"modality": "text"}),
        }
        made[f"secretmethod{seed}"] = evaluate(points, studies, "exact", ks=(1,), draws=5, verbose=False)
    return make_sheet(made, studies, folder, **{"k": 2, "queries": 4} | more)


@pytest.fixture
def given(tmp_path):
    "Studies and a sheet of them."
    studies = harmful(tmp_path / "data")
    return studies, sheet_of(studies, tmp_path / "sheet")


def status(page, words):
    "Wait until the line below the pair says this."
    expect(page.locator(".judging p[role=status]")).to_contain_text(words)


@pytest.mark.browser
def test_two_readers_by_key_and_nothing_is_lost(given, tmp_path, page):
    studies, sheet = given
    order, total = reading_order(sheet, "A").tolist(), len(sheet)
    alive(page, adjudication_view(sheet, "A", studies), tmp_path)
    box = page.locator(".judging")
    box.focus()
    for key in "123":
        page.keyboard.press(key)
    status(page, f"A: 3 of {total} judged.")
    assert SheetReader(sheet, "A").given() == [[order[0], 0], [order[1], 1], [order[2], 2]]
    page.keyboard.press("u")
    status(page, f"2 of {total} judged.")
    expect(box.locator(".found h3")).to_contain_text(f"pair 3 of {total}")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(box.locator(".found h3")).to_contain_text(f"pair 1 of {total}")
    expect(box.get_by_role("button", name="1 relevant")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("3")  # thought again; on to the next without an answer
    expect(box.locator(".found h3")).to_contain_text(f"pair 3 of {total}")
    status(page, f"2 of {total} judged.")

    page.reload()  # the page is as it was made, before any answer
    page.wait_for_selector("#view[data-ready]")
    status(page, f"A: 2 of {total} judged.")
    expect(box.locator(".found h3")).to_contain_text(f"pair 3 of {total}")
    box.focus()
    page.keyboard.press("u")  # and still knows what came last
    status(page, f"1 of {total} judged.")
    assert SheetReader(sheet, "A").given() == [[order[1], 1]]

    again = page.context.new_page()  # a new kernel
    alive(again, adjudication_view(sheet.folder, "A", studies), tmp_path)
    status(again, f"1 of {total} judged.")
    again.locator(".judging").focus()
    for _ in range(total - 1):
        again.keyboard.press("1")
    status(again, "All pairs are judged.")
    other = page.context.new_page()  # the second reader, who says the same but for one
    alive(other, adjudication_view(sheet, "B", studies), tmp_path)
    wanted = SheetReader(sheet, "A").answers
    for place, pair in enumerate(reading_order(sheet, "B").tolist()):
        status(other, f"B: {place} of {total} judged.")
        other.get_by_role("button", name=re.compile(f"^{wanted[pair] + 1 if place else 3} ")).click()
    status(other, "All pairs are judged.")
    made = {row["measure"]: row for row in adjudicate(sheet, draws=10).report["agreement"]}
    assert made["same answer"]["value"] == pytest.approx((total - 1) / total)
    assert not page.errors and page.title() != "caught" and again.title() != "caught"


@pytest.mark.browser
def test_reports_are_text_and_nothing_tells_where_a_pair_comes_from(given, tmp_path, page):
    studies, sheet = given
    view = adjudication_view(sheet, "A", studies)
    told = json.dumps({**view.payload, "private": list(view.payload["private"]["texts"])}, default=lambda _: "")
    assert not re.search(
        "secretmethod|study[0-9]|film|score|position", told.replace("byfilm", "").replace("the film", "")
    )
    opened(page, view_html(view, tmp_path / "p.html"))
    texts = set()
    page.locator(".judging").focus()
    for _ in range(len(sheet)):
        texts.add(page.locator(".judging .report").text_content())
        assert page.locator(".judging img").count() == 1
        page.keyboard.press("ArrowRight")
    by_study = dict(zip(studies.studies["study_id"], studies.studies["findings"], strict=True))
    wanted = {by_study[pair["study"]].encode("utf-8", "replace").decode().strip() for pair in sheet.facts["pairs"]}
    assert {text.strip() for text in texts} == wanted
    assert page.title() != "caught" and not page.outside and not page.errors
    expect(page.get_by_role("button", name="1 relevant")).to_be_disabled()  # nobody is there who would keep it
    page.keyboard.press("1")
    assert not sheet.readers
    for width in (1200, 420):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.browser
def test_what_cannot_be_kept_is_said_and_taken_back(given, tmp_path, page):
    studies, sheet = given
    view = adjudication_view(sheet, "A", studies)

    def full(asked):
        raise DataError("the disk is full")

    view.answers["judge"] = full
    alive(page, view, tmp_path)
    page.locator(".judging").focus()
    page.keyboard.press("1")
    status(page, "Not kept: the disk is full")
    status(page, f"0 of {len(sheet)} judged")


@pytest.mark.browser
def test_films_for_a_report(tmp_path, page):
    studies = harmful(tmp_path / "data")
    sheet = sheet_of(studies, tmp_path / "sheet", direction="text-to-image")
    alive(page, adjudication_view(sheet, "A", studies), tmp_path)
    assert page.locator(".asked .report").count() == 1 and page.locator(".found img").count() == 1
    assert page.locator(".found img").evaluate("i => i.decode().then(() => i.naturalHeight)") == 40


def test_a_restricted_page_holds_neither_text_nor_film(tmp_path, page):
    studies = harmful(tmp_path / "data", restricted=True)
    view = adjudication_view(sheet_of(studies, tmp_path / "sheet"), "A", studies)
    html = view_html(view, tmp_path / "p.html").read_text()
    assert "word word" not in html and '"private":{}' in html
    opened(page, tmp_path / "p.html")
    assert "no text here" in page.inner_text(".judging") and not page.errors


def test_each_reader_has_an_order_of_their_own(given):
    _, sheet = given
    a, b = reading_order(sheet, "A"), reading_order(sheet, "B")
    assert sorted(a) == sorted(b) == list(range(len(sheet))) and a.tolist() != b.tolist()
    assert (np.diff(sheet.query[a]) != 0).sum() == 3
    assert a.tolist() == reading_order(sheet, "A").tolist()


def test_the_figure_and_bad_input(given, tmp_path):
    studies, sheet = given
    reader = SheetReader(sheet, "A")
    for pair in range(3):
        reader.judge(pair, pair % 2)
    made = adjudicate(sheet, draws=10)
    assert save_figure(bounds_figure(made, "P"), tmp_path / "f.pdf").stat().st_size > 1000
    with pytest.raises(DataError, match="metric"):
        bounds_figure(made, "Q")
    with pytest.raises(DataError, match="not in the data"):
        adjudication_view(sheet, "A", studies.select(["study0"]))
    with pytest.raises(DataError, match="reader"):
        adjudication_view(sheet, "../A", studies)
