"""DVC stage: see ``duchenne.stages.evaluate``."""

from duchenne import cli
from duchenne.stages import evaluate

if __name__ == "__main__":
    cli.stage(evaluate.run)
