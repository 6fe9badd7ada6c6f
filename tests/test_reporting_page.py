"""The page: it shows the measured values, is self-contained, and is well-formed."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import html5lib
import pandas as pd
import pytest
from figure_tools import documented_figures
from metric_tools import documented_metrics
from reporting_tools import NEVER, finished_project
from ruamel.yaml import YAML
from sklearn.metrics import accuracy_score, balanced_accuracy_score, brier_score_loss, confusion_matrix, f1_score

from duchenne import stages
from duchenne.config import Catalog
from duchenne.errors import UserError
from duchenne.files import write_json
from duchenne.metrics import METRICS, Metric
from duchenne.reporting import wording
from duchenne.reporting.across import Together
from duchenne.reporting.page import write_report
from duchenne.reporting.registry import ACROSS_FIGURES, RUN_FIGURES
from duchenne.reporting.runs import open_run
from duchenne.reporting.settings import Report
from duchenne.workspace import Workspace

FLAW = "14 of 15,339 samples are used (limit)"
ROOT = Path(__file__).parents[1]
RASTER = re.compile(rb"data:image/(?!svg)")
NARROW = "\N{NARROW NO-BREAK SPACE}"


@pytest.fixture(scope="module", autouse=True)
def documented() -> Iterator[list[Metric]]:
    """The metrics of docs/extending.md, registered before anything is measured."""
    with documented_metrics() as found:
        yield found


@pytest.fixture(scope="module", autouse=True)
def documented_figure_names() -> Iterator[list[str]]:
    """The figures of docs/extending.md, registered before anything is drawn."""
    with documented_figures() as found:
        yield found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, documented: list[Metric]) -> tuple[Workspace, Catalog]:
    return finished_project(tmp_path_factory.mktemp("project"), [FLAW], gallery=5)


@pytest.fixture(scope="module")
def page(project: tuple[Workspace, Catalog]) -> str:
    workspace, catalog = project
    return write_report(workspace, catalog, workspace.reports).read_text(encoding="utf-8")


def only(catalog: Catalog, *names: str, **report: object) -> Catalog:
    """The catalog with these variants alone."""
    variants = {name: catalog.variants[name] for name in names}
    settings = Report(**(catalog.report.model_dump() | report))
    return catalog.model_copy(update={"variants": variants, "report": settings})


def section(page: str, run: str) -> str:
    """The HTML of one run's section."""
    return page.split(f'<section id="run-{run}"', 1)[1].split("</section>", 1)[0]


def test_a_class_of_ones_own_is_drawn_like_any_other(page: str):
    texts = re.findall(r"<text\b[^>]*>([^<]*)</text>", section(page, "folds"))
    assert texts.count("boredom") == texts.count("anger") > 3


def test_a_network_without_public_code_is_marked(project: tuple[Workspace, Catalog], page: str):
    overview = page.split('<section id="overview"', 1)[1].split("</section>", 1)[0]
    assert overview.count("POSTER++‡") == 1
    assert "‡ Ours is a reading of the text" in overview
    assert "†" not in overview
    across = page.split('<section id="compared"', 1)[1].split("</section>", 1)[0]
    assert "picked_on_test‡ (optimistic)" in across  # in the figures' words
    assert "‡ Ours is a reading of the text" in across
    tables = page.split('<section id="papers"', 1)[1]
    assert "picked_on_test (optimistic) ‡§<" in tables
    assert "‡ Ours is a reading of the text" in tables
    for name, basis in {"picked_on_test": "reading", "folds": "code", "folds_again": "code"}.items():
        assert (">reading</span>" in section(page, name)) == (basis == "reading")
        summary = pd.read_csv(project[0].reports / "summary.csv").set_index("variant")
        assert summary.loc[name, "basis"] == basis


def test_what_the_rule_of_choice_is_worth_is_said_of_every_run(project: tuple[Workspace, Catalog], page: str):
    workspace, _ = project
    metrics = json.loads((workspace.results("folds") / "metrics.json").read_text())
    low, high = (wording.change(metrics[f"uar_test_minus_val_{end}"], "uar") for end in ("low", "high"))
    gain = wording.change(metrics["uar_test_minus_val"], "uar")
    own = section(page, "folds")
    said = f"Choosing the epoch on the test faces is worth {gain} points of UAR (95{NARROW}% interval {low} to {high})"
    assert f"{said} against the best one in validation." in own
    table = re.search(r'<table id="rules-folds".*?</table>', own, re.DOTALL)[0]
    rows = re.findall(r'<th scope="row">(.*?)</th><td class="number">(.*?)</td>', table)
    assert [(re.sub("<.*?>", "", words), epoch) for words, epoch in rows] == [
        ("last epoch", "3"),
        ("best validation UAR reported", "2"),
        (f"best test UAR {wording.OPTIMISTIC}", "1"),
    ]
    assert wording.value(metrics, "uar") in table  # the reported one is that of the tiles
    assert "Each fold picks its own epoch" in own
    assert "against the last one" in section(page, "picked_on_test")
    assert "Each fold picks its own epoch" not in section(page, "picked_on_test")
    old = section(page, "folds_again")
    assert "Not kept: the run was trained without test_each_epoch, or by an older version." in old
    assert "rules-folds_again" not in old
    summary = pd.read_csv(workspace.reports / "summary.csv").set_index("variant")
    assert summary.loc["folds", "uar_test_minus_val"] == pytest.approx(metrics["uar_test_minus_val"])
    assert pd.isna(summary.loc["folds_again", "uar_rule_test"])


def test_what_is_between_ours_and_the_papers_value(project: tuple[Workspace, Catalog], page: str):
    """One run has a printed value; two differ in the seed and the rule that picks the epoch, and one kept no others."""
    workspace, _ = project
    metrics = json.loads((workspace.results("picked_on_test") / "metrics.json").read_text())
    own = section(page, "picked_on_test")
    assert "Why is the number not the paper’s?" in own
    missing = f"{93 - 100 * metrics['war']:.2f} points above ours"
    assert f"The WAR of POSTER++, Table 5 is 93.00, {missing}. No run that exists explains a part of it" in own
    table = re.search(r'<table id="gap-table-picked_on_test".*?</table>', own, re.DOTALL)[0]
    assert wording.change(0.93 - metrics["war"], "war") in table.split("Unexplained")[1]
    assert "<code>duchenne gap picked_on_test --add seeds</code>" in own
    assert (workspace.reports / "across" / "gap_picked_on_test.svg").exists()
    assert "What single changes are worth" in section(page, "folds_again")


def test_it_is_valid_html(page: str):
    html5lib.HTMLParser(strict=True).parse(page)


def test_it_asks_nothing_of_the_network(page: str):
    assert not re.findall(r"""(?:src|href|poster|data)\s*=\s*["'](?!#|data:)[^"']*""", page)
    assert not re.search(r"<script[^>]+src|<link|<iframe|@import|url\((?!#|data:)|fetch\(|XMLHttpRequest", page)
    assert "default-src 'none'" in page


def test_every_anchor_and_reference_has_its_target_and_ids_are_unique(page: str):
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    wanted = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)|aria-labelledby="([^"]+)"', page)
    assert {a or b or c for a, b, c in wanted} <= set(ids)


def test_images_have_alternative_texts_and_tables_captions_and_scopes(page: str):
    document = html5lib.parse(page, namespaceHTMLElements=False)
    assert all(image.get("alt") for image in document.iter("img"))
    assert all(table.find("caption") is not None for table in document.iter("table"))
    assert all(cell.get("scope") in ("col", "row", "rowgroup") for cell in document.iter("th"))
    assert all(re.search(r'role="img" aria-label="[^"]+"', svg) for svg in re.findall(r"<svg[^>]*>", page))


@pytest.mark.parametrize("name", ["picked_on_test", "folds"])
def test_its_numbers_are_the_measured_ones(project: tuple[Workspace, Catalog], page: str, name: str):
    run = open_run(*project, name)
    text = section(page, name)
    for metric in (*METRICS, *(f"recall_{label}" for label in run.present)):
        assert wording.value(run.metrics, metric) in text
        assert wording.interval(run.metrics, metric) in text


def test_a_metric_is_everywhere_once_it_is_registered(
    project: tuple[Workspace, Catalog], page: str, documented: list[Metric]
):
    """The Brier score and the geometric mean of docs/extending.md, no other file of which knows."""
    workspace, catalog = project
    run = open_run(workspace, catalog, "folds")
    table = pd.read_csv(workspace.reports / "summary.csv").set_index("variant")
    overview = page.split('<section id="overview"', 1)[1].split("</section>", 1)[0]
    compared = page.split('<section id="compared"', 1)[1].split("</section>", 1)[0]
    against = re.search(r'<table id="against-folds".*?</table>', compared, re.DOTALL)[0]
    folds = re.search(r'<table id="folds-folds">.*?</table>', section(page, "folds"), re.DOTALL)[0]
    assert [metric.name for metric in documented] == ["brier", "gmean"]
    for metric in documented:
        name, label = metric.name, metric.label
        assert table.loc["folds", name] == pytest.approx(run.metrics[name])
        assert pd.notna(table.loc["picked_on_test", f"{name}_without_duplicates"])
        shown = wording.value(run.metrics, name)
        assert re.search(
            rf'<span class="name">{label}</span>\s*<span class="big">{shown}</span>', section(page, "folds")
        )
        assert f"folds: {wording.value(run.metrics, f'{name}_fold_mean')} ±" in section(page, "folds")
        assert f"<dt>{label}</dt><dd>{metric.help}</dd>" in page
        for part in (overview, against, folds):
            assert f'<th scope="col" class="number">{label}</th>' in part
        assert shown in overview
        change = open_run(workspace, catalog, "folds_again").metrics[name] - run.metrics[name]
        assert f'<span class="figure">{wording.change(change, name)}</span>' in against
    frame = pd.read_parquet(workspace.results("folds") / "predictions.parquet")
    truth = frame["label"].astype(int)
    brier = brier_score_loss(truth, frame.filter(regex="^p_"), labels=range(4), scale_by_half=False)
    assert f'<span class="big">{brier:.3f}</span>' in section(page, "folds")
    first = frame[frame["fold"] == 1]
    brier = brier_score_loss(
        first["label"].astype(int), first.filter(regex="^p_"), labels=range(4), scale_by_half=False
    )
    assert f">{brier:.3f}</td>" in re.search(r'<th scope="row">1</th>.*?</tr>', folds, re.DOTALL)[0]


@pytest.mark.parametrize("name", ["picked_on_test", "folds"])
def test_its_numbers_follow_from_the_predictions_alone(project: tuple[Workspace, Catalog], page: str, name: str):
    frame = pd.read_parquet(project[0].results(name) / "predictions.parquet")
    truth, answer = frame["label"].astype(int), frame["predicted"].astype(int)
    text = section(page, name)
    war = accuracy_score(truth, answer)
    assert f"classifies {wording.percent(war)} correctly" in text
    found = {
        "WAR": war,
        "UAR": balanced_accuracy_score(truth, answer),
        "UF1": f1_score(truth, answer, average="macro", zero_division=0),
    }
    shown = dict(re.findall(r'<span class="name">(\w+)</span>\s*<span class="big">([^<]+)</span>', text))
    assert {key: shown[key] for key in found} == {key: wording.percent(value, 2) for key, value in found.items()}
    counts = confusion_matrix(truth, answer)
    drawn = text[: text.index("</svg>")]  # the first figure
    assert [int(cell) for cell in re.findall(r">(\d+)</text>", drawn)] == counts.ravel().tolist()


def test_each_fold_is_measured_alone(project: tuple[Workspace, Catalog], page: str):
    frame = pd.read_parquet(project[0].results("folds") / "predictions.parquet")
    table = re.search(r'<table id="folds-folds">.*?</table>', section(page, "folds"), re.DOTALL)[0]
    for fold, own in frame.groupby("fold"):
        row = re.search(rf'<th scope="row">{fold}</th>.*?</tr>', table, re.DOTALL)[0]
        truth, answer = own["label"].astype(int), own["predicted"].astype(int)
        assert re.findall(r">(\d+)</td>", row)[:2] == [str(own["subject"].nunique()), str(len(own))]
        assert wording.percent(accuracy_score(truth, answer), 2) in row
        assert wording.percent(balanced_accuracy_score(truth, answer), 2) in row
    assert "folds-picked_on_test" not in page


def test_factors_are_measured_alone(project: tuple[Workspace, Catalog], page: str):
    frame = pd.read_parquet(project[0].results("folds") / "predictions.parquet")
    left = frame[frame["subject"].str[1:].astype(int) % 2 == 0]
    share = (left["label"] == left["predicted"]).mean()
    row = re.search(r"<td>left</td>.*?</tr>", section(page, "folds"), re.DOTALL)[0]
    assert f'<td class="number">{len(left)}</td><td class="number">{wording.percent(share)}</td>' in row


def test_sizes_stand_in_the_overview(page: str):
    overview = page.split('<section id="overview"', 1)[1].split("</section>", 1)[0]
    assert f"20.00{NARROW}M" in overview
    assert f"0.00450{NARROW}G" in overview
    assert "folds: 20.0 M parameters, 0.00300 G MACs" in page  # what the figure says in words


def test_maps_are_shown_where_there_are_some(page: str):
    assert 'alt="Noise instead of a map"' in section(page, "folds")
    assert "Attention &lt; 1." in section(page, "folds")
    assert "What the network looks at" not in section(page, "picked_on_test")


def test_the_papers_tables_are_shown_and_written(project: tuple[Workspace, Catalog], page: str):
    slugs = {path.stem for path in (project[0].reports / "tables").glob("*.csv")}
    assert slugs
    assert {f'id="paper-{slug}"' in page for slug in slugs} == {True}
    opened = re.findall(r"<details open>\s*<summary>([^<]+)", page)
    assert opened == [summary for summary in opened if summary.startswith("POSTER++, Table")]
    assert any("Table 5" in summary for summary in opened)  # picked_on_test reproduces a value of it


@pytest.mark.slow
def test_how_to_do_it_again(project: tuple[Workspace, Catalog], tmp_path: Path):
    """The commands of the page, run one by one in a fresh clone; what would take minutes is only looked up."""
    source = Workspace(tmp_path / "source")
    shutil.copytree(project[0].root, source.root)
    files = ["constraints.txt", "pyproject.toml", "README.md", "LICENSE", "dvc.yaml", ".dvc/config"]
    for name in [*files, "src/duchenne/__init__.py"]:
        (source.root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source.root / name)
    maps = {
        "rendered": {},
        "landmark_nets": {},
        "datasets": {"drawn": {"root": "data/raw/drawn"}},
        "variants": {"folds": {"dataset": "drawn", "init_from": "scratch"}},
    }
    YAML(typ="safe").dump(maps, source.root / "params.yaml")

    def bash(command: str, folder: Path) -> str:
        env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
        done = subprocess.run(["bash", "-c", command], cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    commit = "git -c user.name=A -c user.email=a@b.c commit --quiet -m"
    bash(f"git init --quiet && git add --force {' '.join(files)} src params.yaml && {commit} one", source.root)
    page = write_report(source, only(project[1], "folds"), tmp_path / "out").read_text(encoding="utf-8")
    bash(f"git rm --quiet pyproject.toml && {commit} two", source.root)  # the page names the commit before
    bash("git clone --quiet source fresh", tmp_path)
    (commands,) = re.findall(r"<pre[^>]*><code>(git checkout.*?)</code></pre>", page, re.DOTALL)
    commands = [html.unescape(line) for line in commands.splitlines()]
    assert [" ".join(line.split()[:2]) for line in commands] == [
        "git checkout", "pip install", "dvc repro", "dvc repro",
    ]  # fmt: skip
    dry = {"pip install": "pip install --dry-run --no-index --no-deps --no-build-isolation", "dvc repro": "dvc dag"}
    said = []
    for line in commands:
        for command, cheap in dry.items():
            line = line.replace(command, cheap)
        said.append(bash(line, tmp_path / "fresh"))
    assert "Would install duchenne" in said[1]
    assert "train@folds" in said[2]
    assert "report" in said[3]
    assert "The raw files of <code>drawn</code> belong in" in section(page, "folds")


def test_revisions_versions_and_hardware_are_told(project: tuple[Workspace, Catalog], page: str):
    stated = section(page, "folds")
    assert "<dt>Trained with</dt><dd>duchenne 0.1.0, torch 2.14.1; Linux 6.1 x86_64; A CPU, cores: 2" in stated
    assert "<dt>Measured with</dt><dd>duchenne 0.1.0, torch 2.14.1; Linux 6.1 x86_64; A CPU, cores: 3" in stated
    assert f"<code>dvc repro evaluate@folds</code> at <code>{'c' * 40}</code> with changes, 50 resamples" in stated
    assert f"faces <code>{'2' * 64}</code>" in stated
    older = section(page, "picked_on_test")
    assert "Measured with" not in older
    assert "<dt>Trained with</dt><dd>duchenne 0.1.0, torch 2.14.1; Linux" in older
    beside = json.loads((project[0].reports / "records.json").read_text())
    assert beside["folds"]["evaluation"]["machine"]["cores"] == 3
    assert beside["folds"]["training"]["folds"]["1"]["machine"]["cores"] == 2
    assert "not under git" in page
    assert "not under DVC" in page


def test_the_summary_holds_every_run_and_the_printed_values(project: tuple[Workspace, Catalog], page: str):
    workspace, catalog = project
    table = pd.read_csv(workspace.reports / "summary.csv").set_index("variant")
    assert list(table.index) == list(catalog.variants)
    ours = open_run(workspace, catalog, "picked_on_test").metrics["war"]
    assert table.loc["picked_on_test", "difference_war"] == pytest.approx(ours - 0.93)
    assert pd.isna(table.loc["folds", "paper_war"])
    assert f"WAR 93.00 ({wording.points(ours - 0.93)})" in page
    assert "POSTER++, Table 5" in page


def test_a_number_picked_on_the_test_part_is_marked_wherever_it_stands(page: str):
    assert section(page, "folds").count(wording.OPTIMISTIC) == 1  # what the rule would give
    assert wording.OPTIMISTIC not in section(page, "folds_again")
    # beside the name, in every tile and in the row of its rule
    assert section(page, "picked_on_test").count(wording.OPTIMISTIC) == 2 + len(METRICS)
    overview = page.split('<section id="overview"', 1)[1].split("</section>", 1)[0]
    assert overview.count(wording.OPTIMISTIC) == 1


def test_a_dataset_that_is_not_the_published_one_is_marked_beside_the_papers_value(
    project: tuple[Workspace, Catalog], page: str
):
    mark = f"{wording.ALTERED}</strong>"
    for name in ("folds", "picked_on_test"):
        assert section(page, name).count(mark) == 1
        assert f"drawn is not as published: {FLAW}." in section(page, name)
    overview = page.split('<section id="overview"', 1)[1].split("</section>", 1)[0]
    assert overview.count(mark) == 1  # one run has a paper's value beside it
    assert f"Not as published: {FLAW} (<code>data/index/drawn.audit.json</code>)" in page
    assert pd.read_csv(project[0].reports / "summary.csv")["flaws"].tolist() == [FLAW] * 3


def test_near_duplicates_are_counted_and_the_values_without_them_shown(project: tuple[Workspace, Catalog], page: str):
    frame = pd.read_parquet(project[0].results("picked_on_test") / "predictions.parquet").iloc[2:]
    text = section(page, "picked_on_test")
    assert (
        "3 pairs of near-duplicate images have one in the test part, one in another (near_duplicates: ignore)" in text
    )
    war = wording.percent(accuracy_score(frame["label"].astype(int), frame["predicted"].astype(int)), 2)
    assert f"Without the 2 test samples concerned: WAR {war} (" in text
    assert "near-duplicate images" not in section(page, "folds")
    table = pd.read_csv(project[0].reports / "summary.csv").set_index("variant")
    assert table.loc["picked_on_test", ["near_duplicates", "n_without_duplicates"]].tolist() == [3, len(frame)]


def test_it_counts_the_missing_face_and_says_why(project: tuple[Workspace, Catalog], page: str):
    assert open_run(*project, "folds").metrics["missed"] == 1
    assert "1 test sample had no face that was found and is not counted" in section(page, "folds")
    assert "Samples without a face, by reason" in page
    assert "a face was found in 47 of them" in page


def test_notes_are_shown_and_escaped(page: str):
    assert "Numbers &lt; chance &amp; similar are escaped." in page


def test_a_class_that_is_never_predicted_has_recall_zero(project: tuple[Workspace, Catalog]):
    run = open_run(*project, "folds")
    assert run.metrics[f"recall_{NEVER}"] == 0
    assert NEVER in run.present


def test_no_value_is_missing_or_not_a_number(page: str):
    text = re.sub(r"data:[^\")]*|<pre.*?</pre>|<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"\b(nan|None|NaN|inf)\b", text)


def test_runs_on_the_same_samples_are_compared(project: tuple[Workspace, Catalog], page: str):
    compared = page.split('<section id="compared"', 1)[1].split("</section>", 1)[0]
    assert "McNemar" in compared
    assert "Against folds<" in compared
    assert "Against picked_on_test" not in compared
    first, second = (
        pd.read_parquet(project[0].results(name) / "predictions.parquet").set_index("sample").sort_index()
        for name in ("folds", "folds_again")
    )
    right = [run["label"] == run["predicted"] for run in (first, second)]
    assert f'<span class="figure">{wording.points(right[1].mean() - right[0].mean())}</span>' in compared
    assert f'<td class="number">{(right[0] & ~right[1]).sum()}</td><td class="number">' in compared
    assert f"of {(first['predicted'] != second['predicted']).sum()}, most confident first" in compared


def test_the_gallery_shows_the_most_confident_mistakes_first(project: tuple[Workspace, Catalog], page: str):
    run = open_run(*project, "folds")
    wrong = run.predictions[run.predictions["label"] != run.predictions["predicted"]]
    expected = wrong.nlargest(5, "confidence")["sample"].tolist()
    assert re.findall(r'<code title="([^"]+)"', section(page, "folds")) == expected


def test_the_same_results_give_the_same_page(project: tuple[Workspace, Catalog], page: str, tmp_path: Path):
    assert write_report(*project, tmp_path).read_text(encoding="utf-8") == page


def pictures(folder: Path) -> list[str]:
    """Files below a folder that are pictures of pixels, or hold some; whatever they are called."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            pixels = content.startswith((b"\x89PNG", b"\xff\xd8", b"RIFF")) or RASTER.search(content)
            found += [path.name] if pixels else []
    return sorted(found)


def test_without_faces_the_report_holds_no_picture(project: tuple[Workspace, Catalog], page: str, tmp_path: Path):
    """Neither the page nor any file beside it, though maps and sheets with faces are left from before."""
    catalog = only(project[1], "folds", show_faces=False)
    workspace = Workspace(tmp_path / "copy")
    shutil.copytree(project[0].root, workspace.root)
    assert pictures(workspace.reports) == ["aligned.jpg", "index.html"]
    hidden = stages.run("report", catalog, workspace).read_text(encoding="utf-8")
    assert pictures(workspace.reports) == []
    assert "Faces are not shown" in hidden
    assert "draws them without the faces" in hidden
    assert "<svg" in hidden


def test_without_faces_maps_that_hold_none_are_shown(project: tuple[Workspace, Catalog], tmp_path: Path):
    catalog = only(project[1], "folds", show_faces=False)
    workspace = Workspace(tmp_path / "copy")
    shutil.copytree(project[0].root, workspace.root)
    index = workspace.results("folds") / "maps" / "maps.json"
    index.write_text(json.dumps([item | {"faces": False} for item in json.loads(index.read_text())]))
    shown = write_report(workspace, catalog, tmp_path / "out").read_text(encoding="utf-8")
    assert re.findall(r'<img[^>]+alt="([^"]*)"', shown) == ["Noise instead of a map"]
    assert "draws them without the faces" not in shown


def test_a_single_run_without_a_printed_value_on_a_dataset_as_published(
    project: tuple[Workspace, Catalog], tmp_path: Path
):
    workspace, catalog = Workspace(tmp_path / "copy"), project[1]
    shutil.copytree(project[0].root, workspace.root)
    write_json(workspace.audit("drawn"), {"flaws": []})
    stale, kept = (tmp_path / "out" / "folds" / name for name in ("no_longer_drawn.svg", "notes.txt"))
    stale.parent.mkdir(parents=True)
    for path in (stale, kept):
        path.touch()
    single = write_report(workspace, only(catalog, "folds", gallery=0), tmp_path / "out").read_text(encoding="utf-8")
    html5lib.HTMLParser(strict=True).parse(single)
    assert "Paper prints" not in single
    assert f"{wording.ALTERED}</strong>" not in single
    assert "ot as published:" not in single
    assert "McNemar’s" not in single
    assert "run-picked_on_test" not in single
    assert not stale.exists()
    assert kept.exists()


def test_samples_that_are_used_and_worth_a_look_are_counted(page: str):
    (row,) = re.findall(r"<tr><th[^>]*>Frames that cannot be used[^\n]*", page)
    assert row.endswith('<td class="number">4</td><td>p00_anger, p00_boredom, p00_disgust</td></tr>')


def test_figures_are_files_too(project: tuple[Workspace, Catalog], page: str):
    """Exactly those of the registry: the files of a folder, and the figures of a section in the order of the page."""
    workspace, catalog = project
    for name in catalog.variants:
        run = open_run(workspace, catalog, name)
        applying = [figure for figure in RUN_FIGURES.values() if figure.applies(run)]
        assert {path.name for path in (workspace.reports / name).iterdir()} == {f"{one.name}.svg" for one in applying}
        shown = re.findall(r"<figcaption><strong>([^<]+)\.</strong> ([^<?]+\?)", section(page, name))
        for part in ("results", "factors"):
            own = [(one.title, one.question) for one in applying if one.section == part]
            own = [(title(run) if callable(title) else title, question) for title, question in own]
            assert [one for one in shown if one in own] == own
    together = Together([open_run(workspace, catalog, name) for name in catalog.variants], 200, catalog)
    drawn = {"_".join([one.name, *key]) for one in ACROSS_FIGURES.values() for key in one.sources(together)}
    assert {path.stem for path in (workspace.reports / "across").iterdir()} == drawn
    gaps = {"gap_picked_on_test", "gap_folds_again"}
    assert {"sizes_drawn", "recalls_drawn", "difference_folds_folds_again", "time_drawn"} | gaps == drawn


def test_a_figure_is_everywhere_once_it_is_registered(
    project: tuple[Workspace, Catalog], page: str, documented_figure_names: list[str]
):
    """The figures of docs/extending.md, no other file of which knows."""
    assert documented_figure_names == ["people", "time"]
    workspace = project[0]
    frame = pd.read_parquet(workspace.results("folds") / "predictions.parquet")
    correct = (frame["label"] == frame["predicted"]).groupby(frame["subject"]).mean()
    low, high = wording.percent(correct.min()), wording.percent(correct.max())
    shown = section(page, "folds")
    assert "<strong>WAR of each person.</strong> Does it work equally well for everybody? A dot each" in shown
    assert f'aria-label="WAR of 12 people: from {low} to {high}."' in shown
    assert shown.index("WAR of each person") > shown.index("Features of the test samples")
    assert shown.index("WAR of each person") < shown.index("<h3>Classes</h3>")
    compared = page.split('<section id="compared"', 1)[1].split("</section>", 1)[0]
    assert "<strong>Accuracy and training time on drawn.</strong> Is longer training worth it?" in compared
    war = open_run(*project, "folds").metrics["war"]
    assert f"folds: 0.005 h, WAR {wording.percent(war)}" in compared
    assert (workspace.reports / "folds" / "people.svg").read_text(encoding="utf-8").count("<use") >= 12
    assert (workspace.reports / "across" / "time_drawn.svg").exists()


def test_an_unfinished_run_is_named(project: tuple[Workspace, Catalog], tmp_path: Path):
    workspace, catalog = project
    copy = Workspace(tmp_path / "copy")
    shutil.copytree(workspace.root, copy.root)
    (copy.results("folds") / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"metrics\.json is missing.*'folds'"):
        write_report(copy, catalog, tmp_path / "out")
