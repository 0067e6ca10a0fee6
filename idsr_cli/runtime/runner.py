"""The interface between tiling and the engine that runs a network. Each engine is one file in this folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from idsr_cli.place import Place


class Runner(Protocol):
    """One network on one device.

    Attributes:
        multiple: both sides of a patch must be multiples of this, pixels.
        halo: context that a tile needs around its core, pixels.
        bytes_per_pixel: working memory per pixel of a patch, bytes.
        precision: "fp32", "bf16" or "fp16".
        engine: "torch" or "ncnn".
        remark: why another engine was not taken, in words; or "".
        on_progress: called with the share (0..1) of a patch that is done, by engines that know it, for large patches.
    """

    multiple: int
    halo: int
    bytes_per_pixel: float
    precision: str
    engine: str
    remark: str
    on_progress: Callable[[float], object]

    def run(self, patch: np.ndarray, place: Place | None = None) -> np.ndarray:
        """(H, W, 3) float32 RGB in [0, 1] -> the network's result, same shape, float32, not clipped.

        The patch may be overwritten. `place` is where it lies in the whole image, for networks that need it
        (`Layout.placed`); None = the patch is the whole image.

        Raises:
            RuntimeError, MemoryError: out of memory (`files.faults.is_out_of_memory` recognises it).
        """
        ...

    def memory(self, pixels: int) -> float:
        """Working memory that one patch of an image of so many pixels may take, bytes."""
        ...

    def release(self) -> None:
        """Free cached memory, after an attempt that ran out of memory."""
        ...
