"""Datasets: whatever layout the files have, one index with one validated row a sample.

A new layout is one module with ``read(config) -> Listing`` and one entry of :data:`LAYOUTS`.
"""

from duchenne.datasets.build import LAYOUTS, build_index, limited
from duchenne.datasets.index import Index, empty_classes, read_index, summarise, write_index
from duchenne.datasets.problems import IndexProblems

__all__ = [
    "LAYOUTS", "Index", "IndexProblems", "build_index", "empty_classes", "limited", "read_index",
    "summarise", "write_index",
]  # fmt: skip
