"""Faces of one picture: detection, 68 points, AU regions and alignment, as in the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import ValidationError

from duchenne.errors import UserError
from duchenne.faces.align import apply, similarity, template, warp
from duchenne.faces.detect import choose
from duchenne.faces.find import Face, face_in, find_boxes, find_face
from duchenne.faces.landmarks import landmarker
from duchenne.faces.points import key_points
from duchenne.faces.regions import centres
from duchenne.faces.settings import Faces
from duchenne.media.images import ImageError, read_image

Picture = str | Path | np.ndarray | Image.Image
"""A file, uint8 (H, W, 3) RGB or (H, W) grey, or a picture of Pillow."""


@dataclass(frozen=True, eq=False)
class AlignedFace:
    """One face of a picture.

    Attributes:
        image: the aligned face, uint8 (size, size, 3) RGB.
        points: 68 points of iBUG's mark-up, (68, 2), x and y in px of the picture.
        au_centers: centres of the AU regions, (9, 2), x and y in px of the aligned face, in the order of
            :data:`duchenne.faces.regions.REGIONS`: eyes, brows and cheeks (each left in the image first), nose, mouth,
            chin.
        box: x0, y0, x1, y1 in px of the picture, (4,).
        score: score of the detector; NaN if the box was given.
        doubtful: whether the score is below the detector's own threshold.
        transform: maps x and y of the picture to those of the aligned face, (2, 3).
    """

    image: np.ndarray
    points: np.ndarray
    au_centers: np.ndarray
    box: np.ndarray
    score: float
    doubtful: bool
    transform: np.ndarray


def align(
    picture: Picture,
    faces: Literal["all", "main"] | np.ndarray = "all",
    size: int = 224,
    detector: str = "dlib",
    landmarks: str = "mobilefacenet",
    **settings: Any,
) -> list[AlignedFace]:
    """Find the faces of a picture and align each by five key points, as the align stage does.

    >>> blank = np.full((120, 160, 3), 200, np.uint8)
    >>> align(blank)
    []
    >>> (face,) = align(blank, faces=[[40, 20, 120, 100]], size=96)
    >>> face.image.shape, face.points.shape, face.au_centers.shape
    ((96, 96, 3), (68, 2), (9, 2))

    Args:
        picture: a file, an array uint8 (H, W, 3) RGB or (H, W) grey, or a picture of Pillow.
        faces: ``all``, small ones too, the largest central one first; ``main``: that one alone, found as in training;
            or the boxes of faces (N, 4), x0, y0, x1, y1 in px, which are then not searched.
        size: height and width of an aligned face in px.
        detector, landmarks, settings: as in the block ``faces`` of ``params.yaml``
            (:class:`duchenne.faces.settings.Faces`), such as ``detector="yunet", detector_model="yunet.onnx"``.

    Returns:
        A list of faces, empty if there is none.

    Raises:
        UserError: The picture cannot be read, a setting is wrong, or a package or file that finds faces is missing.
    """
    image = _pixels(picture)
    if isinstance(faces, str) and faces not in ("all", "main"):
        raise UserError(f"faces is {faces!r}: give all, main, or the boxes of faces (N, 4)")
    mode = "detect" if isinstance(faces, str) else "boxes"
    block = {"mode": mode, "size": size, "detector": detector, "landmarks": landmarks, **settings}
    try:
        config = Faces.model_validate(block)
    except ValidationError as error:
        wrong = error.errors()[0]
        place = ".".join(map(str, wrong["loc"])) or "faces"
        raise UserError(f"{place}: {wrong['msg'].removeprefix('Value error, ')}") from None
    found = _detected(image, config, faces == "all") if isinstance(faces, str) else _in_boxes(image, faces, config)
    return [_aligned(image, face, config) for face in found]


def _pixels(picture: Picture) -> np.ndarray:
    if isinstance(picture, str | Path):
        path = Path(picture)
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        try:
            return read_image(path)
        except ImageError as error:
            raise UserError(f"{path}: {error}") from None
    if isinstance(picture, Image.Image):
        return np.asarray(picture.convert("RGB"))
    image = np.asarray(picture)
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UserError(f"the picture is {image.dtype} {image.shape}: give uint8 (H, W, 3) RGB or (H, W) grey")
    return np.ascontiguousarray(image)


def _in_boxes(image: np.ndarray, boxes: Any, config: Faces) -> list[Face]:
    table = np.asarray(boxes, dtype=float)
    if table.ndim != 2 or table.shape[1] != 4 or not (table[:, 2:] > table[:, :2]).all():
        raise UserError(f"faces: give boxes (N, 4), x0, y0, x1, y1 with x0 < x1 and y0 < y1, not {table.tolist()}")
    return [Face(landmarker(config)(image, box), box, float("nan")) for box in table]


def _detected(image: np.ndarray, config: Faces, every: bool) -> list[Face]:
    if not every:
        main = find_face(image, config)
        return [main] if main else []
    boxes, scores = find_boxes(image, config)
    rest = list(range(len(boxes)))
    found: list[Face] = []
    while rest:
        best = rest.pop(choose(boxes[rest], image.shape))
        found.append(face_in(image, config, boxes[best], float(scores[best]), len(boxes)))
    return found


def _aligned(image: np.ndarray, face: Face, config: Faces) -> AlignedFace:
    matrix = similarity(key_points(face.points), template(config.size, config.eye_distance))
    return AlignedFace(
        image=warp(image, matrix, config.size),
        points=face.points,
        au_centers=centres(apply(matrix, face.points)),
        box=face.box,
        score=face.score,
        doubtful=bool(face.doubtful),
        transform=matrix,
    )
