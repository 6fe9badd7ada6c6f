"""Rendered faces: the default data of the pipeline, made on the spot with the whole truth beside every picture."""

from duchenne.synth.generate import generate

__all__ = ["generate"]
