"""DVC stage: see ``duchenne.stages.landmark_net``."""

from duchenne import cli
from duchenne.stages import landmark_net

if __name__ == "__main__":
    cli.stage(landmark_net.run)
