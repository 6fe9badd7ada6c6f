"""DVC stage: see ``duchenne.pipeline.index``."""

from duchenne import cli, pipeline

if __name__ == "__main__":
    cli.stage(pipeline.index)
