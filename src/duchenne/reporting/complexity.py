"""Table of the sizes of networks, in one convention for all and compared with the printed values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from duchenne.config import Catalog
from duchenne.papers.printed import SIZES, Counting, printed_for, sources
from duchenne.reporting.basis import MARKS, basis_of, footnotes

COUNTS = {
    ("params", "total"): lambda size: size["total"] / 1e6,
    ("params", "thop"): lambda size: size["thop_params"] / 1e6,
    ("flops", "thop"): lambda size: size["thop_macs"] / 1e9,
    ("flops", "twice ptflops"): lambda size: 2 * size["ptflops_macs"] / 1e9,
    ("params_blocks", "total"): lambda size: size["block_params"] / 1e6,
    ("flops_blocks", "twice ptflops"): lambda size: 2 * size["block_ptflops_macs"] / 1e9,
}
"""Metric and counting convention -> function that gives millions of parameters or billions (1e9) of operations."""


def as_counted(size: Mapping[str, Any], metric: str, counting: Counting) -> float:
    """Return a size (fields of :class:`duchenne.evaluation.complexity.Complexity`) as its paper counts it."""
    return COUNTS[metric, counting.count](size)


def representatives(catalog: Catalog) -> list[str]:
    """Choose one variant per network of the catalog: the first whose size a paper prints, otherwise the first."""
    chosen: dict[str, str] = {}
    for name, variant in catalog.variants.items():
        known = chosen.setdefault(variant.model.architecture, name)
        if "params" in printed_for(name, variant) and "params" not in printed_for(known, catalog.variants[known]):
            chosen[variant.model.architecture] = name
    return list(chosen.values())


def complexity_row(catalog: Catalog, name: str, size: Mapping[str, Any]) -> dict[str, object]:
    """Return parameters in millions, operations in billions (1e9), and seconds per sample on this machine's CPU.

    For a printed size, our size in the paper's convention is in the next column.

    Args:
        size: result of :func:`duchenne.evaluation.complexity.measured` for the variant's network.
    """
    variant = catalog.variants[name]
    row: dict[str, object] = {
        "variant": name,
        "network": variant.model.architecture,
        "basis": basis_of(variant.model),
        "classes": len(catalog.datasets[variant.dataset].classes),
        "input": "x".join(map(str, size["input_size"])),
        "params": size["total"] / 1e6,
        "params_trainable": size["trainable"] / 1e6,
        "params_used": size["used"] / 1e6,
        "params_thop": size["thop_params"] / 1e6,
        "macs": size["macs"] / 1e9,
        "macs_attention": size["attention_macs"] / 1e9,
        "macs_thop": size["thop_macs"] / 1e9,
        "macs_ptflops": size["ptflops_macs"] / 1e9,
        "seconds": size["seconds"],
    }
    theirs = {metric: cell for metric, cell in printed_for(name, variant).items() if metric in SIZES}
    for metric, cell in theirs.items():
        row[f"paper_{metric}"] = cell.value
        row[f"{metric}_so_counted"] = as_counted(size, metric, cell.table.counting[metric])
    return row | {"paper": sources(theirs)}


def amount(number: float, digits: int = 2) -> str:
    """Format a size or a time with ``digits`` decimals, below 0.1 with three significant digits.

    >>> amount(58.3166), amount(1.19), amount(0.002203), amount(0.4567, 3), amount(0.0)
    ('58.32', '1.19', '0.00220', '0.457', '0')
    """
    if number == 0:
        return "0"
    small = abs(number) < 0.1
    return f"{number:.{2 - math.floor(math.log10(abs(number))) if small else digits}f}"


def markdown(table: pd.DataFrame) -> str:
    """Format the table as Markdown, for a README."""
    head = [
        "Network", "Parameters, M", "used, M", "MACs, G", "of attention, G", "s/sample",
        "Paper: Params, M", "ours, counted so", "Paper: FLOPs, G", "ours, counted so",
    ]  # fmt: skip
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for row in table.to_dict("records"):
        line = [
            f"`{row['network']}`{MARKS[row['basis']]}",
            *(amount(row[key]) for key in ("params", "params_used", "macs")),
        ]
        line += [amount(row["macs_attention"], 3), amount(row["seconds"])]
        for metric in ("params", "flops"):
            there = pd.notna(row.get(f"paper_{metric}"))
            line += [f"{row[f'paper_{metric}']:g}", amount(row[f"{metric}_so_counted"], 3)] if there else ["", ""]
        lines.append(line)
    notes = footnotes(set(table["basis"]))
    return "".join([*(f"| {' | '.join(line)} |\n" for line in lines), *(f"\n{note}\n" for note in notes)])
