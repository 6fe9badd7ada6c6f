"""The page: one self-contained HTML file that asks nothing of any network.

It can be read without its script, which only sorts, filters and shows faces. Nothing on it depends on the clock or the
machine: the same results of the same revision give the same page.
"""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from tqdm import tqdm

from duchenne.config import Catalog
from duchenne.faces.store import FaceStore
from duchenne.files import replacing
from duchenne.metrics import METRICS
from duchenne.papers.printed import sources
from duchenne.reporting import across, gallery, wording
from duchenne.reporting.basis import FOOTNOTES, MARKS, footnotes
from duchenne.reporting.provenance import code_revision, data_revisions
from duchenne.reporting.runs import Run, load_run
from duchenne.reporting.sections import dataset_section, run_section
from duchenne.reporting.style import inline
from duchenne.reporting.summary import summary
from duchenne.reporting.tables import write_tables
from duchenne.workspace import Workspace

DISAGREEMENTS = 12
"""Samples shown of each pair of runs."""


def write_report(workspace: Workspace, catalog: Catalog, out: Path) -> Path:
    """Write the page and what it is made of into ``out``; returns the path of the page, ``index.html``.

    Beside it: ``summary.csv``, the figures of each run (``<variant>/<figure>.svg``) and of several runs together
    (``across/``), the papers' tables with our values (``tables/``).
    Shows every variant of the catalog and, from ``workspace.reports``, the contact sheets of its datasets and rendered
    sets.

    Raises:
        UserError: a run is not finished.
    """
    runs = [load_run(workspace, catalog, name) for name in catalog.variants]
    sprites = _sprites(runs, workspace) if catalog.report.show_faces else {}
    sections = []
    for run in tqdm(runs, desc="report", unit="run"):
        tiles = sprites[run.config.dataset].tiles if sprites else {}
        section, drawn = run_section(run, workspace, catalog, tiles)
        sections.append(section)
        _write({f"{run.name}/{name}": svg for name, svg in drawn.items()}, out)

    compared, differences = across.comparisons(runs, workspace, catalog)
    depths = across.depths(runs)
    together = differences | {f"sizes_{name}": drawn for name, drawn in across.sizes(runs).items()}
    together |= {f"recalls_{name}": drawn for name, drawn in across.recalls(runs).items()}
    if depths is not None:
        together["depths"] = depths
    _write({f"across/{name}": drawn.svg for name, drawn in together.items()}, out)
    with replacing(out / "summary.csv") as part:
        summary(runs).to_csv(part, index=False)

    environment = Environment(
        loader=PackageLoader("duchenne.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": wording.percent,
        "interval": wording.interval,
        "label": wording.metric_label,
        "sources": sources,
    }
    environment.globals |= {
        "words": wording,
        "METRICS": METRICS,
        "TILE": gallery.TILE,
        "SHOWN": DISAGREEMENTS,
        "RADARS": across.figures_across.SHOWN,
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
        sprites=sprites,
        runs={run.name: run for run in runs},
        sections=sections,
        comparisons=compared,
        across={name: inline(drawn.svg, f"across-{name}", drawn.words) for name, drawn in together.items()},
        tables=write_tables(catalog, workspace, out / "tables"),
        datasets=[dataset_section(name, workspace, catalog) for name in datasets],
        show_faces=catalog.report.show_faces,
        commit=commit,
        changed=changed,
        revisions=revisions,
    )
    with replacing(out / "index.html") as part:
        part.write_text(page, encoding="utf-8")
    return out / "index.html"


def _root(name: str, workspace: Workspace, catalog: Catalog) -> Path:
    """The raw files of a dataset, or of a rendered set that no dataset reads."""
    return catalog.datasets[name].root if name in catalog.datasets else workspace.raw(name)


def _write(figures: dict[str, str], out: Path) -> None:
    for name, svg in figures.items():
        with replacing(out / f"{name}.svg") as part:
            part.write_text(svg, encoding="utf-8")


def _sprites(runs: list[Run], workspace: Workspace) -> dict[str, gallery.Sprite]:
    """Dataset -> the faces of the samples on which its runs were tested."""
    tested: dict[str, dict[str, None]] = {}
    for run in runs:
        tested.setdefault(run.config.dataset, {}).update(dict.fromkeys(run.predictions["sample"]))
    return {name: gallery.sprite(FaceStore(workspace.faces(name)), list(samples)) for name, samples in tested.items()}
