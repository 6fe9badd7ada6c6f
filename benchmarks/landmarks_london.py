"""How well dlib's 68 points fit 65 hand-annotated faces, how many faces are found, and what it costs.

    DUCHENNE_SHARED=<folder of real faces> python benchmarks/landmarks_london.py

Prints two Markdown tables. Error: mean distance in per cent of the distance between the hand-placed pupils. The sets
are the Face Research Lab London Set (65 people, 189 hand-placed points on the neutral portraits) and 936 portraits of
Labeled Faces in the Wild.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from duchenne.catalog import Faces
from duchenne.faces.align import similarity, template, warp
from duchenne.faces.find import find_face
from duchenne.faces.images import read_image
from duchenne.faces.landmarks import key_points

GROUPS = {
    "pupils": {0: range(36, 42), 1: range(42, 48)},
    "mouth corners": {87: [48], 93: [54]},
    "chin": {129: [8]},
    "eye corners": {18: [36], 22: [39], 23: [42], 27: [45]},
    "lips, upper and lower edge": {89: [50], 90: [51], 91: [52], 106: [57]},
    "nose base": {55: [33]},
    "ends of the brows": {71: [17], 76: [21], 77: [22], 82: [26]},
}
"""Hand-placed point of 189 -> the points of iBUG's 68, counted from 0, whose mean is the same place."""

FAILED = 8
"""Mean error of a face, per cent, over which its landmarks count as lost, a bar that is common with 300-W."""

CONFIG = Faces()


def errors(root: Path) -> pd.DataFrame:
    """The error of every compared point of every neutral portrait: path, group, error (per cent)."""
    points = pd.read_csv(root / "landmarks189.csv").set_index(["path", "point"])[["x", "y"]]
    rows = []
    for path in tqdm(points.index.levels[0], desc="landmarks"):
        true = points.loc[path]
        found = find_face(read_image(root / path), CONFIG)
        pupils = np.linalg.norm(true.loc[0] - true.loc[1])
        for group, pairs in GROUPS.items():
            for hand, ours in pairs.items():
                distance = np.linalg.norm(found.points[list(ours)].mean(axis=0) - true.loc[hand])
                rows.append({"path": path, "group": group, "error": 100 * distance / pupils})
    return pd.DataFrame(rows)


def detection(root: Path) -> dict[str, float]:
    """Faces found, and the processor time from file to aligned face."""
    paths = pd.read_csv(root / "manifest.csv")["path"]
    target = template(CONFIG.size, CONFIG.eye_distance)
    found, start = 0, time.process_time()
    for path in tqdm(paths, desc=root.name):
        image = read_image(root / path)
        if face := find_face(image, CONFIG):
            warp(image, similarity(key_points(face.points), target), CONFIG.size)
            found += 1
    spent = 1000 * (time.process_time() - start) / len(paths)
    return {"images": len(paths), "faces found": found, "share, %": round(100 * found / len(paths), 1), "ms": spent}


def main() -> None:
    cv2.setNumThreads(1)
    data = Path(os.environ["DUCHENNE_SHARED"]) / "data"
    table = errors(data / "london")
    core = table[table["group"].isin(["pupils", "mouth corners", "chin"])]
    mean = core["error"].mean()
    lost = (core.groupby("path")["error"].mean() > FAILED).mean()
    means = table.groupby("group", sort=False)["error"].agg(["mean", "median"]).round(2)
    print("\n| points | mean error, % | median, % |\n|---|---|---|")
    for group, row in means.iterrows():
        print(f"| {group} | {row['mean']} | {row['median']} |")
    print(f"| **pupils, mouth corners and chin** | **{mean:.2f}** | |")
    print(f"| faces over {FAILED} % of those | {100 * lost:.1f} % | |")
    print("\n| set | images | faces found | share, % | CPU ms an image |\n|---|---|---|---|---|")
    for name in ("london", "lfw-emotion"):
        row = detection(data / name)
        print(f"| {name} | {row['images']} | {row['faces found']} | {row['share, %']} | {row['ms']:.0f} |")


if __name__ == "__main__":
    main()
