"""Files made to do harm: each kind gets one clear message at once, and none runs or opens anything else."""

from __future__ import annotations

import gc
import io
import json
import math
import os
import pickle
import re
import socket
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, get_type_hints

import av
import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import training_networks  # noqa: F401  (registers the tiny networks)
from datasets_tools import (
    CASME2,
    casme2,
    cropped,
    ferv39k,
    frames,
    index,
    picture,
    raf,
    samm,
    smic,
    text,
)
from export_tools import fold_of
from faces_tools import video
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save_file

from duchenne import config
from duchenne.blocks import Strict
from duchenne.cli import app
from duchenne.commands.common import readable_errors
from duchenne.datasets import bounds
from duchenne.datasets.layouts import manifest
from duchenne.datasets.problems import IndexProblems
from duchenne.datasets.sample_files import find_samples
from duchenne.datasets.settings import Dataset
from duchenne.errors import UserError, printable
from duchenne.faces.settings import Faces
from duchenne.landmark_net.settings import LandmarkNet
from duchenne.media.frames import read_frames
from duchenne.media.images import FORMATS, ImageError, read_image
from duchenne.models.contract import create
from duchenne.models.official import read_official
from duchenne.prediction.sources import Source, expand, read_picture
from duchenne.protocol import Protocol
from duchenne.reporting.settings import Report
from duchenne.synth.settings import Synth
from duchenne.training.calibration import temperature_of
from duchenne.training.errors import TrainingError
from duchenne.training.settings import Clip, Compute, FoldResources, Recipe, Variant
from duchenne.training.trained import load_trained
from duchenne.workspace import Workspace

NOT_OPENED = "is a device, a pipe or a socket, which is not opened"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: int | None = None, extra: bytes = b"", depth: int = 8, colour: int = 2) -> bytes:
    """A black PNG; ``rows`` of it are there."""
    row = bytes(1 + width * {0: 1, 2: 3}[colour] * depth // 8)
    data = zlib.compress(row * (height if rows is None else rows), 1)
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def saved(kind: str, mode: str = "RGB", size: tuple[int, int] = (64, 64), **options: object) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, kind, **options)
    return file.getvalue()


def changed(data: bytes, at: bytes, offset: int, new: bytes) -> bytes:
    place = data.index(at) + offset
    return data[:place] + new + data[place + len(new) :]


def scans() -> bytes:
    data = saved("JPEG", "L", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * 200 + b"\xff\xd9"


def tags() -> bytes:
    """A JPEG whose EXIF has 5000 entries that lie outside of it."""
    entries = b"".join(struct.pack("<HHII", 0x9000 + i, 4, 2**30, 8) for i in range(5000))
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 5000) + entries
    data = saved("JPEG")
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


MANY = {"save_all": True, "append_images": [Image.new("RGB", (64, 64), (k, 0, 0)) for k in range(1, 30)]}
PICTURES: dict[str, tuple[Callable[[], bytes], str]] = {
    "one pixel": (lambda: png(1, 1), ""),
    "65,500 px wide": (lambda: png(65_500, 1), ""),
    "65,500 px wide, JPEG": (lambda: saved("JPEG", size=(65_500, 1)), ""),
    "no pixel": (lambda: png(0, 0), "is not an image"),
    "bomb by its header": (lambda: png(150_000, 150_000, rows=1), "over the limit of 10 megapixels"),
    "one wide, 2^31 high": (lambda: png(1, 2**31 - 1, rows=1), "over the limit of 10 megapixels"),
    "bomb of the allowed size": (lambda: png(4000, 4000), "is 4000 x 4000 px, over the limit of 10 megapixels"),
    "compressed text of 5 MB": (
        lambda: png(8, 8, extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(5 * 10**6)))), "too large"
    ),
    "colour profile of 5 MB": (
        lambda: png(8, 8, extra=chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(5 * 10**6)))), "too large"
    ),
    "more pixels than its size": (lambda: png(64, 64, rows=10_000), ""),
    "16 bits": (lambda: png(300, 300, depth=16), ""),
    "animated PNG": (lambda: saved("PNG", **MANY), ""),
    "animated WebP": (lambda: saved("WEBP", **MANY), ""),
    "animated GIF": (lambda: saved("GIF", **MANY), ""),
    "GIF, huge canvas": (
        lambda: changed(saved("GIF", "P"), b"GIF8", 6, struct.pack("<HH", 60_000, 60_000)), "over the limit"
    ),
    "JPEG that says 65,535 px": (
        lambda: changed(saved("JPEG"), b"\xff\xc0", 5, struct.pack(">HH", 65_535, 65_535)), "over the limit"
    ),
    "JPEG of 200 scans": (scans, "has more than 100 scans"),
    "EXIF of 5000 entries": (tags, ""),
    "EXIF turned by 65535": (lambda: saved("JPEG", exif=_exif(65_535)), ""),
    "CMYK": (lambda: saved("JPEG", "CMYK"), ""),
    "palette": (lambda: saved("PNG", "P"), ""),
    "transparent": (lambda: saved("WEBP", "RGBA"), ""),
    "floating point": (lambda: saved("TIFF", "F"), "floating-point"),
    "EPS, which would start Ghostscript": (
        lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/tmp/x) (w) file\n", "is not an image"
    ),
    "icon with a PNG inside": (
        lambda: struct.pack("<HHHBBBBHHII", 0, 1, 1, 64, 64, 0, 0, 1, 32, 100, 22) + png(10**5, 10**5, rows=1),
        "is not an image",
    ),
    "ICNS": (lambda: saved("ICNS"), "is not an image"),
    "DDS": (lambda: saved("DDS"), "is not an image"),
    "C source (XBM)": (
        lambda: b"#define a_width 8\n#define a_height 8\nstatic char a_bits[] = {0" + b",0" * 7 + b"};",
        "is not an image",
    ),
    "SVG that names a file": (lambda: b'<svg><image href="file:///etc/passwd"/></svg>', "is not an image"),
    "JPEG and PDF at once": (lambda: saved("JPEG") + b"%PDF-1.4 <script>", ""),
    "ZIP": (lambda: b"PK\x03\x04" + bytes(100), "is not an image"),
    "gzip": (lambda: b"\x1f\x8b" + bytes(100), "is an archive"),
    "JPEG with zeros before its size": (
        lambda: saved("JPEG")[:2] + b"\xff" + bytes(10**6) + saved("JPEG")[2:], "more than 10,000 parts"
    ),
    "JPEG of 20,000 comments": (
        lambda: saved("JPEG")[:2] + b"\xff\xfe\0\x04ab" * 20_000 + saved("JPEG")[2:], "more than 10,000 parts"
    ),
    "PPM with a comment of 1 MB": (
        lambda: b"P6\n#" + b"x" * 10**6 + b"\n8 8\n255\n" + bytes(192), "does not state its size"
    ),
    "PPM with a comment": (lambda: b"P6\n# made by x\n8 8 # px\n255\n" + bytes(192), ""),
    "number of a million digits": (lambda: b"P3\n8 8\n255\n" + b"9" * 10**6, "too long"),
}  # fmt: skip


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures(kind: str, tmp_path: Path, recwarn: pytest.WarningsRecorder):
    make, reason = PICTURES[kind]
    path = tmp_path / "a.jpg"  # whatever it is
    path.write_bytes(make())
    if reason:
        with pytest.raises(ImageError, match=reason):
            read_image(path, 10)
    else:
        image, notes = read_picture(Source("a", "image", path), 10)
        assert image.dtype == np.uint8
        assert image.shape[2] == 3
        assert bool(notes) == kind.startswith("animated")


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read_whatever_its_name(kind: str, tmp_path: Path):
    Image.new("RGB", (64, 48), (200, 30, 40)).save(tmp_path / "a.png", kind)
    (tmp_path / "manifest.csv").write_text("path,label\na.png,anger\n")
    assert len(index("manifest", tmp_path, classes=["happiness", "anger"]).rows) == 1
    image = read_image(tmp_path / "a.png")
    assert image.shape == (48, 64, 3)
    assert np.abs(image[24, 32] - np.array([200, 30, 40])).max() <= 8


MARKERS = [i for i, (a, b) in enumerate(zip(saved("JPEG"), saved("JPEG")[1:], strict=False)) if a == 0xFF and b]


@pytest.mark.parametrize("place", MARKERS[:-1])
def test_a_jpeg_truncated_in_any_marker(place: int):
    for end in (place + 1, place + 2, place + 3):
        with pytest.raises(ImageError, match=r"^(cannot be read|is not an image|is empty)"):
            read_image(io.BytesIO(saved("JPEG")[:end]))


def films(path: Path, *pictures: bytes) -> Path:
    """An AVI of 64 x 64 px whose frames are these JPEG files."""
    with av.open(path, "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p"
        for number, data in enumerate(pictures):
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 25)
            container.mux(packet)
    return path


def _film(folder: Path, change: Callable[[bytes], bytes] = bytes, name: str = "film.mp4") -> bytes:
    return change(video(folder / name).read_bytes())


def _large_frame(folder: Path) -> bytes:
    return films(folder / "film.avi", saved("JPEG"), saved("JPEG", "L", (4000, 4000))).read_bytes()


def _with_cover(folder: Path) -> bytes:
    """A video whose header has the picture of its cover before its frames."""
    film = _film(folder)
    picture = _box(b"covr", _box(b"data", struct.pack(">II", 13, 0) + saved("JPEG")))
    owner = _box(b"hdlr", struct.pack(">II4s4sIIB", 0, 0, b"mdir", b"appl", 0, 0, 0))
    cover = _box(b"udta", _box(b"meta", bytes(4) + owner + _box(b"ilst", picture)))
    at = film.index(b"moov")
    size = int.from_bytes(film[at - 4 : at]) + len(cover)
    return film[: at - 4] + struct.pack(">I", size) + b"moov" + cover + film[at + 4 :]


def _box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", 8 + len(data)) + kind + data


VIDEOS: dict[str, tuple[Callable[[Path], bytes], int, str]] = {
    "a billion frames by its header": (
        lambda d: _film(d, lambda b: changed(b, b"avih", 24, struct.pack("<I", 10**9)), "film.avi"), 12, ""
    ),
    "a billion frames in a list": (
        lambda d: _film(d, lambda b: changed(b, b"stsz", 12, struct.pack(">I", 10**9))), 0, "damaged or cut off"
    ),
    "a billion frames of one size": (
        lambda d: _film(d, lambda b: changed(b, b"stsz", 8, struct.pack(">II", 9, 10**9))), 0, "no frame|cannot be"
    ),
    "a billion times": (
        lambda d: _film(d, lambda b: changed(b, b"stts", 8, struct.pack(">I", 10**9))), 0, "Cannot allocate memory"
    ),
    "an unknown coding": (
        lambda d: _film(d, lambda b: changed(b.replace(b"FMP4", b"ZZZZ"), b"strf", 24, b"ZZZZ"), "film.avi"), 0,
        "not decode here"
    ),
    "a cover first": (_with_cover, 12, ""),
    "frames of other sizes": (
        lambda d: films(d / "f.avi", *(saved("JPEG", size=(s, s)) for s in (64, 16, 300))).read_bytes(), 3, ""
    ),
    "a frame larger than the header says": (_large_frame, 1, "has a frame 1 of 4000 x 4000 px, over the limit"),
    "playlist of another file": (
        lambda d: f"#EXTM3U\n#EXTINF:1,\nfile://{video(d / 'f.mp4')}\n#EXT-X-ENDLIST\n".encode(), 0, "kind that is read"
    ),
    "playlist of an address": (lambda d: b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n", 0, "kind that is read"),
    "list of other files": (
        lambda d: f"ffconcat version 1.0\nfile {video(d / 'f.mp4').name}\n".encode(), 0, "kind that is read"
    ),
    "list of itself": (lambda d: b"ffconcat version 1.0\n" + b"file a.mp4\n" * 10, 0, "kind that is read"),
    "session description": (lambda d: b"v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n", 0, "kind that is read"),
    "text": (lambda d: b"hello\n" * 1000, 0, "kind that is read"),
    "text with colours": (lambda d: b"\x1b[31mhello\n" * 1000, 0, "kind that is read"),
    "subtitles": (lambda d: b"1\n00:00:00,000 --> 00:00:01,000\nhello\n\n" * 50, 0, "kind that is read"),
    "a picture": (lambda d: png(64, 64), 0, "kind that is read"),
    "a GIF": (lambda d: saved("GIF", **MANY), 30, ""),
    "a web page": (lambda d: b"<!DOCTYPE html><html>", 0, "is a web page"),
    "nothing": (lambda d: b"", 0, "is empty"),
}  # fmt: skip


@pytest.mark.parametrize("kind", VIDEOS)
def test_videos(kind: str, tmp_path: Path):
    make, count, reason = VIDEOS[kind]
    path = tmp_path / "a.mp4"
    path.write_bytes(make(tmp_path))
    frames = [frame for _, frame in read_frames(path, "video", 10)]
    errors = [str(frame) for frame in frames if isinstance(frame, ImageError)]
    assert len(frames) - len(errors) == count
    if reason:
        assert len(errors) == 1
        assert any(word in errors[0] for word in reason.split("|")), errors
    else:
        assert len(errors) <= 1  # what the header promised and the file does not hold


def test_few_frames_of_a_video_are_in_memory(tmp_path: Path):
    """PyAV's frames can be part of a reference cycle: then they stay until Python looks for cycles."""
    path = video(tmp_path / "film.mp4", count=30)
    gc.collect()
    gc.disable()
    try:
        frames = read_frames(path, "video", 10)
        for _ in range(30):
            next(frames)
        there = sum(type(each) is av.VideoFrame for each in gc.get_objects())
    finally:
        gc.enable()
    assert there <= 5


def test_a_name_like_an_address_is_a_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    video(tmp_path / "other.mp4", count=3)
    Path("concat:other.mp4").write_bytes(video(tmp_path / "film.mp4").read_bytes())
    assert len(list(read_frames(Path("concat:other.mp4"), "video", 10))) == 12


@pytest.mark.parametrize("name", ["a.jpg", "a.mp4", "a"])
@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "link to a device", "link to the kernel"])
def test_what_is_no_file_is_not_opened(kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / name
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as end:
                end.bind(name)
        case "device":
            path = Path("/dev/zero")
        case "link to a device":
            path.symlink_to("/dev/zero")
        case "link to the kernel":  # a regular file of size 0, by what the system says; root can wait for it forever
            kernel = Path("/proc/kmsg" if os.access("/proc/kmsg", os.R_OK) else "/proc/version")
            if not kernel.exists():
                pytest.skip("not Linux")
            path.symlink_to(kernel)
            found = find_samples(tmp_path, [name])[0].problem
            assert found or name == "a.mp4"
    [source] = expand(str(path), "image")
    if source.kind == "image":
        with pytest.raises(ImageError, match=NOT_OPENED):
            read_picture(source, 10)
    else:
        [(_, error)] = read_frames(path, "video", 10)
        assert NOT_OPENED in str(error)
    with pytest.raises(UserError, match=NOT_OPENED):
        read_official(path)
    with pytest.raises(UserError, match=NOT_OPENED):
        config.load(path)


OK = "path,label,subject\na.png,happiness,s1\n"
TABLES: dict[str, tuple[Callable[[], bytes | str], str]] = {
    "formulas": (lambda: OK.replace("s1", "=cmd|' /C calc'!A0"), ""),
    "zero bytes": (lambda: OK.replace("s1", "s\0"), "holds zero bytes"),
    "a cell of 10 MB": (lambda: OK.replace("s1", "x" * 10**7), "row that begins in line 2 is not CSV: field larger"),
    "a label of 100 KB": (lambda: OK.replace("happiness", "x" * 10**5), "is none of the classes"),
    "a path of 100 KB": (lambda: OK.replace("a.png", "x/" * 50_000), "is longer than a path may be"),
    "a number of 100 KB": (lambda: f"path,label,onset\na.png,anger,{'9' * 10**5}\n", "onset: "),
    "a million columns": (lambda: "path,label" + ",c" * 10**6 + "\n", "has 1,000,002 columns, over the limit of 5,000"),
    "20,000 columns": (lambda: ",".join(f"c{i}" for i in range(20_000)) + "\n", "over the limit of 5,000"),
    "a quote never closed": (lambda: OK + 'b.png,"anger\n' + "x\n" * 100, "begins in line 3 .* never closed"),
    "a quote never closed, long": (lambda: OK + 'b.png,"anger\n' + "x\n" * 10**5, "begins in line 3 .* never closed"),
    "zero bytes, UTF-16": (lambda: OK.replace("s1", "s\0").encode("utf-16"), "holds zero bytes"),
    "UTF-32": (lambda: OK.encode("utf-32"), "holds zero bytes: .* or UTF-32: save it as UTF-8"),
    "UTF-16 cut": (lambda: b"\xff\xfe" + OK.encode("utf-16-le") + b"x", "begins as UTF-16 text and is not"),
    "surrogates": (lambda: OK.encode() + b"\xed\xa0\x80.png,anger,s\n", "neither UTF-8, UTF-16 nor GB 18030"),
    "a JPEG": (lambda: saved("JPEG"), "neither UTF-8"),
    "2,000 unknown labels": (
        lambda: "path,label\n" + "".join(f"a.png,l{i}\n" for i in range(2000)), r"is none of .* \(2000 times\)"
    ),
    "paths out of the root": (
        lambda: "path,label\n../a.png,anger\nx/../../a.png,anger\n/etc/passwd,anger\n~/a.png,anger\n..\\a.png,anger\n",
        "leads out of the dataset's root",
    ),
    "addresses": (lambda: "path,label\nfile:///etc/passwd,anger\nhttp://x/y.png,anger\n", "no such file"),
    "numbers that are none": (lambda: "path,label,onset\na.png,anger,1e308\n", "is too large"),
    "infinite numbers": (lambda: "path,label,apex\na.png,anger,inf\n", "is not a number"),
    "a face box of 1e300": (lambda: "path,label,x0,y0,x1,y1\na.png,anger,0,0,1e300,1e300\n", "not within 1,000,000 px"),
    "a face box of 1e-300": (lambda: "path,label,x0,y0,x1,y1\na.png,anger,0,0,1e-300,9\n", "less than 1 px wide"),
    "a trillion frames a second": (lambda: "path,label,fps\na.png,anger,1e12\n", "must not be above 1,000,000"),
}  # fmt: skip


def indexed(root: Path, **more: object) -> str:
    """What is wrong with a manifest; empty: nothing."""
    picture(root / "a.png")
    try:
        index("manifest", root, classes=["happiness", "anger"], **more)
    except IndexProblems as problems:
        return str(problems)
    return ""


@pytest.mark.parametrize("kind", TABLES)
def test_tables(kind: str, tmp_path: Path):
    make, reason = TABLES[kind]
    content = make()
    (tmp_path / "manifest.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    said = indexed(tmp_path)
    assert len(said) < 20_000
    if reason:
        with pytest.raises(UserError, match=f"(?s){reason}"):
            raise UserError(said)
    else:
        assert not said


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _bomb(path: Path) -> None:
    """40 MB of zeros in a workbook of a few kB."""
    openpyxl.Workbook().save(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("xl/more.xml", "w") as file:
        for _ in range(40):
            file.write(bytes(10**6))


def _far(path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["path", "label"])
    book.active["XFD1048576"] = "x"  # its reader would take 500 GB for the rectangle
    book.save(path)


def _twice(path: Path) -> None:
    openpyxl.Workbook().save(path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("xl/workbook.xml", "x")


def _workbook(old: bytes, new: bytes) -> Callable[[Path], None]:
    """A sheet of two rows and columns with other bytes in its XML."""

    def write(path: Path) -> None:
        book = openpyxl.Workbook()
        book.active.append(["path", "label"])
        book.active.append(["a.png", "anger"])
        book.save(path.with_name("b.xlsx"))
        with zipfile.ZipFile(path.with_name("b.xlsx")) as whole, zipfile.ZipFile(path, "w") as other:
            for name in whole.namelist():
                data = whole.read(name)
                other.writestr(name, data.replace(old, new) if name.endswith("sheet1.xml") else data)

    return write


def _rows(path: Path) -> None:
    """A million rows in a few kB."""
    column = pa.array(["a.png"] * 10**6).dictionary_encode()
    pq.write_table(pa.table({"path": column, "label": column}), path)


def _long(path: Path) -> None:
    """20 MB of text, one cell of 1 MB repeated."""
    pq.write_table(pa.table({"path": ["a" * 10**6] * 20, "label": ["anger"] * 20}), path, compression="zstd")


def _odd(path: Path) -> None:
    pq.write_table(pa.table({"path": ["a.png"], "label": ["anger"], "x": [[b"\xff"]]}), path)


def _zero(path: Path) -> None:
    pq.write_table(pa.table({"path": ["a.png"], "label": ["anger"], "subject": ["s\0"]}), path)


def _zero_label(path: Path) -> None:
    """A zero byte was the mark of votes that are equal, whose rows are left out."""
    pq.write_table(pa.table({"path": ["a.png"], "label": ["\0"], "votes_anger": ["1"]}), path)


def _damaged(path: Path) -> None:
    pq.write_table(pa.table({"path": ["a.png"] * 99, "label": ["anger"] * 99}), path)
    data = path.read_bytes()
    path.write_bytes(data[:4] + bytes(56) + data[60:])


def _damaged_end(path: Path) -> None:
    """The label is required, and its pages are those of an optional column: PyArrow ended the process."""
    pq.write_table(pa.table({"path": ["a.png"] * 99, "label": ["anger"] * 99}), path)
    path.write_bytes(path.read_bytes().replace(b"%\2\x18\5label", b"%\0\x18\5label"))


def _kinds(path: Path) -> None:
    """Kinds of cells that databases write."""
    more = {"fps": [Decimal("25.5")], "subject": [datetime(2024, 3, 1, tzinfo=UTC)]}
    pq.write_table(pa.table({"path": ["a.png"], "label": ["anger"], **more}), path)


FILES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "pipe": ("m.csv", _pipe, "is not a file but a folder, a device, a pipe or a socket"),
    "device": ("m.csv", lambda path: path.symlink_to("/dev/zero"), "is not a file but a folder, a device"),
    "link to itself": ("m.csv", lambda path: path.symlink_to(path), "there is no such manifest|leads to itself"),
    "folder": ("m.csv", Path.mkdir, "is not a file but a folder"),
    "larger than any table": ("m.csv", lambda path: os.truncate(_touched(path), 2 * 10**9), "has 2,000 MB"),
    "workbook, unpacked large": ("m.xlsx", _bomb, "has 40 MB unpacked, over the limit"),
    "workbook, one cell far away": ("m.xlsx", _far, "has 16,384 columns"),
    "workbook, a column in small letters": ("m.xlsx", _workbook(b'"B2"', b'"xfd1048576"'), "has 16,384 columns"),
    "workbook, a column of seven letters": ("m.xlsx", _workbook(b'"B2"', b'"ZZZZZZZ2"'), "columns, over the limit"),
    "workbook, row 99,999,999": ("m.xlsx", _workbook(b'"B2"', b'"B99999999"'), "has 99,999,999 rows"),
    "workbook, cells without a place": ("m.xlsx", _workbook(b"</row>", b"<c/>" * 16_000 + b"</row>"), "16,002 columns"),
    "workbook, a part twice": ("m.xlsx", _twice, "is not an Excel file"),
    "workbook that is none": ("m.xlsx", lambda path: path.write_text(OK), "is not an Excel file (.xlsx), although"),
    "Parquet of too many cells": ("m.parquet", _rows, "over the limit of 1,000,000 cells"),
    "Parquet of too much text": ("m.parquet", _long, "holds more than 10 MB of text"),
    "Parquet of bytes in lists": ("m.parquet", _odd, ""),
    "Parquet with a zero byte": ("m.parquet", _zero, "the column 'subject' holds a zero byte in row 1: remove it"),
    "Parquet with a zero byte as a label": ("m.parquet", _zero_label, "the column 'label' holds a zero byte in row 1"),
    "Parquet of decimals and dates": ("m.parquet", _kinds, ""),
    "Parquet damaged in its end": ("m.parquet", _damaged_end, "is not a Parquet file, or is damaged"),
    "Parquet damaged": ("m.parquet", _damaged, "is not a Parquet file, or is damaged"),
}


def _touched(path: Path) -> Path:
    path.touch()
    return path


@pytest.mark.parametrize("kind", FILES)
def test_manifests_that_are_no_text(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bounds, "CELLS", 10**6)  # smaller limits, for small files
    monkeypatch.setattr(bounds, "UNPACKED", 10**7)
    monkeypatch.setattr(manifest, "BYTES", 10**7)
    name, make, reason = FILES[kind]
    picture(tmp_path / "root" / "a.png")
    make(tmp_path / name)
    said = indexed(tmp_path / "root", manifest=str(tmp_path / name))
    assert any(part in said for part in reason.split("|")) if reason else not said


def npy(header: str, data: bytes = bytes(8)) -> bytes:
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + data


def _affectnet(code: bytes) -> Callable[[Path], object]:
    def write(root: Path) -> None:
        cropped(root)
        (root / "train_set/annotations/1_exp.npy").write_bytes(code)

    return write


def _affectnet_pipe(root: Path) -> None:
    _affectnet(b"")(root)
    (root / "train_set/annotations/1_exp.npy").unlink()
    os.mkfifo(root / "train_set/annotations/1_exp.npy")


AFFECTNET = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"


def _affectnet_lists(*lines: str) -> Callable[[Path], object]:
    def write(root: Path) -> None:
        picture(root / "Manually_Annotated_Images/1/a.jpg")
        text(root / "Manually_Annotated_file_lists/training.csv", lines)
        text(root / "Manually_Annotated_file_lists/validation.csv", [AFFECTNET])

    return write


def _raf_attributes(content: str) -> Callable[[Path], object]:
    return lambda root: text(raf(root) / "basic/Annotation/manual/train_00001_manu_attri.txt", content)


def _raf_pipe(root: Path) -> None:
    _raf_attributes("x")(root)
    (root / "basic/Annotation/manual/train_00001_manu_attri.txt").unlink()
    os.mkfifo(root / "basic/Annotation/manual/train_00001_manu_attri.txt")


def _fer_plus(content: bytes) -> Callable[[Path], object]:
    def write(root: Path) -> None:
        for part in ("Train", "Valid", "Test"):
            picture(root / f"FER2013{part}/{part}.png")
            (root / f"FER2013{part}/label.csv").write_bytes(content.replace(b"#", part.encode()))

    return write


def _ferv39k_scene(root: Path) -> None:
    """A scene whose name was no JSON in the factors of its clips."""
    ferv39k(root)
    frames(root / '2_ClipsforFaceCrop/Ac"tion/Happy/0001', range(8))
    text(root / "4_setups/All_scenes/train_All.csv", ['Ac"tion/Happy/0001 Happy'])


def _megc2019(root: Path) -> None:
    casme2(root / "casme2", CASME2)
    samm(root / "samm", [("006", "006_1_2", 5562, 5580, 5632, "4", "Anger")])
    smic(root / "smic", ["s01_ne_01"])
    text(root / "combined_3class_gt.csv", [f"smic,s{'9' * 5000},s01_ne_01,0"])


LAYOUTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "AffectNet, no type": ("affectnet_8", _affectnet(npy("{}")), "holds no expression code"),
    "AffectNet, no header": ("affectnet_8", _affectnet(npy("{1}")), "holds no expression code"),
    "AffectNet, a date": ("affectnet_8", _affectnet(npy("{'descr': '<M8[s]'}")), "holds no expression code"),
    "AffectNet, a record": ("affectnet_8", _affectnet(npy("{'descr': [('a', '<f8')]}")), "holds no expression code"),
    "AffectNet, a pipe": ("affectnet_8", _affectnet_pipe, "annotations/1_exp.npy"),
    "AffectNet, more cells": (
        "affectnet_8", _affectnet_lists(AFFECTNET, "1/a.jpg,1,2,3,4,x,1,0,0,0,0"), "is not a comma-separated table"
    ),
    "AffectNet, many columns": ("affectnet_8", _affectnet_lists(AFFECTNET + ",c" * 9999), "has 10,008 columns, over"),
    "AffectNet, an infinite valence": ("affectnet_8", _affectnet_lists(AFFECTNET, "1/a.jpg,1,2,3,4,x,1,1e400,1"), ""),
    "RAF-DB, 5000 digits": ("raf_db", _raf_attributes("0 0 " + "9" * 5000), ""),
    "RAF-DB, a pipe": ("raf_db", _raf_pipe, NOT_OPENED),
    "FER2013, a short row": (
        "fer2013", lambda root: text(root / "fer2013.csv", ["pixels,emotion,usage", "7 " * 2303 + "7"]),
        "label: is empty",
    ),
    "FER+, more cells": ("ferplus", _fer_plus(b'#.png,"(0, 0, 48, 48)",9' + b",0" * 11), "has 14 cells, expected 12"),
    "FER+, Latin-1": ("ferplus", _fer_plus(b'\xff\xff.png,"(0, 0, 48, 48)",9' + b",0" * 9), "is neither UTF-8"),
    "FER+, an infinite vote": ("ferplus", _fer_plus(b'#.png,"(0, 0, 48, 48)",inf' + b",0" * 9), "is not a number of"),
    "FERV39k, a quote in a scene": ("ferv39k", _ferv39k_scene, ""),
    "MEGC 2019, 5000 digits": ("megc2019", _megc2019, "is in no table of the three sets"),
}  # fmt: skip


@pytest.mark.parametrize("kind", LAYOUTS)
def test_lists_of_the_layouts(kind: str, tmp_path: Path):
    name, make, reason = LAYOUTS[kind]
    make(tmp_path)
    layout = {"affectnet_8": "affectnet", "ferplus": "fer2013"}.get(name, name)
    if reason:
        with pytest.raises((IndexProblems, OSError), match=re.escape(reason)):
            index(layout, tmp_path, label_set=name)
        return
    for factors in index(layout, tmp_path, label_set=name).rows["factors"].dropna():
        json.loads(factors)


def test_a_name_that_is_not_utf8_is_a_problem_of_its_row(tmp_path: Path):
    picture(tmp_path / "anger" / "a.png")
    picture(tmp_path / "happiness" / "b.png")
    (tmp_path / "happiness" / "b.png").rename(tmp_path / "happiness" / os.fsdecode(b"b\xff.png"))
    with pytest.raises(IndexProblems, match=r"(?s)not UTF-8 text: rename it.*happiness/b\\xff\.png"):
        index("folder", tmp_path, classes=["happiness", "anger"])


def test_a_header_of_a_billion_frames_costs_no_memory(tmp_path: Path):
    film = video(tmp_path / "a.avi")
    film.write_bytes(changed(film.read_bytes(), b"avih", 24, struct.pack("<I", 10**9)))
    film.write_bytes(changed(film.read_bytes(), b"strh", 40, struct.pack("<I", 10**9)))
    (tmp_path / "manifest.csv").write_text("path,label,onset,apex,offset\na.avi,anger,0,3,9\n")
    assert len(index("manifest", tmp_path, classes=["happiness", "anger"]).rows) == 1


BASE = (
    "rendered: {}\nlandmark_nets: {}\nvariants: {}\ndatasets:\n"
    "  d: {layout: manifest, root: data, classes: [happiness, anger], faces: {size: 64}}\n"
)
RUN = BASE.replace("variants: {}\n", "") + (
    "variants:\n"
    "  v: {dataset: d, init_from: scratch, protocol: {kind: holdout}, model: {architecture: resnet18}, "
    "recipe: {epochs: 2, batch_size: 4, lr: 0.001}}\n"
)


def _options(options: str) -> str:
    return RUN.replace("resnet18", f"resnet18, options: {{{options}}}")


PARAMS: dict[str, tuple[str | bytes, str]] = {
    "a run that starts from itself": (RUN.replace("scratch", "v"), r"would start from itself \(v <- v\)"),
    "runs that start from each other": (
        RUN.replace("scratch", "w") + RUN[RUN.index("  v:") :].replace("v:", "w:", 1).replace("scratch", "v"),
        r"variants.v.init_from: it would start from itself \(v <- w <- v\)",
    ),
    "a folder of the report as a name": (RUN.replace("  v:", "  across:"), "'across' cannot be run: reports/across"),
    "a truth value as a number": (RUN.replace("epochs: 2", "epochs: true"), "recipe.epochs: true is a truth value"),
    "a truth value in a list": (RUN.replace("lr: 0.001", "lr: 0.001, augment: {scale: [true, 1]}"), "scale: true is a"),
    "a truth value of YAML 1.1": ("%YAML 1.1\n---\n" + RUN.replace("epochs: 2", "epochs: on"), "true is a truth value"),
    "1e9 as an option": (_options("layers: [1000000000]"), "options: layers holds a number above 10,000"),
    "an option that is no number": (_options("drop_rate: .nan"), "drop_rate holds a number above 10,000, none"),
    "bytes as an option": (_options("stem_type: !!binary /w=="), "options: stem_type holds"),
    "an option that unpickles": (_options("checkpoint_path: a.pth"), "checkpoint_path would load other weights"),
    "a list as a label set": (BASE.replace("manifest", "raf_db, label_set: [x]"), "label_set: Input should be a valid"),
    "text as labels": (BASE.replace("manifest", "raf_db, labels: x"), "d.labels: Input should be a valid dictionary"),
    "a label in two cases": (
        BASE.replace("faces", "labels: {Smile: anger, smile: happiness}, faces"), "'Smile' and 'smile' are one word"
    ),
    "a class as a column of answers": (BASE.replace("happiness", "note"), "'note' is a column of a server's answers"),
    "aliases": ("a: &a [x, x]\nb: [*a, *a, *a]\n", "anchors and aliases"),
    "a tag that runs": (BASE + "x: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
    "a tag that names": (BASE + "x: !!python/name:os.system\n", "could not determine a constructor"),
    "a tag of one's own": (BASE + "x: !include /etc/passwd\n", "could not determine a constructor"),
    "1e9 as a size": (BASE.replace("64", "1000000000"), "faces.size: Input should be less than or equal to 1024"),
    "1e9 as jobs": (BASE + "compute: {jobs: 1000000000}\n", "compute.jobs: Input should be less"),
    "1e9 as resamples": (BASE + "report: {bootstrap: 1000000000}\n", "report.bootstrap: Input should be less"),
    "a number of 5000 digits": (BASE.replace("64", "9" * 5000), "is not valid YAML: Exceeds the limit"),
    "1e9 frames": (BASE.replace("{}", "{s: {kind: micro, subjects: 2, frames: [8, 1e9]}}", 1), "rendered.s.frames: "),
    "half a character": (BASE + '"\\ud800": 1\n', "surrogates not allowed"),
    "half a character in a note": (BASE + 'a: [{b: "\\udc00"}]\n', "surrogates not allowed"),
    "a zero byte by an escape": (BASE + 'a: "x\\0"\n', "holds a zero byte"),
    "20,000 lists inside each other": (BASE + "x: " + "[" * 20_000, "line 6: more than 50 blocks lie inside"),
    "1000 blocks inside each other": (
        BASE + "x:\n" + "".join(" " * i + "a:\n" for i in range(1, 1000)), "more than 50 blocks lie inside each other"
    ),
    "20 MB": ("#" * 20_000_000, "has 20 MB, over the limit of 2 MB"),
    "zero bytes": (BASE.replace("data", "da\0ta"), "special characters are not allowed"),
    "UTF-16": (BASE.encode("utf-16"), "can't decode byte"),
    "a block twice": (BASE + "datasets: {}\n", "duplicate key"),
    "two documents": (BASE + "---\na: 1\n", "found another document"),
    "markup as a name": (BASE.replace("  d:", '  "<script>":'), "'<script>' is not a valid name"),
    "a right-to-left mark": (BASE.replace("  d:", '  "a\u202eb":'), r"a\\u202eb"),
    "a name of 101 letters": (BASE.replace("  d:", f"  {'d' * 101}:"), "has 101 characters: a name has at most 100"),
    "a class of 101 letters": (BASE.replace("anger]", "a" * 101 + "]"), "has 101 characters: a class name has at most"),
    "a class of 1 MB of markup": (BASE.replace("anger]", '"' + "<" * 10**6 + '"]'), "is not a class name"),
    "markup as a class": (BASE.replace("anger]", '"<b>"]'), "'<b>' is not a class name"),
    "500 unknown keys": (BASE + "".join(f"k{i}: 1\n" for i in range(500)), "and 450 more"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PARAMS)
def test_params(kind: str, tmp_path: Path):
    content, reason = PARAMS[kind]
    path = tmp_path / "params.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(config.CatalogError, match=reason) as caught:
        config.load(path)
    assert len(str(caught.value)) < 10_000
    assert "\u202e" not in str(caught.value)


BLOCKS = (Synth, LandmarkNet, Recipe, Clip, Variant, Protocol, Compute, FoldResources, Report, Faces, Dataset)
FREE = {"limit", "ignore"}
"""Without a bound: more samples than there are cannot be used, and words may be numbers."""


def _takes(kind: TypeAdapter, value: object) -> bool:
    try:
        kind.validate_python(value)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("block", BLOCKS)
def test_every_whole_number_of_a_block_has_a_bound(block: type[Strict]):
    for name, field in block.model_fields.items():
        kind: TypeAdapter = TypeAdapter(Annotated[field.annotation, *field.metadata, ...])
        for one in (lambda number: number, lambda number: [number]):
            whole = any(_takes(kind, one(number)) for number in (1, 100, 1000)) and not _takes(kind, one(1.5))
            if whole and name not in FREE:
                assert not _takes(kind, one(10**10)), name


RENDERED = {"kind": "video", "subjects": 2}
RANGES = [name for name, field in Synth.model_fields.items() if field.annotation == tuple[float, float]]


@pytest.mark.parametrize("part", ["<si/>", '<c r="A1"/>'])
def test_a_workbook_is_checked_in_the_memory_of_its_largest_part(part: str, tmp_path: Path):
    count = 200_000
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
        archive.writestr("xl/sharedStrings.xml" if part == "<si/>" else "xl/sheet1.xml", "<row/>".join([part] * count))
    tracemalloc.start()
    bounds.require_workbook(tmp_path / "a.xlsx")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 4 * count * len(part + "<row/>")


@pytest.mark.parametrize("name", RANGES)
def test_every_range_of_a_rendered_set_has_bounds(name: str):
    for value in ([0.3, 1e9], [-1e9, 0.4]):
        with pytest.raises(ValidationError, match=rf"{name}\n.* is not within"):
            Synth.model_validate(RENDERED | {name: value})


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"subjects": 100_000, "per_class": 10_000}, "are 7,000,000,000 samples, over the limit of 1,000,000"),
        ({"seconds": [1, 3600], "fps": 200}, "are 720,000 frames a clip, over the limit of 100,000"),
        (
            {"subjects": 1000, "seconds": [1, 600]},
            "7,000 clips of up to 15,000 frames are over the limit of 10,000,000",
        ),
        ({"kind": "micro", "subjects": 1000, "frames": [8, 9000]}, "7,000 clips of up to 9,000 frames"),
        ({"kind": "image", "subjects": 100_000, "seconds": [1, 3600]}, ""),  # pictures have no length
        ({"seconds": [1, 3600]}, ""),
        ({"subjects": 10_000}, ""),
    ],
)
def test_a_rendered_set_can_be_large_and_not_endless(given: dict, reason: str):
    if not reason:
        Synth.model_validate(RENDERED | given)
        return
    with pytest.raises(ValidationError, match=reason):
        Synth.model_validate(RENDERED | given)


class Runs:
    """A pickle that would make a file."""

    def __reduce__(self) -> tuple:
        return open, ("ran", "w")


class Calls:
    """A pickle that would make a file by the shell."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch ran",)


def _packed(path: Path) -> None:
    torch.save({"a": torch.zeros(10**6)}, path.with_name("b.pth"))
    with zipfile.ZipFile(path.with_name("b.pth")) as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))


CHECKPOINTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "code": (lambda path: torch.save({"a": Runs()}, path), "entries that are not tensors: a"),
    "code in the old format": (
        lambda path: torch.save({"a": Runs()}, path, _use_new_zipfile_serialization=False), "entries that are not"
    ),
    "code, a plain pickle": (lambda path: path.write_bytes(pickle.dumps(Runs(), 2)), "not a file of PyTorch weights"),
    "code, protocol 4": (lambda path: path.write_bytes(pickle.dumps(Runs(), 4)), "not a file of PyTorch weights"),
    "code that calls the system": (
        lambda path: torch.save({"a": Calls()}, path), "it holds code or objects, which are not loaded"
    ),
    "tensors in a tensor": (
        lambda path: torch.save({"a": torch.nested.nested_tensor([torch.zeros(1), torch.zeros(2)])}, path),
        "not a plain tensor|not tensors",
    ),
    "one value for 1e12": (lambda path: torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, path), "not a plain"),
    "no values": (lambda path: torch.save({"a": torch.empty(10**6, 10**6, device="meta")}, path), "not a plain tensor"),
    "sparse": (
        lambda path: torch.save({"a": torch.zeros(2, 2).to_sparse()}, path), "not a plain tensor"
    ),
    "compressed": (_packed, "it is compressed, which PyTorch's files are not"),
    "one name twice": (
        lambda path: torch.save({"a": torch.zeros(1), "module.a": torch.zeros(1)}, path), "entries have the same name"
    ),
    "names that are no text": (lambda path: torch.save({("a", 1): torch.zeros(1)}, path), "names that are not text"),
    "a name of 1 MB": (lambda path: torch.save({"x" * 10**6: torch.zeros(1)}, path), "at most 1,000 characters"),
    "2,000 entries that are none": (
        lambda path: torch.save(dict.fromkeys(map(str, range(2000)), 1), path), "and 1980 more"
    ),
    "lists in lists": (lambda path: path.write_bytes(b"\x80\x02" + b"]" * 10**5 + b"."), "not a file of PyTorch"),
    "text of 4 GB by its header": (lambda path: path.write_bytes(b"\x80\x02X\xff\xff\xff\xffabc."), "not a file of"),
    "a web page": (lambda path: path.write_text("<html>cannot scan for viruses"), "is a web page"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_checkpoints(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make, reason = CHECKPOINTS[kind]
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "w.pth")
    with pytest.raises(UserError, match=reason) as caught:
        read_official(tmp_path / "w.pth")
    assert len(str(caught.value)) < 5000
    assert not (tmp_path / "ran").exists()


def header(length: int | None = None, **entries: object) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text


def tensor(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


WEIGHTS: dict[str, tuple[bytes, str]] = {
    "header of 2^63 bytes": (header(2**63), "header too large"),
    "header longer than the file": (header(99_000_000), "invalid header length"),
    "shape of 1e18": (header(a=tensor([10**9, 10**9], 0, 0)), "not a safetensors file, or damaged"),
    "shape that overflows": (header(a=tensor([2**33, 2**33], 0, 16)) + bytes(16), "not a safetensors file"),
    "two in one place": (header(a=tensor([4], 0, 16), b=tensor([4], 0, 16)) + bytes(16), "invalid offset"),
    "none of 1e18": (header(**{"head.weight": tensor([0, 10**18], 0, 0)}), "does not fit tiny"),
    "70 dimensions": (header(a=tensor([1] * 70, 0, 4)) + bytes(4), "not a plain tensor"),
    "8 bits": (header(a=tensor([4], 0, 4, "F8_E4M3")) + bytes(4), "not a plain tensor"),
    "a pickle": (pickle.dumps(Runs()), "not a safetensors file"),
    "a name of 1 MB": (header(**{"x" * 10**6: tensor([0], 0, 0)}), "at most 1,000 characters"),
    "500 other entries": (header(**{f"x{i}": tensor([0], 0, 0) for i in range(500)}), "and 402 more"),
}


@pytest.fixture
def fold(tmp_path: Path) -> Path:
    return fold_of(create("tiny", {}, 3), "tiny", tmp_path / "fold_1", size=64)


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_of_a_fold(kind: str, fold: Path):
    content, reason = WEIGHTS[kind]
    (fold / "weights.safetensors").write_bytes(content)
    with pytest.raises(TrainingError, match=reason) as caught:
        load_trained(fold)
    assert len(str(caught.value)) < 5000


def test_rounded_weights_of_a_fold(fold: Path):
    rounded = {"head.weight": torch.ones(3, 48, dtype=torch.int8), "head.bias": torch.zeros(3)}
    save_file(rounded, fold / "weights.safetensors")
    with pytest.raises(TrainingError, match=r"does not fit tiny:\n  head\.weight$"):
        load_trained(fold)


def test_weights_that_are_no_numbers(fold: Path):
    save_file(
        {"head.weight": torch.full((3, 48), torch.nan), "head.bias": torch.zeros(3)}, fold / "weights.safetensors"
    )
    with pytest.raises(TrainingError, match=r"head\.weight holds NaN"):
        load_trained(fold)


CARDS: dict[str, tuple[dict[str, object] | str, str]] = {
    "lists inside each other": ("[" * 100_000, "is damaged"),
    "a number of 100,000 digits": ('{"classes": ' + "9" * 100_000 + "}", "is damaged"),
    "an input of 1e18 px": ({"input_size": [3, 10**9, 10**9]}, "input_size.1: Input should be less"),
    "markup as a class": ({"classes": ["<script>alert(1)</script>", "b", "c"]}, "is not a class name"),
    "a class twice": ({"classes": ["a", "a", "b"]}, "a class is named twice"),
    "a lone surrogate": ({"classes": ["\ud800", "a", "b"]}, "is not a class name"),
    "a large network": ({"architecture": "vit_giant_patch14_224"}, "does not fit vit_giant_patch14_224"),
    "a network of an address": ({"architecture": "hf-hub:someone/model"}, "no network is called"),
    "a network of a folder": ({"architecture": "local-dir:/etc"}, "no network is called"),
    "a temperature of 1e-320": ({"calibration": {"temperature": 1e-320}}, "temperature: Input should be greater"),
    "an origin that is text": ({"imported": "x"}, "imported: Input should be a valid dict"),
    "an option of 1e9": ({"options": {"depth": 10**9}}, "its option depth has a number above 10,000"),
    "an input option of 1e6 px": (
        {"architecture": "vit_tiny_patch16_224", "options": {"img_size": 10**6}},
        "its option img_size has a number above",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CARDS)
def test_cards(kind: str, fold: Path):
    change, reason = CARDS[kind]
    card = json.loads((fold / "card.json").read_text())
    (fold / "card.json").write_text(change if isinstance(change, str) else json.dumps(card | change))
    with pytest.raises(TrainingError, match=reason):
        load_trained(fold)


def test_a_card_names_no_other_weights(fold: Path):
    card = json.loads((fold / "card.json").read_text())
    options = {"pretrained": True, "checkpoint_path": "/etc/passwd"}
    (fold / "card.json").write_text(json.dumps(card | {"options": options, "calibration": None}))
    _, card = load_trained(fold)
    assert temperature_of(card) == 1


def test_copies_of_folds_are_no_folds(tmp_path: Path):
    for name in ("fold_2", "fold_10", "fold_1 (copy)", "fold_old", "fold_٣", "fold_" + "9" * 100):
        (tmp_path / "models/x" / name).mkdir(parents=True)
    assert list(Workspace(tmp_path).folds("x")) == [2, 10]


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", '{"imported": "x"}', "\ufeff{}"])
def test_a_card_that_is_none_is_no_imported_network(content: str, tmp_path: Path):
    workspace = Workspace(tmp_path)
    workspace.fold("x", 1).mkdir(parents=True)
    (workspace.fold("x", 1) / "card.json").write_text(content)
    assert workspace.imported("x") is None


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda: pq.write_table(pa.table({}), "\udcff.parquet"), "\\udcff.parquet: the name is not UTF-8 text"),
        (lambda: Path("loop").resolve(strict=True), "loop"),
    ],
)
def test_a_path_that_libraries_cannot_use_is_one_message(
    use: Callable[[], object],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    with pytest.raises(SystemExit), readable_errors():
        use()
    assert said in capsys.readouterr().err


def test_no_number_of_a_command_is_infinite():
    """``inf`` MB ended `duchenne serve` with a traceback, ``inf`` cores the plan."""
    commands = [command for group in app.registered_groups for command in group.typer_instance.registered_commands]
    hints = [hint for command in commands for hint in get_type_hints(command.callback, include_extras=True).values()]
    numbers = [hint for hint in hints if hasattr(hint, "__metadata__") and hint.__origin__ in (float, float | None)]
    assert len(numbers) == 5
    assert all(hint.__metadata__[0].max < math.inf for hint in numbers)


def test_a_terminal_gets_no_commands():
    assert printable("gone \x1b]0;title\x07\u202egnp.\udcff\u3000\n中\t<b>") == (
        "gone \\x1b]0;title\\x07\\u202egnp.\\udcff\u3000\n中\t<b>"
    )
