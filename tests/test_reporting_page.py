"""The page: what it says is what was measured, it stands alone, and it is well-formed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import html5lib
import pandas as pd
import pytest
from reporting_tools import NEVER, finished_project

from duchenne.catalog import Catalog, Report
from duchenne.errors import UserError
from duchenne.reporting import wording, write_report
from duchenne.reporting.runs import load_run
from duchenne.workspace import Workspace

FACES = re.compile(r"<img|data:image/webp")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Catalog]:
    return finished_project(tmp_path_factory.mktemp("project"), gallery=5)


@pytest.fixture(scope="module")
def page(project: tuple[Workspace, Catalog]) -> str:
    workspace, catalog = project
    return write_report(workspace, catalog, workspace.reports).read_text(encoding="utf-8")


def only(catalog: Catalog, *names: str, **report: object) -> Catalog:
    """The catalog with these variants alone in ``run``."""
    run = catalog.run.model_copy(update={"variants": {name: catalog.run.variants[name] for name in names}})
    settings = Report(**(catalog.report.model_dump() | report))
    return catalog.model_copy(update={"run": run, "report": settings})


def section(page: str, run: str) -> str:
    """The HTML of one run's section."""
    return page.split(f'<section id="run-{run}"', 1)[1].split("</section>", 1)[0]


def test_it_is_valid_html(page: str):
    html5lib.HTMLParser(strict=True).parse(page)


def test_it_asks_nothing_of_the_network(page: str):
    assert not re.findall(r"""(?:src|href|poster|data)\s*=\s*["'](?!#|data:)[^"']*""", page)
    assert not re.search(r"<script|<link|<iframe|@import|url\((?!#)", page)


def test_every_anchor_and_reference_has_its_target_and_ids_are_unique(page: str):
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    wanted = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)|aria-labelledby="([^"]+)"', page)
    assert {a or b or c for a, b, c in wanted} <= set(ids)


def test_images_have_alternative_texts_and_tables_captions_and_scopes(page: str):
    document = html5lib.parse(page, namespaceHTMLElements=False)
    assert all(image.get("alt") for image in document.iter("img"))
    assert all(table.find("caption") is not None for table in document.iter("table"))
    assert all(cell.get("scope") in ("col", "row") for cell in document.iter("th"))
    assert all(re.search(r'role="img" aria-label="[^"]+"', svg) for svg in re.findall(r"<svg[^>]*>", page))


@pytest.mark.parametrize("name", ["picked_on_test", "folds"])
def test_its_numbers_are_the_measured_ones(project: tuple[Workspace, Catalog], page: str, name: str):
    run = load_run(*project, name)
    text = section(page, name)
    for metric in ("war", "uar", "uf1", "ece", *(f"recall_{label}" for label in run.present)):
        assert wording.percent(run.metrics[metric], 2) in text
        assert wording.interval(run.metrics, metric) in text
    right = (run.predictions["label"] == run.predictions["predicted"]).mean()
    assert f"names the expression right in {wording.percent(right)}" in page


def test_the_summary_holds_every_run_and_the_printed_values(project: tuple[Workspace, Catalog], page: str):
    workspace, catalog = project
    table = pd.read_csv(workspace.reports / "summary.csv").set_index("variant")
    assert list(table.index) == list(catalog.run.variants)
    ours = load_run(workspace, catalog, "picked_on_test").metrics["war"]
    assert table.loc["picked_on_test", "difference_war"] == pytest.approx(ours - 0.93)
    assert pd.isna(table.loc["folds", "paper_war"])
    assert f"WAR 93.00 ({wording.points(ours - 0.93)})" in page
    assert "POSTER++, Table 5" in page


def test_a_number_picked_on_the_test_part_is_marked_wherever_it_stands(page: str):
    assert wording.OPTIMISTIC not in section(page, "folds")
    assert section(page, "picked_on_test").count(wording.OPTIMISTIC) == 5  # beside the name, in the four tiles
    overview = page.split('<section id="overview"', 1)[1].split("</section>", 1)[0]
    assert overview.count(wording.OPTIMISTIC) == 2  # in the sentence, in the table


def test_it_counts_the_missing_face_and_says_why(project: tuple[Workspace, Catalog], page: str):
    assert load_run(*project, "folds").metrics["missed"] == 1
    assert "1 test sample had no face that was found and is not counted" in section(page, "folds")
    assert "Samples without a face, by reason" in page
    assert "a face was found in 47 of them" in page


def test_notes_are_shown_and_escaped(page: str):
    assert "Numbers &lt; chance &amp; similar are escaped." in page


def test_a_class_that_is_never_predicted_has_recall_zero(project: tuple[Workspace, Catalog]):
    run = load_run(*project, "folds")
    assert run.metrics[f"recall_{NEVER}"] == 0
    assert NEVER in run.present


def test_no_value_is_missing_or_not_a_number(page: str):
    assert not re.search(r"\b(nan|None|NaN|inf)\b", re.sub(r"data:[^\"]*|<pre.*?</pre>", "", page, flags=re.DOTALL))


def test_runs_on_the_same_samples_are_compared(page: str):
    assert "McNemar" in page
    pairs = re.search(r'id="pairs-caption".*?</table>', page, re.DOTALL)[0]
    assert "folds_again" in pairs
    assert "picked_on_test" not in pairs


def test_the_gallery_shows_the_most_confident_mistakes_first(project: tuple[Workspace, Catalog], page: str):
    run = load_run(*project, "folds")
    wrong = run.predictions[run.predictions["label"] != run.predictions["predicted"]]
    expected = wrong.nlargest(5, "confidence")["sample"].tolist()
    assert re.findall(r'<code title="([^"]+)"', section(page, "folds")) == expected


def test_the_same_results_give_the_same_page(project: tuple[Workspace, Catalog], page: str, tmp_path: Path):
    assert write_report(*project, tmp_path).read_text(encoding="utf-8") == page


def test_without_faces_it_holds_no_picture(project: tuple[Workspace, Catalog], page: str, tmp_path: Path):
    workspace, catalog = project
    assert FACES.search(page)
    hidden = write_report(workspace, only(catalog, "folds", show_faces=False), tmp_path).read_text(encoding="utf-8")
    assert not FACES.search(hidden)
    assert "Faces are not shown" in hidden
    assert "<svg" in hidden


def test_a_single_run_without_a_printed_value(project: tuple[Workspace, Catalog], tmp_path: Path):
    workspace, catalog = project
    single = write_report(workspace, only(catalog, "folds", gallery=0), tmp_path).read_text(encoding="utf-8")
    html5lib.HTMLParser(strict=True).parse(single)
    assert "Paper prints" not in single
    assert "McNemar" not in single
    assert "run-picked_on_test" not in single


def test_figures_are_files_too(project: tuple[Workspace, Catalog], page: str):
    folder = project[0].reports / "folds"
    names = {path.stem for path in folder.iterdir()}
    assert names == {"confusion", "recall", "curves", "reliability", "balance", "tsne"}


def test_an_unfinished_run_is_named(project: tuple[Workspace, Catalog], tmp_path: Path):
    workspace, catalog = project
    copy = Workspace(tmp_path / "copy")
    shutil.copytree(workspace.root, copy.root)
    (copy.results("folds") / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"metrics\.json is missing.*'folds'"):
        write_report(copy, catalog, tmp_path / "out")
