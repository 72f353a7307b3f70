"""The explorer: payload, requests without a browser, the page in a browser without a network, hostile texts."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from pages import HOSTILE, alive, array_of, opened
from playwright.sync_api import expect

from medret_nb.data.files import DataError, shipped_data
from medret_nb.data.runs import shipped_run
from medret_nb.figures.figures import save_figure
from medret_nb.retrieval.search import build_index
from medret_nb.views.explorer import explorer_figure, explorer_view, rarest
from medret_nb.views.items import answers_to, from_arrays, items_from
from medret_nb.views.widget import view_html


def some_items(n=40, seed=0, texts=None, **more):
    "n studies whose films and reports lie near each other."
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(n, 6))
    return from_arrays(
        image,
        image + 0.5 * rng.normal(size=(n, 6)),
        texts=texts or [f"report {i % (n - 3)}" for i in range(n)],
        ids=[f"s{i}" for i in range(n)],
        films=[rng.integers(0, 256, (32, 32), dtype=np.uint8) for _ in range(n)],
        findings=[["Edema", "Fracture"][: i % 3] for i in range(n)],
        **more,
    )


def test_the_payload_holds_the_answers():
    items = some_items()
    data = explorer_view(items, k=7).payload["data"]
    for short, direction in (("it", "image-to-text"), ("ti", "text-to-image")):
        found, sent = answers_to(items, direction, k=7), data["directions"][short]
        np.testing.assert_array_equal(array_of(sent["positions"]), found.positions)
        np.testing.assert_allclose(array_of(sent["ranks"]), found.ranks)
        np.testing.assert_array_equal(array_of(sent["hits"]), found.hits)
    assert array_of(data["maps"][0]["x"]).shape == (80,) and data["count"] == 40


def test_beyond_the_precomputed_the_kernel_searches():
    items = some_items()
    view = explorer_view(items, k=5, most=8)
    rows = array_of(view.payload["data"]["directions"]["it"]["rows"])
    assert len(rows) == 8 and rows[0] == 0 and rows[-1] == 39 and view.payload["asks"] == ["search"]
    other = next(i for i in range(40) if i not in rows)
    view.request = {"id": 1, "kind": "search", "direction": "ti", "row": other}
    np.testing.assert_array_equal(
        array_of(view.answer["positions"]), answers_to(items, "text-to-image", [other], 5).positions[0]
    )


def test_a_sentence_is_answered(small_phantom, tmp_path):
    from medret_nb.methods.clip import CLIP, CLIPConfig

    CLIP.create(CLIPConfig(dim=8, data=str(small_phantom.folder))).save_pretrained(tmp_path)
    view = explorer_view(tmp_path, split="train", progress=False, k=3)
    own = view.payload["private"]["texts"][0]
    view.request = {"id": 1, "kind": "sentence", "text": own}
    items = items_from(tmp_path, split="train", progress=False)
    np.testing.assert_array_equal(
        array_of(view.answer["positions"]), answers_to(items, "text-to-image", [0], 3).positions[0]
    )
    np.testing.assert_allclose(
        view.answer["places"]["PCA"],
        [float(array_of(view.payload["data"]["maps"][0][c])[len(items)]) for c in "xy"],
        atol=1e-4,
    )
    view.request = {"id": 2, "kind": "sentence", "text": " "}
    assert "no word" in view.answer["error"]


@pytest.mark.parametrize(
    "image, word, empty",
    [
        (np.zeros((0, 3)), "no studies", True),
        (np.eye(3)[:1], "single study", False),
        (np.ones((4, 3)), "same place", False),
        (np.array([[np.nan, 0, 0], [1, 0, 0], [0, 1, 0]]), "1 of 3 studies are left out", False),
        (np.full((2, 3), np.nan), "no studies", True),
    ],
)
def test_odd_inputs_are_told(image, word, empty, page, tmp_path):
    view = explorer_view(image=image, text=np.nan_to_num(image), texts=["Normal."] * len(image))
    assert word in " ".join(view.payload["says"]) and view.payload["empty"] == empty
    opened(page, view_html(view, tmp_path / "p.html"))
    assert word in page.inner_text("header") and not page.errors, page.errors


@pytest.fixture(scope="module")
def placed(small_phantom, tmp_path_factory):
    "Items of an untrained model with regions."
    from medret_nb.methods.rra_vl import RRAVL, RRAVLConfig

    folder = tmp_path_factory.mktemp("placed")
    RRAVL.create(RRAVLConfig(dim=8, data=str(small_phantom.folder))).save_pretrained(folder)
    return items_from(folder, split="train", progress=False)


def test_a_draft_is_quoted_from_other_patients(placed):
    "Of a film, and at a place; each sentence stands in the report of the study it names."
    view = explorer_view(placed, k=6)
    patient = dict(zip(placed.studies.studies["study_id"], placed.studies.studies["patient_id"]))
    for number, more in enumerate(({}, {"regions": ["left lung"], "rho": 0.8}), 1):
        view.request = {"id": number, "kind": "draft", "row": 2, "side": "film", **more}
        got = view.answer
        assert got["voters"] == 6 and len(got["texts"]) == len(array_of(got["rows"]))
        for text, row in zip(got["texts"], array_of(got["rows"])):
            assert text in placed.texts[row] and patient[placed.ids[row]] != patient[placed.ids[2]]


def test_a_place_is_asked_for_by_name_by_box_and_on_a_new_film(placed):
    view = explorer_view(placed, k=4, state={"regions": ["left lung"]})
    names = view.payload["data"]["regions"]
    assert (
        view.payload["asks"] == ["ask", "draft", "film", "sentence", "stage"]
        and "left lung" in names
        and view.state == {"regions": ["left lung"]}
    )
    view.request = {
        "id": 1,
        "kind": "ask",
        "row": 2,
        "side": "report",
        "find": "films",
        "regions": ["left lung"],
        "rho": 0.8,
    }
    hits = build_index(placed.image).search(placed.text.select([2]), 4, regions=["left lung"], rho=0.8)
    np.testing.assert_array_equal(array_of(view.answer["positions"]), hits.positions[0])
    np.testing.assert_array_equal(array_of(view.answer["scores"]), hits.scores[0])
    view.request = {"id": 2, "kind": "stage", "row": 2}
    boxes = array_of(view.answer["boxes"])
    assert boxes.shape == (len(names), 4) and len(array_of(view.answer["picture"]["ends"])) == 1
    view.request = {
        "id": 3,
        "kind": "ask",
        "row": 2,
        "side": "film",
        "box": boxes[names.index("mediastinum")].tolist(),
        "rho": 0.5,
    }
    assert view.answer["drawn"] == "mediastinum" and view.answer["find"] == "reports"
    data = b"no picture"
    view.request = {
        "id": 4,
        "kind": "film",
        "upload": "u",
        "name": "a.png",
        "part": 0,
        "parts": 1,
        "size": len(data),
        "data": data,
    }
    assert view.answer["error"].startswith("a.png: not a picture") and view.request == {}
    view.request = {"id": 5, "kind": "ask", "row": 2, "side": "film", "box": [0, 0, None, 1]}
    assert view.answer["error"].startswith("box: four numbers")


def test_without_regions_no_place_is_asked_for():
    assert (
        explorer_view(some_items()).payload["asks"] == []
        and "regions" not in explorer_view(some_items()).payload["data"]
    )


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    "A copy of the trained run that ships (its points are kept beside it), on the patients that ship."
    run = shutil.copytree(shipped_run("clip"), tmp_path_factory.mktemp("shipped") / "clip")
    return items_from(run, data=shipped_data("phantom-small"), split="test", progress=False)


def drafted(page):
    "Ask for a draft and wait for its sentences; returns their places on the page."
    page.get_by_role("button", name="Draft a report from the nearest reports").click()
    expect(page.locator(".draft .quote").first).to_be_visible()
    return page.locator(".draft .quote")


@pytest.mark.browser
def test_the_draft_of_a_film_names_its_sources_and_leads_to_them(shipped, page, tmp_path):
    alive(page, explorer_view(shipped, k=10), tmp_path)
    expect(page.locator(".draft")).to_be_hidden()  # nothing is chosen yet
    own = shipped.ids[2]
    page.locator("tbody").get_by_role("button", name=own, exact=True).click()
    quotes = drafted(page)
    texts = dict(zip(shipped.ids, shipped.texts, strict=True))
    assert quotes.count() >= 2
    for quote in quotes.all():
        source, sentence = quote.locator(".source").inner_text(), quote.locator(".said").inner_text()
        start, end = map(int, re.search(r"letters (\d+)-(\d+)", quote.inner_text()).groups())
        assert texts[source][start:end] == sentence and source.rsplit("-", 1)[0] != own.rsplit("-", 1)[0]
    for width in (1200, 420):
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.locator(".draft").screenshot(path=tmp_path / f"draft-{width}-{scheme}.png")
    source = quotes.nth(1).locator(".source").inner_text()
    quotes.nth(1).press("Enter")
    expect(page.locator(".second .card strong").first).to_have_text(f"report of {source}")
    expect(page.locator(".second .card .report").first).to_have_text(texts[source])
    expect(page.locator(".draft .quote")).to_have_count(0)  # it was the draft of another question
    assert not page.errors and not page.outside, (page.errors, page.outside)


@pytest.mark.browser
def test_a_draft_of_hostile_reports_is_text(shipped, page, tmp_path):
    hostile = "<script>window.hit=1</script><img src=x onerror='window.hit=1'> Small left pleural effusion."
    items = replace(shipped, texts=[hostile] * len(shipped))  # every vote is for it
    alive(page, explorer_view(items, k=5, state={"chosen": 0, "direction": "it"}), tmp_path)
    assert drafted(page).first.locator(".said").inner_text() == hostile
    assert page.evaluate("window.hit ?? null") is None
    assert not page.locator(".draft script, .draft img, .draft b").count()
    assert not page.errors and not page.outside, (page.errors, page.outside)


@pytest.mark.browser
def test_a_page_offers_nothing_that_needs_a_kernel(placed, page, tmp_path):
    view = explorer_view(
        placed,
        k=4,
        state={"chosen": 1, "direction": "it", "regions": ["left lung"], "box": [0.1, 0.1, 0.5, 0.5], "find": "films"},
    )
    opened(page, view_html(view, tmp_path / "p.html"))
    for label in ("Ask with a sentence", "Ask with a film from the disk", "Find", "left lung"):
        assert not page.get_by_label(label, exact=True).count()
    assert not page.locator(".draft").count()
    assert not page.locator("details.places, input[type=file], .film-stage, fieldset").count()
    found = answers_to(placed, k=4).positions[1]  # the answers computed beforehand: reports, by the whole film
    assert page.locator(".ranked .card button.link").all_inner_texts() == [
        f"{r + 1}. {placed.ids[p]}" for r, p in enumerate(found)
    ]
    assert not page.outside and not page.errors, page.errors


def test_the_rarest_finding_paints():
    assert rarest([["a", "b"], ["a"], [], ["b", "c", "a"]]) == ["b", "a", "none named", "c"]
    assert rarest([["a"], None]) == ["a", "no labels given"]


def test_a_restricted_page_keeps_findings_and_texts(tmp_path):
    items = some_items(texts=[f"Philomena {i}" for i in range(40)], restricted=True)
    html = view_html(explorer_view(items), tmp_path / "p.html").read_text()
    assert not any(word in html for word in ("Philomena", "Fracture", "Edema", "rarest finding")) and '"s7"' in html
    assert "Philomena" in view_html(explorer_view(items), tmp_path / "q.html", show=True).read_text()


@pytest.mark.browser
def test_a_page_answers_without_a_kernel(page, tmp_path):
    items = some_items()
    path = view_html(explorer_view(items, k=5), tmp_path / "p.html")
    found = answers_to(items, k=5)
    for width, scheme in ((1200, "light"), (420, "dark")):
        opened(page, path, width, scheme)
        assert not page.get_by_label("Ask with a sentence").count()
        page.get_by_role("button", name="s7", exact=True).click()
        titles = page.locator(".ranked .card button.link").all_inner_texts()
        assert titles == [f"{r + 1}. s{p}" for r, p in enumerate(found.positions[7])]
        assert page.locator(".ranked .card.hit").count() == found.hits[7].sum()
        page.get_by_label("Ask with", exact=True).select_option("report → films")
        back = answers_to(items, "text-to-image", [7], 5).positions[0]
        assert page.locator(".ranked .card button.link").first.inner_text() == f"1. s{back[0]}"
        page.locator(".ranked .card button.link").nth(1).press("Enter")  # an answer becomes the query
        assert f"film of s{back[1]}" in page.locator(".second .card strong").first.inner_text()
        page.get_by_label("Filter").fill("fracture")
        expect(page.locator(".where")).to_have_text(re.compile("of 13$"))
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not page.outside and not page.errors, page.errors


@pytest.mark.browser
def test_hostile_texts_are_texts(page, tmp_path):
    n = len(HOSTILE)
    items = from_arrays(
        np.eye(n),
        np.eye(n),
        texts=HOSTILE,
        ids=[f"{i}{t}" for i, t in enumerate(HOSTILE)],
        findings=[[t] for t in HOSTILE],
        name=HOSTILE[0],
    )
    opened(page, view_html(explorer_view(items, k=n), tmp_path / "p.html"))
    page.locator("tbody tr button").first.click()
    told = page.evaluate("[...document.querySelectorAll('.ranked .report')].map(e => e.textContent)")
    assert set(told) == {t.replace("\ud800", "?") for t in HOSTILE}
    assert (
        page.title() == "Explorer" and page.locator("script").count() == 2 and not page.outside and not page.errors
    ), page.errors
    assert page.evaluate("document.documentElement.scrollWidth") <= 1200


def test_the_print_form(tmp_path):
    items = some_items(texts=HOSTILE * 5)
    first, second = (
        save_figure(explorer_figure(items, 3, d, k=3), tmp_path / f"{n}.pdf").read_bytes()
        for n, d in (("a", "image-to-text"), ("b", "image-to-text"))
    )
    assert first == second
    with pytest.raises(DataError, match="no study"):
        explorer_figure(from_arrays(np.zeros((0, 2)), np.zeros((0, 2))))
