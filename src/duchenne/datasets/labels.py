"""From the labels that files carry to the names of a dataset's classes."""

from __future__ import annotations

import re

from duchenne.datasets.settings import Dataset
from duchenne.emotions import EMOTIONS, SPELLINGS, is_emotion
from duchenne.errors import nearest


class Labels:
    """Looks labels up as one dataset spells them; upper case and spaces around a word do not matter."""

    def __init__(self, dataset: str, config: Dataset) -> None:
        self.dataset, self.classes = dataset, list(config.classes)
        self.renamed = {_plain(word): name for word, name in config.labels.items()}
        self.ignored = {_plain(word) for word in config.ignore}

    def emotion(self, word: str) -> str | None:
        """The class of a label, or None for a label that is ignored on purpose.

        Raises:
            ValueError: the label means none of the dataset's classes.
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
        hint = nearest(plain, [*self.classes, *self.renamed, *EMOTIONS, *SPELLINGS])
        advice = f"say what it means under {block}.labels, or add it to {block}.classes"
        raise ValueError(f"{word!r} is none of the classes {self.classes}{hint}: {advice}")


def _plain(word: str) -> str:
    """A number that a spreadsheet or pandas wrote as 3.0 is the label 3."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", word.strip().casefold())
