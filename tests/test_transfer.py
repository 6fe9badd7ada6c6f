"""Networks on other datasets and on damaged faces: drawn pictures, a small network trained on some of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from training_tools import CLASSES, SMALL
from typer.testing import CliRunner

from duchenne import stages
from duchenne.cli import app
from duchenne.config import Catalog
from duchenne.datasets.matching import documented, match
from duchenne.errors import UserError
from duchenne.evaluation.corruptions import CORRUPTIONS, STRENGTHS
from duchenne.evaluation.statistics import evaluate
from duchenne.faces.store import write_checksums
from duchenne.files import read_json, write_json
from duchenne.reporting import figures_across  # noqa: F401  (registers its figures)
from duchenne.reporting.across import Together
from duchenne.reporting.registry import draw_across
from duchenne.reporting.robustness import write_damage_tables
from duchenne.reporting.runs import open_run
from duchenne.reporting.transfer import read_transfers, remarks, write_transfer_table
from duchenne.sealed import FILES, read_sealed, write_sealed
from duchenne.stages import robustness
from duchenne.transfer import answers, transfer
from duchenne.verification.findings import Checked
from duchenne.verification.transfers import verify_transfers
from duchenne.workspace import Workspace

OTHERS = ["angry", "contempt", "happy"]
"""Classes of the other dataset, as drawn: the band of ``angry`` is that of ``anger``, of ``contempt`` that of none."""


def draw(root: Path, classes: list[str], bands: dict[str, int], count: int, seed: int, known: list[np.ndarray]) -> None:
    """Draw noisy pictures with a bright band at the height of their class; the first ones are those of ``known``."""
    root.mkdir(parents=True)
    rng, rows = np.random.default_rng(seed), []
    for i in range(count):
        name = classes[i % len(classes)]
        picture = rng.integers(40, 120, (64, 64, 3), dtype=np.uint8)
        picture[bands[name] * 21 : bands[name] * 21 + 21] += 100
        if i < len(known):
            picture = known[i]
        cv2.imwrite(str(root / f"{i}.png"), picture)
        part = "train" if i < count * 0.6 else "test"
        rows.append({"path": f"{i}.png", "label": name, "subject": f"p{i // 3}", "split": part})
    pd.DataFrame(rows).to_csv(root / "manifest.csv", index=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, Workspace]:
    root = tmp_path_factory.mktemp("transfer")
    raw = root / "raw"
    draw(raw / "drawn", CLASSES, {name: i for i, name in enumerate(CLASSES)}, 60, 0, [])
    copied = [cv2.imread(str(raw / "drawn" / f"{i}.png")) for i in (0, 1)]  # of training: anger, happiness
    draw(raw / "other", OTHERS, {"angry": 0, "happy": 1, "contempt": 2}, 30, 1, [copied[0], copied[1][::-1], copied[1]])
    faces = {"mode": "aligned", "size": 64, "encoding": "png"}
    block = {"layout": "manifest", "faces": faces}
    named = {"classes": ["anger", "contempt", "happiness"], "labels": {"contempt": "contempt"}}
    catalog = Catalog.model_validate(
        {
            "datasets": {
                "drawn": block | {"root": raw / "drawn", "classes": CLASSES},
                "other": block | named | {"root": raw / "other"},
            },
            "variants": {
                "small": {
                    "dataset": "drawn",
                    "init_from": "scratch",
                    "protocol": {"kind": "official", "near_duplicates": "ignore"},
                    "model": {"architecture": "test_resnet", "options": SMALL},
                    "recipe": {
                        "epochs": 10, "batch_size": 8, "lr": 2e-3, "optimizer": "adamw", "augment": {"hflip": 0},
                    },
                    "selection": "last",
                }
            },
            "compute": {"jobs": 1, "device": "cpu", "precision": "fp32"},
            "report": {"bootstrap": 100},
        }
    )  # fmt: skip
    workspace = Workspace(root)
    for name in catalog.datasets:
        stages.run("index", catalog, workspace, name)
        stages.run("align", catalog, workspace, name)
    for stage in ("split", "train", "evaluate"):
        stages.run(stage, catalog, workspace, "small")
    return catalog, workspace


def with_report(catalog: Catalog, **values: object) -> Catalog:
    return catalog.model_copy(update={"report": catalog.report.model_copy(update=values)})


def test_without_the_setting_the_stage_reads_nothing_and_writes_an_empty_table(tmp_path: Path, project):
    catalog, _ = project
    stages.run("robustness", catalog, Workspace(tmp_path), "small")  # neither weights nor predictions are there
    folder = Workspace(tmp_path).results("small")
    assert read_json(folder / "robustness.json") == {}
    assert pd.read_csv(folder / "robustness.csv").empty
    assert not Workspace(tmp_path).work("robustness", "small").exists()


def test_damage_is_measured_and_an_interrupted_stage_resumes(project, monkeypatch: pytest.MonkeyPatch):
    catalog, workspace = project
    catalog = with_report(catalog, robustness=True)
    predict, kinds = robustness._predict, []

    def interrupted(*arguments: object) -> None:
        kinds.append(arguments[-2])
        if len(kinds) == 3:
            raise KeyboardInterrupt
        predict(*arguments)

    monkeypatch.setattr(robustness, "_predict", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stages.run("robustness", catalog, workspace, "small")
    stages.run("robustness", catalog, workspace, "small")
    assert kinds == [*list(CORRUPTIONS)[:3], *list(CORRUPTIONS)[2:]]
    stages.run("robustness", catalog, workspace, "small")
    assert len(kinds) == 8

    table = pd.read_csv(workspace.results("small") / "robustness.csv").set_index(["corruption", "severity"])
    metrics = read_json(workspace.results("small") / "metrics.json")
    assert len(table) == 1 + len(CORRUPTIONS) * len(STRENGTHS)
    for name in ("war", "uar", "uf1", "war_low", "uar_high"):
        assert table.loc[("clean", 0), name] == pytest.approx(metrics[name])
    assert (table["n"] == metrics["n"]).all()
    assert table.loc[("clean", 0), "uar"] > 0.9
    assert table.loc[("occlusion", 5), "uar"] < table.loc[("occlusion", 1), "uar"]
    means = read_json(workspace.results("small") / "robustness.json")
    assert means["uar_occlusion"] == pytest.approx(table.loc["occlusion", "uar"].mean())

    together = Together([open_run(workspace, catalog, "small")], 100)
    (drawn,) = (one for one in draw_across(together) if one.figure.name == "robustness")
    assert drawn.key == ("drawn",)
    (found,) = write_damage_tables(together, workspace.reports / "tables")
    assert found.cells.loc["small", "occlusion"] == pytest.approx(means["uar_occlusion"])
    written = pd.read_csv(workspace.reports / "tables" / "robustness_drawn.csv")
    assert written["mce"].tolist() == [1.0]
    text = (workspace.reports / "tables" / "robustness_drawn.tex").read_text()
    assert f"{100 * means['uar_occlusion']:.1f}" in text


def test_a_network_meets_another_dataset(project, monkeypatch: pytest.MonkeyPatch):
    catalog, workspace = project
    own, other = transfer(catalog, workspace, ["small"], ["drawn", "other"])
    metrics = read_json(workspace.results("small") / "metrics.json")
    assert own["own"]
    assert [own[name] for name in ("war", "uar_low", "uf1", "n")] == [
        metrics[n] for n in ("war", "uar_low", "uf1", "n")
    ]

    assert not other["own"]
    assert other["part"] == "test"
    assert other["uncovered"] == {"contempt": 4}
    assert other["extra"] == ["surprise"]
    assert (other["n"], other["known_classes"], other["merged"]) == (8, 2, {})
    assert other["uar"] > 0.8
    assert other["shared"] == {"near_duplicates": 0, "people": None}
    path = workspace.results("transfer") / "small" / "other.json"
    written = read_sealed(path)
    assert list(written.pop(FILES)) == ["other.parquet"]
    assert written == other
    found = pd.read_parquet(path.with_suffix(".parquet"))
    again = evaluate(found, ["anger", "happiness", "surprise"], 100)
    assert again["war"] == other["war"]
    assert again["absent"] == "surprise"

    monkeypatch.setattr("duchenne.transfer.predict", lambda *_: pytest.fail("it was measured before"))
    assert transfer(catalog, workspace, ["small"], ["drawn", "other"]) == [own, other]

    def checked(runs: tuple[str, ...] = (), before: Checked | None = None) -> Checked:
        return verify_transfers(catalog, workspace, runs, before or Checked())

    assert (checked().findings, checked(("another",)).counts["metrics"]) == ([], 0)
    for stated in (own, other):
        write_json(path.with_name(f"{stated['dataset']}.json"), stated | {"uar": stated["uar"] + 0.01})
    said = {Path(each.path).stem: each.text for each in checked().findings}
    assert said == {
        each["dataset"]: f"uar is {each['uar'] + 0.01}, the predictions give {each['uar']}" for each in (own, other)
    }
    write_json(path, other | {"made_from": other["made_from"] | {"data": "0"}})
    (finding,) = (each for each in checked().findings if each.path == path.as_posix())
    assert finding.text.startswith(f"was measured before {workspace.index('other').as_posix()} changed")
    write_json(path.with_name("drawn.json"), own)
    damaged = Checked()
    damaged.wrong(workspace.index("other"), "changed", "its cause")
    assert (checked(before=damaged).findings, len(checked(before=damaged).skipped)) == ([], 1)
    write_json(path, other)


def test_all_samples_show_copies_of_training_and_the_page_says_so(project):
    catalog, workspace = project
    (whole,) = transfer(catalog, workspace, ["small"], ["other"], part="all")
    assert whole["part"] == "all"
    assert whole["n"] == 20
    assert whole["uncovered"] == {"contempt": 10}
    assert whole["shared"]["near_duplicates"] == 2
    assert "near-duplicates of training samples: 2" in remarks(whole)
    (masked,) = transfer(catalog, workspace, ["small"], ["other"], part="all", mask=True)
    assert masked["masked"]
    assert masked["classes"] == 2
    assert masked["war"] >= whole["war"]

    transfer(catalog, workspace, ["small", str(workspace.fold("small", 1))], ["drawn", "other"])
    together = Together([open_run(workspace, catalog, "small")], 100)
    table = together.transfers.matrix("uar")
    assert table.shape == (2, 2)
    assert table.loc["small"].tolist() == table.loc["small_fold_1"].tolist()
    (drawn,) = (one for one in draw_across(together) if one.figure.name == "transfer")
    assert "small on other: UAR" in drawn.alt
    write_transfer_table(together.transfers, workspace.reports / "tables")
    written = pd.read_csv(workspace.reports / "tables" / "transfer.csv")
    assert written["own"].tolist() == [True, False] * 2

    card = workspace.fold("small", 1) / "card.json"
    before = card.read_text()
    try:  # as if it had been trained again
        write_sealed(card, read_json(card) | {"seed": 9})
        assert {name for pair in read_transfers(workspace).outdated for name in pair} >= {"small", "other"}
        assert not read_transfers(workspace).records
    finally:
        card.write_text(before)
    index = workspace.index("other")
    whole = index.read_bytes()
    try:  # as if labels had been corrected
        pd.read_parquet(index).iloc[::-1].to_parquet(index)
        assert set(read_transfers(workspace).outdated) == {("small", "other"), ("small_fold_1", "other")}
    finally:
        index.write_bytes(whole)
    shutil.rmtree(workspace.results("transfer"))


def test_folds_predict_alone_or_together(project):
    catalog, workspace = project
    copy_of = workspace.model("twice")
    for fold in (1, 2):
        shutil.copytree(workspace.fold("small", 1), copy_of / f"fold_{fold}")
    try:
        (one,) = transfer(catalog, workspace, ["twice"], ["other"])
        (both,) = transfer(catalog, workspace, ["twice"], ["other"], average=True)
    finally:
        shutil.rmtree(copy_of)
    assert (one["used_folds"], both["used_folds"]) == ([1], [1, 2])
    assert one["war"] == both["war"]  # twice the same network
    assert "fold 1 of 2" in remarks(one)
    assert "mean probabilities of 2 folds" in remarks(both)
    assert one["shared"] == {"near_duplicates": None, "people": None}
    assert "not known whether it shares near-duplicates or people" in remarks(one)


def test_what_cannot_be_measured_is_told_before_any_work(project, tmp_path: Path):
    catalog, workspace = project
    with pytest.raises(UserError, match=r"'smal' is neither .* \(did you mean 'small'\?\)"):
        transfer(catalog, workspace, ["smal"], ["other"])
    with pytest.raises(UserError, match=r"\(trained: none; `dvc repro` trains\)$"):
        transfer(catalog, Workspace(tmp_path), ["small"], ["other"])
    with pytest.raises(UserError, match=r"no dataset 'othr' \(did you mean 'other'\?\)"):
        transfer(catalog, workspace, ["small"], ["othr"])
    with pytest.raises(UserError, match=r"other\.parquet is missing: `dvc repro align@other`"):
        transfer(catalog, Workspace(tmp_path), [str(workspace.fold("small", 1))], ["other"])
    store = workspace.faces("other") / "store.json"
    before = store.read_text()
    try:
        meta = json.loads(before)
        write_sealed(store, meta | {"settings": meta["settings"] | {"size": 48}})
        write_checksums(store.parent)
        with pytest.raises(
            UserError, match=r"aligned otherwise than those of other: size 64 and 48\. Give datasets\.o"
        ):
            transfer(catalog, workspace, ["small"], ["other"])
    finally:
        store.write_text(before)
        write_checksums(store.parent)

    card = workspace.fold("small", 1) / "card.json"
    before = card.read_text()
    try:
        write_sealed(card, read_json(card) | {"classes": ["surprise", "fear", "disgust"]})
        with pytest.raises(UserError, match="fewer than two classes are in both"):
            transfer(catalog, workspace, ["small"], ["other"])
        write_sealed(card, json.loads(before) | {"takes": "clip"})
        with pytest.raises(UserError, match="takes clips, and other has pictures"):
            transfer(catalog, workspace, ["small"], ["other"])
    finally:
        card.write_text(before)


def test_the_command_prints_a_matrix_or_json(project, monkeypatch: pytest.MonkeyPatch):
    catalog, workspace = project
    monkeypatch.chdir(workspace.root)
    monkeypatch.setattr("duchenne.config.load", lambda path: catalog)
    words = ["transfer", "small", "--to", "drawn", "--to", "other"]
    printed = CliRunner().invoke(app, words).output
    assert "own test part" in printed
    assert "possible answers, always wrong" in printed.replace("\n", " ")
    records = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert [record["dataset"] for record in records] == ["drawn", "other"]


PAIRS = {
    "names and adjectives": (["happy", "Anger"], ["anger", "happiness"], {}, ["anger", "happiness"], [], {}),
    "each lacks one": (["anger", "fear"], ["anger", "contempt"], {}, ["anger"], ["fear"], {}),
    "the network is finer": (
        ["disgust", "happiness", "others"], ["negative", "positive", "surprise"],
        {"disgust": "negative", "happiness": "positive"},
        ["negative", "positive"], ["others"], {"disgust": "negative", "happiness": "positive"},
    ),
    "the dataset is finer": (
        ["Negative", "surprise"], ["disgust", "sadness", "surprise", "fear"],
        {"disgust": "negative", "sadness": "negative"},
        ["negative", "surprise"], [], {"disgust": "negative", "sadness": "negative"},
    ),
    "a class of both is not joined": (
        ["disgust", "negative"], ["disgust", "negative"], {"disgust": "negative"}, ["disgust", "negative"], [], {},
    ),
    "the coarser class has no output of its own": (
        ["disgust", "surprise"], ["disgust", "negative", "surprise"], {"disgust": "negative"},
        ["disgust", "surprise"], [], {},
    ),
    "compound classes": (["happily_surprised"], ["happily_surprise"], {}, ["happily_surprise"], [], {}),
}  # fmt: skip


@pytest.mark.parametrize("case", PAIRS)
def test_classes_are_matched_by_name(case: str):
    outputs, targets, coarser, covered, extra, merged = PAIRS[case]
    found = match(outputs, targets, coarser)
    assert found.covered == covered
    assert found.extra == extra
    assert found.merged == merged
    assert set(found.outputs) == set(outputs)
    assert found.classes == [*covered, *extra]


def test_label_sets_say_what_is_joined():
    three = ["negative", "positive", "surprise"]
    assert documented(["casme2"], three) == {"disgust": "negative", "repression": "negative", "happiness": "positive"}
    assert documented(["raf_db"], three) == {}
    assert documented(["casme2"], ["anger", "fear"]) == {}
    five = ["happiness", "disgust", "repression", "surprise", "others"]
    found = match(five, three, documented(["casme2", "megc2019"], three, five))
    assert found.outputs["repression"] == "negative"
    assert found.extra == ["others"]


def test_answers_are_those_of_hand_made_probabilities():
    samples = pd.DataFrame({"sample": ["x", "y"], "subject": ["p", "q"], "emotion": ["negative", "surprise"]})
    outputs = ["disgust", "fear", "surprise", "others"]
    probabilities = np.array([[0.3, 0.25, 0.4, 0.05], [0.1, 0.1, 0.2, 0.6]])
    found = match(outputs, ["negative", "surprise"], {"disgust": "negative", "fear": "negative"})
    kept = answers(samples, probabilities, outputs, found)
    assert kept["label"].tolist() == [0, 1]
    assert kept["predicted"].tolist() == [0, 2]  # 0.3 + 0.25 > 0.4; others stays a possible answer
    assert kept["confidence"].tolist() == pytest.approx([0.55, 0.6])
    assert kept.columns.tolist()[-3:] == ["p_negative", "p_surprise", "p_others"]
    masked = answers(samples, probabilities, outputs, found, mask=True)
    assert masked["predicted"].tolist() == [0, 0]  # 0.1 + 0.1, and surprise has as much: the first of the two
    assert masked["p_negative"].tolist() == pytest.approx([0.55 / 0.95, 0.5])
    assert evaluate(kept, ["negative", "surprise", "others"], 100)["uar"] == 0.5
