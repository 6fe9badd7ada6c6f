"""Files that know their digest and their own name, so that damage and a swap are found when they are read.

Parquet and Arrow files, JSON and the weights of a network are read without any sign of a flipped bit by the libraries
that read them; mapped into memory, some of it can end the interpreter. So what a stage hands to others is sealed: the
digest is inside the file, where it travels with the file through DVC and copies, or in a record beside it, which is
sealed itself. The digest is compared before anything else of the file is used. Files of versions before there were
seals are read without the comparison, and what DVC says of them stays the only check.

A seal finds accidents. It is no signature: whoever writes a file can write its seal.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duchenne.errors import UserError
from duchenne.files import as_json, file_digest, read_json, replacing, write_json
from duchenne.shortage import explain

if TYPE_CHECKING:  # slow to import
    import pandas as pd
    import pyarrow as pa

AGAIN = "delete it, then `dvc checkout`, `dvc pull` or `dvc repro` brings it back"
"""What to do about a damaged file that a stage made."""

KEY = "seal"
"""Entry of a JSON object, and of a Parquet file's metadata."""

FILES = "files"
"""Entry of a sealed record: file beside it -> SHA-256."""

_BLANK = "0" * 64
_MAGIC = b"PAR1"
_SEAL = re.compile(rb'\{"of": ("(?:[^"\\]|\\.)*"), "sha256": "([0-9a-f]{64})"\}')
_MARKS = (b'{"of": "', b'", "sha256": "')


class DamagedError(UserError):
    """Raised when a file is not what was written, or is another file under this name."""


def damaged(path: Path, again: str = AGAIN, why: object = "") -> DamagedError:
    """Return the error for a damaged file."""
    reason = f" ({' '.join(str(why).split())[:200]})" if str(why) else ""
    return DamagedError(f"{path} is damaged: its contents are not those that were written{reason}; {again}")


def swapped(path: Path, of: str, wanted: str, again: str = AGAIN) -> DamagedError:
    """Return the error for a file that was written as another one."""
    return DamagedError(f"{path} is not its own file: it was written as {of}, not {wanted}; {again}")


def note(of: str) -> dict[str, str]:
    """Return the metadata that a Parquet file must have before :func:`seal_table` seals it."""
    return {KEY: json.dumps({"of": of, "sha256": _BLANK})}


def seal_table(path: Path) -> None:
    """Write the digest into a Parquet file with the metadata of :func:`note`.

    It is the SHA-256 of the file with zeros in its place.
    """
    place, footer = _footer(path)
    found = _last(footer)
    if found is None:
        raise ValueError(f"{path} has no note")
    digest = file_digest(path)
    with path.open("r+b") as file:
        file.seek(place + found.start(2))
        file.write(digest.encode())


def write_table(path: Path, table: pd.DataFrame | pa.Table) -> None:
    """Write a table as sealed Parquet, completely or not at all, without the index of a data frame."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not isinstance(table, pa.Table):
        table = pa.Table.from_pandas(table, preserve_index=False)
    with replacing(path) as part:
        with pq.ParquetWriter(part, table.schema) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata(note(path.name))
        seal_table(part)


def check_table(path: Path, again: str = AGAIN) -> Path:
    """Return a Parquet file whose digest and name are those of its seal, or that has none.

    Raises:
        DamagedError: They are not, or it is not a whole Parquet file.
        OSError: It cannot be read.
    """
    try:
        place, footer = _footer(path)
    except ValueError as error:
        raise damaged(path, again, error) from None
    found = _last(footer)
    if found is None:
        if any(mark in footer for mark in _MARKS):
            raise damaged(path, again)  # a seal that is damaged itself
        return path
    if _digest_without(path, place + found.start(2)) != found[2].decode():
        raise damaged(path, again)
    if (of := json.loads(found[1])) != path.name:
        raise swapped(path, of, path.name, again)
    return path


def read_table(
    path: Path, columns: list[str] | None = None, filters: list[tuple] | None = None, again: str = AGAIN
) -> pd.DataFrame:
    """Read a Parquet file after :func:`check_table`.

    Raises:
        DamagedError: It is damaged, or another file under this name.
        OSError: It cannot be read.
    """
    import pandas as pd

    check_table(path, again)
    try:
        return pd.read_parquet(path, columns=columns, filters=filters)
    except OSError as error:
        if error.errno is not None:  # of the file system, not of Arrow
            raise
        raise damaged(path, again, error) from None
    except Exception as error:  # of a file without a seal; Arrow raises many kinds
        if explain(error):
            raise
        raise damaged(path, again, error) from None


def sealed(value: Mapping[str, Any], of: str) -> dict[str, Any]:
    """Return a JSON object with its seal as the last entry, instead of any that it had."""
    bare = {name: each for name, each in value.items() if name != KEY}
    return bare | {KEY: {"of": of, "sha256": _json_digest(bare, of)}}


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object with its seal."""
    write_json(path, sealed(value, path.name))


def unsealed(value: Any, path: Path, again: str = AGAIN) -> Any:
    """Return what a JSON file holds without its seal, which is compared; as it is, if it has none.

    The digest is of the values and not of the bytes, so that another layout of the same JSON is not damage.

    Raises:
        DamagedError: The digest or the name is not that of the seal.
    """
    if not isinstance(value, dict):
        return value
    if KEY not in value:
        if any(isinstance(each, dict) and each.keys() == {"of", "sha256"} for each in value.values()):
            raise damaged(path, again)  # a seal with a damaged name
        return value
    bare, seal = {name: each for name, each in value.items() if name != KEY}, value[KEY]
    try:
        sound = seal["sha256"] == _json_digest(bare, seal["of"])
    except (TypeError, KeyError, ValueError):
        sound = False
    if not sound:
        raise damaged(path, again)
    if seal["of"] != path.name:
        raise swapped(path, seal["of"], path.name, again)
    return bare


def read_sealed(path: Path, again: str = AGAIN) -> Any:
    """Read a JSON file, and compare its seal, if it has one.

    Raises:
        DamagedError: It is not JSON, is damaged, or is another file under this name.
        OSError: It cannot be read.
    """
    try:
        value = read_json(path)
    except ValueError as error:
        raise damaged(path, again, error) from None
    return unsealed(value, path, again)


def digests(paths: Iterable[Path]) -> dict[str, str]:
    """Return name -> SHA-256 of files, for the entry :data:`FILES` of a record beside them."""
    return {path.name: file_digest(path) for path in paths}


def check_listed(path: Path, record: Path, again: str = AGAIN) -> Path:
    """Return a file whose digest is that in the sealed record beside it, or that the record does not list.

    Raises:
        DamagedError: The file, or the record, is damaged, or of another run.
        OSError: The file cannot be read.
    """
    if not record.exists():
        return path
    held = read_sealed(record, again)
    known = held.get(FILES, {}).get(path.name) if isinstance(held, dict) else None
    if known is not None and file_digest(path) != known:
        raise DamagedError(
            f"{path} is not the file that {record.name} beside it lists (SHA-256): one of the two is damaged or of "
            f"another run; {again}"
        )
    return path


def read_history(path: Path, again: str = AGAIN) -> pd.DataFrame:
    """Read a table of epochs in the folder of a network, which is the one that its card lists, if it has a card.

    Raises:
        DamagedError: It is not, or not CSV.
        OSError: It cannot be read.
    """
    import pandas as pd

    check_listed(path, path.with_name("card.json"), again)
    try:
        return pd.read_csv(path, float_precision="round_trip")
    except ValueError as error:  # of a network whose card lists none
        raise damaged(path, again, error) from None


def _json_digest(bare: Mapping[str, Any], of: str) -> str:
    return hashlib.sha256(as_json([of, bare]).encode()).hexdigest()


def _footer(path: Path) -> tuple[int, bytes]:
    """Return place and bytes of the footer of a Parquet file.

    Raises:
        ValueError: It is not a whole Parquet file.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        start = file.read(4)
        file.seek(max(0, size - 8))
        end = file.read(8)
        length = int.from_bytes(end[:4], "little")
        if size < 12 or start != _MAGIC or end[4:] != _MAGIC or length > size - 12:
            raise ValueError("it is not a whole Parquet file")
        file.seek(size - 8 - length)
        return size - 8 - length, file.read(length)


def _last(footer: bytes) -> re.Match[bytes] | None:
    """Return the seal in a footer; the last one, because a copy of the note may be in the schema before it."""
    found = None
    for found in _SEAL.finditer(footer):  # noqa: B007
        pass
    return found


def _digest_without(path: Path, place: int) -> str:
    """Return the SHA-256 of a file with zeros instead of the digest at a place."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        left = place
        while left and (block := file.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
        digest.update(_BLANK.encode())
        file.seek(place + 64)
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
