"""Answers to tables of requests, as a server receives them: files in base64, or paths below one folder.

A row of a request has the columns of :data:`COLUMNS` for what the network takes:

- ``image``, or ``video`` for networks that take clips or pairs: a file, in base64;
- ``path`` instead of ``video``: a video or a folder of frames, relative to the folder that the server allows;
- ``onset`` and ``apex``: frame numbers, as in the file names of a folder, or counted from 0 in a video;
- ``faces``: ``largest`` (default) or ``all``.

An answer has a row per face: ``input``, the number of its request from 0; ``emotion``, empty without a face; ``note``,
a warning to read before using the prediction, often empty; the face's box ``x0``, ``y0``, ``x1``, ``y1`` in px; and the
probability of each class. Values that do not exist are NaN.
"""

from __future__ import annotations

import base64
import binascii
import io
import tempfile
import threading
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pandas as pd

from duchenne.datasets.settings import ANSWERED
from duchenne.errors import UserError, nearest, short
from duchenne.prediction.model import Failed, Mark, Model
from duchenne.prediction.options import Options
from duchenne.prediction.reading import Row
from duchenne.prediction.sources import Source
from duchenne.prediction.tables import BOX

COLUMNS = {
    "image": ("image", "faces"),
    "clip": ("video", "path", "faces"),
    "pair": ("video", "path", "onset", "apex"),
}
"""Kind of a network's input -> columns that a request may have."""
ROWS = 10_000
"""Largest number of rows of a table (chosen by us)."""


class Requests:
    """Predicts for tables of requests.

    Args:
        clips: folder whose files a request may name by ``path``; None: no request may.
    """

    def __init__(self, model: Model, clips: Path | None = None) -> None:
        self.model, self._clips = model, clips.resolve() if clips else None
        if taken := set(model.classes) & set(ANSWERED):
            raise UserError(
                f"{model.folder} has a class {min(taken)!r}, the name of another column of answers: it cannot be served"
            )

    def __call__(self, requests: pd.DataFrame, stop: threading.Event | None = None) -> pd.DataFrame:
        """Answer requests, in their order.

        Args:
            stop: ends the work: nobody waits for the answers any more.

        Raises:
            UserError: A request is not valid, or its file cannot be read. The message names its row, and no path of
                this machine.
        """
        known = COLUMNS[self.model.takes]
        if len(requests) > ROWS:
            raise UserError(f"the table has {len(requests):,} rows, over the limit of {ROWS:,}: send several tables")
        if not requests.columns.is_unique:
            raise UserError("the table has a column twice")
        for column in requests.columns:
            if column not in known:
                hint = nearest(str(column), known) or f" (it has {', '.join(known)})"
                raise UserError(f"requests to this network have no column {short(str(column), 100)!r}{hint}")
        with tempfile.TemporaryDirectory() as folder:
            rows = [{name: value for name, value in row.items() if not _missing(value)}
                    for row in requests.to_dict("records")]  # fmt: skip
            asked = [
                (self._options(row, f"row {number}"), self._source(row, f"row {number}", Path(folder) / str(number)))
                for number, row in enumerate(rows)
            ]
            answers = [self._answer(row) for row in self._rows(asked, stop or threading.Event())]
        return pd.DataFrame(answers, columns=[*ANSWERED, *self.model.classes])

    def _rows(self, asked: list[tuple[Options, Source]], stop: threading.Event) -> Iterator[Row]:
        for options, group in groupby(asked, itemgetter(0)):
            sources = [source for _, source in group]
            for answer in self.model.answers(sources, options, workers=0, stop=stop):
                if isinstance(answer, Failed):
                    raise answer.error
                if not isinstance(answer, Mark):
                    yield answer

    def _answer(self, row: Row) -> dict[str, Any]:
        number = int(row["source"].removeprefix("row "))
        box = dict(zip(BOX, row["box"] or [float("nan")] * len(BOX), strict=True))
        shares = row["probabilities"] or dict.fromkeys(self.model.classes, float("nan"))
        return {
            "input": number,
            "emotion": row["emotion"] or "",
            "note": row["note"] or "",
            **box,
            **shares,
        }

    def _options(self, row: dict[str, Any], name: str) -> Options:
        try:
            onset, apex = (int(row[key]) if key in row else None for key in ("onset", "apex"))
            options = Options(faces=row.get("faces", "largest"), onset=onset, apex=apex)
            options.check(self.model.takes, self.model.faces.mode == "aligned")
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        except (TypeError, ValueError):
            raise UserError(f"{name}: onset and apex must be frame numbers") from None
        return options

    def _source(self, row: dict[str, Any], name: str, file: Path) -> Source:
        columns = [column for column in ("image", "video", "path") if column in row]
        if len(columns) != 1:
            wanted = " or ".join(column for column in COLUMNS[self.model.takes] if column in ("image", "video", "path"))
            raise UserError(f"{name}: give {wanted}")
        given = row[columns[0]]
        if columns == ["path"]:
            path = self._allowed(given, name)
            return Source(name, "frames" if path.is_dir() else "video", path)
        try:
            content = base64.b64decode("".join(given.split()), validate=True)
        except (AttributeError, binascii.Error, ValueError):
            raise UserError(f"{name}: {columns[0]} is not base64") from None
        if columns == ["image"]:
            return Source(name, "image", io.BytesIO(content))
        file.write_bytes(content)
        return Source(name, "video", file)

    def _allowed(self, given: Any, name: str) -> Path:
        """Return the file that a request names, which must be below the allowed folder, links followed."""
        if self._clips is None:
            raise UserError(f"{name}: this server takes no paths: send the file as video, in base64")
        try:
            path = (self._clips / given).resolve()
            there = path != self._clips and path.is_relative_to(self._clips) and path.exists()
        except (OSError, RuntimeError, TypeError, ValueError):  # no text, none that can be a path, or a circular link
            there = False
        if not there:
            raise UserError(f"{name}: path {given!r} is not in the folder of clips of this server")
        return path


def _missing(value: Any) -> bool:
    return bool(value is None or value is pd.NA or (isinstance(value, float) and value != value))
