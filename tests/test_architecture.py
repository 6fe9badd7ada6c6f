"""Structure of the package: DVC knows what each stage uses, and imports follow the layers."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from duchenne.networks import Facts, networks
from duchenne.sources import HARMLESS, PACKAGE, closure, imports, network_digest, path_of, source_digest
from duchenne.training.fingerprint import code_version

ROOT = Path(__file__).parents[1]
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


def modules_of(part: str) -> list[str]:
    """Names of the modules of a package in ``duchenne``, or of one module."""
    base = PACKAGE / part
    paths = base.rglob("*.py") if base.is_dir() else [base.with_suffix(".py")]
    names = (".".join(("duchenne", *path.relative_to(PACKAGE).with_suffix("").parts)) for path in paths)
    return [name.removesuffix(".__init__") for name in names]


def deps(stage: str) -> list[str]:
    block = STAGES[stage]
    return block.get("do", block)["deps"]


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_knows_every_module_that_a_stage_uses(stage: str):
    known = deps(stage)
    through_settings = "data/settings/networks/${key}.json" in known
    needed = closure(f"duchenne.stages.{stage}")
    if through_settings:
        needed = {name for name in needed if not name.startswith("duchenne.models.")}
    files = {name: (PACKAGE / Path(*name.split(".")[1:])).relative_to(ROOT) for name in needed}
    missing = [
        name
        for name, path in files.items()
        if not any(
            Path(dep.split(" ")[0]) in (path.with_suffix(".py"), path / "__init__.py", path, *path.parents)
            for dep in known
        )
    ]
    assert not missing
    assert f"stages/{stage}.py" in known
    assert stage == "settings" or any(dep.startswith("data/settings/") for dep in known)


@pytest.mark.parametrize("stage", STAGES)
def test_every_dependency_is_there(stage: str):
    assert len(deps(stage)) == len(set(deps(stage)))
    for dep in deps(stage):
        if dep.startswith(("src/", "stages/")):
            assert (ROOT / dep).exists(), dep


def test_settings_depends_on_the_configuration_and_on_all_networks():
    blocks = {str(path.relative_to(ROOT)) for path in PACKAGE.glob("*/settings.py") if path.parent.name != "stages"}
    assert len(blocks) == 6
    assert {*blocks, "src/duchenne/config.py", "src/duchenne/protocol.py"} <= set(deps("settings"))
    assert {"src/duchenne/models", "src/duchenne/datasets/layouts", "params.yaml"} <= set(deps("settings"))


def test_a_closure_follows_names_to_the_modules_that_define_them():
    assert "duchenne.faces.store" in imports("duchenne.stages.split")  # from duchenne.faces import FaceStore
    assert "duchenne.faces.detect" not in closure("duchenne.stages.split")
    assert "duchenne.faces.mobilefacenet" in closure("duchenne.stages.align")
    assert "duchenne.models.ifdd" not in closure("duchenne.stages.align")
    assert "duchenne.training.fold" in closure("duchenne.stages.train")


def test_a_network_is_known_by_its_own_sources():
    assert networks()["poster_t"].module == "duchenne.models.poster"
    assert "resnet10t" not in networks()
    poster = closure("duchenne.models.poster")
    assert {"duchenne.models.landmark_guided", "duchenne.models.backbones.ir50"} <= poster
    assert "duchenne.models.ifdd" not in poster
    digests = {name: network_digest(name) for name in ("poster_t", "poster_l", "ifdd_3dvit", "frl_dgt", "resnet10t")}
    assert digests["poster_t"] == digests["poster_l"]
    assert len(set(digests.values())) == 4


def test_reading_official_weights_needs_no_network():
    assert "duchenne.models.backbones.ir50" not in closure("duchenne.models.official")
    assert "duchenne.models.backbones.ir50" in closure("duchenne.models.poster_v2")


def test_an_edit_changes_the_digest_of_what_imports_it_alone(monkeypatch: pytest.MonkeyPatch):
    before = {name: source_digest(name) for name in ("duchenne.models.ifdd", "duchenne.models.poster")}
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + (b"#" if path.name == "lifting.py" else b""))
    assert source_digest("duchenne.models.ifdd") != before["duchenne.models.ifdd"]
    assert source_digest("duchenne.models.poster") == before["duchenne.models.poster"]


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        (b'"FRL-DGT",\n', b'"Another title",\n', True),
        (b"    reconstruction=True,\n", b"", True),
        (b"has_au_regions = True", b"has_au_regions = False", False),
    ],
)
def test_a_title_trains_nothing_again(monkeypatch: pytest.MonkeyPatch, before: bytes, after: bytes, same: bool):
    digest, read = source_digest("duchenne.models.frl_dgt"), Path.read_bytes
    assert read(PACKAGE / "models" / "frl_dgt.py").count(before) == 1
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path).replace(before, after))
    assert (source_digest("duchenne.models.frl_dgt") == digest) == same


def test_what_a_network_takes_counts(monkeypatch: pytest.MonkeyPatch):
    digest = network_digest.__wrapped__  # without its cache
    before = digest("places")
    monkeypatch.setattr("duchenne.sources.facts_of", lambda name: Facts(name, takes="clip"))
    assert digest("places") != before


def test_words_of_errors_void_nothing(monkeypatch: pytest.MonkeyPatch):
    assert "duchenne.errors" in imports("duchenne.models.official")
    before = source_digest("duchenne.models.official")
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + (b"#" if path.name == "errors.py" else b""))
    assert source_digest("duchenne.models.official") == before


@pytest.mark.parametrize(("edited", "same"), [("metrics.py", True), ("config.py", True), ("measure.py", False)])
def test_one_more_metric_voids_no_finished_fold(monkeypatch: pytest.MonkeyPatch, edited: str, same: bool):
    code = code_version.__wrapped__  # without its cache
    before, read = code("resnet10t"), Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + (b"#" if path.name == edited else b""))
    assert (code("resnet10t") == before) == same


def test_only_labels_and_renderings_know_a_list_of_emotions():
    paths = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    modules = {".".join(("duchenne", *path.parts)).removesuffix(".__init__") for path in paths}
    users = {name.split(".")[1] for name in modules if "duchenne.emotions" in imports(name)}
    assert users == {"datasets", "synth"}


def test_no_engine_computes_a_result():
    engines = set(modules_of("engines"))
    assert engines <= HARMLESS.keys()
    for module in engines:
        assert closure(module, without=()) <= HARMLESS.keys() | {"duchenne"}, module


def test_the_metrics_need_no_configuration_and_no_other_module():
    assert closure("duchenne.metrics") == {"duchenne.metrics"}


def test_models_import_no_configuration_and_no_data_code():
    allowed = {"duchenne.models", "duchenne.errors", "duchenne.files", "duchenne.networks", "duchenne.shortage"}
    for module in modules_of("models"):
        needed = closure(module, without=())
        assert not {name for name in needed if not name.startswith("duchenne.models.")} - allowed, module


RULES = {
    "datasets": ("duchenne.models", "duchenne.training", "duchenne.reporting", "duchenne.faces", "duchenne.splits"),
    "faces": ("duchenne.datasets", "duchenne.training", "duchenne.reporting", "duchenne.splits"),
    "media": ("duchenne.datasets", "duchenne.faces", "duchenne.models", "duchenne.config"),
    "synth": ("duchenne.models", "duchenne.training", "duchenne.datasets", "duchenne.reporting"),
    "splits": ("duchenne.models", "duchenne.training", "duchenne.reporting"),
    "training": ("duchenne.evaluation", "duchenne.reporting", "duchenne.stages"),
    "evaluation": ("duchenne.reporting", "duchenne.stages"),
    "reporting": ("duchenne.models", "duchenne.training", "duchenne.stages"),
}
"""Part of the package -> what it never imports, directly or not, but for blocks of params.yaml that its own hold."""


@pytest.mark.parametrize("part", RULES)
def test_imports_point_one_way(part: str):
    for module in modules_of(part):
        wrong = [name for name in closure(module) if name.startswith(RULES[part]) and not name.endswith(".settings")]
        assert not wrong, f"{module} needs {wrong}"


WITHOUT_TORCH = ("config", "datasets", "media", "metrics", "networks", "papers", "reporting", "splits")
"""Parts of the package that read and draw, and run no network."""


@pytest.mark.parametrize("part", WITHOUT_TORCH)
def test_what_runs_no_network_does_not_import_pytorch(part: str):
    for module in modules_of(part):
        for needed in closure(module, without=()):
            assert not packages(needed) & {"torch", "torchvision", "timm", "accelerate"}, f"{module} needs {needed}"


SLOW = {"accelerate", "matplotlib", "mlflow", "sklearn", "timm", "torch", "torchvision", "warp"}
"""Packages whose import takes more than half a second, or imports one that does."""
BUILDS_A_NETWORK = {"accelerate", "timm", "torch", "torchvision"}
NEEDED = {
    "settings": {"timm", "torch"},  # only to check the options of a network of timm
    "synthesize": {"warp"},
    "landmark_net": BUILDS_A_NETWORK,
    "index": set(),
    "align": {"torch"},
    "landmarks": {"torch"},
    "split": {"sklearn"},
    "train": BUILDS_A_NETWORK | {"mlflow"},
    "evaluate": BUILDS_A_NETWORK | {"sklearn"},
    "robustness": BUILDS_A_NETWORK,
    "explain": BUILDS_A_NETWORK | {"matplotlib"},
    "complexity": {"accelerate", "timm", "torch"},
    "report": {"matplotlib", "mlflow", "sklearn"},
}
"""Stage -> slow packages that it imports, at the start or when a part of it runs."""


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_no_slow_package_that_it_does_not_need(stage: str):
    modules = closure(f"duchenne.stages.{stage}", without=())
    assert set().union(*map(packages, modules)) & SLOW == NEEDED[stage]


def test_a_package_imports_nothing_slow_before_its_modules_do():
    for path in PACKAGE.rglob("__init__.py"):
        name = ".".join(("duchenne", *path.relative_to(PACKAGE).parent.parts))
        assert not set().union(*map(packages, closure(name, without=()))) & SLOW, name


@cache
def packages(module: str) -> set[str]:
    """What a module imports of other packages, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path_of(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found
