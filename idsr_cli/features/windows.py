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

from idsr_cli.features.arrays import Array, whole

_STEP = 1.02  # ratio of one tabulated width to the next
_ANGLES = 48  # tabulated angles in a quarter turn, after which a square repeats


@dataclass(frozen=True)
class Windows:
    """(A, S) float32 each: pixel offsets y, x and their squared distance, which is infinite for padding."""

    y: np.ndarray
    x: np.ndarray
    distance: np.ndarray


def band(half_side: np.ndarray) -> np.ndarray:
    """The number of the smallest tabulated window that contains squares of half side `half_side` > 0, in pixels."""
    return np.ceil(np.log(half_side) / math.log(_STEP)).astype(np.int64)


def angle_row(angle: Array) -> Array:
    """(K,) int64: the rows of a `turned` table for angles in degrees."""
    return whole(angle * (_ANGLES / 90)) % _ANGLES


@lru_cache(maxsize=48)  # the default options use 37
def turned(number: int) -> Windows:
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
    return Windows(*(column.astype(np.float32) for column in columns))


@lru_cache(maxsize=64)
def axis_aligned(radius: int) -> Windows:
    """Axis-aligned square windows of radius 0..`radius`: y and x are (S,), shared by all, distance is (A, S)."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1)
    reach = np.maximum(np.abs(x), np.abs(y))
    distance = np.where(reach <= np.arange(radius + 1)[:, None], y * y + x * x, np.inf)
    return Windows(*(column.astype(np.float32) for column in (y, x, distance)))
