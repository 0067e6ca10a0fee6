"""Tables of the pixels that a window around a keypoint covers.

The descriptor's window is a square turned by the keypoint's angle. It covers less than half of the axis-aligned square
around it. Tables for a fixed grid of widths and angles list the pixels that it may cover. So keypoints in one batch
have windows of equal length with few unused pixels, and results do not depend on how batches are formed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from idsr_cli.features.scratch import Scratch

_STEP = 1.02  # ratio of one tabulated width to the next
_ANGLES = 48  # tabulated angles in a quarter turn, after which a square repeats


@dataclass(frozen=True)
class Windows:
    """(A, S) float32 each: pixel offsets y, x and their squared distance, which is infinite for padding."""

    y: torch.Tensor
    x: torch.Tensor
    distance: torch.Tensor

    def at(self, angle: torch.Tensor, memory: Scratch) -> Windows:
        """The windows for angles in degrees: (K,) -> (K, S) each, in `memory`."""
        row = (angle * (_ANGLES / 90)).floor().long() % _ANGLES
        shape = (len(row), self.y.shape[1])
        y, x, distance = (memory.take(f"window {name}", *shape) for name in ("y", "x", "distance"))
        torch.index_select(self.y, 0, row, out=y)
        torch.index_select(self.x, 0, row, out=x)
        torch.index_select(self.distance, 0, row, out=distance)
        return Windows(y, x, distance)


def band(half_side: np.ndarray) -> np.ndarray:
    """The number of the smallest tabulated window that contains squares of half side `half_side` > 0, in pixels."""
    return np.ceil(np.log(half_side) / math.log(_STEP)).astype(np.int64)


@lru_cache(maxsize=48)  # the default options use 37
def windows(number: int, device: torch.device) -> Windows:
    """The table of band `number`: every pixel within a square of that half side, for each range of angles."""
    half = _STEP**number
    radius = math.ceil(half * math.sqrt(2)) + 1
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1)
    distance = y * y + x * x
    slack = math.pi / 4 / _ANGLES
    angle = (2 * np.arange(_ANGLES)[:, None] + 1) * slack
    across = np.abs(np.cos(angle) * x + np.sin(angle) * y)
    down = np.abs(np.cos(angle) * y - np.sin(angle) * x)
    # Turning by `slack` moves a pixel by less than its distance times `slack`; the 0.01 allows for rounding.
    near = np.maximum(across, down) <= half + 0.01 + slack * np.sqrt(distance)
    length = int(near.sum(1).max())
    first = np.argsort(~near, axis=1, kind="stable")[:, :length]
    valid = np.take_along_axis(near, first, axis=1)
    columns = (np.where(valid, y[first], 0), np.where(valid, x[first], 0), np.where(valid, distance[first], np.inf))
    return Windows(*(torch.from_numpy(c.astype(np.float32)).to(device) for c in columns))


@lru_cache(maxsize=64)
def axis_aligned(radius: int, device: torch.device) -> Windows:
    """Axis-aligned square windows of radius 0..`radius`: y and x are (S,), shared by all, distance is (A, S)."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1)
    reach = np.maximum(np.abs(x), np.abs(y))
    distance = np.where(reach <= np.arange(radius + 1)[:, None], y * y + x * x, np.inf)
    return Windows(*(torch.from_numpy(c.astype(np.float32)).to(device) for c in (y, x, distance)))
