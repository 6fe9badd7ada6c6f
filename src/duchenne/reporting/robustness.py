"""Runs under damage of their test faces, for figures and tables; an example sheet of one face."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from duchenne.evaluation.corruptions import CORRUPTIONS, STRENGTHS, corrupt
from duchenne.evaluation.robustness import CLEAN, relative_error, summarise
from duchenne.faces.store import FaceStore
from duchenne.media.images import save_jpeg
from duchenne.reporting.across import Together, label
from duchenne.reporting.tables import write_table

METRIC = "uar"
"""Metric of figure and table."""

TILE, HEAD, SIDE = 112, 20, 110
"""Sizes of the example sheet in px: a face, the line above the faces, the column beside them."""


class Damaged(NamedTuple):
    """Runs of one dataset under damage.

    ``runs``: label -> table of :func:`duchenne.evaluation.robustness.curves`. ``guess``: UAR of guessing.
    """

    dataset: str
    runs: dict[str, pd.DataFrame]
    guess: float


class DamageTable(NamedTuple):
    """Means over strengths of the runs of a dataset.

    ``cells``: a row per run: ``clean``, a column per kind of damage, ``mean`` over kinds and ``kept``, shares of UAR;
    ``mce`` with the first run as reference, and ``rce``, shares of WAR.
    """

    dataset: str
    reference: str
    cells: pd.DataFrame


def damaged(together: Together) -> dict[tuple[str], Damaged]:
    """Return the curves by dataset, of runs that were measured under damage."""
    found = {}
    for dataset, runs in together.by_dataset().items():
        tables = {label(run): run.robustness for run in runs if len(run.robustness)}
        if tables:
            present = next(run.present for run in runs if len(run.robustness))
            found[dataset,] = Damaged(dataset, tables, 1 / len(present))
    return found


def damage_table(source: Damaged) -> DamageTable:
    """Return the means over strengths of one dataset's runs."""
    means = {name: summarise(table) for name, table in source.runs.items()}
    reference = next(iter(means))
    rows = {
        name: {"clean": float(source.runs[name].loc[source.runs[name]["corruption"] == CLEAN, METRIC].iloc[0])}
        | {kind: own[f"{METRIC}_{kind}"] for kind in CORRUPTIONS}
        | {"mean": own[f"{METRIC}_corrupted"], "kept": own.get(f"{METRIC}_kept", np.nan)}
        | {"mce": relative_error(own, means[reference]), "rce": own["rce"]}
        for name, own in means.items()
    }
    return DamageTable(source.dataset, reference, pd.DataFrame.from_dict(rows, orient="index"))


def write_damage_tables(together: Together, out: Path) -> list[DamageTable]:
    """Write ``robustness_<dataset>.csv`` and ``.tex`` into ``out``; returns the tables."""
    tables = [damage_table(source) for source in damaged(together).values()]
    for table in tables:
        heads = {kind: CORRUPTIONS[kind].title for kind in CORRUPTIONS}
        heads |= {"clean": "Clean", "mean": "Mean", "kept": "Kept", "mce": "mCE", "rce": "rCE"}
        shown = (100 * table.cells).round(1).rename(columns=heads)
        note = (
            f"UAR in per cent on the test faces of {table.dataset}, mean over {len(STRENGTHS)} strengths; mCE in per "
            f"cent of the errors of {table.reference}, rCE in points of WAR"
        )
        write_table(out / f"robustness_{table.dataset}", table.cells.rename_axis("run"), shown, "Run", note)
    return tables


def example_sheet(store: FaceStore, sample: str, out: Path) -> None:
    """Draw the first frame of a sample under every kind of damage, a row each, from none to the strongest."""
    face = store.frame(sample)
    shape = SIDE + TILE * (1 + len(STRENGTHS)), HEAD + TILE * len(CORRUPTIONS)
    sheet = Image.new("RGB", shape, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    for column, word in enumerate(["clean", *map(str, STRENGTHS)]):
        draw.text((SIDE + TILE * (column + 0.5), HEAD / 2), word, "black", font, anchor="mm")
    for row, (name, kind) in enumerate(CORRUPTIONS.items()):
        top = HEAD + TILE * row
        draw.text((6, top + TILE / 2), kind.title.replace(" ", "\n", 1), "black", font, anchor="lm")
        faces = [face, *(corrupt(face, name, strength, sample) for strength in STRENGTHS)]
        for column, damaged_face in enumerate(faces):
            tile = Image.fromarray(damaged_face).resize((TILE, TILE), Image.Resampling.LANCZOS)
            sheet.paste(tile, (SIDE + TILE * column, top))
    save_jpeg(out, sheet, quality=88)
