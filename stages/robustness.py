"""DVC stage: see ``duchenne.stages.robustness``."""

from duchenne import cli
from duchenne.stages import robustness

if __name__ == "__main__":
    cli.stage(robustness.run)
