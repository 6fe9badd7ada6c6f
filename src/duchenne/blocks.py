"""Strict base class and field types for the blocks of ``params.yaml``.

Each block is defined beside the code that uses it; :mod:`duchenne.config` combines them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from duchenne.files import expanded


class Strict(BaseModel):
    """A block of ``params.yaml``: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, field: ValidationInfo) -> Any:
        given = value if isinstance(value, list | tuple) else [value]
        found = next((str(each).lower() for each in given if isinstance(each, bool)), "")
        if found and not _takes_truth(cls.model_fields[str(field.field_name)].annotation):
            raise ValueError(f"{found} is a truth value: give another one, or put the word in quotes")
        return value


def _takes_truth(kind: Any) -> bool:
    return kind in (bool, Any) or any(map(_takes_truth, get_args(kind)))


Share = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"the range {list(value)} is empty: give [lowest, highest]")
    return value


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
"""Lowest and highest value."""

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""A seed of random numbers; NumPy's global generator takes 32 bits."""


LONGEST = 100
"""Largest number of characters of a name (chosen by us): it is part of file names, which have at most 255 bytes."""


def _name(value: Any) -> Any:
    """Refuse a name that DVC cannot address, because it reads a dot as a step into a block."""
    if not isinstance(value, str):
        raise ValueError(f"YAML reads this name as {type(value).__name__} {value!r}: put it in quotes")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", value):
        fitting = re.sub(r"[^A-Za-z0-9_-]+", "_", value).strip("_-")
        hint = f": call it {fitting!r}" if fitting else ""
        raise ValueError(f"{value!r} is not a valid name (letters, digits, _ and -, the first not a sign){hint}")
    if len(value) > LONGEST:
        raise ValueError(f"{value[:20]}... has {len(value):,} characters: a name has at most {LONGEST}")
    return value


Name = Annotated[str, BeforeValidator(_name)]
"""Name of a dataset, variant or network, which DVC uses in keys, stages and paths."""


Place = Annotated[Path, AfterValidator(expanded)]
"""A file or folder; ``~`` is the user's home."""


def _word(value: Any) -> Any:
    """Convert a label to text: ``0`` is a number in YAML, but the label 0 of a file here."""
    if isinstance(value, bool):
        raise ValueError(f"YAML reads this label as {str(value).lower()}: put it in quotes")
    return str(value) if isinstance(value, int) else value


Word = Annotated[str, BeforeValidator(_word)]
"""Value of a cell in an annotation file, in ``params.yaml``; numbers need no quotes."""
