"""Prototypes: assignment by a loop, what is dead, double or divided, answers of PECM's kind, the view in a browser."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import expect
from test_widget import HOSTILE, opened

from medret_nb.data.files import DataError
from medret_nb.figures.figures import save_figure
from medret_nb.views.items import from_arrays
from medret_nb.views.maps import maps_of
from medret_nb.views.prototypes import common_sentences, levels_of, prototypes_figure, prototypes_view
from medret_nb.views.levels import gathered, level_of, level_of_answers, use_of
from medret_nb.views.widget import view_html


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 6), st.integers(0, 999))
def test_use_is_that_of_a_loop(n, k, seed):
    rng = np.random.default_rng(seed)
    film, report, ends = rng.normal(size=(n, 4)), rng.normal(size=(n, 4)), rng.normal(size=(k, 4))
    use, cosine = use_of(level_of("l", film, report, ends)), lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    counts, divided = np.zeros((k, 2), int), []
    for i in range(n):
        a, b = (int(np.argmax([cosine(side[i], e) for e in ends])) for side in (film, report))
        counts[a, 0] += 1
        counts[b, 1] += 1
        if a != b:
            divided.append(i)
    assert (
        use.counts.tolist() == counts.tolist()
        and sorted(use.divided.tolist()) == divided
        and (np.diff(use.width) <= 1e-12).all()
    )
    assert use.dead.tolist() == [sum(c) < 0.1 * 2 * n / k for c in counts]


def test_doubles_and_single_modalities_are_named():
    ends = np.array([[1.0, 0, 0], [1, 0.05, 0], [0, 1, 0], [0, 0, 1]])
    film, report = np.tile([0.0, 1, 0], (30, 1)), np.tile([0.0, 0, 1], (30, 1))
    film[0] = report[0] = [1, 0, 0]
    film[1] = report[1] = [1, 0.05, 0]
    film[2:4] = report[2:4] = [[1, 0, 0], [1, 0.06, 0]]
    use = use_of(level_of("l", film, report, ends))
    assert [use.state(k) for k in range(4)] == ["doubles P2", "doubles P1", "films only", "reports only"]


def test_findings_are_held_against_all():
    film = np.repeat(np.eye(2), 10, 0)
    use = use_of(level_of("l", film, film, np.eye(2)))
    findings = [["A"]] * 8 + [["B"]] * 2 + [["A"]] * 2 + [["B", "B"]] * 8
    assert gathered(findings, use, 0) == [{"name": "A", "share": 0.8, "base": 0.5}]
    assert gathered(findings, use, 1) == [{"name": "B", "share": 0.8, "base": 0.5}]


def test_answers_find_what_was_asked():
    rng = np.random.default_rng(0)
    has = rng.random((150, 3)) < 0.25
    ways = rng.normal(size=(3, 5))
    film, report = (has[:, :, None] * ways + 0.1 * rng.normal(size=(150, 3, 5)) for _ in range(2))
    level = level_of_answers(
        "fine", np.concatenate([film, np.zeros((150, 1, 5))], 1), np.concatenate([report, np.zeros((150, 1, 5))], 1)
    )
    for k in range(3):
        best = np.argsort(-level.film[:, k])[: has[:, k].sum()]
        assert has[best, k].mean() > 0.95  # those with the rare answer stand at the top, whatever its sign
    assert use_of(level).dead.tolist()[3] and level.still.tolist() == [False, False, False, True]

    class Said:
        local = {"prototypes": np.concatenate([report, np.zeros((150, 1, 5))], 1)}

    np.testing.assert_allclose(level.hear(Said)[:, :3], level.report[:, :3], atol=1e-9)


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
