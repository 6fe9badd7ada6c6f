"""DVC stage: see ``duchenne.stages.settings``."""

from duchenne import cli
from duchenne.stages import settings

if __name__ == "__main__":
    cli.stage(settings.run)
