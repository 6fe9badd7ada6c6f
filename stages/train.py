"""DVC stage: see ``duchenne.stages.train``."""

from duchenne import cli
from duchenne.stages import train

if __name__ == "__main__":
    cli.stage(train.run)
