"""The sentences of the phrase book: what they deny, whose they are, and that none is missing."""

from medret_nb.data.finding_names import FINDINGS
from medret_nb.phantom import phrases
from medret_nb.phantom.assertions import COVERS
from medret_nb.phantom.scenes import DEVICE_KINDS, FINDING_KINDS


def test_absences_deny_what_they_stand_for():
    for site in "AB":
        for kind, words in phrases.ABSENT[site].items():
            for _, finding, label in words:
                assert kind in COVERS[finding] or set(COVERS[finding]) <= set(COVERS[kind])
                assert label in FINDINGS


def test_every_device_and_every_finding_has_its_sentences():
    for site in "AB":
        assert set(phrases.DEVICES[site]) == set(DEVICE_KINDS)
        assert set(phrases.FRAMES[site]) == {"plain", "hedged", "same", "worse", "better", "new", "gone"}
    assert set(phrases.REASONS) - {""} == set(FINDING_KINDS)


def words(value):
    """All strings in a table of tables and lists."""
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    return [word for part in parts for word in words(part)]


def test_each_site_has_its_own_marks():
    tables = {name: table for name, table in vars(phrases).items() if name.isupper() and set(table) == {"A", "B"}}
    assert {"FRAMES", "INCIDENTAL", "CLEAR", "HEART", "REMARKS", "DEVICES", "ROTATED"} <= set(tables)
    for table in tables.values():
        assert not any("XXXX" in word for word in words(table["A"]))
        assert not any("___" in word for word in words(table["B"]))
