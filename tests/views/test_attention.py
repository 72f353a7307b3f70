"""The attention view: a typed sentence, odd and restricted inputs, the page in a browser without a network."""

import numpy as np
import pytest
from pages import HOSTILE, array_of, opened
from playwright.sync_api import expect

from medret_nb.data.files import DataError
from medret_nb.data.studies import StudySet
from medret_nb.figures.figures import save_figure
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.views.attention import attention_figure, attention_view
from medret_nb.views.looks import Look, Looker, look_at, share_inside, spread
from medret_nb.views.widget import view_html


def some_look(words=("left", "upper", "nodule"), h=3, w=4, seed=0, **more):
    rng = np.random.default_rng(seed)
    more = {
        "truth": [("nodule", (0.5, 0.0, 1.0, 0.5))],
        "boxes": [[0, 0, 0.5, 1], [0.5, 0, 1, 1]],
        "regions": ["right lung", "left lung"],
        "film": rng.integers(0, 256, (48, 48), dtype=np.uint8),
        "id": f"film {seed}",
    } | more
    return look_at(list(words), rng.normal(size=(len(words), 5)), rng.normal(size=(h, w, 5)), **more)


@pytest.fixture(scope="module")
def looker(small_phantom):
    return Looker(CLIP.create(CLIPConfig(dim=8, data=str(small_phantom.folder))), small_phantom)


def test_a_typed_sentence_is_laid_on_the_film(looker):
    view = attention_view(looker, most=3)
    assert view.payload["asks"] == ["say"] and "by-product" in view.payload["says"][0]
    view.request = {"id": 1, "kind": "say", "item": 2, "text": "Left effusion."}
    wanted = looker.look(view.payload["data"]["items"][2]["id"], "Left effusion.")
    np.testing.assert_allclose(array_of(view.answer["read"]["grid"]), wanted.grid, atol=1e-6)
    view.request = {"id": 2, "kind": "say", "item": 2, "text": " ... "}
    assert "no word" in view.answer["error"]
    with pytest.raises(DataError, match="nobody"):
        attention_view(looker, studies=["nobody"])


@pytest.mark.browser
def test_odd_inputs_are_told(tmp_path, page):
    odd = {
        "no words": look_at([], np.zeros((0, 2)), np.ones((2, 2, 2))),
        "zero or NaN": look_at(["a"], [[np.nan, 1]], np.ones((2, 2, 2))),
        "": look_at(["same"], [[1, 1]], np.ones((1, 1, 2))),
    }
    for word, look in odd.items():
        view = attention_view(look)
        assert word in " ".join(view.payload["says"])
        opened(page, view_html(view, tmp_path / "p.html"))
        for button in page.locator(".word").all():
            button.click()
        assert not page.errors, page.errors
    assert attention_view([]).payload["empty"]


@pytest.mark.browser
def test_a_page_answers_without_a_kernel(page, tmp_path):
    looks = [some_look(seed=0), some_look(seed=1, words=("small", "right", "effusion", "."))]
    path = view_html(attention_view(looks, temperature=0.5), tmp_path / "p.html")
    for width, scheme in ((1200, "light"), (420, "dark")):
        opened(page, path, width, scheme)
        assert not page.get_by_label("A sentence on this film").count()
        page.locator(".word").nth(2).click()
        weights = spread(looks[0].grid[2].ravel(), 0.5).reshape(3, 4)
        share, best = share_inside(weights, looks[0].truth[0][1]), weights.max()
        assert f"strongest patch {100 * best:.{0 if best >= 0.1 else 1}f} %" in page.inner_text("[role=status]")
        assert (
            page.locator(".bars .value").first.inner_text()
            == f"{100 * share:.{0 if share >= 0.1 else 1}f} % (box: 25 % of the film)"
        )
        assert page.locator("canvas").evaluate("c => [c.height, c.width]") == [3, 4]
        slider = page.locator("input[type=range]")
        slider.fill("1")
        hot = share_inside(spread(looks[0].grid[2].ravel(), 10).reshape(3, 4), looks[0].truth[0][1])
        expect(page.locator(".bars .value").first).to_have_text(f"{100 * hot:.0f} % (box: 25 % of the film)")
        page.get_by_label("Look by").select_option("regions")
        page.get_by_role("button", name="left lung").click()
        taken = spread(looks[0].places[:, 1], 10)
        assert f"left lung takes “{looks[0].words[int(taken.argmax())]}” most" in page.inner_text("[role=status]")
        page.get_by_label("Film", exact=True).select_option("film 1")
        assert page.locator(".word").all_inner_texts() == looks[1].words
        page.get_by_label("Look by").select_option("patches")
        page.locator(".film-stage").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
        assert "patch 5 takes" in page.inner_text("[role=status]")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not page.outside and not page.errors, page.errors


@pytest.mark.browser
def test_hostile_texts_are_texts(page, tmp_path):
    words = [t[:2000] for t in HOSTILE]
    look = some_look(words=words, truth=[(t[:80], (0, 0, 1, 1)) for t in words], regions=words[:2], id=words[0])
    opened(page, view_html(attention_view(look, title=HOSTILE[1]), tmp_path / "p.html"))
    for button in page.locator(".word").all():
        button.click()
    assert page.locator(".word").evaluate_all("all => all.map(e => e.textContent)") == [
        w.replace("\ud800", "?") for w in words
    ]
    assert (
        page.locator("script").count() == 2 and page.title() == HOSTILE[1] and not page.outside and not page.errors
    ), page.errors
    assert page.evaluate("document.documentElement.scrollWidth") <= 1200


def test_a_restricted_page_holds_ids_only(tmp_path, small_phantom, looker):
    closed = StudySet(
        small_phantom.studies,
        small_phantom.images,
        small_phantom.regions,
        {**small_phantom.info, "restricted": True},
        small_phantom.folder,
    )
    view = attention_view(Looker(looker.method, closed), most=3)
    html, word = view_html(view, tmp_path / "p.html").read_text(), view.payload["private"]["items"][0]["words"][0]
    payload = html.split('id="medret-payload"')[1].split("</script>")[0]
    assert (
        "Not for sharing" in html
        and "lung zone" not in payload
        and f'"{word}"' not in payload
        and view.payload["data"]["items"][0]["id"] in payload
    )


def test_the_print_form(tmp_path):
    look = some_look(words=("small", "right", HOSTILE[0][:60]))
    first, second = (
        save_figure(attention_figure(look, ["RIGHT", 2]), tmp_path / f"{n}.pdf").read_bytes() for n in "ab"
    )
    assert first == second
    by_regions = Look(
        look.id, look.words, look.gaps, None, look.places, look.boxes, look.regions, look.truth, look.film
    )
    save_figure(attention_figure(by_regions, [0]), tmp_path / "c.svg")
    with pytest.raises(ValueError, match="'spleen' is not in the report"):
        attention_figure(look, ["spleen"])


@pytest.mark.slow
@pytest.mark.browser
def test_in_jupyterlab_a_sentence_is_laid_on_the_film(run_notebook, page):
    run_notebook("views/845_attention.ipynb")
    view = page.locator(".medret[data-ready=attention]").last
    view.scroll_into_view_if_needed()
    own = view.locator(".word").all_inner_texts()
    view.get_by_label("A sentence on this film").fill("Small left pneumothorax.")
    view.get_by_role("button", name="Look", exact=True).click()
    expect(view.locator(".word")).to_have_text(["Small", "left", "pneumothorax", "."])
    view.locator(".word").nth(2).hover()
    expect(view.locator("[role=status]")).to_contain_text("“pneumothorax” gives its strongest patch")
    view.get_by_role("button", name="Back to its own report").click()
    expect(view.locator(".word").first).to_have_text(own[0])
    assert view.evaluate("e => e.scrollWidth <= e.clientWidth") and not page.errors and not page.outside, (
        page.errors,
        page.outside,
    )
