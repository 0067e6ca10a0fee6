"""Gradients of Gaussian images around keypoints, in OpenCV's polar form."""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np

from idsr_cli.features.arrays import Array, beside, library, single
from idsr_cli.features.detection import Points
from idsr_cli.features.scratch import Scratch
from idsr_cli.scale_space import OctaveGroup

# OpenCV's fastAtan2: atan(t) for t in [0, 1] as an odd polynomial, within 0.01 degrees.
ATAN = (0.9997878412794807, -0.3258083974640975, 0.1555786518463281, -0.04432655554792128)


@dataclass(frozen=True)
class Anchors:
    """Positions of N points in the flat buffer of their group.

    Attributes:
        index: (N,) int64, index of the point's pixel in `OctaveGroup.samples`.
        width: (N,) int64, row length of its octave.
        row: (N,) int64.
        column: (N,) int64.
        height: (N,) int64.
        scale: (N,) float32, sigma in pixels of the octave.
    """

    index: Array
    width: Array
    row: Array
    column: Array
    height: Array
    scale: Array

    def select(self, index: Array | slice) -> Anchors:
        """The anchors `index`, in that order."""
        return Anchors(*(getattr(self, f.name)[index] for f in fields(self)))

    def room(self) -> Array:
        """(N,): the largest radius of a window whose gradients need no pixel beyond the border of the octave."""
        least = library(self.row).minimum
        vertical = least(self.row, self.height - 1 - self.row)
        horizontal = least(self.column, self.width - 1 - self.column)
        return least(vertical, horizontal) - 1


def anchors(group: OctaveGroup, points: Points, n_layers: int, sigma: float) -> Anchors:
    """Anchors of `points` in `group`, whose octaves have the shapes of those in which they were found."""
    height, width = beside(group.shapes, points.slot).T[:, points.slot]
    start = beside(group.starts, points.slot)[points.slot]
    index = start + (points.layer * height + points.row) * width + points.column
    exponent = (single(points.layer) + points.offset[:, 2]) / n_layers
    return Anchors(index, width, points.row, points.column, height, sigma * 2.0**exponent)


def polar_gradients(
    samples: np.ndarray, anchor: Anchors, offset: np.ndarray, memory: Scratch
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients at S pixels around each of K anchors, by central differences.

    Args:
        samples: the flat buffer of a group.
        anchor: K anchors of one octave.
        offset: (K, S) float32 whole numbers, or (S,) int64 for all anchors: from the anchor's index to that of the
            pixel; none on the border of its octave.
        memory: holds the results.

    Returns:
        Magnitude (K, S) float32, the DIFFERENCE of the two neighbours (twice the derivative), and angle (K, S)
        float32, degrees in [0, 360], y UP.
    """
    width = int(anchor.width[0])
    shape = len(anchor.index), offset.shape[-1]
    index, first = memory.take("index", *shape, dtype=np.int64), anchor.index[:, None] - (width + 1)
    if offset.ndim == 1:
        np.add(first, offset, out=index)
    else:
        index[...] = offset
        index += first
    horizontal, vertical, other = (memory.take(name, *shape) for name in ("horizontal", "vertical", "other"))

    def neighbours(step: int, out: np.ndarray) -> np.ndarray:
        # With another mode numpy writes to a buffer first. No index is out of range.
        return np.take(samples[step:], index, out=out, mode="clip")

    horizontal, vertical = neighbours(width + 2, horizontal), neighbours(1, vertical)
    horizontal -= neighbours(width, other)
    vertical -= neighbours(2 * width + 1, other)
    magnitude, angle = other, memory.take("angle", *shape)
    cv2.cartToPolar(horizontal, vertical, magnitude, angle, angleInDegrees=True)
    return magnitude, angle


def square_gradients(
    samples: np.ndarray, anchor: Anchors, radius: int, memory: Scratch
) -> tuple[np.ndarray, np.ndarray] | None:
    """`polar_gradients` at all pixels of squares, line by line; None if a square reaches beyond the buffer.

    To copy lines of pixels takes less time than to fetch each neighbour of each pixel.
    """
    width, side, item = int(anchor.width[0]), 2 * radius + 1, samples.itemsize
    first = anchor.index - (radius + 1) * (width + 1)
    places = samples.size - (side + 1) * (width + 1)
    if first.min() < 0 or first.max() >= places:
        return None
    squares = np.ndarray((places, side + 2, side + 2), samples.dtype, samples, 0, (item, width * item, item))
    pixels = squares[first]
    horizontal, vertical, magnitude, angle = (
        memory.take(name, len(first), side, side) for name in ("horizontal", "vertical", "other", "angle")
    )
    np.subtract(pixels[:, 1:-1, 2:], pixels[:, 1:-1, :-2], out=horizontal)
    np.subtract(pixels[:, :-2, 1:-1], pixels[:, 2:, 1:-1], out=vertical)
    lines = (values.reshape(len(first), -1) for values in (horizontal, vertical, magnitude, angle))
    horizontal, vertical, magnitude, angle = lines
    cv2.cartToPolar(horizontal, vertical, magnitude, angle, angleInDegrees=True)
    return magnitude, angle


def inside(anchor: Anchors, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(K, S) float32: 1 where a pixel is in its octave and not on the border, where gradients count, else 0.

    `y` and `x` are (S,) or (K, S) float32 whole numbers, the pixel's row and column from the anchor.
    """
    found = np.ones((len(anchor.index), y.shape[-1]), np.bool_)
    for step, position, size in ((y, anchor.row, anchor.height), (x, anchor.column, anchor.width)):
        first, last = (limit.astype(np.float32)[:, None] for limit in (1 - position, size - 2 - position))
        found &= step >= first
        found &= step <= last
    return found.astype(np.float32)
