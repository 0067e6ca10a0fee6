"""The 4x4x8 SIFT descriptor.

Trilinear binning is a product of three hat functions, so a descriptor is a matrix product: weights of 16 spatial cells
by samples, times samples by weights of 8 directions. That is the same sum as adding each sample to its eight bins,
with no scattered additions.

Source: Lowe (2004), section 6; window, clipping and rounding are those of OpenCV's `cv2.SIFT`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from idsr_cli.scale_space import OctaveGroup
from idsr_cli.sift.gradients import Anchors, polar_gradients

_CELLS = 4  # along a side
_DIRECTIONS = 8
_CELL_WIDTH = 3.0  # times the keypoint's scale
_CLIP = 0.2
_NORM = 512.0
_CHUNK_SAMPLES = {"cpu": 2**15, "cuda": 2**22}
_SCALE_STEP = 1.1  # points whose scales differ by less share a window


def descriptors(group: OctaveGroup, anchor: Anchors, angle: torch.Tensor) -> torch.Tensor:
    """SIFT descriptors on the Gaussian images of `group`.

    Args:
        group: Gaussian images to read.
        anchor: N points in them.
        angle: (N,) float32, degrees clockwise on screen.

    Returns:
        (N, 128) uint8, L2 norm about 512; in order of cell row, cell column, direction.
    """
    result = torch.empty(len(angle), _CELLS * _CELLS * _DIRECTIONS, dtype=torch.uint8, device=angle.device)
    for chunk in _chunks(anchor, angle, _CHUNK_SAMPLES[angle.device.type]):
        result[chunk.rows] = _describe(group.samples, anchor.select(chunk.rows), angle[chunk.rows], chunk)
    return result


@dataclass(frozen=True)
class _Chunk:
    rows: torch.Tensor  # (K,) int64, the points
    dy: torch.Tensor  # (S,) int64, the pixels that can matter to any of them
    dx: torch.Tensor
    clipped: bool  # whether one of their windows touches the border of its octave


def _chunks(anchor: Anchors, angle: torch.Tensor, samples: int) -> Iterator[_Chunk]:
    """Points of like scale and angle together, so that their rotated square windows cover nearly the same pixels."""
    device = angle.device
    width = (_CELL_WIDTH * anchor.scale).cpu().numpy().astype(np.float64)
    # A square is the same after a quarter turn.
    turn = np.radians(angle.cpu().numpy().astype(np.float64)) % (math.pi / 2)
    reach = np.rint(width * math.sqrt(2) * (_CELLS + 1) / 2)
    clipped = anchor.room().cpu().numpy() < reach
    band = np.floor(np.log(width) / math.log(_SCALE_STEP))
    order = np.lexsort((turn, band, clipped))
    starts = np.flatnonzero(np.diff(band[order]) != 0) + 1
    starts = np.union1d(starts, np.flatnonzero(np.diff(clipped[order])) + 1)
    for run in np.split(order, starts) if len(order) else []:
        # The rotated square covers (5 cells)^2 pixels.
        size = max(1, int(samples / ((_CELLS + 1) * width[run].max()) ** 2))
        for start in range(0, len(run), size):
            part = run[start : start + size]
            dy, dx = _window(width[part].max(), turn[part].min(), turn[part].max())
            rows = torch.from_numpy(part).to(device)
            yield _Chunk(rows, torch.from_numpy(dy).to(device), torch.from_numpy(dx).to(device), bool(clipped[part[0]]))


def _window(width: float, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixels within reach of any square of 5 cells turned by an angle in [low, high]: (S,) dy and dx."""
    half = (_CELLS + 1) / 2 * width
    radius = math.ceil(half * math.sqrt(2)) + 1
    dy, dx = (d.ravel() for d in np.mgrid[-radius : radius + 1, -radius : radius + 1])
    middle, slack = (low + high) / 2, (high - low) / 2
    across = np.abs(dx * math.cos(middle) + dy * math.sin(middle))
    down = np.abs(dy * math.cos(middle) - dx * math.sin(middle))
    # Turning by `slack` moves a pixel by less than its distance times `slack`; the rest is for rounding.
    near = np.maximum(across, down) <= half + np.hypot(dx, dy) * slack + 1e-3
    return dy[near], dx[near]


def _describe(samples: torch.Tensor, anchor: Anchors, angle: torch.Tensor, chunk: _Chunk) -> torch.Tensor:
    """(K, 128) uint8 descriptors of the K points of one chunk."""
    magnitude, direction = polar_gradients(samples, anchor, chunk.dy, chunk.dx, chunk.clipped)
    width = _CELL_WIDTH * anchor.scale
    dy, dx = chunk.dy.float(), chunk.dx.float()
    magnitude *= torch.outer(-1 / (2 * (_CELLS / 2) ** 2 * width * width), dy * dy + dx * dx).exp_()
    # Window coordinates in cells, cell centres at 0..3. The screen angle turns +x towards +y.
    turn = torch.deg2rad(angle)
    cos, sin = torch.cos(turn) / width, torch.sin(turn) / width
    centre = (_CELLS - 1) / 2
    row = torch.outer(cos, dy).sub_(torch.outer(sin, dx)).add_(centre)
    column = torch.outer(cos, dx).add_(torch.outer(sin, dy)).add_(centre)
    spatial = (_hats(row) * magnitude[:, None])[:, :, None] * _hats(column)[:, None]
    directional = _circular_hats(direction.add_(angle[:, None]).mul_(_DIRECTIONS / 360))
    histogram = _product(spatial.flatten(1, 2), directional)
    return _normalise(histogram.flatten(1))


def _hats(position: torch.Tensor) -> torch.Tensor:
    """(K, S) -> (K, 4, S): linear weights of the cells 0..3, max(0, 1 - |position - cell|).

    A hat is the difference of two ramps, clamp(position - cell + 1, 0, 1) - clamp(position - cell, 0, 1).
    """
    edges = torch.arange(-1.0, _CELLS, device=position.device)
    ramps = (position[:, None] - edges[:, None]).clamp_(0, 1)
    return ramps[:, :-1] - ramps[:, 1:]


def _circular_hats(position: torch.Tensor) -> torch.Tensor:
    """(K, S), any real -> (K, 8, S): linear weights of the directions 0..7, where 8 is 0 again."""
    position = position - _DIRECTIONS * (position / _DIRECTIONS).floor_()
    ramps = position.new_empty(position.shape[0], _DIRECTIONS + 1, position.shape[1])
    edges = torch.arange(float(_DIRECTIONS), device=position.device)
    torch.sub(position[:, None], edges[:, None], out=ramps[:, 1:]).clamp_(0, 1)
    torch.add(ramps[:, _DIRECTIONS], 1, out=ramps[:, 0])
    return ramps[:, :-1] - ramps[:, 1:]


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(K, M, S), (K, N, S) -> (K, M, N), the sum over S, the same whatever the number of threads."""
    if a.device.type == "cpu":
        # numpy multiplies one small matrix after the other; torch's batched product may split the sums, and is slower.
        return torch.from_numpy(np.matmul(a.numpy(), b.numpy().transpose(0, 2, 1)))
    return torch.bmm(a, b.transpose(1, 2))


def _normalise(histogram: torch.Tensor) -> torch.Tensor:
    """(K, 128) float32 -> uint8: unit length, values clipped at 0.2, unit length again, times 512."""
    clip = _CLIP * histogram.norm(dim=1, keepdim=True)
    histogram = torch.minimum(histogram, clip)
    gain = _NORM / histogram.norm(dim=1, keepdim=True).clamp_min(np.finfo(np.float32).eps)
    return (histogram * gain).round_().clamp_(0, 255).to(torch.uint8)
