"""Annotation files in distributed forms: read, or refused with file, line and what to do."""

from __future__ import annotations

import base64
import struct
import sys
import zlib

import openpyxl
import pytest
from datasets_tools import sheet, text
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne.datasets.find import find_file, plain
from duchenne.datasets.problems import UnreadableError
from duchenne.datasets.tables import TEXTS, read_list, read_table, read_text

NAMES = ["video_name", "label"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_any_editor(tmp_path, delimiter, newline, encoding):
    lines = [delimiter.join(cells) for cells in (("video_name", " Label "), ("2522", "6"), ("", ""), ("7", "1"))]
    table = read_table(text(tmp_path / "set.csv", lines, encoding, newline), NAMES)
    assert table.to_dict("list") == {"row": [2, 4], "video_name": ["2522", "7"], "label": ["6", "1"]}


@pytest.mark.parametrize("delimiter", [" ", "   ", ",", ", ", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lists_of_any_delimiter(tmp_path, delimiter, newline):
    path = text(tmp_path / "list.txt", [f"a.jpg{delimiter}5", "", f"b.jpg{delimiter}4"], newline=newline)
    assert read_list(path, ["name", "label"]).to_numpy().tolist() == [[1, "a.jpg", "5"], [3, "b.jpg", "4"]]


def test_names_of_lists_may_hold_blanks_and_chinese(tmp_path):
    path = text(tmp_path / "list.txt", ["人脸 1.jpg 5", "b.jpg 4"], "gb18030")
    assert read_list(path, ["name", "label"])["name"].tolist() == ["人脸 1.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("a.jpg\n", "line 1 is 'a.jpg': expected 2 cells (name, label) divided by blanks"),
        ("a.jpg,5\nb.jpg\n", "line 2 has 1 cells, expected 2 (name, label)"),
        ("a.jpg 5\nb.jpg\n", "line 2 has 1 cells"),
    ],
)
def test_lists_that_do_not_fit(tmp_path, content, message):
    with pytest.raises(UnreadableError) as caught:
        read_list(text(tmp_path / "list.txt", content), ["name", "label"])
    assert message in str(caught.value)
    assert caught.value.source.endswith("list.txt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("video_name,lable\n1,2\n", "the column 'label' is missing (did you mean 'lable'?)"),
        ("video_name,class\n1,2\n", "the column 'label' is missing (there are: video_name, class)"),
        ("1,2\n3,4\n", "no row holds the column 'video_name'"),
        ("video_name|label\n1|2\n", "no row holds the column 'video_name'"),
        ("", "is empty"),
    ],
)
def test_tables_that_do_not_fit(tmp_path, content, message):
    with pytest.raises(UnreadableError) as caught:
        read_table(text(tmp_path / "set.csv", content), NAMES)
    assert message in str(caught.value)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"a.jpg 5\nb\xff\xff.jpg 4\n")
    with pytest.raises(UnreadableError, match=r"neither UTF-8, UTF-16 nor GB 18030 text \(byte 0xff in line 2\)"):
        read_text(path)
    path.write_bytes("a.jpg 5\n".encode("utf-16-le"))
    with pytest.raises(UnreadableError, match="zero bytes"):
        read_text(path)


def test_excel_with_notes_merged_cells_and_blank_rows(tmp_path):
    rows = [
        ("Codes of the clips", None, None, None, None),
        (None,) * 5,
        ("Subject", "Filename", "Frames", None, "Emotion"),
        (None, None, "Onset Frame", "Offset Frame", None),
        ("006", "006_1_2", 5562, 5632.0, "Anger"),
        (None,) * 5,
        (" 007 ", "007_1", 4, "/", "Other"),
        (None,) * 5,
        ("", " ", None, None, None),
    ]
    path = sheet(tmp_path / "codes.xlsx", rows, merge=["A1:E1", "C3:D3", "A3:A4", "B3:B4", "E3:E4"], empty_first=True)
    table = read_table(path, ["Subject", "Filename", "Onset Frame", "Offset Frame"], ["Emotion", "Notes"])
    assert table.to_numpy().tolist() == [
        [5, "006", "006_1_2", "5562", "5632", "Anger", ""],
        [7, "007", "007_1", "4", "/", "Other", ""],
    ]


def test_cells_of_excel_stay_text(tmp_path):
    rows = [("Subject", "Action Units"), ("01", 12), (1, "4+7"), ("012", "NA")]
    table = read_table(sheet(tmp_path / "codes.xlsx", rows), ["Subject"], ["Action Units"])
    assert table.to_numpy().tolist() == [[2, "01", "12"], [3, "1", "4+7"], [4, "012", "NA"]]


def test_excel_files_that_cannot_be_read(tmp_path):
    path = text(tmp_path / "codes.xlsx", "<html>404</html>")
    with pytest.raises(UnreadableError, match="is a web page: download the file itself"):
        read_table(path, ["Subject"])
    with pytest.raises(UnreadableError, match="holds no cell"):
        read_table(sheet(tmp_path / "codes.xlsx", []), ["Subject"])
    with pytest.raises(UnreadableError, match=r"the column 'Filename' is missing \(did you mean 'File name s'\?\)"):
        read_table(sheet(tmp_path / "codes.xlsx", [("Subject", "File name s")]), ["Subject", "Filename"])


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 99999), st.integers(1, 7)), min_size=1), st.sampled_from([",", ";", "\t"]))
def test_what_is_written_is_read(tmp_path_factory, rows, delimiter):
    lines = [delimiter.join(NAMES), *(delimiter.join(map(str, row)) for row in rows)]
    table = read_table(text(tmp_path_factory.mktemp("t") / "set.csv", lines), NAMES)
    assert [(int(a), int(b)) for _, a, b in table.itertuples(index=False)] == rows


@pytest.mark.parametrize("name", ["train(single-labeled)", "train(single_labeled)", "train_single-labeled"])
def test_loosely_spelt_names_are_one(name):
    assert plain(name) == "trainsinglelabeled"


def test_the_table_is_on_the_sheet_that_has_its_columns(tmp_path):
    path = sheet(tmp_path / "codes.xlsx", [("Subject", "what it means"), ("Subject", "a person")], empty_first=False)
    book = openpyxl.load_workbook(path)
    page = book.create_sheet("codes")
    for cells in (("Subject:", None), ("Subject", "Filename"), ("006", "006_1")):
        page.append(cells)
    book.save(path)
    assert read_table(path, ["Subject", "Filename"]).to_numpy().tolist() == [[3, "006", "006_1"]]


# Two sheets, Notes and Sheet1, as xlwt 1.3 writes them; zlib, base64.
XLS = """
eNrtGEtIVFH03DfvzTijozOmkQYyCFmZkIObWthkMbrKLBeFCDY6d3B0fDO8eUG1KMtmGQStijaCmzb2WfQPatciKGoRBIHWMgiCghbq69xz35vU
ZuFASco7j3vu+dxzzn33nvt5783r8Nz03cZ5WAUHwANLlh+8y2QMi99hQoB6yxKkU1dgsVzYUOCvwIn0avAk+Mon5lDM9zwocEd9gRjgE5ZByEFv
VueRdYRD1IcEE33oZCrmngI3sVRDA/WrlvAI4S2Eb1Pbp4QPkuQK4U5sO8cG4HWst3WfnccnlWbSVSNm8IBsPpAkCvXwUuTxhatMttWgy0gnMv+n
okmtghnAmevhOjcSmTmowymcgR9WBOC7s1afR1z5+soZoPznSrmvhPyaogJMgnWKiUQsQBAGVaHRcMGZPF/ADL2nyXXZP8q5GV1AJ0Hkg7QG4HA2
yfORbCpijvLISCady2Mu9J8eHuMjJm7H3ekM1xMTPABwVM9zs9tABrfwrhw/Q3QlKlIpRxMGiOfN9ETC5MlIfCJrprM6Lor2KLqK9+1vH2qPptB6
NJHLpXWeF7GkuAOzci8GMXjOQDmaBcRZQXtLaMXeEqQVV4U4CTVEh2ndhfD0WLj17e2R4b7YEEkm6TyRp84OMUxgwUVhgcbVRY3ErWSxh/Al8rqd
6EbCdTicWLf01dtE9xS1uUzaFozTQfAutnMZvQvpwpdjD5sKn2O7kZ7tmT9XN/s+Ng3NeAom0V48U9DG2tiN6wIexZya2fvTR8INf+xVFUrI7rtl
H601sAgBIsPy/FVq4b5oinvZb1iPUfWA43Wjjqq35KiKN5acMzqSU5DzFDkPcmqRU5HTipyGnNeOw0rEYRTHZ7dnFEeM9jPYRudXGB5Ti6+EB5jw
L1sKz37bs7LK83klQLIwjNme5fyKHkmd8NxY1Ik3qCzqVDuS1Ik4VU52QanscsEFF1xwwQUXNj8wugHJW59Kdxx59/PZ/3UWsSy5v0k2LRyHLD4m
fpbGQcfagLNl5c9W0Jjji63RxvlfKOAERjdgHIapH+Nl5y9+EbDl77Nmw9DfW0Llxl8qp5//OP4v0MAmzA==
"""


def test_excel_of_before_2007(tmp_path):
    path = tmp_path / "CASME2-coding-20140508.XLS"
    path.write_bytes(zlib.decompress(base64.b64decode(XLS)))
    columns = ["Subject", "Filename", "OnsetFrame", "ApexFrame", "OffsetFrame", "Estimated Emotion"]
    assert read_table(path, columns).to_numpy().tolist() == [
        [2, "01", "EP90_01f", "46", "59", "86", "happiness"],
        [3, "26", "EP90_03", "6", "/", "86", "repression"],
    ]
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UnreadableError, match="cannot be read as an Excel file"):
        read_table(path, columns)
    data = bytearray(zlib.decompress(base64.b64decode(XLS)))
    folders, chains = struct.unpack_from("<I24xI", data, 48)
    struct.pack_into("<I", data, 512 * (1 + chains) + 4 * folders, folders)  # a sector that is followed by itself
    path.write_bytes(data)
    if sys.platform == "linux":
        with pytest.raises(UnreadableError, match=r"as an Excel file \(memory allocation of \d+ bytes failed\)"):
            read_table(path, columns)


def test_tables_without_a_row(tmp_path):
    with pytest.raises(UnreadableError, match="holds no row below its header"):
        read_table(text(tmp_path / "set.csv", "video_name,label\n,\n"), NAMES)


def test_copies_and_lock_files_beside_a_list_are_not_taken_for_it(tmp_path):
    for name in ("set_1 (1).csv", "set_1 - Copy.csv", "~$set_1.csv", "._set_1.csv", "a/set_1.csv"):
        text(tmp_path / name, "x")
    assert find_file(tmp_path, "set1", TEXTS).name != "set_1.csv"
    wanted = text(tmp_path / "set_1.csv", "x")
    assert find_file(tmp_path, "set1", TEXTS) == wanted
