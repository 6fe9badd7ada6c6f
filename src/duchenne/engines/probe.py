"""Check before any work that the machines of a cluster share this folder and run this code."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from duchenne.engines.base import SHOWN, EngineError
from duchenne.engines.calls import Answer, opened

PACKAGES = (
    "accelerate", "anny", "av", "dlib-bin", "numpy", "opencv-python-headless", "pandas", "scipy", "timm", "torch",
    "torchvision", "warp-lang",
)  # fmt: skip
"""Packages whose version may change a result."""

Everywhere = Callable[[Callable[..., Any], tuple[Any, ...]], Mapping[str, Answer | Exception]]
"""Runs a function in every machine's project folder; returns answers, or errors, by machine."""


def facts(file: Path, reads: Sequence[Path]) -> dict[str, Any]:
    """Describe the machine of this process: what it finds of ``file`` and ``reads``, and the versions of its code.

    It also leaves an answer beside ``file``.
    """
    try:
        text = file.read_text(encoding="utf-8")
        reply = f"{file.name}.{socket.gethostname()}.{os.getpid()}"
        file.with_name(reply).write_text(text, encoding="utf-8")
    except OSError as error:
        text, reply = f"{type(error).__name__}: {error.strerror}", ""
    missing = [str(path) for path in reads if not path.exists()]
    return {"text": text, "reply": reply, "missing": missing, "versions": versions()}


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package's sources (a digest) and of :data:`PACKAGES`."""
    digest, package = hashlib.sha256(), Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    found = {"Python": ".".join(platform.python_version_tuple()[:2]), "sources of duchenne": digest.hexdigest()[:12]}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def check(engine: str, folder: Path, reads: Sequence[Path], everywhere: Everywhere) -> None:
    """Let a task on every machine read a file that is written here, and answer.

    Args:
        engine: its name, for messages.
        folder: of the work files.
        reads: files and folders outside it that tasks read.

    Raises:
        EngineError: A machine does not see the folder or runs other code; the message has each of them.
    """
    file = folder.absolute() / "engine" / f"probe-{uuid.uuid4().hex[:8]}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(file.name, encoding="utf-8")
    try:
        answers = everywhere(facts, (file, [path.absolute() for path in reads]))
        wrong = {host: "; ".join(_complaints(file, answer)) for host, answer in answers.items()}
    finally:
        for path in file.parent.glob(f"{file.name}*"):
            path.unlink(missing_ok=True)
    if lines := [f"  {host}: {text}" for host, text in wrong.items() if text]:
        more = [f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        raise EngineError(
            "\n".join(
                [f"{engine}: {len(lines)} of {len(wrong)} machines cannot work on this project:", *lines[:SHOWN], *more]
            )
        )


def _complaints(file: Path, answer: Answer | Exception) -> Iterator[str]:
    if isinstance(answer, Exception):
        yield f"it cannot run this package ({_last(answer)}): install the same environment there"
        return
    found, error = opened(answer)
    if error:
        yield f"it cannot work in this folder ({_last(error)}): it must be there, with the same path"
        return
    if found["text"] != file.name:
        yield f"{file.parent} is not shared ({found['text']}): put the project on storage that all machines mount there"
    elif not file.with_name(found["reply"]).exists():
        yield f"what it writes to {file.parent} does not arrive here"
    for path in found["missing"]:
        yield f"{path} does not exist there"
    here = versions()
    for name, version in found["versions"].items():
        if version != here[name]:
            yield f"{name} {version}, here {here[name]}"


def _last(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
