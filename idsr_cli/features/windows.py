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

_STEP = 1.03  # ratio of one tabulated width to the next
SPREAD = 8  # a table serves keypoints of so many widths, its own and smaller ones
_ANGLES = 48  # tabulated angles in a quarter turn, after which a square repeats


@dataclass(frozen=True)
class Windows:
    """Windows of one centre, float32: pixel offsets y and x, (S,), and for each window, (A, S), the squared distances.

    Pixels that a window does not cover have an infinite distance.
    """

    y: np.ndarray
    x: np.ndarray
    distance: np.ndarray


def band(half_side: np.ndarray) -> np.ndarray:
    """The number of the smallest tabulated window that contains squares of half side `half_side` > 0, in pixels."""
    return np.ceil(np.log(half_side) / math.log(_STEP)).astype(np.int64)


def angle_step(angle: Array) -> tuple[Array, Array]:
    """For angles in [0, 360) degrees, (K,): their rows in a `turned` table, and the quarter turns they lie beyond it.

    For one quarter turn more the windows are the same, turned by it: the pixels y, x of the table are then x, -y.
    """
    step = whole(angle * (_ANGLES / 90)).clip(max=4 * _ANGLES - 1)  # the last float32 below 360 would round to it
    return step % _ANGLES, step // _ANGLES


@dataclass(frozen=True)
class Turned:
    """Square windows for ranges of angles in the first quarter turn.

    The pixels of each are in order from the top of the turned square to its bottom, to within a few tenths of a pixel.

    Attributes:
        pixels: (A, 4, S) float32: pixel offset y, x, squared distance, and 1, which lets a matrix product add a number.
            Pixels beyond the square fill the rows up.
        rows: for each row of cells the part of the S pixels outside of which its weights are 0, at any angle.
    """

    pixels: np.ndarray
    rows: tuple[slice, ...]


@lru_cache(maxsize=48)  # the default options use 25
def turned(number: int, cells: int = 4) -> Turned:
    """The table of band `number`: every pixel within a square of that half side, which has `cells` + 1 cell widths."""
    half = _STEP**number
    slack = math.pi / 4 / _ANGLES
    angle = (2 * np.arange(_ANGLES)[:, None] + 1) * slack
    # Turning by `slack` moves a pixel by less than its distance times `slack`; the 0.01 allows for rounding.
    y, x = _square(angle, half * (1 + math.sqrt(2) * slack) + 0.01)
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    down, limit = cos * y - sin * x, math.sqrt(2) * float(y.max() + 1)
    # Sorting bytes takes a time in proportion to their number.
    key = ((down + limit) * (127.5 / limit)).astype(np.uint8)
    order = key.argsort(1, kind="stable") + np.arange(0, key.size, key.shape[1])[:, None]
    y, x, down = (values.ravel()[order] for values in (y, x, down))
    distance = y * y + x * x
    reach = np.float32(0.01) + np.float32(slack) * np.sqrt(distance)
    most, least = down + reach, down - reach
    rows, narrowest = [], _STEP**SPREAD
    for cell in range(cells):
        # The weights are above 0 within one cell width of the cell's centre.
        top, bottom = ((cell + side - cells / 2) * 2 / (cells + 1) * half for side in (-0.5, 1.5))
        inside = (most >= min(top, top / narrowest)) & (least <= max(bottom, bottom / narrowest))
        used = np.flatnonzero(inside.any(0))
        rows.append(slice(int(used[0]), int(used[-1]) + 1))
    return Turned(np.stack([y, x, distance, np.ones_like(y)], axis=1), tuple(rows))


def _square(angle: np.ndarray, half: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixels, y and x, in a square of half side `half` turned by each `angle`: (A, S) float32, line by line.

    Each line of pixels crosses the square in one piece. `angle` is (A, 1) float64 radians, in the first quarter turn,
    its ends excluded. A pixel beyond the square fills the rows up.
    """
    radius = math.ceil(half * math.sqrt(2))
    line = np.arange(-radius, radius + 1)
    cos, sin = np.cos(angle), np.sin(angle)
    first = np.ceil(np.maximum((-half - sin * line) / cos, (cos * line - half) / sin)).astype(np.int64)
    last = np.floor(np.minimum((half - sin * line) / cos, (cos * line + half) / sin)).astype(np.int64)
    counts = np.maximum(last - first + 1, 0)
    of_angle = counts.sum(1)
    y, x = np.full((2, len(angle), of_angle.max()), math.ceil(half) + 1, np.float32)
    filled = np.arange(y.shape[1]) < of_angle[:, None]
    counts = counts.ravel()
    y[filled] = np.repeat(np.tile(line, len(angle)), counts)
    # A running number, which starts anew at the first pixel of each piece.
    x[filled] = np.arange(counts.sum()) + np.repeat(first.ravel() - counts.cumsum() + counts, counts)
    return y, x


@lru_cache(maxsize=64)
def axis_aligned(radius: int) -> Windows:
    """Axis-aligned square windows of radius 0..`radius`."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1)
    reach = np.maximum(np.abs(x), np.abs(y))
    distance = np.where(reach <= np.arange(radius + 1)[:, None], y * y + x * x, np.inf)
    return Windows(*(column.astype(np.float32) for column in (y, x, distance)))
