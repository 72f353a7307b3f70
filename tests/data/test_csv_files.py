import gzip
import os

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.data.csv_files import check_unique, check_values, read_columns, read_table
from medret_nb.data.files import DataError
from medret_nb.data.sources import from_csv


@given(st.lists(st.lists(st.text(alphabet='ab,"\n é', max_size=6), min_size=2, max_size=2), max_size=5))
@settings(deadline=None)
def test_any_table_comes_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    pd.DataFrame(rows, columns=["study_id", "findings"]).to_csv(path, index=False)
    assert read_table(path).to_numpy().tolist() == [list(row) for row in rows]


@pytest.mark.parametrize(
    "data, words",
    [
        (b"", "the file is empty"),
        (b"a,b\n1\n", "line 2: 1 fields, but the heading has 2"),
        (b"a,b\n1,2\n\n1,2,3\n", "line 4: 3 fields"),
        (b"a,a\n1,2\n", "'a' stands twice"),
        (b"a,\n1,2\n", "has no name"),
        (b"a,b\n1,M\xfcller\n", "line 2: byte 0xfc (at 7) is not UTF-8"),
        (b"\xef\xbb\xbfa,b\n\xff,2\n", "line 2: byte 0xff (at 7)"),
        ("a,b\n1,2".encode("utf-16"), "UTF-16"),
        (b"a,b\n1,\0\n", "zero byte"),
        (b'a,b\n1,"2\n', "unexpected end of data"),
    ],
)
def test_broken_tables_are_refused_with_an_address(tmp_path, data, words):
    path = tmp_path / "studies.csv"
    path.write_bytes(data)
    for read in (read_table, from_csv):
        with pytest.raises(DataError) as caught:
            read(path)
        said = str(caught.value)
        assert words in said and "studies.csv" in said and "\n" not in said


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path):
    (tmp_path / "studies.csv").write_bytes(b'\xef\xbb\xbfstudy_id,findings\r\ns1,"a\r\nb"\r\n')
    assert read_table(tmp_path / "studies.csv").to_dict("records") == [{"study_id": "s1", "findings": "a\r\nb"}]


def test_values_of_a_large_table_come_as_written(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,c\n007,NA,\n1e5,nan,x\n")
    assert read_columns(tmp_path / "t.csv", ("b", "a"), ("z",)).to_dict("list") == {
        "b": ["NA", "nan"],
        "a": ["007", "1e5"],
    }


def test_what_cannot_be_right_is_named_with_file_and_row(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("film,view\na,PA\n../b,AP\na,PA\n")
    table = read_columns(path, ("film", "view"))
    check_values(table, path, view="PA|AP")
    with pytest.raises(DataError, match=r"t.csv, row 3: film is '../b'"):
        check_values(table, path, film=r"\w+")
    with pytest.raises(DataError, match=r"t.csv, row 4: film a stands there twice; 1 such row"):
        check_unique(table, path, "film")
    with pytest.raises(DataError, match="the column side is missing; there are: film, view"):
        read_columns(path, ("side",))


@pytest.mark.parametrize("change", ["crc", "length", "half", "bit"])
def test_a_packed_table_that_is_damaged_is_refused(tmp_path, change):
    rows = "".join(f"{k},{k * k % 977}\n" for k in range(20_000))
    data = bytearray(gzip.compress(f"a,b\n{rows}".encode()))
    place = {"crc": len(data) - 7, "length": len(data) - 2, "half": 0, "bit": len(data) // 2}[change]
    data[place] ^= 64 if change != "half" else 0
    (tmp_path / "t.csv.gz").write_bytes(data[: len(data) // 2] if change == "half" else data)
    with pytest.raises(DataError, match="t.csv.gz: not a readable table, or cut off"):
        read_columns(tmp_path / "t.csv.gz", ("a", "b"))


def test_what_is_no_plain_file_is_refused_and_not_read_for_ever(tmp_path):
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.csv")
    for name in ("zero.csv", "pipe.csv"):
        for read in (read_table, lambda path: read_columns(path, ("a",))):
            with pytest.raises(DataError, match=f"{name}: is no plain file"):
                read(tmp_path / name)
