"""`duchenne studio`: its page in a real browser, its server, and what it shows of clips and pairs."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import uvicorn
from faces_tools import MarksDetector, marked
from predict_tools import fold_of, folds_of, scene
from starve_tools import files_of
from torch import Tensor

from duchenne.faces.settings import Faces
from duchenne.prediction.model import Model
from duchenne.prediction.options import Options
from duchenne.prediction.sources import Source
from duchenne.prediction.tables import Csv
from duchenne.studio import server
from duchenne.studio.analysis import _Look, analyse
from duchenne.workspace import Workspace

if TYPE_CHECKING:
    from playwright import sync_api

NAMES = ("tiny", "tiny_clip", "tiny_pair")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a trained fold of each kind, and one that is damaged."""
    root = tmp_path_factory.mktemp("project")
    for name, fold in folds_of(root / "trained", Faces()).items():
        (root / "models" / name).mkdir(parents=True)
        fold.rename(root / "models" / name / "fold_1")
    (root / "models" / "damaged" / "fold_1").mkdir(parents=True)
    (root / "models" / "damaged" / "fold_1" / "card.json").write_text("{", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def models(project: Path) -> Iterator[server.Models]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("duchenne.faces.find.detector", lambda config: MarksDetector())
        folds = server.trained_folds(Workspace(project))
        yield server.Models(list(folds), lambda name: Model(folds[name]))


@pytest.fixture(scope="module")
def address(models: server.Models) -> Iterator[str]:
    """The page's address; the server takes 1 MB."""
    running = uvicorn.Server(uvicorn.Config(server.application(models, max_mb=1), port=0, log_level="error"))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    running.should_exit = True
    thread.join()


@pytest.fixture
def page(browser: sync_api.Browser, address: str) -> Iterator[sync_api.Page]:
    """The page; what it asks other machines for, and what it complains about, is an error."""
    context = browser.new_context(viewport={"width": 390, "height": 800}, accept_downloads=True)
    page = context.new_page()
    troubles: list[str] = []
    own = (address, "data:", "blob:")
    page.on("request", lambda request: troubles.append(request.url) if not request.url.startswith(own) else None)
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto(address)
    page.locator("#facts dd").first.wait_for()
    yield page
    context.close()
    assert troubles == []


def test_a_picture_shows_its_faces(page: sync_api.Page, models: server.Models, tmp_path: Path):
    picture = marked(tmp_path / "two people.png", {5: 1.0, 55: 0.7})
    page.set_input_files("#file", picture)
    faces = page.locator(".face")
    faces.nth(1).wait_for()
    expected = list(models["tiny/fold_1"].stream(picture, Options(faces="all")))
    assert [words.split("\n")[0] for words in faces.locator(".verdict").all_inner_texts()] == [
        f"{row['emotion']} {100 * row['probabilities'][row['emotion']]:.1f} %" for row in expected
    ]
    shares = [float(words.split()[0]) for words in faces.first.locator(".bars .number").all_inner_texts()]
    assert shares == pytest.approx([100 * share for share in expected[0]["probabilities"].values()], abs=0.051)
    boxes = page.locator("#result .shown").get_attribute("src")
    page.get_by_text("Landmarks, AU regions").click()
    assert page.locator("#result .shown").get_attribute("src") != boxes
    assert page.locator("#result .legend:visible li").all_inner_texts()[0] == "eyes"
    with page.expect_download() as download:
        page.get_by_text("Download CSV").click()
    assert download.value.suggested_filename == "two people.csv"
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in lines] == ["source", "two people.png", "two people.png"]
    assert page.evaluate("document.documentElement.scrollWidth") == 390  # a phone scrolls in one direction


def test_a_video_plays_and_has_a_timeline(page: sync_api.Page, tmp_path: Path):
    page.set_input_files("#file", scene(tmp_path / "clip.avi", 8, [(5, set()), (90, set())]))
    page.locator(".across svg").wait_for()
    assert page.locator("video").evaluate("node => node.play().then(() => node.videoWidth)") == 640
    assert "face 1" in page.locator(".across svg").text_content()
    assert page.locator("tbody tr").count() == 16
    assert page.locator(".face").count() == 2


def test_what_is_wrong_with_a_file_is_said_in_the_page(page: sync_api.Page, tmp_path: Path):
    alert = page.get_by_role("alert")
    for name, content, words in (
        ("broken.png", b"no picture", "broken.png: is not an image"),
        ("large.png", bytes(10**6 + 1), "at most 1 MB can be sent"),
    ):
        (tmp_path / name).write_bytes(content)
        page.set_input_files("#file", tmp_path / name)
        alert.get_by_text(words).wait_for()
        assert not page.locator("#result").is_visible()
    page.set_input_files("#file", marked(tmp_path / "nobody.png", {}))
    page.locator("#result .note").get_by_text("no face found").wait_for()
    assert not alert.is_visible()


def test_frames_of_a_clip_are_one_clip_of_a_chosen_network(page: sync_api.Page, tmp_path: Path):
    page.locator("#model").select_option("tiny_clip/fold_1")
    frames = [marked(tmp_path / f"img{k}.png", {10 + k: 1.0}) for k in (10, 9, 8)]
    page.set_input_files("#file", frames)
    page.locator(".face").wait_for()
    assert page.locator("#result h2").first.inner_text() == "3 frames"
    assert page.locator(".face .fine").first.inner_text() == "frames 8 to 10"


UPLOAD = {"Content-Type": "application/octet-stream"}


def answered(address: str, headers: dict[str, str], body: bytes, query: str = "model=tiny/fold_1") -> tuple[int, dict]:
    """Status and last event of a prediction asked without a browser."""
    request = urllib.request.Request(f"{address}/predict?{query}", body, headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.loads(answer.read().splitlines()[-1])
    except urllib.error.HTTPError as error:
        text = error.read()
        return error.code, json.loads(text) if text.startswith(b"{") else {}


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"Content-Type": "text/plain"}, 415, "send application/octet-stream"),  # another site's page can send it
        ({"Host": "evil.example"}, 400, None),  # a name that was made to point here
        ({"body": b'[["a.png", 9]]\nshort'}, 400, "a.png: the upload ended early"),
        ({"body": b"{"}, 400, "the upload holds no file"),
        ({"Host": "[::1]:7860", "body": b"{"}, 400, "the upload holds no file"),  # this machine in IPv6
        ({"body": b'[["a.png", 9000000]]\n' + bytes(9_000_000)}, 413, "at most 1 MB"),
        ({"body": b'[["a.png", 0], ["b.mp4", 0]]\n'}, 400, "the frames of a clip"),
        ({"body": b'[["x/a.png", 0], ["a.png", 0]]\n'}, 400, "have the same name"),
        ({"body": b'[["a.png", 1e400]]\n'}, 400, "the upload holds no file"),
        ({"body": b"[" * 100_000}, 400, "the upload holds no file"),
        ({"body": b'[["1.png", 1], ["2.png", 1]]\nxx'}, 200, "2 frames: this network takes single pictures"),
        ({"query": "model=tiny/fold_1&every=0"}, 200, "every is 0: it must be at least 1"),
        ({"query": "model=../fold_1"}, 200, "there is no network '../fold_1' here"),
        ({"query": "model=tiny/fold_1&every=two"}, 400, "every is 'two': it must be a whole number"),
        ({"query": "model=tiny/fold_1&onset=1&apex=2"}, 200, "leave out onset and apex"),
        ({"body": b'[["../../etc/a b?.png", 1]]\nx'}, 200, "a b_.png: is not an image"),
    ],
)
def test_a_bad_request_is_refused(address: str, change: dict, status: int, words: str | None):
    body, query = change.pop("body", b'[["a.png", 1]]\nx'), change.pop("query", "model=tiny/fold_1")
    found, answer = answered(address, UPLOAD | change, body, query)
    assert found == status
    assert words is None or words in answer["error"]


def test_a_full_disk_refuses_an_upload_and_the_next_one_is_answered(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    body = b'[["a.png", 900000]]\n' + bytes(900_000)
    with files_of(100_000):
        status, answer = answered(address, UPLOAD, body)
    assert status == 507
    assert answer["error"].startswith(f"{tmp_path}: a file may not be larger here")
    assert answer["error"].endswith("then send the file again")
    assert list(tmp_path.iterdir()) == []
    status, answer = answered(address, UPLOAD, body)
    assert (status, answer) == (200, {"error": "a.png: is not an image"})

    monkeypatch.setattr("tempfile.tempdir", None)  # a start with a disk that is full everywhere
    with files_of(0):
        status, answer = answered(address, UPLOAD, body)
    assert status == 507
    assert answer["error"].startswith("No usable temporary directory found")


def test_a_failure_of_ours_shows_no_traceback(address: str, models: server.Models, monkeypatch: pytest.MonkeyPatch):
    def fail(*arguments: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(server, "analyse", fail)
    _, answer = answered(address, UPLOAD, b'[["a.png", 1]]\nx')
    assert answer == {"error": "a.png: something went wrong; the terminal of duchenne studio has the details"}


def explained(model: Model, folder: Path, monkeypatch: pytest.MonkeyPatch, maps: dict[str, Tensor]) -> dict:
    """The result of a clip of six frames whose network has these maps."""
    own = model.network
    named = {name: f"{name}\nof it" for name in maps if not name.startswith("frames_")}
    monkeypatch.setattr(own, "facts", replace(own.facts, maps=named))
    monkeypatch.setattr(own, "explain", lambda x: maps)
    for k in range(1, 7):
        marked(folder / f"{k}.png", {10 + k // 2: 1.0})
    *_, last = analyse(model, folder, "my clip", Options())
    (face,) = last["result"]["faces"]
    assert face["crop"].startswith("data:image/jpeg")
    assert face["landmarks"] != face["crop"]
    assert sum(each["share"] for each in face["probabilities"]) == pytest.approx(1)
    return last["result"]


def test_a_clip_shows_when_and_where_the_network_looks(models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    maps = {"attention_static": torch.rand(1, 2, 7, 7), "frames_static": torch.tensor([[0.0, 3.0]])}
    (face,) = explained(models["tiny_clip/fold_1"], tmp_path, monkeypatch, maps)["faces"]
    tiles = face["maps"]["tiles"]
    assert [(tile["part"], tile["name"]) for tile in tiles] == [
        ("attention_static of it", f"frame {k}") for k in (1, 4)
    ]
    assert "<svg" in face["curve"]
    assert face["about"] == "frames 1 to 6"


def test_a_pair_shows_its_motion(models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    maps = {"displacement": torch.ones(1, 2, 224, 224), "full_face": torch.rand(1, 14, 14)}
    result = explained(models["tiny_pair/fold_1"], tmp_path, monkeypatch, maps)
    assert result["displacement"].startswith("data:image/jpeg")
    (face,) = result["faces"]
    assert [tile["name"] for tile in face["maps"]["tiles"]] == ["full_face of it"]
    assert face["about"].startswith("onset: frame 1, apex: frame ")
    assert "assumed to be the onset" in face["note"]


@pytest.mark.parametrize("name", ["tiny_clip", "tiny_pair"])
def test_a_network_without_maps_shows_the_face(models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    (face,) = explained(models[f"{name}/fold_1"], tmp_path, monkeypatch, {})["faces"]
    assert face.keys() & {"maps", "curve"} == set()


def test_frames_are_not_kept(models, tmp_path: Path):
    model, image = models["tiny/fold_1"], np.full((100, 160, 3), 50, np.uint8)
    look, frame = _Look(model, tmp_path), weakref.ref(image)
    row = {"kind": "frame", "track": 0, "emotion": "anger", "probabilities": {"anger": 1.0}, "time": 0.0}
    look.frame(Source("a", "camera", 0), image, [row | {"box": [5, 10, 45, 50], "score": 1.0}])
    look.close()
    del image
    assert frame() is None
    assert look.best[0][1].crop.shape == (224, 224, 3)


@pytest.mark.parametrize("name", NAMES)
def test_aligned_faces_are_not_numbered_and_the_rows_are_those_of_the_command(tmp_path: Path, name: str):
    model = Model(fold_of(tmp_path / "fold", name, Faces(mode="aligned", size=64)))
    clip = scene(tmp_path / "a.avi", 5, [])
    *_, last = analyse(model, clip, "a, b.avi", Options())
    assert [face["title"] for face in last["result"]["faces"]] == ["Face"]
    rows = [row | {"source": "a, b.avi"} for row in model.stream(clip, Options())]
    Csv(tmp_path / "rows.csv", model.classes, 0).write(rows)
    assert last["result"]["csv"] == (tmp_path / "rows.csv").read_text(encoding="utf-8")


def test_folds_are_listed_and_damaged_ones_left_out(project: Path, caplog: pytest.LogCaptureFixture):
    assert list(server.trained_folds(Workspace(project))) == [f"{name}/fold_1" for name in NAMES]
    assert "card.json is damaged" in caplog.text
