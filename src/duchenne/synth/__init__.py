"""Rendered faces: the default data of the pipeline, made on the spot with the whole truth beside every picture."""
