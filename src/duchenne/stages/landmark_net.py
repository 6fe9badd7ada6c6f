"""Landmark_net stage: from rendered faces to ``models/<name>``."""

from __future__ import annotations

from duchenne.config import Catalog
from duchenne.workspace import Workspace


def run(catalog: Catalog, workspace: Workspace, name: str) -> None:
    """Train the landmark network on rendered faces."""
    from duchenne.landmark_net.train import WEIGHTS, train_landmark_net

    config = catalog.landmark_nets[name]
    root, work = workspace.raw(config.dataset), workspace.work("landmark_net", name)
    start = None if config.init_from == "scratch" else workspace.model(config.init_from) / WEIGHTS
    train_landmark_net(config, root, workspace.model(name), work, catalog.compute, start)
