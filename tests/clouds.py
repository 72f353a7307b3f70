"""Random points and clouds for tests of scores and searches, and their scores by plain loops."""

import math

import numpy as np

from medret_nb.retrieval.points import Embeddings


def points(n, d=5, seed=0, similarity="cosine", name="g", distinct=None):
    "n clouds in d coordinates; with `distinct`, copies of so many."
    rng = np.random.default_rng(seed)
    mu, logvar = rng.normal(size=(n, d)), rng.normal(size=(n, d))
    if distinct is not None:
        rows = rng.integers(0, min(distinct, n), n)
        mu, logvar = mu[rows], logvar[rows]
    ids = [f"{name}{i}" for i in range(n)]
    return Embeddings(ids, ids, mu, logvar, {"similarity": similarity})


def naive(similarity, q, vq, g, vg):
    "One score with Python's own floats, one coordinate at a time."
    if similarity == "cosine":
        lengths = math.sqrt(math.fsum(a * a for a in q)) * math.sqrt(math.fsum(b * b for b in g))
        return math.fsum(a * b for a, b in zip(q, g)) / lengths if lengths else 0.0
    terms = [((a - b) ** 2, math.exp(s), math.exp(t)) for a, b, s, t in zip(q, g, vq, vg)]
    if similarity == "csd":
        return -math.fsum(d + s + t for d, s, t in terms)
    return -0.5 * math.fsum(d / (s + t) + math.log(s + t) for d, s, t in terms)


def naive_matrix(similarity, queries, gallery):
    "All scores (Q, G)."

    def rows(e):
        return list(zip(e.mu.astype(float).tolist(), e.logvar.astype(float).tolist()))

    return np.array([[naive(similarity, *q, *g) for g in rows(gallery)] for q in rows(queries)])
