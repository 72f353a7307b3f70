import gzip
import os
import random
import tarfile
import zipfile
from pathlib import Path

import pytest
from invented import pack

from medret_nb.data.archives import MOST_REPORT_BYTES, check_member, open_zip, read_loose, safe_members, tar_members
from medret_nb.data.files import DataError


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/a", "C:\\a", "..\\a", "a\\..\\..\\b"])
def test_names_that_lead_out_are_refused(name):
    with pytest.raises(DataError, match="leads out"):
        check_member(Path("x.zip"), name)


def test_plain_members_of_a_sensible_size_are_let_in():
    check_member(Path("x.zip"), "a/b.xml", MOST_REPORT_BYTES)
    for options, words in (
        ({"size": MOST_REPORT_BYTES + 1}, "too many"),
        ({"plain": False}, "a link"),
        ({"size": 3, "most": 2}, "3 b"),
    ):
        with pytest.raises(DataError, match=words):
            check_member(Path("x.zip"), "a/b.xml", **options)


def test_members_of_a_tar_archive_come_by_suffix(tmp_path):
    path = pack(tmp_path / "a.tgz", {"r/1.xml": "one", "r/readme.txt": "no", "r/2.XML": "two"})
    assert list(tar_members(path, ".xml")) == [("r/1.xml", b"one"), ("r/2.XML", b"two")]
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="not a readable tar archive, damaged or cut off"):
        list(tar_members(path, ".xml"))


def test_members_of_a_zip_archive_are_checked_and_errors_while_reading_are_named(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/", "")
        archive.writestr("a/1.txt", "some text")
    with open_zip(path) as archive:
        assert [info.filename for info in safe_members(archive, path)] == ["a/1.txt"]
    data = bytearray(path.read_bytes())
    data[data.index(b"some")] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="a.zip: not a readable zip archive"), open_zip(path) as archive:
        archive.read("a/1.txt")


def test_encrypted_members_and_links_of_a_zip_archive_are_refused(tmp_path):
    path = tmp_path / "a.zip"
    for change, words in (({"external_attr": 0o120777 << 16}, "a link"), ({"flag_bits": 1}, "encrypted")):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("1.txt", "text")
            for name, value in change.items():
                setattr(archive.infolist()[0], name, value)
            with pytest.raises(DataError, match=words):
                list(safe_members(archive, path))


REPORTS = {f"r/{n}.xml": f"<report>{n} {random.Random(n).random()}</report>" * 40 for n in range(40)}


def all_of_zip(path):
    with open_zip(path) as archive:
        return [(info.filename, archive.read(info)) for info in safe_members(archive, path)]


def all_of_tar(path):
    return list(tar_members(path, ".xml"))


def zipped(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in REPORTS.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize("kind", ["tgz", "tbz", "txz", "zip"])
def test_a_flipped_bit_is_refused_or_harmless(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    modes = {"tgz": "w:gz", "tbz": "w:bz2", "txz": "w:xz"}
    made = zipped(path) if kind == "zip" else pack(path, REPORTS, modes[kind])
    read = all_of_zip if kind == "zip" else all_of_tar
    whole = read(made)
    assert dict(whole) == {name: text.encode() for name, text in REPORTS.items()}
    data = made.read_bytes()
    rng = random.Random(0)
    places = [*rng.sample(range(8 * len(data)), 200), *range(80), *range(8 * len(data) - 240, 8 * len(data))]
    refused = 0
    for place in places:
        spoilt = bytearray(data)
        spoilt[place // 8] ^= 1 << place % 8
        made.write_bytes(spoilt)
        try:
            assert read(made) == whole, f"bit {place}"
        except DataError as error:
            refused += 1
            assert str(error).startswith(f"{made}: ") and "\n" not in str(error)
    assert refused > (100 if kind == "zip" else 300)


def test_an_archive_that_is_cut_is_refused_wherever_it_is_cut(tmp_path):
    plain = pack(tmp_path / "a.tar", REPORTS, "w").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as archive:
        borders = [member.offset for member in archive][1:]
    path = tmp_path / "b.tgz"
    for border in (*borders[:4], borders[-1], borders[-1] + 700):
        for content in (plain[:border], gzip.compress(plain[:border])):
            path.write_bytes(content)
            with pytest.raises(DataError, match="damaged or cut off"):
                all_of_tar(path)
    packed = gzip.compress(plain)
    for cut in (1, 4, 8, 9, 100):
        path.write_bytes(packed[:-cut])
        with pytest.raises(DataError, match="damaged or cut off"):
            all_of_tar(path)
    for changed in (packed[:-8] + bytes(8), packed + b"more", gzip.compress(plain + b"more")):
        path.write_bytes(changed)
        with pytest.raises(DataError, match="damaged or cut off"):
            all_of_tar(path)
    path.write_bytes(gzip.compress(plain + bytes(99999)))
    assert len(all_of_tar(path)) == len(REPORTS)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
@pytest.mark.parametrize("size", [2**40, 2**62, 10**7])
def test_a_header_that_claims_more_than_memory_is_refused(tmp_path, kind, size):
    header = tarfile.TarInfo("x")
    header.type = kind
    header.size = size
    path = tmp_path / "a.tgz"
    path.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(2048)))
    with pytest.raises(DataError, match="damaged or cut off"):
        all_of_tar(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_of_any_packing_is_one_line(tmp_path, method):
    path = tmp_path / "a.zip"
    refused = 0
    for place in range(40, 200, 8):
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("1.xml", random.Random(1).randbytes(400))
        data = bytearray(path.read_bytes())
        data[place] ^= 255
        path.write_bytes(data)
        try:
            assert all_of_zip(path)[0][1] == random.Random(1).randbytes(400)
        except DataError as error:
            assert "damaged or cut off" in str(error)
            refused += 1
    assert refused >= 18


def test_names_that_differ_in_the_list_of_contents_are_refused(tmp_path):
    path = zipped(tmp_path / "a.zip")
    data = path.read_bytes()
    for name in (b"r/7.xml", b"r/39.xml"):
        at = data.rindex(name)
        path.write_bytes(data[: at + 3] + b"8" + data[at + 4 :])
        with pytest.raises(DataError, match="another name"):
            all_of_zip(path)


def test_what_lies_loose_is_read_if_it_is_a_plain_file(tmp_path):
    (tmp_path / "1.xml").write_text("text")
    assert read_loose(tmp_path / "1.xml") == b"text" and read_loose(tmp_path / "2.xml") is None
    os.mkfifo(tmp_path / "pipe.xml")
    (tmp_path / "zero.xml").symlink_to("/dev/zero")
    (tmp_path / "folder.xml").mkdir()
    (tmp_path / "loop.xml").symlink_to(tmp_path / "loop.xml")
    (tmp_path / "long.xml").write_bytes(bytes(MOST_REPORT_BYTES + 1))
    words = {"pipe": "no plain", "zero": "no plain", "folder": "no plain", "loop": "cannot be read", "long": "too many"}
    for name, word in words.items():
        with pytest.raises(DataError, match=f"{name}.xml.*{word}"):
            read_loose(tmp_path / f"{name}.xml")
    for name in ("pipe.xml", "zero.xml"):
        with pytest.raises(DataError, match="no plain file"):
            all_of_tar(tmp_path / name)


def test_an_archive_of_more_members_than_two_bytes_can_count_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for n in range(70_000):
            archive.writestr(f"{n}", b"")
    with open_zip(tmp_path / "a.zip") as archive:
        assert len(archive.infolist()) == 70_000
