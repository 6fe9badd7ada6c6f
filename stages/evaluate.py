"""DVC stage: see ``duchenne.pipeline.evaluate``."""

from duchenne import cli, pipeline

if __name__ == "__main__":
    cli.stage(pipeline.evaluate)
