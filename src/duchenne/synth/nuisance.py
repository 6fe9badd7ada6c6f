"""Nuisance factors of a picture: pose, camera, light, background, sensor, occluders (their models are our choice).

A picture's nuisances are one flat dictionary of numbers and words, drawn from the ranges of
:class:`duchenne.synth.settings.Synth` and written beside the picture as ``factors``.
"""

from __future__ import annotations

import cv2
import numpy as np
import warp as wp

from duchenne.synth.landmarks import LEFT_EYE, RIGHT_EYE
from duchenne.synth.render import Light
from duchenne.synth.settings import Synth

Factors = dict[str, float | str]

PIVOT = np.array([0.0, 85.0, -40.0], np.float32)  # where the head turns on the neck, mm


def draw_factors(config: Synth, rng: np.random.Generator) -> Factors:
    """Draw the nuisance factors of one picture or clip."""
    drawn = {
        "yaw": rng.normal(0.0, config.yaw_sigma),
        "pitch": rng.normal(0.0, config.pitch_sigma),
        "roll": rng.normal(0.0, config.roll_sigma),
        "gaze_right": rng.uniform(-config.gaze, config.gaze),
        "gaze_up": rng.uniform(-config.gaze, config.gaze),
        "shift_x": rng.uniform(-config.shift, config.shift),
        "shift_y": rng.uniform(-config.shift, config.shift),
    }
    for name in (
        "face_share", "distance", "light_azimuth", "light_elevation", "light_contrast", "exposure", "warmth", "blur",
        "noise", "jpeg_quality",
    ):  # fmt: skip
        drawn[name] = rng.uniform(*getattr(config, name))
    drawn["jpeg_quality"] = round(drawn["jpeg_quality"])
    words = {
        "background": str(rng.choice(config.background)),
        "occluder": str(rng.choice(list(OCCLUDERS))) if rng.random() < config.occlusion else "none",
    }
    return {name: round(float(value), 4) for name, value in drawn.items()} | words


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotation matrix (3, 3) of the head; degrees of yaw to the picture's right, pitch up, roll clockwise."""
    (cy, cp, cr), (sy, sp, sr) = (f(np.radians([yaw, pitch, roll])) for f in (np.cos, np.sin))
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    about_y = np.array([[cr, 0, sr], [0, 1, 0], [-sr, 0, cr]])
    return (about_y @ about_z @ about_x).astype(np.float32)


def turn(points: np.ndarray, yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Return the points (N, 3) of the head after a rotation about the neck."""
    return (points - PIVOT) @ rotation(yaw, pitch, roll).T + PIVOT


def light(factors: Factors) -> Light:
    """Return the light of a picture; its total does not change with its contrast."""
    azimuth, elevation = np.radians([factors["light_azimuth"], factors["light_elevation"]])
    towards = [np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation)]
    tint = np.array([1 + factors["warmth"], 1.0, 1 - factors["warmth"]])
    key = factors["light_contrast"]
    result = Light()
    result.towards = wp.vec3(*towards)
    result.key = wp.vec3(*(1.9 * key * tint))
    result.sky = wp.vec3(*(1.15 * (1 - key) * np.array([0.97, 1.0, 1.05])))
    result.ground = wp.vec3(*(0.75 * (1 - key) * np.array([1.05, 1.0, 0.93])))
    result.shadow = float(0.45 + 0.5 * key)
    return result


def _colours(count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw linear colours (count, 3) of objects in a room: mostly greyish, sometimes saturated."""
    grey, strength = rng.uniform(0.03, 0.6, (count, 1)), rng.beta(1.0, 3.0, (count, 1))
    return grey * (1.0 + strength * rng.uniform(-1.0, 1.0, (count, 3)))


def background(kind: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a background (size, size, 3) in linear colours."""
    a, b = _colours(2, rng)[:, None, None].astype(np.float32)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)[..., None] / size
    if kind == "flat":
        return np.broadcast_to(a, (size, size, 3)).copy()
    if kind == "gradient":
        way = rng.uniform(0, 2 * np.pi)
        return a + (b - a) * np.clip(0.5 + (x - 0.5) * np.cos(way) + (y - 0.5) * np.sin(way), 0, 1)
    if kind == "noise":
        cells = int(rng.integers(3, 9))
        field = cv2.resize(rng.random((cells, cells)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
        return a + (b - a) * np.clip(field, 0, 1)[..., None]
    picture = np.broadcast_to(a, (size, size, 3)).copy()
    for colour in _colours(int(rng.integers(8, 20)), rng).tolist():
        p, q = rng.integers(-size // 4, size * 5 // 4, (2, 2)).tolist()
        if rng.random() < 0.7:
            cv2.rectangle(picture, p, q, colour, -1)
        else:
            cv2.circle(picture, p, int(rng.integers(5, size // 4)), colour, -1, cv2.LINE_AA)
    return cv2.GaussianBlur(picture, (0, 0), size * float(rng.uniform(0.005, 0.03)))


def _patch(mask: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> None:
    span = float(np.ptp(points[:, 1]))
    centre = points[int(rng.integers(17, 68))] + rng.normal(0, 0.1 * span, 2)
    axes = (rng.uniform(0.12, 0.28, 2) * span).astype(int).tolist()
    cv2.ellipse(
        mask, np.round(centre).astype(int).tolist(), axes, float(rng.uniform(0, 180)), 0, 360, 1.0, -1, cv2.LINE_AA
    )


def _glasses(mask: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> None:
    apart = float(np.linalg.norm(points[LEFT_EYE].mean(axis=0) - points[RIGHT_EYE].mean(axis=0)))
    tall = rng.uniform(0.24, 0.32)
    for eye in (LEFT_EYE, RIGHT_EYE):
        centre = np.round(points[eye].mean(axis=0)).astype(int).tolist()
        cv2.ellipse(mask, centre, [int(0.4 * apart), int(tall * apart)], 0, 0, 360, 1.0, -1, cv2.LINE_AA)
    ends = [np.round(points[i]).astype(int).tolist() for i in (0, 16)]
    cv2.line(mask, *ends, 1.0, max(1, int(0.04 * apart)), cv2.LINE_AA)


def _scarf(mask: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> None:
    top = points[29:30] * [1.0, 1.0] + [[0.0, rng.uniform(0.0, 0.15) * np.ptp(points[:, 1])]]
    below = points[[14, 2]] * [1.0, 0.0] + [[0.0, 2.0 * mask.shape[0]]]
    outline = np.concatenate([points[[2]], top, points[[14]], below])
    cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 1.0, cv2.LINE_AA)


def _mask(mask: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> None:
    nose = points[28] + [0.0, rng.uniform(0.0, 0.1) * np.ptp(points[:, 1])]
    outline = np.concatenate([points[1:16], nose[None]])
    cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 1.0, cv2.LINE_AA)


def _hand(mask: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> None:
    span, way = float(np.ptp(points[:, 1])), rng.uniform(0, 2 * np.pi)
    along, across = np.array([np.cos(way), np.sin(way)]) * span, np.array([-np.sin(way), np.cos(way)]) * span
    palm = points[int(rng.integers(0, 68))] - rng.uniform(0.1, 0.5) * along
    cv2.circle(mask, np.round(palm).astype(int).tolist(), int(0.21 * span), 1.0, -1, cv2.LINE_AA)
    bend = rng.uniform(-0.08, 0.08)
    for finger in np.linspace(-1.5, 1.5, 4):
        root = palm + 0.105 * finger * across
        tip = root + (0.5 - 0.03 * finger**2) * along + bend * finger * across
        ends = [np.round(end).astype(int).tolist() for end in (root, tip)]
        cv2.line(mask, *ends, 1.0, max(1, int(0.09 * span)), cv2.LINE_AA)


def _fringe(mask: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> None:
    span, brows = float(np.ptp(points[:, 1])), points[17:27]
    lean, low = rng.normal(0.0, 0.25), rng.uniform(0.0, 0.35)
    left, right, top = brows[:, 0].min(), brows[:, 0].max(), brows[:, 1].min() - 0.45 * span
    for x in rng.uniform(left - 0.1 * span, right + 0.1 * span, int(rng.integers(6, 40))):
        long = span * (0.45 + low + rng.normal(0.0, 0.06))
        ends = np.round([[x, top], [x + lean * long, top + long]]).astype(int).tolist()
        cv2.line(mask, *ends, 1.0, max(1, int(rng.uniform(0.01, 0.05) * span)), cv2.LINE_AA)


OCCLUDERS = {"patch": _patch, "glasses": _glasses, "scarf": _scarf, "mask": _mask, "hand": _hand, "fringe": _fringe}
SKIN, DARK, ANY = ((0.1, 0.05, 0.03), (0.75, 0.5, 0.4)), ((0.01,) * 3, (0.08,) * 3), ((0.01,) * 3, (0.5,) * 3)
COLOURS = {"hand": SKIN, "glasses": DARK, "fringe": DARK}
"""The darkest and the lightest linear colour of an occluder; ``ANY`` for those not listed."""


def occluder(kind: str, points: np.ndarray, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw an occluder: opacity (size, size) and linear, unevenly dark colours (size, size, 3).

    ``points`` are the landmarks (68, 2) px.
    """
    mask = np.zeros((size, size), np.float32)
    OCCLUDERS[kind](mask, points, rng)
    low, high = np.array(COLOURS.get(kind, ANY))
    colour = low + (high - low) * (rng.random() if kind == "hand" else rng.random(3))
    cells = int(rng.integers(3, 24))
    weave = cv2.resize(rng.uniform(0.5, 1.1, (cells, cells)).astype(np.float32), (size, size))
    return mask, weave[..., None] * colour.astype(np.float32)


def expose(linear: np.ndarray, factors: Factors, rng: np.random.Generator) -> np.ndarray:
    """Turn linear light (H, W, 3) into uint8 RGB: exposure, lens blur, sRGB-like tone curve, sensor noise."""
    picture = linear * np.float32(2.0 ** factors["exposure"])
    if factors["blur"] > 0.05:
        picture = cv2.GaussianBlur(picture, (0, 0), float(factors["blur"]))
    picture = np.clip(picture, 0.0, None)
    picture = np.where(picture > 0.8, 1.0 - 0.2 * np.exp(-(picture - 0.8) / 0.2), picture) ** np.float32(1 / 2.2)
    noise = rng.normal(0.0, 1.0, picture.shape).astype(np.float32) * np.float32(factors["noise"])
    return np.round(np.clip(picture + noise, 0.0, 1.0) * 255.0).astype(np.uint8)
