"""The page: safe against its own content, readable without a network."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medret_nb.cli.page import (
    answer_cards,
    cell_text,
    fact_list,
    figure_uri,
    film_uri,
    inside,
    picture,
    prose,
    table,
    write_page,
)
from medret_nb.cli.page import page as make_page
from medret_nb.data.studies import NOT_FOR_SHARING
from medret_nb.figures.scores import curve_figure
from medret_nb.views.widget import points_view

HARM = (
    "\"'><script>document.title='caught'</script>"
    "<img src=http://127.0.0.1:9/x onerror=\"document.title='caught'\"><a href=javascript:1>"
)


def everything(text: str) -> str:
    """A page with `text` at every place that takes text."""
    film = np.full((8, 8), 90, np.uint8)
    card = {"film": film, "text": text, "note": text, "hit": True}
    blocks = [
        prose(text),
        fact_list({text: text}),
        table(pd.DataFrame({text: [text, 1.0]}), text),
        picture(film_uri(film), text),
        answer_cards(card, [card], text),
        answer_cards({"text": text}, [{"text": text}], text),
    ]
    return make_page(text, text, {text: blocks}, (text,))


def test_text_is_escaped_wherever_it_enters():
    html = everything(HARM)
    assert "<script" not in html and "<img src=http" not in html and "<a " not in html
    assert html.count("&lt;script&gt;") >= 15


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1, max_size=60))
def test_no_text_adds_an_element(text):
    def tags(html):
        return re.findall(r"<[a-zA-Z!/][^>]*?(?=[\s>])", html)

    assert len(tags(everything(text))) == len(tags(everything("plain")))


def test_film_survives_the_page():
    film = np.random.default_rng(0).integers(0, 256, (17, 9), dtype=np.uint8)
    assert (np.asarray(Image.open(io.BytesIO(base64.b64decode(film_uri(film).split(",")[1])))) == film).all()
    with pytest.raises(ValueError, match="uint8"):
        film_uri(film.astype(float))


def test_missing_cells_are_empty():
    assert [cell_text(v) for v in (None, float("nan"), 0.5, 3, "x")] == ["", "", "0.500", "3", "x"]


def test_page_in_a_browser(page, tmp_path):
    """Nothing is asked of a network, nothing runs, every picture shows, and the page is not wider than a phone."""
    figure = curve_figure([1, 2], {"a": [0.1, 0.2]}, "x", "y")
    film = np.full((16, 16), 200, np.uint8)
    sections = {
        "Text": [prose(HARM)],
        "Pictures": [picture(figure_uri(figure, tmp_path, "f"), "A curve", 300)],
        "Found": [
            answer_cards({"film": film, "text": HARM}, [{"text": HARM, "hit": True}] * 2, "asked"),
            answer_cards({"text": "x"}, [{"film": film}] * 6, "asked"),
        ],
    }
    assert make_page("t", "l", sections) == write_page(tmp_path / "p.html", "t", "l", sections).read_text(
        encoding="utf-8"
    )
    write_page(tmp_path / "p.html", "A title", "A lead", sections, (NOT_FOR_SHARING,))
    for width in (1200, 400):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto((tmp_path / "p.html").as_uri())
        assert page.title() == "A title" and not page.outside and not page.errors
        assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.get_by_text(NOT_FOR_SHARING).is_visible()


def test_views_in_a_page(page, tmp_path):
    """Two views beside other blocks: both answer, no text runs, the page's style stays outside, and nothing leaves."""
    films = [np.full((16, 16), 90, np.uint8)] * 3
    made = [
        points_view(
            [0.0, 1.0, 2.0], [0.0, 1.0, 0.0], texts=[HARM, "Large effusion.", "Normal chest."], films=films, title=t
        )
        for t in ("First map", "Second map")
    ]
    blocks = [prose(HARM), inside(made[0]), table(pd.DataFrame({"a": [1.0]}), "numbers"), inside(made[1])]
    write_page(tmp_path / "p.html", "A title", "A lead", {"Look inside": blocks})
    for width in (1200, 400):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto((tmp_path / "p.html").as_uri())
        page.wait_for_function("document.querySelectorAll('[data-ready=points]').length == 2")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        second = page.locator("[data-medret]").nth(1)
        second.locator(".stage").focus()
        for key in ("ArrowRight", "Enter"):
            page.keyboard.press(key)
        assert (
            second.locator(".report").count() == 1
            and page.locator("[data-medret]").first.locator(".report").count() == 0
        )
        assert page.title() == "A title" and not page.outside and not page.errors
    assert (
        page.locator(".numbers").count() == 1
        and page.evaluate("getComputedStyle(document.querySelector('.medret h2')).borderTopWidth") == "0px"
    )


def test_a_restricted_view_keeps_its_texts_to_itself():
    secret = points_view([0.0, 1.0], [0.0, 1.0], texts=["Philomena has an effusion.", "Normal."], restricted=True)
    assert "Philomena" not in make_page("t", "l", {"s": [inside(secret)]}) and "Philomena" in make_page(
        "t", "l", {"s": [inside(secret, show=True)]}
    )
