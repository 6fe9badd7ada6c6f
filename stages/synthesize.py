"""DVC stage: see ``duchenne.stages.synthesize``."""

from duchenne import cli
from duchenne.stages import synthesize

if __name__ == "__main__":
    cli.stage(synthesize.run)
