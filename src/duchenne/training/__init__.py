"""Training of one network on one fold, and what is done with the result: loading it and predicting."""

from duchenne.training.errors import TrainingError
from duchenne.training.loop import train_fold
from duchenne.training.trained import load_trained, predict

__all__ = ["TrainingError", "load_trained", "predict", "train_fold"]
