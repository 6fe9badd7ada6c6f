"""The landmark network: MobileFaceNet taught 68 points on rendered faces, so that it is free of anyone's licence."""
