"""DVC stage: see ``duchenne.stages.landmarks``."""

from duchenne import cli
from duchenne.stages import landmarks

if __name__ == "__main__":
    cli.stage(landmarks.run)
