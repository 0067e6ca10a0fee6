"""Gradients of Gaussian images around keypoints, in OpenCV's polar form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from idsr_cli.scale_space import OctaveGroup
from idsr_cli.sift.detection import Points

# OpenCV's fastAtan2: atan(t) for t in [0, 1] as an odd polynomial, within 0.01 degrees.
_ATAN = tuple(math.degrees(p) for p in (0.9997878412794807, -0.3258083974640975, 0.1555786518463281, -0.04432655554792128))


@dataclass(frozen=True)
class Anchors:
    """Where N points lie in the flat buffer of their group.

    Attributes:
        index: (N,) int64, position of the point's pixel in `OctaveGroup.samples`.
        width: (N,) int64, row length of its octave.
        height: (N,) int64.
        row: (N,) int64.
        column: (N,) int64.
        scale: (N,) float32, sigma in pixels of the octave.
    """

    index: torch.Tensor
    width: torch.Tensor
    height: torch.Tensor
    row: torch.Tensor
    column: torch.Tensor
    scale: torch.Tensor

    def select(self, index: torch.Tensor) -> Anchors:
        """The anchors `index`, in that order."""
        return Anchors(
            self.index[index], self.width[index], self.height[index], self.row[index], self.column[index], self.scale[index]
        )

    def room(self) -> torch.Tensor:
        """(N,) int64: the largest window radius that stays off the border of the octave."""
        return torch.minimum(
            torch.minimum(self.row, self.height - 1 - self.row), torch.minimum(self.column, self.width - 1 - self.column)
        ) - 1


def anchors(group: OctaveGroup, points: Points, n_layers: int, sigma: float) -> Anchors:
    """Anchors of `points` in `group`, whose pyramid has the same octaves as the one they were found in."""
    device = points.slot.device
    shapes = torch.tensor(group.shapes, device=device)
    height, width = shapes[points.slot].unbind(1)
    start = torch.tensor(group.starts, device=device)[points.slot]
    index = start + (points.layer * height + points.row) * width + points.column
    scale = sigma * torch.pow(2.0, (points.layer + points.offset[:, 2]) / n_layers)
    return Anchors(index, width, height, points.row, points.column, scale)


def polar_gradients(
    samples: torch.Tensor, anchor: Anchors, dy: torch.Tensor, dx: torch.Tensor, clipped: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients at the pixels (dy, dx) around each of K anchors, by central differences.

    Args:
        samples: the flat buffer of a group.
        anchor: K anchors.
        dy: (S,) int64, rows down from the anchor.
        dx: (S,) int64, columns to the right.
        clipped: whether a window may touch the border of its octave; gradients there have magnitude 0.

    Returns:
        Magnitude (K, S) float32, the DIFFERENCE of the two neighbours (twice the derivative), and angle (K, S)
        float32, degrees in [0, 360], y UP.
    """
    small = samples.numel() < 2**31
    index_type = torch.int32 if small else torch.int64  # half the traffic
    width = anchor.width[:, None].to(index_type)
    if clipped:
        row, column = anchor.row[:, None] + dy, anchor.column[:, None] + dx
        inside = (row > 0) & (row < anchor.height[:, None] - 1) & (column > 0) & (column < anchor.width[:, None] - 1)
        offset = torch.where(inside, dy * anchor.width[:, None] + dx, 0)
        index = (anchor.index[:, None] + offset).to(index_type)
    else:
        index = dy.to(index_type) * width
        index += anchor.index[:, None].to(index_type) + dx.to(index_type)
    shape = index.shape

    def sample() -> torch.Tensor:
        return samples.index_select(0, index.view(-1)).view(shape)

    index += 1
    horizontal = sample()
    index -= 2
    horizontal -= sample()
    index += 1 - width
    vertical = sample()
    index += 2 * width
    vertical -= sample()
    magnitude, angle = to_polar(horizontal, vertical)
    if clipped:
        magnitude *= inside
    return magnitude, angle


def to_polar(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Magnitude and angle in degrees, [0, 360], of vectors (x, y), with OpenCV's approximate arc tangent."""
    if x.device.type == "cpu":
        magnitude, angle = cv2.cartToPolar(x.numpy(), y.numpy(), angleInDegrees=True)
        return torch.from_numpy(np.asarray(magnitude)), torch.from_numpy(np.asarray(angle))
    return torch.sqrt(x * x + y * y), _fast_atan2(y, x)


def _fast_atan2(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`cv2.fastAtan2` of float32 tensors: degrees in [0, 360]."""
    across, along = y.abs(), x.abs()
    larger, smaller = torch.maximum(across, along), torch.minimum(across, along)
    t = smaller / (larger + np.finfo(np.float64).eps)
    t2 = t * t
    p1, p3, p5, p7 = _ATAN
    angle = (((p7 * t2 + p5) * t2 + p3) * t2 + p1) * t
    angle = torch.where(along >= across, angle, 90 - angle)
    angle = torch.where(x < 0, 180 - angle, angle)
    return torch.where(y < 0, 360 - angle, angle)
