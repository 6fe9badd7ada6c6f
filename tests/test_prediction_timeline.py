"""Probabilities over time: a line per class in a panel per track, broken where the face was lost."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from duchenne.errors import UserError
from duchenne.prediction.run import OverTime
from duchenne.prediction.tables import FIELDS, GROUP
from duchenne.prediction.timeline import _broken, _edges, check_timeline, timeline

CLASSES = ("anger", "happiness", "surprise")


def rows(kind: str = "frame", tracks: int = 1, count: int = 6) -> pd.DataFrame:
    shares = np.random.default_rng(0).dirichlet(np.ones(3), (tracks, count))
    table = [
        {"source": "a/talk.mp4", "kind": kind, "frame": 4 * i, "last": 4 * i + 7, "time": 0.16 * i, "track": track}
        | {"emotion": "anger", **{f"p_{name}": share for name, share in zip(CLASSES, shares[track, i], strict=True)}}
        for track in range(tracks)
        for i in range(count)
    ]
    return pd.DataFrame(table).astype({"frame": "Int64", "last": "Int64", "track": "Int64"})


@pytest.mark.parametrize(("kind", "corners"), [("frame", 6), ("window", 12)])
def test_a_panel_has_a_line_per_class(tmp_path: Path, kind: str, corners: int):
    timeline(rows(kind, tracks=2), tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    assert all(f">{words}<" in text for words in ("talk.mp4 · face 0", "talk.mp4 · face 1", *CLASSES))
    line = r'<path d="((?:[ML] [\d. -]+\n)+)" clip-path[^>]*style="fill: none; stroke: #\w{6}; stroke-width: 1.4'
    assert [each.count("\n") for each in re.findall(line, text)] == [corners] * 3 * 2


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_the_suffix_decides(tmp_path: Path, suffix: str, start: bytes):
    timeline(rows().assign(time=np.nan, track=None), tmp_path / f"plot.{suffix}")
    assert (tmp_path / f"plot.{suffix}").read_bytes().startswith(start)


@pytest.mark.parametrize(("times", "axis"), [(0.16 * np.arange(6), "time, s"), (0.0, "frame"), (np.nan, "frame")])
def test_frames_are_numbered_where_times_do_not_advance(tmp_path: Path, times: np.ndarray | float, axis: str):
    timeline(rows().assign(time=times), tmp_path / "plot.svg")
    assert f">{axis}<" in (tmp_path / "plot.svg").read_text(encoding="utf-8")


def test_what_cannot_be_plotted_is_said(tmp_path: Path):
    with pytest.raises(UserError, match=r"plot\.gif: a plot is a file \.png, \.pdf or \.svg"):
        timeline(rows(), tmp_path / "plot.gif")
    with pytest.raises(OSError, match="exists"):
        check_timeline(Path(__file__) / "plot.png")
    with pytest.raises(UserError, match="no frame or window"):
        timeline(rows(kind="picture"), tmp_path / "plot.png")


def test_lines_break_where_the_face_was_lost_and_windows_change_between_their_middles():
    x, y = _broken(np.array([0.0, 0.1, 0.5, 0.6]), np.array([0, 1, 5, 6]), np.array([1.0, 2, 3, 4]))
    np.testing.assert_array_equal(x, [0, 0.1, np.nan, 0.5, 0.6])
    np.testing.assert_array_equal(y, [1, 2, np.nan, 3, 4])
    np.testing.assert_array_equal(_edges(np.array([0.0, 4, 8]), np.array([7.0, 11, 15])), [0, 5.5, 9.5, 16])


def test_the_rows_of_a_long_video_take_little_memory():
    values = dict.fromkeys(FIELDS) | {"source": "a.mp4", "kind": "frame", "doubtful": False, "emotion": "anger"}
    kept = OverTime(list(CLASSES))
    tracemalloc.start()
    try:
        for number in range(GROUP + 5):
            shares = dict.fromkeys(CLASSES, number + 0.5)
            kept.add(values | {"frame": number, "box": [0.5, 1.0, 2.0, float(number)], "probabilities": shares})
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 2e6  # as dictionaries 12 MB
    table = kept.table()
    assert table["frame"].tolist() == list(range(GROUP + 5))
    assert str(table["last"].dtype) == "Int64"
