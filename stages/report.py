"""DVC stage: see ``duchenne.stages.report``."""

from duchenne import cli
from duchenne.stages import report

if __name__ == "__main__":
    cli.stage(report.run)
