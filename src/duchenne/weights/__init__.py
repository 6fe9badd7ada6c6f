"""Weights that come with this package: CC0, trained on rendered faces alone. The card beside each says how."""

from pathlib import Path

PACKAGED = {"mobilefacenet": Path(__file__).with_name("mobilefacenet68.safetensors")}
"""Part of a network -> its file."""
