"""Options of a prediction, and the checks of them that need no source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from duchenne.errors import UserError


@dataclass(frozen=True)
class Options:
    """What is predicted of each source.

    Attributes:
        faces: ``largest``: the largest central face, in a video followed until it is lost; ``all``: every face.
        every: only frames of a video whose number is a multiple of it.
        window: length in frames of the windows of a clip that get a row each; None: the whole clip gets one row.
        stride: frames from the start of a window to that of the next; None: ``window``.
        onset, apex: frame numbers, as in the file names of a folder, or counted from 0 in a video; None: a network that
            takes them gets the first frame and the apex that :func:`duchenne.prediction.apex.apex_of` finds.
        features: also return the features, which are the input of the last layer.
    """

    faces: Literal["largest", "all"] = "largest"
    every: int = 1
    window: int | None = None
    stride: int | None = None
    onset: int | None = None
    apex: int | None = None
    features: bool = False

    def check(self, takes: str, aligned: bool) -> None:
        """Check that the options agree with each other and with the network.

        Args:
            takes: what the network takes: image, clip or pair.
            aligned: whether it takes faces that are aligned already.

        Raises:
            UserError: They do not.
        """
        if self.faces not in ("largest", "all"):
            raise UserError(f"faces is {self.faces!r}: it must be largest or all")
        for name in ("every", "window", "stride"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"{name} is {value}: it must be at least 1")
        if takes == "image" and (self.onset is not None or self.apex is not None):
            raise UserError("this network takes single pictures: leave out onset and apex")
        if (self.onset is None) != (self.apex is None):
            raise UserError("give both frame numbers, onset and apex, or neither")
        if self.onset is not None and self.apex is not None and self.apex < self.onset:
            raise UserError(f"the apex, frame {self.apex}, comes before the onset, frame {self.onset}")
        if self.window is not None and takes != "clip":
            raise UserError("windows are for networks that take clips: leave out window")
        if self.window is not None and self.onset is not None:
            raise UserError("give either a window or onset and apex")
        if self.stride is not None and self.window is None:
            raise UserError("stride is the step from one window to the next: give window as well")
        if self.every > 1 and takes != "image":
            raise UserError("every is for networks that take single pictures: others choose their frames themselves")
        if self.faces == "all" and takes == "pair":
            raise UserError("this network takes onset and apex of one face: leave out faces, or set it to largest")
        if self.faces == "all" and aligned:
            raise UserError("this network takes aligned faces, one per frame: leave out faces, or set it to largest")
