import zipfile
from pathlib import Path

import pytest
from invented import pack

from medret_nb.data.archives import MOST_BYTES, check_member, open_zip, safe_members, tar_members
from medret_nb.data.files import DataError


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/a", "C:\\a", "..\\a", "a\\..\\..\\b"])
def test_names_that_lead_out_are_refused(name):
    with pytest.raises(DataError, match="leads out"):
        check_member(Path("x.zip"), name)


def test_plain_members_of_a_sensible_size_are_let_in():
    check_member(Path("x.zip"), "a/b.xml", MOST_BYTES)
    for options, words in (
        ({"size": MOST_BYTES + 1}, "too many"),
        ({"plain": False}, "a link"),
        ({"size": 3, "most": 2}, "3 b"),
    ):
        with pytest.raises(DataError, match=words):
            check_member(Path("x.zip"), "a/b.xml", **options)


def test_members_of_a_tar_archive_come_by_suffix(tmp_path):
    path = pack(tmp_path / "a.tgz", {"r/1.xml": "one", "r/readme.txt": "no", "r/2.XML": "two"})
    assert list(tar_members(path, ".xml")) == [("r/1.xml", b"one"), ("r/2.XML", b"two")]
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="not a readable tar archive, or cut off"):
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
