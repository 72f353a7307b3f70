"Search against naive loops: the same candidates in the same order, whatever the comparison, the copies and the filter."

import json
import os
import signal

import numpy as np
import pytest
from clouds import naive_matrix, points
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.data.files import DataError
from medret_nb.retrieval.points import SIMILARITIES, Embeddings
from medret_nb.retrieval.scoring import pair_scores, score_matrix
from medret_nb.retrieval.search import Index, build_index


def naive_search(scores, k, where):
    "Positions (Q, k): sort allowed candidates by float32 score, equals by position."
    return np.array([sorted(np.flatnonzero(where), key=lambda j: (-np.float32(row[j]), j))[:k] for row in scores])


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("distinct", [None, 4, 1])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_search_equals_the_loop(similarity, distinct, share):
    queries, gallery = points(9, 6, 1, similarity, "q"), points(60, 6, 2, similarity, distinct=distinct)
    where = np.random.default_rng(3).random(60) < share
    scores = naive_matrix(similarity, queries, gallery)
    for k in (1, 7, int(where.sum())):
        hits = build_index(gallery).search(queries, k, None if share == 1 else where)
        np.testing.assert_array_equal(hits.positions, naive_search(scores, k, where))
        np.testing.assert_array_equal(hits.ids, gallery.ids[hits.positions])
        np.testing.assert_allclose(hits.scores, np.take_along_axis(scores, hits.positions, 1), rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SIMILARITIES), st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 3), st.data())
def test_search_on_a_grid_full_of_ties(similarity, seed, n, d, data):
    "Small whole numbers: many different vectors have exactly the same score, many are copies, some are zero."
    rng = np.random.default_rng(seed)
    ids = [str(i) for i in range(n)]
    gallery = Embeddings(ids, ids, rng.integers(-1, 2, (n, d)), np.zeros((n, d)), {"similarity": similarity})
    queries = Embeddings(["p", "q"], ["p", "q"], rng.integers(-1, 2, (2, d)), np.zeros((2, d)))
    where = rng.random(n) < 0.8
    where[0] = True
    k = data.draw(st.integers(1, int(where.sum())))
    hits = build_index(gallery).search(queries, k, where)
    true = pair_scores(queries, gallery, np.tile(np.arange(n), (2, 1)), similarity)
    np.testing.assert_array_equal(hits.positions, naive_search(true, k, where))
    np.testing.assert_allclose(true, naive_matrix(similarity, queries, gallery), atol=1e-12)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_ties_beyond_the_proposals_are_found(similarity):
    "300 different vectors, all equally far from the query: the first k by position must come back."
    angle = np.random.default_rng(0).permutation(300) * 2 * np.pi / 300
    mu = np.stack([np.cos(angle), np.sin(angle), np.full(300, 1.0)], 1)
    ids = [str(i) for i in range(300)]
    gallery = Embeddings(ids, ids, mu, np.zeros_like(mu), {"similarity": similarity})
    queries = Embeddings(["q"], ["q"], [[0.0, 0.0, 1.0]], np.zeros((1, 3)))
    hits = build_index(gallery).search(queries, 5)
    true = pair_scores(queries, gallery, np.arange(300)[None], similarity)
    assert np.ptp(true) < 1e-6  # equal but for the rounding of cos and sin
    np.testing.assert_array_equal(hits.positions, naive_search(true, 5, np.ones(300, bool)))


def test_long_vectors_of_csd_do_not_spoil_the_order():
    "Means far from the origin: single precision alone would mix up the neighbours."
    rng = np.random.default_rng(0)
    mu = 1000 + rng.normal(size=(200, 16))
    ids = [str(i) for i in range(200)]
    gallery = Embeddings(ids, ids, mu, np.zeros_like(mu), {"similarity": "csd"})
    queries = Embeddings(["a", "b"], ["a", "b"], 1000 + rng.normal(size=(2, 16)), np.zeros((2, 16)))
    hits = build_index(gallery).search(queries, 10)
    np.testing.assert_array_equal(
        hits.positions, naive_search(naive_matrix("csd", queries, gallery), 10, np.ones(200, bool))
    )


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_a_query_does_not_depend_on_its_company(similarity):
    queries, gallery = points(300, 8, 1, similarity, "q"), points(150, 8, 2, similarity, distinct=40)
    index = build_index(gallery)
    together = index.search(queries, 6)
    for i in (0, 128, 256, 299):
        alone = index.search(queries.select([i]), 6)
        np.testing.assert_array_equal(alone.positions[0], together.positions[i])
        assert alone.scores[0].tobytes() == together.scores[i].tobytes()


def test_mls_top_over_several_blocks():
    queries, gallery = points(3, 4, 1, "mls", "q"), points(20000, 4, 2, "mls")
    hits = build_index(gallery).search(queries, 15)
    np.testing.assert_array_equal(
        hits.positions,
        naive_search(pair_scores(queries, gallery, np.tile(np.arange(20000), (3, 1)), "mls"), 15, np.ones(20000, bool)),
    )


def test_csd_ranking_sees_the_gallery_width_only_and_mls_sees_both():
    gallery = points(40, 5, 2)
    queries = points(5, 5, 1, name="q")
    wider = Embeddings(queries.ids, queries.ids, queries.mu, queries.logvar + np.float32(3))
    order = {s: [build_index(gallery, s).search(q, 40).positions for q in (queries, wider)] for s in ("csd", "mls")}
    np.testing.assert_array_equal(*order["csd"])
    assert (order["mls"][0] != order["mls"][1]).any()


def test_length_does_not_count_for_cosine_and_zero_vectors_score_zero():
    gallery = points(20, 4, 2)
    longer = Embeddings(gallery.ids, gallery.ids, gallery.mu * np.float32(64))
    asked = points(4, 4, 1, name="q").mu
    np.testing.assert_array_equal(
        build_index(gallery).search(asked, 5).positions, build_index(longer).search(asked * 0.5, 5).positions
    )
    zero = Embeddings(["z"], ["z"], np.zeros((1, 4)))
    assert build_index(zero).search(asked, 1).scores.tolist() == [[0.0]] * 4
    tiny = Embeddings(["a", "b"], ["a", "b"], [[1e-18, 0], [0, 1e-18]])
    assert build_index(tiny).search(np.array([[0, 1e18]], np.float32), 1).ids.tolist() == [["b"]]


def test_arrays_as_queries():
    gallery = points(10, 4, 2)
    np.testing.assert_array_equal(build_index(gallery).search(gallery.mu, 1).positions[:, 0], np.arange(10))
    with pytest.raises(DataError, match="csd needs Embeddings"):
        build_index(gallery, "csd").search(gallery.mu, 1)
    for bad in (np.full((1, 4), np.nan), np.zeros(4), np.zeros((0, 4))):
        with pytest.raises(DataError):
            build_index(gallery).search(bad, 1)


BAD = {
    "k above the gallery": (dict(k=11), "k: 11 is not a whole number between 1 and the 10 candidates$"),
    "k of zero": (dict(k=0), "k: 0"),
    "k above what where leaves": (
        dict(k=4, where=np.arange(10) < 3),
        "k: 4 is not a whole number between 1 and the 3 candidates that `where` leaves",
    ),
    "nobody left": (dict(k=1, where=np.zeros(10, bool)), "the 0 candidates"),
    "where too short": (dict(k=1, where=np.ones(9, bool)), "where: must be bool .10,."),
    "where of positions": (dict(k=1, where=np.arange(10)), "where: must be bool .10,."),
    "other dimensions": (dict(k=1, queries=points(2, 3)), "queries have 3 dimensions, the gallery 4"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_questions(case):
    arguments, message = BAD[case]
    with pytest.raises(DataError, match=message):
        build_index(points(10, 4)).search(**{"queries": points(2, 4), **arguments})


def test_bad_sides():
    clouds, plain = points(5), Embeddings(list("abc"), list("abc"), np.eye(3, 5))
    for run, message in (
        (lambda: build_index(clouds, "dot"), "similarity: 'dot'"),
        (lambda: build_index(clouds, kind="tree"), "kind: 'tree'"),
        (lambda: build_index(plain, "csd"), "gallery: csd compares clouds"),
        (lambda: build_index(clouds, "mls").search(plain, 1), "queries: mls compares clouds"),
        (lambda: build_index(clouds, "mls", kind="hnsw"), "only the exact"),
        (lambda: build_index(clouds, kind="ivf", effort=0), "effort"),
        (lambda: score_matrix(plain, clouds, "csd"), "queries: csd"),
        (lambda: score_matrix(points(2, 3), clouds), "3 dimensions, the gallery 5"),
        (lambda: build_index(plain.select([])), "nothing in it"),
    ):
        with pytest.raises(DataError, match=message):
            run()
    clouds.logvar[2, 1] = 50
    with pytest.raises(DataError, match="logvar of id g2"):
        build_index(clouds, "mls")


@pytest.mark.parametrize("similarity", ["cosine", "csd"])
@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_approximate_search(tmp_path, capsys, similarity, kind):
    gallery, queries = points(1500, 8, 2, similarity, distinct=900), points(50, 8, 1, similarity, "q")
    exact, index = (
        build_index(gallery),
        build_index(gallery, kind=kind, effort=4 if kind == "ivf" else 32, check=queries),
    )
    said = capsys.readouterr().out
    truth, found = exact.search(queries, 10), index.search(queries, 10)
    share = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(truth.positions, found.positions)])
    assert f"{kind}, effort {index.effort}: returns {share:.1%} of the true 10 nearest, on 50 queries" in said
    assert 0.5 < share == pytest.approx(index.recall(queries, 10)) and exact.recall(queries, 10) == 1
    scores = pair_scores(queries, gallery, found.positions, similarity)  # what it returns has its true score, in order
    np.testing.assert_allclose(found.scores, scores, rtol=1e-6)
    assert (np.diff(found.scores, axis=1) <= 0).all()
    again = build_index(gallery, kind=kind, effort=index.effort)  # the same graph each time
    np.testing.assert_array_equal(again.search(queries, 10).positions, found.positions)
    index.save(tmp_path / "index")
    np.testing.assert_array_equal(Index.load(tmp_path / "index").search(queries, 10).positions, found.positions)
    index.effort = 10**4
    np.testing.assert_array_equal(index.search(queries, 10).positions, truth.positions)


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_approximate_search_with_a_narrow_filter_still_returns_k(kind):
    gallery, queries = points(1000, 6, 2), points(20, 6, 1, name="q")
    where = np.zeros(1000, bool)
    where[np.random.default_rng(0).permutation(1000)[:12]] = True
    hits = build_index(gallery, kind=kind, effort=1).search(queries, 12, where)
    assert where[hits.positions].all() and all(len(set(row)) == 12 for row in hits.positions)


def test_more_effort_finds_more():
    gallery, queries = points(3000, 16, 2), points(60, 16, 1, name="q")
    index = build_index(gallery, kind="ivf", effort=1, check=queries)
    shares = []
    for index.effort in (1, 8, 64):
        shares.append(index.recall(queries, 10))
    assert shares == sorted(shares) and shares[0] < 0.9 and shares[-1] > 0.99


def test_points_without_groups_are_harder_to_find():
    """An approximate search looks where the answer probably is; in pure noise there is no such place."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 32))
    noise = rng.normal(size=(4100, 32))
    shares = []
    for vectors in (centres[np.arange(4100) % 40] + 0.3 * noise, noise):
        gallery = Embeddings(np.arange(4000).astype(str), np.arange(4000).astype(str), vectors[:4000])
        index = build_index(gallery, kind="ivf", effort=1)
        shares.append(index.recall(vectors[4000:].astype(np.float32), 10))
    assert shares[1] < 0.5 < shares[0]


def test_save_and_load_exact_and_refuse_what_does_not_fit(tmp_path):
    gallery, queries = points(30, 4, 2, "mls"), points(3, 4, 1, "mls", "q")
    index = build_index(gallery)
    index.save(tmp_path / "a")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["gallery.parquet", "index.json"]
    again = Index.load(tmp_path / "a")
    np.testing.assert_array_equal(again.search(queries, 5).positions, index.search(queries, 5).positions)
    assert again.similarity == "mls" and again.kind == "exact" and len(again) == 30
    build_index(points(31, 4, 5, "mls")).save(tmp_path / "b")
    (tmp_path / "a" / "gallery.parquet").write_bytes((tmp_path / "b" / "gallery.parquet").read_bytes())
    with pytest.raises(DataError, match="gallery.parquet: damaged, or not written with the files beside it"):
        Index.load(tmp_path / "a")
    (tmp_path / "a" / "gallery.parquet").unlink()
    with pytest.raises(DataError, match="gallery.parquet: there is no such file"):
        Index.load(tmp_path / "a")
    with pytest.raises(DataError, match="index.json: there is no such file"):
        Index.load(tmp_path)
    for facts in (
        [],
        {"kind": "tree"},
        {"kind": "exact", "similarity": "dot", "effort": 0},
        {"kind": "ivf", "similarity": "csd", "effort": "8"},
    ):
        (tmp_path / "b" / "index.json").write_text(json.dumps(facts))
        with pytest.raises(DataError, match="in the facts of an index"):
            Index.load(tmp_path / "b")


def graph_index(seed, similarity="cosine"):
    "A small approximate index whose gallery keeps local features; all its numbers depend on the seed."
    made = points(60, 4, seed, similarity)
    made.local = {"regions": np.full((60, 1, 4), seed, np.float32)}
    return build_index(made, kind="hnsw")


def replaced_until(moment, folder):
    "In a process of its own: save another index over that in `folder`, killed before or after one of the renames."
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    rename, done = os.replace, 0

    def counted(*names, **more):
        nonlocal done
        for after in (0, 1):
            if after:
                rename(*names, **more)
            if divmod(moment, 2) == (done, after):
                os.kill(os.getpid(), signal.SIGKILL)
        done += 1

    os.replace = counted
    try:
        graph_index(2).save(folder)
    finally:
        os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be forked and killed")
def test_an_index_is_replaced_as_a_whole_at_whatever_rename_a_process_is_killed(tmp_path, capsys):
    old, new = graph_index(1), graph_index(2)
    seen = []
    for moment in range(11):
        folder = tmp_path / str(moment)
        old.save(folder)
        ended = replaced_until(moment, folder)
        found = Index.load(folder)
        which = int(found.gallery.local["regions"][0, 0, 0])
        wanted = (old, new)[which - 1]
        assert (found.gallery.local["regions"] == which).all() and (found.gallery.mu == wanted.gallery.mu).all()
        hits = [index.search(wanted.gallery, 3).positions for index in (found, wanted)]
        np.testing.assert_array_equal(*hits)
        names = ["gallery-regions.npy", "gallery.parquet", "index.faiss", "index.json"]
        assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == names
        assert not (folder / ".together.json").exists()
        seen.append((ended, which))
    assert seen == [(-9, 1)] + [(-9, 2)] * 9 + [(0, 2)]  # the first rename is that of the plan


@pytest.mark.parametrize("lost", ["gallery-regions.npy", "gallery.parquet", "index.faiss"])
def test_a_file_of_another_index_or_none_is_named(tmp_path, lost, capsys):
    graph_index(1).save(tmp_path / "a")
    graph_index(2).save(tmp_path / "b")
    (tmp_path / "a" / lost).write_bytes((tmp_path / "b" / lost).read_bytes())
    with pytest.raises(DataError, match=f"{lost}: damaged, or not written with the files beside it"):
        Index.load(tmp_path / "a")
    (tmp_path / "a" / lost).unlink()
    with pytest.raises(DataError, match=f"{lost}: there is no such file"):
        Index.load(tmp_path / "a")
    facts = json.loads((tmp_path / "b" / "index.json").read_text())
    for name in ("index.faiss", "gallery.parquet"):
        del facts["files"][name]
        (tmp_path / "b" / "index.json").write_text(json.dumps(facts))
        with pytest.raises(DataError, match=name):
            Index.load(tmp_path / "b")
