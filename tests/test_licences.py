"""`duchenne licences` and `make audit`: what is installed is known, and what is not known is not taken for good."""

from __future__ import annotations

import importlib.util
import json
from types import ModuleType

import pytest
from packaging.utils import canonicalize_name
from test_extras import PINS, ROOT
from typer.testing import CliRunner

from duchenne import cli
from duchenne.licences import NOTES, STATED, Licence, licences
from duchenne.weights import PACKAGED


@pytest.fixture(scope="module")
def listed() -> dict[str, Licence]:
    return {canonicalize_name(each.name): each for each in licences()}


def test_everything_pinned_and_installed_is_listed_with_a_licence(listed: dict[str, Licence]):
    """The pins are those that the requirements reach, so none is left over either."""
    weights = {f"weights of {part}" for part in PACKAGED}
    assert {name for name, each in listed.items() if not each.licence} == set()
    assert {each.name for each in listed.values()} >= weights
    assert listed.keys() - {"duchenne", *map(canonicalize_name, weights)} == PINS.keys()
    assert {*STATED, *NOTES} <= listed.keys() | {"cuda-toolkit"}  # of Linux alone


@pytest.mark.parametrize(
    ("package", "licence"),
    [
        ("duchenne", "Apache-2.0"),  # License-Expression
        ("tqdm", "MPL-2.0 AND MIT"),  # License
        ("mlflow", "Apache Software License"),  # a classifier: License is the whole text
        ("python-dateutil", "BSD License or Apache Software License"),  # two: License says "Dual License"
        ("huey", "MIT"),  # the metadata states none
        ("weights-of-dgm", "CC0-1.0"),  # their card
    ],
)
def test_a_licence_is_found(listed: dict[str, Licence], package: str, licence: str):
    assert listed[canonicalize_name(package.replace("weights-of-", "weights of "))].licence == licence


def test_the_command_marks_what_is_not_for_commerce(listed: dict[str, Licence]):
    done = CliRunner().invoke(cli.app, ["licences", "--json"])
    answer = {each["name"]: each for each in json.loads(done.stdout)}
    assert len(answer) == len(listed)
    assert [name for name, each in answer.items() if "non-commercial" in each["note"]] == ["face_recognition_models"]
    assert answer["timm"]["page"].startswith("https://github.com/huggingface/pytorch-image-models")


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    """``.ci/audit.py``."""
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOUND = {"name": "tqdm", "version": "4.70.1", "vulns": []}
KNOWN = {"name": "jinja2", "version": "2.4", "vulns": [{"id": "PYSEC-2014-8", "fix_versions": ["2.7.2"]}]}
SKIPPED = {"name": "rich", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "status", "text"),
    [
        ([SOUND], 0, "1 packages: no known vulnerability"),
        ([SOUND, KNOWN, SKIPPED], 1, "jinja2 2.4: PYSEC-2014-8, fixed in 2.7.2"),
        ([SOUND, SKIPPED], 3, "rich: not looked up"),
        ([], 3, "no package"),
        (None, 3, "has not looked up"),
    ],
)
def test_only_packages_that_were_looked_up_are_free_of_vulnerabilities(
    audit: ModuleType, packages: list | None, status: int, text: str
):
    report = "" if packages is None else json.dumps({"dependencies": packages, "fixes": []})
    found, lines = audit.judge(report)
    assert found == status
    assert text in lines[0]
