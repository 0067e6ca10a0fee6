"""The 4x4x8 SIFT descriptor.

Trilinear binning weights each sample by three hat functions. So a descriptor is the matrix product of (16 spatial
weights, samples) and (samples, 8 direction weights): the same sums as adding each sample to its eight bins, without
scattered writes.

Source: Lowe (2004), section 6; window, clipping and rounding are those of OpenCV's `cv2.SIFT`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from idsr_cli.features.gradients import Anchors, polar_gradients
from idsr_cli.features.scratch import Scratch, scratch
from idsr_cli.features.windows import band, windows
from idsr_cli.features.workers import Workers
from idsr_cli.scale_space import OctaveGroup

_CELLS = 4  # along a side
_DIRECTIONS = 8
_CELL_WIDTH = 3.0  # times the keypoint's scale
_CLIP = 0.2
_NORM = 512.0
_CHUNK_SAMPLES = {"cpu": 2**16, "cuda": 2**22}
_PRODUCT_SAMPLES = 2**14  # on a CPU: so many samples' weights fit in a core's cache


def descriptors(group: OctaveGroup, anchor: Anchors, angle: torch.Tensor, workers: Workers) -> torch.Tensor:
    """SIFT descriptors on the Gaussian images of `group`.

    Args:
        group: Gaussian images to read.
        anchor: N points in them.
        angle: (N,) float32, degrees clockwise on screen.
        workers: threads for a CPU.

    Returns:
        (N, 128) uint8, L2 norm about 512; in order of cell row, cell column, direction.
    """
    order, chunks = _chunks(anchor, _CHUNK_SAMPLES[angle.device.type])
    rows = torch.from_numpy(order).to(angle.device)
    frames = _frames(anchor.select(rows), angle[rows])
    sums = torch.empty(len(angle), _CELLS * _CELLS, _DIRECTIONS + 1, device=angle.device)

    def fill(chunk: _Chunk) -> None:
        with scratch(angle.device) as memory:
            _sums(group.samples, frames.select(chunk.part), chunk, sums[chunk.part], memory)

    workers.map(fill, chunks)
    result = torch.empty(len(angle), _CELLS * _CELLS * _DIRECTIONS, dtype=torch.uint8, device=angle.device)
    result[rows] = _normalise(_directions(sums).flatten(1))
    return result


@dataclass(frozen=True)
class _Frames:
    """Points with their coordinate systems; tensors are (N, 1) float32 except the angle."""

    anchor: Anchors
    angle: torch.Tensor  # (N,), degrees
    turns: torch.Tensor  # the angle in full turns
    cos: torch.Tensor  # of the angle, divided by the cell width in pixels
    sin: torch.Tensor  # likewise
    falloff: torch.Tensor  # factor of the squared distance in the Gaussian window's exponent

    def select(self, part: slice) -> _Frames:
        rest = (self.angle, self.turns, self.cos, self.sin, self.falloff)
        return _Frames(self.anchor.select(part), *(values[part] for values in rest))


def _frames(anchor: Anchors, angle: torch.Tensor) -> _Frames:
    width = (_CELL_WIDTH * anchor.scale)[:, None]
    turn = torch.deg2rad(angle)[:, None]
    falloff = (-1 / (2 * (_CELLS / 2) ** 2)) / (width * width)
    return _Frames(anchor, angle, (angle / 360)[:, None], torch.cos(turn) / width, torch.sin(turn) / width, falloff)


@dataclass(frozen=True)
class _Chunk:
    """Consecutive points, in the order of `_chunks`, that use windows of one table."""

    part: slice
    band: int  # that of the largest point
    clipped: bool  # True if a window may touch the border of its octave


def _chunks(anchor: Anchors, samples: int) -> tuple[np.ndarray, list[_Chunk]]:
    """The points ordered by falling scale, as indices, and chunks of about `samples` pixels in that order."""
    half = ((_CELLS + 1) / 2 * _CELL_WIDTH) * anchor.scale.cpu().numpy().astype(np.float64)
    bands = band(half)
    clipped = anchor.room().cpu().numpy() < np.ceil(half * math.sqrt(2)) + 1
    # Within a band the points are in the order of memory, for the cache.
    order = np.lexsort((anchor.index.cpu().numpy(), -bands, clipped))
    bands, clipped = bands[order], clipped[order]
    inner = int(np.count_nonzero(~clipped))
    chunks, start = [], 0
    while start < len(order):
        number = int(bands[start])
        size = max(1, samples // windows(number, anchor.scale.device).y.shape[1])
        stop = min(start + size, inner if start < inner else len(order))
        chunks.append(_Chunk(slice(start, stop), number, start >= inner))
        start = stop
    return order, chunks


def _sums(samples: torch.Tensor, frames: _Frames, chunk: _Chunk, out: torch.Tensor, memory: Scratch) -> None:
    """`out` = (K, 16, 9) sums over the pixels of K windows: cells by `_ramps`, see `_directions`."""
    window = windows(chunk.band, samples.device).at(frames.angle, memory)
    magnitude, direction = polar_gradients(samples, frames.anchor, window.y, window.x, chunk.clipped, memory)
    magnitude *= window.distance.mul_(frames.falloff).exp_()
    # Window coordinates in cells from the centre. The screen angle turns +x towards +y.
    row = torch.mul(window.y, frames.cos, out=memory.take("row", *window.y.shape))
    row.addcmul_(window.x, frames.sin, value=-1)
    column = window.x.mul_(frames.cos).addcmul_(window.y, frames.sin)
    across = _hats(column, memory.take("across", _CELLS + 1, *column.shape))
    down = _hats(row, memory.take("down", _CELLS + 1, *row.shape))
    down *= magnitude
    directions = memory.take("directions", _DIRECTIONS + 1, *direction.shape)
    _products(down, across, _ramps(direction.mul_(1 / 360).add_(frames.turns).frac_(), directions), out, memory)


def _hats(position: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """(K, S) -> (4, K, S): linear weights of the cells, max(0, 1 - |position - cell|), cells at -1.5, -0.5, 0.5, 1.5.

    A hat is the difference of two ramps, clamp(position - cell + 1, 0, 1) - clamp(position - cell, 0, 1). They are
    computed in `out`, (5, K, S).
    """
    starts = torch.arange(_CELLS + 1, device=position.device) - (_CELLS + 1) / 2
    torch.sub(position, starts[:, None, None], out=out).clamp_(0, 1)
    for cell in range(_CELLS):
        out[cell] -= out[cell + 1]
    return out[:-1]


def _ramps(turns: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """(K, S) in [0, 1) -> (9, K, S) in `out`: ones, then clamp(8 turns - k, 0, 1) for the directions k = 0..7."""
    out[0] = 1
    starts = torch.arange(float(_DIRECTIONS), device=turns.device)
    torch.sub(turns.mul_(_DIRECTIONS)[None], starts[:, None, None], out=out[1:]).clamp_(0, 1)
    return out


def _directions(sums: torch.Tensor) -> torch.Tensor:
    """(K, 16, 9) sums of `_ramps` -> (K, 16, 8) sums of linear weights of the directions, where 8 is 0 again.

    As in `_hats` a weight is the difference of two ramps; taking it after the sum saves a pass over all samples.
    """
    histogram = sums[..., :-1] - sums[..., 1:]
    histogram[..., 0] += sums[..., -1]
    return histogram


def _products(
    down: torch.Tensor, across: torch.Tensor, ramps: torch.Tensor, out: torch.Tensor, memory: Scratch
) -> None:
    """`out` = (K, 16, 9): sums over S of down (4, K, S) times across (4, K, S), all 16 pairs, times ramps (9, K, S)."""
    count, samples = down.shape[1:]
    if down.device.type != "cpu":
        spatial = (down[:, None] * across).flatten(0, 1)
        torch.bmm(spatial.transpose(0, 1), ramps.permute(1, 2, 0), out=out)
        return
    # numpy's loop over small matrices is three times as fast here as torch's batched product.
    rows, columns, directions, result = down.numpy(), across.numpy(), ramps.numpy(), out.numpy()
    step = max(1, _PRODUCT_SAMPLES // samples)
    for start in range(0, count, step):
        part = slice(start, start + step)
        length = min(step, count - start)
        spatial = memory.take("spatial", _CELLS, _CELLS, length, samples)
        np.multiply(rows[:, None, part], columns[None, :, part], out=spatial.numpy())
        cells = spatial.view(_CELLS * _CELLS, length, samples).numpy()
        np.matmul(cells.transpose(1, 0, 2), directions[:, part].transpose(1, 2, 0), out=result[part])


def _normalise(histogram: torch.Tensor) -> torch.Tensor:
    """(K, 128) float32 -> uint8: unit length, values clipped at 0.2, unit length again, times 512."""
    clip = _CLIP * histogram.norm(dim=1, keepdim=True)
    histogram = torch.minimum(histogram, clip)
    gain = _NORM / histogram.norm(dim=1, keepdim=True).clamp_min(np.finfo(np.float32).eps)
    return (histogram * gain).round_().clamp_(0, 255).to(torch.uint8)
