"""`duchenne serve`: real requests to a real server, and what it says of those that it cannot answer."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
import training_networks  # noqa: F401  (registers the tiny networks)
import uvicorn
from export_tools import fold_of
from faces_tools import video

from duchenne import http_limits, server
from duchenne.errors import UserError
from duchenne.http_limits import Prompt
from duchenne.models.contract import create
from duchenne.prediction.model import Model
from duchenne.prediction.requests import Requests


class Client:
    """Sends requests to a server."""

    def __init__(self, address: str, fold: Path) -> None:
        self.address, self.fold = address, fold

    def get(self, place: str) -> str:
        with urllib.request.urlopen(f"{self.address}{place}", timeout=60) as answer:
            return answer.read().decode()

    def post(self, body: bytes, kind: str = "application/json") -> tuple[int, Any]:
        request = urllib.request.Request(f"{self.address}/invocations", body, {"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except HTTPError as error:
            said = error.read().decode()
            assert "Traceback" not in said
            assert str(self.fold.parent) not in said
            return error.code, json.loads(said)["error"]

    def ask(self, *rows: dict[str, Any]) -> tuple[int, Any]:
        return self.post(json.dumps({"dataframe_records": rows}).encode())


@contextmanager
def serving(fold: Path, **settings: Any) -> Iterator[Client]:
    application = server.application(server.Settings(str(fold), **settings))
    run = uvicorn.Server(uvicorn.Config(application, port=0, log_level="error", http=Prompt))
    thread = threading.Thread(target=run.run)
    thread.start()
    try:
        while not run.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield Client(f"http://127.0.0.1:{run.servers[0].sockets[0].getsockname()[1]}", fold)
    finally:
        run.should_exit = True
        thread.join()


def trained(architecture: str, folder: Path) -> Path:
    torch.manual_seed(0)
    return fold_of(create(architecture, {}, 3), architecture, folder / "fold_1", size=64)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("pictures")
    with serving(trained("tiny", folder), max_bytes=200_000) as client:
        yield client


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("clips")
    (folder / "allowed" / "frames").mkdir(parents=True)
    for number in range(6):
        cv2.imwrite(str(folder / "allowed" / "frames" / f"{number}.png"), picture(number))
    (folder / "secret").mkdir()
    video(folder / "secret" / "clip.mp4")
    video(folder / "allowed" / "clip.mp4")
    (folder / "allowed" / "link.mp4").symlink_to(folder / "secret" / "clip.mp4")
    (folder / "allowed" / "torn.mp4").write_bytes(b"\0\0\0\x20ftypisom torn")
    with serving(trained("tiny_clip", folder), clips=str(folder / "allowed")) as client:
        yield client


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def encoded(image: np.ndarray) -> str:
    return base64.b64encode(cv2.imencode(".png", image)[1].tobytes()).decode()


def test_it_says_that_it_is_there(pictures: Client):
    assert json.loads(pictures.get("/ping")) == {
        "status": "ok", "classes": ["class_0", "class_1", "class_2"], "columns": ["image", "faces"],
    }  # fmt: skip
    assert pictures.get("/health") == pictures.get("/ping")
    assert pictures.get("/version")


def test_pictures_get_the_answers_of_prediction(pictures: Client):
    images = [picture(seed) for seed in range(3)]
    status, said = pictures.ask(*({"image": encoded(image)} for image in images))
    assert status == 200
    wanted = Model(pictures.fold).predict([image[..., ::-1].copy() for image in images])
    for number, (answer, row) in enumerate(zip(said["predictions"], wanted.to_dict("records"), strict=True)):
        assert answer["input"] == number
        assert answer["emotion"] == row["emotion"]
        assert answer["class_1"] == pytest.approx(row["p_class_1"], abs=1e-5)
        assert answer["x0"] is None  # the faces came aligned


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"image": "fine"}, {"image": base64.b64encode(b"no picture").decode()}], "row 1: "),
        ([{"image": "no base64!"}], "row 0: image is not base64"),
        ([{"image": 3}], "row 0: image is not base64"),
        ([{"image": "fine", "faces": "some"}], "row 0: faces is 'some': it must be largest or all"),
        ([{"image": "fine"}, {"faces": "largest"}], "row 1: give image"),
        ([{"img": "fine"}], "requests to this network have no column 'img' (did you mean 'image'?)"),
    ],
)
def test_a_bad_request_is_named(pictures: Client, rows: list[dict], message: str):
    fine = {"fine": encoded(picture(0))}
    status, said = pictures.ask(*({key: fine.get(value, value) for key, value in row.items()} for row in rows))
    assert status == 400
    assert said.startswith(message)


ROWS = "the table has more than 10,000 rows: send several tables"
CELLS = "the table has more than 100,000 cells: send several tables"
WIDE = "the table has more than 1000 columns"
ROWS_OF_OTHERS = b",".join(b'{"c%d": 1}' % number for number in range(1001))


@pytest.mark.parametrize(
    ("body", "kind", "status", "message"),
    [
        (b"{", "application/json", 400, "the request cannot be read: Expecting property name"),
        (b'{"rows": []}', "application/json", 400, "The input must be a JSON dictionary with exactly one"),
        (b'{"instances": [1]}', "application/json", 400, "send a table: dataframe_records or dataframe_split"),
        (b"{}", "multipart/form-data; boundary=x", 415, "content type 'multipart/form-data; boundary=x': send "),
        (b'{"dataframe_records": [{"image": ' + b"9" * 9000 + b"}]}", "application/json", 400, "the request cannot be"),
        (b"," * 2000, "text/csv", 400, WIDE),  # reading 100,000 took 50 s
        (b"\n" + b"," * 2000, "text/csv", 400, WIDE),
        (b"image\n" + b"," * 2000, "text/csv", 400, WIDE),
        (b'a",' + b'"\n",' * 2000, "text/csv", 400, WIDE),
        (b'{"dataframe_records": [' + ROWS_OF_OTHERS + b"]}", "application/json", 400, WIDE),  # 80 GB for 1.4 MB
        (b'{"dataframe_split": {"columns": [' + b"1," * 2000 + b'1], "data": []}}', "application/json", 400, WIDE),
        (b'{"dataframe_split": {"data": [[' + b"1," * 2000 + b"1]]}}", "application/json", 400, WIDE),
        (b"image\n" + b"x\n" * 10_001, "text/csv", 400, "the table has 10,001 rows, over the limit of 10,000"),
        (b'{"dataframe_records": [' + b"{}," * 10_000 + b"{}]}", "application/json", 400, ROWS),
        (b'{"dataframe_split": {"data": [' + b"1," * 10_000 + b"1]}}", "application/json", 400, ROWS),
        (b'{"dataframe_records": [[' + b"," * 100_001 + b"]]}", "application/json", 400, CELLS),
        (b'{"inputs": [[1]]}', "application/json", 400, "send a table: dataframe_records or dataframe_split"),
        (
            b'{"dataframe_split": {"columns": ["image", "image"], "data": [["", ""]]}}',
            "application/json",
            400,
            "the table has a column twice",
        ),
        (
            b"{}",
            "application/jsonx",
            415,
            "content type 'application/jsonx': send application/json or text/csv, in UTF-8",
        ),
        (b"{}", "application/json; charset=utf-16", 415, "content type 'application/json; charset=utf-16': send "),
        (b"{", "Application/JSON; charset=UTF-8", 400, "the request cannot be read"),
        (b"PAR1", "application/vnd.apache.parquet", 415, "content type 'application/vnd.apache.parquet': send "),
        (b" " * 200_001, "application/json", 413, "the request is larger than 0.2 MB"),
    ],
)
def test_what_is_no_request_is_refused(pictures: Client, body: bytes, kind: str, status: int, message: str):
    answered, said = pictures.post(body, kind)
    assert answered == status
    assert said.startswith(message)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /ping\r\n\r\n",  # HTTP/0.9
        b"GET /ping HTTP/1.1\r\n\r\n",  # no host
        b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(160),  # as of https
    ],
)
def test_what_is_no_http_is_refused_in_json_too(pictures: Client, sent: bytes):
    host, port = pictures.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(sent)
        with connection.makefile("rb") as answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json")
    assert json.loads(body) == {"error": "Invalid HTTP request received: send one of HTTP/1.1"}


def test_a_large_request_without_a_length_is_refused(pictures: Client):
    parts = (b" " * 1000 for _ in range(201))  # sent in chunks
    request = urllib.request.Request(f"{pictures.address}/invocations", parts, {"Content-Type": "application/json"})
    with pytest.raises(HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    assert caught.value.code == 413


def test_what_fails_in_the_server_stays_in_its_log(
    pictures: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(Model, "answers", lambda *_, **__: 1 / 0)
    assert pictures.ask({"image": encoded(picture(0))}) == (500, server.FAILED)
    assert "division by zero" in caplog.text


def test_a_request_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with serving(trained("tiny", tmp_path), timeout=0.2) as client:
        monkeypatch.setattr(Model, "answers", lambda *_, **__: time.sleep(1) or ())
        status, said = client.ask({"image": encoded(picture(0))})
    assert (status, said) == (504, "no answer within 0.2 s: send fewer or shorter inputs")


def test_more_requests_than_it_can_hold_are_refused(pictures: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "AT_ONCE", 0)
    assert pictures.ask({"image": encoded(picture(0))}) == (503, "the server is busy: send the request again later")


HEAD = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"


@pytest.mark.parametrize("sent", [b"", HEAD, HEAD + b"\r\n"], ids=["nothing", "half of the headers", "no body"])
def test_slow_clients_keep_no_other_out_and_are_ended(sent: bytes, pictures: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_limits, "HEAD", 2.0)  # a busy machine needs some
    monkeypatch.setattr(http_limits, "GRACE", 1.0)
    host, port = pictures.address.removeprefix("http://").split(":")
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(server.AT_ONCE + 1)]
        for each in slow:
            each.sendall(sent)
        assert pictures.ask({"image": encoded(picture(0))})[0] == 200
        for _ in range(4):  # a byte now and then buys no time
            time.sleep(0.1)
            for each in slow:
                with suppress(OSError):  # it may be ended already
                    each.sendall(b"x")
        for each in slow:
            each.settimeout(10)
            try:
                said = each.recv(1000)
            except ConnectionResetError:
                said = b""
            assert said.startswith(b"HTTP/1.1 408") if sent.endswith(b"\r\n\r\n") else not said


def test_a_further_request_of_a_connection_is_watched_too(pictures: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_limits, "HEAD", 2.0)
    connection = HTTPConnection(pictures.address.removeprefix("http://"), timeout=10)
    with closing(connection):
        for _ in range(2):  # the time begins anew with each
            connection.request("GET", "/version")
            assert connection.getresponse().read()
            time.sleep(1.2)
        connection.sock.sendall(b"GET /version")
        assert connection.sock.recv(1000) == b""


@pytest.mark.parametrize("name", ["tiny", "tiny_clip"])
def test_work_that_nobody_waits_for_ends(name: str, tmp_path: Path):
    stop = threading.Event()
    stop.set()
    film = base64.b64encode(video(tmp_path / "a.mp4").read_bytes()).decode()
    row = {"image": encoded(picture(0))} if name == "tiny" else {"video": film}
    with pytest.raises(UserError, match="was stopped before its end"):
        Requests(Model(trained(name, tmp_path)))(pd.DataFrame([row]), stop)


def test_a_port_in_use_is_one_error():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"127\.0\.0\.1:{port} cannot be used: Address already in use"):
            server.serve(server.Settings("nowhere"), "127.0.0.1", port, 1)


def test_clips_come_by_path_or_as_bytes(clips: Client):
    allowed = clips.fold.parent / "allowed"
    content = base64.b64encode((allowed / "clip.mp4").read_bytes()).decode()
    status, said = clips.ask({"path": "clip.mp4"}, {"video": content}, {"path": "frames"})
    assert status == 200
    one, other, frames = ([row[f"class_{i}"] for i in range(3)] for row in said["predictions"])
    assert one == other
    for found, name in ((one, "clip.mp4"), (frames, "frames")):
        wanted = Model(clips.fold).predict(allowed / name).filter(regex="^p_").iloc[0].tolist()
        assert found == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    "path",
    ["../secret/clip.mp4", "link.mp4", "/etc/passwd", "frames/../../secret", "gone.mp4", ".", "a\0b", "x" * 5000, 7],
)
def test_no_path_leads_out_of_the_folder(clips: Client, path: str | int):
    status, said = clips.ask({"path": path})
    assert (status, said) == (400, f"row 0: path {path!r} is not in the folder of clips of this server")


def test_a_damaged_clip_is_named_without_its_place(clips: Client):
    status, said = clips.ask({"path": "torn.mp4"})
    assert status == 400
    assert said.startswith("row 0: ")


def test_paths_are_refused_where_no_folder_is_allowed(tmp_path: Path):
    with serving(trained("tiny_pair", tmp_path)) as client:
        pair = {"path": "x", "onset": 0, "apex": 1}
        assert client.ask(pair) == (400, "row 0: this server takes no paths: send the file as video, in base64")
        assert client.ask({"video": "AAAA", "onset": 0}) == (
            400,
            "row 0: give both frame numbers, onset and apex, or neither",
        )
