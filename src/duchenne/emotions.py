"""Names of emotions."""

from __future__ import annotations

EMOTIONS = (
    "anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise", "contempt",
    "anxiety", "helplessness", "disappointment", "repression", "others", "negative", "positive",
)  # fmt: skip
"""Every emotion name that a dataset of the field uses; a label outside this list is a spelling mistake."""


def is_emotion(name: str) -> bool:
    """Whether a class is one of :data:`EMOTIONS`, or joins several by ``_`` (a compound class)."""
    return set(name.split("_")) <= set(EMOTIONS)
