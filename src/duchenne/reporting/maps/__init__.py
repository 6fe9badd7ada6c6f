"""Pictures of what the networks of a run look at, each with its words, for the page.

Maps lie over the face in grey, coloured by a perceptually uniform scale (viridis) and with a line at three
quarters of the scale, so that they are read without colour too.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from matplotlib import rc_context

from duchenne.files import replacing, write_json
from duchenne.reporting.maps.clips import clip_maps
from duchenne.reporting.maps.drawing import STYLE
from duchenne.reporting.maps.exhibit import Exhibit
from duchenne.reporting.maps.images import image_maps
from duchenne.reporting.maps.pairs import pair_maps

__all__ = ["Exhibit", "write_maps"]

KINDS = {"image": image_maps, "clip": clip_maps, "pair": pair_maps}
"""What a network takes -> its pictures, numbers by name, and the table that these are made of, if any."""


def write_maps(exhibit: Exhibit, out: Path) -> None:
    """Draw what the networks of a run look at, in the samples of :func:`duchenne.evaluation.explain.striking`.

    Writes the pictures; ``maps.json``, a list of ``file``, ``title``, ``caption``, ``alt`` and ``faces`` (whether
    faces may be seen in it); ``numbers.json``, name -> value, empty where no truth is known; and ``numbers.csv``, what
    those are means and correlations of.

    Args:
        out: a folder.
    """
    exhibit = replace(exhibit, network=lru_cache(maxsize=1)(exhibit.network))
    network, card = exhibit.network(int(exhibit.samples["fold"].min()))
    with rc_context(STYLE):
        pictures, numbers, table = KINDS[network.facts.takes](exhibit, network.facts, card)
        for picture in pictures:
            with replacing(out / picture.file) as path:
                picture.figure.savefig(path, format="png", dpi=130)
    for stale in {path.name for path in out.glob("*.png")} - {picture.file for picture in pictures}:
        (out / stale).unlink()
    if table is not None:
        with replacing(out / "numbers.csv") as path:
            table.to_csv(path, index=False)
    write_json(out / "numbers.json", numbers)
    words = ("file", "title", "caption", "alt")
    described = [{word: getattr(picture, word) for word in words} for picture in pictures]
    write_json(out / "maps.json", [item | {"faces": exhibit.show_faces} for item in described])
