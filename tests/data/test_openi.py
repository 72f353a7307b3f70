import gzip
import tarfile

import numpy as np
import pytest
from invented import openi_archive, openi_report, pack

from medret_nb.data.files import DataError
from medret_nb.data.openi import code_sets, openi_counts, parse_report, read_openi, sets_remark
from medret_nb.data.reports import duplicate_share
from medret_nb.data.sources import from_openi


@pytest.fixture
def archive(tmp_path):
    return openi_archive(tmp_path / "reports.tgz")


def test_sections_codes_and_images_of_one_report():
    one = parse_report(openi_report(7, "Small\n  <b>left</b> effusion &amp; more.", "Pleural Effusion/left "), "here")
    assert (one.study_id, one.findings, one.impression, one.indication) == (
        "CXR7",
        "Small left effusion & more.",
        "",
        "Cough.",
    )
    assert one.major == ("Pleural Effusion/left",) and one.automatic == () and one.images == ("CXR7_IM-0001-1001",)


def test_of_two_sections_with_one_label_the_last_stands():
    once = '<AbstractText Label="FINDINGS">Small effusion.</AbstractText>'
    report = openi_report(1, "Small effusion.")
    assert report.count(once) == 1
    twice = report.replace(once, once + once.replace("Small", "Large"))
    assert parse_report(twice, "twice.xml").findings == "Large effusion."


def test_reports_of_equal_codes_have_one_number():
    codes = ["Pleural Effusion/left", "normal", "Pleural Effusion/left", "normal"]
    reports = [parse_report(openi_report(k, "Clear.", code), "here") for k, code in enumerate(codes)]
    assert code_sets(reports).tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    "text, words",
    [
        (openi_report(1)[:200], "cut off"),
        ("", "cut off"),
        ("<html/>", "not an OpenI report"),
        ("<eCitation/>", "not an OpenI report"),
        ('<!DOCTYPE e [<!ENTITY x "ha">]><eCitation><uId id="a"/>&x;</eCitation>', "refused"),
        ('<!DOCTYPE e SYSTEM "http://127.0.0.1/x.dtd"><eCitation><uId id="a"/></eCitation>', "refused"),
        ('<?xml version="1.0" encoding="no-such"?><eCitation/>', "cannot be decoded"),
    ],
)
def test_bad_xml_is_one_line_naming_the_member(tmp_path, text, words):
    path = pack(tmp_path / "a.tgz", {"r/1.xml": openi_report(1), "r/2.xml": text})
    with pytest.raises(DataError) as caught:
        read_openi(path)
    assert "r/2.xml" in str(caught.value) and words in str(caught.value) and "\n" not in str(caught.value)


def link(name, kind):
    header = tarfile.TarInfo(name)
    header.type, header.linkname = kind, "/etc/hostname"
    return header


@pytest.mark.parametrize(
    "name, member, words",
    [
        ("../1.xml", openi_report(1), "leads out"),
        ("a/../../1.xml", openi_report(1), "leads out"),
        ("/1.xml", openi_report(1), "leads out"),
        ("C:\\1.xml", openi_report(1), "leads out"),
        ("..\\1.xml", openi_report(1), "leads out"),
        ("1.xml", link("1.xml", tarfile.SYMTYPE), "a link"),
        ("1.xml", link("1.xml", tarfile.LNKTYPE), "a link"),
        ("1.xml", link("1.xml", tarfile.FIFOTYPE), "a link"),
        ("1.xml", openi_report(1, "x" * 4_100_000), "too many for a report"),
    ],
)
def test_unsafe_archives_are_refused_as_a_whole(tmp_path, name, member, words):
    path = pack(tmp_path / "a.tgz", {"0.xml": openi_report(0), name: member})
    with pytest.raises(DataError, match=words):
        from_openi(path, tmp_path / "out", quiet=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tgz"]


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
def test_an_archive_cut_off_is_never_read_as_a_smaller_one(archive, tmp_path, share):
    data = archive.read_bytes()
    cut = tmp_path / "cut.tgz"
    cut.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError, match="cut off"):
        read_openi(cut)


def test_other_sources_that_are_none(tmp_path):
    (tmp_path / "text.tgz").write_text("hello")
    with gzip.open(tmp_path / "one.tgz", "wb") as file:
        file.write(b"not a tar archive" * 100)
    for name in ("text.tgz", "one.tgz"):
        with pytest.raises(DataError, match="not a readable tar archive"):
            read_openi(tmp_path / name)
    with pytest.raises(DataError, match="no such file"):
        read_openi(tmp_path / "nowhere.tgz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no XML report"):
        read_openi(tmp_path / "empty")
    with pytest.raises(DataError, match="CXR1 stands in it twice"):
        read_openi(pack(tmp_path / "twice.tgz", {"1.xml": openi_report(1), "b/1.xml": openi_report(1)}))


def test_a_folder_reads_like_the_archive_in_order_of_the_numbers(archive, tmp_path):
    with tarfile.open(archive) as packed:
        for member in packed:
            path = tmp_path / "xml" / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(packed.extractfile(member).read())
    assert read_openi(tmp_path / "xml") == read_openi(archive)
    assert [r.study_id for r in read_openi(archive)] == [f"CXR{n}" for n in range(1, 25)]


def test_the_remark_on_sets_says_what_they_leave_to_retrieval():
    groups = np.repeat([0, 1, 2], [20, 2, 1])
    said = sets_remark("sets of codes", groups)
    ceiling = sum(min(1, 10 / n) * n for n in (20, 2, 1)) / 23
    assert said.startswith(
        f"distinct sets of codes: 3 for 23 reports; {22 / 23:.1%} share theirs with another, so that"
    )
    assert f"R@10 cannot exceed {ceiling:.3f} if nothing else" in said


# the real data


def test_all_openi_reports_with_the_known_counts(shared_data):
    reports = read_openi(shared_data / "openi" / "NLMCXR_reports.tgz")
    assert openi_counts(reports) == {
        "reports": 3955,
        "findings and impression": 3419,
        "impression only": 502,
        "findings only": 6,
        "neither": 28,
        "without an image": 104,
        "image references": 7470,
        "with XXXX": 3411,
    }
    assert code_sets(reports).max() + 1 == 1961
    assert 0.55 < duplicate_share([r.impression for r in reports if r.impression]) < 0.60


@pytest.mark.parametrize("name", ["/x", "../../x", "a/b", "..", "x\x00".replace("\x00", "&#x85;"), "x" * 200])
@pytest.mark.parametrize("tag", ["uId", "parentImage"])
def test_ids_that_are_no_names_of_files_are_refused(name, tag):
    ids = {"uId": "CXR1", "parentImage": "CXR1_1"} | {tag: name}
    text = f'<eCitation><uId id="{ids["uId"]}"/><parentImage id="{ids["parentImage"]}"/></eCitation>'
    with pytest.raises(DataError, match=f"^1.xml: {tag}: .* is no name of a file"):
        parse_report(text, "1.xml")
