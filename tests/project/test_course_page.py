"""COURSE.md: its links lead somewhere, and its minutes are those at the heads of the lessons."""

import re

import pytest
from support import ROOT, cells

PAGE = (ROOT / "COURSE.md").read_text(encoding="utf-8")
SECTIONS = re.split(r"^#{2,3} ", PAGE, flags=re.M)[1:]
TRACKS = [section for section in SECTIONS if "](nbs/" in section]
WEEKS = [section for section in TRACKS if section.startswith("Week ")]


def minutes(link: str) -> int:
    """What a lesson's head says of reading it."""
    told = re.search(r"\| time \| (an hour|\d+ minutes)", cells(ROOT / link)[0][1])
    return 60 if told[1] == "an hour" else int(told[1].split()[0])


def links(section: str) -> list[str]:
    """The notebooks that a section names."""
    return re.findall(r"\]\((nbs/[^)]+\.ipynb)\)", section)


@pytest.mark.parametrize("section", TRACKS, ids=lambda section: section.splitlines()[0])
def test_the_minutes_are_those_of_the_lessons(section):
    found = links(section)
    assert len(found) == len(set(found)) and int(re.search(r"(\d+) minutes", section)[1]) == sum(map(minutes, found))


def test_twelve_weeks_teach_every_method_and_sum_up():
    taught = [link for week in WEEKS for link in links(week)]
    assert len(WEEKS) == 12 and len(taught) == len(set(taught))
    methods = {f.name for f in (ROOT / "nbs/methods").glob("6*.ipynb") if f.name[:3] not in ("627", "630")}
    assert methods | {"415_clip.ipynb"} <= {link.split("/")[-1] for link in taught}
    whole = next(section for section in SECTIONS if section.startswith("Every method"))
    assert int(re.search(r"(\d+) minutes", whole)[1]) == sum(map(minutes, taught))
    assert all("**To argue about.**" in week and "<details>" in week for week in WEEKS)
