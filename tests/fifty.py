"""Fifty made-up studies and embeddings made by hand, for the tests of results and of their comparison."""

import numpy as np
import pandas as pd

from medret_nb.data.studies import StudySet
from medret_nb.retrieval.points import Embeddings

N = 50


def world(noise=1.0, seed=0, keep_texts=slice(None), **text_meta):
    """A StudySet of 50 studies of 40 patients, half of them with one stock phrase, and embeddings made by hand."""
    rng = np.random.default_rng(11)
    normal = rng.random(N) < 0.5
    findings = ["Normal." if calm else f"Effusion {i % 15}" for i, calm in enumerate(normal)]
    studies = pd.DataFrame(
        {
            "study_id": [f"s{i}" for i in range(N)],
            "patient_id": [f"p{i % 40}" for i in range(N)],
            "findings": findings,
            "split": "test",
            "labels": [
                {"No Finding": 1} if c else {"Pleural Effusion": 1, "Edema": i % 2} for i, c in enumerate(normal)
            ],
        }
    )
    images = pd.DataFrame(
        {"image_id": [f"i{i}" for i in range(N)], "study_id": studies["study_id"], "path": "none.png"}
    )
    of_text = {t: rng.normal(size=8) for t in findings}
    text = np.array([of_text[t] for t in findings], dtype=np.float32)
    film = (text + noise * np.random.default_rng(seed).normal(size=text.shape)).astype(np.float32)
    ids = studies["study_id"].to_numpy()
    return (
        StudySet(studies, images),
        Embeddings(
            ids=images["image_id"].to_numpy(),
            study_ids=ids,
            mu=film,
            logvar=None,
            meta={"similarity": "cosine", "modality": "image", "split": "test"},
        ),
        Embeddings(
            ids=ids[keep_texts],
            study_ids=ids[keep_texts],
            mu=text[keep_texts],
            logvar=None,
            meta={"similarity": "cosine", "modality": "text", "split": "test", **text_meta},
        ),
    )
