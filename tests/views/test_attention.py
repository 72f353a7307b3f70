"""The attention view: shares against a fine grid, looks of a run, the page in a browser without a network."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import expect
from test_widget import HOSTILE, opened

from medret_nb.data.files import DataError
from medret_nb.data.studies import StudySet
from medret_nb.figures.figures import save_figure
from medret_nb.losses.region_word import box_weights
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.methods.table import METHODS
from medret_nb.views.attention import (
    Look,
    Looker,
    attention_figure,
    attention_view,
    cosines,
    covered,
    look_at,
    share_inside,
    spread,
)
from medret_nb.views.widget import view_html


def array_of(packed):
    return np.frombuffer(packed["data"], packed["$array"]).reshape(packed["shape"])


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


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.lists(st.floats(-0.2, 1.2), min_size=4, max_size=4), st.integers(0, 99))
def test_shares_are_those_of_a_fine_grid(h, w, corners, seed):
    box = (min(corners[:2]), min(corners[2:]), max(corners[:2]), max(corners[2:]))
    weights = spread(np.random.default_rng(seed).normal(size=h * w)).reshape(h, w)
    at = (np.arange(600) + 0.5) / 600
    fine = np.kron(weights, np.ones((1, 1)))[(at * h).astype(int)][:, (at * w).astype(int)] * h * w / 600**2
    inside = fine[(at >= box[1]) & (at < box[3])][:, (at >= box[0]) & (at < box[2])].sum()
    assert share_inside(weights, box) == pytest.approx(inside, abs=0.02 * h * w)
    import torch

    whole = covered(box, h, w)
    np.testing.assert_allclose(
        whole / max(whole.sum(), 1e-12),
        box_weights(torch.tensor([box], dtype=torch.float64), h, w)[0].numpy(),
        atol=1e-6,
    )


def test_weights_sum_to_one_and_nan_gets_none():
    scores = np.array([[1.0, np.nan, 3.0], [np.nan] * 3, [1e5, 1e5, -1e5]])
    made = spread(scores, 0.5)
    np.testing.assert_allclose(made.sum(1), [1, 0, 1])
    assert made[0, 1] == 0 and made[0, 2] == pytest.approx(1 / (1 + np.exp(-4))) and made[2].tolist() == [0.5, 0.5, 0]
    with pytest.raises(ValueError, match="temperature"):
        spread(scores, 0)
    assert np.isnan(cosines([[0.0, 0]], [[1.0, 0]])).all()


def test_regions_without_vectors_are_means_of_patches():
    rng = np.random.default_rng(0)
    words, patches = rng.normal(size=(3, 5)), rng.normal(size=(3, 4, 5))
    look = look_at(list("abc"), words, patches, boxes=[[0, 0, 0.5, 1]])
    mean = patches[:, :2].mean((0, 1))
    np.testing.assert_allclose(
        look.places[:, 0], words @ mean / np.linalg.norm(words, axis=1) / np.linalg.norm(mean), rtol=1e-5
    )


@pytest.mark.parametrize(
    "change, word",
    [
        ({"patches": np.ones((2, 2, 3))}, "patches: 3 numbers"),
        ({"patches": None}, "patches: give"),
        ({"patches": np.ones((4, 2))}, "must be"),
        ({"boxes": [[0, 0, 1, 1]], "regions": ["a", "b"]}, "regions: 2 for 1"),
        ({"region_features": np.ones((3, 2))}, "boxes: 0 for 3"),
    ],
)
def test_shapes_that_disagree_are_refused(change, word):
    with pytest.raises(ValueError, match=word):
        look_at(**{"words": ["a"], "word_features": np.ones((1, 2)), "patches": np.ones((2, 2, 2)), **change})


@pytest.fixture(scope="module")
def looker(small_phantom):
    return Looker(CLIP.create(CLIPConfig(dim=8, data=str(small_phantom.folder))), small_phantom)


def test_a_look_of_a_run_is_what_the_method_says(looker):
    study = next(s for s in looker.ids if any(c.isalnum() for c in looker.texts[s]) and looker.look(s).truth)
    look, method = looker.look(study), looker.method
    rebuilt = "".join(g + w for g, w in zip(look.gaps, look.words)) + look.gaps[-1]
    assert (
        rebuilt == looker.texts[study]
        and look.grid.shape[0] == len(look.words)
        and look.regions[0] == "right upper lung zone"
    )
    one = looker.look(study, "Effusion.")
    tokens, mask = method.prepare_text(["Effusion."])
    words, patches = (
        method.encode_text(tokens, mask).local["words"][0].detach().numpy(),
        method.encode_image(method.prepare_pixels(look.film[None])).local["patches"][0].detach().numpy(),
    )
    numbers = [i for i, n in enumerate(method.tokenizer("Effusion.").word_ids()) if n == 0]
    np.testing.assert_allclose(
        one.grid[0].ravel(), cosines(words[numbers].mean(0)[None], patches.reshape(-1, 8))[0], atol=1e-5
    )
    assert one.words == ["Effusion", "."] and all(0 <= v <= 1 for _, box in look.truth for v in box)


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_looks_or_says_why_not(name, small_phantom):
    method = METHODS[name].create(METHODS[name].Config(dim=8, data=str(small_phantom.folder)))
    try:
        look = Looker(method, small_phantom).look(small_phantom.studies["study_id"].iloc[0], "Small left effusion.")
    except DataError as error:
        assert "keeps no vectors" in str(error)
    else:
        assert (
            look.words[:3] == ["Small", "left", "effusion"]
            and np.isfinite(look.grid if look.grid is not None else look.places).any()
        )


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
