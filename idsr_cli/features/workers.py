"""Work on independent pieces in several threads, one thread per piece.

Each piece is computed by one thread, so results are the same to the byte for any number of threads. There are no
barriers inside operations, at which OpenMP stalls when the processor is shared.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from types import TracebackType
from typing import TypeVar

from idsr_cli.runtime.threads import thread_count

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Workers:
    """The calling thread and a pool of others; a context manager.

    Args:
        threads: number of pieces that are worked on at once; None = `runtime.threads.thread_count`.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = thread_count() if threads is None else threads
        self._pool: ThreadPoolExecutor | None = None

    def map(self, function: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
        """[function(item) for item in items], with the calls in any order."""
        if self._pool is None:
            return [function(item) for item in items]
        # Each thread takes the next piece itself: to hand pieces over one by one takes as long as small ones.
        pieces = deque(enumerate(items))
        count, results = len(pieces), {}

        def work() -> None:
            try:
                while (piece := _next(pieces)) is not None:
                    results[piece[0]] = function(piece[1])
            except BaseException:
                pieces.clear()  # so that the other threads stop too
                raise

        others = [self._pool.submit(work) for _ in range(min(self.threads, count) - 1)]
        try:
            work()
        finally:
            begun = [other for other in others if not other.cancel()]
            wait(begun)
        for other in begun:
            other.result()
        return [results[number] for number in range(count)]

    def start(self, function: Callable[[], _Result]) -> Callable[[], _Result]:
        """Start `function` in the pool, if there is one; returns a function that waits for the result."""
        return self._pool.submit(function).result if self._pool is not None else function

    def __enter__(self) -> Workers:
        if self.threads > 1:
            self._pool = ThreadPoolExecutor(self.threads - 1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _next(pieces: deque[_Item]) -> _Item | None:
    """Take the first piece; None if no thread has left any."""
    try:
        return pieces.popleft()
    except IndexError:
        return None
