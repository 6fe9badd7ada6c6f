"""Limits of the time that a client may take to send a request: none keeps a connection open by a byte a second."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEAD = 10.0
"""Seconds from the opening of a connection, or from the first byte of a further request, to the end of the headers
(chosen by us)."""
GRACE, RATE = 10.0, 20_000.0
"""A body may take ``GRACE`` seconds, and one more for each ``RATE`` bytes that have come (chosen by us; 160 kbit/s is
slower than a mobile phone of the third generation)."""


class Prompt(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """Uvicorn's protocol, which closes a connection whose headers are not complete after :data:`HEAD` seconds.

    Uvicorn's own limit is of the time between two requests, and ends with the first byte of the next one.
    """

    _headers: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._headers:
            self._headers.cancel()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP in JSON, as every other error; uvicorn's own answer is text."""
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            body = json.dumps({"error": f"{msg.rstrip('.')}: send one of HTTP/1.1"}).encode()
            head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\n" + head.encode() + body)
        self.transport.close()

    def _watch(self) -> None:
        """Start the time when headers are awaited, and end it when they are there."""
        cycle: Any = self.cycle
        awaited = cycle is None or cycle.response_complete
        if awaited and not self._headers:
            self._headers = self.loop.call_later(HEAD, self.transport.close)
        elif self._headers and not awaited:
            self._headers.cancel()
            self._headers = None


class Space:
    """Bytes that the incomplete bodies of all requests of a server may take together."""

    def __init__(self, free: int) -> None:
        self.free = free


async def received(request: Request, limit: int, too_large: HTTPException, space: Space, full: HTTPException) -> bytes:
    """Return the body of a request.

    Args:
        limit: largest number of bytes.
        too_large: raised for a larger body, before it is read completely.
        space: what is free for it, until it is complete.
        full: raised if nothing is free.

    Raises:
        HTTPException: ``too_large`` or ``full``; or 408, because the body comes slower than :data:`RATE`.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    body, clock = bytearray(), asyncio.get_running_loop().time
    began, parts = clock(), request.stream()
    try:
        while True:
            try:
                async with asyncio.timeout_at(began + GRACE + len(body) / RATE):
                    part = await anext(parts, None)
            except TimeoutError:
                late = f"the request came too slowly: {len(body)} bytes in {clock() - began:.0f} s"
                raise HTTPException(408, late, {"Connection": "close"}) from None
            if part is None:
                return bytes(body)
            body += part
            space.free -= len(part)
            if len(body) > limit:
                raise too_large
            if space.free < 0:
                raise full
    finally:
        space.free += len(body)
