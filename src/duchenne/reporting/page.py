"""The report page: one self-contained HTML file that needs no network connection.

It can be read without its script, which only sorts, filters and shows faces. It does not depend on the time or the
machine: the same results of the same revision give the same page.
"""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from tqdm import tqdm

from duchenne.config import Catalog
from duchenne.evaluation.corruptions import CORRUPTIONS
from duchenne.files import no_formula, replacing, write_json
from duchenne.metrics import METRICS
from duchenne.papers.printed import sources
from duchenne.reporting import figures, figures_across, gallery, gap, groups, wording  # noqa: F401  (they register the figures)
from duchenne.reporting.across import Together
from duchenne.reporting.basis import FOOTNOTES, MARKS, footnotes
from duchenne.reporting.complexity import amount
from duchenne.reporting.provenance import code_revision, data_revisions
from duchenne.reporting.registry import Drawn, draw_across
from duchenne.reporting.robustness import write_damage_tables
from duchenne.reporting.runs import Run, open_run
from duchenne.reporting.sections import dataset_section, run_section
from duchenne.reporting.summary import summary
from duchenne.reporting.tables import write_tables
from duchenne.reporting.transfer import cell, remarks, write_transfer_table
from duchenne.workspace import Workspace

MAX_DISAGREEMENTS = 12
"""Maximum number of samples shown for each pair of runs."""


def write_report(workspace: Workspace, catalog: Catalog, out: Path) -> Path:
    """Write the page and its figures and tables into ``out``; returns the path of the page, ``index.html``.

    Beside it: ``summary.csv``, ``groups.csv`` (metrics by group of people), ``records.json`` (what made each run:
    code, data, versions, hardware, command), the
    figures of each run (``<variant>/<figure>.svg``) and of several runs together (``across/``), the papers' tables with
    our values (``tables/``).
    Shows every variant of the catalog and, from ``workspace.reports``, the contact sheets of its datasets and rendered
    sets.

    Raises:
        UserError: A run is not finished.
    """
    runs = [open_run(workspace, catalog, name) for name in catalog.variants]
    for run in runs:
        run.require()
    sections = []
    for run in tqdm(runs, desc="report", unit="run"):
        sections.append(run_section(run, catalog))
        _write_figures(sections[-1]["figures"], out / run.name)
    together = Together(runs, catalog.report.bootstrap, catalog)
    across = draw_across(together)
    _write_figures(across, out / "across")
    with replacing(out / "summary.csv") as part:
        summary(runs).to_csv(part, index=False)
    with replacing(out / "groups.csv") as part:
        groups.group_table(runs).map(_plain).to_csv(part, index=False)
    write_json(out / "records.json", {run.name: run.origin for run in runs})

    write_transfer_table(together.transfers, out / "tables")

    environment = Environment(
        loader=PackageLoader("duchenne.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "amount": amount,
        "percent": wording.percent,
        "interval": wording.interval,
        "label": wording.metric_label,
        "sources": sources,
        "broken": _broken,
        "coded": _coded,
    }
    environment.globals |= {
        "words": wording,
        "gap_words": gap,
        "groups": groups,
        "METRICS": METRICS,
        "CORRUPTIONS": CORRUPTIONS,
        "transfer_cell": cell,
        "transfer_remarks": remarks,
        "FACE_SIDE": gallery.FACE_SIDE,
        "MAX_DISAGREEMENTS": MAX_DISAGREEMENTS,
        "MARKS": MARKS,
        "FOOTNOTES": FOOTNOTES,
        "footnotes": footnotes,
    }
    style, script = (Markup(environment.loader.get_source(environment, name)[0]) for name in ("style.css", "page.js"))
    datasets = dict.fromkeys([*catalog.rendered, *catalog.datasets])
    commit, changed = code_revision(workspace.root)
    revisions = data_revisions(workspace.root, {name: _root(name, workspace, catalog) for name in datasets})
    page = environment.get_template("page.html.j2").render(
        style=style,
        script=script,
        sprites=_sprites(runs) if catalog.report.show_faces else {},
        runs={run.name: run for run in runs},
        sections=sections,
        comparisons=together.compared,
        across=[drawn for drawn in across if drawn.section != "gaps"],
        gaps=together.gaps,
        gap_figures={drawn.key[0]: drawn for drawn in across if drawn.section == "gaps"},
        damage=write_damage_tables(together, out / "tables"),
        transfer=together.transfers,
        tables=write_tables(catalog, workspace, out / "tables", {run.name: run for run in runs}),
        datasets=[dataset_section(name, workspace, catalog) for name in datasets],
        show_faces=catalog.report.show_faces,
        commit=commit,
        changed=changed,
        revisions=revisions,
    )
    with replacing(out / "index.html") as part:
        part.write_text(page, encoding="utf-8")
    return out / "index.html"


def _broken(text: str) -> Markup:
    """Return a text of :func:`duchenne.reporting.gap.span` for a cell: the interval on a line of its own."""
    value, bracket, rest = text.partition(" (")
    below = Markup("<small>{}</small>").format(rest.removesuffix(")")) if bracket else ""
    return Markup('<span class="figure">{}</span>{}').format(value, below)


def _plain(cell: object) -> object:
    """Return a cell of a table that people open in a spreadsheet: groups are named by the dataset's files."""
    return no_formula(cell) if isinstance(cell, str) else cell


def _coded(text: str) -> Markup:
    """Return a text for the page, with what stands between backticks as code."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts))


def _root(name: str, workspace: Workspace, catalog: Catalog) -> Path:
    """Folder of the raw files of a dataset, or of a rendered set that no dataset reads."""
    return catalog.datasets[name].root if name in catalog.datasets else workspace.raw(name)


def _write_figures(drawn: list[Drawn], folder: Path) -> None:
    """Write figures as SVG files, and delete those of an older report that are no longer drawn."""
    for path in folder.glob("*.svg"):
        if path.stem not in {figure.name for figure in drawn}:
            path.unlink()
    for figure in drawn:
        with replacing(folder / f"{figure.name}.svg") as part:
            part.write_text(figure.svg, encoding="utf-8")


def _sprites(runs: list[Run]) -> dict[str, gallery.Sprite]:
    """Make a sprite per dataset, of the samples on which its runs were tested."""
    tested: dict[str, dict[str, None]] = {}
    for run in runs:
        tested.setdefault(run.config.dataset, {}).update(dict.fromkeys(run.predictions["sample"]))
    stores = {run.config.dataset: run.faces for run in runs}
    return {name: gallery.sprite(stores[name], list(samples)) for name, samples in tested.items()}
