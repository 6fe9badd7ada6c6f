"""DVC stage: see ``duchenne.pipeline.synthesize``."""

from duchenne import cli, pipeline

if __name__ == "__main__":
    cli.stage(pipeline.synthesize)
