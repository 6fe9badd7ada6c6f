"""Figure of probabilities over time."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from duchenne.errors import UserError
from duchenne.extras import require_extra
from duchenne.files import replacing, require_output
from duchenne.prediction.lettering import printable
from duchenne.reporting.colours import MARKERS, PALETTE

SUFFIXES = (".png", ".pdf", ".svg")
PANELS = 20
"""Largest number of panels; of more tracks the longest are drawn."""
WIDTH, PANEL = 8.0, 1.7
"""Width of the figure and height of a panel, inches."""
GAP = 1.5
"""Distance of two frames, in usual distances, at which a line is broken."""


def check_timeline(path: Path) -> None:
    """Check before any work that :func:`timeline` can write a file.

    Raises:
        UserError: Its suffix is not known, its folder may not be written to, or Matplotlib is not installed.
        OSError: Its folder cannot be made.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: a plot is a file {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    require_output(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{path}: its folder may not be written to")
    require_extra("a plot of probabilities over time", "report", "matplotlib", "markupsafe")


def timeline(frame: pd.DataFrame, path: Path) -> None:
    """Draw the probabilities of each track of each video over time.

    The frame number stands for the time where times are unknown or, in a file without valid timestamps, do not advance.
    Frames are drawn as lines that are broken where the face was lost, windows as steps that change midway between
    their middles. Classes have the colours and markers of the report.

    Args:
        frame: a table of rows (:mod:`duchenne.prediction.tables`); those of pictures and whole clips are left out.
        path: file to write, by its suffix a PNG, PDF or SVG.

    Raises:
        UserError: See :func:`check_timeline`; or no row is of a frame or a window with a face.
    """
    check_timeline(path)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from duchenne.reporting.style import INK, PAPER, SOFT, STYLE

    rows = frame[frame["kind"].isin(["frame", "window"]) & frame["emotion"].notna()]
    if rows.empty:
        raise UserError(f"{path}: nothing to plot over time: there is no frame or window of a video with a face")
    names = [name.removeprefix("p_") for name in rows.columns if name.startswith("p_")]
    tracks = list(rows.groupby(["source", "track"], dropna=False, sort=False))
    least = sorted((len(own) for _, own in tracks), reverse=True)[:PANELS][-1]
    kept = [track for track in tracks if len(track[1]) >= least][:PANELS]
    style: Any = STYLE | {"savefig.transparent": False, "savefig.facecolor": PAPER, "pdf.fonttype": 42}
    with rc_context(style):
        figure = Figure(figsize=(WIDTH, 0.9 + PANEL * len(kept)))
        panels = figure.subplots(len(kept), 1, squeeze=False)[:, 0]
        for axes, ((source, track), own) in zip(panels, kept, strict=True):
            _panel(axes, own.sort_values("frame"), names)
            person = "" if pd.isna(track) else f" · face {track}"
            axes.set_title(f"{Path(source).name}{person}", loc="left", fontsize=9, color=INK)
        for source in dict.fromkeys(key[0] for key, _ in kept):  # the panels of a video have the same times
            own = [axes for axes, (key, _) in zip(panels, kept, strict=True) if key[0] == source]
            low, high = np.transpose([axes.get_xlim() for axes in own])
            for axes in own:
                axes.set_xlim(low.min(), high.max())
        handles = panels[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=min(len(names), 8), fontsize=8, handlelength=1.6)
        if len(kept) < len(tracks):
            words = f"The {len(kept)} longest of {len(tracks)} tracks"
            figure.suptitle(words, fontsize=8, color=SOFT, x=0.01, ha="left")
        data = io.BytesIO()  # of a JPEG, Pillow takes a write that a full disk cut short for a whole one
        figure.savefig(data, format=path.suffix[1:].lower())
        with replacing(path) as part:
            part.write_bytes(data.getbuffer())


def _panel(axes: Any, rows: pd.DataFrame, names: Sequence[str]) -> None:
    """Draw the probabilities of one track, whose rows are in order, on Matplotlib's axes."""
    frames = rows["frame"].to_numpy(float)
    times = rows["time"].to_numpy(float, na_value=np.nan)
    windows = (rows["kind"] == "window").all()
    timed = bool(np.isfinite(times).all()) and (times[-1] > times[0] or (len(rows) == 1 and not windows))
    for k, name in enumerate(names):
        values = rows[f"p_{name}"].to_numpy(float)
        style: dict[str, Any] = {"color": PALETTE[k % len(PALETTE)], "label": printable(name, k)}
        marker: dict[str, Any] = {"marker": MARKERS[k % len(MARKERS)], "markersize": 3.5, "markeredgewidth": 0}
        if windows:
            edges = _edges(frames, rows["last"].to_numpy(float))
            if timed:
                edges = times[0] + (edges - frames[0]) * (times[-1] - times[0]) / (frames[-1] - frames[0])
            x, y = np.repeat(edges, 2)[1:-1], np.repeat(values, 2)
        else:
            x, y = _broken(times if timed else frames, frames, values)
        every = max(1, len(x) // 12)
        axes.plot(x, y, linewidth=1.4, **style, **marker, markevery=(k * every // len(names), every))
    axes.set(ylim=(-0.02, 1.02), ylabel="probability", xlabel="time, s" if timed else "frame")
    axes.margins(x=0.01)


def _edges(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Frames at which the steps of windows start and end: midway between their middles, and at both ends."""
    middles = (first + last) / 2
    return np.concatenate([first[:1], (middles[1:] + middles[:-1]) / 2, last[-1:] + 1])


def _broken(x: np.ndarray, frames: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Insert NaN where frames are missing, so that no line crosses the gap."""
    steps = np.diff(frames)
    gaps = np.flatnonzero(steps > GAP * np.median(steps)) + 1 if len(steps) else np.array([], int)
    return np.insert(x, gaps, np.nan), np.insert(values, gaps, np.nan)
