"""Benchmark of decoding clips: speed of each way, and whether all of them give the same frames.

    python benchmarks/decode_clips.py [--seconds 10] [--repeats 3]

Renders a face that talks at 25 frames a second, writes it as H.264, MPEG-4 and a folder of JPEG files, and prints a
Markdown table: frames a second (the best of some runs, one process), the ratio to what the align stage does
(``media.frames.read_frames``) and the mean difference of the pixels from it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import av
import cv2
import numpy as np
import typer
from PIL import Image

from duchenne.media.frame_names import numbered
from duchenne.media.frames import read_frames
from duchenne.synth.clips import render_clip
from duchenne.synth.plan import plan
from duchenne.synth.settings import Synth

CODECS = {"H.264": ("libx264", "mp4"), "MPEG-4": ("mpeg4", "avi")}
SIZE, RATE = 224, 25


def ours(path: Path) -> Iterator[np.ndarray]:
    return (image for _, image in read_frames(path, "frames" if path.is_dir() else "video", 100))


def pyav(path: Path, threads: str) -> Iterator[np.ndarray]:
    with av.open(path) as container:
        container.streams.video[0].thread_type = threads
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def opencv_video(path: Path) -> Iterator[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    while True:
        found, image = capture.read()
        if not found:
            return
        yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def torchcodec(path: Path) -> Iterator[np.ndarray]:
    from torchcodec.decoders import VideoDecoder

    for frame in VideoDecoder(str(path), dimension_order="NHWC"):
        yield frame.numpy()


def opencv_images(path: Path) -> Iterator[np.ndarray]:
    return (cv2.imread(str(path / name), cv2.IMREAD_COLOR_RGB) for _, name in numbered(path))


def pillow_images(path: Path) -> Iterator[np.ndarray]:
    return (np.asarray(Image.open(path / name).convert("RGB")) for _, name in numbered(path))


WAYS: dict[str, dict[str, Callable[[Path], Iterator[np.ndarray]]]] = {
    "video": {
        "the align stage": ours,
        "PyAV, slices in threads": lambda path: pyav(path, "SLICE"),
        "PyAV, frames in threads": lambda path: pyav(path, "AUTO"),
        "OpenCV": opencv_video,
        "torchcodec": torchcodec,
    },
    "frames": {"the align stage": ours, "Pillow, unchecked": pillow_images, "OpenCV": opencv_images},
}


def clips(folder: Path, seconds: float) -> dict[str, Path]:
    """A rendered clip in every form, by its name."""
    config = Synth(kind="video", subjects=2, seconds=(seconds, seconds), fps=RATE, size=SIZE, seed=5)
    truth, _ = render_clip(config, plan(config)[0], folder)
    made = {"JPEG files": folder / truth["path"]}
    for name, (codec, suffix) in CODECS.items():
        made[name] = folder / f"clip.{suffix}"
        with av.open(made[name], "w") as container:
            stream = container.add_stream(codec, rate=RATE)
            stream.width = stream.height = SIZE
            stream.pix_fmt, stream.bit_rate = "yuv420p", 2_000_000
            for image in ours(made["JPEG files"]):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
    return made


def measured(way: Callable[[Path], Iterator[np.ndarray]], path: Path, repeats: int) -> tuple[float, list[np.ndarray]]:
    """Measure frames per second; returns it and the frames."""
    best, frames = float("inf"), []
    for _ in range(repeats):
        began = time.perf_counter()
        frames = list(way(path))
        best = min(best, time.perf_counter() - began)
    return len(frames) / best, frames


def main(seconds: Annotated[float, typer.Option(min=1)] = 10, repeats: Annotated[int, typer.Option(min=1)] = 3) -> None:
    """Print the table."""
    print("| clip | way | frames/s | times the align stage | mean difference | frames |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, path in clips(Path(folder), seconds).items():
            speeds, reference = {}, []
            for label, way in WAYS["frames" if path.is_dir() else "video"].items():
                try:
                    speeds[label], frames = measured(way, path, repeats)
                except (ImportError, RuntimeError) as error:  # torchcodec is optional, and needs FFmpeg's libraries
                    print(f"| {name} | {label} | {str(error).splitlines()[0]} | | | |")
                    continue
                reference = reference or frames
                pairs = zip(frames, reference, strict=False)
                far = np.mean([np.abs(a.astype(int) - b).mean() for a, b in pairs])
                ratio = speeds[label] / speeds["the align stage"]
                print(f"| {name} | {label} | {speeds[label]:.0f} | {ratio:.2f} | {far:.2f} | {len(frames)} |")


if __name__ == "__main__":
    typer.run(main)
