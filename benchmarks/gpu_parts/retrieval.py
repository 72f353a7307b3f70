"""Embedding films and texts, exact search, and R@K over all pairs, both ways."""

import time

import numpy as np
import torch

from medret_nb.evaluation.quick_recalls import recalls_both_ways
from medret_nb.retrieval.embeddings import embed_gallery
from medret_nb.retrieval.points import Embeddings
from medret_nb.retrieval.search import build_index

from .measure import Task, synchronise


def clocked(function, device):
    "Seconds of one call, and what it gave."
    synchronise(device)
    begun = time.perf_counter()
    found = function()
    synchronise(device)
    return time.perf_counter() - begun, found


def embed_rows(world, what, method, studies, goal=None):
    "Films and texts a second, with everything that `embed_gallery` does."
    method = method.to(world.device).eval()
    studies.pixels(method.config.size)
    for kind in ("image", "text"):
        embed_gallery(method, studies, kind, "val", progress=False)  # warm
        seconds, found = clocked(
            lambda k=kind: embed_gallery(method, studies, k, "train", progress=False), world.device
        )
        more = {"goal": goal} if goal and kind == "image" else {}
        name = "films" if kind == "image" else "texts"
        yield {"what": f"embedding {name}, {what}, {len(found):,}", "value": len(found) / seconds,
               "unit": f"{name}/s", "better": "higher"} | more  # fmt: skip


def points(count, dim, seed, kind="cosine", noise=None):
    "Random points, or those of another set with noise."
    rng = np.random.default_rng(seed)
    mu = rng.standard_normal((count, dim), dtype=np.float32)
    if noise is not None:
        mu = noise.mu + 2 * mu
    ids = np.array([f"p{i}" for i in range(count)], dtype=object)
    logvar = rng.uniform(-3, 0, (count, dim)).astype(np.float32) if kind != "cosine" else None
    return Embeddings(ids, ids, mu, logvar, {"similarity": kind})


def search_rows(world, count, queries, kind="cosine", goal=None, beside=False):
    "The exact search of `queries` among `count` points; beside it the processor's, which must find the same."
    gallery = points(count, 512, 0, kind)
    asked = points(queries, 512, 1, kind, gallery.select(slice(0, queries)))
    place = str(world.device)
    seconds, index = clocked(lambda: build_index(gallery, kind, device=place), world.device)
    index.search(asked.select(slice(0, min(64, queries))), 10)
    took, hits = clocked(lambda: index.search(asked, 10), world.device)
    what = f"exact search, {kind}, {queries:,} in {count:,}, D=512, k=10"
    note = f"{queries / took:,.0f} queries/s; index built in {seconds:.2f} s"
    row = {"what": what, "value": took, "unit": "s"} | ({"goal": goal} if goal else {})
    if beside:
        other = build_index(gallery, kind, device="cpu")
        other.search(asked.select(slice(0, min(64, queries))), 10)
        row["naive"], found = clocked(lambda: other.search(asked, 10), world.device)
        note += f"; naive is the processor; {(found.positions == hits.positions).mean():.2%} of the places agree"
    yield row | {"note": note}


def recall_rows(world, count, beside=False):
    "R@K of all pairs both ways: scores and ranks together; beside it on the processor."
    films = points(count, 512, 2)
    texts = points(count, 512, 3, noise=films)
    own = np.arange(count)
    few = [side.select(slice(0, 256)) for side in (films, texts)]
    recalls_both_ways(*few, (own[:256], own[:256]), device=world.device)
    took, found = clocked(lambda: recalls_both_ways(films, texts, (own, own), device=world.device), world.device)
    note = f"i2t R@10 {found['i2t_r10']:.3f}"
    row = {"what": f"scores and ranks both ways, {count:,} x {count:,}", "value": took, "unit": "s"}
    if beside:
        cpu = torch.device("cpu")
        row["naive"], other = clocked(lambda: recalls_both_ways(films, texts, (own, own), device=cpu), world.device)
        note += f"; naive is the processor; largest difference {max(abs(found[k] - other[k]) for k in found):.1e}"
    yield row | {"note": note}


def tasks(world):
    big = 1000 if world.quick else 100_000
    some = 500 if world.quick else 20_000
    few = 50 if world.quick else 1000
    torch.manual_seed(0)
    made = [
        ("embedding ViT-B/16", lambda: embed_rows(
            world, "ViT-B/16, 224 px", world.big_method("clip"), world.large, "embed"), 12),
        ("embedding tiny", lambda: embed_rows(world, "tiny, 64 px", world.tiny_method("clip"), world.small), 5),
        ("search some", lambda: search_rows(world, big, few, beside=True), 5),
        ("search all", lambda: search_rows(world, big, big, goal="search"), 8),
        ("ranks some", lambda: recall_rows(world, some, True), 5),
        ("ranks all", lambda: recall_rows(world, big), 8),
        ("search mls", lambda: search_rows(world, some, few, "mls"), 5),
        ("search csd", lambda: search_rows(world, some, few, "csd"), 5),
    ]  # fmt: skip
    return [Task(name, rows, least) for name, rows, least in made if world.wanted(name)]
