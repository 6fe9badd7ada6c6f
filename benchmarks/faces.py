"""Benchmark of the way from a file to an aligned face with its landmarks: speed, share of each step, error and shake.

    DUCHENNE_SHARED=<folder of real faces> python benchmarks/faces.py [--against <other checkout>/src]

Prints Markdown tables. Times are processor time of one core, so that other work on the machine counts little; images
and frames per second are those of ``--cores`` cores, because the stages run one process per core. Photographs: Face
Research Lab London Set (540 px) and Labeled Faces in the Wild (350 px). The clip is a portrait of 480 px that moves and
turns. With ``--against`` the code of another checkout is measured in turns with this one, in processes of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import av
import cv2
import numpy as np
import pandas as pd
import typer

from duchenne.faces.align import similarity, template, warp
from duchenne.faces.detect import choose, detector
from duchenne.faces.find import find_face
from duchenne.faces.hashing import face_hash
from duchenne.faces.landmarks import LANDMARKERS, landmarker
from duchenne.faces.points import key_points
from duchenne.faces.settings import Faces
from duchenne.faces.store import encode
from duchenne.media.frames import read_frames
from duchenne.media.images import read_image, resized

SETS = {"London, 540 px": "london", "LFW, 350 px": "lfw-emotion"}
SIDE, FRAMES = 480, 40
"""Sides (px) and number of frames of the clip."""

Times = dict[str, float]
"""Step -> ms of one core."""


class Clock:
    """Adds up the processor time of named steps."""

    def __init__(self) -> None:
        self.spent: Times = {}

    def __call__(self, step: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a function and count its time for ``step``."""
        start = time.process_time()
        result = function(*args, **options)
        self.spent[step] = self.spent.get(step, 0.0) + 1000 * (time.process_time() - start)
        return result

    def each(self, count: int) -> Times:
        """Return the mean time of each step, ms."""
        return {step: spent / count for step, spent in self.spent.items()}


def photographs(paths: list[Path], config: Faces) -> Times:
    """Measure every step from photographs to aligned faces."""
    target, clock = template(config.size, config.eye_distance), Clock()
    for path in paths:
        image = clock("read", read_image, path)
        boxes, _ = clock("detect", detector(config), image)
        if not len(boxes):
            continue
        points = clock("landmarks", landmarker(config), image, boxes[choose(boxes, image.shape)])
        aligned = clock("align", warp, image, similarity(key_points(points), target), config.size)
        clock("hash", face_hash, aligned)
        clock("encode", encode, aligned, config.encoding, config.quality)
    return clock.each(len(paths))


def clip(path: Path, config: Faces) -> Times:
    """Measure every step from a video to its aligned faces."""
    target, clock = template(config.size, config.eye_distance), Clock()
    frames, face = read_frames(path, "video", 100.0), None
    for _ in range(FRAMES):
        _, image = clock("read", next, frames)
        face = clock("detect and landmarks", find_face, image, config, last=face)
        aligned = clock("align", warp, image, similarity(key_points(face.points), target), config.size)
        clock("encode", encode, aligned, config.encoding, config.quality)
    return clock.each(FRAMES)


def write_clip(portrait: Path, out: Path) -> None:
    """Write a clip of a portrait that moves by up to 4 px and turns by up to a degree from frame to frame."""
    image = read_image(portrait)
    image = resized(image, SIDE / max(image.shape))[:SIDE, :SIDE]
    height, width = (side // 2 * 2 for side in image.shape[:2])
    with av.open(out, "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", 4_000_000
        for k in range(FRAMES):
            angle, shift = 8 * np.sin(k / 8), 25 * np.sin(k / 6)
            matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
            matrix[:, 2] += shift
            frame = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def shake_in_a_clip(root: Path, paths: list[str], frames: int = 12) -> float:
    """Standard deviation of the eyes' centres in a noisy still, frame after frame; per cent of the eyes' distance."""
    rng, config, spread = np.random.default_rng(0), Faces(), []
    for path in paths[:12]:
        image, face, found = read_image(root / path), None, []
        for _ in range(frames + 1):
            noisy = np.clip(image + rng.normal(0, 10, image.shape), 0, 255).astype(np.uint8)
            face = find_face(noisy, config, last=face)
            found.append(key_points(face.points)[:2])
        eyes = np.stack(found[1:])  # the first frame of a clip is searched as a picture
        apart = np.linalg.norm(eyes[:, 0] - eyes[:, 1], axis=1).mean()
        spread.append(100 * float(np.sqrt(eyes.var(axis=0).sum(-1).mean())) / apart)
    return float(np.mean(spread))


def measure(data: Path, count: int) -> dict[str, Times]:
    """Measure all steps once: photographs of each set with each landmark model, and the clip."""
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "clip.mp4"
        write_clip(data / "london" / pd.read_csv(data / "london" / "manifest.csv")["path"].iloc[0], video)
        result = {}
        for name in LANDMARKERS:
            config = Faces(landmarks=name)
            for title, folder_name in SETS.items():
                table = pd.read_csv(data / folder_name / "manifest.csv")["path"].sample(count, random_state=1)
                paths = [data / folder_name / path for path in table]
                photographs(paths[:2], config)
                result[f"{title}, {name}"] = photographs(paths, config)
            clip(video, config)
            result[f"clip, {SIDE} px, {name}"] = clip(video, config)
    return result


def errors(data: Path) -> Times:
    """Measure error and shake of the landmarks on the London portraits, per cent of the distance of pupils or eyes."""
    import landmarks_london as london

    root = data / "london"
    paths = list(pd.read_csv(root / "landmarks189.csv")["path"].unique())
    london.MODELS = {"ours": Faces()}
    london.SPOILT = {"as it is": london.SPOILT["as it is"]}
    boxes = {path: find_face(read_image(root / path), Faces()).box for path in paths}
    table = london.errors(root, boxes)
    core = table[table["group"].isin(london.CORE)]
    return {
        "error, all points": table["error"].mean(),
        "error, pupils, mouth corners and chin": core["error"].mean(),
        "shake in stills": london.shake(root, boxes)["ours"],
        "shake in a clip": shake_in_a_clip(root, paths),
    }


def least(rounds: list[dict[str, Times]]) -> dict[str, Times]:
    """Return the shortest time of each step."""
    return {row: {step: min(one[row][step] for one in rounds) for step in rounds[0][row]} for row in rounds[0]}


def main(
    against: Annotated[Path | None, typer.Option(help="folder src of a checkout to compare with")] = None,
    count: Annotated[int, typer.Option(help="photographs of each set")] = 20,
    rounds: Annotated[int, typer.Option(help="repetitions, of which the shortest time of each step counts")] = 3,
    cores: Annotated[int, typer.Option(help="cores of the throughput that is printed")] = 2,
    quality: Annotated[bool, typer.Option(help="also measure error and shake")] = True,
    once: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Print the tables."""
    cv2.setNumThreads(1)
    data = Path(os.environ["DUCHENNE_SHARED"]) / "data"
    if once:
        found = {"steps": measure(data, count), "quality": errors(data) if quality else {}}
        print("\n" + json.dumps(found))
        return
    sources = {"here": Path(__file__).parents[1] / "src"} | ({"other": against} if against else {})
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sources}
    for number in range(rounds):
        for name, source in sources.items():
            flags = ["--once", "--count", str(count), "--quality" if quality and not number else "--no-quality"]
            environment = os.environ | {"PYTHONPATH": str(source.resolve()), "OMP_NUM_THREADS": "1"}
            call = [sys.executable, __file__, *flags]
            done = subprocess.run(call, env=environment, check=True, stdout=subprocess.PIPE, encoding="utf-8")
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    steps = {name: least([one["steps"] for one in runs]) for name, runs in found.items()}
    for row, times in steps["here"].items():
        total = sum(times.values())
        print(f"\n**{row}**: {total:.1f} ms, {1000 * cores / total:.0f} per second on {cores} cores")
        if against:
            before = sum(steps["other"][row].values())
            print(f"\nOther: {before:.1f} ms, {1000 * cores / before:.0f} per second; ratio {before / total:.2f}")
        heads = ["step", "ms", "share, %"] + (["other, ms"] if against else [])
        print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        for step, spent in times.items():
            cells = [step, f"{spent:.1f}", f"{100 * spent / total:.0f}"]
            cells += [f"{steps['other'][row][step]:.1f}"] if against else []
            print(f"| {' | '.join(cells)} |")
    first, second = LANDMARKERS
    for row in (*SETS, f"clip, {SIDE} px"):
        ours, theirs = (sum(steps["here"][f"{row}, {name}"].values()) for name in (first, second))
        print(f"\n{row}: {first} takes {ours / theirs:.2f} times as long as {second}")
    if quality:
        print(f"\n| % of the distance of pupils or eyes | {' | '.join(sources)} |\n|{'---|' * (len(sources) + 1)}")
        for name in found["here"][0]["quality"]:
            print(f"| {name} | " + " | ".join(f"{runs[0]['quality'][name]:.2f}" for runs in found.values()) + " |")


if __name__ == "__main__":
    typer.run(main)
