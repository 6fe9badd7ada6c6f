"""Rendered faces: the default data of the pipeline, generated locally with complete ground truth per picture."""
