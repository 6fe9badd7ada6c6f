"""Classes of a network and of another dataset, matched by the names of emotions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from duchenne.datasets.contract import layout_facts
from duchenne.emotions import SPELLINGS, is_emotion


class Matching(NamedTuple):
    """Result of :func:`match`.

    ``classes``: the classes that are measured, in the target's order, then those that only the network knows.
    ``labels``: class of the target -> one of ``classes``; the target's other classes are not known to the network.
    ``outputs``: class of the network -> one of ``classes``, for each of its classes.
    """

    classes: list[str]
    labels: dict[str, str]
    outputs: dict[str, str]

    @property
    def covered(self) -> list[str]:
        """The measured classes that the target has."""
        return list(dict.fromkeys(self.labels.values()))

    @property
    def extra(self) -> list[str]:
        """The measured classes that only the network knows."""
        return [name for name in self.classes if name not in self.covered]

    @property
    def merged(self) -> dict[str, str]:
        """Class of either side -> the coarser class of the other side that it counts as."""
        both = self.labels | self.outputs
        return {name: meant for name, meant in both.items() if emotion(name) != emotion(meant)}


def match(outputs: Sequence[str], targets: Sequence[str], coarser: Mapping[str, str] | None = None) -> Matching:
    """Match the classes of a network with those of a dataset: by name, then by the coarser class of ``coarser``.

    >>> match(["happy", "anger", "fear"], ["anger", "happiness", "contempt"])[:2]
    (['anger', 'happiness', 'fear'], {'anger': 'anger', 'happiness': 'happiness'})
    >>> found = match(["disgust", "fear", "surprise"], ["negative", "surprise"], {"disgust": "negative"})
    >>> found.outputs, found.extra, found.covered
    ({'disgust': 'negative', 'fear': 'fear', 'surprise': 'surprise'}, ['fear'], ['negative', 'surprise'])

    Args:
        outputs: classes of the network.
        targets: classes of the dataset.
        coarser: emotion -> the class that it is part of where there are fewer classes (:func:`documented`).
    """
    coarser = coarser or {}
    own, theirs = ({emotion(name): name for name in names} for names in (targets, outputs))
    joined = {coarser[name] for name in theirs.keys() - own.keys() if coarser.get(name) in own}
    labels: dict[str, str] = {}
    for name in targets:
        plain = emotion(name)
        if plain in theirs or plain in joined:
            labels[name] = name
        elif coarser.get(plain) in theirs:  # the network knows only the coarser class
            labels[name] = coarser[plain]
    found: dict[str, str] = {}
    for name in outputs:
        plain = emotion(name)
        alone = plain if plain in labels.values() else name
        found[name] = own.get(plain) or own.get(coarser.get(plain, "")) or alone
    classes = list(dict.fromkeys([*labels.values(), *found.values()]))
    return Matching(classes, labels, found)


def documented(layouts: Iterable[str], *schemes: Sequence[str]) -> dict[str, str]:
    """Return emotion -> coarser class, as the label sets of layouts define it for one of these lists of classes.

    >>> documented(["samm"], ["negative", "positive", "surprise"])["fear"]
    'negative'

    Args:
        layouts: names of layouts; their label sets say which labels the owners, or the protocol, join.
        schemes: lists of classes; a label set counts if its classes are those of one of the lists, in any order.
    """
    wanted = [set(names) for names in schemes]
    sets = (labels for layout in layouts for labels in layout_facts(layout).label_sets.values())
    return {
        emotion(label): name
        for labels in sets
        if set(labels.classes) in wanted
        for label, name in labels.labels.items()
        if is_emotion(emotion(label))
    }


def emotion(name: str) -> str:
    """Return the emotion that a class is named after: lower case, the noun of an adjective."""
    plain = name.strip().casefold()
    return "_".join(SPELLINGS.get(part, part) for part in plain.split("_"))
