"""DVC stage: see ``duchenne.stages.align``."""

from duchenne import cli
from duchenne.stages import align

if __name__ == "__main__":
    cli.stage(align.run)
