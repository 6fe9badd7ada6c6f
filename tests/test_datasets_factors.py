"""A table of factors in addition to the lists of any layout."""

from __future__ import annotations

import json

import pytest
from datasets_tools import by_sample, casme2, index, pictures, text

from duchenne.datasets.problems import IndexProblems

CASME2 = [  # Subject, Filename, onset, apex, offset, AUs, emotion
    ("01", "EP90_01f", 46, 59, 86, 12, "happiness"),
    ("04", "EP90_02", 261, "/", 321, "4+7+L10", "disgust"),
    ("26", "EP90_04", 6, 49, 49, 1, "others"),
]
ONE, TWO, IGNORED = "casme2/sub01/EP90_01f", "casme2/sub04/EP90_02", "casme2/sub26/EP90_04"


@pytest.fixture
def root(tmp_path):
    return casme2(tmp_path, CASME2)


def factors(found) -> dict[str, dict]:
    return {
        name: json.loads(row["factors"]) if isinstance(row["factors"], str) else {}
        for name, row in by_sample(found).items()
    }


def test_the_columns_join_what_the_layout_knows(root):
    text(root / "hard.csv", [f"{TWO};yes;0.5", "", f" {ONE} ;no;"], newline="\r\n")
    text(root / "hard.csv", "sample;glasses;gaze\n" + (root / "hard.csv").read_text())
    found = factors(index("casme2", root, label_set="casme2_7", factors="hard.csv"))
    assert found[ONE] == {"glasses": "no"}  # the empty cell is unknown
    assert found[TWO] == {"apex_rule": "middle", "apex_annotated": None, "glasses": "yes", "gaze": "0.5"}
    assert found[IGNORED] == {}  # not named


def test_ignored_samples_and_a_file_elsewhere_are_no_problem(root, tmp_path_factory):
    path = text(tmp_path_factory.mktemp("mine") / "hard.csv", ["sample,glasses", f"{ONE},no", f"{IGNORED},yes"])
    found = factors(index("casme2", root, label_set="casme2_7", ignore=["others"], factors=path))
    assert found[ONE] == {"glasses": "no"}
    assert IGNORED not in found


def test_samples_without_a_name_are_named_by_their_path(tmp_path):
    pictures(tmp_path, ["happiness/a.jpg", "anger/b.jpg"])
    text(tmp_path / "hard.csv", ["sample,sun", "happiness/a.jpg,high"])
    found = factors(index("folder", tmp_path, classes=["happiness", "anger"], factors="hard.csv"))
    assert found == {"happiness/a.jpg": {"sun": "high"}, "anger/b.jpg": {}}


def test_unknown_samples_and_second_lines_are_problems_with_their_line(root):
    path = text(root / "hard.csv", ["sample,glasses", f"{ONE},no", f"{ONE[:-1]},no", f"{ONE},yes", f"{TWO}"])
    with pytest.raises(IndexProblems) as caught:
        index("casme2", root, label_set="casme2_7", factors="hard.csv")
    table = caught.value.problems.set_index("row")
    assert table["problem"].to_dict() == {
        3: f"the dataset has no such sample (did you mean {ONE!r}?)",
        4: "a line above has the same sample",
        5: "has 1 cells, the header has 2",
    }
    assert set(table["file"]) == {str(path)}
    assert f"3 of {path}" in str(caught.value)
    found = factors(index("casme2", root, label_set="casme2_7", factors="hard.csv", bad_rows="skip"))
    assert found[ONE] == {"glasses": "no"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (None, r"no such table of factors \(did you mean 'hards.csv'"),
        (["glasses,gaze", "no,no"], "needs a column sample.*there are: glasses, gaze"),
        (["sample", ONE], "needs a column sample and one for each factor"),
        ([""], "there are: none"),
        (["sample,glasses,glasses", f"{ONE},no,no"], "'glasses' more than once"),
        (["sample,apex_rule", f"{ONE},no"], "'apex_rule': the layout has a factor of this name: rename the column"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(root, lines, message):
    text(root / ("hards.csv" if lines is None else "hard.csv"), lines or ["sample,glasses"])
    with pytest.raises(IndexProblems, match=message):
        index("casme2", root, label_set="casme2_7", factors="hard.csv")
