"""Prediction with a trained network: sources in, faces found and followed, rows of results out."""
