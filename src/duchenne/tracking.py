"""Everything that touches MLflow: a parent run per variant, a child per fold.

Results are files first. What a server did not take, because it was down or because the process was killed, is found
in those files and sent the next time: losing MLflow never loses a training.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from duchenne.catalog import Variant
from duchenne.files import write_json
from duchenne.workspace import Workspace

logger = logging.getLogger(__name__)

EXPERIMENT = "duchenne"

SERVED = {
    "image": {"image": "string"},
    "clip": {"video": "string"},
    "pair": {"video": "string", "onset": "long", "apex": "long"},
}
"""What a network takes -> columns and types of the served model's input; see ``serving.py``."""


def uri(workspace: Workspace) -> str:
    """``MLFLOW_TRACKING_URI``, or a SQLite file in the workspace: MLflow's default moves with the current folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{workspace.root.resolve() / 'mlflow.db'}"


class Tracker:
    """Sends one variant's runs; the run ids and what was sent are kept in ``work/track/<variant>.json``.

    A variant whose configuration changed gets a new parent run: MLflow's parameters cannot be overwritten.

    Args:
        raw: folder of the dataset's raw files, whose hash by DVC becomes a tag.
    """

    def __init__(self, workspace: Workspace, name: str, config: Variant, raw: Path | None = None):
        self.workspace, self.name, self.config, self.raw = workspace, name, config, raw
        self._file = workspace.work("track", f"{name}.json")
        key = hashlib.sha256((uri(workspace) + config.model_dump_json()).encode()).hexdigest()[:16]
        known = json.loads(self._file.read_text()) if self._file.exists() else {}
        self._state = known if known.get("key") == key else {"key": key, "folds": {}}

    def epoch(self, fold: int, row: dict[str, float]) -> None:
        """Send one epoch's numbers while the fold trains."""
        with self._sending() as client:
            if client is not None:
                self._send_history(client, fold, pd.DataFrame([row]))

    def publish(self) -> None:
        """Send all that the files of the variant hold and the server does not: epochs, metrics, figures, the model."""
        with self._sending() as client:
            if client is None:
                return
            parent = self._parent(client)
            folders = sorted(self.workspace.model(self.name).glob("fold_*"), key=lambda p: int(p.name[5:]))
            for folder in folders:
                fold = int(folder.name[5:])
                self._send_history(client, fold, pd.read_csv(folder / "history.csv"))
                client.log_artifact(self._state["folds"][str(fold)]["run"], str(folder / "card.json"))
                client.set_terminated(self._state["folds"][str(fold)]["run"])
            results = self.workspace.results(self.name)
            metrics = json.loads((results / "metrics.json").read_text())
            for key, value in {**metrics, **self._against_paper(metrics)}.items():
                if isinstance(value, int | float):
                    client.log_metric(parent, key, value)
            for folder, place in ((results, "results"), (self.workspace.reports / self.name, "figures")):
                if folder.exists():
                    client.log_artifacts(parent, str(folder), place)
            client.log_artifact(parent, str(self.workspace.reports / "index.html"), "report")
            self._log_dataset(parent)
            self._log_model(parent, folders[0])
            client.set_terminated(parent)

    @contextmanager
    def _sending(self) -> Iterator[Any]:
        """An MLflow client, or None when there is no reaching it; ids are written down whatever happens."""
        # An unreachable server must cost seconds, not the default minutes of retries.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
        logging.getLogger("alembic").setLevel(logging.WARNING)
        given = os.environ.get("MLFLOW_TRACKING_URI")
        try:
            import mlflow

            mlflow.set_tracking_uri(uri(self.workspace))
            yield mlflow.MlflowClient()
        except Exception as error:  # whatever a tracking server does, the training goes on
            logger.warning("MLflow did not take the results of %s; they are sent next time: %s", self.name, error)
        finally:
            # MLflow leaves its address in the environment, where another workspace would take it for the user's
            os.environ.pop("MLFLOW_TRACKING_URI", None)
            if given is not None:
                os.environ["MLFLOW_TRACKING_URI"] = given
            write_json(self._file, self._state)

    def _parent(self, client: Any) -> str:
        if "run" not in self._state:
            found = client.get_experiment_by_name(EXPERIMENT)
            if found is None:
                local = uri(self.workspace).startswith("sqlite:")
                place = (self.workspace.root.resolve() / "mlartifacts").as_uri() if local else None
                kind = {"mlflow.experimentKind": "custom_model_development"}  # the UI opens on runs, not on prompts
                experiment = client.create_experiment(EXPERIMENT, artifact_location=place, tags=kind)
            else:
                experiment = found.experiment_id
            run = client.create_run(experiment, run_name=self.name, tags=self._tags())
            self._state |= {"run": run.info.run_id, "experiment": experiment}
            for key, value in _flat(self.config.model_dump(mode="json")):
                client.log_param(run.info.run_id, key, str(value)[:6000])
        return self._state["run"]

    def _send_history(self, client: Any, fold: int, history: pd.DataFrame) -> None:
        from mlflow.entities import Metric

        parent = self._parent(client)
        sent = self._state["folds"].get(str(fold))
        if sent is None:
            tags = {"mlflow.parentRunId": parent, "fold": str(fold), "variant": self.name}
            run = client.create_run(self._state["experiment"], run_name=f"{self.name} fold {fold}", tags=tags)
            sent = self._state["folds"][str(fold)] = {"run": run.info.run_id, "epochs": 0}
        fresh = history[history.epoch > sent["epochs"]]
        if fresh.empty:
            return
        values = fresh.drop(columns="epoch").select_dtypes("number")
        metrics = [
            Metric(name, float(value), 0, int(epoch))
            for name, column in values.items()
            for epoch, value in zip(fresh.epoch, column, strict=True)
            if pd.notna(value)
        ]
        client.log_batch(sent["run"], metrics=metrics)
        sent["epochs"] = int(fresh.epoch.max())

    def _tags(self) -> dict[str, str]:
        from duchenne.reporting.basis import basis_of
        from duchenne.reporting.papers import printed_for, sources
        from duchenne.reporting.provenance import code_revision, data_revisions

        found = printed_for(self.name, self.config)
        commit, changed = code_revision(self.workspace.root)
        data = data_revisions(self.workspace.root, {self.config.dataset: self.raw}) if self.raw else {}
        return {
            "variant": self.name,
            "dataset": self.config.dataset,
            "protocol": self.config.protocol.kind,
            "network": self.config.model.architecture,
            "basis": basis_of(self.config.model),
            "selection": self.config.selection,
            "code": f"{commit}, changed" if changed else commit,
            "data": data.get(self.config.dataset, ""),
            "split": hashlib.sha256(self.workspace.split(self.name).read_bytes()).hexdigest()[:16],
            "mlflow.note.content": self.config.note,
            **({"paper": sources(found)} if found else {}),
        }

    def _against_paper(self, metrics: dict[str, Any]) -> dict[str, float]:
        """The printed values (as shares, like ours) and how far ours are from them."""
        from duchenne.reporting.papers import printed_for

        found = printed_for(self.name, self.config)
        rows = {name: (cell.value, metrics[name]) for name, cell in found.items() if name in metrics}
        return {f"paper_{name}": paper for name, (paper, _) in rows.items()} | {
            f"difference_{name}": ours - paper for name, (paper, ours) in rows.items()
        }

    def _log_dataset(self, parent: str) -> None:
        """Log the index of the dataset as the run's input, once."""
        import mlflow
        from mlflow.data.sources import LocalArtifactDatasetSource

        path = self.workspace.index(self.config.dataset)
        if self._state.get("dataset") or not path.exists():
            return
        rows = pd.read_parquet(path, columns=["sample", "emotion", "subject"])
        source = LocalArtifactDatasetSource(path.as_posix())
        data = mlflow.data.from_pandas(rows, source=source, targets="emotion", name=self.config.dataset)
        with mlflow.start_run(run_id=parent):
            mlflow.log_input(data, context="training and test")
        self._state["dataset"] = True

    def _log_model(self, parent: str, folder: Path) -> None:
        """Log the first fold's network (the folds of a cross-validation are alike) once per set of weights."""
        import mlflow
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema

        digest = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
        if self._state.get("model") == digest:
            return
        card = json.loads((folder / "card.json").read_text())
        wanted = [ColSpec(kind, name) for name, kind in SERVED[card["takes"]].items()]
        answer = [ColSpec("string", "emotion"), ColSpec("string", "note")]
        answer += [ColSpec("double", name) for name in card["classes"]]
        with mlflow.start_run(run_id=parent):
            mlflow.pyfunc.log_model(
                name="model",
                python_model=str(Path(__file__).with_name("serving.py")),
                artifacts={"fold": str(folder)},
                code_paths=[str(Path(__file__).parent)],
                signature=ModelSignature(Schema(wanted), Schema(answer)),
                pip_requirements=importlib.metadata.requires("duchenne"),
            )
        self._state["model"] = digest


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
