"""Commands and code of README.md and docs/*.md: each is one that its program accepts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docs_tools import PAGES, ROOT, Line, blocks, shell_lines
from dvc.cli.parser import get_main_parser
from ruamel.yaml import YAML
from typer.core import TyperGroup
from typer.main import get_command

from duchenne.cli import app
from duchenne.config import load, whole_library
from duchenne.extras import EXTRAS

STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
LIBRARY = whole_library()
SHIPPED = load(ROOT / "params.yaml")
MINE = {"mine", "first", "second", "my_first", "places_demo"}
"""Blocks that readers write themselves, as the pages show."""
LINES = [line for page in PAGES for line in shell_lines(page)]


def duchenne(words: list[str]) -> None:
    """The command parses them: it exists, and so do its options; their values are of the right kind."""
    top = get_command(app)
    assert isinstance(top, TyperGroup)
    with top.make_context("duchenne", words[:1]) as context:
        name, command, _ = top.resolve_command(context, words[:1])
        assert command is not None
        with command.make_context(name, words[1:], parent=context, resilient_parsing="--help" in words) as given:
            variants = given.params.get("names") if name in ("add", "remove") else [given.params.get("variant")]
            for variant in variants or []:
                assert variant is None or variant in known()


def dvc(words: list[str]) -> None:
    """DVC parses them, and a target is a stage of dvc.yaml with a block that readers have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.exit", lambda _: pytest.fail(f"dvc {words}"))
        given = get_main_parser().parse_args(words)
    for target in getattr(given, "targets", None) or []:
        stage, _, name = target.partition("@")
        if not Path(target).suffix and "/" not in target:
            assert stage in STAGES, target
            assert ("foreach" in STAGES[stage]) == bool(name), target
            assert not name or name in known() | set(LIBRARY.datasets) | set(LIBRARY.rendered), target


def known() -> set[str]:
    """Names that the pages may use for a block of params.yaml."""
    sections = ("variants", "datasets", "landmark_nets", "rendered")
    return MINE.union(*(getattr(catalog, part) for catalog in (LIBRARY, SHIPPED) for part in sections))


def make(words: list[str]) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(words) <= set(targets)


def script(words: list[str]) -> None:
    """Runs a file of the repository, or a module."""
    files = [word for word in words if word.endswith((".py", ".sh"))]
    assert files or words[0] in ("-m", "-c")
    for file in files:
        assert (ROOT / file).is_file() or "/" not in file, file


def pip(words: list[str]) -> None:
    """Extras are those of the project."""
    for extra in re.findall(r"\[([\w,]+)\]", " ".join(words)):
        assert set(extra.split(",")) <= {*EXTRAS, "all", "docs", "test"}


def dask(words: list[str]) -> None:
    """Dask parses them."""
    import distributed.cli.dask_scheduler
    import distributed.cli.dask_worker

    main = {"scheduler": distributed.cli.dask_scheduler.main, "worker": distributed.cli.dask_worker.main}[words[0]]
    main.make_context(f"dask {words[0]}", words[1:])


def ray(words: list[str]) -> None:
    """Ray parses them."""
    from ray.scripts.scripts import cli

    cli.commands[words[0]].make_context(f"ray {words[0]}", words[1:])


def anything(words: list[str]) -> None:
    """A program of others."""


PROGRAMS = {"duchenne": duchenne, "dvc": dvc, "make": make, "python": script, "sh": script, "pip": pip}
PROGRAMS |= {"dask": dask, "ray": ray}
PROGRAMS |= dict.fromkeys(["cd", "cp", "export", "git", "mkdir", "mlflow", "nvidia-smi", "pytest", "source"], anything)
PROGRAMS |= dict.fromkeys(["base64", "curl", "docker", "echo", "ln", "printf", "tar", "tr", "unzip", "wait"], anything)
PROGRAMS |= {"bash": script, "squeue": anything}


@pytest.mark.parametrize("line", LINES, ids=str)
def test_a_command_is_accepted(line: Line):
    for words in line.commands:
        while re.fullmatch(r"[A-Z_]+=.*", words[0]):  # a variable of its environment
            words = words[1:]
        assert words[0] in PROGRAMS, words
        PROGRAMS[words[0]](words[1:])


def test_there_are_commands():
    assert {line.page for line in LINES} >= {"README.md", "index.md", "datasets.md"}
    assert sum(words[0] == "duchenne" for line in LINES for words in line.commands) > 30


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_and_yaml_can_be_read(page: Path):
    for first, block in blocks(page, "python"):
        compile("\n" * first + block, page.name, "exec")
    for _, block in blocks(page, "yaml"):
        assert YAML(typ="safe").load(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path):
    """MkDocs checks those between the pages of the site; here are README.md and the source tree."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not re.match(r"https?://|mailto:", target):
            generated = page.parent == ROOT / "docs" and target.startswith("reference/")
            assert generated or (page.parent / target).exists(), target
