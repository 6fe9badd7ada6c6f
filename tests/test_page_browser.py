"""The page in a real browser: it is self-contained, works with mouse and keyboard, fits a phone and is accessible."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from reporting_tools import finished_project

from duchenne.reporting.page import write_report

if TYPE_CHECKING:
    from playwright import sync_api

pytestmark = pytest.mark.slow


def planted(name: str) -> str:
    """A name that tries to run, to leave its place, to be a formula and to turn its line around."""
    script = "<script>window.planted = 1</script><img src=x onerror='window.planted = 1'></script>-->"
    return f'=1+{name}{script}" onload="window.planted = 1" {{{{7*7}}}} `$\\frac$` \u202egpj.x'


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace, catalog = finished_project(tmp_path_factory.mktemp("project"), spell=planted, gallery=5)
    return write_report(workspace, catalog, workspace.reports)


@pytest.fixture
def page(browser: sync_api.Browser, file: Path) -> Iterator[sync_api.Page]:
    """The page on a desk; whatever it asks for and complains about is an error."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    troubles: list[str] = []
    page.on("request", lambda request: troubles.append(request.url) if not request.url.startswith("data:") else None)
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto(file.as_uri())
    yield page
    context.close()
    assert troubles == [file.as_uri()]


def test_names_of_a_dataset_and_notes_are_text(page: sync_api.Page, file: Path):
    page.evaluate("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
    assert page.evaluate("window.planted") is None
    assert page.locator("[onload], [onerror], img[src=x]").count() == 0
    shown = page.locator("body").inner_text()
    assert planted("Numbers < chance & similar are escaped.") in shown
    assert planted("a") in shown  # a group of people
    groups = pd.read_csv(file.parent / "groups.csv")
    assert set(groups["group"]) == {f"'{planted(name)}" for name in "ab"}  # no formula
    for table in file.parent.rglob("*.tex"):
        assert "\\frac" not in table.read_text(encoding="utf-8")


def names(page: sync_api.Page) -> list[str]:
    """The runs that the overview shows, in order."""
    return page.locator("#all-runs tbody tr:visible th a").all_inner_texts()


def war(page: sync_api.Page) -> list[float]:
    return [float(text.split()[0]) for text in page.locator("#all-runs tbody td:nth-child(4)").all_inner_texts()]


def test_a_header_sorts_by_mouse_and_by_keyboard(page: sync_api.Page):
    before = sorted(war(page))
    head = page.locator("#all-runs th", has_text="WAR")
    head.get_by_role("button").click()
    assert war(page) == before
    assert head.get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Enter")  # the focus is still there
    assert war(page) == before[::-1]
    assert head.get_attribute("aria-sort") == "descending"
    page.locator("#all-runs th", has_text="Run").get_by_role("button").press("Space")
    assert names(page) == ["folds", "folds_again", "picked_on_test"]
    assert page.locator("#all-runs th[aria-sort]").count() == 1


def test_words_filter_the_runs(page: sync_api.Page):
    box = page.get_by_label("Show runs with")
    box.fill("cross-validation AGAIN")
    assert names(page) == ["folds_again"]
    assert page.locator("output").inner_text() == "1 of 3"
    box.fill("nothing like it")
    assert names(page) == []
    box.fill("")
    assert len(names(page)) == 3


def test_points_of_the_map_show_their_face(page: sync_api.Page):
    chart = page.locator("#run-folds .map")
    chart.scroll_into_view_if_needed()
    points = json.loads(chart.locator("script").text_content())
    x, y, tile, words = points[0]
    assert tile >= 0
    box = chart.bounding_box()
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    tip = chart.get_by_role("status")
    assert tip.inner_text() == words
    face = tip.locator(".face")
    assert face.is_visible()
    assert face.evaluate("node => getComputedStyle(node).backgroundImage").startswith('url("data:image/webp')
    page.mouse.move(0, 0)
    assert not tip.is_visible()

    chart.focus()
    seen = set()
    for _ in points:
        page.keyboard.press("ArrowRight")
        seen.add(tip.inner_text())
    assert seen == {point[3] for point in points}
    page.keyboard.press("Escape")
    assert not tip.is_visible()


def test_the_first_stop_of_the_keyboard_leads_to_the_results(page: sync_api.Page):
    page.keyboard.press("Tab")
    link = page.get_by_role("link", name="Skip to the results")
    assert link.bounding_box()["x"] >= 0
    assert link.evaluate("node => document.activeElement === node && getComputedStyle(node).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_function("location.hash === '#overview'")


@pytest.mark.parametrize("width", [390, 768])
def test_a_narrow_screen_scrolls_in_one_direction(browser: sync_api.Browser, file: Path, width: int):
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    page.goto(file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    context.close()


def test_headings_are_in_order_and_landmarks_are_named(page: sync_api.Page):
    levels = page.locator("h1, h2, h3, h4").evaluate_all("nodes => nodes.map((node) => Number(node.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for role in ("banner", "main", "contentinfo"):
        assert page.get_by_role(role).count() == 1
    assert page.get_by_role("navigation", name="Sections").count() == 1
    images = page.locator("figure > svg").evaluate_all("nodes => nodes.map((node) => node.getAttribute('aria-label'))")
    assert images
    assert all(re.search(r"\d", label) for label in images)  # they say the numbers


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: sync_api.Browser, file: Path, scheme: str):
    axe = Path(os.environ.get("NODE_PATH", "node_modules"), "axe-core", "axe.min.js")
    if not axe.exists():
        pytest.skip("no axe-core: npm install axe-core, and NODE_PATH to its node_modules")
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.goto(file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
    page.evaluate(axe.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run().then((result) => result.violations)")
    assert [(rule["id"], rule["nodes"][0]["html"], rule["nodes"][0]["failureSummary"]) for rule in found] == []
    context.close()
