"""Expressions as FACS action units, and action units as face units of the head.

An expression is an array (A, 2): the strength of each action unit of :data:`UNITS_OF` on the subject's right and left.
Which units make which emotion follows the prototypes of EMFACS (Ekman & Friesen). How an action unit is composed
of ARKit-like face units, and every weight, is our choice.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import warp as wp

from duchenne.synth.paint import Furrows
from duchenne.synth.settings import Synth

UNITS_OF: Mapping[int, Mapping[str, float]] = {
    1: {"browInnerUp": 1.0},
    2: {"browOuterUp": 1.0},
    4: {"browDown": 1.0},
    5: {"eyeWide": 1.0},
    6: {"cheekSquint": 1.0, "eyeSquint": 0.45},
    7: {"eyeSquint": 1.0},
    9: {"noseSneer": 1.0, "mouthUpperUp": 0.35, "browDown": 0.25},
    10: {"mouthUpperUp": 1.0},
    12: {"mouthSmile": 1.0, "mouthStretch": 0.2},
    14: {"mouthDimple": 1.0},
    15: {"mouthFrown": 1.0},
    16: {"mouthLowerDown": 1.0},
    17: {"mouthShrugLower": 1.0, "mouthShrugUpper": 0.3},
    18: {"mouthPucker": 1.0},
    20: {"mouthStretch": 1.0},
    23: {"mouthPress": 0.7, "mouthRollLower": 0.45, "mouthRollUpper": 0.3},
    24: {"mouthPress": 1.0},
    25: {"mouthUpperUp": 0.5, "mouthLowerDown": 0.9},
    26: {"jawOpen": 0.5},
    28: {"mouthRollLower": 1.0, "mouthRollUpper": 1.0},
    43: {"eyeBlink": 1.0},
}
"""Action unit -> face units at full strength; a unit without a side takes the mean of both."""

ACTION_UNITS = tuple(UNITS_OF)

CORE: Mapping[str, tuple[int, ...]] = {
    "neutral": (),
    "happiness": (6, 12),
    "sadness": (1, 4, 15),
    "surprise": (1, 2, 5, 26),
    "fear": (1, 2, 4, 5, 20, 26),
    "disgust": (9, 15, 16),
    "anger": (4, 5, 7, 23),
    "contempt": (12, 14),
    "repression": (17, 24),
    "others": (4, 7),
}
"""Emotion -> the action units that define it (contempt: on one side)."""

PROTOTYPES: Mapping[str, tuple[str, ...]] = {name: (name,) for name in CORE} | {
    "positive": ("happiness",),
    "negative": ("anger", "disgust", "fear", "sadness"),
}
"""Class name -> the emotions that it groups, as in the composite protocols of MEGC (without repression)."""

STRENGTH: Mapping[str, Mapping[int, float]] = {
    "happiness": {12: 1.1},
    "sadness": {1: 1.1, 4: 0.6, 15: 1.2},
    "surprise": {26: 1.2},
    "fear": {1: 1.1, 2: 0.6, 4: 0.7, 5: 1.1, 20: 1.3, 26: 0.5},
    "disgust": {9: 1.1, 15: 0.7, 16: 0.7},
    "anger": {4: 1.2, 5: 0.55, 7: 0.8},
    "contempt": {12: 0.75, 14: 0.9},
}
"""Strength of a core unit relative to the others of its emotion, where it is not 1."""

COMPANIONS: Mapping[str, Mapping[int, tuple[float, float]]] = {
    "happiness": {25: (0.8, 1.1), 26: (0.35, 0.5), 10: (0.2, 0.25)},
    "sadness": {17: (0.6, 0.7), 43: (0.5, 0.25), 7: (0.3, 0.3)},
    "surprise": {25: (0.4, 0.3)},
    "fear": {25: (0.8, 0.7), 7: (0.2, 0.2)},
    "disgust": {10: (0.7, 0.7), 4: (0.5, 0.4), 7: (0.6, 0.5), 17: (0.3, 0.5), 6: (0.3, 0.3)},
    "anger": {24: (0.5, 0.5), 9: (0.35, 0.3), 17: (0.4, 0.4)},
    "contempt": {17: (0.2, 0.3), 7: (0.25, 0.3)},
}
"""Emotion -> action unit -> (probability that it joins, its maximum strength)."""

WANDERING = (
    "jawLeft",
    "jawRight",
    "mouthLeft",
    "mouthRight",
    "jawForward",
    "mouthPucker",
    "mouthShrugUpper",
    "cheekPuff",
)
"""Face units that carry no emotion here and are always slightly active."""


def draw(name: str, intensity: float, rng: np.random.Generator) -> np.ndarray:
    """Draw an expression (A, 2) of a class: strengths vary by unit and side, companion units join by chance."""
    emotion = str(rng.choice(PROTOTYPES[name]))
    strength = np.zeros((len(ACTION_UNITS), 2))
    for unit in CORE[emotion]:
        level = intensity * STRENGTH.get(emotion, {}).get(unit, 1.0) * rng.uniform(0.85, 1.15)
        strength[ACTION_UNITS.index(unit)] = level * rng.normal(1.0, 0.08, 2)
    for unit, (often, most) in COMPANIONS.get(emotion, {}).items():
        joins, level = rng.random() < often, intensity * most * rng.uniform(0.3, 1.0)
        if joins:
            strength[ACTION_UNITS.index(unit)] = level * rng.normal(1.0, 0.08, 2)
    if emotion == "contempt":
        strength[:, int(rng.random() < 0.5)] *= 0.08
    return strength.clip(0.0, 1.4)


def draw_sample(config: Synth, name: str, rng: np.random.Generator) -> tuple[np.ndarray, float, dict[str, float | str]]:
    """Draw the expression (A, 2) of a sample, its intensity, and what describes a mixture (empty without mixtures).

    Action units of a mixture are weighted means: of a share of 0.3, 0.7 of the first and 0.3 of the second expression
    (chosen by us). So a mixture with neutral is fainter, and a neutral face shows a trace of the other expression.
    """
    intensity = rng.uniform(*config.intensity)
    strength = draw(name, intensity, rng)
    if not config.mixture[1]:
        return strength, intensity, {}
    second = str(rng.choice([other for other in sorted(config.classes) if other != name]))
    share = rng.uniform(*config.mixture)
    both = (1.0 - share) * strength + share * draw(second, intensity, rng)
    return both, intensity, {"intensity": round(intensity, 4), "second": second, "second_share": round(share, 4)}


def stray(strength: np.ndarray, often: float, rng: np.random.Generator) -> np.ndarray:
    """Return the expression (A, 2) with other action units added by chance, on one side or both."""
    joins = rng.random((len(ACTION_UNITS), 1)) < often
    sides = np.where(
        rng.random((len(ACTION_UNITS), 1)) < 0.2, rng.permuted([[0.0, 1.0]] * len(ACTION_UNITS), axis=1), 1.0
    )
    return np.maximum(strength, joins * sides * rng.uniform(0.0, 1.2, strength.shape))


def wander(unit_names: tuple[str, ...], rng: np.random.Generator, most: float = 0.1) -> np.ndarray:
    """Draw the small face units (52,) of a face that is never completely still."""
    return np.array([rng.uniform(0.0, most) if name in WANDERING else 0.0 for name in unit_names])


def gaze(unit_names: tuple[str, ...], right: float, up: float) -> np.ndarray:
    """Face units (52,) that turn both eyes: ``right`` to the subject's right, ``up``, each in -1..1."""
    level = {
        "eyeLookOutRight": max(right, 0), "eyeLookInLeft": max(right, 0),
        "eyeLookOutLeft": max(-right, 0), "eyeLookInRight": max(-right, 0),
        "eyeLookUpLeft": max(up, 0), "eyeLookUpRight": max(up, 0),
        "eyeLookDownLeft": max(-up, 0), "eyeLookDownRight": max(-up, 0),
    }  # fmt: skip
    return np.array([level.get(name, 0.0) for name in unit_names])


@functools.cache
def _matrix(unit_names: tuple[str, ...]) -> np.ndarray:
    """(A, 2, 52): face units of every action unit on either side."""
    matrix = np.zeros((len(ACTION_UNITS), 2, len(unit_names)))
    for row, units in enumerate(UNITS_OF.values()):
        for name, weight in units.items():
            if name in unit_names:
                matrix[row, :, unit_names.index(name)] = weight / 2
            else:
                for side, suffix in enumerate(("Right", "Left")):
                    matrix[row, side, unit_names.index(name + suffix)] = weight
    return matrix


def face_units(strength: np.ndarray, unit_names: tuple[str, ...]) -> np.ndarray:
    """Face units (52,) of an expression (A, 2)."""
    units = np.tensordot(strength, _matrix(unit_names), axes=2)
    # Units that press the lips together cannot act on an open jaw.
    free = 1.0 - min(units[unit_names.index("jawOpen")] / 0.3, 1.0)
    for name in ("mouthPressLeft", "mouthPressRight", "mouthRollLower", "mouthRollUpper"):
        units[unit_names.index(name)] *= 0.2 + 0.8 * free
    return units


def furrows(strength: np.ndarray) -> Furrows:
    """Strengths of the expression lines that an expression (A, 2) folds into the skin."""

    def of(*units: int) -> np.ndarray:
        return np.max([strength[ACTION_UNITS.index(unit)] for unit in units], axis=0).clip(0.0, 1.2)

    result = Furrows()
    result.forehead_inner = float(of(1).mean())
    result.forehead_outer = wp.vec2(*of(2))
    result.frown = float(of(4).mean())
    result.bunny = float(of(9).mean())
    result.cheek = wp.vec2(*np.maximum(of(12, 9), 0.7 * of(6, 10)))
    result.crow = wp.vec2(*of(6))
    result.pouch = wp.vec2(*np.maximum(of(6), 0.6 * of(7)))
    result.dimple = wp.vec2(*np.maximum(of(14), 0.4 * of(12)))
    result.corner = wp.vec2(*np.maximum(of(15), 0.4 * of(20)))
    result.chin = float(np.maximum(of(17), 0.5 * of(15)).mean())
    return result


def facs(strength: np.ndarray, least: float = 0.1) -> str:
    """FACS text of an expression (A, 2): ``"6+12"``, ``"R12+R14"`` for one side; units at least ``least`` strong."""
    words = []
    for unit, (right, left) in zip(ACTION_UNITS, strength, strict=True):
        if max(right, left) >= least:
            side = "" if min(right, left) > 0.5 * max(right, left) else "R" if right > left else "L"
            words.append(f"{side}{unit}")
    return "+".join(words)
