"""Pixels around a keypoint that a window covers, from tables.

The descriptor's window is a square turned by the keypoint's angle; of the pixels in the upright square around it fewer
than half lie inside. Tables for a fixed grid of widths and angles list those that may, so that a stack of keypoints
has windows of one length, nearly without idle pixels, and a result does not depend on how the stack was put together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from idsr_cli.features.scratch import Scratch

_STEP = 1.02  # ratio of one tabulated width to the next
_ANGLES = 48  # tabulated angles of a quarter turn, after which a square is the same


@dataclass(frozen=True)
class Windows:
    """(A, S) float32 each: pixel offsets y, x and their squared distance, infinite where a row of the table ends."""

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
    """The number of the narrowest tabulated window that holds squares of half side `half_side` > 0, in pixels."""
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
    # Turning by `slack` moves a pixel by less than its distance times `slack`; the rest is for rounding.
    near = np.maximum(across, down) <= half + 0.01 + slack * np.sqrt(distance)
    length = int(near.sum(1).max())
    first = np.argsort(~near, axis=1, kind="stable")[:, :length]
    valid = np.take_along_axis(near, first, axis=1)
    columns = (np.where(valid, y[first], 0), np.where(valid, x[first], 0), np.where(valid, distance[first], np.inf))
    return Windows(*(torch.from_numpy(c.astype(np.float32)).to(device) for c in columns))


@lru_cache(maxsize=64)
def axis_aligned(radius: int, device: torch.device) -> Windows:
    """Upright square windows of the radii 0..`radius`: y and x are (S,), the same for all, distance is (A, S)."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1)
    reach = np.maximum(np.abs(x), np.abs(y))
    distance = np.where(reach <= np.arange(radius + 1)[:, None], y * y + x * x, np.inf)
    return Windows(*(torch.from_numpy(c.astype(np.float32)).to(device) for c in (y, x, distance)))
