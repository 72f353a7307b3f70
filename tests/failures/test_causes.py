"""Why queries failed: hubness against a loop, every failed query once, circumstances, blame."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.data.files import DataError
from medret_nb.data.reports import section_text
from medret_nb.data.studies import StudySet, choose_image
from medret_nb.evaluation.results import evaluate
from medret_nb.failures.causes import (
    BLAME,
    CIRCUMSTANCES,
    Case,
    blame,
    cases_of,
    explain,
    explain_pair,
    hubness,
    k_occurrence,
)
from medret_nb.failures.relations import RELATIONS, WEIGHTS, Mismatch, Said, Thing, relate, said_by, shown_by
from medret_nb.phantom.assertions import Assertion
from medret_nb.phantom.records import has_scenes, read_truth, write_scenes
from medret_nb.phantom.truth_tables import load_truth
from medret_nb.retrieval.points import Embeddings


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 6), min_size=3, max_size=3), max_size=12))
def test_occurrences_and_skewness_are_those_of_a_loop(lists):
    counts = k_occurrence(np.array(lists, int).reshape(-1, 3), 7)
    assert counts.tolist() == [sum(row.count(c) for row in lists) for c in range(7)]
    mean = sum(counts) / 7
    second, third = (sum((n - mean) ** p for n in counts) / 7 for p in (2, 3))
    assert np.isclose(hubness(counts), third / second**1.5 if second else 0)
    assert hubness([]) == 0


def points(studies, seed=0, noise=1.0):
    "Two sides of random points, an image near its text."
    rng = np.random.default_rng(seed)
    names = studies.studies["study_id"].to_numpy(object)
    mu = rng.normal(size=(len(names), 8)).astype(np.float32)
    films = choose_image(studies.images).set_index("study_id").loc[list(names), "image_id"].to_numpy(object)
    meta = {"similarity": "cosine", "split": "all", "policy": "both"}
    near = mu + noise * rng.normal(size=mu.shape).astype(np.float32)
    return {
        "image": Embeddings(films, names, near, None, meta | {"modality": "image"}),
        "text": Embeddings(names, names, mu, None, meta | {"modality": "text"}),
    }


@pytest.fixture(scope="module")
def explained(small_phantom):
    told = [bool(text.strip()) for text in section_text(small_phantom, "both")]
    part = small_phantom.select(small_phantom.studies["study_id"].to_numpy(object)[told])
    results = evaluate(points(part), part, "text", draws=20, verbose=False)
    return part, results, explain(results, part, k=5)


def test_every_failed_query_has_a_row(explained):
    part, results, why = explained
    first = results.rankings[results.rankings["position"] == 1].merge(
        results.queries[["query", "direction", "relevant"]], on=["query", "direction"]
    )
    wanted = {(r.direction, r.query) for r in first.itertuples() if r.relevant > 0 and r.relevance < 1}
    assert {(r.direction, r.query) for r in why.failures.itertuples()} == wanted
    assert len(wanted) == len(why.failures) > 10
    assert set(why.failures["relation"]) <= set(RELATIONS)
    assert set(why.failures["weight"]) <= set(WEIGHTS)
    assert set(why.failures["blame"]) <= set(BLAME)
    assert {c for entry in why.failures["circumstances"] for c in entry.split("; ") if c} <= set(CIRCUMSTANCES)
    assert why.confusion().to_numpy().sum() == len(why.failures) and why.table()["failures"].sum() == len(why.failures)
    assert "by text (rows)" in str(why) and (why.failures["rank"] > 1).any()


def test_rows_say_what_the_loop_says(explained):
    part, _, why = explained
    truth = load_truth(part)
    place = {s: i for i, s in enumerate(part.studies["study_id"])}
    texts = section_text(part, "both")
    for r in why.failures.itertuples():
        q, c = place[r.study_id], place[r.candidate_study]
        report, film = (c, q) if r.direction == "image-to-text" else (q, c)
        wanted = (
            "identical text"
            if texts[q] == texts[c]
            else relate(said_by(truth.reports[report]), shown_by(truth.scenes[film]), r.direction)[0]
        )
        assert r.by_truth == r.relation == wanted
        assert (r.blame == BLAME[0]) >= (wanted == "fits")


@pytest.mark.parametrize("policy", ["both", "impression"])
def test_what_fits_does_not_fail_where_fitting_is_asked_for(small_phantom, policy):
    "The protocol and the relations judge the same text: under `fits-closed` no failure is named `fits`."
    from medret_nb.cli.summary import measure_points

    pair = points(small_phantom)
    pair["text"].meta["policy"] = policy
    results = measure_points(pair, small_phantom, "fits-closed", verbose=False)
    failures = explain(results, small_phantom).failures
    assert len(failures) > 10 and not (failures["by_truth"] == "fits").any()


def test_hubs_are_counted_over_all_lists(explained):
    _, results, why = explained
    for d in ("image-to-text", "text-to-image"):
        top = results.rankings[(results.rankings["direction"] == d) & (results.rankings["position"] <= 5)]
        counts = top["candidate"].astype(str).value_counts()
        mine = why.hubs[why.hubs["direction"] == d].set_index("candidate")["occurrences"]
        assert all(counts.get(name, 0) == n for name, n in mine.items()) and mine.iloc[0] == counts.max()
        whole = counts.tolist() + [0] * (len(results.queries[results.queries["direction"] != d]) - len(counts))
        assert np.isclose(why.skewness[d], hubness(whole))


def test_without_a_truth_the_text_decides(explained, small_phantom):
    part, results, why = explained
    bare = StudySet(part.studies, part.images)
    told = explain(results, bare)
    assert not told.phantom and (told.failures["by_truth"] == "").all()
    assert (told.failures["relation"] == told.failures["by_text"]).all()
    both = why.failures.merge(told.failures, on=["direction", "query"])
    assert (both["by_text_x"] == both["by_text_y"]).mean() > 0.9  # the rules read what the phantom wrote
    with pytest.raises(DataError, match="phantom"):
        told.confusion()
    kept = part.select(part.studies["study_id"].to_numpy(object)[3:])
    with pytest.raises(DataError, match="3 studies of the evaluation are not in the data"):
        explain(results, kept)


def test_blame_by_hand():
    left = Thing(frozenset({"pneumothorax"}), "left", "", 1, 1)
    right = Thing(frozenset({"pneumothorax"}), "right", "", 1, 1)
    own = Case(
        "left",
        said_by([Assertion("pneumothorax", "left")]),
        Said((left,), exact=True),
        (("pneumothorax", "left", 50.0),),
    )
    faint = Case("left", own.said, own.shown, (("pneumothorax", "left", 3.0),))
    other = Case(
        "right",
        said_by([Assertion("pneumothorax", "right")]),
        Said((right,), exact=True),
        (("pneumothorax", "right", 50.0),),
    )
    assert explain_pair(other, own, own, "image-to-text")["blame"] == BLAME[2]
    assert explain_pair(other, faint, faint, "image-to-text")["blame"] == BLAME[1]
    assert explain_pair(own, own, own, "image-to-text")["blame"] == BLAME[0]
    wrong = Case("nothing", said_by([]), own.shown, own.visible)  # its doctor overlooked it
    assert explain_pair(other, wrong, wrong, "image-to-text")["blame"] == BLAME[0]
    assert explain_pair(other, own, own, "image-to-text") == {
        "by_text": "wrong side",
        "by_truth": "wrong side",
        "relation": "wrong side",
        "differences": "wrong side: left pneumothorax",
        "weight": "critical",
        "blame": BLAME[2],
    }
    # plain to see on the film that has it
    assert blame(other, faint, faint, "missed finding", [Mismatch("absent", right)]) == BLAME[2]
    with pytest.raises(ValueError, match="phantom"):
        blame(other, faint, Case("left", own.said), "missed finding", [Mismatch("absent", right)])


def test_circumstances_of_texts():
    table = pd.DataFrame(
        {
            "study_id": list("abc"),
            "patient_id": list("abc"),
            "findings": [
                "Unchanged effusion, low lung volumes, as before on the last three films.",
                "Normal.",
                "Normal.",
            ],
            "labels": [{"Fracture": 1}, {}, {}],
        }
    )
    images = pd.DataFrame(
        {"image_id": list("xyz"), "study_id": list("abc"), "view": ["LATERAL", "PA", "PA"], "path": ["x.png"] * 3}
    )
    cases = cases_of(StudySet(table, images), "findings", rare=0.5)
    assert set(cases["a"].facts) == {"poor film", "LATERAL only", "text about priors", "rare finding"}
    assert cases["b"].facts == ("vague report",)


def test_a_small_gallery_has_no_hubs(explained):
    part, results, _ = explained
    many = len(results.queries) // 2
    why = explain(results, part, k=many // 2)
    assert len(why.hubs) == 0 and all(np.isnan(value) for value in why.skewness.values())
    assert "no hubs in so small a gallery" in str(why)
    assert not why.failures["circumstances"].str.contains("hub").any()


def test_films_drawn_for_reports_have_scenes_and_no_truth(explained, small_phantom, tmp_path):
    part, results, _ = explained
    scenes = StudySet(part.studies, part.images).save(tmp_path)
    write_scenes(read_truth("scenes", small_phantom.folder), tmp_path)
    assert has_scenes(tmp_path)
    told = explain(results, scenes)
    assert not told.phantom and len(told.failures)
