"""Contact sheets to judge the alignment at a glance: detected faces and failures."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from duchenne.faces.align import warp, whole
from duchenne.faces.regions import BOX, REGIONS
from duchenne.faces.store import FaceStore
from duchenne.media.frames import Span, read_frames
from duchenne.media.images import ImageError, save_jpeg
from duchenne.sealed import read_table

SHOWN = 23
"""Number of faces on a sheet; with the mean face, four rows of six."""
COLUMNS = 6
COLOURS = dict(zip(REGIONS, ("#56b4e9", "#e69f00", "#009e73", "#f0e442", "#d55e00", "#cc79a7"), strict=True))
TILE = 224
CAPTION = 34
MEGAPIXELS = 100.0
"""Largest image that is decoded for a sheet."""


def alignment_sheet(store: FaceStore, landmarks: Path, out: Path) -> None:
    """Draw aligned faces with their 68 points and the boxes of the six AU regions, and the mean of all faces.

    Args:
        landmarks: the Parquet file that ``landmark_dataset`` wrote for this store.
    """
    points = read_table(landmarks).drop_duplicates("sample").set_index("sample")
    samples = list(points.index)
    shown = [samples[i] for i in np.unique(np.linspace(0, len(samples) - 1, SHOWN).astype(int))]
    tiles = [_tile(Image.fromarray(_mean_face(store, samples)), f"mean of {min(len(samples), 500)} faces")]
    for sample in shown:
        row = points.loc[sample]
        tiles.append(_tile(_annotated(store.frame(sample), row["points"], row["au_centers"]), sample))
    _save(tiles, out, "action-unit regions:", COLOURS)


def failure_sheet(store: FaceStore, rows: pd.DataFrame, root: Path, out: Path) -> None:
    """Draw the first samples without a face and the reasons; writes no file when every sample has one.

    Args:
        rows: the dataset's index.
        root: the dataset's root.
    """
    failures = store.failures[store.failures["frame"].isna()]
    if failures.empty:
        return
    paths = rows.set_index("sample")
    tiles = []
    for failure in failures.head(SHOWN + 1).itertuples():
        row = paths.loc[failure.sample]
        span = Span(*(None if pd.isna(row.get(name)) else int(row[name]) for name in ("first", "last")))
        _, image = next(read_frames(root / row["path"], row["kind"], MEGAPIXELS, [span]), (0, ImageError("")))
        if isinstance(image, ImageError):
            picture = Image.new("RGB", (TILE, TILE), "#888888")
        else:
            picture = Image.fromarray(warp(image, whole(image, TILE), TILE))
        tiles.append(_tile(picture, f"{failure.sample}: {failure.reason}"))
    _save(tiles, out, f"{len(failures)} samples without a face", {})


def _mean_face(store: FaceStore, samples: list[str]) -> np.ndarray:
    some = samples[:: max(1, len(samples) // 500)][:500]
    return np.mean([store.frame(sample).astype(np.float32) for sample in some], axis=0).round().astype(np.uint8)


def _annotated(face: np.ndarray, points: np.ndarray, centres: np.ndarray) -> Image.Image:
    picture = Image.fromarray(face).resize((TILE, TILE), Image.Resampling.LANCZOS)
    scale = TILE / face.shape[0]
    draw = ImageDraw.Draw(picture)
    half = BOX / 2
    names = [name for name, count in REGIONS.items() for _ in range(count)]
    for name, (x, y) in zip(names, np.reshape(centres, (-1, 2)) * scale, strict=True):
        draw.rectangle((x - half, y - half, x + half, y + half), outline=COLOURS[name], width=2)
    for x, y in np.reshape(points, (-1, 2)) * scale:
        draw.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill="white", outline="black")
    return picture


def _tile(picture: Image.Image, caption: str) -> Image.Image:
    tile = Image.new("RGB", (TILE, TILE + CAPTION), "white")
    tile.paste(picture.resize((TILE, TILE)), (0, 0))
    lines = textwrap.wrap(caption, 33, max_lines=2, placeholder=" …")
    ImageDraw.Draw(tile).text((4, TILE + 3), "\n".join(lines), "black", ImageFont.load_default(12))
    return tile


def _save(tiles: list[Image.Image], out: Path, title: str, legend: dict[str, str]) -> None:
    lines = -(-len(tiles) // COLUMNS)
    width, height = TILE + 6, TILE + CAPTION
    sheet = Image.new("RGB", (min(len(tiles), COLUMNS) * width, lines * height + 24), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    draw.text((4, 4), title, "black", font)
    x = 4 + draw.textlength(title, font) + 12
    for name, colour in legend.items():
        draw.rectangle((x, 7, x + 12, 19), outline=colour, width=3)
        draw.text((x + 18, 4), name, "black", font)
        x += draw.textlength(name, font) + 36
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (i % COLUMNS * width, 24 + i // COLUMNS * height))
    save_jpeg(out, sheet, quality=88)
