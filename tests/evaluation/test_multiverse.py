"""All specifications at once: smaller galleries against drawing, full ones against `evaluate`, a broken model."""

import time

import numpy as np
import pandas as pd
import pytest
from fifty import N, world
from scipy.stats import hypergeom

from medret_nb.data.files import DataError, shipped_data
from medret_nb.data.runs import shipped_run
from medret_nb.data.studies import StudySet
from medret_nb.evaluation import multiverse as M
from medret_nb.evaluation.multiverse import (
    CHOICES,
    MultiverseResult,
    chance_in_smaller,
    compare_specifications,
    fewer_kept,
    influence,
    log_choose,
    multiverse,
    multiverse_result,
    policy_texts,
    recall_at_gallery,
    round_sizes,
    specification_table,
    specifications,
    ways_to_miss,
)
from medret_nb.evaluation.ranking import first_relevant, tie_blocks
from medret_nb.evaluation.results import evaluate
from medret_nb.methods.table import load_method
from medret_nb.retrieval.embeddings import embed
from medret_nb.retrieval.points import Embeddings


def test_binomials_are_those_of_the_formula():
    assert np.exp(log_choose([5, 5, 5, 0], [2, 6, -1, 0])) == pytest.approx([10, 0, 0, 1])
    ranks = np.arange(1, 3001)
    for k, size in ((1, 20), (10, 200), (100, 2999), (5, 5)):
        found = fewer_kept(ranks - 1, 2999, size - 1, k)
        assert found == pytest.approx(hypergeom.cdf(k - 1, 2999, ranks - 1, size - 1), abs=1e-9)


def test_smaller_galleries_against_drawing_them():
    rng = np.random.default_rng(0)
    ranks = rng.integers(1, 201, 150)
    sizes = [1, 10, 50, 150, 200]
    found = recall_at_gallery(ranks, 200, sizes, 5)
    for size, value in zip(sizes, found, strict=True):
        draws = []
        for _ in range(60):
            others = np.argsort(rng.random((len(ranks), 199)), axis=1)[:, : size - 1] + 1  # ranks of the others ...
            better = (others < ranks[:, None]).sum(1)  # ... as if the own one were not there
            draws.append((better < 5).mean())
        assert value == pytest.approx(np.mean(draws), abs=4 * np.std(draws) / np.sqrt(60) + 1e-9)
    assert found[-1] == pytest.approx((ranks <= 5).mean()) and found[0] == 1
    assert isinstance(recall_at_gallery(ranks, 200, 50, 5), float)


def test_two_tied_candidates_are_half_of_each_rank():
    both = (recall_at_gallery([3], 9, 4, 1) + recall_at_gallery([4], 9, 4, 1)) / 2
    assert recall_at_gallery([3.5, np.nan], 9, 4, 1) == pytest.approx(both)
    assert np.isnan(recall_at_gallery([np.nan], 9, 4, 1))


@pytest.mark.parametrize("ranks, sizes, k", [([0], 5, 1), ([10], 5, 1), ([1], 10, 1), ([1], 0, 1), ([1], 5, 0)])
def test_ranks_and_sizes_outside_of_the_gallery_are_refused(ranks, sizes, k):
    with pytest.raises(ValueError, match="must lie from 1 to 9"):
        recall_at_gallery(ranks, 9, sizes, k)


def table_of(seed, relevant, own):
    """Scores of six queries with fourteen candidates, full of ties; `own` columns of each are its own."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (6, 14)).astype(float)
    mine = np.zeros((6, 14), bool)
    for q in range(6):
        mine[q, [q + 6 * i for i in range(own)]] = True
    return scores, mine | (rng.random((6, 14)) < relevant), mine


def drawn_hits(scores, good, mine, size, k, rule, draws=1200):
    """Hits at k (Q,) in drawn galleries of `size`, ties in the order of the rule."""
    rng = np.random.default_rng(1)
    found = np.zeros(len(scores))
    for q in range(len(scores)):
        own = np.flatnonzero(mine[q])
        others = np.flatnonzero(~mine[q])
        for _ in range(draws):
            kept = np.concatenate([own, rng.permutation(others)[: size - len(own)]])
            right = good[q, kept]
            second = {"best": -1.0 * right, "worst": 1.0 * right, "expected": rng.random(len(kept))}[rule]
            found[q] += right[np.lexsort((second, -scores[q, kept]))[:k]].any() / draws
    return found


@pytest.mark.parametrize("relevant, own", [(0.0, 1), (0.3, 1), (0.3, 2)])
@pytest.mark.parametrize("rule", ["expected", "best", "worst"])
def test_every_tie_rule_in_smaller_galleries_against_drawing(monkeypatch, relevant, own, rule):
    monkeypatch.setattr(M, "ORDERS", 2000)
    scores, good, mine = table_of(3, relevant, own)
    ways = ways_to_miss(tie_blocks(scores, *np.nonzero(good)), first_relevant(scores, mine), rule)
    for size, k in ((5, 1), (9, 3), (14, 2)):
        others = np.full(6, 14 - own)
        found = 1 - ways.chance(others, np.full(6, size - own), k)
        assert found == pytest.approx(drawn_hits(scores, good, mine, size, k, rule), abs=0.06)


def test_chance_in_smaller_galleries_against_drawing():
    scores, good, mine = table_of(5, 0.3, 2)
    found = chance_in_smaller(good.sum(1), mine.sum(1), 14 - mine.sum(1), 9 - mine.sum(1), 3)
    assert found == pytest.approx(drawn_hits(np.zeros((6, 14)), good, mine, 9, 3, "expected"), abs=0.06)


@pytest.mark.parametrize("protocol", ["exact", "text", "labels"])
def test_the_usual_specification_is_what_evaluate_says(protocol):
    studies, film, text = world(noise=1.2)
    table = multiverse(film, text, studies)
    usual = table.query("view == 'any' and copies == 'kept' and ties == 'expected' and size == 'all'")
    results = evaluate({"image": film, "text": text}, studies, protocol, (1, 5, 10), verbose=False)
    for row in usual.loc[usual["relevance"] == protocol].to_dict("records"):
        for k in (1, 5, 10):
            number = results.value(f"R@{k}", row["direction"])
            assert row[f"R@{k}"] == pytest.approx(number["value"]) and row["queries"] == N
            assert row[f"R@{k} chance"] == pytest.approx(number["chance"])
            assert row[f"R@{k} low"] == pytest.approx(number["low"], abs=0.02)


def test_rows_are_told_apart_by_their_choices_and_what_is_fixed_is_said():
    studies, film, text = world()
    table = multiverse(film, text, studies, sizes=(20,))
    assert not table.duplicated(list(CHOICES)).any() and set(table["size"]) == {"all", "20"}
    assert (
        set(table.attrs["fixed"]) == {"policy", "view", "unit"} and "no study has two" in table.attrs["fixed"]["unit"]
    )
    dropped = table.loc[table["copies"] == "dropped"]
    assert dropped["queries"].max() < N and "text" not in set(dropped["relevance"])
    assert dropped.loc[dropped["size"] == "all", "gallery"].eq(dropped["queries"].max()).all()


def every_film():
    """The fifty studies with a second, lateral film each, which is nearer to the text than the first."""
    studies, film, text = world(noise=1.5)
    second = studies.images.assign(image_id=studies.images["image_id"] + "-L", view="LATERAL")
    first = studies.images.assign(view="PA")
    wider = type(studies)(studies.studies, pd.concat([first, second], ignore_index=True))
    near = text.mu + 0.5 * (film.mu - text.mu)
    ids = np.concatenate([film.ids, [f"{name}-L" for name in film.ids]])
    both = Embeddings(ids, np.tile(film.study_ids, 2), np.concatenate([film.mu, near]), None, film.meta)
    return wider, both, text


def test_views_and_units_are_other_rows_of_the_same_scores():
    studies, films, text = every_film()
    table = multiverse(films, text, studies, relevances=("exact",), ties=("expected",), sizes=())
    told = table.loc[table["copies"] == "kept"].set_index(["direction", "view", "unit"])
    assert set(told.index.droplevel(0)) == {("any", "study"), ("any", "film"), ("LATERAL", "study")}
    assert told.loc[("image-to-text", "any", "film"), "queries"] == 2 * N
    assert told.loc[("text-to-image", "any", "film"), "gallery"] == 2 * N
    near = told.loc[("image-to-text", "LATERAL", "study"), "R@1"]
    usual = told.loc[("image-to-text", "any", "study"), "R@1"]
    assert near > usual
    assert told.loc[("image-to-text", "any", "film"), "R@1"] == pytest.approx((near + usual) / 2)


def test_a_bad_tie_rule_shows():
    """A collapsed model: all won is perfect, all lost is nothing, the expectation is chance, in every gallery."""
    studies, film, text = world()
    same = [Embeddings(e.ids, e.study_ids, np.ones((N, 3)), None, e.meta) for e in (film, text)]
    table = multiverse(*same, studies, sizes=(20,))
    ruled = table.groupby("ties")
    assert ruled["R@10"].get_group("best").eq(1).all() and ruled["R@1"].get_group("worst").max() < 1e-6
    fair = table.loc[table["ties"] == "expected"]
    assert fair["R@10"].to_numpy() == pytest.approx(fair["R@10 chance"].to_numpy(), abs=0.05)
    assert influence(table, "R@1")["choice"].iloc[0] == "ties"


def test_two_runs_are_paired_under_each_specification():
    studies, film, text = world(noise=1.5)
    better = world(noise=0.5)[1]
    first = specifications(film, text, studies, ks=(10,))
    second = specifications(better, text, studies, ks=(10,))
    table = compare_specifications(first, second)
    summary = table.attrs["summary"]
    assert summary["second leads"] + summary["equal"] + summary["first leads"] == len(table) == len(first)
    assert summary["second leads"] > summary["first leads"] and summary["of one run alone"] == 0
    told = specification_table(second, 50)["R@10"].to_numpy() - specification_table(first, 50)["R@10"].to_numpy()
    assert sorted(table["difference"]) == pytest.approx(sorted(told))
    assert compare_specifications(first, first)["difference"].eq(0).all()
    fewer = specifications(film, world(keep_texts=slice(0, 45))[2], studies, ks=(10,))
    with pytest.raises(DataError, match="the queries or the gallery of image-to-text"):
        compare_specifications(first, fewer)
    with pytest.raises(DataError, match="no specification in common"):
        compare_specifications(first, [])


def test_options_that_are_none_are_refused():
    studies, film, text = world()
    for wrong in ({"relevances": ("graded",)}, {"ties": ("random",)}, {"ties": ()}, {"ks": (0,)}, {"sizes": (0,)}):
        with pytest.raises(DataError, match=f"{next(iter(wrong))}"):
            multiverse(film, text, studies, **wrong)
    assert round_sizes(60) == (20, 50) and round_sizes(1989) == (500, 1000) and round_sizes(12) == ()


def test_the_result_is_kept_and_says_what_it_stands_on(tmp_path):
    studies, film, text = world(noise=1.5)
    better = world(noise=0.5)[1]
    made = multiverse_result(better, {"findings": text}, studies, "test", ("other", film, {"findings": text}), draws=50)
    made.save(tmp_path)
    report = MultiverseResult.read_report(tmp_path)
    assert len(report["rows"]) == len(made.rows) == len(report["pairs"]) and report["against"] == "other"
    told = str(made)
    for words in ("specifications; split test", "fixed: policy findings", "no p-value", "second leads", "chance"):
        assert words in told


def test_a_shipped_run_takes_seconds():
    """All films and two section policies of the shipped studies: some hundred specifications in little time."""
    clinic = StudySet.load(shipped_data("phantom-small"))
    method = load_method(shipped_run("clip")).eval()
    films = embed(method, clinic, progress=False, tell=False, every_image=True, marked=False)["image"]
    texts = policy_texts(method, clinic, ("both", "impression", "both"))
    start = time.process_time()
    table = multiverse(films, texts, clinic)
    assert time.process_time() - start < 10 and len(table) > 300
    assert list(texts) == ["both", "impression"] and table.attrs["fixed"] == {}
    usual = table.query(
        "policy == 'both' and view == 'any' and unit == 'study' and ties == 'expected' and size == 'all'"
    )
    exact = usual.query("relevance == 'exact' and direction == 'image-to-text'")
    assert exact["R@10"].item() == pytest.approx(0.85) and exact["R@1"].item() == pytest.approx(31 / 60)
