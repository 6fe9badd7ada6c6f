"""Networks of a few weights, clips, and what `duchenne predict` says about them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pandas as pd
import training_networks  # noqa: F401  (registers the tiny networks)
from safetensors.torch import save_file
from training_tools import CLASSES, variant
from typer.testing import CliRunner

from duchenne import cli
from duchenne.errors import UserError
from duchenne.faces.build import store_meta
from duchenne.faces.settings import Faces
from duchenne.files import write_json
from duchenne.models.contract import create
from duchenne.prediction.model import Model
from duchenne.prediction.options import Options
from duchenne.training.settings import Augment, Clip
from duchenne.training.trained import make_card

RECIPES = {
    "test_resnet": {},
    "tiny_clip": {"clip": Clip(frames=4)},
    "tiny_pair": {"optimizer": "adamw", "augment": Augment(apex_random=0.4)},
}


def write_clips(root: Path) -> pd.DataFrame:
    """Folders of frames with a bright bar at the height of the class; no file has the number 0."""
    rng, rows = np.random.default_rng(0), []
    for i in range(18):
        folder, top = root / f"s{i:02d}", i % 3 * 21
        folder.mkdir()
        for number in range(1, 9):
            image = rng.integers(40, 120, (64, 64, 3), dtype=np.uint8)
            image[top : top + 21] += 100
            cv2.imwrite(str(folder / f"img{number}.png"), image)
        rows.append(
            {"sample": folder.name, "path": folder.name, "kind": "frames", "label": i % 3, "onset": 2, "apex": 6}
        )
    return pd.DataFrame(rows)


def fold_of(folder: Path, architecture: str, faces: Faces) -> Path:
    """An untrained network and its card in ``folder``, as if it had been trained on faces found as ``faces`` says."""
    network = create(architecture, {}, len(CLASSES))
    config = variant(architecture=architecture, options={}, **RECIPES.get(architecture, {}))
    store = SimpleNamespace(meta=store_meta(faces))
    samples = pd.DataFrame({"sample": ["s"], "part": ["train"]})
    write_json(folder / "card.json", make_card(network, config, CLASSES, 1, samples, store, "fp32", 1))
    save_file(network.state_dict(), folder / "weights.safetensors")
    return folder


def folds_of(root: Path, faces: Faces) -> dict[str, Path]:
    """An untrained network of each kind."""
    return {name: fold_of(root / name, name, faces) for name in ("tiny", "tiny_clip", "tiny_pair")}


def said(fold: Path, *arguments: object) -> tuple[int, list[dict], list[str]]:
    """Exit status, answers and lines on stderr of ``duchenne predict``."""
    result = CliRunner().invoke(cli.app, ["predict", "--model", str(fold), *map(str, arguments)])
    if isinstance(result.exception, UserError):  # main prints it
        return 1, [], [f"error: {result.exception}"]
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()], result.stderr.splitlines()


def movie(path: Path, count: int, side: int = 64) -> Path:
    """A video of ``count`` noisy frames, one key frame each."""
    noise = np.random.default_rng(0)
    with av.open(path, "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = side, side, "yuvj420p"
        for _ in range(count):
            image = noise.integers(0, 256, (side, side, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def scene(path: Path, count: int, faces: Sequence[tuple[int, set[int]]], move: int = 1) -> Path:
    """A lossless video of 160 x 100 px in which :class:`MarksDetector` finds faces that move to the right.

    Args:
        faces: column of each face in the first frame, and the frames in which it is hidden.
    """
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 100, "bgr0"
        for k in range(count):
            image = np.full((100, 160, 3), 50 + k % 100, np.uint8)
            for column, hidden in faces:
                if k not in hidden:
                    image[0, column + k * move // 4] = 255, 255, 200
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def cut(path: Path, share: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def answered(model: Model | Path, source: Any, onset: int | None = None, apex: int | None = None) -> dict[str, Any]:
    """The only row that a trained network (or fold) predicts for a source."""
    model = model if isinstance(model, Model) else Model(model)
    (row,) = model.stream(source, Options(onset=onset, apex=apex), workers=0)
    return row
