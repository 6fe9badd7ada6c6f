"""Builds a dataset's index from its files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from duchenne.datasets import factors, problems
from duchenne.datasets.checks import check
from duchenne.datasets.contract import layout_reader
from duchenne.datasets.find import dead_links, links_out, packed, wanted
from duchenne.datasets.index import Index
from duchenne.datasets.listing import Listing
from duchenne.datasets.problems import IndexProblems, UnreadableError
from duchenne.datasets.settings import Dataset
from duchenne.datasets.subset import limit_rows


def build_index(name: str, config: Dataset) -> Index:
    """List the samples of a dataset and check every row.

    Args:
        name: name of the dataset, for messages and the metadata of the index.
        config: the dataset's block of params.yaml.

    Raises:
        IndexProblems: The root is missing, empty or does not fit the layout; or rows are wrong and ``bad_rows`` is
            ``stop``; or no usable row is left. One message names every problem.
    """
    try:
        if config.root.is_file():
            problem = f"is a file, not a folder: unpack it and set datasets.{name}.root to the folder"
            raise UnreadableError(config.root, problem)
        if not config.root.is_dir():
            raise UnreadableError(
                config.root, f"there is no such folder: put the dataset there or set datasets.{name}.root"
            )
        if not any(wanted(item.name) for item in config.root.iterdir()):
            problem = f"is empty: layout {config.layout} ({config.facts.title}) needs {config.facts.files}"
            raise UnreadableError(config.root, problem)
        listing = layout_reader(config.layout).read_listing(config)
        if config.factors is not None:
            factors.join(listing, config)
        _note_links_out(listing, config.root)
    except UnreadableError as error:
        absent = not Path(error.source).is_file()  # an unreadable file has been unpacked
        hint = packed(config.root, config.annotations or config.root) if absent else ""
        if dead := dead_links(config.root) if config.root.is_dir() else []:
            hint = f" ({'; '.join(dead[:5])})"
        table = problems.frame([(None, error.column, "", f"{error}{hint}")])
        raise IndexProblems(name, error.source, table) from None
    rows, wrong = check(listing, name, config)
    if len(wrong) and config.bad_rows == "stop":
        advice = f"; fix the rows, or leave them out by datasets.{name}.bad_rows: skip"
        raise IndexProblems(name, listing.source, wrong, listing.unit, advice)
    if rows.empty:
        hint = packed(config.root)
        none = problems.frame(
            [
                (None, "", "", f"there is no usable sample (layout {config.layout}){hint}"),
                *wrong.itertuples(index=False),
            ]
        )
        raise IndexProblems(name, listing.source, none, listing.unit)
    whole = Index(rows, wrong, list(config.classes), name, listing.left_out, listing.findings, listing.unit)
    return limited(whole, config.limit)


def _note_links_out(listing: Listing, root: Path) -> None:
    """Add one note on links that lead out of the root."""
    if found := links_out(root):
        places = "1 folder" if found.folders == 1 else f"{found.folders:,} folders"
        more = f" (and {found.count - 1:,} more do, to {places} in all)" if found.count > 1 else ""
        oddity = f"is a link out of the root, to {found.target}{more}"
        advice = "read; archives can hold links: remove those that you did not make"
        listing.findings.notes.append((None, "path", found.path, oddity, advice))


def limited(index: Index, limit: int | None) -> Index:
    """Reduce the index to about ``limit`` samples: whole subjects, stratified by class; None: all."""
    if limit is None or len(index.rows) <= limit:
        return index
    return replace(index, rows=limit_rows(index.rows, limit))
