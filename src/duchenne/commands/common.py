"""What every command shares: printing, errors that a user can read, and names looked up in params.yaml."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from duchenne.errors import UserError, nearest, printable, short
from duchenne.shortage import explain

Params = Annotated[Path, typer.Option("--params", help="the configuration to read")]
DEFAULT = Path("params.yaml")
T = TypeVar("T")


@contextmanager
def readable_errors() -> Iterator[None]:
    """Print an error that the user can fix as one message without traceback, and exit with status 1.

    These are also errors of the machine: a full disk, no rights, short memory, a killed process
    (:mod:`duchenne.shortage`).
    """
    try:
        yield
    except UserError as error:
        typer.echo(f"error: {printable(str(error))}", err=True)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        typer.echo("interrupted; run the same command to resume", err=True)
        raise SystemExit(130) from None
    except Exception as error:
        if (text := explain(error) or _of_a_file(error)) is None:
            raise
        typer.echo(f"error: {text}", err=True)
        raise SystemExit(1) from None


def _of_a_file(error: Exception) -> str | None:
    """Return an error of the file system in words; None for any other."""
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # of pathlib, before Python 3.13
        return f"{short(printable(str(error)))}: give another path"
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":  # of libraries, for a path
        return f"{short(printable(error.object))}: the name is not UTF-8 text: give another one"
    if not isinstance(error, OSError) or (file := error.filename2 or error.filename) is None:
        return None
    return f"{short(printable(str(file)))}: {error.strerror or error}"


def print_whatever_the_locale() -> None:
    """Print characters that stdout or stderr cannot encode as escapes, such as ``\\u8868``.

    For JSON see :func:`print_json`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_json(value: object, indent: int | None = None) -> None:
    """Print JSON, with JSON's escapes for characters that stdout may not be able to encode."""
    unicode = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "").startswith("utf")
    typer.echo(json.dumps(value, indent=indent, ensure_ascii=not unicode))


def lookup(names: dict[str, T], name: str, what: str) -> T:
    if name not in names:
        hint = nearest(name, names) or f" (params.yaml has {', '.join(names)})"
        raise UserError(f"there is no {what} {name!r}{hint}")
    return names[name]
