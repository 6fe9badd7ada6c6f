"""Sends bad requests to a server of a trained network: many in a row, many at once, and slow ones; prints what it does.

    python benchmarks/bad_requests.py models/poster_v2_demo/fold_1 --row 1000 --at-once 50

The server runs in this process. After every kind, and at the end, a good request must be answered. Prints the answers
by status, the slowest one, and memory, threads and open files before and after. Exit status 1: one was not answered as
JSON with a message, or a good one was not answered.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import random
import struct
import sys
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import uvicorn
from PIL import Image

from duchenne import server
from duchenne.http_limits import Prompt

JSON, CSV = "application/json", "text/csv"


def bomb(side: int) -> bytes:
    """Return a PNG of ``side`` x ``side`` black pixels."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compressobj(1)
    data = b"".join([rows.compress(bytes(1 + 3 * side)) for _ in range(side)] + [rows.flush()])
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", data) + part(b"IEND", b"")


def asked(*contents: bytes, **more: object) -> bytes:
    """Return the body of a request for pictures."""
    rows = [{"image": base64.b64encode(content).decode()} | more for content in contents]
    return json.dumps({"dataframe_records": rows}).encode()


def picture() -> bytes:
    """Return a good picture."""
    file = io.BytesIO()
    Image.effect_noise((96, 96), 80).convert("RGB").save(file, "png")
    return file.getvalue()


def bad_requests(limit: int) -> list[tuple[str, bytes, str]]:
    """List bad requests: what is wrong, body, content type; ``limit`` is the largest body in bytes."""
    good, noise = picture(), random.Random(0).randbytes
    return [
        ("no JSON", b"{", JSON),
        ("nothing", b"", JSON),
        ("zero bytes", bytes(1000), JSON),
        ("noise", noise(10_000), JSON),
        ("nested lists", b"[" * 100_000, JSON),
        ("nested objects", b'{"dataframe_records":' * 5000, JSON),
        ("a number of 10,000 digits", b'{"dataframe_records": [{"image": ' + b"9" * 10_000 + b"}]}", JSON),
        ("NaN", b'{"dataframe_records": [{"image": NaN}]}', JSON),
        ("a list", b"[]", JSON),
        ("no rows", b'{"dataframe_records": []}', JSON),
        ("100,000 empty rows", json.dumps({"dataframe_records": [{}] * 100_000}).encode(), JSON),
        ("5,000 columns", json.dumps({"dataframe_records": [{f"c{i}": 1 for i in range(5000)}]}).encode(), JSON),
        ("a long column", json.dumps({"dataframe_records": [{"x" * 100_000: 1}]}).encode(), JSON),
        ("lists as cells", b'{"dataframe_records": [{"image": [1, 2]}]}', JSON),
        ("other form", b'{"inputs": [[1, 2], [3]]}', JSON),
        ("split without columns", b'{"dataframe_split": {"data": [[1]]}}', JSON),
        ("lone surrogate", b'{"dataframe_records": [{"image": "\\ud800"}]}', JSON),
        ("not base64", b'{"dataframe_records": [{"image": "%%%"}]}', JSON),
        ("markup as a column", b'{"dataframe_records": [{"<script>alert(1)</script>": 1}]}', JSON),
        ("no picture", asked(b"no picture"), JSON),
        ("a truncated picture", asked(good[: len(good) // 2]), JSON),
        ("a bomb by its header", asked(bomb(1)[:16] + struct.pack(">II", 10**5, 10**5) + bomb(1)[24:]), JSON),
        ("Ghostscript", asked(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), JSON),
        ("faces unknown", asked(good, faces="some"), JSON),
        ("a path", b'{"dataframe_records": [{"path": "../../etc/passwd"}]}', JSON),
        ("CSV of noise", noise(10_000), CSV),
        ("CSV of commas", b"," * 100_000, CSV),
        ("CSV, a quote open", b'image\n"abc', CSV),
        ("Parquet of noise", b"PAR1" + noise(1000) + b"PAR1", "application/vnd.apache.parquet"),
        ("content type", b"x", "multipart/form-data; boundary=x"),
        ("content type of noise", b"x", "x" * 1000),
        ("too large", bytes(limit + 1), JSON),
    ]


class Client:
    """Sends requests and counts the answers."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.statuses: Counter[str] = Counter()
        self.slowest = (0.0, "")
        self.wrong: list[str] = []

    def __str__(self) -> str:
        seconds, what = self.slowest
        return f"{dict(self.statuses)}, the slowest {seconds:.2f} s ({what})"

    def send(self, what: str, body: bytes, kind: str) -> int:
        """Send a request; returns its status, 0 without an answer."""
        began = time.monotonic()
        request = urllib.request.Request(f"{self.address}/invocations", body, {"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        except OSError as error:  # of a body that is too large, the server may close the connection before all is sent
            status, text = (413, b'{"error": "closed"}') if what == "too large" else (0, str(error).encode())
        self.slowest = max(self.slowest, (time.monotonic() - began, what))
        self.statuses[str(status)] += 1
        try:
            said = json.loads(text)
        except ValueError:
            said = None
        message = said.get("error", "") if isinstance(said, dict) else ""
        if status != 200 and (not message or "Traceback" in message or len(message) > 2000 or status == 500):
            self.wrong.append(f"{what}: {status} {text[:200]!r}")
        return status

    def good(self, after: str) -> None:
        """Send a good request, which must be answered."""
        if (status := self.send("good", asked(picture()), JSON)) != 200:
            self.wrong.append(f"after {after} a good request got {status}")


def state() -> str:
    """Describe this process."""
    process = psutil.Process()
    return f"{process.memory_info().rss / 1e6:.0f} MB, {process.num_threads()} threads, {process.num_fds()} files"


def main() -> None:
    """Run the server and send the requests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a fold's folder, of a network that takes pictures")
    parser.add_argument("--row", type=int, default=1000, help="bad requests in a row")
    parser.add_argument("--at-once", type=int, default=50, help="bad requests at once")
    parser.add_argument("--max-mb", type=float, default=4, help="size limit of a request, MB")
    given = parser.parse_args()
    limit = int(given.max_mb * 1e6)
    app = server.application(server.Settings(str(given.model), max_bytes=limit, timeout=60))
    run = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", http=Prompt))
    thread = threading.Thread(target=run.run)
    thread.start()
    while not run.started:
        time.sleep(0.01)
    client = Client(f"http://127.0.0.1:{run.servers[0].sockets[0].getsockname()[1]}")
    try:
        requests = bad_requests(limit)
        client.good("the start")
        print("before:", state())
        for number in range(given.row):
            client.send(*requests[number % len(requests)])
            if number < len(requests):
                client.good(requests[number][0])
        print(f"{given.row} in a row: {client}; {state()}")
        client.statuses.clear()
        large = asked(*[bomb(3000)] * 4)
        mixed = [
            ("pictures of 9 megapixels", large, JSON) if i % 5 == 0 else requests[i % len(requests)]
            for i in range(given.at_once)
        ]
        with ThreadPoolExecutor(given.at_once) as pool:
            list(pool.map(lambda each: client.send(*each), mixed))
        client.good("all at once")
        print(f"{given.at_once} at once: {client}; {state()}")
    finally:
        run.should_exit = True
        thread.join()
    for line in client.wrong:
        print("WRONG", line)
    sys.exit(1 if client.wrong else 0)


if __name__ == "__main__":
    main()
