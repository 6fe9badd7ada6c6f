"""DVC stage: see ``duchenne.stages.split``."""

from duchenne import cli
from duchenne.stages import split

if __name__ == "__main__":
    cli.stage(split.run)
