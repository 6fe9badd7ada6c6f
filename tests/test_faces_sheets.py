"""Contact sheets: they exist, are readable, fit a page, and show what their titles say."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from faces_tools import render, rows, write
from PIL import Image

from duchenne.faces.annotate import landmark_dataset
from duchenne.faces.build import align_dataset
from duchenne.faces.settings import Faces
from duchenne.faces.sheets import CAPTION, COLUMNS, TILE, alignment_sheet, failure_sheet
from duchenne.faces.store import FaceStore, write_checksums
from duchenne.sealed import write_table

WALL = (30, 160, 90)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Eight rendered portraits, a wall and a broken file, aligned."""
    folder = tmp_path_factory.mktemp("sheets")
    truth = render(folder)
    write(folder / "set" / "wall.png", np.full((200, 200, 3), WALL, np.uint8))
    (folder / "set" / "broken.jpg").write_bytes(b"")
    good = [{"sample": f"face {i}", "path": path} for i, path in enumerate(truth["path"])]
    table = rows(*good, {"sample": "wall", "path": "wall.png"}, {"sample": "broken", "path": "broken.jpg"})
    align_dataset(table, folder / "set", Faces(), folder / "faces", folder / "chunks")
    table.to_pickle(folder / "rows.pkl")
    landmark_dataset(FaceStore(folder / "faces"), Faces(), folder / "points.parquet", folder / "centres.json")
    return folder


def test_the_alignment_sheet_shows_every_face(folder, tmp_path):
    alignment_sheet(FaceStore(folder / "faces"), folder / "points.parquet", tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        sheet = np.asarray(image)
    assert (tmp_path / "a.jpg").stat().st_size < 1_500_000
    assert sheet.shape == (24 + 2 * (TILE + CAPTION), COLUMNS * (TILE + 6), 3)
    tiles = [sheet[24 + y : 24 + y + TILE, x : x + TILE] for y in (0, TILE + CAPTION) for x in _lefts()]
    drawn = [tile.std() > 10 for tile in tiles]
    assert drawn == [True] * 9 + [False] * 3  # the mean face and eight others
    mean = np.mean([FaceStore(folder / "faces").frame(f"face {i}").astype(float) for i in range(8)], axis=0)
    assert np.abs(tiles[0] - mean).mean() < 4


def test_the_failure_sheet_shows_what_was_not_a_face(folder, tmp_path):
    table = pd.read_pickle(folder / "rows.pkl")
    failure_sheet(FaceStore(folder / "faces"), table, folder / "set", tmp_path / "f.jpg")
    with Image.open(tmp_path / "f.jpg") as image:
        sheet = np.asarray(image).astype(int)
    broken, wall = sheet[30:200, 10:200], sheet[30:200, TILE + 20 : TILE + 200]
    assert np.abs(broken - 0x88).max() < 8
    assert np.abs(wall - WALL).max() < 16


def test_no_failures_make_no_sheet(folder, tmp_path):
    shutil.copytree(folder / "faces", tmp_path / "faces")
    store = FaceStore(tmp_path / "faces")
    write_table(tmp_path / "faces" / "failures.parquet", store.failures.head(0))
    write_checksums(tmp_path / "faces")
    failure_sheet(store, pd.read_pickle(folder / "rows.pkl"), folder / "set", tmp_path / "f.jpg")
    assert not (tmp_path / "f.jpg").exists()


def _lefts() -> range:
    return range(0, COLUMNS * (TILE + 6), TILE + 6)
