"""MLflow model of a trained network ("models from code"): requests and answers of ``duchenne.prediction.requests``."""

from pathlib import Path

import mlflow
import pandas as pd


class Expressions(mlflow.pyfunc.PythonModel):
    def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
        from duchenne.prediction.model import Model  # imports the networks, which logging a model does not need
        from duchenne.prediction.requests import Requests

        self.answer = Requests(Model(Path(context.artifacts["fold"])))

    def predict(self, context, model_input: pd.DataFrame, params: dict | None = None) -> pd.DataFrame:
        return self.answer(model_input)


mlflow.models.set_model(Expressions())
