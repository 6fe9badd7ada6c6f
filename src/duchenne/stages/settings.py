"""Settings stage: writes the values of ``params.yaml`` with their defaults, for DVC to depend on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

from duchenne.config import Catalog
from duchenne.errors import UserError
from duchenne.files import file_digest, write_json
from duchenne.networks import facts_of, networks
from duchenne.sources import network_digest
from duchenne.training.settings import Model
from duchenne.workspace import Workspace

TRAINS = {"model", "recipe", "selection", "monitor", "seed", "seeds", "init_from", "calibration", "precision"}
TRAINS |= {"test_each_epoch"}
"""Fields of a variant that the train stage reads."""


def run(catalog: Catalog, workspace: Workspace) -> None:
    """Write each block's values, including defaults, to a file, for stages to depend on.

    DVC compares contents: after an edit of params.yaml or of a default, only the stages whose values changed are stale.
    ``networks/<variant>.json`` holds the facts of the variant's network and a digest of its sources, so that an edit of
    one network does not change the others' results. Names of networks and of their options are checked here, so that a
    misspelling is found before hours of face processing.

    Raises:
        UserError: There is no network of this name, or it cannot be built with its options.
    """
    for name, variant in catalog.variants.items():
        _check(name, variant.model, len(catalog.datasets[variant.dataset].classes))
    shutil.rmtree(workspace.settings, ignore_errors=True)
    for name, block in _blocks(catalog):
        write_json(workspace.settings / f"{name}.json", block)


def _check(name: str, model: Model, classes: int) -> None:
    """Raise a UserError for a network that does not exist or does not take its options.

    :class:`duchenne.training.settings.Model` has checked options that the network's source lists; otherwise the network
    is built here.
    """
    known = networks().get(model.architecture)
    if known and (known.options is not None or not model.options):
        return
    from duchenne.models.contract import create, require

    require(model.architecture)
    if model.options:
        try:
            create(model.architecture, model.options, classes)
        except UserError as error:
            raise UserError(f"variants.{name}.model.options: {error}") from error


def _blocks(catalog: Catalog) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield file and contents for the stages to read."""
    for name, synth in catalog.rendered.items():
        yield f"rendered/{name}", synth.model_dump(mode="json")
    for name, net in catalog.landmark_nets.items():
        yield f"landmark_nets/{name}", net.model_dump(mode="json")
    for name, dataset in catalog.datasets.items():
        yield f"datasets/{name}", dataset.model_dump(mode="json", exclude={"faces"})
        yield f"faces/{name}", dataset.faces.model_dump(mode="json")
    for name, variant in catalog.variants.items():
        yield f"protocols/{name}", variant.protocol.model_dump(mode="json")
        packaged = {part: file_digest(path) for part, path in variant.model.packaged.items()}
        yield f"training/{name}", variant.model_dump(mode="json", include=TRAINS) | {"packaged": packaged}
        yield f"printed/{name}", variant.model_dump(mode="json", include={"reproduces"})
        network = variant.model.model_dump(mode="json", include={"architecture", "options"})
        network["classes"] = len(catalog.datasets[variant.dataset].classes)
        network["sources"] = network_digest(variant.model.architecture)
        yield f"networks/{name}", network | {"facts": str(facts_of(variant.model.architecture))}
    report = catalog.report.model_dump(mode="json")
    yield "report", report | {"networks": {name: str(network.facts) for name, network in networks().items()}}
    yield "evaluate", {"bootstrap": report["bootstrap"]}
    yield "robustness", {"robustness": report["robustness"], "bootstrap": report["bootstrap"]}
    yield "explain", {"show_faces": report["show_faces"]}
