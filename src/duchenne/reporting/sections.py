"""Data for the templates of one run and of one dataset."""

from __future__ import annotations

import io
from typing import Any

import pandas as pd
from pydantic import BaseModel
from ruamel.yaml import YAML

from duchenne.config import Catalog
from duchenne.datasets.audit import known_flaws
from duchenne.datasets.index import empty_classes, read_index
from duchenne.faces.store import FaceStore
from duchenne.reporting import gallery
from duchenne.reporting.registry import draw_run
from duchenne.reporting.runs import Run
from duchenne.splits import lacking_classes
from duchenne.workspace import Workspace

SHEETS = {
    "faces": "Rendered people and expressions",
    "landmarks": "Rendered faces with their true landmarks",
    "strips": "Rendered clips; the underlined frames show the expression",
    "displacement": "Rendered micro-expressions: onset, apex and the true displacement between them",
    "aligned": "Aligned faces with their 68 landmarks and the six action-unit regions",
    "damage": "One face as the test faces are damaged, each kind in five strengths",
    "failures": "Samples in which no face was found, with the reason",
}
"""Captions of contact sheets by name; any other sheet has its file name as caption."""


def run_section(run: Run, catalog: Catalog) -> dict[str, Any]:
    """Return the data for the template of one run."""
    config = run.config
    drawn, left_out = draw_run(run)
    full = {"variants": {run.name: config}, "datasets": {config.dataset: catalog.datasets[config.dataset]}}
    if config.dataset in catalog.rendered:
        full["rendered"] = {config.dataset: catalog.rendered[config.dataset]}
    show_faces = catalog.report.show_faces
    faces = run.faces if show_faces else None
    return {
        "run": run,
        "figures": drawn,
        "left_out": left_out,
        "mistakes": gallery.mistakes(run.samples, run.classes, catalog.report.gallery, run.factors, faces),
        "maps": gallery.maps(run.maps, show_faces),
        "maps_with_faces": not show_faces and bool(gallery.pictures_with_faces(run.maps)),
        "wrong": int((run.predictions["label"] != run.predictions["predicted"]).sum()),
        "support": run.predictions["label"].value_counts().to_dict(),
        "guessed": run.predictions["predicted"].value_counts().to_dict(),
        "parts": _split_table(run),
        "folds": _fold_table(run),
        "duplicates": _duplicates(run),
        "lacking": _lacking(run),
        "configuration": _yaml(full),
        "rendered": config.dataset in catalog.rendered,
        "root": catalog.datasets[config.dataset].root,
        "card": next(iter(run.cards.values())),
        "trained": {
            "minutes": run.history["seconds"].sum() / 60,
            "images_per_second": run.history["images_per_second"].mean(),
        },
    }


def dataset_section(name: str, workspace: Workspace, catalog: Catalog) -> dict[str, Any]:
    """Return the data for the template of one dataset; a set that was only rendered has no index and no faces."""
    section: dict[str, Any] = {"name": name, "rendered": catalog.rendered.get(name), "index": None, "sheets": []}
    if name in catalog.datasets:
        index, store = read_index(workspace.index(name)), FaceStore(workspace.faces(name))
        failures = store.failures[store.failures["frame"].isna()]  # the others are single frames of a clip
        labels = index.rows.set_index("sample")["label"]
        section |= {
            "index": index,
            "flaws": known_flaws(workspace.audit(name)),
            "empty": empty_classes(index),
            "counts": labels.value_counts().to_dict(),
            "missed": labels[~labels.index.isin(store.samples)].value_counts().to_dict(),
            "subjects": int(index.rows["subject"].nunique()),
            "found": len(store),
            "reasons": failures.groupby("reason")["sample"].nunique().sort_values(ascending=False).to_dict(),
            "findings": store.findings(),
            "meta": store.meta,
        }
    if catalog.report.show_faces:
        folder = workspace.reports / name
        for path in sorted(p for p in folder.glob("*") if p.suffix in (".jpg", ".jpeg", ".png")):
            uri, width, height = gallery.sheet(path)
            caption = SHEETS.get(path.stem, path.stem.replace("_", " ").capitalize())
            section["sheets"].append({"uri": uri, "width": width, "height": height, "caption": caption})
    return section


def _fold_table(run: Run) -> list[dict[str, Any]]:
    """Row per fold of a cross-validation, with every metric for which the fold has a value."""
    if run.metrics["folds"] == 1:
        return []
    rows = []
    for fold, own in run.predictions.groupby("fold"):
        subjects = own["subject"].dropna().unique()
        rows.append(
            {
                "fold": fold,
                "n": len(own),
                "subjects": str(subjects[0]) if len(subjects) == 1 else f"{len(subjects):,}",
                "epoch": run.selected[fold],
                "metrics": run.fold_metrics.loc[fold].dropna().to_dict(),
            }
        )
    return rows


def _split_table(run: Run) -> list[dict[str, str]]:
    """Samples, subjects and samples per subject of each part; over folds the smallest and the largest number."""
    table = run.parts.assign(missed=~run.parts["sample"].isin(run.faces.samples))
    rows = []
    for part in ("train", "val", "test"):
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


def _lacking(run: Run) -> list[str]:
    """Parts without a sample of a class, except the test part, whose metrics report it (``absent``)."""
    parts = run.parts.assign(emotion=run.parts["label"].map(dict(enumerate(run.classes))))
    return [line for line in lacking_classes(parts) if not line.startswith("test")]


def _duplicates(run: Run) -> int | None:
    """Samples dropped from training as near-duplicates of test samples, summed over folds; None if none can be."""
    if run.config.protocol.near_duplicates != "drop":
        return None
    return int((len(run.rows) - run.parts.groupby("fold").size()).sum())


def _yaml(tree: dict[str, dict[str, BaseModel]]) -> str:
    """Blocks of ``params.yaml`` with every default filled in."""
    plain = {key: {name: block.model_dump(mode="json") for name, block in part.items()} for key, part in tree.items()}
    text = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None  # short lists on one line, blocks on many
    yaml.sort_base_mapping_type_on_output = False
    yaml.dump(plain, text)
    return text.getvalue()
