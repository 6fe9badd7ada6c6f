"""Checkpoints: resume an interrupted fold, skip a finished one.

The folder of a fold::

    state.pt                  the last whole epoch: weights, optimiser, average, history (torch, read with weights_only)
    epoch_<n>.safetensors     weights of the best epoch so far
    history.csv               for people; the state has its own
    pretraining.csv           the same of the epochs without labels, where there are any
    done/                     the finished fold, and finished.json, by which it is recognised

There is no random state: every random number is a function of seed and epoch (see ``loop``). Each file is written
beside its place and moved there, and the state last, so that a kill at any moment leaves one whole epoch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor

from duchenne.faces.store import FaceStore
from duchenne.files import file_digest, replacing, unusable, write_json
from duchenne.metrics import METRICS
from duchenne.sources import HARMLESS, network_digest, source_digest
from duchenne.training.device import Precision
from duchenne.training.errors import TrainingError
from duchenne.training.settings import Variant

log = logging.getLogger(__name__)

TRAINS = {"model", "recipe", "selection", "monitor", "seed"}
"""Fields of a variant on which the weights depend; dataset and protocol act through the samples alone."""
_PUT = "put the file there (README, Published weights), or set its part of model.pretrained to null: random weights"


def fingerprint(
    variant: Variant,
    classes: list[str],
    samples: pd.DataFrame,
    store: FaceStore,
    init: Path | None,
    precision: Precision,
    centres: Tensor | None = None,
    shares: Tensor | None = None,
) -> str:
    """SHA-256 of everything that decides what a fold learns.

    In it: the variant's network, recipe, selection and seed; the classes; every sample with its label, part, onset and
    apex and the perceptual hash of its face; the settings of the face store; the contents of initial and published
    weights; the precision; the definition of the metric that picks the epoch; the centres of the action-unit regions,
    where the network has such; soft targets. Not in it: device, workers, memory format, compilation, which change speed
    and the last bits, and the code, for which see :func:`code_version`.
    """
    hashes = store.hashes()
    rows = samples.sort_values("sample")
    marks = rows.reindex(columns=["onset", "apex"]).astype(object)
    marks = marks.where(marks.notna(), None).values.tolist()
    published = [_digest(path, _PUT) for path in variant.model.files.values()]
    initial = [_digest(init / "weights.safetensors", f"train {init.parent.name} first")] if init else []
    parts = {
        "variant": variant.model_dump(mode="json", include=TRAINS),
        "classes": classes,
        "samples": [
            [sample, int(label), part, hashes[sample], *frames]
            for sample, label, part, frames in zip(rows["sample"], rows["label"], rows["part"], marks, strict=True)
        ],
        "store": store.meta,
        "weights": published + initial,
        "precision": precision,
        "monitor": METRICS[variant.monitor].definition if variant.monitor in METRICS else "",
        "centres": None if centres is None else centres.tolist(),
        "shares": None if shares is None else shares.tolist(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@cache
def code_version(architecture: str) -> str:
    """SHA-256 of the sources that train a network: after an edit a finished fold is not taken for what they would make.

    Sources of other networks are not among them, nor are the metrics: one more of them leaves the weights as they are,
    and the one that picks the epoch is part of the fingerprint.
    """
    trains = source_digest("duchenne.training.loop", without={*HARMLESS, "duchenne.models", "duchenne.metrics"})
    return hashlib.sha256((trains + network_digest(architecture)).encode()).hexdigest()


def _digest(path: Path, remedy: str) -> str:
    if reason := unusable(path):
        raise TrainingError(f"{path} {reason}: {remedy}")
    return file_digest(path)


class Checkpoints:
    """The resumable state of one fold in ``folder``, valid for one ``key`` (:func:`fingerprint`).

    Args:
        code: :func:`code_version` of its network.
    """

    def __init__(self, folder: Path, key: str, code: str) -> None:
        self.folder, self.key, self.code = folder, key, code
        self._state, self._done = folder / "state.pt", folder / "done"

    def finished(self) -> bool:
        """Whether the fold was trained to its end with this key by this code."""
        try:
            record = json.loads((self._done / "finished.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # ValueError: damaged
            return False
        return record == {"key": self.key, "code": self.code}

    def resume(self, device: torch.device) -> dict[str, Any] | None:
        """The state of the last whole epoch, or None when there is none with this key.

        Raises:
            TrainingError: the file is damaged.
        """
        if not self._state.exists():
            return None
        try:
            state = torch.load(self._state, map_location=device, weights_only=True)
            key, code, epoch = (state[name] for name in ("key", "code", "epoch"))
        except Exception as error:  # a damaged file raises whatever its bytes happen to spell
            raise TrainingError(f"{self._state} cannot be read; delete it to start this fold anew: {error}") from None
        if key != self.key:
            log.warning("%s: configuration, split or data changed, training starts anew", self.folder)
            return None
        if code != self.code:
            log.warning("%s: the code changed after epoch %d, from which training resumes", self.folder, epoch)
        return state

    def save(self, state: Mapping[str, Any], best: Mapping[str, Tensor] | None) -> None:
        """Keep the state after an epoch, and the weights ``best`` when that epoch is the best so far."""
        if best is not None:
            save_weights(best, self._best(state["epoch"]))
        for name in ("history", "pretraining"):
            table = self.folder / f"{name}.csv"
            table.unlink(missing_ok=True)
            if state[name]:
                with replacing(table) as path:
                    pd.DataFrame(state[name]).to_csv(path, index=False)
        with replacing(self._state) as path:
            torch.save({**state, "key": self.key, "code": self.code}, path)
        for path in self.folder.glob("epoch_*.safetensors"):
            if path != self._best(state["selected"]):
                path.unlink()

    def finish(self, card: Mapping[str, Any], selected: int) -> None:
        """Make the finished fold of the epoch ``selected`` and drop the state."""
        part = self.folder / "done.part"
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(self._done, ignore_errors=True)
        part.mkdir()
        shutil.copy2(self._best(selected), part / "weights.safetensors")
        for path in self.folder.glob("*.csv"):
            shutil.copy2(path, part)
        write_json(part / "card.json", card)
        write_json(part / "finished.json", {"key": self.key, "code": self.code})
        part.replace(self._done)
        self._state.unlink()
        self._best(selected).unlink()

    def publish(self, out: Path) -> None:
        """Put a copy of the finished fold at ``out``, whole or not at all."""
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name(f".{out.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(self._done, part, ignore=shutil.ignore_patterns("finished.json"), copy_function=_link)
        shutil.rmtree(out, ignore_errors=True)
        part.replace(out)

    def _best(self, epoch: int) -> Path:
        return self.folder / f"epoch_{epoch}.safetensors"


def save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write a state dict as safetensors, which holds contiguous tensors only (channels-last ones are not)."""
    with replacing(path) as part:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, part)


def _link(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
