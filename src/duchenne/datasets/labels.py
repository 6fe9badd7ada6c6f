"""Translation of the labels in files to a dataset's class names."""

from __future__ import annotations

import re

from duchenne.datasets.settings import Dataset
from duchenne.emotions import EMOTIONS, SPELLINGS, is_emotion
from duchenne.errors import nearest

HINTS = 100
"""Largest number of unknown labels for which the nearest known one is suggested, which is slow."""


class Labels:
    """Looks up labels in the spelling of one dataset, ignoring case and surrounding spaces."""

    def __init__(self, dataset: str, config: Dataset) -> None:
        self.dataset, self.classes = dataset, list(config.classes)
        self.renamed = {_plain(word): name for word, name in config.labels.items()}
        self.ignored = {_plain(word) for word in config.ignore}
        self._hints = HINTS

    def emotion(self, word: str) -> str | None:
        """Return the class of a label, or None for a label that is ignored on purpose.

        Raises:
            ValueError: The label is not one of the dataset's classes.
        """
        plain = _plain(word)
        name = self.renamed.get(plain) or (plain if plain in self.classes else SPELLINGS.get(plain, plain))
        if plain in self.ignored or name in self.ignored:
            return None
        if name in self.classes:
            return name
        block = f"datasets.{self.dataset}"
        if is_emotion(name):
            raise ValueError(
                f"{word!r} is none of the classes {self.classes}: add it to {block}.classes, "
                f"rename it under {block}.labels or name it in {block}.ignore"
            )
        self._hints -= 1
        hint = nearest(plain, [*self.classes, *self.renamed, *EMOTIONS, *SPELLINGS]) if self._hints >= 0 else ""
        advice = f"map it to a class under {block}.labels, or add it to {block}.classes"
        raise ValueError(f"{word!r} is none of the classes {self.classes}{hint}: {advice}")


def _plain(word: str) -> str:
    """Normalise a label; a number written as 3.0 by a spreadsheet or pandas is the label 3."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", word.strip().casefold())
