"""DVC stage: see ``duchenne.pipeline.align``."""

from duchenne import cli, pipeline

if __name__ == "__main__":
    cli.stage(pipeline.align)
