"""Rendered faces: the default data of the pipeline, made on the spot with the whole truth beside every picture."""

from duchenne.extras import require_extra

require_extra("rendering faces", "synth")  # every module of this package imports Warp, whose kernels are its functions

from duchenne.synth.generate import generate  # noqa: E402

__all__ = ["generate"]
