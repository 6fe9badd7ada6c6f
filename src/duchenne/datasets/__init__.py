"""Datasets: whatever layout the files have, one index with one validated row a sample.

A new layout is one module with ``read(config) -> Listing`` and one entry of :data:`LAYOUTS`.
"""
