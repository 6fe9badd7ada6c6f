"""``duchenne check``: what was found beside what should be there, and whether that is all."""

from __future__ import annotations

import json

import pytest
from datasets_tools import RAF, casme2, encoded, index, picture, raf, samm, text
from typer.testing import CliRunner

from duchenne import cli
from duchenne.catalog import LABEL_SETS, Dataset
from duchenne.datasets.audit import audit, expectation
from duchenne.datasets.listing import digest
from duchenne.datasets.tables import read_list

PARAMS = """
datasets:
  raf_db: {layout: raf_db, root: nowhere}
  samm_8: {layout: samm, label_set: samm_8, root: nowhere}
  caer_s: {layout: caer_s, root: nowhere, limit: 1}
variants: {}
run: {}
compute: {jobs: 1}
"""


@pytest.fixture
def check(tmp_path):
    """Run the command in a project with the data sets of PARAMS; (exit status, output)."""
    text(tmp_path / "params.yaml", PARAMS)

    def run(*arguments: str, params=tmp_path / "params.yaml") -> tuple[int, str]:
        result = CliRunner().invoke(cli.app, ["check", *arguments, "--params", str(params)])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout

    return run


@pytest.fixture(scope="module")
def whole_raf(tmp_path_factory):
    """As many images of each class as RAF-DB has; not its numbers."""
    root = tmp_path_factory.mktemp("raf")
    codes = {emotion: code for code, emotion in LABEL_SETS["raf_db"].labels.items()}
    folder = root / "Image/aligned"
    folder.mkdir(parents=True)
    lines = []
    for part, classes in expectation(Dataset(layout="raf_db", root=root))["parts"].items():
        number = 0
        for emotion, n in classes.items():
            for _ in range(n):
                number += 1
                name = f"{part}_{number:0{5 if part == 'train' else 4}d}"
                (folder / f"{name}_aligned.jpg").write_bytes(encoded())
                lines.append(f"{name}.jpg {codes[emotion]}")
    text(root / "EmoLabel/list_patition_label.txt", lines)
    return root


def test_a_complete_dataset(check, whole_raf):
    status, out = check("rafdb", "--root", str(whole_raf))
    assert status == 0
    assert "raf_db: complete" in out
    assert "recognised: aligned images in Image/aligned" in out
    status, out = check("raf_db", "--root", str(whole_raf), "--json")
    result = json.loads(out)
    assert (status, result["complete"], result["samples"]) == (0, True, 15339)
    verdicts = {item["what"]: item["verdict"] for item in result["comparisons"]}
    assert verdicts["train"] == verdicts["test fear"] == "ok"
    assert verdicts["digest of train"] == "other list"  # as many of each class, but not the owners' numbers


def test_missing_and_additional_files_are_named(check, whole_raf):
    gone = whole_raf / "Image/aligned/test_0001_aligned.jpg"
    more = picture(whole_raf / "Image/aligned/train_99999_aligned.jpg")
    gone.unlink()
    try:
        status, out = check("raf_db", "--root", str(whole_raf), "--json")
        plain = check("raf_db", "--root", str(whole_raf))[1]
    finally:
        picture(gone)
        more.unlink()
    result = json.loads(out)
    assert (status, result["complete"]) == (1, False)
    assert result["missing or damaged files"] == ["Image/aligned/test_0001_aligned.jpg"]
    assert result["files no list names"] == ["Image/aligned/train_99999_aligned.jpg"]
    found = {item["what"]: (item["found"], item["expected"], item["verdict"]) for item in result["comparisons"]}
    assert found["test"] == (3067, 3068, "differs")
    assert found["test surprise"] == (328, 329, "differs")
    assert "NOT COMPLETE" in plain
    assert "test_0001_aligned.jpg" in plain


def test_deep_opens_every_file(check, tmp_path):
    root = tmp_path / "raf"
    text(root / "EmoLabel/list_patition_label.txt", ["train_00001.jpg 1", "test_0001.jpg 2"])
    picture(root / "Image/aligned/test_0001_aligned.jpg")
    damaged = picture(root / "Image/aligned/train_00001_aligned.jpg")
    damaged.write_bytes(encoded()[:-200])
    result = json.loads(check("raf_db", "--root", str(root), "--json")[1])
    assert result["missing or damaged files"] == []
    status, out = check("raf_db", "--root", str(root), "--deep", "--json")
    assert status == 1
    assert json.loads(out)["missing or damaged files"] == ["Image/aligned/train_00001_aligned.jpg"]


def test_numbers_that_nobody_knows_exactly_do_not_fail(check, tmp_path):
    for part in ("train", "test"):
        for emotion in ("Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise"):
            picture(tmp_path / "caer" / part / emotion / "0001.png")
    status, out = check("caer-s", "--root", str(tmp_path / "caer"), "--json")
    result = json.loads(out)
    assert status == 0
    assert {item["verdict"] for item in result["comparisons"]} == {"about"}
    assert result["samples"] == 14  # limit is for runs


def test_oddities_and_subjects(check, tmp_path):
    samm(tmp_path / "samm", [("028", "028_9_1", 1090, 1143, 1134, "T23", "Sadness")])
    status, out = check("samm_8", "--root", str(tmp_path / "samm"), "--json")
    result = json.loads(out)
    assert status == 1
    assert result["oddities"] == [
        {
            "row": 15,
            "column": "apex",
            "path": "SAMM/028/028_9_1",
            "oddity": "1143 lies outside onset..offset 1090..1134",
            "done": "1112, by rule middle",
        }
    ]
    found = {item["what"]: (item["found"], item["expected"]) for item in result["comparisons"]}
    assert found["subjects"] == (1, 29)
    assert found["samm/028"] == (1, 3)
    assert "028_9_1: apex 1143 lies outside" in check("samm_8", "--root", str(tmp_path / "samm"))[1]


def test_editions_have_counts_of_their_own(tmp_path):
    row = ("01", "EP90_01f", 46, 59, 86, 12, "happiness")
    for edition, surprise in {2019: 28, 2014: 25}.items():
        root = casme2(tmp_path / str(edition), [row], edition)
        result = audit(
            index("casme2", root, label_set="casme2_5"), Dataset(layout="casme2", label_set="casme2_5", root=root)
        )
        expected = {item["what"]: item["expected"] for item in result["comparisons"]}
        assert expected["surprise"] == surprise
        assert expected["samples"] == {2019: 249, 2014: 246}[edition]


@pytest.mark.parametrize("name", ["raf_bd", "fer2013"])
def test_an_unknown_dataset_names_those_there_are(check, name):
    with pytest.raises(ValueError, match=rf"there is no dataset '{name}'"):
        check(name)


@pytest.mark.parametrize("label_set", LABEL_SETS)
def test_expected_numbers_add_up(label_set):
    layout = LABEL_SETS[label_set].layout
    for edition in ("", "2014", "2019", "csv", "boxes", "vis", "nir"):
        expected = expectation(Dataset(layout=layout, label_set=label_set, root="."), edition)
        if not expected:
            continue
        classes = set(LABEL_SETS[label_set].classes)
        for counts in (*expected.get("parts", {}).values(), *filter(None, [expected.get("classes")])):
            assert set(counts) == classes
        total = sum(expected.get("classes", {}).values())
        for of in expected.get("folds", {}).values():
            assert set(of) in ({*classes, "train"}, {"test", "train"})
            total = total or sum(sum(fold.values()) - fold["train"] for fold in expected["folds"].values())
            assert sum(of.values()) == total
        if per_subject := expected.get("per_subject"):
            assert len(per_subject) == expected["subjects"]
            assert sum(per_subject.values()) == total
        total = total or sum(sum(part.values()) for part in expected["parts"].values())
        for values in expected.get("factors", {}).values():
            assert sum(values.values()) == total


def test_digests_are_of_sorted_lines(tmp_path):
    path = text(tmp_path / "list.txt", ["b.jpg 2", "a.jpg 1"])
    lines = ["\t".join(cells[1:]) for cells in read_list(path, ["name", "code"]).itertuples(index=False)]
    assert digest(lines) == digest(reversed(lines)) == "5b38527a0772bc7a"


def test_rows_of_lists_are_lines_as_in_the_problems(check, tmp_path):
    root = raf(tmp_path / "raf", [*RAF, RAF[0]])
    _, out = check("raf_db", "--root", str(root))
    assert "the same sample as in line 1" in out
    assert "line 5: basic/Image/aligned/train_00001_aligned.jpg" in out
