"""A trained network as MLflow serves it ("models from code"): pictures in, expressions out.

Input: a column ``image`` of base64-encoded image files. Output: one row an image with ``emotion`` (empty when no face
was found) and one probability a class.
"""

import base64
import io
from pathlib import Path

import mlflow
import pandas as pd

from duchenne.predict import Predictor


class Expressions(mlflow.pyfunc.PythonModel):
    def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
        self.predictor = Predictor(Path(context.artifacts["fold"]))

    def predict(self, context, model_input, params=None) -> pd.DataFrame:
        rows = [self.predictor(io.BytesIO(base64.b64decode(text))) for text in model_input["image"]]
        return pd.DataFrame([{"emotion": row["emotion"] or "", **row["probabilities"]} for row in rows])


mlflow.models.set_model(Expressions())
