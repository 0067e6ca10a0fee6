"""Work on independent pieces in several threads, one thread per piece.

Each piece is computed by one thread, so results are the same to the byte for any number of threads. There are no
barriers inside operations, at which OpenMP stalls when the processor is shared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

from idsr_cli.runtime.threads import thread_count

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Workers:
    """A pool of threads; a context manager.

    Args:
        threads: number of pieces that are worked on at once; None = `runtime.threads.thread_count`.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = thread_count() if threads is None else threads
        self._pool: ThreadPoolExecutor | None = None

    def map(self, function: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
        """[function(item) for item in items], with the calls in any order."""
        return [function(item) for item in items] if self._pool is None else list(self._pool.map(function, items))

    def start(self, function: Callable[[], _Result]) -> Callable[[], _Result]:
        """Start `function` in the pool, if there is one; returns a function that waits for the result."""
        return self._pool.submit(function).result if self._pool is not None else function

    def __enter__(self) -> Workers:
        if self.threads > 1:
            self._pool = ThreadPoolExecutor(self.threads)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
