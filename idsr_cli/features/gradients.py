"""Gradients of Gaussian images around keypoints, in OpenCV's polar form."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import cv2
import numpy as np
import torch

from idsr_cli.features.detection import Points
from idsr_cli.features.scratch import Scratch
from idsr_cli.scale_space import OctaveGroup

# OpenCV's fastAtan2: atan(t) for t in [0, 1] as an odd polynomial, within 0.01 degrees.
_ATAN = (0.9997878412794807, -0.3258083974640975, 0.1555786518463281, -0.04432655554792128)


@dataclass(frozen=True)
class Anchors:
    """Positions of N points in the flat buffer of their group.

    Attributes:
        index: (N,) index of the point's pixel in `OctaveGroup.samples`; int32 if that is enough, else int64.
        width: (N,) the same type, row length of its octave.
        row: (N,) the same type.
        column: (N,) the same type.
        height: (N,) the same type.
        scale: (N,) float32, sigma in pixels of the octave.
    """

    index: torch.Tensor
    width: torch.Tensor
    row: torch.Tensor
    column: torch.Tensor
    height: torch.Tensor
    scale: torch.Tensor

    def select(self, index: torch.Tensor | slice) -> Anchors:
        """The anchors `index`, in that order."""
        return Anchors(*(getattr(self, f.name)[index] for f in fields(self)))

    def room(self) -> torch.Tensor:
        """(N,): the largest radius of a window whose gradients need no pixel beyond the border of the octave."""
        vertical = torch.minimum(self.row, self.height - 1 - self.row)
        horizontal = torch.minimum(self.column, self.width - 1 - self.column)
        return torch.minimum(vertical, horizontal) - 1


def anchors(group: OctaveGroup, points: Points, n_layers: int, sigma: float) -> Anchors:
    """Anchors of `points` in `group`, whose octaves have the shapes of those in which they were found."""
    device = points.slot.device
    height, width = torch.tensor(group.shapes, device=device)[points.slot].unbind(1)
    start = torch.tensor(group.starts, device=device)[points.slot]
    index = start + (points.layer * height + points.row) * width + points.column
    scale = sigma * torch.pow(2.0, (points.layer + points.offset[:, 2]) / n_layers)
    dtype = torch.int32 if group.samples.numel() < 2**31 else torch.int64  # half the memory traffic
    index, height, width = index.to(dtype), height.to(dtype), width.to(dtype)
    return Anchors(index, width, points.row.to(dtype), points.column.to(dtype), height, scale)


def polar_gradients(
    samples: torch.Tensor, anchor: Anchors, y: torch.Tensor, x: torch.Tensor, clipped: bool, memory: Scratch
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients at the pixels (y, x) around each of K anchors, by central differences.

    Args:
        samples: the flat buffer of a group.
        anchor: K anchors.
        y: (S,) or (K, S) float32 whole numbers, rows down from the anchor.
        x: the same shape, columns to the right.
        clipped: True if a window may touch the border of its octave; gradients there have magnitude 0.
        memory: holds the results.

    Returns:
        Magnitude (K, S) float32, the DIFFERENCE of the two neighbours (twice the derivative), and angle (K, S)
        float32, degrees in [0, 360], y UP.
    """
    shape = (len(anchor.index), y.shape[-1])
    width = anchor.width[:, None]
    offset = torch.mul(y, width, out=memory.take("offset", *shape)).add_(x)  # below 2^24, so exact
    if clipped:
        inside = _inside(y, anchor.row, anchor.height).mul_(_inside(x, anchor.column, anchor.width))
        offset *= inside
    index = memory.take("index", *shape, dtype=anchor.index.dtype).copy_(offset)
    index += anchor.index[:, None] - 1
    flat = index.view(-1)
    horizontal, vertical, other = (memory.take(name, len(flat)) for name in ("horizontal", "vertical", "other"))
    torch.index_select(samples[2:], 0, flat, out=horizontal)
    horizontal -= torch.index_select(samples, 0, flat, out=other)
    index += 1 - width
    torch.index_select(samples, 0, flat, out=vertical)
    index += 2 * width
    vertical -= torch.index_select(samples, 0, flat, out=other)
    magnitude, angle = to_polar(horizontal.view(shape), vertical.view(shape), memory)
    if clipped:
        magnitude *= inside
    return magnitude, angle


def _inside(offset: torch.Tensor, position: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    """1 where 1 <= position + offset <= size - 2, else 0; float arithmetic, which is much faster than comparisons."""
    middle = (position - (size - 1) / 2)[:, None]
    beyond = (offset + middle).abs_()  # distance from the middle; differs from (size - 1) / 2 by a whole number
    return ((size - 1) / 2)[:, None].sub(beyond).clamp_(0, 1)


def to_polar(x: torch.Tensor, y: torch.Tensor, memory: Scratch) -> tuple[torch.Tensor, torch.Tensor]:
    """Magnitude and angle in degrees, [0, 360], of vectors (x, y), with OpenCV's approximate arc tangent."""
    if x.device.type == "cpu":
        magnitude, angle = memory.take("magnitude", *x.shape), memory.take("angle", *x.shape)
        cv2.cartToPolar(x.numpy(), y.numpy(), magnitude.numpy(), angle.numpy(), angleInDegrees=True)
        return magnitude, angle
    return torch.sqrt(x * x + y * y), _fast_atan2(y, x)


def _fast_atan2(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`cv2.fastAtan2` of float32 tensors: degrees in [0, 360]."""
    across, along = y.abs(), x.abs()
    larger, smaller = torch.maximum(across, along), torch.minimum(across, along)
    t = smaller / (larger + np.finfo(np.float64).eps)
    t2 = t * t
    p1, p3, p5, p7 = (math.degrees(p) for p in _ATAN)
    angle = (((p7 * t2 + p5) * t2 + p3) * t2 + p1) * t
    angle = torch.where(along >= across, angle, 90 - angle)
    angle = torch.where(x < 0, 180 - angle, angle)
    return torch.where(y < 0, 360 - angle, angle)
