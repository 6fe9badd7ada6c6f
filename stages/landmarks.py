"""DVC stage: see ``duchenne.pipeline.landmarks``."""

from duchenne import cli, pipeline

if __name__ == "__main__":
    cli.stage(pipeline.landmarks)
