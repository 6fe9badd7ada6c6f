"""Annotation files changed by editors, operating systems and mistakes: the same index, or one clear error."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from datasets_tools import RAF, casme2, dataset, dfew, ferv39k, mafw, pictures, raf, samm, smic, text
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from duchenne.datasets.build import build_index
from duchenne.datasets.problems import IndexProblems

Rows = Sequence[Sequence[str]]


@dataclass
class Case:
    """A dataset on the disk whose one annotation file is written anew for each example."""

    layout: str
    file: str  # below the root
    rows: Rows
    header: Sequence[str] = ()
    delimiter: str = ","
    options: dict = field(default_factory=dict)
    build: Callable[[Path], None] = lambda root: None


CODES = ("Subject", "Filename", "OnsetFrame", "ApexFrame", "OffsetFrame", "Action Units", "Estimated Emotion")


AFFECTNET = ("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression")


def affectnet(root: Path) -> None:
    pictures(root / "Manually_Annotated_Images", ["12/a.jpg", "12/脸.JPG", "3/c.jpg"])
    lists = root / "Manually_Annotated_file_lists"
    text(lists / "validation.csv", [",".join(AFFECTNET), "3/c.jpg,0,0,5,6,1;2,0"])


def caer_s(root: Path) -> None:
    pictures(root, ["train/Sad/0157.png", "train/Anger/0761.png", "test/Sad/0001.png"])
    text(root / "boxes/test.txt", "Sad/0001.png,5,1,2,3,4")


TABLES = {
    "casme2": Case(
        "casme2",
        "CASME2-coding-20190701",
        [
            ("01", "EP90_01f", "46", "59", "86", "4+7", "happiness"),
            ("26", "EP90_03", "6", "/", "86", "?", "repression"),
        ],
        CODES,
        options={"label_set": "casme2_5"},
        build=lambda root: casme2(
            root, [("01", "EP90_01f", 46, 59, 86, 12, "happiness"), ("26", "EP90_03", 6, "/", 86, 4, "repression")]
        ),
    ),
    "samm": Case(
        "samm",
        "SAMM_Micro_FACS_Codes_v2",
        [
            ("006", "006_9_1", "5562", "5588", "5632", "4+7", "Anger"),
            ("007", "007_9_2", "497", "511", "541", "R15 ", "Happiness"),
        ],
        CODES,
        options={"label_set": "samm_5"},
        build=lambda root: samm(
            root, [("006", "006_9_1", 5562, 5588, 5632, 4, "Anger"), ("007", "007_9_2", 497, 511, 541, 1, "Happiness")]
        ),
    ),
    "dfew": Case(
        "dfew",
        "EmoLabel_DataSplit/test(single-labeled)/set_1",
        [("2522", "6")],
        ("video_name", "label"),
        build=dfew,
    ),
    "smic": Case(
        "smic",
        "smic_apex",
        [("s1_ne_01", "101"), ("s02_po_3", "103")],
        ("clip", "apex_frame"),
        options={"annotations": True},
        build=lambda root: smic(root, ["s1_ne_01", "s2_po_03"], first=100, n=6),
    ),
}
"""Files with a header, which may be spreadsheets as well; the names are without ending."""

DELIMITED = TABLES | {
    "affectnet": Case(
        "affectnet",
        "Manually_Annotated_file_lists/training",
        [("12/a.jpg", "1", "2", "30", "40", "6.5;7", "1"), ("12/脸.JPG", "0", "0", "9", "9", "", "6")],
        AFFECTNET,
        options={"label_set": "affectnet_8"},
        build=affectnet,
    ),
}

LISTS = {
    "raf_db": Case(
        "raf_db",
        "basic/EmoLabel/list_patition_label.txt",
        [line.split() for line in RAF],
        delimiter=" ",
        build=raf,
    ),
    "ferv39k": Case(
        "ferv39k",
        "4_setups/All_scenes/train_All.csv",
        [("Action/Happy/0267", "Happy"), ("War/Fear/0069", "Fear")],
        delimiter=" ",
        build=ferv39k,
    ),
    "mafw": Case(
        "mafw",
        "Train & Test Set/single/no_caption/set_2/test.txt",
        [("07499.mp4", "anxiety")],
        delimiter=" ",
        build=mafw,
    ),
    "caer_s": Case(
        "caer_s",
        "boxes/train.txt",
        [("train/Sad/0157.png", "5", "191", "109", "293", "211"), ("train/Anger/0761.png", "0", "1", "2", "3", "4")],
        build=caer_s,
        options={"annotations": True},
    ),
}

ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "gb18030"])
NEWLINES = st.sampled_from(["\n", "\r\n"])
SPELLINGS = st.sampled_from(
    [str, str.upper, str.lower, str.title, lambda name: f"  {name} ", lambda name: name.replace(" ", "_")]
)
many = settings(
    max_examples=6,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def at(tmp_path, request):
    """A case, its root (with its files other than the annotations), its configuration, and its index."""
    case = request.param
    case.build(tmp_path)
    (tmp_path / case.file).parent.mkdir(parents=True, exist_ok=True)
    options = dict(case.options)
    if options.pop("annotations", False):
        options["annotations"] = tmp_path if case.layout == "smic" else tmp_path / "boxes"
    config = dataset(case.layout, tmp_path, **options)
    table = [case.header, *case.rows] if case.header else case.rows
    write(fresh(tmp_path, case, ".csv" if case.header else ""), table, case.delimiter)
    return case, tmp_path, config, build_index(case.layout, config).rows


def over(cases: dict[str, Case]):
    return pytest.mark.parametrize("at", cases.values(), ids=cases.keys(), indirect=True)


def fresh(root: Path, case: Case, ending: str = "") -> Path:
    """Where to write the annotations, without those of the last example."""
    path = root / (case.file + ending)
    for old in path.parent.glob(path.name.split(".")[0] + "*"):
        if old.is_file():
            old.unlink()
    return path


def write(path: Path, rows: Rows, delimiter: str, newline: str = "\n", encoding: str = "utf-8") -> Path:
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, lineterminator=newline).writerows(rows)
    path.write_bytes(file.getvalue().encode(encoding))
    return path


@over(DELIMITED)
@many
@given(data=st.data())
def test_a_table_with_header_means_the_same_however_it_is_saved(at, data):
    case, root, config, rows = at
    order = data.draw(st.permutations(range(len(case.header))))
    spell = data.draw(SPELLINGS)
    table = [[spell(case.header[i]) for i in order], *([row[i] for i in order] for row in case.rows)]
    blanks = data.draw(st.lists(st.integers(1, len(table)), max_size=3))
    for place in blanks:
        table.insert(place, [""] * len(order))
    delimiter = data.draw(st.sampled_from([",", "\t"] if case.layout == "affectnet" else [",", ";", "\t"]))
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig"]) if case.layout == "affectnet" else ENCODINGS)
    ending = data.draw(st.sampled_from([".csv", ".CSV"]))
    write(fresh(root, case, ending), table, delimiter, data.draw(NEWLINES), encoding)
    pd.testing.assert_frame_equal(build_index(case.layout, config).rows, rows)


@over(TABLES)
@many
@given(data=st.data())
def test_a_spreadsheet_means_the_same_however_it_is_saved(at, data):
    case, root, config, rows = at
    order = data.draw(st.permutations(range(len(case.header))))
    as_numbers, unnamed, titles = data.draw(st.booleans()), data.draw(st.booleans()), data.draw(st.integers(0, 13))

    def cell(text: str) -> str | float:
        return float(text) if as_numbers and text.isdigit() and text == str(int(text)) else text

    spell = data.draw(SPELLINGS)
    table = [[spell(case.header[i]) for i in order], *([cell(row[i]) for i in order] for row in case.rows)]
    if unnamed:
        table = [[None, *cells[:1], None, *cells[1:]] for cells in table]
    book = openpyxl.Workbook()
    for name in data.draw(st.lists(st.sampled_from(["Notes", "Summary"]), unique=True)):
        book.create_sheet(name, 0).append([case.header[0], "what it means"])
    page = book["Sheet"]
    for i in range(titles):
        page.append([f"Note {i}", None, "see the paper"])
    for cells in table:
        page.append(cells)
    for _ in range(data.draw(st.integers(0, 3))):
        page.append([None, " "])
    book.save(fresh(root, case, data.draw(st.sampled_from([".xlsx", ".XLSX", ".xlsm"]))))
    pd.testing.assert_frame_equal(build_index(case.layout, config).rows, rows)


@over(LISTS)
@many
@given(data=st.data())
def test_a_list_without_header_means_the_same_however_it_is_saved(at, data):
    case, root, config, rows = at
    delimiter = data.draw(st.sampled_from([" ", "  ", "\t", ",", ", ", ";"]))
    codes = data.draw(st.sampled_from(["{}", "{} ", "{}.0"]))
    lines = [
        delimiter.join([name, *(codes.format(cell) if cell.isdigit() else cell for cell in cells)])
        for name, *cells in case.rows
    ]
    for place in data.draw(st.lists(st.integers(0, len(lines)), max_size=3)):
        lines.insert(place, data.draw(st.sampled_from(["", "  ", "\t"])))
    text = data.draw(NEWLINES).join([*lines, *data.draw(st.sampled_from([[], [""], ["", ""]]))])
    fresh(root, case).write_bytes(text.encode(data.draw(ENCODINGS)))
    pd.testing.assert_frame_equal(build_index(case.layout, config).rows, rows)


def refused_or_read(at, written: Path) -> None:
    """Whatever the file holds: an index, or one error that says which file."""
    case, _, config, _ = at
    try:
        build_index(case.layout, config)
    except IndexProblems as error:
        message, told = str(error), error.problems
    else:
        return
    assert written.stem in message or str(written.parent) in message
    assert told["problem"].ne("").all()


@over(DELIMITED)
@many
@given(data=st.data())
def test_a_missing_column_is_named(at, data):
    case, root, config, _ = at
    needed = [name for name in case.header if name not in ("Action Units", "facial_landmarks")]
    lost = data.draw(st.sampled_from(needed))
    new = data.draw(st.sampled_from([None, "", "no such thing"]))  # gone, without a name, or with another
    keep = [i for i, name in enumerate(case.header) if name != lost or new is not None]
    header = [new if case.header[i] == lost else case.header[i] for i in keep]
    path = write(fresh(root, case, ".csv"), [header, *([row[i] for i in keep] for row in case.rows)], ",")
    with pytest.raises(IndexProblems) as caught:
        build_index(case.layout, config)
    message = str(caught.value).replace("_", " ").replace(" ", "").lower()
    assert str(path) in str(caught.value)
    assert f"thecolumn'{lost.replace('_', '').replace(' ', '').lower()}'" in message
    assert caught.value.problems["column"].ne("").all()


@over(DELIMITED | LISTS)
@many
@given(data=st.data())
def test_cells_of_any_text(at, data):
    case, root, *_ = at
    rows = [list(row) for row in case.rows]
    for _ in range(data.draw(st.integers(1, 3))):
        row, column = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.integers(0, len(rows[0]) - 1))
        odd = st.sampled_from(
            ["", "/", "-1", "4.5", "1e9", "NaN", "99999999999999999999", "../..", "s1_xx_1", "０", "x"]
        )
        rows[row][column] = data.draw(odd | st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=6))
    path = fresh(root, case, ".csv" if case.header else "")
    refused_or_read(at, write(path, [case.header, *rows] if case.header else rows, case.delimiter))


@over(DELIMITED | LISTS)
@many
@given(data=st.data())
def test_files_cut_short_or_of_any_bytes(at, data):
    case, root, *_ = at
    path = fresh(root, case, ".csv" if case.header else "")
    whole = write(path, [case.header, *case.rows] if case.header else case.rows, case.delimiter).read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:start] + data.draw(st.binary(max_size=20)) + whole[start:] * data.draw(st.integers(0, 1)))
    refused_or_read(at, path)


@functools.cache
def workbook(name: str) -> bytes:
    """The bytes of a spreadsheet; made once, for they hold the time."""
    book, file = openpyxl.Workbook(), io.BytesIO()
    for cells in [TABLES[name].header, *TABLES[name].rows]:
        book.active.append(cells)
    book.save(file)
    return file.getvalue()


@over(TABLES)
@many
@given(data=st.data())
def test_spreadsheets_that_are_damaged(at, data):
    case, root, *_ = at
    whole = workbook(case.layout)
    start, n = data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, 200))
    path = fresh(root, case, data.draw(st.sampled_from([".xlsx", ".xls"])))
    path.write_bytes(whole[:start] + data.draw(st.binary(max_size=20)) + whole[start + n :])
    refused_or_read(at, path)
