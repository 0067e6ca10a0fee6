"""Ctrl-C and its like (SIGINT, SIGTERM, SIGHUP) at moments when they must not come as an exception."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def on_interruption(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """`handler` is called in place of what would be done; signals that are ignored stay ignored.

    On the main thread only; Python interrupts no other.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: found for number in numbers if callable(found := signal.getsignal(number))}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, found in before.items():
            signal.signal(number, found)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """They come after the block, so that a file and what is recorded of it go together."""
    late: list[int] = []
    try:
        with on_interruption(lambda number, frame: late.append(number)):
            yield
    finally:
        if late and callable(handler := signal.getsignal(late[0])):
            handler(late[0], None)
