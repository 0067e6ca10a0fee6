"""Handling of SIGINT (Ctrl-C), SIGTERM and SIGHUP while they must not raise an exception."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def on_interruption(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Within the block `handler` replaces the handlers of these signals; ignored signals stay ignored.

    Does nothing outside the main thread, since Python delivers signals to no other.
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
    """Delay these signals until the block ends, so that a file and its record are both written."""
    late: list[int] = []
    try:
        with on_interruption(lambda number, frame: late.append(number)):
            yield
    finally:
        if late and callable(handler := signal.getsignal(late[0])):
            handler(late[0], None)
