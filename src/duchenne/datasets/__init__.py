"""Datasets: an index with one validated row per sample, for every layout of the files.

:mod:`duchenne.datasets.contract` defines what a layout is.
"""
