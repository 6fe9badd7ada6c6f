"""DVC stage: see ``duchenne.stages.complexity``."""

from duchenne import cli
from duchenne.stages import complexity

if __name__ == "__main__":
    cli.stage(complexity.run)
