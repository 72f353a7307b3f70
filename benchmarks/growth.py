"""What grows with the studies, in processor seconds: python -P benchmarks/growth.py [N ...]

Random points of N studies without films: `evaluate` under three protocols, `explain` and the failures view, beside the
scores of all pairs both ways, which are what cannot be spared. Set OMP_NUM_THREADS=1 for one thread.
`-P` keeps this folder off the path: transformers would take kernels.py here for a package of that name.
"""

import sys
import tempfile
import time

import numpy as np
import pandas as pd

from medret_nb.data.finding_names import FINDINGS
from medret_nb.data.studies import StudySet
from medret_nb.evaluation.results import evaluate
from medret_nb.failures.causes import explain
from medret_nb.retrieval.points import Embeddings
from medret_nb.retrieval.scoring import unit
from medret_nb.views.failures import failures_view

WORDS = (
    "small large right left pleural effusion opacity lower upper zone lung heart size normal unchanged nodule edema "
    "consolidation mild moderate severe bones intact"
)


def sentence(rng):
    "A report of random words."
    return " ".join(rng.choice(WORDS.split(), rng.integers(5, 25))) + ". No pneumothorax."


def tables(n, rng):
    "Studies of two per patient, of which about a third share their text, and one film that does not exist for each."
    pool = [sentence(rng) for _ in range(max(10, n // 10))]
    ids = [f"s{i:06d}" for i in range(n)]
    rows = []
    for i, name in enumerate(ids):
        text = sentence(rng) if rng.random() < 0.7 else pool[rng.integers(len(pool))]
        found = rng.choice(FINDINGS[1:], 3, replace=False)
        labels = {finding: int(rng.integers(0, 2)) for finding in found}
        rows.append({"study_id": name, "patient_id": f"p{i // 2}", "split": "test", "findings": text, "labels": labels})
    images = pd.DataFrame({"image_id": [f"i{i:06d}" for i in range(n)], "study_id": ids, "view": "PA", "path": "none"})
    return StudySet(pd.DataFrame(rows), images)


def points_of(studies, rng, dim):
    "Films near their reports."
    ids = studies.studies["study_id"].to_numpy()
    common = rng.normal(size=(len(ids), dim))
    meta = {"similarity": "cosine", "logit_scale": 20.0, "split": "test", "policy": "findings"}
    sides = {}
    for modality, names in (("image", studies.images["image_id"].to_numpy()), ("text", ids)):
        mu = unit(common + rng.normal(size=common.shape))
        sides[modality] = Embeddings(names, ids, mu, None, meta | {"modality": modality})
    return sides


def timed(name, function, *parts, **named):
    "What the function gives; its processor seconds are printed."
    start = time.process_time()
    made = function(*parts, **named)
    print(f"  {name:22s}{time.process_time() - start:8.2f} s", flush=True)
    return made


def scores_alone(points):
    "All scores of both directions, 512 queries at a time, thrown away."
    for asked, there in ((points["image"], points["text"]), (points["text"], points["image"])):
        for start in range(0, len(asked), 512):
            asked.mu[start : start + 512] @ there.mu.T


def measure(n, dim=32):
    "Print the seconds of everything for N studies."
    rng = np.random.default_rng(0)
    studies = tables(n, rng)
    points = points_of(studies, rng, dim)
    print(f"{n:,} studies, {dim} dimensions")
    timed("scores alone", scores_alone, points)
    for protocol in ("exact", "text", "labels"):
        with tempfile.TemporaryDirectory() as folder:
            results = timed(f"evaluate {protocol}", evaluate, points, studies, protocol, out=folder, verbose=False)
        if protocol == "text":
            timed("explain", explain, results, studies)
            timed("failures view", failures_view, results, studies=studies, most=200)


if __name__ == "__main__":
    for size in sys.argv[1:] or ["1000", "3000", "10000"]:
        measure(int(size))
