"""Drawn predictions: what is drawn lies where it should, inside the picture, and can be read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from duchenne.prediction.draw import LEAST, draw_displacement, draw_faces
from duchenne.prediction.lettering import printable, width_of
from duchenne.reporting.colours import PALETTE, rgb

CLASSES = ("anger", "happiness", "surprise")
HAPPY = np.array([round(255 * part) for part in rgb(PALETTE[1])])


def row(box: list[float] | None = None, emotion: str | None = "happiness", **more: Any) -> dict[str, Any]:
    shares = {name: 0.8 if name == emotion else 0.1 for name in CLASSES} if emotion else None
    return {"box": box, "track": None, "emotion": emotion, "probabilities": shares, "doubtful": False} | more


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def of_class(image: np.ndarray) -> np.ndarray:
    """Pixels in the colour of happiness."""
    return (np.abs(image.astype(int) - HAPPY) <= 2).all(axis=2)


@pytest.mark.parametrize("side", [400, 2400])
def test_the_box_is_where_the_face_is_and_everything_is_as_large_as_the_picture_asks(side: int):
    x0, y0, x1, y1 = (np.array([0.2, 0.3, 0.5, 0.6]) * side).astype(int)
    drawn = draw_faces(grey(side, side), [row([x0, y0, x1, y1])])
    assert drawn.shape == (side, side, 3)
    marked = of_class(drawn)
    assert marked[y0 + side // 10, [x0, x1 - 1]].all()
    assert marked[[y0, y1 - 1], x0 + side // 10].all()
    inner = drawn[y0 + side // 40 : y1 - side // 40, x0 + side // 40 : x1 - side // 40]
    assert (inner == 128).all()  # nothing covers the face
    label = np.flatnonzero(marked[: y0 - 1, x0 + 1])
    assert len(label) >= 11  # tall enough for text
    assert len(label) >= 0.011 * side


@pytest.mark.parametrize("box", [[0, 0, 120, 400], [300, 250, 420, 420], [-30, -40, 60, 60], [380, 10, 400, 40]])
@pytest.mark.parametrize("doubtful", [False, True])
def test_labels_stay_inside(box: list[float], doubtful: bool):
    shown = draw_faces(grey(400, 400), [row(box, track=3, doubtful=doubtful)])
    # the text of the label, dark on the class's colour, is complete: as much of it as of one amid a picture
    free = draw_faces(grey(400, 400), [row([150, 150, 150 + box[2] - box[0], 150 + box[3] - box[1]], track=3)])
    assert shown.shape == free.shape
    assert of_class(shown).any(axis=1).sum() >= 11
    assert of_class(shown).sum() >= 0.5 * min(of_class(free).sum(), 2000)


def test_a_doubtful_face_has_a_box_of_dashes_and_says_so():
    clear, doubtful = (draw_faces(grey(400, 400), [row([100, 150, 250, 300], doubtful=d)]) for d in (False, True))
    side = slice(160, 290)
    assert of_class(clear)[side, 100].all()
    assert 0.3 < of_class(doubtful)[side, 100].mean() < 0.7
    above = slice(0, 148)
    assert of_class(doubtful)[above].any(axis=0).sum() > of_class(clear)[above].any(axis=0).sum() + 30


def test_each_class_has_its_bar():
    drawn = draw_faces(grey(400, 600), [row([100, 100, 250, 300])])
    beside = drawn[:, 260:]
    lengths = []
    for colour in PALETTE[:3]:
        wanted = [round(255 * part) for part in rgb(colour)]
        lengths.append((beside == wanted).all(axis=2).sum(axis=1).max())
    assert lengths[1] > 5 * max(lengths[0], lengths[2]) > 0


def test_rows_without_a_box_or_an_emotion():
    plain = grey(400, 400)
    assert (draw_faces(plain, []) == 128).all()
    noted = draw_faces(plain, [row(None, None, note="no face was found " * 20)])
    assert (noted[:30] != 128).any()
    assert (noted[60:] == 128).all()
    aligned = draw_faces(plain, [row(None)])
    assert of_class(aligned)[:20].any()
    assert of_class(aligned)[-20:].sum() > 0.5 * aligned[-1, :, 0].size  # the strip at the bottom
    assert (plain == 128).all()  # the picture itself is not drawn on


def test_small_pictures_are_enlarged():
    drawn = draw_faces(grey(48, 60), [row([10, 12, 40, 44])])
    assert min(drawn.shape[:2]) >= LEAST
    factor = drawn.shape[0] // 48
    assert of_class(drawn)[20 * factor, 10 * factor]


def test_points_and_regions_turn_with_the_face():
    points = np.random.default_rng(0).uniform(-1, 1, (68, 2))
    points[36:42], points[42:48] = (150, 200), (250, 200)
    points[[*range(36), *range(48, 68)]] += 200
    plain = grey(400, 400)
    upright = draw_faces(plain, [row(None)], [points])
    assert (plain == 128).all()
    assert (upright[200, [150, 250]] == 255).all()
    turned = draw_faces(grey(400, 400), [row(None)], [np.stack([points[:, 1], 400 - points[:, 0]], axis=1)])
    half = round(100 / 0.34 * 48 / 224 / 2)
    blue = np.array([round(255 * part) for part in rgb(PALETTE[0])])
    for drawn, (x, y) in ((upright, (150 - half, 200)), (turned, (200, 250 + half))):
        assert (np.abs(drawn[y - 1 : y + 2, x - 1 : x + 2].astype(int) - blue) < 40).all(axis=2).any()


def test_names_are_printed_in_the_letters_of_their_language():
    assert printable("радость", 0) == "радость"
    assert width_of("радость", 12) > 20
    assert printable("\U00012000", 1) == "class 2"  # no font has it


def test_a_displacement_has_its_direction_s_colour():
    x = np.stack([np.full((224, 224), grey / 255) for grey in (90, 100)])
    displacement = np.zeros((2, 224, 224), np.float32)
    displacement[0] = np.where(np.arange(224) < 112, 2, -2)  # towards the middle
    drawn = draw_displacement(row(onset=3, apex=17), x, displacement, "clip").astype(int)
    tiles = drawn[60:360].reshape(300, -1, 3)
    assert (tiles[100, 200] == 90).all()
    assert (tiles[100, 200 + 464] == 100).all()
    right, left = (np.median(tiles[:, 2 * 464 + x : 2 * 464 + x + 150].reshape(-1, 3), axis=0) for x in (30, 260))
    assert right[0] > right[2] + 20  # reddish
    assert left[2] > left[0] + 20  # bluish
