"""Conversion of stored video pixels to the picture that a player shows: turned, mirrored, with square pixels."""

from __future__ import annotations

from fractions import Fraction

import av
import cv2
import numpy as np

ASPECTS = Fraction(1, 4), Fraction(4)
"""Plausible pixel aspect ratios (chosen by us); any other is treated as a damaged header and ignored."""


class Display:
    """Shows the decoded frames of one video as FFmpeg and players do.

    The display matrix is read from the first frame, and again when its angle changes: asked for its side data, PyAV
    makes a frame part of a reference cycle, and hundreds of frames fill the memory before Python collects them.
    """

    def __init__(self) -> None:
        self._angle: int | None = None
        self._matrix: np.ndarray | None = None

    def __call__(self, frame: av.VideoFrame, aspect: Fraction | None = None) -> np.ndarray:
        """Return a frame as shown: uint8 (H, W, 3) RGB.

        Args:
            aspect: width of a stored pixel divided by its height (``stream.sample_aspect_ratio``); None: 1.
        """
        image = squared(frame.to_ndarray(format="rgb24"), aspect)
        if frame.rotation != self._angle:
            self._angle = frame.rotation
            data = frame.side_data.get("DISPLAYMATRIX")
            self._matrix = None if data is None else np.frombuffer(bytes(data), np.int32).reshape(3, 3)
        return np.ascontiguousarray(image if self._matrix is None else oriented(image, self._matrix))


def squared(image: np.ndarray, aspect: Fraction | None) -> np.ndarray:
    """Stretch an image (H, W, 3) so that its pixels are square and none is lost."""
    height, width = image.shape[:2]
    width, height = sides(width, height, aspect)
    if image.shape[:2] == (height, width):
        return image
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def sides(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """Return width and height with square pixels, before turning."""
    if not aspect or not ASPECTS[0] <= aspect <= ASPECTS[1]:
        return width, height
    return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))


def oriented(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply a display matrix to an image (H, W, ...): one of four right-angle turns, with or without mirroring.

    A stored pixel (x, y) is shown at ``(x, y, 1) @ matrix`` (x right, y down); shift and scale are ignored. Other
    angles are rounded to the nearest right angle; the rest is corrected with the roll of the face.

    Args:
        matrix: int (3, 3), 16.16 fixed point, as FFmpeg gives it (``libavutil/display.h``).
    """
    (a, b), (c, d) = matrix[:2, :2].astype(float)  # shown x = a x + c y, shown y = b x + d y
    if abs(a) + abs(d) >= abs(b) + abs(c):
        across, down = a, d
    else:
        image, across, down = image.swapaxes(0, 1), c, b
    return image[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
