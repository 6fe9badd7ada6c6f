"""HTTP server of a trained network, with the protocol of MLflow's scoring server.

``POST /invocations`` takes and gives the tables of :mod:`duchenne.prediction.requests`, in MLflow's formats; ``/ping``
and ``/health`` answer with 200, ``/version`` with MLflow's version. Every error is JSON, ``{"error": message}``: 400
for a bad request, 408 for one that comes too slowly (:mod:`duchenne.http_limits`), 413 for one that is too large, 415
for an unknown content type, 503 while :data:`AT_ONCE` others are being answered, 504 after the time limit, and 500,
with the reason only in the server's log, for anything else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import uvicorn
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import invocations
from mlflow.version import VERSION
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from duchenne.errors import UserError, short
from duchenne.http_limits import Prompt, Space, received
from duchenne.ports import listen
from duchenne.prediction.model import Model
from duchenne.prediction.requests import COLUMNS, ROWS, Requests
from duchenne.prediction.sources import require_going

log = logging.getLogger(__name__)

SETTINGS = "DUCHENNE_SERVE"
"""Variable that hands the settings to the worker processes."""
AT_ONCE = 32
"""Largest number of complete requests that a process holds (chosen by us); the network answers one at a time. What has
come of incomplete ones may take as much memory again, so slow ones keep no other out."""
COLUMNS_OF_TABLE = 1000
"""Largest number of columns of a table (chosen by us): reading many takes minutes, and rows that each name another
column take memory for all columns of all rows."""
CELLS, LINES = 100_000, 1_000_000
"""Largest number of commas of a table, and of line breaks of a CSV, where base64 may have some (chosen by us)."""
KINDS = ("application/json", "text/csv")
"""Content types that are read. MLflow reads Parquet too, where a few bytes can stand for any number of long cells."""
A_TABLE = "send a table: dataframe_records or dataframe_split"
FAILED = "the server failed on this request; its log has the reason"
EXAMPLES = {"image": ("image", "photo.jpg", ""), "clip": ("video", "clip.mp4", ""),
            "pair": ("video", "clip.mp4", ', "onset": 12, "apex": 40')}  # fmt: skip
"""What a network takes -> column, file and further columns of the request that is shown."""


@dataclass(frozen=True)
class Settings:
    """Settings of a server.

    Attributes:
        model: a fold's folder.
        clips: folder whose files requests may name; None: none.
        max_bytes: size limit of a request.
        timeout: time limit of a request, including its wait for others, s.
    """

    model: str
    clips: str | None = None
    max_bytes: int = 32 * 10**6
    timeout: float = 60.0


class _Scored:
    """What MLflow's ``invocations`` needs of a model, for one request. The network answers one request at a time.

    Attributes:
        stop: set when nobody waits for the answer any more.
    """

    metadata = None

    def __init__(self, answer: Requests, lock: threading.Lock) -> None:
        self._answer, self._lock = answer, lock
        self.stop = threading.Event()

    def predict(self, data: Any) -> pd.DataFrame:
        if not isinstance(data, pd.DataFrame):
            raise UserError(A_TABLE)
        with self._lock:
            require_going(self.stop)
            answers = self._answer(data, self.stop)
        return answers.astype(object).where(answers.notna(), None)  # JSON has no NaN


def application(settings: Settings) -> Starlette:
    """Load the network and return the application.

    Raises:
        UserError: The folder has no trained network that can be used here.
    """
    model = Model(settings.model)
    answer_to, lock, held = Requests(model, Path(settings.clips) if settings.clips else None), threading.Lock(), 0
    space = Space(AT_ONCE * settings.max_bytes)
    busy = HTTPException(503, "the server is busy: send the request again later", {"Retry-After": "5"})
    too_large = HTTPException(
        413, f"the request is larger than {settings.max_bytes / 1e6:g} MB, the limit of this server (--max-mb)"
    )

    async def ping(request: Request) -> Response:
        return JSONResponse({"status": "ok", "classes": model.classes, "columns": COLUMNS[model.takes]})

    async def version(request: Request) -> Response:
        return Response(VERSION, media_type="text/plain")

    async def invoke(request: Request) -> Response:
        nonlocal held
        if held >= AT_ONCE:
            raise busy
        scored, complete = _Scored(answer_to, lock), False
        try:
            async with asyncio.timeout(settings.timeout):
                body = await received(request, settings.max_bytes, too_large, space, busy)
                if held >= AT_ONCE:  # others were faster
                    raise busy
                complete = True
                held += 1
                kind = request.headers.get("content-type") or "application/json"
                answer = await asyncio.to_thread(_answered, body, kind, scored)
        except ClientDisconnect:
            raise HTTPException(400, "the request ended early") from None
        except TimeoutError:
            raise HTTPException(504, f"no answer within {settings.timeout:g} s: send fewer or shorter inputs") from None
        except MlflowException as error:
            raise HTTPException(*_reason(error)) from None
        except (RecursionError, ValueError) as error:  # of its JSON; those of a prediction are MlflowExceptions
            raise HTTPException(400, f"the request cannot be read: {short(str(error), 500)}") from None
        finally:
            held -= complete
            scored.stop.set()
        if answer.status != 200:
            raise HTTPException(answer.status, answer.response)
        return Response(answer.response, answer.status, media_type=answer.mimetype)

    async def refused(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return JSONResponse({"error": error.detail}, error.status_code, error.headers)
        return JSONResponse({"error": FAILED}, 500)

    routes = [
        Route("/ping", ping),
        Route("/health", ping),
        Route("/version", version),
        Route("/invocations", invoke, methods=["POST"]),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: refused, Exception: refused})


def _answered(body: bytes, kind: str, scored: _Scored) -> Any:
    """Return MLflow's answer to a request, after a look at the size of its table.

    Raises:
        HTTPException: It has another content type, or too many rows or columns.
        MlflowException, ValueError, RecursionError: The request is not valid.
    """
    name, mark, parameters = kind.partition(";")
    if (name := name.strip().lower()) not in KINDS or (mark and parameters.replace(" ", "").lower() != "charset=utf-8"):
        raise HTTPException(415, f"content type {short(kind, 100)!r}: send {' or '.join(KINDS)}, in UTF-8")
    csv = name == "text/csv"
    if body.count(b",") > CELLS or (csv and body.count(b"\n") + body.count(b"\r") > LINES):  # base64 has no comma
        raise HTTPException(400, f"the table has more than {CELLS:,} cells: send several tables")
    high, wide = (0, _width_of_csv(body)) if csv else _shape(json.loads(body))
    if high > ROWS:
        raise HTTPException(400, f"the table has more than {ROWS:,} rows: send several tables")
    if wide > COLUMNS_OF_TABLE:
        raise HTTPException(400, f"the table has more than {COLUMNS_OF_TABLE} columns")
    return invocations(body, name, scored, None)


def _shape(request: Any) -> tuple[int, int]:
    """Number of rows and columns of a table in JSON.

    Raises:
        HTTPException: It is in one of MLflow's forms for tensors, which may take minutes to read.
    """
    request = request if isinstance(request, dict) else {}
    if request.keys() & {"inputs", "instances"}:
        raise HTTPException(400, A_TABLE)
    rows, split = request.get("dataframe_records"), request.get("dataframe_split")
    split = split if isinstance(split, dict) else {}
    rows, data = (each if isinstance(each, list) else [] for each in (rows, split.get("data")))
    lists = [row for row in (*rows, *data, split.get("columns")) if isinstance(row, list)]
    names = {name for row in rows if isinstance(row, dict) for name in row}
    return max(len(rows), len(data)), max([len(names), *map(len, lists)])


FIELD = re.compile(rb'(?:"[^"]*(?:""[^"]*)*")?[^,\r\n]*(,|[\r\n]|$)')
"""A field of a CSV and what ends it."""


def _width_of_csv(body: bytes) -> int:
    """Number of fields of the longest row of a CSV, whose line breaks may be quoted; counted to one above the limit."""
    longest = width = 0
    for field in FIELD.finditer(body):
        width += 1
        longest = max(longest, width)
        width = width if field[1] == b"," and width <= COLUMNS_OF_TABLE else 0
    return longest


def _reason(error: MlflowException) -> tuple[int, str]:
    """Return status and message for an error of MLflow's ``invocations``, without traces and the request's content."""
    cause = error.__context__
    if isinstance(cause, UserError):
        return 400, short(str(cause), 10_000)
    if str(error.message).startswith("Encountered an unexpected error"):
        log.error("a request failed", exc_info=cause)
        return 500, FAILED
    text = str(error.message).partition("\nInput:")[0].partition(" IMPORTANT: The MLflow")[0]
    return 400, text.splitlines()[0][:500]


def from_environment() -> Starlette:
    """Return the application of a worker process."""
    return application(Settings(**json.loads(os.environ[SETTINGS])))


def example(takes: str, address: str) -> str:
    """Return a shell command that sends a request."""
    column, file, more = EXAMPLES[takes]
    send = f"curl {address}/invocations -H 'Content-Type: application/json' --data-binary @-"
    return (
        f"""(printf '{{"dataframe_records": [{{"{column}": "'; base64 < {file} | tr -d '\\n'; """
        f"""printf '"{more}}}]}}') |\n  {send}"""
    )


def serve(settings: Settings, host: str, port: int, workers: int) -> None:
    """Run the server until it is stopped.

    Raises:
        UserError: The port cannot be used.
    """
    listen(host, port).close()  # uvicorn says only after the network is loaded that a port cannot be used
    os.environ[SETTINGS] = json.dumps(asdict(settings))
    uvicorn.run(
        f"{__name__}:from_environment",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        log_level="warning",
        http=Prompt,
    )
