"Usable studies: what is gathered of them, the texts that stand for missing ones, groups of equal sentences."

import numpy as np
import pytest

from medret_nb.data.files import DataError
from medret_nb.data.studies import StudySet, choose_image
from medret_nb.data.usable import section_groups, text_slots, usable_studies


def test_studies_without_a_text_are_counted_and_the_others_keep_their_order(small_phantom):
    silent = small_phantom.studies.copy()
    silent.loc[[0, 5], ["findings", "impression", "note"]] = ""
    part = StudySet(silent, small_phantom.images, None, small_phantom.info, small_phantom.folder)
    whole = usable_studies(small_phantom, small_phantom.pixels(32), "both")
    found = usable_studies(part, part.pixels(32), "both")
    lost = set(silent["study_id"].iloc[[0, 5]])
    assert found.study_ids == [study for study in whole.study_ids if study not in lost]
    assert found.without == len(silent) - len(found.study_ids)
    silent[["findings", "impression", "note"]] = ""
    with pytest.raises(DataError, match="no study has both"):
        usable_studies(
            StudySet(silent, small_phantom.images, None, None, small_phantom.folder), part.pixels(32), "both"
        )


def test_the_first_film_is_the_one_that_evaluation_uses(small_phantom):
    found = usable_studies(small_phantom, small_phantom.pixels(32), "both")
    rule = dict(zip(*choose_image(small_phantom.images)[["study_id", "image_id"]].to_numpy().T))
    assert found.first == [rule[study] for study in found.study_ids]
    assert all(found.images[study] == sorted(found.images[study]) for study in found.study_ids)


def test_a_missing_text_is_another_one_and_says_so(small_phantom):
    found = usable_studies(small_phantom, small_phantom.pixels(32), "both")
    texts, shuffled = text_slots(found, 1)
    assert texts == [[text] for text in found.texts] and not shuffled.any()
    texts, shuffled = text_slots(found, 3)
    assert shuffled[:, 2].all() and not shuffled[:, 0].any()
    for row, parts, drawn in zip(texts, found.parts, shuffled):
        assert row == [parts[0], parts[1 % len(parts)], parts[2 % len(parts)]]
        assert drawn[1] == (len(parts) == 1)


def test_groups_do_not_see_the_order_of_sentences():
    groups = section_groups(["x", "x"], [["A b. C d.", "E."], ["C d. A b."]], 2)
    assert groups[0, 0] == groups[1, 0] == groups[1, 1] != groups[0, 1]
    assert np.array_equal(section_groups(["E. F.", "F. E."], [[], []], 1), [[0], [0]])
