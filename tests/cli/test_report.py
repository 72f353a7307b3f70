"""The page of a run: with hostile texts, of restricted studies, without a network."""

import pytest

from medret_nb.cli.report import write_report
from medret_nb.data.files import DataError
from medret_nb.data.studies import NOT_FOR_SHARING, StudySet


def test_the_page_shows_texts_as_texts_and_asks_nobody(hostile_run, page, tmp_path):
    made = write_report(hostile_run / "run", StudySet.load(hostile_run / "set"), out=tmp_path)
    page.goto(made.as_uri())
    assert not page.outside and not page.errors and page.evaluate("window.hit") is None
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    text = page.inner_text("body")
    for words in (
        "In short",
        "Does it know when it is wrong?",
        "What was found",
        "<script>window.hit=1</script> effusion",
        "normalised excess AURC",
        "How training went",
    ):
        assert words in text, words


@pytest.mark.parametrize("show", [None, True])
def test_restricted_studies(hostile_run, tmp_path, show):
    studies = StudySet.load(hostile_run / "set")
    studies.info["restricted"] = True
    html = write_report(hostile_run / "run", studies, out=tmp_path, show=show).read_text()
    assert (
        NOT_FOR_SHARING in html and ("Philomena" in html) == bool(show) and ('alt="radiograph"' in html) == bool(show)
    )


def test_a_folder_that_is_no_run(tmp_path, hostile_run):
    with pytest.raises(DataError, match="no run"):
        write_report(tmp_path, StudySet.load(hostile_run / "set"))
