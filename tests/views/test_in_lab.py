"""The views in JupyterLab, without a network: they open, answer to controls, ask the kernel, follow the theme."""

import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from medret_nb.data.files import shipped_data
from medret_nb.data.studies import StudySet, choose_image


def view_of(page, kind):
    "The last view of a kind in the open notebook, in sight."
    view = page.locator(f".medret[data-ready={kind}]").last
    view.scroll_into_view_if_needed()
    return view


def status_of(view):
    "The line of the explorer that tells how a question of one's own goes."
    return view.locator("p[role=status]").first


def check_theme(page, view):
    "The view is dark where JupyterLab is."
    light = view.evaluate("e => getComputedStyle(e).backgroundColor")
    page.evaluate("() => document.body.setAttribute('data-jp-theme-light', 'false')")
    dark = view.evaluate("e => getComputedStyle(e).backgroundColor")
    page.evaluate("() => document.body.setAttribute('data-jp-theme-light', 'true')")
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(20, 25, 30)")


@pytest.mark.slow
@pytest.mark.browser
def test_the_explorer_asks_the_kernel(run_notebook, page):
    run_notebook("views/860_explorer.ipynb")
    view = view_of(page, "explorer")
    view.locator("tbody tr button").nth(2).click()
    study = view.locator("tbody tr button").nth(2).inner_text()
    expect(view.locator(".second .card strong").first).to_have_text(f"film of {study}")
    view.get_by_label("Ask with a sentence").fill("Large left pleural effusion.")
    view.get_by_role("button", name="Search films").click()
    expect(view.locator(".second .card .report").first).to_have_text("Large left pleural effusion.")
    expect(view.locator(".ranked .card img")).to_have_count(10)
    view.get_by_label("Ask with a sentence").fill("...")
    view.get_by_label("Ask with a sentence").press("Enter")
    expect(status_of(view)).to_contain_text("no word")
    expect(view.locator(".second .card .report").first).to_have_text(
        "Large left pleural effusion."
    )  # what was there stays
    check_theme(page, view)
    assert not page.errors and not page.outside, (page.errors, page.outside)


def drag(page, view, start, end):
    "Draw a box on the film, from one corner to the other, in fractions."
    stage = view.locator(".film-stage")
    stage.scroll_into_view_if_needed()
    at = stage.bounding_box()
    page.mouse.move(at["x"] + start[0] * at["width"], at["y"] + start[1] * at["height"])
    page.mouse.down()
    page.mouse.move(at["x"] + end[0] * at["width"], at["y"] + end[1] * at["height"], steps=5)
    page.mouse.up()


def look(page, view, name, folder):
    "Pictures of a view, light and dark, wide and in half a screen, where nothing may scroll sideways."
    for width in (1280, 640):
        page.set_viewport_size({"width": width, "height": 4200})
        for light in ("true", "false"):
            page.evaluate("light => document.body.setAttribute('data-jp-theme-light', light)", light)
            assert view.evaluate("e => e.scrollWidth <= e.clientWidth"), width
            view.screenshot(path=folder / f"{name}-{width}-{'light' if light == 'true' else 'dark'}.png")
    page.set_viewport_size({"width": 1280, "height": 1000})
    page.evaluate("() => document.body.setAttribute('data-jp-theme-light', 'true')")


@pytest.mark.slow
@pytest.mark.browser
def test_the_explorer_asks_at_a_place_and_with_a_film_from_the_disk(run_notebook, page, tmp_path):
    shots = run_notebook("views/860_explorer.ipynb")[0][0].parent
    view = view_of(page, "explorer")
    summary, edges = (
        view.locator("details.places > summary"),
        [view.get_by_label(f"box, {name} edge, percent of the film") for name in ("left", "top", "right", "bottom")],
    )
    expect(summary).to_have_text(
        "Ask at a place: left lung, cardiac silhouette"
    )  # as the notebook's last `choose` left it
    expect(view.locator(".second")).to_contain_text(
        "At left lung, cardiac silhouette: weight 0.5; as a whole: weight 0.5."
    )
    expect(view.locator(".ranked .card").first).to_contain_text("the query itself")
    view.get_by_label("cardiac silhouette", exact=True).uncheck()  # regions by name
    view.get_by_label("right lung", exact=True).check()
    expect(view.locator(".second")).to_contain_text("At right lung, left lung: weight 0.5")
    expect(view.locator(".film-stage rect.chosen")).to_have_count(2)

    drag(page, view, (0.9, 0.75), (0.55, 0.25))  # a box with the pointer
    expect(view.locator(".film-stage rect.drawn")).to_have_count(1)
    assert [round(float(e.input_value()), -1) for e in edges] == pytest.approx([55, 25, 90, 75], abs=5.1)
    expect(view.locator(".second")).to_contain_text(re.compile("Your box stands for the left"))
    left = int(edges[0].input_value())
    view.locator(".film-stage").focus()  # and by keyboard
    page.keyboard.press("ArrowLeft")
    expect(edges[0]).to_have_value(str(left - 2))
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")  # which would else go to the next cell
    expect(view.locator(".film-stage")).to_be_focused()
    edges[2].fill("80")
    edges[2].press("Enter")
    expect(view.locator(".film-stage")).to_have_attribute(
        "aria-label", re.compile(f"Box: {left - 2}, 2[4-6], 80, 7[4-6] percent")
    )
    view.get_by_label("The box stands for").select_option("mediastinum")
    expect(view.locator(".second")).to_contain_text("mediastinum (your box)")
    look(page, view, "place", shots)

    film = tmp_path / "mine.png"  # a film from the disk
    studies = StudySet.load(shipped_data("phantom-small")).split("train")
    image = choose_image(studies.images).iloc[4]
    Image.fromarray(studies.pixels(64).take([image["image_id"]])[0]).save(film)
    chooser = view.get_by_label("Ask with a film from the disk")
    chooser.set_input_files(film)
    expect(view.locator(".second .card strong").first).to_have_text("mine.png")
    expect(view.get_by_alt_text("your film")).to_be_visible()
    expect(view.locator(".film-stage rect.drawn")).to_have_count(0)  # a box belongs to its film
    for name in ("left lung", "right lung"):
        view.get_by_label(name, exact=True).uncheck()
    expect(view.locator(".ranked .card button.link").first).to_have_text(f"1. {image['study_id']}")  # it is a copy
    drag(page, view, (0.1, 0.2), (0.45, 0.8))
    expect(view.locator(".second")).to_contain_text("(your box)")
    look(page, view, "disk", shots)

    broken, large = tmp_path / "letter.pdf", tmp_path / "large.tif"
    broken.write_bytes(b"%PDF-1.7")
    with large.open("wb") as file:
        file.truncate(41_000_000)
    for path, word in (
        (broken, "letter.pdf: not a picture"),
        (large, "large.tif: 41.0 MB are more than the limit of 40 MB"),
    ):
        chooser.set_input_files(path)
        expect(status_of(view)).to_contain_text(word)
        expect(view.locator(".second .card strong").first).to_have_text("mine.png")  # nothing else is lost
    expect(view.locator(".film-stage rect.drawn")).to_have_count(1)
    many = tmp_path / "many.bmp"  # more than one message holds
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (3400, 3300), dtype=np.uint8)).save(many)
    chooser.set_input_files(many)
    expect(view.locator(".second .card strong").first).to_have_text("many.bmp", timeout=60_000)
    expect(view.locator(".second .card .told").first).to_contain_text("3300 × 3400 pixels, 11.2 MB")
    assert not page.errors and not page.outside, (page.errors, page.outside)


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize(
    "notebook, kind", [("820_widget", "points"), ("835_prototypes", "prototypes"), ("840_ellipses", "ellipses")]
)
def test_a_view_opens_and_answers(run_notebook, page, notebook, kind):
    run_notebook(f"views/{notebook}.ipynb")
    view = view_of(page, kind)
    if kind == "points":
        view.locator(".stage").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        expect(view.locator(".card strong")).to_have_text(re.compile("^study A"))
    else:
        before = view.locator(".second h3, .parts tr.chosen").first.inner_text()
        view.locator("tbody tr button").nth(2).click()
        expect(view.locator(".second h3, .parts tr.chosen").first).not_to_have_text(before)
    assert view.evaluate("e => e.scrollWidth <= e.clientWidth")
    check_theme(page, view)
    assert not page.errors and not page.outside, (page.errors, page.outside)


@pytest.mark.slow
@pytest.mark.browser
def test_pairs_are_judged_by_key(run_notebook, page):
    "Keys reach the view and not JupyterLab, where 1 and 2 make headings of a cell."
    run_notebook("views/847_adjudication.ipynb")
    view = view_of(page, "adjudication")
    told = view.locator(".judging p[role=status]")
    expect(told).to_contain_text(re.compile(r"A: 14 of \d+ judged\."))  # by the cells below it
    cells = page.locator(".jp-Notebook .jp-MarkdownCell").count()
    view.locator(".judging").focus()
    page.keyboard.press("1")
    page.keyboard.press("2")
    expect(told).to_contain_text(re.compile(r"A: 16 of \d+ judged\."))
    page.keyboard.press("u")
    expect(told).to_contain_text(re.compile(r"A: 15 of \d+ judged\."))
    expect(view.locator(".judging")).to_be_focused()
    assert page.locator(".jp-Notebook .jp-MarkdownCell").count() == cells
    assert view.evaluate("e => e.scrollWidth <= e.clientWidth")
    check_theme(page, view)
    assert not page.errors and not page.outside, (page.errors, page.outside)
