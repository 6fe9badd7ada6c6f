"""What the page shows of a picture or clip: a prediction and what explains it, as values for JSON.

Pictures and videos are data addresses, so that nothing is kept on the disk.
"""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from duchenne.errors import UserError
from duchenne.evaluation.explain import views
from duchenne.evaluation.explain_run import RunToExplain, explain
from duchenne.evaluation.explained import GRAD_CAM, SIDE, Explained
from duchenne.faces.align import apply, similarity, template, warp, whole
from duchenne.faces.find import face_in
from duchenne.faces.points import key_points
from duchenne.faces.store import decode
from duchenne.files import no_formula
from duchenne.networks import Facts
from duchenne.prediction.draw import draw_displacement, draw_faces
from duchenne.prediction.drawn import Drawings
from duchenne.prediction.model import Failed, Mark, Model
from duchenne.prediction.options import Options
from duchenne.prediction.reading import Row, align_clip
from duchenne.prediction.sources import Source, expand, total
from duchenne.prediction.tables import frame_of
from duchenne.prediction.timeline import timeline
from duchenne.reporting.colours import PALETTE
from duchenne.reporting.maps.clips import curves
from duchenne.reporting.maps.drawing import STYLE, Sample, map_sentences, of_largest, overlay
from duchenne.reporting.maps.images import ATTENTION
from duchenne.reporting.style import inline, svg_text
from duchenne.training.settings import Compute

Event = dict[str, Any]
"""``{"frames": done, "of": all or None}`` while a prediction runs, or ``{"result": ...}`` at its end."""

EXPLAINED = 12
"""Largest number of faces whose maps are drawn; the largest faces, and the longest tracks, come first."""
LARGEST, VIDEO = 1600, 960
"""Longer side of a shown picture and of a shown video, px; larger ones are shrunk before they are drawn."""
LISTED = 200
"""Largest number of rows in the shown table."""
QUALITY = 90
"""Of JPEG files."""


def analyse(model: Model, path: Path, name: str, options: Options) -> Iterator[Event]:
    """Predict a file or a folder of frames, and draw what explains the prediction.

    Args:
        name: name of the file in results and messages.

    Yields:
        How many frames are done, and then the result: ``rows`` (their number), ``table`` (columns and the first
        rows), ``csv`` (all rows), ``faces`` (each with probabilities, pictures and maps), and where they apply
        ``picture``, ``video``, ``displacement`` and ``timeline``.

    Raises:
        UserError: The file cannot be read, or not be used as the options say; the message has ``name``.
    """
    options.check(model.takes, model.faces.mode == "aligned")
    source, *more = expand(path, model.takes)
    if more:
        raise UserError(f"{name}: this network takes single pictures: give one at a time, or a video")
    source = replace(source, name=name)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        look = _Look(model, Path(folder))
        count = total([source], options.every) if model.takes == "image" else None
        answers: Any = model.answers([source], options, look=[look])
        with closing(look), closing(answers):
            for answer in answers:
                if isinstance(answer, Failed):
                    raise answer.error
                if not isinstance(answer, Mark):
                    rows.append(answer)
                    yield {"frames": look.frames, "of": count}
        yield {"result": _result(model, source, rows, look, options, Path(folder))}


def _result(
    model: Model, source: Source, rows: list[Row], look: _Look, options: Options, folder: Path
) -> dict[str, Any]:
    table = frame_of(rows, model.classes, 0)
    result: dict[str, Any] = {
        "name": source.name,
        "kind": "picture" if source.kind == "image" else "video",
        "rows": len(rows),
        "table": _listed(table),
        "csv": table.assign(source=table["source"].map(no_formula)).to_csv(index=False, lineterminator="\n"),
        "notes": list(dict.fromkeys(row["note"] for row in rows if row["note"]))[:5],
    }
    match model.takes:
        case "image":
            result["faces"] = _of_images(model, source, rows, look)
        case "clip":
            result["faces"] = _of_clips(model, source, rows, options)
        case _:
            result["faces"] = _of_pairs(model, source, rows)
    if look.picture is not None:
        result["picture"] = _picture(look.picture, rows, [face.pop("_points", None) for face in result["faces"]])
    for face in result["faces"]:
        face.pop("_points", None)
    if look.displacement is not None:
        result["displacement"] = _jpeg(look.displacement)
    if video := next(folder.glob("*.mp4"), None):
        result["video"] = _data("video/mp4", video.read_bytes())
    over_time = table[table["kind"].isin(["frame", "window"]) & table["emotion"].notna()]
    if len(over_time) > 1:
        file = folder / "timeline.svg"
        timeline(table, file)
        label = f"Probabilities of {', '.join(model.classes)} over time"
        result["timeline"] = str(inline(file.read_text(encoding="utf-8"), "timeline", label))
    return result


class _Aligned(NamedTuple):
    """An aligned face, uint8 (S, S, 3) RGB, and its 68 points in px of the image and of the crop, if it has a box."""

    crop: np.ndarray
    points: np.ndarray | None
    aligned: np.ndarray | None


class _Look:
    """Keeps what the page shows of the frames that pass (:class:`duchenne.prediction.model.Look`)."""

    def __init__(self, model: Model, folder: Path) -> None:
        self._model = model
        self.frames = 0
        self.picture: np.ndarray | None = None
        self.displacement: np.ndarray | None = None
        self.best: dict[Any, tuple[Row, _Aligned]] = {}
        """track -> its row with the highest probability, and the face; frames of many tracks would fill the memory"""
        self._drawings = Drawings(folder)

    def frame(self, source: Source, image: np.ndarray, rows: Sequence[Row]) -> None:
        self.frames += 1
        if source.kind == "image":
            self.picture = image
            return
        small, factor = _shrunk(image, VIDEO)
        self._drawings.frame(source, small, [_scaled(row, factor) for row in rows])
        for row in rows:
            if row["kind"] == "frame" and row["emotion"] is not None:
                known = self.best.get(row["track"])
                if known is None or _confidence(row) > _confidence(known[0]):
                    self.best[row["track"]] = row, _aligned(self._model, image, row)

    def pair(self, source: Source, row: Row, x: np.ndarray, displacement: np.ndarray) -> None:
        self.displacement = draw_displacement(row, x, displacement)

    def close(self) -> None:
        self._drawings.close()


@dataclass(frozen=True)
class _Store:
    """Aligned faces in memory, read like a face store."""

    images: Mapping[str, Sequence[np.ndarray]]
    numbers: Mapping[str, Sequence[int]]

    def frame_numbers(self, sample: str) -> list[int]:
        return list(self.numbers[sample])

    def frame(self, sample: str, i: int = 0) -> np.ndarray:
        return self.images[sample][i]


# Faces of pictures and frames


def _of_images(model: Model, source: Source, rows: list[Row], look: _Look) -> list[dict[str, Any]]:
    """Describe each face of a picture, or each track of a video by its most confident frame."""
    with_face = [row for row in rows if row["emotion"] is not None]
    if look.picture is not None:
        shown = [(row, _aligned(model, look.picture, row)) for row in with_face]
        titles = [f"Face {k + 1}" for k in range(len(shown))]
        shares = [row["probabilities"] for row in with_face]
    else:
        tracks: dict[Any, list[Row]] = {}
        for row in with_face:
            tracks.setdefault(row["track"], []).append(row)
        order = sorted(tracks, key=lambda track: -len(tracks[track]))
        shown = [look.best[track] for track in order]
        titles = [_title(track) for track in order]
        shares = [_mean([row["probabilities"] for row in tracks[track]]) for track in order]
    faces = []
    crops: dict[str, list[np.ndarray]] = {}
    for k, (title, mean, (row, (crop, points, aligned))) in enumerate(zip(titles, shares, shown, strict=True)):
        face = _face(model, title, mean, row) | _crop(crop, aligned) | {"_points": points}
        if row["kind"] == "frame":
            own = sum(each["track"] == row["track"] for each in with_face)
            face["about"] = f"mean of {own} frames; the face and its maps are of frame {row['frame']}"
        if k < EXPLAINED:
            crops[str(k)] = [crop]
        faces.append(face)
    store = _Store(crops, dict.fromkeys(crops, (0,)))
    samples = pd.DataFrame({"sample": list(crops), "label": 0})
    for face, (own,), maps in zip(faces, crops.values(), _maps(model, store, samples), strict=False):
        face["maps"] = _tiles(model, own, maps)
    return faces


def _aligned(model: Model, image: np.ndarray, row: Row) -> _Aligned:
    """Align the face of a row; without a box, the whole image is the face."""
    size = model.faces.size
    if row["box"] is None:
        return _Aligned(warp(image, whole(image, size), size), None, None)
    points = face_in(image, model.faces, np.array(row["box"]), row["score"]).points
    matrix = similarity(key_points(points), template(size, model.faces.eye_distance))
    return _Aligned(warp(image, matrix, size), points, apply(matrix, points))


def _picture(image: np.ndarray, rows: list[Row], points: list[np.ndarray | None]) -> dict[str, str]:
    """Draw a picture with boxes and probabilities, and a second time with points and AU regions."""
    small, factor = _shrunk(image, LARGEST)
    scaled = [_scaled(row, factor) for row in rows]
    drawn = {"boxes": _jpeg(draw_faces(small, scaled))}
    if known := [each * factor for each in points if each is not None]:
        drawn["points"] = _jpeg(draw_faces(small, [], known))
    return drawn


# Clips


def _of_clips(model: Model, source: Source, rows: list[Row], options: Options) -> list[dict[str, Any]]:
    """Describe the face of each track; attention is shown where the whole clip of one face is classified."""
    clips = [row for row in rows if row["kind"] == "clip" and row["emotion"] is not None]
    faces = []
    for row in clips:
        face = _face(model, _title(row["track"]), row["probabilities"], row)
        windows = sum(each["kind"] == "window" and each["track"] == row["track"] for each in rows)
        span = f"frames {row['frame']} to {row['last']}"
        faces.append(face | {"about": f"mean of {windows} windows, {span}" if windows else span})
    if len(faces) == 1 and options.window is None and options.faces == "largest":
        faces[0] |= _when_and_where(model, source, clips[0])
    return faces


def _when_and_where(model: Model, source: Source, row: Row) -> dict[str, Any]:
    """Draw the attention of a clip over time and over the face."""
    clip = _aligned_clip(model, source, row)
    label = model.classes.index(row["emotion"])
    sample = dict.fromkeys(["onset", "offset", "apex"], np.nan) | {
        "sample": source.name, "fold": 1, "label": label, "predicted": label, "emotion": row["emotion"],
        "confidence": _confidence(row),
    }  # fmt: skip
    run = RunToExplain(
        pd.DataFrame([sample]),
        model.classes,
        clip.store(source.name),  # type: ignore[arg-type]
        lambda fold: (model.network, model.card),
        Compute(device=str(model.device)),
    )
    explained = explain(run)
    shown = clip.crop(len(clip.images) // 2)
    if not explained.arrays or explained.table is None:  # the network has no maps
        return shown
    arrays = explained.arrays[0]
    read = explained.table.loc[arrays["rows"]].reset_index(drop=True)
    maps = []
    for half, part in read.groupby("half", sort=False):
        most = max(arrays["maps"][i].max() for i in part.index) or 1.0
        for i, frame in part.sort_values("frame").iterrows():
            tile = _tile(arrays["faces"][i], arrays["maps"][i] / most, 1.0)
            name = explained.maps[half].replace("\n", " ")
            maps.append({"name": f"frame {frame['frame']:.3g}", "part": name, "most": "largest", "image": tile})
    named = next(explained.samples.itertuples())

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        curves(axes, explained, Sample(named, arrays))
        axes.set_title("", loc="left")
        axes.set_xlabel("frame")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2)

    text = (
        "Gradient attention of the predicted class in the frames that the network reads, as a multiple of its mean in "
        "the clip, and where in each frame it lies, as a share of the largest value in the part. White line: three "
        "quarters of it."
    )
    curve = str(inline(svg_text(draw, 2.0), "attention", "Attention over the frames of the clip"))
    return shown | {"maps": {"tiles": maps, "caption": text}, "curve": curve}


class _Clip(NamedTuple):
    """A clip's aligned faces, uint8 (S, S, 3) RGB, their frame numbers, and 68 points in px of each, where found."""

    images: list[np.ndarray]
    numbers: list[int]
    points: list[np.ndarray | None]

    def store(self, sample: str) -> _Store:
        return _Store({sample: self.images}, {sample: self.numbers})

    def crop(self, wanted: int) -> dict[str, Any]:
        """Show the face of a frame, or of the nearest one where it was found."""
        found = [i for i, points in enumerate(self.points) if points is not None] or [wanted]
        i = min(found, key=lambda place: abs(place - wanted))
        return _crop(self.images[i], self.points[i])


def _aligned_clip(model: Model, source: Source, row: Row) -> _Clip:
    """Align the frames of a clip as the align stage does."""
    face, failures = align_clip(source, model.faces, row["onset"], row["apex"])
    if not face:  # the prediction found one in the same frames
        raise UserError(f"{source.name}: {failures[-1]['reason']}")
    points = [
        None if found is None else apply(np.reshape(matrix, (2, 3)), np.reshape(found, (68, 2)))
        for matrix, found in zip(face["transforms"], face["points"], strict=True)
    ]
    return _Clip([decode(frame) for frame in face["frames"]], face["frame_numbers"], points)


def _of_pairs(model: Model, source: Source, rows: list[Row]) -> list[dict[str, Any]]:
    """Describe the face of a micro-expression, with the maps over its apex."""
    faces = []
    for row in (row for row in rows if row["emotion"] is not None):
        clip = _aligned_clip(model, source, row)
        at = {"sample": source.name, "label": 0, "onset": row["onset"], "apex": row["apex"]}
        maps = next(_maps(model, clip.store(source.name), pd.DataFrame([at])), {})
        maps.pop("displacement", None)
        face = _face(model, _title(row["track"]), row["probabilities"], row)
        face |= clip.crop(clip.numbers.index(row["onset"]))
        face["about"] = f"onset: frame {row['onset']}, apex: frame {row['apex']}"
        if maps:
            face["maps"] = _tiles(model, clip.images[clip.numbers.index(row["apex"])], maps)
        faces.append(face)
    return faces


# Parts


def _face(model: Model, title: str, shares: Mapping[str, float], row: Row) -> dict[str, Any]:
    best = max(shares, key=lambda name: shares[name])
    return {
        "title": title,
        "emotion": best,
        "probabilities": [
            {"name": name, "share": share, "colour": PALETTE[k % len(PALETTE)]}
            for k, (name, share) in enumerate(shares.items())
        ],
        "note": row["note"],
    }


def _title(track: int | None) -> str:
    """Name the face of a track; aligned faces have none."""
    return "Face" if track is None else f"Face {track}"


def _crop(crop: np.ndarray, points: np.ndarray | None) -> dict[str, Any]:
    """Show an aligned face, and again with its 68 points (68, 2) and the AU regions, if they are known."""
    large = cv2.resize(crop, (2 * SIDE, 2 * SIDE), interpolation=cv2.INTER_CUBIC)
    shown = {"crop": _jpeg(large)}
    if points is not None:
        shown["landmarks"] = _jpeg(draw_faces(large, [], [points * (len(large) / len(crop))]))
    return shown


def _maps(model: Model, store: _Store, samples: pd.DataFrame) -> Iterator[dict[str, np.ndarray]]:
    """Yield the maps of samples of a network for pictures or pairs."""
    if samples.empty or not (model.network.facts.maps or model.network.facts.layer):
        return
    compute = Compute(device=str(model.device))
    for view in views(model.network, model.card, store, samples, compute):  # type: ignore[arg-type]
        yield dict(view.maps)


def _tiles(model: Model, crop: np.ndarray, maps: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Draw each map over the face, and describe them."""
    facts: Facts = model.network.facts
    names = dict(facts.maps) | GRAD_CAM
    grey = cv2.resize(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    pairs = model.takes == "pair"
    tiles = []
    for name, values in maps.items():
        own = name in facts.maps
        values = values if own else of_largest(values)
        if own and not pairs:
            values = values * values.size
        most = float(values.max()) or 1.0
        shown = np.where(values > 0, values, np.nan) if pairs else values
        unit = f"{most:.1f} × even share" if own else "largest"
        tile = _tile(grey, shown, most) if np.isfinite(shown).any() else _jpeg(grey)
        tiles.append({"name": names[name].replace("\n", " "), "part": "", "most": unit, "image": tile})
    explained = Explained(
        facts.takes, names, list(facts.maps), facts.caption, facts.layer, model.classes, True, pd.DataFrame(), []
    )
    return {"tiles": tiles, "caption": map_sentences(explained, list(maps), "" if pairs else ATTENTION)}


def _tile(face: np.ndarray, values: np.ndarray, most: float) -> str:
    style: Any = STYLE | {"figure.constrained_layout.use": False}
    with rc_context(style):
        figure = Figure(figsize=(SIDE / 100, SIDE / 100), dpi=200)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        overlay(axes, face, values, most)
        file = io.BytesIO()
        figure.savefig(file, format="jpg", pil_kwargs={"quality": QUALITY})
    return _data("image/jpeg", file.getvalue())


def _listed(table: pd.DataFrame) -> dict[str, Any]:
    """Return the columns that hold anything, and the first rows, as text."""
    found = [name for name in table if name.startswith("p_")]
    order = ["kind", "frame", "last", "time", "track", "emotion", *found, "onset", "apex", "score", "doubtful", "faces"]
    known = table[[*order, "x0", "y0", "x1", "y1", "note"]].dropna(axis=1, how="all")

    def text(value: Any) -> str:
        if pd.isna(value):
            return ""
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    return {
        "columns": list(known),
        "rows": [[text(value) for value in row] for row in known.head(LISTED).itertuples(index=False)],
    }


def _confidence(row: Row) -> float:
    return float(row["probabilities"][row["emotion"]])


def _mean(shares: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([each[name] for each in shares])) for name in shares[0]}


def _scaled(row: Row, factor: float) -> Row:
    return row if row["box"] is None else row | {"box": [factor * edge for edge in row["box"]]}


def _shrunk(image: np.ndarray, most: int) -> tuple[np.ndarray, float]:
    """Shrink an image to a longer side of ``most`` px, if it is larger; also return the factor."""
    factor = min(1.0, most / max(image.shape[:2]))
    if factor == 1:
        return image, 1.0
    height, width = (max(1, round(factor * side)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), factor


def _jpeg(image: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=QUALITY)
    return _data("image/jpeg", file.getvalue())


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
