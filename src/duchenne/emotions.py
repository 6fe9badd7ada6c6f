"""Names of emotions in the field's datasets; classes of your own data may have other names."""

from __future__ import annotations

import difflib

EMOTIONS = (
    "anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise", "contempt",
    "anxiety", "helplessness", "disappointment", "repression", "others", "negative", "positive",
)  # fmt: skip
"""Emotions that are known without ``labels`` in ``params.yaml``."""

SPELLINGS = {
    "angry": "anger",
    "happy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
    "fearful": "fear",
    "disgusted": "disgust",
    "contemptuous": "contempt",
    "other": "others",
}
"""Adjective -> noun, for the class names of DFEW, FERV39k, CAER-S and FER-2013, and SAMM's ``Other``.

Words with a special meaning in one dataset (``smiling``, ``natural``, numbers) belong in ``labels`` of params.yaml.
"""

_ALIKE = 0.8  # of difflib's ratio: "hapiness" 0.94, "suprise" 0.93; "joy", "pain", "boredom" and "engagement" below 0.6


def is_emotion(name: str) -> bool:
    """Whether a class is one of :data:`EMOTIONS`, or joins several by ``_`` (a compound class)."""
    return set(name.split("_")) <= set(EMOTIONS)


def misspelt(name: str) -> str | None:
    """Return the known name that a class, or part of a compound one, seems to mean; None for known and other names."""
    parts = [SPELLINGS.get(part) or _like(part) or part for part in name.split("_")]
    meant = "_".join(parts)
    return None if meant == name else meant


def _like(word: str) -> str | None:
    return next(iter(difflib.get_close_matches(word, EMOTIONS, 1, _ALIKE)), None)
