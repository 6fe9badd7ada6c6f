"""Small trees in the owners' layouts: tiny pictures, and annotation files in exactly their formats."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import openpyxl
from PIL import Image

from duchenne.datasets.build import build_index
from duchenne.datasets.index import Index
from duchenne.datasets.settings import Dataset


@functools.cache
def encoded(kind: str = "JPEG", grey: int = 128) -> bytes:
    """A picture of 8 x 8 pixels as a file's bytes."""
    file = io.BytesIO()
    Image.new("L", (8, 8), grey).save(file, format=kind)
    return file.getvalue()


def picture(path: Path, grey: int = 128) -> Path:
    """A picture in the format that its ending names, whatever its case."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded({".png": "PNG", ".bmp": "BMP"}.get(path.suffix.lower(), "JPEG"), grey))
    return path


def pictures(root: Path, names: Iterable[str]) -> None:
    for name in names:
        picture(root / name)


def frames(folder: Path, numbers: Iterable[int], pattern: str = "img{}.jpg") -> None:
    for number in numbers:
        picture(folder / pattern.format(number))


def text(path: Path, content: str | Iterable[str], encoding: str = "utf-8", newline: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [content] if isinstance(content, str) else content
    path.write_bytes(newline.join(lines).encode(encoding))
    return path


def sheet(path: Path, rows: Sequence[Sequence[object]], merge: Sequence[str] = (), empty_first: bool = False) -> Path:
    """An Excel file; ``merge`` names ranges to merge, as A1:C1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    book = openpyxl.Workbook()
    page = book.active
    if empty_first:
        page = book.create_sheet("MICRO_ONLY")
    for row in rows:
        page.append(list(row))
    for cells in merge:
        page.merge_cells(cells)
    book.create_sheet("Sheet9")
    book.save(path)
    return path


def dataset(layout: str, root: Path, **more) -> Dataset:
    return Dataset(layout=layout, root=root, **more)


def index(layout: str, root: Path, **more) -> Index:
    return build_index(layout, dataset(layout, root, **more))


def by_sample(found: Index) -> dict[str, dict]:
    """Rows of an index by sample."""
    return {row["sample"]: row for row in found.rows.to_dict("records")}


def code_file(path: Path, value: object) -> Path:
    """An ``_exp.npy`` with one value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.array(value))
    return path


CASME2_2019 = (
    "Subject", "Filename", None, "OnsetFrame", "ApexFrame", "OffsetFrame", None, "Action Units", "Estimated Emotion",
    "Objective Classes",
)  # fmt: skip
"""The two columns without a name are the owners'."""

SAMM_HEADER = (
    "Subject", "Filename", "Inducement Code", "Onset Frame", "Apex Frame", "Offset Frame", "Duration", "Micro",
    "Action Units", "Estimated Emotion", "Objective Classes", "Notes",
)  # fmt: skip


def casme2(root: Path, rows: Sequence[Sequence[object]], edition: int = 2019, clips: bool = True) -> Path:
    """A coding table (Subject, Filename, onset, apex, offset, AUs, emotion) and the clips' three frames."""
    header = CASME2_2019 if edition == 2019 else CASME2_2019[:-1]
    last = (1,) if edition == 2019 else ()
    cells = [(s, f, None, on, apex, off, None, aus, emotion, *last) for s, f, on, apex, off, aus, emotion in rows]
    name = {2019: "CASME2-coding-20190701.xlsx", 2014: "CASME2-coding-20140508.xlsx"}[edition]
    sheet(root / name, [header, *cells])
    for subject, clip, on, apex, off, *_ in rows if clips else ():
        frames(root / f"CASME2_RAW_selected/sub{int(subject):02d}/{clip}", {on, (on + off) // 2, off} | {apex} - {"/"})
    return root


def samm(root: Path, rows: Sequence[Sequence[object]]) -> Path:
    """A FACS table (Subject, Filename, onset, apex, offset, AUs, emotion), 13 lines of notes first, and the clips."""
    notes = [(f"Note {i}",) for i in range(13)]
    cells = [
        (s, f, 1, on, apex, off, f"=SUM(F{i}-D{i})+1", "Micro - 1/2", aus, emotion, 3, None)
        for i, (s, f, on, apex, off, aus, emotion) in enumerate(rows, 15)
    ]
    sheet(root / "SAMM_Micro_FACS_Codes_v2.xlsx", [*notes, SAMM_HEADER, *cells], empty_first=True)
    for subject, clip, on, apex, off, *_ in rows:
        frames(
            root / f"SAMM/{subject}/{clip}",
            {on, (on + off) // 2, off} | ({apex} & {*range(on, off)}),
            subject + "_{:05d}.jpg",
        )
    return root


def smic(root: Path, clips: Sequence[str], first: int = 99_000, n: int = 5) -> Path:
    """Clips of the high-speed camera; frame numbers run over a power of ten, so that text order is wrong."""
    words = {"ne": "negative", "po": "positive", "sur": "surprise"}
    for clip in clips:
        subject, word, _ = clip.split("_")
        folder = root / "SMIC_all_raw/HS" / subject / "micro" / words[word] / clip
        frames(folder, range(first, first + n), "image{:06d}.bmp")
    return root


CASME2 = [("01", "EP90_01f", 46, 59, 86, 12, "happiness"), ("26", "EP90_02", 6, 49, 86, "4+7", "disgust")]
"""Two rows of a coding table."""
RAF = ["train_00001.jpg 5", "train_00003.jpg 4", "test_0001.jpg 7", "test_3068.jpg 1"]


def raf(root, lines=RAF, form="aligned", name="list_patition_label.txt", **more):
    text(root / "basic/EmoLabel" / name, lines, **more)
    suffix = "_aligned.jpg" if form == "aligned" else ".jpg"
    pictures(root / "basic/Image" / form, [line.split()[0][:-4] + suffix for line in lines])
    return root


def cropped(root, codes=((1, "0"), (22, "7"), (333, "3")), evaluation="val_set"):
    for part in ("train_set", evaluation):
        for number, code in codes:
            picture(root / part / f"images/{number}.jpg")
            code_file(root / part / f"annotations/{number}_exp.npy", code)
            code_file(root / part / f"annotations/{number}_val.npy", "0.3")
    return root


DFEW = {2522: 6, 7: 1, 15: 7, 16: 3, 11000: 4}
"""Clip -> code; the first tests in fold 1, and so on."""


def dfew(
    root, split="{}(single-labeled)", form="clip_224x224_16f", pattern="{}.jpg", header="video_name,label", **more
):
    for fold, tested in enumerate(DFEW, 1):
        for part in ("train", "test"):
            lines = [f"{clip},{code}" for clip, code in DFEW.items() if (clip == tested) == (part == "test")]
            text(root / "EmoLabel_DataSplit" / split.format(part) / f"set_{fold}.csv", [header, *lines], **more)
    for clip in DFEW:
        frames(root / "Clip" / form / f"{clip:05d}", range(1, 17), pattern)
    return root


FERV = {"Action/Happy/0267": "train", "War/Fear/0069": "train", "War/Happy/0267": "test", "DailyLife/Sad/0001": "test"}


def ferv39k(root, lists="4_setups/All_scenes"):
    for part in ("train", "test"):
        lines = [f"{clip} {clip.split('/')[1]}" for clip, here in FERV.items() if here == part]
        text(root / lists / f"{part}_All.csv", lines)
    for clip in FERV:
        frames(root / "2_ClipsforFaceCrop" / clip, range(8))
    return root


MAFW = {3747: "anger", 7499: "anxiety", 19: "helplessness", 20: "disappointment", 20098: "neutral"}


def mafw(root, top="Train & Test Set/single/no_caption", ending=".mp4", clips=MAFW, **more):
    for fold, tested in enumerate(clips, 1):
        for part in ("train", "test"):
            lines = [f"{c:05d}{ending} {name}" for c, name in clips.items() if (c == tested) == (part == "test")]
            text(root / top / f"set_{fold}" / f"{part}.txt", lines, **more)
    for clip in clips:
        frames(root / f"data/frames/{clip:05d}", (1, 2, 10), "{}.png")
    return root


FER = [  # emotion, usage, grey value, name of FER+, votes of FER+ in the owners' order
    (0, "Training", 10, "fer0000000.png", (0, 1, 1, 1, 5, 1, 1, 0, 0, 0)),
    (3, "Training", 20, "", (0, 0, 0, 0, 0, 0, 0, 0, 0, 10)),
    (6, "Training", 30, "fer0000001.png", (5, 0, 0, 5, 0, 0, 0, 0, 0, 0)),
    (3, "PublicTest", 40, "fer0000002.png", (1, 4, 2, 1, 0, 0, 0, 0, 2, 0)),
    (5, "PublicTest", 50, "fer0000003.png", (0, 0, 2, 0, 0, 0, 1, 0, 7, 0)),
    (2, "PrivateTest", 60, "fer0000004.png", (0, 0, 3, 0, 0, 0, 7, 0, 0, 0)),
    (6, "PrivateTest", 70, "fer0000004.png", (8, 0, 0, 2, 0, 0, 0, 0, 0, 0)),
]
"""The first has a majority only without single votes; the second has no name, the third no majority, the fifth is
mostly unknown; the last two share a name."""
VOTES = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"


def fer2013(root: Path, plus: bool = True) -> Path:
    """The owners' tables: the image in a row is grey, its first pixel 255."""
    lines = [f'{emotion},"{" ".join(["255", *[str(grey)] * 2303])}",{usage}' for emotion, usage, grey, *_ in FER]
    text(root / "fer2013.csv", ["emotion,pixels,Usage", *lines], newline="\r\n")
    if plus:
        rows = [",".join([usage, name, *map(str, votes)]) for _, usage, _, name, votes in FER]
        text(root / "fer2013new.csv", [f"Usage,Image name,{VOTES}", *rows])
    return root


CASME3_HEADER = ("Subject", "Filename", "Onset", "Apex", "Offset", "AU", "Objective class", "emotion")
CASME3 = [
    ("spNO.1", "a", 355, 361, 367, "4", 1, "disgust"),
    ("spNO.1", "a", 380, 384, 386, "12", 2, "happy"),
    ("spNO.10", "L", 116, 120, 0, "1+2", 3, "Surprise"),
    ("spNO.10", "L", 130, 133, 136, "4", 7, "others"),
]


def casme3(root: Path, clips: bool = True, videos: bool = False) -> Path:
    """The table of part A, and the frames of each expression, or the whole videos, beside the depth maps."""
    rows = [CASME3_HEADER, *CASME3]
    sheet(root / "annotation/cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx", rows)
    for subject, video, onset, apex, offset, *_ in CASME3:
        numbers = range(onset, max(apex, offset) + 1)
        if clips:
            folder = f"{subject.replace('NO', 'No')}_{video.lower()}_{onset}"
            frames(root / "Part_A_ME_clip/frame" / folder, numbers, "{}.jpg")
            frames(root / "Part_A_ME_clip/depth" / folder, numbers, "{}.png")
        if videos:
            folder = root / "part_A" / subject / video.lower()
            frames(folder / "color", range(110, 141) if video == "L" else range(350, 391), "{}.jpg")
            frames(folder / "depth", [onset], "{}.png")
    return root
