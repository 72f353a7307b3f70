"""Which query lies in which cell: by column, by scene, by film; what is not known is no cell."""

import numpy as np
import pandas as pd
import pytest

from medret_nb.data.files import DataError
from medret_nb.data.studies import StudySet
from medret_nb.evaluation.cells import CELL_KINDS, by_length, people, query_cells, rarest_finding


def six():
    """Six studies with all columns that cells can come from, three of them unknown in something."""
    studies = pd.DataFrame(
        {
            "study_id": list("abcdef"),
            "patient_id": [f"p{i}" for i in range(6)],
            "findings": ["one", "one two", "one two three", "one two three four", "", "a b c d e f"],
            "impression": ["x"] * 6,
            "sex": ["female", "M", "f", "", "O", "m"],
            "age": [39, 40, "80", None, 64, 65],
            "source": ["here", "here", "there", "", "here", "there"],
            "labels": [
                {"Edema": 1, "Fracture": 1},
                {"Edema": 1},
                {"Edema": 0},
                {},
                {"No Finding": 1},
                {"Edema": -1, "Fracture": 0},
            ],
        }
    )
    views = ["PA", "AP", "LATERAL", "UNKNOWN", "PA", "PA", "LATERAL"]
    images = pd.DataFrame({"image_id": [f"i{i}" for i in range(7)], "study_id": list("abcdefa"), "view": views})
    return StudySet(studies, images.assign(path="none.png"))


def members(table, by, cell):
    return "".join(np.array(list("abcdef"))[table[by, cell].to_numpy()])


def test_cells_by_hand():
    table = query_cells(list("abcdef"), six())
    told = {pair: members(table, *pair) for pair in table}
    assert told["sex", "F"] == "ac" and told["sex", "M"] == "bf"
    assert told["age", "under 40"] == "a" and told["age", "40 to 64"] == "be" and told["age", "65 to 79"] == "f"
    assert told["age", "80 and over"] == "c" and told["view", "PA"] == "aef" and told["view", "AP"] == "b"
    assert told["site", "here"] == "abe" and told["site", "there"] == "cf"
    assert (
        told["finding", "Edema"] == "ab"
        and told["finding", "Fracture"] == "a"
        and told["finding", "No Finding"] == "cef"
    )
    assert told["prevalence", "no finding"] == "cef"
    assert "Pneumonia" not in table["finding"], "a finding that nobody has is no cell"
    assert list(dict.fromkeys(table.columns.get_level_values("by"))) == list(CELL_KINDS)


def test_a_film_as_query_has_its_own_view():
    table = query_cells(["a", "a"], six(), ("view",), ["i0", "i6"])
    assert table["view", "PA"].tolist() == [True, False] and table["view", "LATERAL"].tolist() == [False, True]


def test_thirds_of_length_are_named_by_their_ends():
    words = by_length([" ".join("x" * n) for n in (1, 2, 3, 10, 11, 12, 30, 31, 40)])
    assert list(dict.fromkeys(words)) == ["up to 3 words", "4 to 12 words", "over 12 words"]
    assert by_length(["", ""]).tolist() == ["", ""]
    table = query_cells(list("abcdef"), six(), ("length",))
    names = [cell for _, cell in table]
    assert names[0].startswith("up to") and names[-1].startswith("over")
    assert table.sum(axis=1).tolist() == [1] * 6  # an empty section falls back on another


def test_rarity_is_that_of_the_rarest_finding():
    sets = np.zeros((100, 2), bool)
    sets[:50, 0] = True
    sets[:3, 1] = True
    known = np.arange(100) < 99
    bands = rarest_finding(sets, known)
    assert set(bands[:3]) == {"rarest under 5 %"} and set(bands[3:50]) == {"rarest over 20 %"}
    assert set(bands[50:99]) == {"no finding"} and bands[99] == ""


def test_a_phantom_knows_its_people(small_phantom):
    person = people(small_phantom)
    assert set(person["sex"]) == {"F", "M"} and person["age"].between(18, 95).all()
    table = query_cells(small_phantom.studies["study_id"], small_phantom)
    assert table["sex"].sum(axis=1).eq(1).all() and "site" not in table, "one site parts nobody"
    assert query_cells(small_phantom.studies["study_id"], small_phantom, ("site",)).to_numpy().all()


def test_what_is_not_known_is_refused_by_name_and_left_out_else():
    studies = pd.DataFrame({"study_id": ["a", "b"], "patient_id": ["p", "q"], "findings": ["x", "y z"]})
    bare = StudySet(studies, pd.DataFrame({"image_id": ["i", "j"], "study_id": ["a", "b"], "path": "none.png"}))
    assert set(query_cells(["a", "b"], bare).columns.get_level_values("by")) == {"length"}
    for by, words in ((("sex",), "nothing is known of the sex"), (("colour",), "'colour' is none of finding")):
        with pytest.raises(DataError, match=words):
            query_cells(["a"], bare, by)
    with pytest.raises(DataError, match="the study z is not in the data"):
        query_cells(["z"], bare)
