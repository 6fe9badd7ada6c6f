"""The landmark network: MobileFaceNet taught 68 points on rendered faces, so that it is free of anyone's licence."""

from duchenne.landmark_net.train import WEIGHTS, train_landmark_net

__all__ = ["WEIGHTS", "train_landmark_net"]
