"""DVC stage: see ``duchenne.pipeline.split``."""

from duchenne import cli, pipeline

if __name__ == "__main__":
    cli.stage(pipeline.split)
