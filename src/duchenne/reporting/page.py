"""The page: one self-contained HTML file, without a script and without a request to anywhere.

Nothing on it depends on the clock or the machine: the same results give the same page.
"""

from __future__ import annotations

import io
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import BaseModel
from ruamel.yaml import YAML
from tqdm import tqdm

from duchenne.catalog import Catalog
from duchenne.datasets import read_index
from duchenne.evaluation import calibration, embed, mcnemar
from duchenne.faces import FaceStore
from duchenne.files import replacing
from duchenne.reporting import figures, gallery, wording
from duchenne.reporting.papers import sources
from duchenne.reporting.runs import Run, load_run
from duchenne.reporting.summary import METRICS, summary
from duchenne.workspace import Workspace

SHEETS = {
    "faces": "Rendered people and expressions",
    "landmarks": "Rendered faces with their true landmarks",
    "strips": "Rendered clips; the underlined frames show the expression",
    "displacement": "Rendered micro-expressions: onset, apex and the true displacement between them",
    "aligned": "Aligned faces with their 68 landmarks and the six action-unit regions",
    "failures": "Samples in which no face was found, with the reason",
}
"""Captions of the contact sheets known by name; any other is captioned by its file name."""


def write_report(workspace: Workspace, catalog: Catalog, out: Path) -> Path:
    """Write ``index.html``, ``summary.csv`` and ``<variant>/<figure>.svg`` into ``out``; returns the page's path.

    Shows the variants of ``catalog.run`` and, from ``workspace.reports``, the contact sheets of its datasets.

    Raises:
        UserError: a run is not finished.
    """
    runs = [load_run(workspace, catalog, name) for name in catalog.run.variants]
    sections = []
    for run in tqdm(runs, desc="report", unit="run"):
        drawn, notes = _draw(run, catalog)
        for name, svg in drawn.items():
            with replacing(out / run.name / f"{name}.svg") as part:
                part.write_text(svg, encoding="utf-8")
        sections.append(_run_section(run, catalog, FaceStore(workspace.faces(run.config.dataset)), drawn, notes))
    with replacing(out / "summary.csv") as part:
        summary(runs).to_csv(part, index=False)

    environment = Environment(
        loader=PackageLoader("duchenne.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": wording.percent, "interval": wording.interval, "sources": sources}
    environment.globals |= {"words": wording, "METRICS": METRICS}
    style = environment.loader.get_source(environment, "style.css")[0]
    datasets = dict.fromkeys([*catalog.run.synthesize, *catalog.run.datasets])
    page = environment.get_template("page.html.j2").render(
        style=Markup(style),
        runs=runs,
        sections=sections,
        comparisons=_comparisons(runs),
        datasets=[_dataset_section(name, workspace, catalog) for name in datasets],
        show_faces=catalog.report.show_faces,
    )
    with replacing(out / "index.html") as part:
        part.write_text(page, encoding="utf-8")
    return out / "index.html"


def _draw(run: Run, catalog: Catalog) -> tuple[dict[str, str], dict[str, str]]:
    """Figure name -> SVG text, and what must be said about the map of features."""
    config = catalog.report
    drawn = {
        "confusion": figures.confusion(run.predictions, run.classes),
        "recall": figures.recalls(run.metrics, run.present),
        "curves": figures.curves(run.history, run.selected),
        "reliability": figures.reliability(calibration(run.predictions), run.metrics["ece"]),
        "balance": figures.balance(run.parts, run.classes),
    }
    fold, features, labels = run.features()
    try:
        placed = embed(features, config.tsne_perplexity, config.tsne_iterations, run.config.seed)
    except ValueError as error:  # too few samples for a map are no reason to have no page
        return drawn, {"tsne": f"No map of the features: {error}."}
    drawn["tsne"] = figures.embedding(placed.points, labels, run.classes)
    note = f"Perplexity {placed.perplexity:.3g}"
    if placed.perplexity < config.tsne_perplexity:
        note += f", lowered from {config.tsne_perplexity:g} for {len(labels)} samples"
    if run.metrics["folds"] > 1:
        note += f"; fold {fold} alone, for each fold has a network of its own"
    return drawn, {"tsne": note + ". Distances between groups mean little."}


def _run_section(
    run: Run, catalog: Catalog, store: FaceStore, drawn: dict[str, str], notes: dict[str, str]
) -> dict[str, Any]:
    """What the template of one run shows."""
    config, card = run.config, next(iter(run.cards.values()))
    inlined = {
        name: figures.inline(svg, f"{run.name}-{name}", f"{name} of {run.name}; the numbers are in the tables")
        for name, svg in drawn.items()
    }
    full = {"variants": {run.name: config}, "datasets": {config.dataset: catalog.datasets[config.dataset]}}
    faces = store if catalog.report.show_faces else None
    return {
        "run": run,
        "figures": inlined,
        "notes": notes,
        "mistakes": gallery.mistakes(run.predictions, run.classes, catalog.report.gallery, faces),
        "wrong": int((run.predictions["label"] != run.predictions["predicted"]).sum()),
        "support": run.predictions["label"].value_counts().to_dict(),
        "guessed": run.predictions["predicted"].value_counts().to_dict(),
        "parts": _parts(run, set(store.samples)),
        "duplicates": _duplicates(run),
        "configuration": _yaml(full),
        "card": card,
        "trained": {
            "minutes": run.history["seconds"].sum() / 60,
            "images_per_second": run.history["images_per_second"].mean(),
        },
    }


def _parts(run: Run, found: set[str]) -> list[dict[str, str]]:
    """Samples, subjects and samples a subject of each part; over folds the smallest and the largest number."""
    table = run.parts.assign(missed=~run.parts["sample"].isin(found))
    rows = []
    for part in figures.PARTS:
        own = table[table["part"] == part]
        if own.empty:
            continue
        folds = own.groupby("fold")
        each = own.groupby(["fold", "subject"]).size()
        rows.append(
            {
                "part": part,
                "samples": _span(folds.size()),
                "missed": _span(folds["missed"].sum()),
                "subjects": _span(folds["subject"].nunique()) if len(each) else "unknown",
                "each": f"{each.min()} / {each.median():g} / {each.max()}" if len(each) else "–",
                "classes": [
                    _span(folds["label"].agg(lambda x, i=i: int((x == i).sum()))) for i in range(len(run.classes))
                ],
            }
        )
    return rows


def _span(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _duplicates(run: Run) -> int | None:
    """Samples dropped from training as near-duplicates of test samples, summed over folds; None where none may be."""
    if run.config.protocol.near_duplicates != "drop":
        return None
    return int((run.indexed - run.parts.groupby("fold").size()).sum())


def _comparisons(runs: list[Run]) -> list[dict[str, Any]]:
    """McNemar's test for every two runs that were tested on the same samples."""
    found = []
    for first, second in combinations(runs, 2):
        same = set(first.predictions["sample"]) == set(second.predictions["sample"])
        if first.config.dataset == second.config.dataset and same:
            found.append({"first": first, "second": second, **mcnemar(first.predictions, second.predictions)._asdict()})
    return found


def _dataset_section(name: str, workspace: Workspace, catalog: Catalog) -> dict[str, Any]:
    """What the template of one dataset shows; one that was only rendered has no index and no faces."""
    config = catalog.datasets[name]
    section: dict[str, Any] = {"name": name, "config": config, "index": None, "sheets": []}
    if name in catalog.run.datasets:
        index, store = read_index(workspace.index(name)), FaceStore(workspace.faces(name))
        failures = store.failures[store.failures["frame"].isna()]  # the others are single frames of a clip
        section |= {
            "index": index,
            "counts": index.rows["label"].value_counts().to_dict(),
            "subjects": int(index.rows["subject"].nunique()),
            "found": len(store),
            "reasons": failures.groupby("reason")["sample"].nunique().sort_values(ascending=False).to_dict(),
            "meta": store.meta,
        }
    if catalog.report.show_faces:
        folder = workspace.reports / name
        for path in sorted(p for p in folder.glob("*") if p.suffix in (".jpg", ".jpeg", ".png")):
            uri, width, height = gallery.sheet(path)
            caption = SHEETS.get(path.stem, path.stem.replace("_", " ").capitalize())
            section["sheets"].append({"uri": uri, "width": width, "height": height, "caption": caption})
    return section


def _yaml(tree: dict[str, dict[str, BaseModel]]) -> str:
    """Blocks of ``params.yaml`` with every default filled in."""
    plain = {key: {name: block.model_dump(mode="json") for name, block in part.items()} for key, part in tree.items()}
    text = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None  # short lists on one line, blocks on many
    yaml.sort_base_mapping_type_on_output = False
    yaml.dump(plain, text)
    return text.getvalue()
