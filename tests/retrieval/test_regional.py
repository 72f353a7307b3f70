"Search by place: what a loop over pairs gives, whatever is missing, exactly and in the gallery's order."

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.data.files import DataError
from medret_nb.retrieval.points import Embeddings
from medret_nb.retrieval.regional import combine, region_names, region_places, regional_scores
from medret_nb.retrieval.scoring import unit
from medret_nb.retrieval.search import build_index

NAMES = ("right lung", "left lung", "heart")


def points(n, seed=0, holes=0.3, whole=5, local=4, name="i", **meta):
    rng = np.random.default_rng(seed)
    mask = rng.random((n, 3)) >= holes
    ids = [f"{name}{k}" for k in range(n)]
    return Embeddings(
        ids,
        ids,
        rng.normal(size=(n, whole)),
        meta={"similarity": "cosine", "regions": "; ".join(NAMES), **meta},
        local={"regions": rng.normal(size=(n, 3, local)) * 3, "regions_mask": mask},
    )


def by_pairs(queries, gallery, places, rho):
    "The definition, one pair at a time, in double precision."

    def unit(v):
        return v.astype(float) / np.linalg.norm(v.astype(float))

    out = np.empty((len(queries), len(gallery)))
    for i, j in np.ndindex(out.shape):
        parts = [((1 - rho), unit(queries.mu[i]) @ unit(gallery.mu[j]))]
        for m in places:
            if queries.local["regions_mask"][i, m] and gallery.local["regions_mask"][j, m]:
                parts.append(
                    (rho / len(places), unit(queries.local["regions"][i, m]) @ unit(gallery.local["regions"][j, m]))
                )
        out[i, j] = sum(w * c for w, c in parts) / sum(w for w, _ in parts)
    return out


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 9999),
    st.floats(0, 0.99),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.4, 1.0]),
)
def test_scores_are_those_of_the_definition(seed, rho, names, holes):
    queries, gallery = points(4, seed, holes, name="q"), points(9, seed + 1, holes)
    places = [NAMES.index(n) for n in dict.fromkeys(names)]
    np.testing.assert_allclose(
        regional_scores(queries, gallery, names, rho), by_pairs(queries, gallery, places, rho), atol=1e-6
    )


def test_with_every_region_there_it_is_one_inner_product():
    queries, gallery, rho = points(12, 1, 0, name="q"), points(80, 2, 0), 0.4

    def long(e, weights):
        parts = [weights[0] * unit(e.mu, np.float64)]
        for weight, m in zip(weights[1:], (0, 2)):
            parts.append(weight * unit(e.local["regions"][:, m], np.float64))
        return np.concatenate(parts, 1).astype(np.float32)

    oracle = faiss.IndexFlatIP(13)
    oracle.add(long(gallery, (1, 1, 1)))
    values, found = oracle.search(long(queries, (1 - rho, rho / 2, rho / 2)), 10)
    hits = build_index(gallery).search(queries, 10, regions=["right lung", "heart"], rho=rho)
    np.testing.assert_array_equal(hits.positions, found)
    np.testing.assert_allclose(hits.scores, values, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 6), st.booleans())
def test_search_with_copies_holes_and_where(seed, k, some):
    rng = np.random.default_rng(seed)
    queries, gallery = points(3, seed, name="q"), points(30, seed + 1)
    copied = rng.integers(0, 6, 30)  # at most six different candidates
    gallery.mu, gallery.local = gallery.mu[copied], {key: v[copied] for key, v in gallery.local.items()}
    where = rng.random(30) < 0.6 if some else np.ones(30, bool)
    where[:6] = True
    true = by_pairs(queries, gallery, [1], 0.6).astype(np.float32)
    hits = build_index(gallery).search(queries, k, where if some else None, regions="left lung", rho=0.6)
    for i in range(3):
        best = sorted(np.flatnonzero(where), key=lambda j: (-round(float(true[i, j]), 6), j))[:k]
        assert hits.positions[i].tolist() == best
        np.testing.assert_allclose(hits.scores[i], true[i, best], atol=1e-6)


def test_search_in_blocks_equals_search_at_once(monkeypatch, tmp_path):
    queries, gallery = points(7, 1, name="q"), points(50, 2)
    whole = build_index(gallery).search(queries, 9, regions=NAMES)
    monkeypatch.setattr(
        "medret_nb.retrieval.regional.max", lambda a, b: 2 if a == 1 else max(a, b), raising=False
    )  # steps of two
    gallery.save(tmp_path / "g.parquet")
    mapped = build_index(Embeddings.load(tmp_path / "g.parquet")).search(queries, 9, regions=NAMES)
    np.testing.assert_array_equal(whole.positions, mapped.positions)
    np.testing.assert_array_equal(whole.scores, mapped.scores)


def test_a_region_that_is_missing_is_not_a_zero():
    "All cosines are -1 but for the candidate without the region: a zero would put it first."

    def one(names, region, seen):
        return Embeddings(
            names,
            names,
            [[1.0, 0.0]] * len(names),
            meta={"similarity": "cosine", "regions": "heart"},
            local={"regions": np.array(region, np.float32)[:, None], "regions_mask": np.array(seen)[:, None]},
        )

    queries, gallery = (
        one(["q"], [[1, 0]], [True]),
        one(["a", "b", "c"], [[-1, 0], [1, 0], [0, 1]], [True, False, True]),
    )
    queries.mu = -queries.mu
    scores = regional_scores(queries, gallery, "heart", 0.5)[0]
    np.testing.assert_allclose(scores, [-1, -1, -0.5], atol=1e-6)  # b by its whole alone, not -0.5
    hits = build_index(gallery).search(queries, 2, gallery.local["regions_mask"][:, 0], regions="heart")
    assert hits.ids[0].tolist() == ["c", "a"]


def test_without_regions_nothing_changes():
    queries, gallery = points(5, 1, name="q"), points(40, 2)
    index = build_index(gallery)
    for regions in (None, [], ()):
        hits = index.search(queries, 8, regions=regions)
        np.testing.assert_array_equal(hits.positions, index.search(queries.without_local(), 8).positions)
    np.testing.assert_array_equal(index.search(queries, 8, regions="heart", rho=0.0).positions, hits.positions)


def test_combining_film_and_text():
    films, texts = points(6, 1, 0, name="q"), points(6, 2, 0, name="t")
    gallery = points(30, 3, 0)
    both = combine(films, texts)
    np.testing.assert_allclose(np.linalg.norm(both.mu, axis=1), 1, atol=1e-6)
    want = unit(unit(films.mu) + unit(texts.mu)) @ unit(gallery.mu).T
    np.testing.assert_allclose(regional_scores(both, gallery, "heart", 0.0), want, atol=1e-6)
    films.local["regions_mask"] = np.zeros((6, 3), bool)  # only the text knows the places
    alone = combine(films, texts)
    only_said = texts.local["regions"] / np.linalg.norm(texts.local["regions"], axis=-1, keepdims=True)
    np.testing.assert_allclose(alone.local["regions"], only_said, atol=1e-6)
    assert alone.local["regions_mask"].all()


def test_mistakes_are_named():
    queries, gallery = points(2, 1, name="q"), points(5, 2)
    index = build_index(gallery)
    for arguments, message in (
        ({"regions": ["spleen"]}, "'spleen' is none of right lung, left lung, heart"),
        ({"regions": "heart", "rho": 1.5}, "rho: 1.5"),
        ({"regions": "heart", "rho": float("nan")}, "rho: nan"),
    ):
        with pytest.raises(DataError, match=message):
            index.search(queries, 2, **arguments)
    with pytest.raises(DataError, match="hold no vectors for regions"):
        index.search(queries.without_local(), 2, regions="heart")
    with pytest.raises(DataError, match="hold no vectors for regions"):
        build_index(gallery.without_local()).search(queries, 2, regions="heart")
    with pytest.raises(DataError, match="hold no vectors"):
        region_names(points(2, regions=""))
    with pytest.raises(DataError, match="2 names for an array"):
        region_names(points(2, regions="a; b"))
    with pytest.raises(DataError, match="other dimensions"):
        index.search(points(2, 1, local=3), 2, regions="heart")
    with pytest.raises(DataError, match="k: 9"):
        index.search(queries, 9, regions="heart")
    with pytest.raises(DataError, match="cannot be paired"):
        combine(queries, gallery)
    gallery.local["regions_mask"][:], gallery.local["regions_mask"][3] = True, False
    queries.local["regions_mask"][:] = True
    with pytest.raises(DataError, match="rho: 1 .* q0 and i3"):
        build_index(gallery).search(queries, 2, regions=NAMES, rho=1.0)
    assert region_places(gallery, ["heart", "heart", "left lung"]) == [2, 1]


def test_clouds_are_refused():
    cloud = Embeddings(
        ["a"], ["a"], [[1.0]], [[0.0]], {"similarity": "csd", "regions": "heart"}, {"regions": np.ones((1, 1, 2))}
    )
    with pytest.raises(DataError, match="compared by cosine"):
        regional_scores(cloud, cloud, "heart")
