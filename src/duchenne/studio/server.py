"""Serves the page and its predictions to this machine: nothing is kept, and no other machine is asked for anything."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from duchenne.errors import UserError
from duchenne.faces.regions import REGIONS
from duchenne.http_limits import Prompt
from duchenne.media.paths import is_image
from duchenne.ports import LOOPBACK, address, listen
from duchenne.prediction.model import Model
from duchenne.prediction.options import Options
from duchenne.reporting.colours import PALETTE
from duchenne.shortage import AGAIN, ERRORS, explain
from duchenne.studio.analysis import Event, analyse
from duchenne.training.trained import CARD, read_card
from duchenne.workspace import Workspace

log = logging.getLogger(__name__)

Load = Callable[[str], Model]

HERE = Path(__file__).parent
FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
"""Address -> file of this folder and its type."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
"""Sent with every answer; the browser enforces that the page asks no other machine for anything."""
ONCE_MORE = "then send the file again"
UPLOAD = "application/octet-stream"
"""Type of an upload: a browser asks before it sends this to another site's server."""
LOADED = 2
"""Largest number of networks in memory."""
LONGEST = 120
"""Longest name of an uploaded file."""


def trained_folds(workspace: Workspace) -> dict[str, Path]:
    """List the trained folds of ``models/`` by name, such as ``poster_v2_demo/fold_1``; damaged ones are left out."""
    found = {}
    for path in sorted((workspace.root / "models").glob(f"*/fold_*/{CARD}")):
        try:
            read_card(path.parent)
        except UserError as error:
            log.warning("%s", error)
            continue
        found[f"{path.parent.parent.name}/{path.parent.name}"] = path.parent
    return found


class Models:
    """Networks by name, loaded with their first use.

    Args:
        names: all names.
        load: returns the network of a name.
    """

    def __init__(self, names: list[str], load: Load) -> None:
        self.names, self._load = names, lru_cache(maxsize=LOADED)(load)

    def __getitem__(self, name: str) -> Model:
        """Return a network.

        Raises:
            UserError: There is no such network, or it cannot be loaded.
        """
        if name not in self.names:
            raise UserError(f"there is no network {name!r} here: reload the page")
        return self._load(name)


def application(models: Models, host: str = LOOPBACK[0], max_mb: float = 500) -> Starlette:
    """Return the application.

    Args:
        host: address that it is served at; one of this machine only is not answered under other names.
        max_mb: size limit of an upload.
    """
    lock = asyncio.Lock()  # the network answers one file at a time

    async def file(request: Request) -> Response:
        name, kind = FILES[request.url.path]
        return Response((HERE / name).read_bytes(), media_type=kind, headers=HEADERS)

    async def about(request: Request) -> Response:
        regions = [{"name": name, "colour": PALETTE[k % len(PALETTE)]} for k, name in enumerate(REGIONS)]
        facts = {"models": models.names, "max_mb": max_mb, "regions": regions}
        return JSONResponse(facts, headers=HEADERS)

    async def model(request: Request) -> Response:
        try:
            async with lock:
                found = await run_in_threadpool(models.__getitem__, request.query_params.get("name", ""))
        except UserError as error:
            return _refused(str(error))
        return JSONResponse(_described(found), headers=HEADERS)

    async def predict(request: Request) -> Response:
        if request.headers.get("content-type") != UPLOAD:
            return _refused(f"send {UPLOAD}", 415)
        body = request.stream()
        try:
            folder = tempfile.TemporaryDirectory(prefix="duchenne-studio-")
        except OSError as error:
            return await _refused_after(body, _short_of(error), 507)
        try:
            name, path = await _received(body, Path(folder.name), max_mb)
            options = _options(request)
        except (UserError, ClientDisconnect) as error:
            folder.cleanup()
            return await _refused_after(body, str(error), 413 if isinstance(error, _TooLargeError) else 400)
        except OSError as error:
            text = _short_of(error)  # with what is left on the disk now
            folder.cleanup()
            return await _refused_after(body, text, 507)

        async def answer() -> AsyncIterator[bytes]:
            with folder:
                if lock.locked():
                    yield _line({"waiting": True})
                async with lock:
                    async for event in _events(models, request.query_params.get("model", ""), path, name, options):
                        yield _line(event)

        return StreamingResponse(answer(), media_type="application/x-ndjson", headers=HEADERS)

    routes = [Route(place, file) for place in FILES]
    routes += [Route("/about", about), Route("/model", model), Route("/predict", predict, methods=["POST"])]
    guard = [Middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, "[::1]"], www_redirect=False)]
    return Starlette(routes=routes, middleware=guard if host in LOOPBACK else [])


async def _events(models: Models, name: str, path: Path, file: str, options: Options) -> AsyncIterator[Event]:
    """Yield the events of a prediction, whose steps run in a thread; an error is the last event."""
    events: Iterator[Event] | None = None
    try:
        model = await run_in_threadpool(models.__getitem__, name)
        events = analyse(model, path, file, options)
        while (event := await run_in_threadpool(next, events, None)) is not None:
            yield event
    except UserError as error:
        yield {"error": str(error)}
    except Exception as error:
        if text := explain(error):
            yield {"error": text.replace(AGAIN, ONCE_MORE)}
            return
        log.exception("%s: the prediction failed", file)
        yield {"error": f"{file}: something went wrong; the terminal of duchenne studio has the details"}
    finally:
        if events is not None:
            events.close()  # type: ignore[attr-defined]  # a generator


def _short_of(error: OSError) -> str:
    """Say what hinders uploads: most often, that the disk of temporary files is full."""
    if error.errno not in ERRORS:  # no folder for temporary files was found
        return error.strerror or str(error)
    text = explain(OSError(error.errno, error.strerror, tempfile.gettempdir())) or str(error)
    return text.replace(AGAIN, ONCE_MORE)


class _TooLargeError(UserError):
    """Raised for an upload over the limit."""


async def _received(body: AsyncGenerator[bytes, None], folder: Path, max_mb: float) -> tuple[str, Path]:
    """Write an upload into a folder: a line of JSON, ``[[name, bytes], ...]``, and then the files one after another.

    Returns:
        The name of the file and its path; of several pictures, the frames of a clip, their number and folder.

    Raises:
        UserError: The upload is too large or incomplete, or several files are not all pictures.
    """
    head = b""
    async for chunk in body:
        head += chunk
        if b"\n" in head or len(head) > 10**7:
            break
    line, _, rest = head.partition(b"\n")
    try:
        files = [(_safe(str(name)), int(size)) for name, size in json.loads(line)]
    except (ValueError, TypeError, OverflowError, RecursionError):
        files = []
    if not files or min(size for _, size in files) < 0:
        raise UserError("the upload holds no file")
    if (total := sum(size for _, size in files)) > max_mb * 1e6:
        raise _TooLargeError(f"the upload has {total / 1e6:.3g} MB: at most {max_mb:g} MB can be sent")
    if len(files) > 1 and not all(is_image(name) for name, _ in files):
        raise UserError("give one picture, one video, or several pictures: the frames of a clip")
    if len({name for name, _ in files}) < len(files):
        raise UserError("several pictures have the same name: frames need names of their own, with their numbers")
    place = folder / "frames" if len(files) > 1 else folder
    place.mkdir(exist_ok=True)
    for name, size in files:
        with (place / name).open("wb") as file:
            while size:
                while not rest:
                    try:
                        rest = await anext(body)
                    except StopAsyncIteration:
                        raise UserError(f"{name}: the upload ended early: send it again") from None
                file.write(rest[:size])
                rest, size = rest[size:], max(0, size - len(rest))
    if len(files) > 1:
        return f"{len(files)} frames", place
    return files[0][0], folder / files[0][0]


def _safe(name: str) -> str:
    """Return a name that can be a file's, with its suffix."""
    kept = re.sub(r"[^\w.\- ()]+", "_", name.replace("\\", "/").rpartition("/")[2]).strip(". ")
    return kept[-LONGEST:] or "file"


def _options(request: Request) -> Options:
    query = request.query_params
    numbers: dict[str, Any] = {}
    for name in ("every", "window", "stride", "onset", "apex"):
        if given := query.get(name, "").strip():
            try:
                numbers[name] = int(given)
            except ValueError:
                raise UserError(f"{name} is {given!r}: it must be a whole number") from None
    return Options(faces=query.get("faces", "largest"), **numbers)  # type: ignore[arg-type]


def _described(model: Model) -> dict[str, Any]:
    card, facts = model.card, model.network.facts
    return {
        "title": facts.title,
        "takes": model.takes,
        "classes": model.classes,
        "trained_on": card["variant"].get("dataset"),
        "fold": card.get("fold"),
        "precision": model.precision,
        "device": str(model.device),
        "aligned": model.faces.mode == "aligned",
        "frames": card["input_size"][1] if model.takes == "clip" else None,
    }


def _line(event: Event) -> bytes:
    return json.dumps(event, allow_nan=False).encode() + b"\n"


def _refused(message: str, status: int = 400) -> Response:
    return JSONResponse({"error": message}, status, headers=HEADERS)


async def _refused_after(body: AsyncGenerator[bytes, None], message: str, status: int) -> Response:
    """Refuse an upload when all of it was read: a browser that is still sending sees no answer, only a broken pipe."""
    with suppress(ClientDisconnect):
        async for _ in body:
            pass
    return _refused(message, status)


def serve(models: Models, host: str, port: int, max_mb: float, ready: Callable[[str], None]) -> None:
    """Serve the page until Ctrl-C.

    Args:
        port: 0: a free one.
        ready: called with the page's address.

    Raises:
        UserError: The port is in use, or the host is none of this machine.
    """
    with listen(host, port) as listening:
        ready(address(host, listening.getsockname()[1]))
        app = application(models, host, max_mb)
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2, http=Prompt)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])
