"""``duchenne check``: found and published counts, and whether a dataset is complete."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
from datasets_tools import RAF, casme2, cropped, encoded, fer2013, index, picture, pictures, raf, samm, text
from rich.console import Console
from typer.testing import CliRunner

from duchenne import cli, stages
from duchenne.config import Catalog
from duchenne.datasets import problems
from duchenne.datasets.audit import Comparison, audit, expectation, flaws, incomplete_clips, known_flaws
from duchenne.datasets.index import Index, as_schema
from duchenne.datasets.listing import digest
from duchenne.datasets.printing import print_audit
from duchenne.datasets.settings import Dataset
from duchenne.datasets.tables import read_list
from duchenne.workspace import Workspace

PARAMS = """
datasets:
  raf_db: {layout: raf_db, root: nowhere}
  samm_8: {layout: samm, label_set: samm_8, root: nowhere}
  caer_s: {layout: caer_s, root: nowhere, limit: 1}
  ferplus: {layout: fer2013, label_set: ferplus, root: nowhere}
variants: {}
rendered: {}
landmark_nets: {}
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
    config = Dataset(layout="raf_db", root=root)
    codes = {emotion: code for code, emotion in config.labels.items()}
    folder = root / "Image/aligned"
    folder.mkdir(parents=True)
    lines = []
    for part, classes in expectation(config).parts.items():
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


def indexed(tmp_path, **config) -> list[str]:
    """What the index stage finds wrong with a dataset."""
    workspace = Workspace(tmp_path / "project")
    project = Catalog.model_validate({"datasets": {"here": config}, "variants": {}})
    stages.run("index", project, workspace, "here")
    return known_flaws(workspace.audit("here"))


def test_a_small_part_of_a_dataset_is_not_as_published(tmp_path, caplog):
    cropped(tmp_path / "affectnet", [(number, str(number % 7)) for number in range(7)])
    found = indexed(tmp_path, layout="affectnet", label_set="affectnet_7", root=tmp_path / "affectnet")
    assert found == [
        "counts differ from the published ones: samples 14 instead of 287,401; train 7 instead of 283,901; "
        "train neutral 1 instead of 74,874; 14 more"
    ]
    assert f"here is not as published: {found[0]}" in caplog.text


def test_lines_that_are_gone_and_labels_that_were_changed_are_not_as_published(tmp_path, whole_raf):
    path = whole_raf / "EmoLabel/list_patition_label.txt"
    whole = path.read_text(encoding="utf-8")
    config = {"layout": "raf_db", "root": whole_raf}
    words = [line.split() for line in whole.splitlines()]
    random = np.random.default_rng(0)
    for i in random.choice(len(words), len(words) // 10, replace=False):
        words[i][1] = str(random.integers(1, 8))
    try:
        text(path, [" ".join(pair) for pair in words[1000:]])
        found = indexed(tmp_path, **config)
    finally:
        text(path, whole.splitlines())
    assert len(found) == 2
    assert found[0].startswith("counts differ from the published ones: samples 14,339 instead of 15,339; train 11,271 ")
    assert found[1] == "lists differ from the published ones: train, test"


def test_a_rough_total_counts_where_it_is_far_off():
    rough = {"what": "samples", "expected": 70_000, "verdict": "about"}
    result = {"samples": 9, "problems": {}, "missing frames": []}
    assert flaws(result | {"comparisons": [rough | {"found": 65_983}]}, 9) == []  # POSTER++'s Table 2
    (flaw,) = flaws(result | {"comparisons": [rough | {"found": 14}]}, 9)
    assert flaw == "counts differ from the published ones: samples 14 instead of 70,000"


def test_a_list_that_was_not_read_is_not_held_against_a_dataset():
    absent = {"what": "digest of train", "found": "none", "expected": "c8acfc17bce3954b", "verdict": "other list"}
    result = {"samples": 9, "problems": {}, "missing frames": [], "comparisons": [absent]}
    assert flaws(result, 9) == []
    assert flaws(result | {"comparisons": [absent | {"found": "0123"}]}, 9)


def test_a_manifest_is_held_against_its_own_rows_alone(tmp_path, caplog):
    pictures(tmp_path / "mine", [f"{i}.jpg" for i in range(20)])
    rows = [f"{i}.jpg,{['anger', 'fear'][i % 2]},p{i}" for i in range(20)]
    text(tmp_path / "mine/manifest.csv", ["path,label,subject", *rows])
    config = {"layout": "manifest", "root": tmp_path / "mine", "classes": ["anger", "fear", "sadness"]}
    assert indexed(tmp_path, **config) == []
    assert "here has no sample of sadness" in caplog.text
    assert indexed(tmp_path, **config, limit=8) == ["8 of 20 samples are used (limit)"]
    text(tmp_path / "mine/manifest.csv", ["path,label,subject", "gone.jpg,anger,p0", *rows])
    assert indexed(tmp_path, **config, bad_rows="skip") == [
        "1 problem in its rows, which are left out (bad_rows: skip)"
    ]


def test_a_class_that_no_sample_shows_is_a_warning(check, tmp_path):
    pictures(tmp_path / "mine", ["0.jpg", "1.jpg"])
    text(tmp_path / "mine/manifest.csv", ["path,label", "0.jpg,anger", "1.jpg,fear"])
    block = "datasets: {mine: {layout: manifest, root: nowhere, classes: [anger, fear, sadness, contempt]}}"
    params = text(
        tmp_path / "other.yaml",
        [block, "variants: {}", "rendered: {}", "landmark_nets: {}"],
    )
    status, out = check("mine", "--root", str(tmp_path / "mine"), params=params)
    assert status == 0
    assert "warning: no sample of sadness, contempt" in out


@pytest.mark.parametrize("name", ["raf_bd", "unheard_of"])
def test_an_unknown_dataset_names_those_there_are(check, name):
    with pytest.raises(ValueError, match=rf"there is no dataset '{name}'"):
        check(name)


CLIPS = {"casme2/sub16/EP01_08": 3, "casme2/sub01/EP02_01f": 4, "casme2/sub01/EP03_02": 5, "smic/s01/s01_ne_01": 2}
"""Sample -> frames on the disk, of five from onset to offset; the first is known to be short."""


@pytest.mark.parametrize(
    ("layout", "samples", "whole"), [("megc2019", list(CLIPS), 3), ("casme2", list(CLIPS)[:3], 3), ("smic", [], None)]
)
def test_frames_of_clips_are_counted_by_the_rule_of_their_dataset(layout, samples, whole):
    rows = pd.DataFrame({"sample": list(CLIPS), "path": list(CLIPS), "first": 1, "last": 5, "n_frames": CLIPS.values()})
    rows = as_schema(rows[rows["sample"].isin(samples)] if samples else rows)
    config = Dataset(layout=layout, label_set=None if layout != "casme2" else "casme2_7", root=".")
    found, wrong = incomplete_clips(Index(rows, problems.frame([]), config.classes), config)
    if whole is None:
        assert (found, wrong) == ([], [])
    else:
        assert found == [Comparison("clips with all frames", 2, whole, "differs")]
        assert wrong == ["casme2/sub01/EP02_01f (4 frames, expected 5)"]


def test_counts_of_factors_are_told_where_they_differ_only():
    rows = as_schema(
        pd.DataFrame({"sample": ["a"], "path": ["a"], "emotion": ["anger"], "factors": '{"scene": "War"}'})
    )
    config = Dataset(layout="ferv39k", root=".")
    result = audit(Index(rows, problems.frame([]), config.classes, "ferv39k"), config)
    scenes = {item["what"]: item for item in result["comparisons"] if item["what"].startswith("scene: ")}
    assert (scenes["scene: War"]["found"], scenes["scene: War"]["expected"]) == (1, 2456)
    scenes["scene: War"] |= {"verdict": "ok"}
    told = io.StringIO()
    print_audit(result, [], Console(file=told, width=100))
    assert "scene: Action" in told.getvalue()
    assert "scene: War" not in told.getvalue()


def test_samples_without_a_subject_are_counted_where_others_have_one():
    config = Dataset(layout="manifest", root=".", manifest="labels.csv", classes=["anger", "fear"])
    for subjects, line in ((["kim", None, None], ["subjects", "1"]), (["kim", "lou", "ann"], ["subjects", "3"])):
        rows = as_schema(pd.DataFrame({"sample": list("abc"), "path": "a", "emotion": "anger", "subject": subjects}))
        told = io.StringIO()
        result = audit(Index(rows, problems.frame([]), config.classes, "mine"), config)
        print_audit(result, [], Console(file=told, width=100))
        cells = [row.strip("│ ").split("│") for row in told.getvalue().splitlines()]
        cells = [[cell.strip() for cell in row] for row in cells]
        assert line in cells
        assert (["without subject", "2"] in cells) == (None in subjects)


def test_digests_are_of_sorted_lines(tmp_path):
    path = text(tmp_path / "list.txt", ["b.jpg 2", "a.jpg 1"])
    lines = ["\t".join(cells[1:]) for cells in read_list(path, ["name", "code"]).itertuples(index=False)]
    assert digest(lines) == digest(reversed(lines)) == "5b38527a0772bc7a"


def test_rows_of_lists_are_lines_as_in_the_problems(check, tmp_path):
    root = raf(tmp_path / "raf", [*RAF, RAF[0]])
    _, out = check("raf_db", "--root", str(root))
    assert "the same sample as in line 1" in out
    assert "line 5: basic/Image/aligned/train_00001_aligned.jpg" in out


def test_samples_are_counted_where_only_lists_are_published(check, tmp_path):
    status, out = check("ferplus", "--root", str(fer2013(tmp_path / "fer")))
    assert status == 1
    shown = {cells[0]: cells[1] for cells in (line.strip("│ ").split("│") for line in out.splitlines() if "│" in line)}
    counts = {what.strip(): found.strip() for what, found in shown.items()}
    assert (counts["rows of the votes"], counts["samples"], counts["fear"], counts["test"]) == ("7", "3", "1", "2")
