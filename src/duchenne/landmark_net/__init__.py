"""The landmark network: MobileFaceNet with 68 points, trained on rendered faces only, so its weights are CC0."""
