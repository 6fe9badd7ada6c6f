"""A prediction whose rows go to a file, and which resumes after an interruption.

Rows are written to parts in the folder ``FILE.parts``, each with the point at which the next one starts; when all are
there, they are joined to the file and the folder is removed. A part is 64 pictures, a clip, or 1000 frames of a video.
Batches of the network end with a part, so an interrupted job gives the same rows as one that was not interrupted.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from duchenne.errors import UserError
from duchenne.files import replacing
from duchenne.prediction.model import Failed, Mark
from duchenne.prediction.reading import Row
from duchenne.prediction.sources import Source
from duchenne.prediction.tables import check_suffix, nested, table_of, writer
from duchenne.sealed import check_table, read_sealed, write_sealed, write_table
from duchenne.shortage import stop_if_short

FACTS = "job.json"

AGAIN = "--force starts the job again"


class Job:
    """File of rows, with the finished parts of an interrupted job.

    Args:
        out: file of the rows.
        facts: everything that the rows depend on; an interrupted job with other facts is refused.
        features: number of features of a row; 0: without.
        again: remove the parts of an earlier job; its file is replaced at the end.

    Raises:
        UserError: The file exists, or cannot be written (:func:`check_suffix`); its parts belong to another command.
    """

    def __init__(
        self, out: Path, facts: dict[str, Any], classes: list[str], features: int = 0, again: bool = False
    ) -> None:
        check_suffix(out)
        self.out, self._classes, self._features = out, classes, features
        self._folder = out.with_name(f"{out.name}.parts")
        self._check_folder()
        if again:
            shutil.rmtree(self._folder, ignore_errors=True)
        elif (self._folder / FACTS).exists() or self._parts:  # otherwise it could not even begin: the disk was full
            self._check(facts)
        elif out.exists():
            raise UserError(f"{out} exists already: give another file, or --force to replace it")
        if not (self._folder / FACTS).exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            write_sealed(self._folder / FACTS, facts)
        for part in self._folder.glob(".*.part"):  # left by a killed run
            part.unlink()

    def _check_folder(self) -> None:
        """Check that the folder holds nothing that is not of a job, because it is removed."""
        if not self._folder.is_dir():
            strange = os.path.lexists(self._folder)
        else:
            strange = self._folder.is_symlink() or any(
                path.name != FACTS and path.suffix != ".parquet" and not path.name.startswith(".")
                for path in self._folder.iterdir()
            )
        if strange:
            raise UserError(f"{self._folder}, where parts of the rows would go, is not of a prediction: move it away")

    def _check(self, facts: dict[str, Any]) -> None:
        try:
            known = read_sealed(self._folder / FACTS, AGAIN)
        except OSError as error:
            stop_if_short(error)
            known = {}
        facts = json.loads(json.dumps(facts))
        if changed := [name for name in facts.keys() | known.keys() if facts.get(name) != known.get(name)]:
            what = ", ".join(sorted(changed))
            raise UserError(
                f"{self._folder} holds a part of another command's rows (different: {what}): run that command again to "
                "complete it, give another file, or --force to start again"
            )

    @property
    def _parts(self) -> list[Path]:
        return sorted(self._folder.glob("*.parquet"))

    @property
    def start(self) -> Mark:
        """Return where the first part that is not there starts."""
        parts = self._parts
        return Mark(*_notes(parts[-1])["next"]) if parts else Mark(0, None)

    @property
    def failed(self) -> list[tuple[str, str]]:
        """Return name and error of the sources that the finished parts could not read."""
        return [(name, error) for part in self._parts for name, error in _notes(part)["failed"]]

    @property
    def rows(self) -> Iterator[Row]:
        """Yield the rows of the finished parts."""
        for part in self._parts:
            yield from (
                nested(columns, self._classes) for columns in pq.read_table(check_table(part, AGAIN)).to_pylist()
            )

    def keep(self, answers: Iterable[Row | Failed | Mark]) -> Iterator[Row | Failed]:
        """Write the answers into parts, and pass rows and failures on."""
        number, rows, failed = len(self._parts), list[Row](), list[tuple[str, str]]()
        for answer in answers:
            if isinstance(answer, Mark):
                notes = json.dumps({"next": answer, "failed": failed})
                table = table_of(rows, self._classes, bool(self._features))
                table = table.replace_schema_metadata({"duchenne": notes})
                write_table(self._folder / f"{number:06d}.parquet", table)
                number, rows, failed = number + 1, [], []
                continue
            if isinstance(answer, Failed):
                failed.append((answer.source.name, str(answer.error)))
            else:
                rows.append(answer)
            yield answer

    def finish(self) -> None:
        """Join the parts to the file, and remove them."""
        with replacing(self.out) as part:
            file = writer(part, self.out.suffix, self._classes, self._features)
            for row in self.rows:
                file.write([row])
            file.close()
        shutil.rmtree(self._folder)


def _notes(part: Path) -> dict[str, Any]:
    return json.loads(pq.read_schema(check_table(part, AGAIN)).metadata[b"duchenne"])


def state_of(source: Source) -> list[Any]:
    """Return what tells whether a source changed: its name, and size and time of its file."""
    if not isinstance(source.data, Path):
        return [source.name]
    try:
        found = source.data.stat()
    except OSError:
        return [source.name]
    return [source.name, found.st_size if source.kind != "frames" else None, found.st_mtime_ns]
