"What is asked before a comparison trains anything."

import pytest

from medret_nb.data.files import DataError
from medret_nb.data.studies import StudySet
from medret_nb.training.arms import Arm
from medret_nb.training.before import check_measurable, check_out


@pytest.mark.parametrize(
    "split, protocols, ks, words",
    [
        ("nope", ("exact",), (1,), "the split 'nope' has no studies"),
        ("test", ("nope",), (1,), "protocol: 'nope'"),
        ("test", ("exact",), (0,), "ks"),
        ("test", ("exact",), (100_000,), "lie above the gallery"),
    ],
)
def test_what_cannot_be_measured_is_told(small_phantom, split, protocols, ks, words):
    check_measurable(small_phantom, "test", ("exact", "text", "labels"), (1, 5, 100_000))
    with pytest.raises(DataError, match=words):
        check_measurable(small_phantom, split, protocols, ks)


def test_labels_and_texts_that_are_not_there(small_phantom):
    bare = StudySet(
        small_phantom.studies.assign(labels=[{} for _ in range(len(small_phantom))]),
        small_phantom.images,
        folder=small_phantom.folder,
    )
    with pytest.raises(DataError):
        check_measurable(bare, "test", ("labels",), (1,))
    silent = StudySet(
        small_phantom.studies.assign(findings="", impression="", note="", indication=""),
        small_phantom.images,
        folder=small_phantom.folder,
    )
    with pytest.raises(DataError, match="no study has both"):
        check_measurable(silent, "test", ("exact",), (1,))


def test_no_input_is_written_over(small_phantom, tmp_path):
    (tmp_path / "bert").mkdir()
    arms = {"a": Arm("clip", text=str(tmp_path / "bert"))}
    check_out(tmp_path / "out", arms, small_phantom)
    with pytest.raises(DataError, match="holds the studies"):
        check_out(small_phantom.folder, arms, small_phantom)
    with pytest.raises(DataError, match="what arm a starts from"):
        check_out(tmp_path / "x" / ".." / "bert", arms, small_phantom)
