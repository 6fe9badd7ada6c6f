"""MLflow model of a trained network ("models from code"), which predicts expressions of pictures or clips.

Input: a column ``image`` of base64-encoded image files; for networks that take clips ``video``, base64-encoded video
files, and for those that take pairs also ``onset`` and ``apex``, frames counted from 0. Output: one row per input with
``emotion`` (empty without a face), ``note`` (warning to read before using the prediction; often empty) and one
probability per class. An input that cannot be read raises an error.
"""

import base64
import io
import tempfile
from pathlib import Path

import mlflow
import pandas as pd


class Expressions(mlflow.pyfunc.PythonModel):
    def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
        from duchenne.predict import Predictor  # imports the networks, which logging a model does not need

        self.predictor = Predictor(Path(context.artifacts["fold"]))

    def predict(self, context, model_input: pd.DataFrame, params: dict | None = None) -> pd.DataFrame:
        rows = [self._answer(row) for row in model_input.to_dict("records")]
        return pd.DataFrame(
            [{key: row[key] or "" for key in ("emotion", "note")} | row["probabilities"] for row in rows]
        )

    def _answer(self, row: dict) -> dict:
        if self.predictor.takes == "image":
            return self.predictor(io.BytesIO(base64.b64decode(row["image"])))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip"
            path.write_bytes(base64.b64decode(row["video"]))
            return self.predictor(path, row.get("onset"), row.get("apex"))


mlflow.models.set_model(Expressions())
