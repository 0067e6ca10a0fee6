"""The inner loops of SIFT for torch tensors, which are on CUDA: few and large operations.

Arrays on a CPU have their own loops, in many small pieces, in `detection`, `gradients`, `orientation` and `descriptor`.
Everything between the loops is the same code for both.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional as F

from idsr_cli.features import windows
from idsr_cli.features.gradients import ATAN, Anchors
from idsr_cli.scale_space import OctaveGroup

_FIXED_POINT = 2.0**24  # CUDA adds in any order, so sums are only reproducible in integers


def scan(group: OctaveGroup, threshold: float, border: int) -> torch.Tensor:
    """Extrema by 3x3x3 maxima: (4, N) int64 slot, layer, row, column."""
    found = []
    for slot in range(len(group.shapes)):
        octave = group.octave(slot)
        dog = (octave[1:] - octave[:-1])[None]
        centre = dog[0, 1:-1, 1:-1, 1:-1]
        maximum = F.max_pool3d(dog, 3, stride=1)[0]
        minimum = -F.max_pool3d(-dog, 3, stride=1)[0]
        extremum = ((centre > threshold) & (centre == maximum)) | ((centre < -threshold) & (centre == minimum))
        rim = border - 1
        inner = extremum[:, rim : extremum.shape[1] - rim, rim : extremum.shape[2] - rim]
        first = torch.tensor([1, border, border], device=octave.device)
        found.append(F.pad(torch.nonzero(inner) + first, (1, 0), value=slot))
    return torch.cat(found).T


@lru_cache(maxsize=8)
def _differences(device: torch.device) -> torch.Tensor:
    """(13, 27): from a cube, flat, to its centre, the gradient in x, y, layer, and the Hessian, row by row."""
    unit = torch.eye(27).view(3, 3, 3, 27).permute(2, 1, 0, 3)  # axes x, y, layer
    first, second = torch.tensor([-0.5, 0.0, 0.5]), torch.tensor([1.0, -2.0, 1.0])
    centre = torch.tensor([0.0, 1.0, 0.0])

    def weights(*filters: torch.Tensor) -> torch.Tensor:
        return torch.einsum("x,y,s,xysn->n", *filters, unit)

    def filters(*axes: int) -> list[torch.Tensor]:
        return [(centre, first, second)[axes.count(axis)] for axis in range(3)]

    rows = [weights(*filters()), *(weights(*filters(i)) for i in range(3))]
    rows += [weights(*filters(i, j)) for i in range(3) for j in range(3)]
    return torch.stack(rows).to(device)


def fit(cubes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The fields of `detection._Quadratic` for (3, 3, 3, N) cubes, by one product of matrices and cross products."""
    found = _differences(cubes.device) @ cubes.flatten(0, 2)
    gradient, hessian = found[1:4], found[4:].unflatten(0, (3, 3))
    # The cross products of two rows of a symmetric matrix are the third row of its adjugate.
    adjugate = torch.linalg.cross(hessian.roll(-1, 0), hessian.roll(-2, 0), dim=1)
    determinant = (hessian[0] * adjugate[0]).sum(0)
    regular = determinant != 0
    offset = (adjugate * gradient).sum(1) / torch.where(regular, -determinant, 1.0)
    offset = torch.where(regular, offset, 0.0)
    value = found[0] + 0.5 * (gradient * offset).sum(0)
    return value, offset, hessian[0, 0] + hessian[1, 1], adjugate[2, 2]


def polar_gradients(
    samples: torch.Tensor, anchor: Anchors, y: torch.Tensor, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `gradients.polar_gradients`, for anchors of any octaves; beyond an octave's border the magnitude is 0."""
    row, column, width, height = (
        values[:, None] for values in (anchor.row, anchor.column, anchor.width, anchor.height)
    )
    y, x = y.long(), x.long()
    down, right = row + y, column + x
    inside = (down >= 1) & (down <= height - 2) & (right >= 1) & (right <= width - 2)
    index = anchor.index[:, None] + torch.where(inside, y * width + x, 0)
    horizontal = samples.take(index + 1) - samples.take(index - 1)
    vertical = samples.take(index - width) - samples.take(index + width)
    magnitude = torch.where(inside, torch.hypot(horizontal, vertical), 0.0)
    return magnitude, fast_atan2(vertical, horizontal)


def fast_atan2(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`cv2.fastAtan2` of float32 tensors: degrees in [0, 360]."""
    across, along = y.abs(), x.abs()
    larger, smaller = torch.maximum(across, along), torch.minimum(across, along)
    t = smaller / (larger + np.finfo(np.float64).eps)
    t2 = t * t
    p1, p3, p5, p7 = (math.degrees(p) for p in ATAN)
    angle = (((p7 * t2 + p5) * t2 + p3) * t2 + p1) * t
    angle = torch.where(along >= across, angle, 90 - angle)
    angle = torch.where(x < 0, 180 - angle, angle)
    return torch.where(y < 0, 360 - angle, angle)


def sums_by_bin(bins: torch.Tensor, values: torch.Tensor, count: int) -> torch.Tensor:
    """(count,) float64: `numpy.bincount` of int64 bins with float32 weights, the same in every run."""
    fixed = (values.double() * _FIXED_POINT).round_().long()
    sums = torch.zeros(count, dtype=torch.int64, device=bins.device)
    return sums.scatter_add_(0, bins.flatten(), fixed.flatten()).double() / _FIXED_POINT


@lru_cache(maxsize=48)  # the default options use 25
def turned(number: int, device: torch.device) -> torch.Tensor:
    """The pixels of `windows.turned`, on a device."""
    return torch.from_numpy(windows.turned(number).pixels).to(device)


@lru_cache(maxsize=64)
def axis_aligned(radius: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`windows.axis_aligned` on a device: y, x, distance."""
    table = windows.axis_aligned(radius)
    y, x, distance = (torch.from_numpy(values).to(device) for values in (table.y, table.x, table.distance))
    return y, x, distance


def descriptor_sums(down: torch.Tensor, across: torch.Tensor, turns: torch.Tensor, directions: int) -> torch.Tensor:
    """(K, 16, directions + 1) sums over the S samples of K windows.

    Args:
        down: (K, 4, S) weights of the rows of cells, times that of the sample.
        across: (K, 4, S) weights of the columns of cells.
        turns: (K, S) gradient direction in the keypoint's frame, full turns in [0, 1).
        directions: see `descriptor._ramps`.
    """
    starts = torch.arange(float(directions), device=turns.device)[:, None]
    ramps = (directions * turns[:, None] - starts).clamp_(0, 1)
    ramps = torch.cat([torch.ones_like(ramps[:, :1]), ramps], 1)
    spatial = (down[:, :, None] * across[:, None]).flatten(1, 2)
    return torch.bmm(spatial, ramps.transpose(1, 2))
