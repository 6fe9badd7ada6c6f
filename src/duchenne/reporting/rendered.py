"""Contact sheets of a rendered set, to check it by eye."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from duchenne.errors import UserError
from duchenne.evaluation.displacement import RENDER, read_displacement
from duchenne.files import replacing
from duchenne.sealed import read_table

TILE, GAP, BAND = 128, 3, 22
MARK = (0, 200, 60)  # RGB
MOST_BYTES = 1_500_000


def contact_sheets(root: Path, out: Path) -> list[Path]:
    """Draw the sheets of the rendered set at ``root`` into the folder ``out``; returns their paths.

    Image sets: people by expressions. Clips: film strips with the labelled frames underlined. Micro-expressions:
    onset, apex and the true displacement in colour. All: the landmarks drawn on faces.
    """
    table = read_table(root / "truth.parquet")
    sheets = {"landmarks.jpg": _landmarks(root, table)}
    if table["kind"].eq("image").all():
        sheets["faces.jpg"] = _faces(root, table)
    elif (root / "displacement").is_dir():
        sheets["displacement.jpg"] = _displacements(root, table)
    else:
        sheets["strips.jpg"] = _strips(root, table)
    paths = []
    for name, sheet in sheets.items():
        paths.append(out / name)
        with replacing(out / name) as part:
            part.write_bytes(_jpeg(sheet))
    return paths


def _jpeg(sheet: np.ndarray) -> bytes:
    for quality in range(90, 20, -10):
        data = cv2.imencode(".jpg", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[
            1
        ].tobytes()
        if len(data) <= MOST_BYTES:
            break
    return data


def _read(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise UserError(f"{path} is missing or not an image: {RENDER}")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _tile(picture: np.ndarray, size: int = TILE) -> np.ndarray:
    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)


def _write(picture: np.ndarray, text: str, x: int, y: int) -> None:
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (40, 40, 40), 1, cv2.LINE_AA)


def _grid(rows: list[list[np.ndarray]], columns: list[str], labels: list[str]) -> np.ndarray:
    """Tiles in rows under column titles, a label before each row; missing tiles stay white."""
    margin = 8 + 8 * max(map(len, labels))
    height, width = rows[0][0].shape[:2]
    wide = max(map(len, rows))
    sheet = np.full((BAND + len(rows) * (height + GAP), margin + wide * (width + GAP), 3), 255, np.uint8)
    for column, text in enumerate(columns):
        _write(sheet, text, margin + column * (width + GAP) + 2, BAND - 7)
    for row, (tiles, label) in enumerate(zip(rows, labels, strict=True)):
        top = BAND + row * (height + GAP)
        _write(sheet, label, 4, top + height // 2)
        for column, tile in enumerate(tiles):
            left = margin + column * (width + GAP)
            sheet[top : top + height, left : left + width] = tile
    return sheet


def _spread(items: list[str], most: int) -> list[str]:
    """At most ``most`` of the items, evenly spread."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int))]


def _faces(root: Path, table: pd.DataFrame, people: int = 12) -> np.ndarray:
    emotions = sorted(table["emotion"].unique())
    subjects = _spread(sorted(table["subject"].unique()), people)
    first = table.drop_duplicates(["subject", "emotion"]).set_index(["subject", "emotion"])["path"]
    rows = [[_tile(_read(root / first[subject, emotion])) for emotion in emotions] for subject in subjects]
    return _grid(rows, emotions, subjects)


def _strips(root: Path, table: pd.DataFrame, moments: int = 10) -> np.ndarray:
    rows, labels = [], []
    for emotion, group in table.groupby("emotion"):
        for clip in group.head(2).itertuples():
            tiles = []
            for number in np.linspace(1, clip.n_frames, moments).round().astype(int):
                tile = _tile(_read(root / clip.path / f"{number:05d}.jpg"))
                if clip.onset <= number <= clip.offset:
                    tile[-6:] = MARK
                _write(tile, str(number), 3, 12)
                tiles.append(tile)
            rows.append(tiles)
            labels.append(str(emotion))
    return _grid(rows, ["frames of a clip; the labelled span is underlined"], labels)


def _displacements(root: Path, table: pd.DataFrame) -> np.ndarray:
    clips = [group.iloc[k] for _, group in table.groupby("emotion") for k in range(min(3, len(group)))]
    fields = [read_displacement(root / "displacement" / f"{clip['sample']}.npz") for clip in clips]
    full = max(float(np.nanpercentile(np.linalg.norm(field, axis=2), 99)) for field in fields)
    rows = []
    for clip, field in zip(clips, fields, strict=True):
        onset, apex = (_tile(_read(root / clip["path"] / f"{clip[when]:05d}.png")) for when in ("onset", "apex"))
        rows.append([onset, apex, _tile(_flow_colours(field, full))])
    y, x = np.mgrid[-1 : 1 : TILE * 1j, -1 : 1 : TILE * 1j]
    wheel = np.where((np.hypot(x, y) <= 1)[..., None], np.stack([x, y], axis=2) * full, np.nan).astype(np.float32)
    rows.append([_flow_colours(wheel, full)])
    labels = [f"{clip['emotion']} {clip['aus']}" for clip in clips] + [f"edge of the wheel: {full:.2f} px"]
    return _grid(rows, ["onset", "apex", "displacement"], labels)


def _flow_colours(field: np.ndarray, full: float) -> np.ndarray:
    """Colours of a displacement: direction as hue, length as saturation (full at ``full`` px), grey without a face."""
    known = ~np.isnan(field[..., 0])
    dx, dy = np.nan_to_num(field[..., 0]), np.nan_to_num(field[..., 1])
    hue = (np.degrees(np.arctan2(dy, dx)) % 360 / 2).astype(np.uint8)
    saturation = (255 * np.clip(np.hypot(dx, dy) / full, 0, 1)).astype(np.uint8)
    colours = cv2.cvtColor(np.dstack([hue, saturation, np.full_like(hue, 255)]), cv2.COLOR_HSV2RGB)
    colours[~known] = 128
    return colours


def _landmarks(root: Path, table: pd.DataFrame, faces: int = 12) -> np.ndarray:
    """Faces with visible landmarks in green, hidden ones in red, key points in blue."""
    size = 2 * TILE
    tiles = []
    for sample in _spread(sorted(table["sample"]), faces):
        row = table[table["sample"] == sample].iloc[0]
        name = row["path"] if row["kind"] == "image" else _onset_file(root, row)
        picture = _read(root / name)
        scale = size / picture.shape[1]
        tile = cv2.resize(picture, (size, size), interpolation=cv2.INTER_CUBIC)
        for point, seen in zip(np.reshape(row["landmarks"], (68, 2)), row["landmarks_visible"], strict=True):
            _dot(tile, point * scale, MARK if seen else (230, 40, 40), 2)
        for point in np.reshape(row["key_points"], (5, 2)):
            _dot(tile, point * scale, (40, 90, 255), 3)
        tiles.append(tile)
    rows = [tiles[i : i + 4] for i in range(0, len(tiles), 4)]
    return _grid(rows, ["68 landmarks: green seen, red hidden; blue: the five key points"], [""] * len(rows))


def _onset_file(root: Path, row: pd.Series) -> str:
    number = f"{row['onset']:05d}"
    return next(str(path.relative_to(root)) for path in sorted((root / row["path"]).glob(f"{number}.*")))


def _dot(tile: np.ndarray, point: np.ndarray, colour: tuple[int, int, int], radius: int) -> None:
    cv2.circle(tile, tuple(np.round(point * 16).astype(int).tolist()), radius * 16, colour, -1, cv2.LINE_AA, shift=4)
