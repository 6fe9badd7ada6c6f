"""Pictures of a run, drawn from the arrays of the explain stage into the same folder."""

from __future__ import annotations

from pathlib import Path

from matplotlib import rc_context

from duchenne.evaluation.explained import PICTURES, Explained
from duchenne.files import replacing, write_json
from duchenne.reporting.maps.clips import clip_pictures
from duchenne.reporting.maps.drawing import STYLE
from duchenne.reporting.maps.images import image_pictures
from duchenne.reporting.maps.pairs import pair_pictures
from duchenne.sealed import FILES, digests, write_sealed

KINDS = {"image": image_pictures, "clip": clip_pictures, "pair": pair_pictures}
"""Kind of a network's input -> function that draws its pictures."""


def draw_pictures(folder: Path) -> None:
    """Draw the :class:`duchenne.evaluation.explained.Explained` in ``folder``.

    Writes the pictures and ``maps.json``, a list of ``file``, ``title``, ``caption``, ``alt`` and ``faces`` (whether it
    may show faces). Older pictures are deleted.
    """
    explained = Explained.load(folder)
    with rc_context(STYLE):
        pictures = KINDS[explained.takes](explained)
        for picture in pictures:
            with replacing(folder / picture.file) as path:
                picture.figure.savefig(path, format="png", dpi=130)
    for stale in {path.name for path in folder.glob("*.png")} - {picture.file for picture in pictures}:
        (folder / stale).unlink()
    words = ("file", "title", "caption", "alt")
    described = [{word: getattr(picture, word) for word in words} for picture in pictures]
    write_json(folder / "maps.json", [item | {"faces": explained.faces} for item in described])
    drawn = [folder / "maps.json", *(folder / picture.file for picture in pictures)]
    write_sealed(folder / PICTURES, {FILES: digests(drawn)})
