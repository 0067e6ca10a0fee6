"""Reusable working memory.

The operating system allocates large blocks page by page, which can take as long as the arithmetic done in them. So the
steps of SIFT that process many pieces of similar size on a CPU write into blocks that are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Scratch:
    """Blocks by name; each is as large as the largest array requested under its name.

    Args:
        device: on other devices than a CPU every array is new, since torch caches their memory itself.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._blocks: dict[str, torch.Tensor] = {}

    def take(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """An uninitialised array; it may share memory with the last one of that name."""
        if self.device.type != "cpu":
            return torch.empty(shape, dtype=dtype, device=self.device)
        size = math.prod(shape)
        block = self._blocks.get(name)
        if block is None or block.numel() < size:
            block = self._blocks[name] = torch.empty(size, dtype=dtype)
        return block[:size].view(shape)


_idle: list[Scratch] = []


@contextmanager
def scratch(device: torch.device) -> Iterator[Scratch]:
    """A `Scratch` for the caller alone; the process keeps as many as threads have worked at once."""
    if device.type != "cpu":
        yield Scratch(device)
        return
    try:
        mine = _idle.pop()
    except IndexError:
        mine = Scratch(device)
    try:
        yield mine
    finally:
        _idle.append(mine)
