"""Reads sources ahead in threads, while the network computes: decoding and finding faces release Python's lock."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

S = TypeVar("S")
T = TypeVar("T")


class _End:
    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class _Output(Generic[T]):
    """Items of one source, at most ``bound`` of them waiting."""

    def __init__(self, bound: int, stop: threading.Event) -> None:
        self._queue: queue.Queue[T | _End] = queue.Queue(bound)
        self._stop = stop

    def fill(self, items: Callable[[], Iterator[T]]) -> None:
        """Put all items, and the error that ended them."""
        error = None
        try:
            for item in items():
                if not self._put(item):
                    return
        except BaseException as raised:  # it belongs to whoever uses the items
            error = raised
        self._put(_End(error))

    def _put(self, item: T | _End) -> bool:
        """Wait for room and put an item; False if nobody wants it any more."""
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def __iter__(self) -> Iterator[T]:
        while True:
            item = self._queue.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item


def read_ahead(
    sources: Iterable[S], read: Callable[[S], Iterator[T]], workers: int, ahead: int, bound: int
) -> Iterator[tuple[S, Iterator[T]]]:
    """Yield each source with its items, in order, while threads read the following sources.

    An error in reading is raised where the items end. The items of a source must be used before the next source is
    asked for. Closing the generator ends the threads.

    Args:
        workers: number of threads; 0: read here, when asked.
        ahead: largest number of sources that are read or waiting to be.
        bound: largest number of items of a source that wait to be used.
    """
    if not workers:
        for source in sources:
            yield source, read(source)
        return
    stop = threading.Event()
    waiting: deque[tuple[S, _Output[T]]] = deque()
    pool = ThreadPoolExecutor(workers, "duchenne-read")
    try:
        for source in sources:
            output: _Output[T] = _Output(bound, stop)
            pool.submit(output.fill, partial(read, source))
            waiting.append((source, output))
            if len(waiting) > ahead:
                ready, items = waiting.popleft()
                yield ready, iter(items)
        while waiting:
            ready, items = waiting.popleft()
            yield ready, iter(items)
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
