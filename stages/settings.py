"""DVC stage: see ``duchenne.pipeline.settings``."""

from duchenne import cli, pipeline

if __name__ == "__main__":
    cli.stage(pipeline.settings)
