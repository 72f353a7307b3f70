"""Prototypes: clusters that stand in, a run of PECM, odd and restricted inputs, the view in a browser."""

import numpy as np
import pytest
from pages import HOSTILE, opened
from playwright.sync_api import expect

from medret_nb.data.files import DataError
from medret_nb.figures.figures import save_figure
from medret_nb.views.items import from_arrays
from medret_nb.views.levels import level_of, use_of
from medret_nb.views.maps import maps_of
from medret_nb.views.prototypes import common_sentences, levels_of, prototypes_figure, prototypes_view
from medret_nb.views.widget import view_html


@pytest.mark.parametrize(
    "prototypes, word",
    [(np.zeros((0, 3)), "at least 1"), (np.zeros((2, 4)), "4 dimensions"), (np.full((2, 3), np.nan), "NaN")],
)
def test_prototypes_that_do_not_fit_are_refused(prototypes, word):
    with pytest.raises(ValueError, match=word):
        prototypes_view(image=np.eye(3), text=np.eye(3), prototypes=prototypes)


def test_without_prototypes_clusters_stand_in():
    rng = np.random.default_rng(0)
    items = from_arrays(rng.normal(size=(40, 5)), rng.normal(size=(40, 5)))
    levels, notes = levels_of(items)
    assert [len(level) for level in levels] == [8, 16] and "k-means" in notes[0]
    np.testing.assert_array_equal(levels_of(items)[0][0].film, levels[0].film)
    assert common_sentences(["A b. C d.", "C d."]) == ["C d.", "A b."]


@pytest.mark.parametrize(
    "image, word, empty",
    [
        (np.zeros((0, 3)), "no studies", True),
        (np.full((2, 3), np.nan), "no studies", True),
        (np.eye(3)[:1], "", False),
        (np.ones((4, 3)), "same place", False),
        (np.array([[np.nan, 0, 0], [1, 0, 0], [0, 1, 0]]), "1 of 3 studies", False),
    ],
)
@pytest.mark.parametrize("given", [True, False], ids=["given", "clusters"])
def test_odd_inputs_are_told(image, word, empty, given, page, tmp_path):
    view = prototypes_view(
        image=image,
        text=np.nan_to_num(image),
        prototypes=np.eye(3) if given else None,
        texts=["Normal."] * len(image),
        findings=[["A"]] * len(image),
    )
    assert word in " ".join(view.payload["says"]) and view.payload["empty"] == empty
    opened(page, view_html(view, tmp_path / "p.html"))
    assert word in page.inner_text("header") and not page.errors, page.errors


def test_a_restricted_page_keeps_findings_and_texts(tmp_path):
    view = prototypes_view(
        image=np.eye(3),
        text=np.eye(3),
        prototypes=np.eye(3),
        texts=["Philomena."] * 3,
        findings=[["Edema"]] * 3,
        restricted=True,
    )
    assert not any(word in view_html(view, tmp_path / "p.html").read_text() for word in ("Philomena", "Edema"))


@pytest.mark.browser
def test_a_page_answers_without_a_kernel(page, tmp_path):
    rng = np.random.default_rng(0)
    n, kinds = 60, np.arange(60) % 3
    films = [rng.integers(0, 256, (32, 32), dtype=np.uint8) for _ in range(n)]
    image, text = np.eye(4)[kinds] + 0.3 * rng.normal(size=(n, 4)), np.eye(4)[kinds] + 0.5 * rng.normal(size=(n, 4))
    texts = HOSTILE + [f"report {i}" for i in range(n - len(HOSTILE))]
    items = from_arrays(
        image,
        text,
        texts=texts,
        films=films,
        findings=[[f"<b>kind {k}"] for k in kinds],
        ids=[f"s{i}" for i in range(n)],
    )
    path, use = (
        view_html(
            prototypes_view(items, prototypes={"low": np.eye(4)[:3], "<i>high": np.eye(4)}, near=n), tmp_path / "p.html"
        ),
        use_of(level_of("low", image, text, np.eye(4)[:3])),
    )
    for width, scheme in ((1200, "light"), (420, "dark")):
        opened(page, path, width, scheme)
        page.get_by_role("button", name="P2", exact=True).first.click()
        assert page.locator(".second h3").first.inner_text() == "P2 of level low"
        assert [page.locator(".second .bars .value").nth(i).inner_text() for i in (0, 1)] == [
            str(c) for c in use.counts[1]
        ]
        assert page.locator(".second .bars .name", has_text="<b>kind 1").count() == 1
        told = set(page.evaluate("[...document.querySelectorAll('.second .report')].map(e => e.textContent)"))
        assert told <= {t.replace("\ud800", "?") for t in texts} and len(told) == 4
        divided = page.locator(".panel", has_text="Divided pairs")
        divided.locator("tbody tr button").first.click()
        expect(divided.locator(".card strong").first).to_have_text(
            f"film of s{use.divided[0]}: P{use.film[use.divided[0]] + 1}"
        )
        page.get_by_label("Level").select_option("<i>high (4)")
        expect(page.locator(".second h3").first).to_have_text("P1 of level <i>high")
        page.get_by_label("Colour").select_option("divided pairs")
        expect(page.locator(".legend")).to_contain_text("halves divided")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (
        page.title() == "Prototypes" and page.locator("script").count() == 2 and not page.outside and not page.errors
    ), page.errors


def test_the_print_form(tmp_path):
    rng = np.random.default_rng(0)
    items = from_arrays(rng.normal(size=(30, 4)), rng.normal(size=(30, 4)))
    level, made = level_of("l", items.image.mu, items.text.mu, np.eye(4)), maps_of(items, ["pca"])[0]
    first, second = (save_figure(prototypes_figure(made, level), tmp_path / f"{n}.pdf").read_bytes() for n in "ab")
    assert first == second
    with pytest.raises(DataError, match="no study"):
        prototypes_figure(made, level_of("l", np.zeros((0, 4)), np.zeros((0, 4)), np.eye(4)))


def test_a_run_of_pecm_brings_its_own(small_phantom, tmp_path):
    from medret_nb.methods.pecm import PECM, PECMConfig

    PECM.create(PECMConfig(data=str(small_phantom.folder), max_words=32)).save_pretrained(tmp_path)
    view = prototypes_view(tmp_path, split="train", progress=False, near=3)
    assert [(level["name"], level["size"]) for level in view.payload["data"]["levels"]] == [
        ("fine", 8),
        ("coarse", 4),
        ("whole", 1),
    ] and not view.payload["says"]
    assert len(view.payload["private"]["sentences"][1]) == 4 and len(view.payload["private"]["sentences"][1][0]) == 3
