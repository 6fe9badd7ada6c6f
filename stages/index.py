"""DVC stage: see ``duchenne.stages.index``."""

from duchenne import cli
from duchenne.stages import index

if __name__ == "__main__":
    cli.stage(index.run)
