"""DVC stage: see ``duchenne.pipeline.train``."""

from duchenne import cli, pipeline

if __name__ == "__main__":
    cli.stage(pipeline.train)
