"""Draws predictions into pictures: boxes, labels, probabilities and displacements.

Text and lines are as large as the picture and the face ask for. Colours are those of the report, by the order of the
classes, and never the only carrier of a meaning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw

from duchenne.faces.regions import BOX, REGIONS, centres
from duchenne.prediction.lettering import font_of, printable, width_of
from duchenne.reporting.colours import INK, PALETTE, PAPER, SOFT, coloured, rgb, wheel

Row = Mapping[str, Any]

LEAST = 320
"""Shorter side that a picture is enlarged to, px: text fits into no smaller one."""
SIDE, EYES_APART = 224, 0.34
"""Side of an aligned face, px, and distance of its eye centres as a share of it, by which the regions are defined."""
SHADE = 190
"""Opacity of the ground under probabilities, of 255."""


class Rect(NamedTuple):
    """Part of a picture: edges in px, the right and lower ones outside of it."""

    left: int
    top: int
    right: int
    bottom: int

    def meets(self, other: Rect) -> bool:
        """Whether the two share a pixel."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def inside(self, width: int, height: int) -> Rect:
        """Return it shifted into a picture, as far as it fits."""
        left = max(0, min(self.left, width - (self.right - self.left)))
        top = max(0, min(self.top, height - (self.bottom - self.top)))
        return Rect(left, top, left + self.right - self.left, top + self.bottom - self.top)


def draw_faces(image: np.ndarray, rows: Sequence[Row], points: Sequence[np.ndarray | None] = ()) -> np.ndarray:
    """Draw the predictions of a frame: box, track, emotion and the probabilities of all classes of each face.

    The probabilities stand beside the box where there is room, and otherwise in a strip below it. A box of dashes and
    the word "doubtful" mark a face that the detector doubts. A row without a box has its label in the frame's corner;
    one without an emotion shows its note there.

    Args:
        image: uint8 (H, W, 3) RGB.
        rows: rows of a prediction of this frame: ``box`` (x0, y0, x1, y1 in px, or None), ``track``, ``emotion``,
            ``probabilities`` by class, ``doubtful`` and ``note``; absent keys count as None.
        points: the 68 points (68, 2) in px of each row's face, or None, to draw them and the nine boxes around action
            units that FRL-DGT uses.

    Returns:
        The drawn picture, uint8 RGB; a copy, enlarged by a whole factor if its shorter side is below :data:`LEAST`.
    """
    factor = -(-LEAST // min(image.shape[:2]))
    if factor > 1:
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    for found in points:
        if found is not None:
            image = _with_points(image, (found + 0.5) * factor - 0.5)
    canvas = _Canvas(image)
    boxes = [_box(row, factor) for row in rows]
    for box, row in zip(boxes, rows, strict=True):
        if box:
            canvas.box(box, _colour(row), bool(row.get("doubtful")))
    for box, row in zip(boxes, rows, strict=True):
        canvas.face(box, row)
    return np.asarray(canvas.image)


def draw_displacement(row: Row, x: np.ndarray, displacement: np.ndarray, name: str | None = None) -> np.ndarray:
    """Draw onset, apex and the displacement between them side by side, with its colour wheel.

    Args:
        row: row of a prediction: ``onset``, ``apex``, ``emotion`` and ``probabilities``.
        x: input of the network, float (C, S, S): grey onset and apex in [0, 1] come first.
        displacement: (2, S, S), px right and down.
        name: name of the clip, for the line above the panels.

    Returns:
        uint8 (H, W, 3) RGB.
    """
    side, margin, text = 448, 16, 20
    field = displacement.transpose(1, 2, 0)
    reach = max(float(np.quantile(np.linalg.norm(field, axis=2), 0.99)), 0.1)
    motion = _bytes(coloured(field, reach))
    faces = (cv2.cvtColor(_bytes(face.clip(0, 1)), cv2.COLOR_GRAY2RGB) for face in x[:2])
    tiles = [cv2.resize(tile, (side, side), interpolation=cv2.INTER_CUBIC) for tile in (*faces, motion)]
    _arrows(tiles[2], field, reach)
    disc = _bytes(wheel(96))
    legend = np.full((112, 112, 3), 255, np.uint8)
    legend[8:-8, 8:-8] = disc
    tiles[2][-112:, -112:] = legend
    above = margin + 2 * text
    picture = np.full((above + side + 2 * text + margin, 3 * side + 4 * margin, 3), 255, np.uint8)
    lines = [
        f"onset: frame {row['onset']}",
        f"apex: frame {row['apex']}",
        f"displacement; wheel's edge: {reach:.1f} px",
    ]
    lefts = [margin + k * (side + margin) for k in range(3)]
    for tile, left in zip(tiles, lefts, strict=True):
        picture[above : above + side, left : left + side] = tile
    canvas = _Canvas(picture)
    words = f"{row['emotion']} {_percent(row['probabilities'][row['emotion']])}"
    canvas.write(f"{name}: {words}" if name else words, margin, margin, round(1.2 * text), INK)
    for line, left in zip(lines, lefts, strict=True):
        canvas.write(line, left, above + side + text // 2, text, INK, width=side)
    return np.asarray(canvas.image)


def _bytes(shares: np.ndarray) -> np.ndarray:
    return (255 * shares).round().astype(np.uint8)


def _arrows(tile: np.ndarray, field: np.ndarray, reach: float) -> None:
    """Draw arrows a fourteenth of a side apart, as long as this distance at a displacement of ``reach``."""
    step = len(field) // 14
    scale = len(tile) / len(field)
    for y in range(step // 2, len(field), step):
        for x in range(step // 2, len(field), step):
            move = field[y, x] * step / reach
            if np.hypot(*move) > step / 8:
                start = (np.array([x, y]) + 0.5) * scale
                ends = (_sixteenths(start), _sixteenths(start + move * scale))
                cv2.arrowedLine(tile, *ends, _rgb_bytes(INK), 1, cv2.LINE_AA, shift=4, tipLength=0.3)


def _with_points(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Draw 68 points (68, 2) on a copy, and the boxes around action units, turned and scaled with the face."""
    image = image.copy()
    right, left = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
    across = (left - right) / EYES_APART  # a side of the aligned face
    turn = np.stack([across, [-across[1], across[0]]])
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * BOX / SIDE / 2 @ turn
    size = float(np.hypot(*across))
    thick = max(1, round(size / 160))
    names = [name for name, count in REGIONS.items() for _ in range(count)]
    for centre, name in zip(centres(points), names, strict=True):
        colour = _rgb_bytes(PALETTE[list(REGIONS).index(name) % len(PALETTE)])
        line = np.array([_sixteenths(corner) for corner in centre + corners])
        cv2.polylines(image, [line], True, colour, thick, cv2.LINE_AA, shift=4)
    for radius, colour in ((size / 80 + 1, _rgb_bytes(INK)), (size / 120 + 0.5, _rgb_bytes(PAPER))):
        for point in points:
            cv2.circle(image, _sixteenths(point), round(16 * radius), colour, -1, cv2.LINE_AA, shift=4)
    return image


def _sixteenths(point: np.ndarray) -> tuple[int, int]:
    """Convert a point (px) to the fixed-point numbers of OpenCV's ``shift=4``."""
    x, y = np.round(16 * point).astype(int).tolist()
    return x, y


def _rgb_bytes(colour: str) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in rgb(colour))
    return red, green, blue


class _Canvas:
    """A picture to draw on, with what must not be covered."""

    def __init__(self, image: np.ndarray) -> None:
        self.image = Image.fromarray(image)
        self.width, self.height = self.image.size
        self.short = min(self.image.size)
        self._draw = ImageDraw.Draw(self.image, "RGBA")
        self._taken: list[Rect] = []

    def box(self, box: Rect, colour: str, dashed: bool) -> None:
        """Draw a face's box, with a dark rim that shows it on any ground."""
        self._taken.append(box)
        width = self._line(box)
        rim = max(1, width // 2)
        for part in _sides(box, width + 2 * rim, rim):
            self._fill(part, f"{INK}{SHADE:02x}")
        for part in _sides(box, width):
            for dash in _dashes(part, 5 * width) if dashed else [part]:
                self._fill(dash, colour)

    def face(self, box: Rect | None, row: Row) -> None:
        """Draw a face's label and its probabilities."""
        shares = row.get("probabilities") or {}
        emotion, number = row.get("emotion"), list(shares).index(row["emotion"]) if row.get("emotion") in shares else 0
        track = row.get("track")
        words = [f"#{track}"] if track is not None else []
        if emotion is not None:
            words.append(
                printable(str(emotion), number) + (f" {_percent(shares[emotion])}" if emotion in shares else "")
            )
        elif row.get("note") or not words:
            words.append(row.get("note") or "no emotion")
        if row.get("doubtful"):
            words.append("doubtful")
        text, place = self._size(box), box or Rect(0, 0, self.width, 0)
        label = self._label(" · ".join(words), place, text, _colour(row), bool(box))
        if emotion is not None and len(shares) > 1:
            names = [printable(str(name), i) for i, name in enumerate(shares)]
            values = np.nan_to_num(list(shares.values())).clip(0, 1)
            if box is None or not self._panel(names, values, box, text):
                self._strip(names, values, box, label, text)

    def write(self, words: str, left: int, top: int, size: int, colour: str, width: int | None = None) -> None:
        """Write a line, cut to ``width`` px with an ellipsis."""
        words = _fitting(words, size, self.width if width is None else width)
        self._draw.text((left, top + 0.5 * size), words, fill=colour, font=font_of(words, size), anchor="lm")

    def _line(self, box: Rect) -> int:
        """Width of a face's lines, px."""
        return int(np.clip((box.bottom - box.top) / 90, max(2, self.short / 700), 12))

    def _size(self, box: Rect | None) -> int:
        """Size of text for a face, px: a share of its height within bounds that the picture sets."""
        low, high = max(11, round(0.011 * self.short)), max(13, round(0.026 * self.short))
        return high if box is None else _steady(np.clip(0.1 * (box.bottom - box.top), low, high))

    def _label(self, words: str, box: Rect, text: int, colour: str, above: bool) -> Rect:
        pad = max(2, text // 4)
        words = _fitting(words, text, self.width - 2 * pad)
        width, height = width_of(words, text) + 2 * pad, text + 2 * pad
        tops = [box.top - height, box.bottom, box.top] if above else [box.top + k * height for k in range(9)]
        places = [Rect(box.left, top, box.left + width, top + height) for top in tops]
        free = [place for place in places if place.top >= 0 and place.bottom <= self.height]
        others = [taken for taken in self._taken if taken != box]
        place = next((each for each in free if not any(map(each.inside(self.width, self.height).meets, others))), None)
        place = (place or next(iter(free), places[-1])).inside(self.width, self.height)
        self._fill(place, colour)
        self.write(words, place.left + pad, place.top + pad, text, _contrast(colour))
        self._taken.append(place)
        return place

    def _panel(self, names: Sequence[str], values: np.ndarray, box: Rect, text: int) -> bool:
        """Draw a row per class beside or below a box, as large as fits; returns whether there was room."""
        place = None
        for size in range(text - 1, max(9, round(0.6 * text)) - 1, -1):
            pad, step, bar, gap = max(3, size // 2), round(1.4 * size), 4 * size, self._line(box) + 2
            wide = max(width_of(name, size) for name in names)
            figures = width_of("100 %", size)
            width, height = wide + bar + figures + 4 * pad, step * len(names) + pad
            corners = [(box.right + gap, box.top), (box.left - gap - width, box.top), (box.left, box.bottom + gap)]
            places = [Rect(x, y, x + width, y + height) for x, y in corners]
            fitted = [each.inside(self.width, self.height) for each in places]
            free = [
                each
                for each, wanted in zip(fitted, places, strict=True)
                if each.left == wanted.left and each.top <= wanted.top and not any(map(each.meets, self._taken))
            ]
            if free and height <= self.height and width <= self.width:
                place = free[0]
                break
        if place is None:
            return False
        self._taken.append(place)
        self._fill(place, f"{INK}{SHADE:02x}")
        for k, (name, value) in enumerate(zip(names, values, strict=True)):
            left, top = place.left + pad, place.top + pad // 2 + k * step
            self.write(name, left, top + (step - size) // 2, size, PAPER)
            left, thick = left + wide + pad, max(3, round(0.6 * size))
            low = top + (step - thick) // 2
            self._fill(Rect(left, low, left + bar, low + thick), PAPER + "38")
            self._fill(Rect(left, low, left + max(1, round(bar * value)), low + thick), _of(k))
            figure = _percent(value)
            shift = figures - width_of(figure, size)
            self.write(figure, left + bar + pad + shift, top + (step - size) // 2, size, PAPER)
        return True

    def _strip(self, names: Sequence[str], values: np.ndarray, box: Rect | None, label: Rect, text: int) -> None:
        """Draw the shares of all classes as parts of a strip as wide as the box, each with its name if that fits."""
        if box is None:
            box, height = Rect(0, 0, self.width, self.height - round(1.4 * text)), round(1.4 * text)
        else:
            height = max(4, round(min(1.4 * text, 0.12 * (box.bottom - box.top))))
        inner = Rect(max(0, box.left), 0, min(self.width, box.right), 0)
        tops = [box.bottom, box.bottom - height, box.top - height]
        places = [Rect(inner.left, top, inner.right, top + height) for top in tops]
        fitting = [p for p in places if p.top >= 0 and p.bottom <= self.height and not p.meets(label)]
        place = (fitting or places[1:])[0].inside(self.width, self.height)
        self._fill(place, INK)
        ends = place.left + np.concatenate([[0], np.cumsum(values) / max(values.sum(), 1e-9)]) * (
            place.right - place.left
        )
        size = min(round(0.75 * height), text)
        for k, (start, end) in enumerate(zip(ends[:-1].round().astype(int), ends[1:].round().astype(int), strict=True)):
            self._fill(Rect(start, place.top, end, place.bottom), _of(k))
            if size >= 9 and width_of(names[k], size) + 6 <= end - start:
                self.write(names[k], start + 3, place.top + (height - size) // 2, size, _contrast(_of(k)))

    def _fill(self, part: Rect, colour: str) -> None:
        if part.right > part.left and part.bottom > part.top:
            self._draw.rectangle((part.left, part.top, part.right - 1, part.bottom - 1), fill=colour)


def _box(row: Row, factor: int) -> Rect | None:
    box = row.get("box")
    if box is None or not np.isfinite(np.asarray(box, float)).all():
        return None
    return Rect(*(round(factor * float(edge)) for edge in box))


def _of(number: int) -> str:
    """Colour of a class by its place among the classes."""
    return PALETTE[number % len(PALETTE)]


def _colour(row: Row) -> str:
    classes = list(row.get("probabilities") or ())
    return _of(classes.index(row["emotion"])) if row.get("emotion") in classes else SOFT


def _contrast(colour: str) -> str:
    """Return the colour of text on a ground, dark or light, that differs most from it (WCAG's relative luminance)."""

    def luminance(of: str) -> float:
        parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in rgb(of)]
        return float(np.dot(parts, (0.2126, 0.7152, 0.0722)))

    ground, dark, light = map(luminance, (colour, INK, PAPER))
    return INK if (ground + 0.05) / (dark + 0.05) >= (light + 0.05) / (ground + 0.05) else PAPER


def _fitting(words: str, size: int, width: int) -> str:
    """Shorten words until they are ``width`` px wide at most."""
    short = words
    while words and width_of(short, size) > width:
        words = words[:-1]
        short = f"{words.rstrip()}…"
    return short


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _steady(size: float) -> int:
    """Round down a size to a power of 1.15, so that text does not flicker when the box of a video's face does."""
    return int(1.15 ** math.floor(math.log(size + 0.5, 1.15)))


def _sides(box: Rect, width: int, grown: int = 0) -> Iterator[Rect]:
    """Give the four sides of a box, ``width`` px thick, ``grown`` px outside of its own."""
    left, top, right, bottom = box.left - grown, box.top - grown, box.right + grown, box.bottom + grown
    yield Rect(left, top, right, top + width)
    yield Rect(left, bottom - width, right, bottom)
    yield Rect(left, top + width, left + width, bottom - width)
    yield Rect(right - width, top + width, right, bottom - width)


def _dashes(side: Rect, dash: int) -> Iterator[Rect]:
    """Cut a side of a box into dashes, as long as the gaps between them."""
    x0, y0, x1, y1 = side
    if x1 - x0 > y1 - y0:
        yield from (Rect(x, y0, min(x + dash, x1), y1) for x in range(x0, x1, 2 * dash))
    else:
        yield from (Rect(x0, y, x1, min(y + dash, y1)) for y in range(y0, y1, 2 * dash))
