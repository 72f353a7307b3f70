"""Reports in small invented trees: no text here comes from the collection."""

import zipfile

import pandas as pd
import pytest
from invented import MIMIC_REPORTS, mimic_member, mimic_reports_zip, mimic_tree

from medret_nb.data.files import DataError
from medret_nb.data.mimic import from_mimic
from medret_nb.data.mimic_reports import find_reports, read_reports


@pytest.fixture
def tree(tmp_path):
    root = mimic_tree(tmp_path / "mimic")
    mimic_reports_zip(root / "mimic-cxr-reports.zip")
    return root


def refusal(action, *arguments, **options):
    with pytest.raises(DataError) as caught:
        action(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("how", ["zip elsewhere", "folder", "beside the films", "sectioned"])
def test_reports_come_from_wherever_they_are(tmp_path, how):
    root = mimic_tree(tmp_path / "mimic", packed=False)
    where = tmp_path / "elsewhere"
    where.mkdir()
    given = None
    if how == "zip elsewhere":
        given = mimic_reports_zip(where / "any.zip")
    elif how == "sectioned":
        given = where / "mimic_cxr_sectioned.csv"
        pd.DataFrame(
            {
                "study": ["s50000001", "s50000002", "s50000003"],
                "impression": ["Effusion.", "No fluid.", ""],
                "findings": ["Small left\neffusion.", "", ""],
                "last_paragraph": ["Effusion.", "No fluid.", "The heart is large."],
                "comparison": ["", "", "___."],
            }
        ).to_csv(given, index=False)
    else:
        base = root if how == "beside the films" else where
        for study, text in MIMIC_REPORTS.items():
            (base / mimic_member(study)).parent.mkdir(parents=True, exist_ok=True)
            (base / mimic_member(study)).write_text(text)
        given = None if how == "beside the films" else where
    s = from_mimic(root, reports=given, quiet=True).studies
    assert s["findings"].tolist() == ["Small left effusion.", "", "", ""] and s["impression"].tolist() == [
        "Effusion.",
        "No fluid.",
        "",
        "",
    ]
    assert s["note"].tolist() == ["", "", "The heart is large.", ""]


def link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.parametrize(
    "extra, words",
    [
        (("../s50000004.txt", "x"), "leads out"),
        (("/s50000004.txt", "x"), "leads out"),
        (("a/../../b.txt", "x"), "leads out"),
        (("C:\\s1.txt", "x"), "leads out"),
        ((link("files/s50000004.txt"), "/etc/hostname"), "a link"),
        (("other/s50000001.txt", "again"), "report s50000001 stands in it twice"),
        (("files/s50000004.txt", "x" * 4_100_000), "too many for a report"),
    ],
)
def test_unsafe_archives_are_refused_as_a_whole(tree, tmp_path, extra, words):
    mimic_reports_zip(tree / "mimic-cxr-reports.zip", [extra])
    before = sorted(path.name for path in tmp_path.rglob("*"))
    assert words in refusal(from_mimic, tree, tmp_path / "out", quiet=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_broken_and_foreign_reports(tree, tmp_path, capsys):
    path = tree / "mimic-cxr-reports.zip"
    data = path.read_bytes()
    flipped = bytearray(data)
    flipped[data.index(b"Cough")] ^= 1
    for broken, words in (
        (data[: len(data) // 2], "neither a zip archive"),
        (bytes(flipped), "not a readable zip archive"),
        (b"x", "neither a zip"),
    ):
        path.write_bytes(broken)
        assert words in refusal(from_mimic, tree, quiet=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("files/s99.txt", "FINDINGS: a.")
    assert "there is no report of these 4 studies" in refusal(from_mimic, tree)
    assert "no such file" in refusal(from_mimic, tree, reports=tmp_path / "nowhere.zip")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(mimic_member("50000001"), "FINDINGS: M\xfcll.".encode("latin-1"))
    assert (
        from_mimic(tree).studies["findings"][0] == "M\xfcll."
        and "not UTF-8 and were read as Latin-1: s50000001" in capsys.readouterr().out
    )


def test_only_the_reports_that_are_wanted_are_read(tree):
    assert set(read_reports(tree / "mimic-cxr-reports.zip", {"s50000002": "p10000001"})[0]) == {"s50000002"}


def test_reports_are_found_beside_the_tables(tree, tmp_path):
    assert find_reports(tree, None) == tree / "mimic-cxr-reports.zip"
    assert find_reports(tmp_path / "nowhere", None) is None
