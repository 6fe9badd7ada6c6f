"""DVC stage: see ``duchenne.pipeline.report``."""

from duchenne import cli, pipeline

if __name__ == "__main__":
    cli.stage(pipeline.report)
