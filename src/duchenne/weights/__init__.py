"""Weights that come with this package: CC0, trained on rendered faces alone. The card beside each says how."""

from pathlib import Path

_HERE = Path(__file__).parent

PACKAGED = {
    "mobilefacenet": _HERE / "mobilefacenet68.safetensors",
    "ifdd_2dcnn": _HERE / "ifdd_2dcnn.safetensors",
    "dgm": _HERE / "dgm.safetensors",
}
"""Part of a network -> its file."""
