"""Weights that come with this package: CC0, trained on rendered faces alone. The card beside each says how."""

import json
from pathlib import Path

from duchenne.errors import UserError
from duchenne.files import file_digest

_HERE = Path(__file__).parent

PACKAGED = {
    "mobilefacenet": _HERE / "mobilefacenet68.safetensors",
    "ifdd_2dcnn": _HERE / "ifdd_2dcnn.safetensors",
    "dgm": _HERE / "dgm.safetensors",
}
"""Part of a network -> its file."""

AGAIN = "pip install --force-reinstall --no-deps duchenne, or: git checkout src"
"""What to do about damaged weights of the package."""


def require_packaged(path: Path) -> Path:
    """Return the path of weights of the package whose digest is that of the card beside them.

    Raises:
        UserError: It is not, or there is no card.
    """
    try:
        sound = json.loads(path.with_suffix(".json").read_text("utf-8"))["sha256"] == file_digest(path)
    except (OSError, ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise UserError(f"{path}: these weights of the package, or the card beside them, are damaged: {AGAIN}")
    return path
