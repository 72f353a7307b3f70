"Asking by image, by report and by both: which sentences count, cases of methods with and without regions."

import numpy as np
import pytest

from medret_nb.data.files import DataError, shipped_data
from medret_nb.data.studies import StudySet
from medret_nb.methods.clip import CLIP
from medret_nb.methods.rra_vl import RRAVL
from medret_nb.phantom.assertions import Assertion
from medret_nb.probes.located_queries import (
    evaluate_located_queries,
    located_answers,
    located_query_cases,
    located_sentences,
    speaks_of,
)


@pytest.fixture(scope="module")
def clinic():
    "The package's own studies."
    return StudySet.load(shipped_data("phantom-small"))


@pytest.mark.parametrize(
    ("claim", "region", "wanted"),
    [
        (Assertion("nodule"), "left lower lung zone", True),
        (Assertion("nodule", "left"), "left lower lung zone", True),
        (Assertion("nodule", "right"), "left lower lung zone", False),
        (Assertion("nodule", "bilateral"), "left lower lung zone", True),
        (Assertion("nodule", "left", "upper"), "left lower lung zone", False),
        (Assertion("nodule", "left", "upper"), "left lung", True),
        (Assertion("lung opacity", "left"), "left lower lung zone", True),
        (Assertion("pleural effusion", "left"), "left lung", False),
        (Assertion("nodule", present=False), "left lung", False),
    ],
)
def test_which_claims_speak_of_a_nodule(claim, region, wanted):
    assert speaks_of(claim, "nodule", region) == wanted


def test_sentences_are_the_reports_own(clinic):
    method = CLIP.create().eval()
    answers = located_answers(method, clinic, "train")
    policy = method.config.inference_policy
    assert answers.table["sentence"].str.len().gt(0).all() and answers.unsaid >= 0
    part = clinic.split("train")
    again = located_sentences(part, answers.table, policy)
    assert again == answers.table["sentence"].tolist()


@pytest.mark.parametrize("gallery", ["image", "report"])
def test_methods_with_and_without_regions_answer_the_same_cases(clinic, gallery):
    first = located_query_cases(CLIP.create().eval(), clinic, "train", "both", gallery)
    second = located_query_cases(RRAVL.create().eval(), clinic, "train", "both", gallery)
    assert first["case"].is_unique and set(first["case"]) == set(second["case"])
    assert np.isfinite(first["value"]).all() and (first["control"] > 0).all()


def test_an_oracle_of_the_relevant_is_always_right(clinic):
    answers = located_answers(CLIP.create().eval(), clinic, "train")
    answers.scores["image"] = answers.relevant.astype(float)
    assert (answers.hits("image") == 1).all()


def test_results_print_and_wrong_words_are_refused(clinic):
    results = evaluate_located_queries(CLIP.create().eval(), clinic, "train", draws=20, verbose=False)
    assert "both - report" in str(results) and "fingerprint" in str(results)
    with pytest.raises(ValueError, match="by"):
        located_query_cases(CLIP.create(), clinic, "train", "voice")


def test_without_boxes_there_is_no_question(clinic):
    bare = StudySet(clinic.studies, clinic.images, None, clinic.info, clinic.folder)
    with pytest.raises(DataError, match="location"):
        located_answers(CLIP.create().eval(), bare, "train")
