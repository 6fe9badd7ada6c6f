"""DVC stage: see ``duchenne.stages.explain``."""

from duchenne import cli
from duchenne.stages import explain

if __name__ == "__main__":
    cli.stage(explain.run)
