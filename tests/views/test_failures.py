"""The failures view: rows against the evaluation, notes, a second method, the page in a browser without a network."""

import re

import numpy as np
import pandas as pd
import pytest
from pages import HOSTILE, array_of, opened
from playwright.sync_api import expect

from medret_nb.data.files import DataError
from medret_nb.data.studies import StudySet, choose_image
from medret_nb.evaluation.results import evaluate
from medret_nb.failures.causes import explain
from medret_nb.failures.relations import RELATIONS
from medret_nb.figures.figures import save_figure
from medret_nb.retrieval.points import Embeddings
from medret_nb.views.failures import failures_figure, failures_view
from medret_nb.views.widget import view_html


def judged(studies, mu=None, seed=0, noise=1.0, **more):
    "An evaluation of random points: images near their texts."
    rng, names = np.random.default_rng(seed), studies.studies["study_id"].to_numpy(object)
    mu = np.asarray(rng.normal(size=(len(names), 8)) if mu is None else mu, np.float32)
    films = choose_image(studies.images).set_index("study_id").loc[list(names), "image_id"].to_numpy(object)
    meta = {"similarity": "cosine", "split": "all", "policy": "both"}
    near = (mu + noise * rng.normal(size=mu.shape)).astype(np.float32)
    points = {
        "image": Embeddings(films, names, near, None, meta | {"modality": "image"}),
        "text": Embeddings(names, names, mu, None, meta | {"modality": "text"}),
    }
    return evaluate(points, studies, "exact", ks=(1,), draws=5, verbose=False, **more)


def set_of(texts, ids=None, restricted=False, folder=None):
    "Studies with these texts and no readable film."
    ids = ids or [f"s{i}" for i in range(len(texts))]
    table = pd.DataFrame(
        {"study_id": ids, "patient_id": ids, "findings": texts, "labels": [{"Fracture": 1}] * len(ids)}
    )
    images = pd.DataFrame(
        {"image_id": [f"i{i}" for i in range(len(ids))], "study_id": ids, "view": "PA", "path": "none.png"}
    )
    return StudySet(table, images, info={"restricted": restricted, "name": "x"}, folder=folder)


@pytest.fixture(scope="module")
def seen(small_phantom):
    results, second = judged(small_phantom), judged(small_phantom, seed=1)
    return small_phantom, results, second, failures_view(results, studies=small_phantom, other=second, k=4)


def test_the_lead_speaks_of_the_direction_that_is_shown(seen):
    studies, results, _, both = seen
    one = failures_view(results, studies=studies, direction="image-to-text").payload["lead"]
    assert (
        "text-to-image" not in one
        and one.split("image-to-text")[1].rstrip(".") in both.payload["lead"]
        and "text-to-image" in both.payload["lead"]
    )


def test_rows_are_those_of_the_evaluation(seen):
    studies, results, second, view = seen
    data, why = view.payload["data"], explain(results, studies)
    rows, ids = data["rows"], data["ids"]
    assert [RELATIONS[r] for r in array_of(rows["relation"])] == why.failures["relation"].tolist()
    assert [ids[i] for i in array_of(rows["study"])] == why.failures["study_id"].tolist()
    top, hits = array_of(rows["top"]), array_of(rows["hits"])
    for i in (0, len(top) // 2, len(top) - 1):
        f = why.failures.iloc[i]
        wanted = (
            results.rankings[
                (results.rankings["query"] == f["query"]) & (results.rankings["direction"] == f["direction"])
            ]
            .sort_values("position")
            .head(4)
        )
        owner = results.queries.set_index("query")["study_id"]
        assert [ids[j] for j in top[i]] == owner[wanted["candidate"].astype(str)].tolist() and hits[i].tolist() == (
            wanted["relevance"] == 1
        ).tolist()
        other = second.queries[
            (second.queries["study_id"] == f["study_id"]) & (second.queries["direction"] == f["direction"])
        ]["rank"].item()
        assert array_of(data["second"]["rank"])[i] == pytest.approx(other)


def test_notes_are_kept_beside_the_run_and_exported(seen, tmp_path):
    studies, results, _, _ = seen
    view = failures_view(results, studies=studies, notes=tmp_path / "n.json")
    assert view.payload["asks"] == ["export", "note", "read"]
    view.request = {"id": 1, "kind": "note", "row": 2, "note": "=HYPERLINK(1)", "tags": "side, check"}
    view.request = {"id": 2, "kind": "note", "row": 3, "note": "gone", "tags": ""}
    view.request = {"id": 3, "kind": "note", "row": 3, "note": " ", "tags": ""}
    view.request = {"id": 4, "kind": "read", "row": 2}
    assert view.answer["note"] == "=HYPERLINK(1)"
    again = failures_view(results, studies=studies, notes=tmp_path / "n.json")
    again.request = {"id": 5, "kind": "export"}
    table = pd.read_csv(tmp_path / "n.csv")
    assert (
        table["note"].tolist() == ["'=HYPERLINK(1)"]
        and table["tags"].tolist() == ["side, check"]
        and table["rank"].item() > 1
    )
    assert "HYPERLINK" not in view_html(view, tmp_path / "p.html").read_text()
    assert not failures_view(results, studies=studies).payload["asks"]


def test_odd_inputs_are_told(tmp_path, page):
    same, one = set_of(["Normal heart size."] * 3), set_of(["Normal heart size."])
    for studies, mu, noise, word in (
        (same, np.ones((3, 4)), 0, None),
        (one, np.ones((1, 4)), 0, "no query failed"),
        (set_of(["Effusion.", "Fracture."]), np.eye(2, 4), 0, "no query failed"),
    ):
        view = failures_view(judged(studies, mu, noise=noise), studies=studies)
        says = " ".join(view.payload["says"])
        assert word is None or word in says and view.payload["empty"]
        assert "read from the reports' words by rules" in says
        opened(page, view_html(view, tmp_path / "p.html"))
        assert not page.errors, page.errors
    assert failures_view(judged(same, np.ones((3, 4)), noise=0), studies=same).payload["data"]["rows"]["relation"][
        "data"
    ][0] == RELATIONS.index("identical text")


@pytest.mark.browser
def test_one_fact_changed(seen, tmp_path, page):
    from medret_nb.failures.counterfactuals import Asker, smallest
    from medret_nb.methods.clip import CLIP, CLIPConfig
    from medret_nb.retrieval.embeddings import embed

    studies, results, _, _ = seen
    method = CLIP.create(CLIPConfig(dim=8, data=str(studies.folder)))
    points = embed(method, studies, None, progress=False)
    asker = Asker(method, studies, points["image"], points["text"])
    view = failures_view(results, studies=studies, asker=asker, whatif=2)
    ready, failures = view.payload["private"]["whatif"], explain(results, studies).failures
    assert list(ready) == ["0", str(len(failures) - 1)]
    view.request = {"id": 1, "kind": "whatif", "row": 1}
    assert view.answer["changes"] == asker.ask(failures.iloc[1]["study_id"], failures.iloc[1]["direction"])
    opened(page, view_html(view, tmp_path / "p.html"))
    panel = page.locator(".whatif")
    assert (
        panel.locator("tbody tr").count() == len(ready["0"])
        and "as it is" in panel.inner_text()
        and not page.get_by_role("button", name="Change one fact").count()
    )
    best = smallest(ready["0"])
    assert ("None of these changes" in panel.inner_text()) == (best is None)
    page.locator("tbody tr button").nth(1).click()
    assert not page.locator(".whatif").count() and not page.errors, (
        page.errors
    )  # not computed beforehand, and nobody to ask


def test_what_is_missing_is_named(tmp_path, seen):
    studies, results, _, _ = seen
    with pytest.raises(DataError, match="no run"):
        failures_view(tmp_path)
    (tmp_path / "config.json").write_text('{"size": 64, "method": "clip", "data": "x"}')
    with pytest.raises(DataError, match="not evaluated yet; run: medret evaluate"):
        failures_view(tmp_path)
    with pytest.raises(DataError, match="give the StudySet"):
        failures_view(results)
    with pytest.raises(DataError, match="not in the data"):
        failures_view(results, studies=studies.select(studies.studies["study_id"][:5]))


def test_a_restricted_page_holds_no_text(tmp_path):
    studies = set_of([f"Philomena has {w} fracture." for w in ("a left", "no", "a right", "some")], restricted=True)
    view = failures_view(judged(studies, noise=9), studies=studies)
    html = view_html(view, tmp_path / "p.html").read_text()
    assert (
        "Philomena" not in html
        and "fracture" not in html.split('id="medret-payload"')[1].split("</script>")[0]
        and '"s2"' in html
    )
    assert "Philomena" in view_html(view, tmp_path / "q.html", show=True).read_text()


@pytest.mark.browser
def test_a_page_answers_without_a_kernel(page, tmp_path, seen):
    studies, results, _, view = seen
    why, path = explain(results, studies).failures, view_html(view, tmp_path / "p.html")
    for width, scheme in ((1200, "light"), (420, "dark")):
        opened(page, path, width, scheme)
        assert not page.get_by_role("button", name="Save note").count()
        relation = why["relation"].value_counts().index[0]
        page.get_by_label("Relation").select_option(relation)
        expect(page.locator(".where")).to_have_text(re.compile(f"of {(why['relation'] == relation).sum()}$"))
        chosen = why[why["relation"] == relation].iloc[1]
        page.locator("tbody tr button").nth(1).press("Enter")
        assert f"The first answer: {relation}" in page.locator(".second h3").first.inner_text()
        assert (
            f"Query and truth: {chosen['study_id']}" in page.inner_text(".second")
            and chosen["candidate_study"] in page.locator(".ranked .card strong").first.inner_text()
        )
        assert page.locator(".second img.film").evaluate_all(
            "all => Promise.all(all.map(i => i.decode().then(() => i.naturalWidth)))"
        ) == [64, 64]  # as the films lie on disk, not blown up
        assert page.locator(".second ol.ranked").count() == 2  # this method's answers and the other's
        page.get_by_role("button", name=re.compile("^(report|film) of ")).first.click()
        expect(page.locator(".where")).not_to_have_text(re.compile(f"of {(why['relation'] == relation).sum()}$"))
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not page.outside and not page.errors, page.errors


@pytest.mark.browser
def test_the_words_that_differ_are_marked(page, tmp_path):
    texts = [
        "Heart size is normal. Small right effusion, no left effusion.",
        "Small left effusion, no right effusion. Heart size is normal.",
    ]
    studies = set_of(texts)
    view = failures_view(judged(studies, np.array([[1, 0], [-1, 0]]) * 1.0, noise=0), studies=studies)
    if view.payload["empty"]:
        view = failures_view(evaluate_swapped(studies), studies=studies)
    opened(page, view_html(view, tmp_path / "p.html"))
    marked = page.locator(".second .columns mark").all_inner_texts()
    assert marked == ["right", "left", "left", "right"]


def evaluate_swapped(studies):
    "Each film finds the other's report."
    names, meta = (
        studies.studies["study_id"].to_numpy(object),
        {"similarity": "cosine", "split": "all", "policy": "both"},
    )
    mu = np.eye(2, dtype=np.float32)
    films = np.array(["i0", "i1"], object)
    points = {
        "image": Embeddings(films, names, mu[::-1].copy(), None, meta | {"modality": "image"}),
        "text": Embeddings(names, names, mu, None, meta | {"modality": "text"}),
    }
    return evaluate(points, studies, "exact", ks=(1,), draws=5, verbose=False)


@pytest.mark.browser
def test_hostile_texts_are_texts(page, tmp_path):
    studies = set_of(
        [t if t.strip() else "x" for t in HOSTILE if "\ud800" not in t],
        [f"{i}{t[:60]}" for i, t in enumerate(t for t in HOSTILE if "\ud800" not in t)],
    )
    view = failures_view(judged(studies, noise=50, seed=3), studies=studies, k=len(studies))
    opened(page, view_html(view, tmp_path / "p.html"))
    seen = set()
    for button in page.locator("tbody tr button").all():
        button.click()
        seen |= set(page.evaluate("[...document.querySelectorAll('.second .report')].map(e => e.textContent)"))
    squeezed = {" ".join(t.split()) for t in seen}
    assert {" ".join(t.split()) for t in studies.studies["findings"]} <= squeezed
    assert (
        page.title() == "Failures" and page.locator("script").count() == 2 and not page.outside and not page.errors
    ), page.errors
    assert page.evaluate("document.documentElement.scrollWidth") <= 1200


def test_the_print_form(seen, tmp_path):
    studies, results, _, _ = seen
    why = explain(results, studies)
    first, second = (save_figure(failures_figure(why), tmp_path / f"{n}.pdf").read_bytes() for n in "ab")
    assert first == second
    why.failures = why.failures.head(0)
    with pytest.raises(DataError, match="no query failed"):
        failures_figure(why)


@pytest.mark.slow
@pytest.mark.browser
def test_in_jupyterlab_notes_and_questions_reach_the_kernel(run_notebook, page):
    run_notebook("views/850_failures.ipynb")
    shown = page.locator(".medret[data-ready=failures]")
    first, asking = shown.first, shown.last
    first.scroll_into_view_if_needed()
    first.get_by_label("note", exact=True).fill("looks like the other side")
    first.get_by_role("button", name="Save note").click()
    expect(first.locator(".where").last).to_contain_text("kept")
    first.locator("tbody tr button").nth(2).click()
    expect(first.get_by_label("note", exact=True)).not_to_have_value("looks like the other side")
    first.locator("tbody tr button").nth(0).click()
    expect(first.get_by_label("note", exact=True)).to_have_value("looks like the other side")
    first.get_by_role("button", name="Export all as CSV").click()
    expect(first.locator(".where").last).to_contain_text("written")
    asking.scroll_into_view_if_needed()
    asking.locator(".first tbody tr button").nth(1).click()
    asking.get_by_role("button", name="Change one fact").click()
    expect(asking.locator(".whatif tbody tr").first).to_contain_text("as it is", timeout=30_000)
    assert first.evaluate("e => e.scrollWidth <= e.clientWidth") and not page.errors and not page.outside, (
        page.errors,
        page.outside,
    )


def test_few_of_many_failures_are_taken_from_both_directions(seen):
    """`most` must not cut off one direction, and the sentence above must count all that failed."""
    studies, results, _, _ = seen
    everything, some = failures_view(results, studies=studies), failures_view(results, studies=studies, most=6)
    assert some.payload["lead"] == everything.payload["lead"] and "taken at equal steps" in " ".join(
        some.payload["says"]
    )
    assert (
        sorted(set(array_of(some.payload["data"]["rows"]["way"]).tolist())) == [0, 1]
        and len(array_of(some.payload["data"]["rows"]["way"])) == 6
    )


def test_a_view_carries_only_what_it_shows():
    few = set_of([f"Fracture of rib {i}." for i in range(300)])
    data = failures_view(judged(few, noise=9), studies=few, most=10, k=3).payload["data"]
    assert len(data["ids"]) <= 10 * (2 + 3) + 2 * 6
    top = array_of(data["rows"]["top"])
    assert top.max() < len(data["ids"]) and len(array_of(data["rows"]["study"])) == 10


def test_hubs_of_a_tiny_gallery_are_left_out_and_that_is_said():
    six = set_of([f"Fracture of rib {i}." for i in range(6)])
    view = failures_view(judged(six, noise=9), studies=six)
    assert not view.payload["data"]["hubs"] and "Hubs are left out" in " ".join(view.payload["says"])
