"""DVC stage: see ``duchenne.pipeline.landmark_net``."""

from duchenne import cli, pipeline

if __name__ == "__main__":
    cli.stage(pipeline.landmark_net)
