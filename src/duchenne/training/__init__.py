"""Training of one network on one fold, and what is done with the result: loading it and predicting."""

from duchenne.training.device import folds_at_once
from duchenne.training.errors import TrainingError
from duchenne.training.loop import train_fold
from duchenne.training.trained import create, load_trained, make_card, predict

__all__ = ["TrainingError", "create", "folds_at_once", "load_trained", "make_card", "predict", "train_fold"]
