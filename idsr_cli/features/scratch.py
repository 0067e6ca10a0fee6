"""Memory that is used again and again.

The operating system hands out large blocks page by page, which can take as long as the arithmetic done in them. So the
steps of SIFT that work through many pieces of like size on a CPU write into blocks that stay.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Scratch:
    """Blocks by name; each is as large as the largest array it was asked for.

    Args:
        device: on anything but a CPU every array is new, since torch keeps the memory of those devices itself.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._blocks: dict[str, torch.Tensor] = {}

    def take(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """An array of any content; the last one of that name may be overwritten."""
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
    """Blocks that nobody else uses meanwhile; there are as many as threads that worked at once."""
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
