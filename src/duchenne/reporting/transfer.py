"""Results of ``duchenne transfer``: networks on datasets that they were not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from duchenne.files import file_digest
from duchenne.metrics import METRICS
from duchenne.reporting.tables import write_table
from duchenne.reporting.wording import interval, percent
from duchenne.sealed import read_sealed
from duchenne.workspace import Workspace

SHOWN = ("uar", "war")
"""Metrics of the matrix, the first as its colour."""


class Transfers(NamedTuple):
    """Pairs of a network and a dataset.

    ``records``: what ``duchenne transfer`` wrote. ``outdated``: pairs, as network and dataset, of which one has
    changed since, which are left out.
    """

    records: list[dict[str, Any]]
    outdated: list[tuple[str, str]]

    def matrix(self, metric: str) -> pd.DataFrame:
        """Return a metric by network and dataset, in the order of the records; NaN where a pair was not measured."""
        table = pd.DataFrame(
            [(record["network"], record["dataset"], record.get(metric)) for record in self.records],
            columns=["network", "dataset", metric],
        )
        wide = table.pivot(index="network", columns="dataset", values=metric)
        return wide.loc[table["network"].unique(), table["dataset"].unique()].astype(float)

    def find(self, network: str, dataset: str) -> dict[str, Any] | None:
        """Return the record of a pair; None if it was not measured."""
        own = (each for each in self.records if (each["network"], each["dataset"]) == (network, dataset))
        return next(own, None)


def read_transfers(workspace: Workspace) -> Transfers:
    """Read ``results/transfer/<network>/<dataset>.json``, of networks and datasets that are still as they were."""
    records, outdated = [], []
    for path in sorted(workspace.results("transfer").glob("*/*.json")):
        record = read_sealed(path)
        if all(file_digest(file) == digest for file, digest in measured_from(workspace, record).items()):
            records.append(record)
        else:
            outdated.append((record["network"], record["dataset"]))
    return Transfers(records, outdated)


def measured_from(workspace: Workspace, record: dict[str, Any]) -> dict[Path, str]:
    """Return the files that a pair was measured from and are here, cards and data, with their digests then."""
    made_from, run = record["made_from"], record["run"]
    known = {workspace.fold(run, int(fold)) / "card.json": digest for fold, digest in made_from["cards"].items()}
    own = workspace.results(run) / "predictions.parquet"
    known[own if record["own"] else workspace.index(record["dataset"])] = made_from["data"]
    return {path: digest for path, digest in known.items() if path.exists()}


def remarks(record: dict[str, Any]) -> list[str]:
    """Describe what must be known to read a pair, a phrase each."""
    if record["own"]:
        return ["its own dataset: its own test predictions"]
    folds, total = record["used_folds"], record["folds_of_the_run"]
    found = ["test part" if record["part"] == "test" else "all samples"]
    if total > 1:
        found.append(f"mean probabilities of {len(folds)} folds" if len(folds) > 1 else f"fold {folds[0]} of {total}")
    if record["uncovered"]:
        words = ", ".join(f"{name} ({n:,})" for name, n in record["uncovered"].items())
        found.append(f"left out, because the network does not know the class: {words}")
    if record["extra"]:
        what = "left out of the answers" if record["masked"] else "possible answers, always wrong"
        found.append(f"classes that only the network knows ({what}): {', '.join(record['extra'])}")
    if record["merged"]:
        found.append("counted as " + ", ".join(f"{meant}: {name}" for name, meant in record["merged"].items()))
    if record["missed"]:
        found.append(f"{record['missed']:,} without a face left out")
    if record["without_onset_or_apex"]:
        found.append(f"{record['without_onset_or_apex']:,} without onset or apex left out")
    shared = record["shared"]
    if shared["near_duplicates"]:
        found.append(f"near-duplicates of training samples: {shared['near_duplicates']:,}")
    if shared["people"]:
        found.append(f"people who are also in training: {shared['people']:,}")
    if None in shared.values():
        unknown = {"near_duplicates": "near-duplicates", "people": "people"}
        found.append(
            "not known whether it shares " + " or ".join(unknown[key] for key in shared if shared[key] is None)
        )
    return found


def cell(record: dict[str, Any] | None) -> list[str]:
    """Return the lines of a cell of the matrix: value and interval of each metric, then the numbers behind them."""
    if record is None:
        return ["–"]
    values = [f"{METRICS[name].label} {percent(record[name])} ({interval(record, name)})" for name in SHOWN]
    own = ["own test part"] if record["own"] else []
    return [*values, f"n {record['n']:,}, {record['known_classes']} classes", *own]


def write_transfer_table(found: Transfers, out: Path) -> None:
    """Write ``transfer.csv`` and ``.tex`` into ``out``, if there are pairs."""
    if not found.records:
        return
    keys = ["network", "dataset", "own", "trained_on", "n", "known_classes"]
    keys += [f"{name}{end}" for name in ("uar", "war", "uf1") for end in ("", "_low", "_high")]
    cells = pd.DataFrame([{key: record.get(key) for key in keys} for record in found.records]).set_index("network")
    shown = found.matrix("uar").mul(100).round(1)
    note = "UAR in per cent by network and dataset; on its own dataset of its own test predictions"
    write_table(out / "transfer", cells, shown, "Network", note)


def show(found: Transfers, console: Console) -> None:
    """Print the matrix, and what must be known to read each pair."""
    values = found.matrix(SHOWN[0])
    table = Table("", *map(escape, values.columns), title="95 % intervals; rows are networks, columns are datasets")
    for network in values.index:
        cells = ("\n".join(cell(found.find(network, dataset))) for dataset in values.columns)
        table.add_row(escape(network), *map(escape, cells))
        table.add_section()
    console.print(table)
    for record in found.records:
        words = f"{record['network']} on {record['dataset']}: {'; '.join(remarks(record))}"
        console.print(escape(words), soft_wrap=True, highlight=False)
