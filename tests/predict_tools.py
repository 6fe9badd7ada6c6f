"""One answer of a trained network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from duchenne.prediction.model import Model
from duchenne.prediction.options import Options


def answered(model: Model | Path, source: Any, onset: int | None = None, apex: int | None = None) -> dict[str, Any]:
    """The only row that a trained network (or fold) predicts for a source."""
    model = model if isinstance(model, Model) else Model(model)
    (row,) = model.stream(source, Options(onset=onset, apex=apex), workers=0)
    return row
