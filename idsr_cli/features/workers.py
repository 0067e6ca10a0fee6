"""Work on independent pieces with torch's number of threads, one thread per piece.

Each piece is computed by one thread, so results are the same to the byte for any number of threads. There are no
barriers inside operations, at which OpenMP stalls when the processor is shared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import torch

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Workers:
    """A pool of `torch.get_num_threads()` threads; a context manager.

    Within the block torch itself uses one thread, in the pool and in the calling thread.

    Attributes:
        threads: number of pieces that are worked on at once.
    """

    def __init__(self, device: torch.device) -> None:
        self.threads = torch.get_num_threads() if device.type == "cpu" else 1
        self._pool: ThreadPoolExecutor | None = None

    def map(self, function: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
        """[function(item) for item in items], with the calls in any order."""

        def call(item: _Item) -> _Result:
            with torch.inference_mode():  # a setting of each thread
                return function(item)

        if self._pool is None:
            return [call(item) for item in items]
        return list(self._pool.map(call, items))

    def start(self, function: Callable[[], _Result]) -> Callable[[], _Result]:
        """Start `function` in the pool, if there is one; returns a function that waits for the result."""
        return self._pool.submit(function).result if self._pool is not None else function

    def __enter__(self) -> Workers:
        if self.threads > 1:
            # torch keeps this number per thread.
            torch.set_num_threads(1)
            self._pool = ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            # Threads started later take this number too.
            torch.set_num_threads(self.threads)
