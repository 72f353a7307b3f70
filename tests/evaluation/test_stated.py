"""What is stated about first answers: the temperature against a grid, the mass against a loop."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from medret_nb.data.studies import StudySet
from medret_nb.evaluation.reliability import retrieval_nll
from medret_nb.evaluation.stated import own_temperature, pairing, stated_at, temperature_of
from medret_nb.retrieval.points import Embeddings
from medret_nb.retrieval.scoring import score_matrix


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    texts = [f"Effusion of size {number}." for number in rng.integers(0, 30, 60)]
    ids = np.array([f"s{i:02d}" for i in range(60)])
    studies = StudySet(
        pd.DataFrame({"study_id": ids, "patient_id": ids, "findings": texts}),
        pd.DataFrame(columns=["image_id", "study_id", "path"]),
    )
    mu = rng.normal(size=(30, 6))[[int(text.split()[-1][:-1]) for text in texts]]
    meta = {"similarity": "cosine", "logit_scale": 4.0, "policy": "findings"}
    near = (mu + 0.5 * rng.normal(size=mu.shape)).astype(np.float32)
    points = {
        "image": Embeddings(ids, ids, near, None, meta | {"modality": "image"}),
        "text": Embeddings(ids, ids, mu.astype(np.float32), None, meta | {"modality": "text"}),
    }
    return pairing(points, studies, "text"), texts


def test_the_mass_is_that_of_the_copies_of_the_first_answer(pair):
    made, texts = pair
    scores = score_matrix(made.queries, made.gallery).astype(float)
    stated = stated_at(made, 0.1, cells=7 * 60)
    for q, row in enumerate(scores):
        same = [text == texts[row.argmax()] for text in texts]
        assert stated[q] == pytest.approx(softmax(row / 0.1)[same].sum(), rel=1e-4)


def test_the_fitted_temperature_is_the_likeliest(pair):
    made, _ = pair
    fitted = temperature_of(made)
    scores = score_matrix(made.queries, made.gallery)
    groups = made.related.queries, made.related.gallery
    best = retrieval_nll(scores, groups, fitted)
    assert all(best <= retrieval_nll(scores, groups, fitted * factor) + 1e-9 for factor in (0.5, 0.9, 1.1, 2.0))
    assert own_temperature(made) == 0.25 and fitted < 0.25


def test_a_few_queries_are_enough_to_fit(pair):
    made, _ = pair
    assert temperature_of(made, most=30) == pytest.approx(temperature_of(made), rel=0.5)
