"""Adjudication: pools, sheets that lose nothing, planted readers, and bounds that hold whatever the unknown is."""

import json
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.data.files import DataError
from medret_nb.data.studies import StudySet, choose_image
from medret_nb.evaluation.adjudication import (
    JudgedPairs,
    Sheet,
    SheetReader,
    adjudicate,
    bounds_at,
    hits_at,
    judged_relevance,
    make_sheet,
    owners_of,
    pooled,
    same_reports,
)
from medret_nb.evaluation.judging import judge_all
from medret_nb.evaluation.results import evaluate
from medret_nb.retrieval.points import Embeddings
from medret_nb.retrieval.scoring import score_matrix


def points_of(studies, seed):
    "Random points of all studies: films near their reports."
    rng, names = np.random.default_rng(seed), studies.studies["study_id"].to_numpy(object)
    films = choose_image(studies.images).set_index("study_id").loc[list(names), "image_id"].to_numpy(object)
    mu = rng.normal(size=(len(names), 8)).astype(np.float32)
    meta = {"similarity": "cosine", "split": "all", "policy": "both"}
    near = (mu + rng.normal(size=mu.shape)).astype(np.float32)
    return {
        "image": Embeddings(films, names, near, None, meta | {"modality": "image"}),
        "text": Embeddings(names, names, mu, None, meta | {"modality": "text"}),
    }


@pytest.fixture(scope="module")
def clinic(small_phantom):
    "Studies, points and evaluations of two methods."
    points = {f"method {seed}": points_of(small_phantom, seed) for seed in (0, 1)}
    made = {m: evaluate(p, small_phantom, "exact", ks=(1,), draws=5, verbose=False) for m, p in points.items()}
    return small_phantom, points, made


@pytest.fixture
def sheet(clinic, tmp_path):
    "The first four reports of two methods to thirty films."
    return make_sheet(clinic[2], clinic[0], tmp_path / "sheet", k=4, queries=30, seed=3)


def fill(sheet, name, answers):
    "A reader who has given all these answers, -1 for none."
    reader = SheetReader(sheet, name)
    for pair in np.flatnonzero(np.asarray(answers) >= 0):
        reader.judge(int(pair), int(answers[pair]))
    return reader


def test_the_pool_is_the_first_k_of_all(clinic, sheet):
    studies, _, made = clinic
    same = same_reports(studies, "both", owners_of(made["method 0"], "image-to-text"))
    wanted = set()
    for results in made.values():
        first = results.rankings[
            (results.rankings["direction"] == "image-to-text") & (results.rankings["position"] <= 4)
        ]
        wanted |= {
            (q, same[c]) for q, c in zip(first["query"].astype(str), first["candidate"].astype(str), strict=True)
        }
    asked = [query["query"] for query in sheet.facts["queries"]]
    pairs = [(asked[pair["query"]], pair["candidate"]) for pair in sheet.facts["pairs"]]
    assert len(set(pairs)) == len(pairs) and set(pairs) == {pair for pair in wanted if pair[0] in asked}
    assert (np.diff(sheet.query) != 0).sum() == 29  # the pairs of a film lie together
    assert not sheet.found.loc[sheet.found["position"] <= 4, "pair"].lt(0).any()
    assert "method 0" not in (sheet.folder / "sheet.json").read_text()


def test_the_seed_shuffles_and_the_order_of_methods_does_not(clinic, sheet, tmp_path):
    studies, _, made = clinic
    turned = dict(reversed(made.items()))
    again = make_sheet(turned, studies, tmp_path / "again", k=4, queries=30, seed=3)
    assert again.facts == sheet.facts and again.hash == sheet.hash
    other = make_sheet(
        made, studies, tmp_path / "other", k=4, queries=[q["query"] for q in sheet.facts["queries"]], seed=4
    )
    assert other.hash != sheet.hash
    assert {(p["query"], p["candidate"]) for p in other.facts["pairs"]} == {
        (p["query"], p["candidate"]) for p in sheet.facts["pairs"]
    }


def test_reports_with_the_same_words_are_one():
    studies = pd.DataFrame({"study_id": list("abc"), "findings": ["Clear lungs.", "clear  lungs", "Effusion."]})
    owners = {"ta": "a", "tb": "b", "tc": "c"}

    like = StudySet.__new__(StudySet)
    like.studies = studies.assign(impression="", note="")
    same = same_reports(like, "both", owners)
    assert same == {"ta": "ta", "tb": "ta", "tc": "tc"}
    with pytest.raises(DataError, match="not in the data"):
        same_reports(like, "both", owners | {"tx": "x"})
    table = pd.DataFrame({"query": 0, "position": [1, 2], "score": [0.5, 0.4], "candidate": ["ta", "ta"]})
    pairs, found = pooled({"m": table}, 2)
    assert pairs == [(0, "ta")] and found["pair"].tolist() == [0, 0]


def test_a_reader_loses_nothing(sheet):
    reader = fill(sheet, "A", [0, 1, 2])
    assert reader.given() == [[0, 0], [1, 1], [2, 2]]
    reader.judge(0, 2)  # thought again
    later = SheetReader(Sheet.load(sheet.folder), "A")
    assert later.given() == [[1, 1], [2, 2], [0, 2]]
    reader.judge(5, 0)  # in the other window
    later.judge(6, 1)
    assert reader.answers[[0, 1, 2, 5, 6]].tolist() == [2, 1, 2, 0, 1] and (reader.answers >= 0).sum() == 5
    assert [later.undo() for _ in range(6)] == [6, 5, 0, 2, 1, None]
    assert sheet.readers == ["A"] and not list(sheet.folder.glob(".*tmp*"))


def test_a_sheet_that_was_begun_is_kept(clinic, sheet):
    studies, _, made = clinic
    make_sheet(made, studies, sheet.folder, k=3, queries=30, seed=3)  # nobody has begun
    make_sheet(made, studies, sheet.folder, k=4, queries=30, seed=3)
    fill(sheet, "B", [1])
    with pytest.raises(DataError, match="another sheet, which B has begun"):
        make_sheet(made, studies, sheet.folder, k=3, queries=30, seed=3)
    make_sheet(made, studies, sheet.folder, k=4, queries=30, seed=3)  # the same again may be
    assert SheetReader(Sheet.load(sheet.folder), "B").given() == [[0, 1]]


def test_bad_input_is_named(clinic, sheet, tmp_path):
    studies, _, made = clinic
    reader = SheetReader(sheet, "A")
    for pair, answer, word in ((len(sheet), 0, "pair"), (-1, 0, "pair"), (0, 3, "answer"), (0, -1, "answer")):
        with pytest.raises(DataError, match=word):
            reader.judge(pair, answer)
    for name in ("../x", "", "a/b"):
        with pytest.raises(DataError, match="reader"):
            SheetReader(sheet, name)
    with pytest.raises(DataError, match="nobody has judged"):
        adjudicate(sheet)
    for change, word in (
        ({"queries": 0}, "queries"),
        ({"queries": ["no such film"]}, "not asked"),
        ({"k": 0}, "k: 0"),
        ({"direction": "up"}, "direction"),
    ):
        with pytest.raises(DataError, match=word):
            make_sheet(made, studies, tmp_path / "x", **change)
    with pytest.raises(DataError, match="evaluations of one split"):
        make_sheet({}, studies, tmp_path / "x")
    kept = json.loads((sheet.folder / "sheet.json").read_text())
    fill(sheet, "A", [0])
    (sheet.folder / "reader-A.json").write_text(json.dumps({"reader": "A", "sheet": "x", "answers": []}))
    with pytest.raises(DataError, match="answers to another sheet"):
        SheetReader(sheet, "A")
    kept["pairs"][0]["query"] = 99
    (sheet.folder / "sheet.json").write_text(json.dumps(kept))
    with pytest.raises(DataError, match="pair 0 is of query 99"):
        Sheet.load(sheet.folder)


def test_rules_of_several_readers():
    said = np.array([[0, 0, 2], [0, 2, -1], [1, 1, 2], [-1, -1, -1], [2, -1, -1]])
    for rule, partly, wanted in (
        ("majority", False, [1, np.nan, 0, np.nan, 0]),
        ("majority", True, [1, np.nan, 1, np.nan, 0]),
        ("any", False, [1, 1, 0, np.nan, 0]),
        ("all", True, [0, 0, 0, np.nan, 0]),
    ):
        np.testing.assert_array_equal(judged_relevance(said, partly, rule), wanted)
    with pytest.raises(ValueError, match="rule"):
        judged_relevance(said, rule="some")


def loop_hits(scores, relevant, k):
    "Hit and precision at k of one query, by all orders of its candidates that the scores allow."
    hits, precisions = [], []
    for order in permutations(range(len(scores))):
        if all(scores[a] >= scores[b] for a, b in zip(order, order[1:], strict=False)):
            first = relevant[list(order[:k])]
            hits.append(first.any())
            precisions.append(first.mean())
    return np.mean(hits), np.mean(precisions)


LISTS = st.integers(1, 5).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 2), min_size=n, max_size=n),
        st.lists(st.integers(-1, 3), min_size=n, max_size=n),
        st.integers(1, n),
    )
)


@settings(max_examples=60, deadline=None)
@given(LISTS, st.lists(st.booleans(), min_size=4, max_size=4))
def test_ties_are_taken_in_all_orders(given_lists, flags):
    scores, _, k = given_lists
    scores = np.sort(np.array(scores, float))[::-1]
    relevant = np.array([*flags, True])[: len(scores)]
    hit, precision = hits_at(scores[None], relevant[None].astype(float), k)
    assert (hit[0], precision[0]) == pytest.approx(loop_hits(scores, relevant, k))
    with pytest.raises(DataError, match="k: 9"):
        hits_at(scores[None], relevant[None].astype(float), 9)


@settings(max_examples=150, deadline=None)
@given(LISTS, st.lists(st.sampled_from([0.0, 1.0, np.nan]), min_size=4, max_size=4), st.integers(0, 2**10))
def test_bounds_hold_the_truth_whatever_the_unknown_is(given_lists, verdict, seed):
    scores, pairs, k = given_lists
    scores, pairs = np.sort(np.array(scores, float))[None, ::-1], np.array(pairs)[None]
    verdict = np.array(verdict)
    made = bounds_at(scores, pairs, verdict, k)
    rng = np.random.default_rng(seed)
    anything = rng.integers(0, 2, pairs.shape)  # what nobody was asked, and what nobody judged
    of_pairs = np.where(np.isnan(verdict), rng.integers(0, 2, 4), verdict)
    truth = np.where(pairs >= 0, of_pairs[pairs], anything).astype(float)
    for name, value in zip("RP", hits_at(scores, truth, k), strict=True):
        assert made[f"least {name}"][0] - 1e-9 <= value[0] <= made[f"most {name}"][0] + 1e-9
    if made["known"][0] == pytest.approx(1):
        assert made["least P"] == pytest.approx(made["most P"])


def test_the_saved_protocol_gives_the_same_bounds(clinic, sheet):
    "Through `Relevance` and the package's own ranking of the whole gallery, both ends are those of `adjudicate`."
    studies, points, made = clinic
    rng = np.random.default_rng(0)
    fill(sheet, "A", rng.integers(-1, 3, len(sheet)))
    JudgedPairs.of(sheet).save(sheet.folder)
    judged = JudgedPairs.load(sheet.folder)
    found = adjudicate(sheet, ks=(1, 4), draws=5)
    same = same_reports(studies, "both", owners_of(made["method 0"], "image-to-text"))
    asked = [query["query"] for query in sheet.facts["queries"]]
    for name, side in points.items():
        rows = [side["image"].ids.tolist().index(query) for query in asked]
        scores = score_matrix(side["image"], side["text"])[rows]
        for unknown, end in ((False, "least"), (True, "most")):
            related = judged.relevance(asked, side["text"].ids, unknown, same)
            hits = judge_all(lambda a, b, s=scores: s[a:b], related, (1, 4))
            skipped = related.queries < 0
            for k in (1, 4):
                row = next(r for r in found.rows if r["method"] == name and r["metric"] == f"R@{k}")
                value = np.where(skipped, float(unknown), hits[f"hit_{k}"].fillna(0)).mean()
                assert row[end] == pytest.approx(value, abs=1e-6), (name, end)


def test_two_planted_readers(clinic, tmp_path):
    "Two who guess in a share g of pairs: kappa (1 - g)^2 over an even truth; the bounds close as they go on."
    studies, _, made = clinic
    sheet = make_sheet(made, studies, tmp_path, k=10, queries=len(studies.studies))
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, len(sheet))
    guess = [np.where(rng.random(len(sheet)) < 0.3, rng.integers(0, 3, len(sheet)), truth) for _ in "AB"]
    for name, said in zip("AB", guess, strict=True):
        SheetReader(sheet, name)._keep([[i, int(a)] for i, a in enumerate(said[: len(sheet) // 2])])
    half = adjudicate(sheet, ["A"], draws=50)
    one = {row["metric"]: row for row in half.rows if row["method"] == "method 0"}
    assert one["R@10"]["least"] < one["R@10"]["most"] and one["R@10"]["known"] == pytest.approx(0.5, abs=0.1)
    for name, said in zip("AB", guess, strict=True):
        SheetReader(sheet, name)._keep([[i, int(a)] for i, a in enumerate(said)])
    found = adjudicate(sheet, draws=200)
    kappa = next(row for row in found.report["agreement"] if row["measure"] == "kappa")
    assert kappa["value"] == pytest.approx(0.49, abs=0.08)
    alone = adjudicate(sheet, ["A"], draws=50)
    assert all(row["least"] == row["most"] and row["known"] == 1 for row in alone.rows)
    for row, narrow in zip(half.rows, alone.rows, strict=True):
        assert row["least"] <= narrow["least"] <= row["most"]
    assert found.report["disputed"] == (((guess[0] == 0) != (guess[1] == 0)).sum())
    text = str(found)
    assert "kappa (A, B)" in text and "method 1" in text and "needs a second reader" in str(alone)
    found.save(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["readers"] == ["A", "B"]


def test_films_can_be_judged_for_reports(clinic, tmp_path):
    studies, _, made = clinic
    sheet = make_sheet(made, studies, tmp_path, k=2, queries=5, direction="text-to-image")
    films = dict(zip(studies.images["image_id"], studies.images["study_id"], strict=True))
    assert all(films[pair["candidate"]] == pair["study"] for pair in sheet.facts["pairs"])
