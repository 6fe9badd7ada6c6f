"""Benchmark of the landmark models on 65 hand-annotated faces: error, faces found, and speed.

    DUCHENNE_SHARED=<folder of real faces> python benchmarks/landmarks_london.py [--picture FILE.png]

Prints Markdown tables. Error: mean distance in per cent of the distance between the hand-placed pupils, from the boxes
of one detector for all models; no offset between two conventions is taken out. Scatter: what is left of it when each
point's mean error over the faces is taken out. The sets are the Face Research Lab London Set (65 people, 189
hand-placed points on the neutral portraits) and 936 portraits of Labeled Faces in the Wild, with no such points.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import pandas as pd
import torch
import typer
from scipy.stats import bootstrap
from tqdm import tqdm

from duchenne.faces.align import apply, similarity, template, warp
from duchenne.faces.find import find_face
from duchenne.faces.landmarks import LANDMARKERS, landmarker
from duchenne.faces.points import key_points
from duchenne.faces.settings import Faces
from duchenne.landmark_net.samples import bending, warped
from duchenne.media.images import read_image

GROUPS = {
    "pupils": [((0,), range(36, 42)), ((1,), range(42, 48))],
    "mouth corners": [((87,), [48]), ((93,), [54])],
    "chin": [((129,), [8])],
    "eye corners": [((18,), [36]), ((22,), [39]), ((23,), [42]), ((27,), [45])],
    "lips, upper and lower edge": [((89,), [50]), ((90,), [51]), ((91,), [52]), ((106,), [57])],
    "nose tip": [((54, 60), [30])],
    "nose wings": [((64,), [31]), ((69,), [35])],
    "nose base": [((55,), [33])],
    "ends of the brows": [((71,), [17]), ((76,), [21]), ((77,), [22]), ((82,), [26])],
}
"""Hand-placed points of 189, and the points of iBUG's 68, counted from 0: their means are the same place."""

CORE = ["pupils", "mouth corners", "chin"]
FAILED = 8
"""Mean error of a face, per cent, over which its landmarks count as lost, a bar that is common with 300-W."""

PARTS = {
    "jaw": slice(0, 17), "brows": slice(17, 27), "nose": slice(27, 36), "eyes": slice(36, 48), "mouth": slice(48, 68),
}  # fmt: skip
"""Points of iBUG's 68, counted from 0."""

MODELS = {name: Faces(landmarks=name) for name in LANDMARKERS}
SPOILT = {
    "as it is": lambda image: image,
    "grey": lambda image: np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2),
    "dark (a tenth of the light)": lambda image: (255 * (image / 255.0) ** 2.2 * 0.1).clip(0, 255).astype(np.uint8),
    "blurred (sigma 2 % of the height)": lambda image: cv2.GaussianBlur(image, (0, 0), 0.02 * image.shape[0]),
}


def errors(root: Path, boxes: dict[str, np.ndarray]) -> pd.DataFrame:
    """Measure every compared point: path, model, picture (of SPOILT), group, point, x, y, error (per cent)."""
    points = pd.read_csv(root / "landmarks189.csv").set_index(["path", "point"])[["x", "y"]]
    rows = []
    for path, box in tqdm(boxes.items(), desc="landmarks"):
        true, image = points.loc[path], read_image(root / path)
        pupils = np.linalg.norm(true.loc[0] - true.loc[1])
        for picture, spoil in SPOILT.items():
            spoilt = spoil(image)
            for model, config in MODELS.items():
                found = landmarker(config)(spoilt, box)
                for group, pairs in GROUPS.items():
                    for hand, ours in pairs:
                        away = found[list(ours)].mean(axis=0) - true.loc[list(hand)].mean(axis=0)
                        x, y = 100 * away / pupils
                        point = "-".join(map(str, sorted({ours[0], ours[-1]})))
                        rows.append((path, model, picture, group, point, x, y, np.hypot(x, y)))
    return pd.DataFrame(rows, columns=["path", "model", "picture", "group", "point", "x", "y", "error"])


def scatter(table: pd.DataFrame) -> pd.Series:
    """By model, the mean distance (per cent) of a point's errors from their mean."""
    away = table[["x", "y"]] - table.groupby(["model", "point"])[["x", "y"]].transform("mean")
    return np.hypot(away["x"], away["y"]).groupby(table["model"]).mean()


def paired(table: pd.DataFrame) -> dict[str, float]:
    """Compare two models by person: mean difference, 95 % interval, per cent of people with a smaller error."""
    by_person = table.groupby(["path", "model"])["error"].mean().unstack()[list(MODELS)]
    less = by_person.diff(periods=-1, axis=1).iloc[:, 0]
    interval = bootstrap((less,), np.mean, method="percentile", rng=0).confidence_interval
    return {"mean": less.mean(), "low": interval.low, "high": interval.high, "nearer": 100 * (less < 0).mean()}


def apart(root: Path, count: int = 200) -> pd.Series:
    """Measure the distance of two models' points on random photographs, per cent of the first's eye distance."""
    paths = pd.read_csv(root / "manifest.csv")["path"].sample(count, random_state=0)
    distances = []
    for path in tqdm(paths, desc=root.name):
        image = read_image(root / path)
        if face := find_face(image, Faces()):
            one, other = (landmarker(config)(image, face.box) for config in MODELS.values())
            eyes = np.linalg.norm(np.subtract(*key_points(one)[:2]))
            distances.append(100 * np.linalg.norm(other - one, axis=1) / eyes)
    table = np.stack(distances)
    return pd.Series(
        {"photographs": len(table), "all points": table.mean(), "without the jaw": table[:, 17:].mean()}
        | {name: table[:, points].mean() for name, points in PARTS.items()}
        | {"faces over 15 %, %": 100 * (table.mean(axis=1) > 15).mean()}
    )


def follow(root: Path, boxes: dict[str, np.ndarray], amount: float = 0.05) -> pd.DataFrame:
    """Measure how far a model's points follow the parts of a warped face: 1 completely, 0 not at all.

    The slope of their shift on that of what was under them, both without the face's shift, turn and scale as a whole.
    A model that knows a face as a whole alone stays behind. By part and model.
    """
    hand = pd.read_csv(root / "landmarks189.csv").set_index(["path", "point"])[["x", "y"]]
    shifts: dict[tuple[str, str], list[np.ndarray]] = {}
    for k, path in enumerate(tqdm(boxes, desc="bending")):
        image, box = read_image(root / path), boxes[path]
        eyes = float(np.linalg.norm(hand.loc[path].loc[0] - hand.loc[path].loc[1]))
        field = bending(image.shape[:2], eyes, amount, np.random.default_rng(k))
        for name, config in MODELS.items():
            before = landmarker(config)(image, box)
            changed, true = warped(image, before, field)
            after = landmarker(config)(changed, box)
            local = [points - apply(similarity(before, points), before) for points in (true, after)]
            for part, points in PARTS.items():
                shifts.setdefault((part, name), []).append(np.stack([array[points] for array in local]))
    slopes = {key: np.concatenate(values, axis=1) for key, values in shifts.items()}
    return pd.Series({key: (true * found).sum() / (true**2).sum() for key, (true, found) in slopes.items()}).unstack()


def shake(root: Path, boxes: dict[str, np.ndarray], frames: int = 12) -> dict[str, float]:
    """Measure the standard deviation of the eyes' centres in a still face under noise and a box that moves by 2 %.

    Per cent of the distance of the eyes.
    """
    spread: dict[str, list[float]] = {name: [] for name in MODELS}
    rng = np.random.default_rng(0)
    for path in list(boxes)[:12]:
        image, box = read_image(root / path), boxes[path]
        video = [np.clip(image + rng.normal(0, 10, image.shape), 0, 255).astype(np.uint8) for _ in range(frames)]
        shifts = rng.normal(0, 0.02 * (box[2] - box[0]), (frames, 4))
        for name, config in MODELS.items():
            found = [landmarker(config)(frame, box + shift) for frame, shift in zip(video, shifts, strict=True)]
            eyes = np.stack([key_points(points)[:2] for points in found])
            apart = np.linalg.norm(eyes[:, 0] - eyes[:, 1], axis=1).mean()
            spread[name].append(100 * float(np.sqrt(eyes.var(axis=0).sum(-1).mean())) / apart)
    return {name: float(np.mean(values)) for name, values in spread.items()}


def speed(root: Path, boxes: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """Measure faces per second of processor time: landmarks alone, and with detection and alignment, 224 px faces."""
    faces = [warp(read_image(root / path), _crop(boxes[path]), 224) for path in list(boxes)[:20]]
    target, result = template(224, 0.34), {}
    for name, config in MODELS.items():
        box = np.array([40.0, 40.0, 184.0, 184.0])
        landmarker(config)(faces[0], box)
        start = time.process_time()
        for face in faces:
            landmarker(config)(face, box)
        alone, start = len(faces) / (time.process_time() - start), time.process_time()
        for face in faces:
            if found := find_face(face, config):
                warp(face, similarity(key_points(found.points), target), 224)
        result[name] = alone, len(faces) / (time.process_time() - start)
    return result


def _crop(box: np.ndarray) -> np.ndarray:
    """Return the transform that puts a box into the middle of 224 px, at 144 px."""
    scale = 144 / (box[2] - box[0])
    return np.array([[scale, 0, 40 - scale * box[0]], [0, scale, 40 - scale * box[1]]])


def detection(root: Path, config: Faces) -> dict[str, float]:
    """Count the faces found, and measure the processor time from file to aligned face."""
    paths = pd.read_csv(root / "manifest.csv")["path"]
    target = template(config.size, config.eye_distance)
    found, start = 0, time.process_time()
    for path in tqdm(paths, desc=root.name):
        image = read_image(root / path)
        if face := find_face(image, config):
            warp(image, similarity(key_points(face.points), target), config.size)
            found += 1
    spent = 1000 * (time.process_time() - start) / len(paths)
    return {"images": len(paths), "faces found": found, "share, %": round(100 * found / len(paths), 1), "ms": spent}


def draw(root: Path, boxes: dict[str, np.ndarray], out: Path, side: int = 260) -> None:
    """Draw twenty faces with the points of every model: the first in yellow, the second in blue."""
    tiles = []
    for path in list(boxes)[::3][:20]:
        image, box = read_image(root / path), boxes[path]
        scale = 0.62 * side / (box[2] - box[0])
        matrix = np.array([[scale, 0, side * 0.19 - scale * box[0]], [0, scale, side * 0.22 - scale * box[1]]])
        tile = warp(image, matrix, side)
        for config, colour in zip(MODELS.values(), ((255, 220, 0), (0, 120, 255)), strict=True):
            for x, y in landmarker(config)(image, box) @ matrix[:, :2].T + matrix[:, 2]:
                cv2.circle(tile, (round(8 * x), round(8 * y)), 13, colour, -1, cv2.LINE_AA, 3)
        tiles.append(tile)
    sheet = np.vstack([np.hstack(tiles[row : row + 5]) for row in range(0, len(tiles), 5)])
    cv2.imwrite(str(out), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))


def main(
    picture: Annotated[Path | None, typer.Option(help="where to draw twenty faces")] = None,
    lfw: Annotated[bool, typer.Option(help="also look at faces in the wild")] = True,
) -> None:
    """Print the tables."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    data = Path(os.environ["DUCHENNE_SHARED"]) / "data"
    root, config = data / "london", next(iter(MODELS.values()))
    paths = pd.read_csv(root / "landmarks189.csv")["path"].unique()
    boxes = {path: find_face(read_image(root / path), config).box for path in paths}
    table = errors(root, boxes)
    table["core"] = table["group"].isin(CORE)
    plain = table[table["picture"] == "as it is"]
    header = " | ".join(MODELS)
    rule = "|---" * (len(MODELS) + 1) + "|"

    def line(name: str, values: pd.Series, digits: int = 2) -> None:
        print(f"| {name} | " + " | ".join(f"{values[model]:.{digits}f}" for model in MODELS) + " |")

    print(f"\n| mean error, % of the pupils' distance | {header} |\n{rule}")
    for group in GROUPS:
        line(group, plain[plain["group"] == group].groupby("model")["error"].mean())
    line("**all of these**", plain.groupby("model")["error"].mean())
    line("**pupils, mouth corners and chin**", plain[plain["core"]].groupby("model")["error"].mean())
    line("scatter, all of these", scatter(plain))
    line("scatter, pupils, mouth corners and chin", scatter(plain[plain["core"]]))
    lost = plain[plain["core"]].groupby(["model", "path"])["error"].mean() > FAILED
    line(f"faces over {FAILED} % of those, %", 100 * lost.groupby("model").mean(), 1)
    for name in list(SPOILT)[1:]:
        line(f"those, {name}", table[(table["picture"] == name) & table["core"]].groupby("model")["error"].mean())
    line("shake of the eye centres in a noisy still", pd.Series(shake(root, boxes)))
    for part, shares in follow(root, boxes).iterrows():
        line(f"share of the way that the points of the {part} go with a bent face", shares)
    rates = speed(root, boxes)
    line("faces a second of one core, landmarks alone", pd.Series({k: v[0] for k, v in rates.items()}), 0)
    line("with detection and alignment", pd.Series({k: v[1] for k, v in rates.items()}), 0)
    print(f"\n| mean error, points of iBUG's 68 from 0 | {header} |\n{rule}")
    for (group, point), values in plain.groupby(["group", "point"], sort=False):
        line(f"{group}: {point}", values.groupby("model")["error"].mean())
    first, second = MODELS
    print(f"\n| {first} less {second}, by person | mean | 95 % | {first} nearer on |\n|---|---|---|---|")
    for name, some in {"all of these": plain, "pupils, mouth corners and chin": plain[plain["core"]]}.items():
        row = paired(some)
        print(f"| {name} | {row['mean']:.2f} | {row['low']:.2f} to {row['high']:.2f} | {row['nearer']:.0f} % |")
    if lfw:
        print(f"\n| {first} and {second} apart, % of the eyes' distance | |\n|---|---|")
        for name, value in apart(data / "lfw-emotion").items():
            print(f"| {name} | {value:.2f} |")
    if picture:
        draw(root, boxes, picture)
    print("\n| set | images | faces found | share, % | CPU ms an image |\n|---|---|---|---|---|")
    for name in ("london", "lfw-emotion") if lfw else ("london",):
        row = detection(data / name, Faces())
        print(f"| {name} | {row['images']} | {row['faces found']} | {row['share, %']} | {row['ms']:.0f} |")


if __name__ == "__main__":
    typer.run(main)
