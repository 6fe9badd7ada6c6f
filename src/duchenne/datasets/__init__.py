"""Datasets: whatever layout the files have, one index with one validated row a sample.

:mod:`duchenne.datasets.contract` says what a layout is.
"""
