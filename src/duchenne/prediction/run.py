"""The command ``duchenne predict``: sources to rows on stdout or in a file, with progress and a clean end."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from tqdm import tqdm

from duchenne.errors import UserError
from duchenne.files import file_digest, regular
from duchenne.locks import alone
from duchenne.prediction.drawn import Drawings
from duchenne.prediction.jobs import Job, state_of
from duchenne.prediction.model import Failed, Mark, Model
from duchenne.prediction.options import Options
from duchenne.prediction.reading import Row
from duchenne.prediction.sources import Source, camera, expand, require_no_source, total
from duchenne.prediction.tables import GROUP, Writer, check_suffix, frame_from, table_of, writer
from duchenne.prediction.timeline import check_timeline, timeline
from duchenne.shortage import naming
from duchenne.training.trained import CARD, WEIGHTS


def run(
    folder: Path,
    files: dict[str, Path],
    given: Sequence[str],
    cameras: Sequence[str],
    options: Options,
    *,
    show: Callable[[Row], None],
    out: Path | None = None,
    force: bool = False,
    workers: int = 1,
    batch_size: int | None = None,
    device: str | None = None,
    draw: Path | None = None,
    plot: Path | None = None,
) -> tuple[list[tuple[str, str]], int]:
    """Predict, and write the rows.

    Args:
        folder: folder of the fold.
        files: see :class:`Model`.
        given: paths and patterns.
        cameras: numbers, files or addresses of cameras, which come after them.
        show: takes each row if there is no ``out``.
        out: file of the rows.
        force: replace that file, and do not resume.
        draw: folder for the drawn pictures and videos (:class:`Drawings`).
        plot: file of the probabilities over time (:func:`timeline`).

    Returns:
        Names and errors of the sources that could not be read, and the number of all sources.

    Raises:
        UserError: An option cannot be used; or see :class:`Model` and :class:`Job`.
    """
    if out:
        check_suffix(out)
    if plot:
        check_timeline(plot)
    if not given and not cameras:
        raise UserError("no source: give pictures, videos or folders, or --camera")
    model = Model(folder, files, device)
    options.check(model.takes, model.faces.mode == "aligned")
    sources = expand(list(given), model.takes) + [camera(each) for each in cameras]
    for file in filter(None, (out, plot)):
        require_no_source(file, sources)
    if draw and cameras and model.takes != "image":
        raise UserError("--draw cannot draw a camera for a network that takes clips: record a video and give that")
    if plot and (options.window is None if model.takes != "image" else all(each.kind == "image" for each in sources)):
        raise UserError("--plot draws probabilities over time: give videos, and --window if the network takes clips")
    look = [Drawings(draw, sources)] if draw else []
    keywords: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "look": look}
    over_time = OverTime(model.classes)

    def seen(row: Row) -> None:
        if plot and row["kind"] in ("frame", "window"):
            over_time.add(row)

    def shown(row: Row) -> None:
        seen(row)
        show(row)

    width = model.feature_count if options.features else 0
    try:
        with ended_by_ctrl_c(bool(cameras)) as stop:
            if out is None:
                answers = model.answers(sources, options, stop=stop, **keywords)
                failed = _consume(answers, sources, options, shown)
            elif cameras:
                failed = _record(model, sources, options, out, force, stop, width, keywords, seen)
            else:
                failed = _resume(model, sources, options, out, force, width, keywords, seen)
    finally:
        for each in look:
            each.close()
    if plot:
        timeline(over_time.table(), plot)
    return failed, len(sources)


class OverTime:
    """The rows of a figure, as tables: a row as a dictionary takes ten times the memory."""

    def __init__(self, classes: list[str]) -> None:
        self._classes = classes
        self._rows: list[Row] = []
        self._tables: list[pa.Table] = []

    def add(self, row: Row) -> None:
        """Add a row."""
        self._rows.append(row)
        if len(self._rows) == GROUP:
            self._pack()

    def _pack(self) -> None:
        self._tables.append(table_of(self._rows, self._classes, False))
        self._rows.clear()

    def table(self) -> pd.DataFrame:
        """Return all rows."""
        self._pack()
        return frame_from(pa.concat_tables(self._tables))


def _resume(
    model: Model,
    sources: list[Source],
    options: Options,
    out: Path,
    force: bool,
    width: int,
    keywords: dict[str, Any],
    seen: Callable[[Row], None],
) -> list[tuple[str, str]]:
    """Write the rows of files and folders, which can be read again after an interruption."""
    network = [file_digest(model.folder / name) for name in (CARD, WEIGHTS)]
    facts = {
        "model": [*network, str(model.device), model.faces.model_dump(mode="json")],
        "options": asdict(options) | {"batch_size": keywords["batch_size"], "look": bool(keywords["look"])},
        "sources": [state_of(source) for source in sources],
    }
    with _written_alone(out):
        job = Job(out, facts, model.classes, width, force)
        before, start = job.failed, job.start
        for row in job.rows:
            seen(row)
        answers = job.keep(model.answers(sources, options, start=start, **keywords))
        try:
            failed = before + _consume(answers, sources[start.source :], options, seen)
        except KeyboardInterrupt:
            tqdm.write(
                f"interrupted: the same command resumes after {job.start.source} of {len(sources)} sources", sys.stderr
            )
            raise
        job.finish()
    return failed


def _written_alone(out: Path) -> AbstractContextManager[None]:
    """Return a context in which no other process writes a file of rows.

    Raises:
        UserError: One does.
    """
    return alone(out.with_name(f".{out.name}.lock"), f"{out}", wait=False, remove=True)


def _record(
    model: Model,
    sources: list[Source],
    options: Options,
    out: Path,
    force: bool,
    stop: threading.Event,
    width: int,
    keywords: dict[str, Any],
    seen: Callable[[Row], None],
) -> list[tuple[str, str]]:
    """Write the rows of a camera at once, because it cannot be read again."""
    if out.exists() and not force:
        raise UserError(f"{out} exists already: give another file, or --force to replace it")
    regular(out).parent.mkdir(parents=True, exist_ok=True)
    with _written_alone(out), naming(out):
        file: Writer = writer(out, out.suffix, model.classes, width)

        def write(row: Row) -> None:
            seen(row)
            file.write([row])

        try:
            answers = model.answers(sources, options, stop=stop, **keywords)
            return _consume(answers, sources, options, write)
        finally:
            file.close()


def _consume(
    answers: Iterator[Row | Failed | Mark], sources: Sequence[Source], options: Options, write: Callable[[Row], None]
) -> list[tuple[str, str]]:
    """Write all rows while a bar shows the progress, and return the failures."""
    failed = []
    with tqdm(desc="predict", unit="frame", delay=1, disable=None) as bar:
        if not bar.disable:
            bar.total = total(sources, options.every)
        for answer in answers:
            if isinstance(answer, Failed):
                failed.append((answer.source.name, str(answer.error)))
            elif not isinstance(answer, Mark):
                write(answer)
                bar.update(_frames(answer))
    return failed


def _frames(row: Row) -> int:
    """Number of frames that a row completes: those of a person's first track count."""
    if row["track"]:
        return 0
    if row["kind"] == "window":
        return 0
    return 1 if row["last"] is None else row["last"] - row["frame"] + 1


@contextmanager
def ended_by_ctrl_c(wanted: bool) -> Iterator[threading.Event]:
    """Let the first Ctrl-C set an event instead of raising KeyboardInterrupt, and the second one raise it."""
    stop = threading.Event()
    if not wanted:
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def end(number: int, frame: Any) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, end)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
