"""DVC stage: see ``duchenne.pipeline.explain``."""

from duchenne import cli, pipeline

if __name__ == "__main__":
    cli.stage(pipeline.explain)
