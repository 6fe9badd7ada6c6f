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
        from duchenne.prediction.model import Model  # imports the networks, which logging a model does not need

        self.model = Model(Path(context.artifacts["fold"]))

    def predict(self, context, model_input: pd.DataFrame, params: dict | None = None) -> pd.DataFrame:
        rows = [self._answer(row) for row in model_input.to_dict("records")]
        unknown = dict.fromkeys(self.model.classes, float("nan"))
        return pd.DataFrame(
            [{key: row[key] or "" for key in ("emotion", "note")} | (row["probabilities"] or unknown) for row in rows]
        )

    def _answer(self, row: dict) -> dict:
        from duchenne.prediction.options import Options

        if self.model.takes == "image":
            return self._only(io.BytesIO(base64.b64decode(row["image"])), Options())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip"
            path.write_bytes(base64.b64decode(row["video"]))
            return self._only(path, Options(onset=row.get("onset"), apex=row.get("apex")))

    def _only(self, source, options) -> dict:
        (answer,) = self.model.stream(source, options, workers=0)
        return answer


mlflow.models.set_model(Expressions())
