"""Files are UTF-8 in any locale, and characters that it cannot print are escaped: real processes, as with GBK."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from test_reporting_compare import finish

from duchenne.commands.common import print_json, print_whatever_the_locale
from duchenne.faces.settings import Faces
from duchenne.files import read_json, write_json
from duchenne.workspace import Workspace

NAMES = "李 é 😀"  # GBK has the first, Latin-1 the second, and neither the third
RUN = """
import json, sys, warnings
warnings.filterwarnings("ignore", category=EncodingWarning)
warnings.filterwarnings("error", category=EncodingWarning, module=r"duchenne(\\.|$)")
from importlib import import_module
from duchenne import cli
for command in json.loads(sys.argv[1]):
    sys.argv = command
    try:
        cli.main() if command[0] == "duchenne" else cli.stage(import_module("duchenne.stages." + command[0]).run)
        print("done")
    except SystemExit as end:
        print(end.code)
    print("end of command")
"""


def test_every_text_file_and_every_text_of_a_process_has_an_encoding():
    """More than ruff's PLW1514, which knows no path but a literal ``Path(...)``."""
    wrong = []
    for path in (file for folder in ("src", "stages", "benchmarks") for file in (ROOT / folder).rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and _by_the_locale(call):
                wrong.append(f"{path.relative_to(ROOT)}:{call.lineno}: {ast.unparse(call)}")
    assert not wrong, "\n".join(wrong)


def _by_the_locale(call: ast.Call) -> bool:
    """Whether a call opens a file, or the output of a process, as text of the locale's encoding."""
    options = {keyword.arg for keyword in call.keywords}
    if "encoding" in options or None in options:
        return False
    if options & {"text", "universal_newlines"}:
        return ast.unparse(call.func).startswith("subprocess.")
    owner, _, name = ast.unparse(call.func).rpartition(".")
    binary = any(isinstance(value, ast.Constant) and "b" in str(value.value) for value in call.args)
    if name in ("read_text", "write_text"):
        return bool(owner) and len(call.args) <= (name == "write_text")  # the next argument is the encoding
    opens = name in ("open", "fdopen", "TextIOWrapper")
    return opens and not binary and owner not in ("Image", "av", "os", "archive")


@pytest.mark.parametrize(
    ("call", "by_the_locale"),
    [
        ("path.read_text()", True),
        ("path.write_text(text)", True),
        ("open(name)", True),
        ("path.open('w')", True),
        ("subprocess.run(words, text=True)", True),
        ("path.read_text(encoding='utf-8')", False),
        ("path.read_text('utf-8')", False),
        ("path.write_text(text, 'utf-8')", False),
        ("path.open('rb')", False),
        ("Image.open(path)", False),
        ("subprocess.run(words, encoding='utf-8')", False),
    ],
)
def test_calls_by_the_locale_are_known(call: str, by_the_locale: bool):
    assert _by_the_locale(ast.parse(call, mode="eval").body) == by_the_locale


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces under names that no one encoding has, an untrained network of them, and two finished runs."""
    from test_predict import fold_of

    root = tmp_path_factory.mktemp("project") / NAMES
    folder = root / "data" / NAMES / "happy"
    folder.mkdir(parents=True)
    rows = ["path,label,subject"]
    for i in range(4):
        name = f"happy/{NAMES}{i}.png"
        image = np.random.default_rng(i).integers(0, 256, (64, 64, 3), np.uint8)
        (root / "data" / NAMES / name).write_bytes(cv2.imencode(".png", image)[1].tobytes())
        rows.append(f"{name},{NAMES},p{i}")
    (root / "data" / NAMES / "manifest.csv").write_text("\n".join(rows), encoding="utf-8")
    faces = {"mode": "aligned", "size": 64, "encoding": "png"}
    dataset = {
        "layout": "manifest", "root": f"data/{NAMES}", "faces": faces,
        "classes": ["anger", "happiness", "surprise"], "labels": {NAMES: "happiness"},
    }  # fmt: skip
    variant = {
        "dataset": "drawn",
        "note": NAMES,
        "init_from": "scratch",
        "protocol": {"kind": "holdout"},
        "model": {"architecture": "test_resnet"},
        "recipe": {"epochs": 1, "batch_size": 2, "lr": 0.1},
    }
    write_json(
        root / "params.yaml",
        {
            "datasets": {"drawn": dataset},
            "variants": {"small": variant},
            "rendered": {},
            "landmark_nets": {},
        },
    )
    fold = fold_of(root / "fold_1", "test_resnet", Faces(**faces))
    card = read_json(fold / "card.json")
    card["variant"]["note"] = NAMES
    write_json(fold / "card.json", card)
    for name, wrong in (("one", 12), ("two", 3)):
        finish(Workspace(root), name, wrong)
        file = Workspace(root).results(name) / "predictions.parquet"
        frame = pd.read_parquet(file)
        frame.assign(sample=frame["sample"] + NAMES).to_parquet(file)
    return root


def outputs(project: Path, encoding: str, commands: list[list[str]]) -> tuple[list[str], str]:
    """What each command prints and its exit status at the end, and stderr, on a machine whose locale has ``encoding``.

    Its files are opened where that of the machine is: what would read or write them by the locale stops with an error.
    """
    env = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG"))}
    env |= {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "0", "PYTHONIOENCODING": encoding}
    env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    call = [sys.executable, "-X", "warn_default_encoding", "-c", RUN, json.dumps(commands)]
    done = subprocess.run(call, cwd=project, env=env, capture_output=True, check=False)
    # click takes a stream of ASCII for a mistake in the settings, and writes UTF-8 to it
    out, errors = (text.decode("utf-8" if encoding == "ascii" else encoding) for text in (done.stdout, done.stderr))
    assert done.returncode == 0, errors
    return out.split("end of command\n")[:-1], errors


def test_predict_and_variants_in_a_gbk_locale(project: Path):
    picture = f"data/{NAMES}/happy/{NAMES}0.png"
    predict = ["duchenne", "predict", "--model", "fold_1"]
    (answer, none, variants), errors = outputs(
        project, "gbk", [[*predict, picture], [*predict, f"{NAMES}.png"], ["duchenne", "variants"]]
    )
    line, status = answer.splitlines()
    assert (json.loads(line)["source"], status) == (picture, "0")
    assert none == "1\n"
    assert "error: 李 é \\U0001f600.png: no such file or folder" in errors  # GBK has é, and no emoji
    assert "small" in variants
    assert variants.endswith("0\n")


@pytest.mark.parametrize("encoding", ["ascii", "gbk"])
def test_check_compare_and_a_stage_in_any_locale(project: Path, encoding: str):
    check = ["duchenne", "check", "drawn"]
    escaped = "\\u674e \\xe9 \\U0001f600" if encoding == "ascii" else "李 é \\U0001f600"
    (text, tree, compared, stage), _ = outputs(
        project, encoding, [check, [*check, "--json"], ["duchenne", "compare", "one", "two"], ["index", "drawn"]]
    )
    assert f"drawn in data/{escaped}" in text
    assert json.loads(tree.removesuffix("0\n"))["root"] == f"data/{NAMES}"
    assert "s03" in compared
    assert all(part.endswith("0\n") for part in (text, tree, compared))
    assert stage == "done\n"


@pytest.mark.parametrize(("encoding", "escaped"), [("utf-8", False), ("UTF8", False), ("gbk", True), ("ascii", True)])
def test_json_has_escapes_only_where_they_are_needed(monkeypatch: pytest.MonkeyPatch, encoding: str, escaped: bool):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    print_json({"path": NAMES})
    text = stream.buffer.getvalue().decode(encoding)
    assert json.loads(text) == {"path": NAMES}
    assert text.isascii() == escaped


def test_a_file_name_that_is_not_utf8_is_printed(monkeypatch: pytest.MonkeyPatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", stream)
    print_whatever_the_locale()
    print_json({"path": os.fsdecode(b"\xff.png")})
    assert json.loads(stream.buffer.getvalue()) == {"path": "\udcff.png"}
