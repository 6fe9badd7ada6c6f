"""DVC stage: see ``duchenne.pipeline.complexity``."""

from duchenne import cli, pipeline

if __name__ == "__main__":
    cli.stage(pipeline.complexity)
