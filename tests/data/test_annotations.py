import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.data.annotations import ANNOTATION_COLUMNS, film_sizes, fractions, with_regions
from medret_nb.data.studies import StudySet


@pytest.fixture
def studies():
    return StudySet(
        pd.DataFrame({"study_id": ["s1", "s2"], "split": ["train", "test"]}),
        pd.DataFrame(
            {
                "image_id": ["f1", "f2", "f3"],
                "study_id": ["s1", "s1", "s2"],
                "path": ["a", "b", "c"],
                "height": [180, 180, None],
                "width": [200, 200, None],
            }
        ),
        info={"restricted": False, "notes": "one line"},
    )


@given(
    st.lists(st.tuples(*[st.integers(-50, 400)] * 4), min_size=1, max_size=8), st.integers(1, 300), st.integers(1, 300)
)
@settings(deadline=None)
def test_fractions_are_a_loop_over_boxes(boxes, width, height):
    for box, found in zip(boxes, fractions(np.array(boxes), width, height)):
        x0, x1 = (min(max(v / width, 0), 1) for v in box[::2])
        y0, y1 = (min(max(v / height, 0), 1) for v in box[1::2])
        assert np.isnan(found).all() if x0 >= x1 or y0 >= y1 else np.allclose(found, [x0, y0, x1, y1])


def test_only_films_of_known_size_have_one(studies):
    assert film_sizes(studies) == {"f1": (180.0, 200.0), "f2": (180.0, 200.0)}


def test_adding_twice_is_adding_once_and_the_given_set_stays(studies):
    row = ("f1", "left lung", "lung opacity", 1, "Opacity.", "f1|1", 0.1, 0.2, 0.5, 0.9)
    rows = pd.DataFrame([row], columns=list(ANNOTATION_COLUMNS))
    once = with_regions(studies, rows, "anatomy", "silver", "boxes")
    twice = with_regions(once, rows, "anatomy", "silver", "boxes")
    assert len(studies.regions) == 0 and not studies.restricted
    assert once.info["notes"] == twice.info["notes"] == ["one line", "boxes"]
    assert once.restricted and twice.regions.equals(once.regions) and twice.info == once.info
    assert len(with_regions(once, rows, "finding", "manual", "others").regions) == 2
