"""Reusable working memory.

The operating system allocates large blocks page by page, which can take as long as the arithmetic done in them. So the
steps of SIFT that process many pieces of similar size on a CPU write into blocks that are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


class Scratch:
    """Blocks by name; each is as large as the largest array requested under its name."""

    def __init__(self) -> None:
        self._blocks: dict[str, np.ndarray] = {}

    def take(self, name: str, *shape: int, dtype: Any = np.float32) -> np.ndarray:
        """An uninitialised array; it may share memory with the last one of that name."""
        size = math.prod(shape)
        block = self._blocks.get(name)
        if block is None or block.size < size:
            block = self._blocks[name] = np.empty(size, dtype)
        return block[:size].reshape(shape)


_idle: list[Scratch] = []
# Elements of numpy's buffers in such steps. To add a number per row to rows that are shorter than a buffer, numpy fills
# the buffer with that number first, which takes longer than the sum. The default is 8192.
_BUFFERED = 512


@contextmanager
def scratch() -> Iterator[Scratch]:
    """A `Scratch` for the caller alone, and small buffers of numpy within.

    The process keeps as many as threads have worked at once.
    """
    try:
        mine = _idle.pop()
    except IndexError:
        mine = Scratch()
    try:
        with np.errstate():  # which restores the size of buffers too
            np.setbufsize(_BUFFERED)
            yield mine
    finally:
        _idle.append(mine)
