"""Checkpoints: resume an interrupted training run, skip a finished one.

The folder of a run::

    state.pt                  the last complete epoch: weights, optimiser, schedule, average, tables (torch, read with
                              weights_only)
    epoch_<n>.safetensors     weights of the best epoch so far
    history.csv               for people; the state has its own copy
    pretraining.csv           the same for the epochs without labels, if there are any
    done/                     the finished run, and finished.json, by which it is recognised

There is no random state: every random number is a function of seed and epoch (see ``trainer``). Each file is written
under a temporary name and then moved: the weights, then the state, then the tables for people. So an interruption at
any moment leaves a complete epoch, and no table has an epoch that is trained again, with other times.
"""

from __future__ import annotations

import logging
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save
from torch import Tensor

from duchenne.files import file_digest, replacing
from duchenne.sealed import FILES, DamagedError, damaged, digests, read_sealed, write_sealed, write_table
from duchenne.shortage import explain, naming
from duchenne.training.errors import TrainingError

log = logging.getLogger(__name__)

AGAIN = "its folder can be deleted"


class Checkpoints:
    """The resumable state of one training run in ``folder``.

    Args:
        key: digest of everything that determines the result; a state with a different key is not resumed.
        code: digest of the sources that train; after an edit a state is still resumed, but a finished run does not
            count as finished.
        weights: name of the file of weights in the finished folder.
        metadata: metadata of that file.
    """

    def __init__(
        self,
        folder: Path,
        key: str,
        code: str,
        weights: str = "weights.safetensors",
        metadata: dict[str, str] | None = None,
    ) -> None:
        self.folder, self.key, self.code, self.weights, self.metadata = folder, key, code, weights, metadata
        self._state, self._done = folder / "state.pt", folder / "done"
        self._best_digest: str | None = None

    def finished(self) -> bool:
        """Whether the run finished with this key and this code."""
        record_file = self._done / "finished.json"
        try:
            record = read_sealed(record_file, AGAIN)
            if record != {"key": self.key, "code": self.code}:
                what = "code" if record.get("key") == self.key else "configuration, split or data"
                log.warning("%s: %s changed after it was written, so this run is trained again", record_file, what)
                return False
            require_whole(self._done, self.weights, AGAIN)
        except FileNotFoundError:
            return False
        except DamagedError as error:
            log.warning("%s; it is trained again", error)
            return False
        return True

    def resume(self, device: torch.device) -> dict[str, Any] | None:
        """Return the state of the last complete epoch, or None when there is none with this key.

        Raises:
            TrainingError: The file is damaged.
        """
        if not self._state.exists():
            return None
        try:
            with zipfile.ZipFile(self._state) as packed:  # torch does not compare the checksums of a file in it
                if wrong := packed.testzip():
                    raise ValueError(f"the checksum of {wrong} does not fit")
            state = torch.load(self._state, map_location=device, weights_only=True)
            key, code, epoch = (state[name] for name in ("key", "code", "epoch"))
        except Exception as error:  # a damaged file can raise any error
            if explain(error):  # it is not damaged: it must not be deleted
                raise
            raise TrainingError(f"{self._state} cannot be read; delete it to start this run again: {error}") from None
        if key != self.key:
            log.warning("%s: configuration, split or data changed, training starts from scratch", self.folder)
            return None
        best, self._best_digest = self._best(state["selected"]), state.get("best_sha256")
        if self._best_digest is not None and (not best.exists() or file_digest(best) != self._best_digest):
            raise TrainingError(f"{best} is damaged or missing; delete {self.folder} to start this run again")
        self._write_tables(state["tables"])
        if code != self.code:
            log.warning("%s: the code changed after epoch %d, from which training resumes", self.folder, epoch)
        return state

    def save(self, state: Mapping[str, Any], best: Mapping[str, Tensor] | None) -> None:
        """Keep the state after an epoch, and the weights ``best`` when that epoch is the best so far.

        Args:
            state: with ``epoch`` (number of finished ones), ``tables`` (name -> rows) and ``selected`` (the best one).
        """
        if best is not None:
            save_weights(best, self._best(state["selected"]), self.metadata)
            self._best_digest = file_digest(self._best(state["selected"]))
        with replacing(self._state) as path, path.open("wb") as file:  # PyTorch's own file hides that the disk is full
            torch.save({**state, "key": self.key, "code": self.code, "best_sha256": self._best_digest}, file)
        self._write_tables(state["tables"])
        for path in self.folder.glob("epoch_*.safetensors"):
            if path != self._best(state["selected"]):
                path.unlink()

    def _write_tables(self, own: Mapping[str, Any]) -> None:
        tables = {self.folder / f"{name}.csv": rows for name, rows in own.items() if rows}
        for table in set(self.folder.glob("*.csv")) - tables.keys():  # tables of another key
            table.unlink(missing_ok=True)  # another process of this run may have
        for table, rows in tables.items():
            with replacing(table) as path:
                pd.DataFrame(rows).to_csv(path, index=False)

    def finish(
        self, card: Mapping[str, Any], selected: int, tables: Mapping[str, pd.DataFrame] = MappingProxyType({})
    ) -> None:
        """Make the finished folder, with the weights of the epoch ``selected``, and delete the state.

        The card gets ``weights_sha256``, the digest of the file of weights, and those of the tables, and is sealed.

        Args:
            tables: further tables of the finished folder, each in ``<name>.parquet``.
        """
        part = self.folder / "done.part"
        shutil.rmtree(part, ignore_errors=True)
        (self._done / "finished.json").unlink(missing_ok=True)  # first, or half a folder could count as finished
        shutil.rmtree(self._done, ignore_errors=True)
        part.mkdir()
        with naming(self._done, part):
            _link(str(self._best(selected)), str(part / self.weights))  # a full disk has no room for a copy
            if self._best_digest is not None and file_digest(part / self.weights) != self._best_digest:
                raise TrainingError(f"{self._best(selected)} is damaged; delete {self.folder} to start this run again")
            for path in self.folder.glob("*.csv"):
                shutil.copy2(path, part)
            for name, table in tables.items():
                write_table(part / f"{name}.parquet", table)
            beside = {FILES: digests(sorted(path for path in part.iterdir() if path.name != self.weights))}
            write_sealed(part / "card.json", {**card, "weights_sha256": file_digest(part / self.weights), **beside})
            write_sealed(part / "finished.json", {"key": self.key, "code": self.code})
            part.replace(self._done)
        self._clear()

    def publish(self, out: Path) -> None:
        """Copy the finished folder to ``out``, completely or not at all."""
        self._clear()
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name(f".{out.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        with naming(out, part):
            shutil.copytree(self._done, part, ignore=shutil.ignore_patterns("finished.json"), copy_function=_link)
        shutil.rmtree(out, ignore_errors=True)
        part.replace(out)

    def _clear(self) -> None:
        """Delete what a finished run does not need; an interruption may have left it."""
        for path in (self._state, *self.folder.glob("epoch_*.safetensors")):
            path.unlink(missing_ok=True)

    def _best(self, epoch: int) -> Path:
        return self.folder / f"epoch_{epoch}.safetensors"


def require_whole(folder: Path, weights: str, again: str) -> None:
    """Check that the weights and tables in the folder of a network are those of its card; older cards list none.

    Raises:
        DamagedError: A file is not, or the card is damaged.
    """
    card = read_sealed(folder / "card.json", again)
    if not isinstance(card, dict):
        raise damaged(folder / "card.json", again, "it is not an object")
    known = card.get(FILES, {}) | ({weights: card["weights_sha256"]} if "weights_sha256" in card else {})
    for name, digest in known.items():
        path = folder / name
        if not path.exists() or file_digest(path) != digest:
            raise DamagedError(f"{path} is not the file of card.json beside it (SHA-256)")


def save_weights(weights: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a state dict as safetensors, which holds contiguous tensors only (channels-last ones are not)."""
    with replacing(path) as part:
        # not save_file, which makes a file that only its owner can read
        part.write_bytes(save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, metadata))


def _link(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
