"""The documentation site: it is built strictly, asks no other server for anything, and has every command and field."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="the extra docs is not installed")
pytest.importorskip("mkdocstrings", reason="the extra docs is not installed")

from mkdocs.commands.build import build
from mkdocs.config import load_config
from typer.main import get_command

import duchenne
from duchenne.cli import app
from duchenne.config import Catalog

ROOT = Path(__file__).parents[1]


class Loaded(HTMLParser):
    """What a browser loads for a page, and the anchors in it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors.add(given.get("id") or "")
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            self.loads.append(given.get("href") or "")
        elif tag != "a":
            self.loads += [given[name] or "" for name in ("src", "srcset", "data", "poster") if name in given]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        config = load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(folder))
        config.plugins.on_startup(command="build", dirty=False)
        build(config)
    return folder


def test_no_page_loads_anything_from_elsewhere(site: Path):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 10
    outside = {
        (page.name, address) for page in pages for address in Loaded(page).loads if re.match(r"(https?:)?//", address)
    }
    assert outside == set()
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", style.read_text(encoding="utf-8"), re.IGNORECASE)


def test_nothing_makes_the_theme_ask_github(site: Path):
    """Its script fetches the facts of a repository where a page links one as its source."""
    assert not [page.name for page in site.rglob("*.html") if 'data-md-component="source"' in page.read_text("utf-8")]


def test_every_command_has_its_options(site: Path):
    page = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    anchors = Loaded(site / "reference" / "commands.html").anchors
    for name, command in get_command(app).commands.items():
        assert f"duchenne-{name}" in anchors
        for parameter in command.params:
            assert parameter.param_type_name == "argument" or parameter.opts[0] in page


def test_every_field_of_params_is_there(site: Path):
    page = (site / "reference" / "params.html").read_text(encoding="utf-8")
    said = words(re.sub(r"<[^>]+>", "", page))
    for block in Catalog.model_json_schema()["$defs"].values():
        for name, field in block.get("properties", {}).items():
            assert f"<code>{name}</code>" in page
            assert "description" in field or "$ref" in str(field), f"{name} is not described"
            assert words(field.get("description", "")) in said


def words(text: str) -> str:
    """A text without mark-up and line ends."""
    return " ".join(html.unescape(text).replace("`", "").split())


def test_every_public_function_is_there(site: Path):
    anchors = Loaded(site / "reference" / "python.html").anchors
    assert {f"duchenne.{name}" for name in duchenne.__all__} <= anchors
    assert "duchenne.prediction.model.Model" in anchors
