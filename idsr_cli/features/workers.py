"""Work on independent pieces with torch's number of threads, one thread per piece.

Each piece is computed by one thread, so results are the same to the byte for any number of threads. There are no
barriers inside operations, at which OpenMP stalls when the processor is shared.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import torch

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class _SharedCount:
    """The number of threads that torch has in this process outside of all `Workers` blocks.

    torch keeps the number twice: for the process, where the last call of `set_num_threads` counts, and for each thread,
    which takes that of the process when it first uses torch. A thread that begins while a block of another thread holds
    the number at 1 would keep 1 for good. So the number is not read from the thread that opens a block.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        self._threads = 1

    def enter(self) -> int:
        """Count one more open block; returns the number of threads."""
        with self._lock:
            if not self._blocks:
                self._threads = _of_a_new_thread()
            self._blocks += 1
            return self._threads

    def leave(self) -> None:
        """Count one block less."""
        with self._lock:
            self._blocks -= 1


_shared = _SharedCount()


def _of_a_new_thread() -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def _use_one_thread(others: int) -> None:
    """Let torch use one thread in the calling thread, and `others` in each thread that begins later."""
    # At first use torch gives a thread the number of the process. That must have happened before, or it would undo the
    # next line.
    torch.get_num_threads()
    torch.set_num_threads(1)
    if others > 1:
        thread = threading.Thread(target=torch.set_num_threads, args=(others,))
        thread.start()
        thread.join()


class Workers:
    """A pool of as many threads as torch uses outside; a context manager.

    Within the block torch itself uses one thread, in the pool and in the calling thread. Blocks may be open in several
    threads at once.

    Attributes:
        threads: number of pieces that are worked on at once, known within the block.
    """

    def __init__(self, device: torch.device) -> None:
        self.threads = 1
        self._on_cpu = device.type == "cpu"
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
        if self._on_cpu:
            self.threads = _shared.enter()
            _use_one_thread(self.threads)
            if self.threads > 1:
                self._pool = ThreadPoolExecutor(self.threads, initializer=_use_one_thread, initargs=(self.threads,))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        if self._on_cpu:
            # For the calling thread, and for the process.
            torch.set_num_threads(self.threads)
            _shared.leave()
