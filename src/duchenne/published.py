"""Evaluation of published weights and of any network's folder on a dataset, in the same way as trained runs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from scipy.optimize import linear_sum_assignment
from sklearn.metrics import confusion_matrix
from torch import nn

from duchenne.config import Catalog
from duchenne.datasets.index import read_index
from duchenne.errors import UserError
from duchenne.faces.store import FaceStore
from duchenne.files import file_digest
from duchenne.locks import alone
from duchenne.models.contract import create
from duchenne.models.official import load_official
from duchenne.sealed import read_table
from duchenne.stages.evaluate import measure_folds, network_digests
from duchenne.training.trained import load_trained, network_card, reorder
from duchenne.workspace import Workspace

log = logging.getLogger(__name__)


def evaluate_checkpoint(
    catalog: Catalog,
    workspace: Workspace,
    variant: str,
    checkpoint: Path,
    fold: int,
    out: Path,
    order: list[str] | None = None,
) -> dict[str, Any]:
    """Measure published weights on the test part of a variant, without training; returns the metrics.

    Published weights run in float32, like those of their owners, unless ``compute.precision`` says bf16: with ``auto``
    the result does not depend on the machine.

    Args:
        checkpoint: published file of weights for the variant's network.
        fold: fold whose test part is used; 1 if there are no folds.
        out: folder of predictions, features and metrics.
        order: classes in the order of the checkpoint's outputs; None: the dataset's.

    Raises:
        UserError: The faces or the split do not exist yet, there is no such fold, the classes of ``order`` are not
            those of the dataset, or an entry does not fit.
    """
    config = catalog.variants[variant]
    classes = order or _classes(catalog, workspace, variant)
    model = create(config.model.architecture, config.model.options, len(catalog.datasets[config.dataset].classes))
    load_official(model, checkpoint)
    precision = "bf16" if catalog.compute.precision == "bf16" else "fp32"
    card = network_card(model, config, classes, {}, precision)
    ordered = f" --order {','.join(order)}" if order else ""
    return _evaluate(
        catalog,
        workspace,
        variant,
        model,
        card,
        fold,
        out,
        named="--order names",
        advice="try --order",
        option=f"--checkpoint {checkpoint.name}{ordered}",
        files={"checkpoint": checkpoint.name, "weights": file_digest(checkpoint)},
    )


def evaluate_model(
    catalog: Catalog, workspace: Workspace, variant: str, folder: Path, fold: int, out: Path
) -> dict[str, Any]:
    """Measure a trained or imported network on the test part of a variant, without training; returns the metrics.

    The variant gives dataset and protocol; network, precision and sampling of clips are those of the card. Classes are
    matched by name.

    Args:
        folder: folder of a network, such as ``models/poster_v2_demo/fold_1``.
        fold, out: as for :func:`evaluate_checkpoint`.

    Raises:
        UserError: as for :func:`evaluate_checkpoint`, or the folder holds no network.
    """
    model, card = load_trained(folder)
    own, theirs, of_fold = catalog.variants[variant], card["variant"], card.get("fold")
    protocol = own.protocol.model_dump(mode="json")
    if of_fold and theirs.get("dataset") == own.dataset and (of_fold, theirs.get("protocol")) != (fold, protocol):
        split = f"fold {of_fold}" if theirs.get("protocol") == protocol else "another protocol"
        log.warning("%s was trained on %s: test samples of fold %d may be among its own", folder, split, fold)
    name = "/".join(folder.absolute().parts[-2:])  # of the paths of this machine only what names the network
    return _evaluate(
        catalog,
        workspace,
        variant,
        model,
        card,
        fold,
        out,
        named=f"{folder} knows",
        advice="import it again with --force --classes",
        option=f"--model models/{name}",
        files={"folder": name} | network_digests(folder),
    )


def _classes(catalog: Catalog, workspace: Workspace, variant: str) -> list[str]:
    """Return the classes of a variant's dataset, whose faces and split must exist."""
    dataset = catalog.variants[variant].dataset
    for path in (workspace.faces(dataset), workspace.split(variant), workspace.duplicates(variant)):
        if not path.exists():
            raise UserError(f"{path} is missing: run `duchenne add {variant}`, then `dvc repro split@{variant}`")
    return read_index(workspace.index(dataset)).classes


def _evaluate(
    catalog: Catalog,
    workspace: Workspace,
    variant: str,
    model: nn.Module,
    card: dict[str, Any],
    fold: int,
    out: Path,
    *,
    named: str,
    advice: str,
    option: str,
    files: dict[str, str],
) -> dict[str, Any]:
    """Measure a network whose outputs are the classes of its card, in any order.

    Warns when the outputs look like the right classes in a different order: training on a folder tree gives the
    alphabetical order of its folder names, which is not stored in a checkpoint.

    Args:
        named: beginning of the error if the classes of the card are not those of the dataset.
        advice: what to do with the order that the warning suggests.
        option: option of `duchenne evaluate` that names the network.
        files: names and SHA-256 of the network's files.
    """
    dataset = catalog.variants[variant].dataset
    order, classes = card["classes"], _classes(catalog, workspace, variant)
    if sorted(order) != sorted(classes):
        raise UserError(f"{named} {', '.join(order)}; the classes of {dataset} are {', '.join(classes)}")
    reorder(model, order, classes)

    def network(_seed: int, _fold: int, store: FaceStore) -> tuple[nn.Module, dict[str, Any]]:
        if "imported" not in card and card["alignment"] not in ({}, store.meta):
            log.warning("the faces of %s are aligned otherwise than those of training: %s", dataset, card["alignment"])
        return model, card | {"classes": classes, "alignment": store.meta}

    command = f"duchenne evaluate --variant {variant} --fold {fold} {option}"
    seed = catalog.variants[variant].seed
    networks = {(seed, fold): files}
    with alone(workspace.work("locks", f"published {variant}.lock"), f"{out}"):
        metrics = measure_folds(
            catalog, workspace, variant, network, out, seeds=[seed], command=command, networks=networks, only=fold
        )
        frame = read_table(out / "predictions.parquet")
    counts = confusion_matrix(frame["predicted"], frame["label"], labels=range(len(classes)))
    outputs, meant = linear_sum_assignment(counts, maximize=True)
    if counts[outputs, meant].sum() / len(frame) > metrics["war"] + 0.2:
        by_class = dict(zip((classes[i] for i in outputs), (classes[i] for i in meant), strict=True))
        better = ",".join(by_class[name] for name in order)
        log.warning("the outputs seem to be in another order: %s %s", advice, better)
    return metrics
