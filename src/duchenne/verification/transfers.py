"""Results of ``duchenne transfer`` against their predictions, and against the networks and data that are here."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from duchenne.config import Catalog
from duchenne.files import file_digest
from duchenne.reporting.transfer import measured_from
from duchenne.sealed import read_sealed
from duchenne.verification.findings import Checked
from duchenne.workspace import Workspace

AGAIN = "delete it, then run `duchenne transfer` again"


def verify_transfers(catalog: Catalog, workspace: Workspace, runs: Collection[str], before: Checked) -> Checked:
    """Check every pair of a network and a dataset.

    Args:
        runs: runs whose networks are meant; empty: all.
        before: result of the check of files; a pair of a file that it found damaged is not compared.
    """
    done = Checked()
    for path in sorted(workspace.results("transfer").glob("*/*.json")):
        with done.reading(path, AGAIN):
            _pair(catalog, workspace, path, runs, before, done)
    return done


def _pair(
    catalog: Catalog, workspace: Workspace, path: Path, runs: Collection[str], before: Checked, done: Checked
) -> None:
    from duchenne.transfer import measure  # imports torch

    record = read_sealed(path)
    if runs and record["run"] not in runs:
        return
    files = measured_from(workspace, record)
    own = workspace.results(record["run"]) / "predictions.parquet"
    source = own if record["own"] else path.with_suffix(".parquet")
    if damaged := [each.as_posix() for each in [*files, source] if before.explains(each)]:
        done.skipped.append(f"{path.as_posix()}: comparisons with damaged files ({', '.join(dict.fromkeys(damaged))})")
        return
    if changed := [each.as_posix() for each, digest in files.items() if file_digest(each) != digest]:
        text = f"was measured before {', '.join(changed)} changed; the report leaves it out"
        done.wrong(path, "record", text, "run `duchenne transfer` again")
        return
    with done.reading(source, AGAIN):
        predictions = pd.read_parquet(source)
        if record["own"]:
            predictions = predictions[predictions["fold"].isin(record["used_folds"])]
        computed = measure(predictions, catalog, record, record["made_from"]["options"]["bootstrap"])
        stated = {key: record[key] for key in computed if key in record}
        done.compare(path, stated, computed, "the predictions", AGAIN)
