"""The 4x4x8 SIFT descriptor.

Trilinear binning weights each sample by three hat functions. So a descriptor is the matrix product of (16 spatial
weights, samples) and (samples, 8 direction weights): the same sums as adding each sample to its eight bins, without
scattered writes.

Source: Lowe (2004), section 6; window, clipping and rounding are those of OpenCV's `cv2.SIFT`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from idsr_cli.features import windows
from idsr_cli.features.arrays import Array, beside, host, library, on_cpu, stable_order
from idsr_cli.features.gradients import Anchors, polar_gradients
from idsr_cli.features.scratch import Scratch, scratch
from idsr_cli.features.workers import Workers
from idsr_cli.scale_space import OctaveGroup

_CELLS = 4  # along a side
_DIRECTIONS = 8
_CELL_WIDTH = 3.0  # times the keypoint's scale
_CLIP = 0.2
_NORM = 512.0
_CHUNK_SAMPLES = {True: 2**14, False: 2**22}  # on a CPU, so few that all their weights fit in a core's cache, or not
_PRODUCT_SAMPLES = 2**13  # on a CPU: samples whose 16 spatial weights are in memory at once


def descriptors(group: OctaveGroup, anchor: Anchors, angle: Array, workers: Workers) -> Array:
    """SIFT descriptors on the Gaussian images of `group`.

    Args:
        group: Gaussian images to read.
        anchor: N points in them.
        angle: (N,) float32, degrees clockwise on screen.
        workers: threads for a CPU.

    Returns:
        (N, 128) uint8, L2 norm about 512; in order of cell row, cell column, direction.
    """
    order, chunks = _chunks(anchor, _CHUNK_SAMPLES[on_cpu(angle)])
    if not chunks:
        return beside(np.zeros((0, _CELLS * _CELLS * _DIRECTIONS), np.uint8), angle)
    rows = beside(order, angle)
    frames = _frames(anchor.select(rows), angle[rows])
    sums_of_chunk = _sums if on_cpu(angle) else _sums_of_tensors

    def described(chunk: _Chunk) -> Array:
        sums = sums_of_chunk(group.samples, frames.select(chunk.part), chunk)
        return _normalise(_directions(sums).reshape(len(sums), -1))

    return library(angle).concatenate(workers.map(described, chunks))[stable_order(rows)]


@dataclass(frozen=True)
class _Frames:
    """Points with their coordinate systems; arrays are (N, 1) float32 except the angle."""

    anchor: Anchors
    angle: Array  # (N,), degrees
    turns: Array  # the angle in full turns
    cos: Array  # of the angle, divided by the cell width in pixels
    sin: Array  # likewise
    falloff: Array  # factor of the squared distance in the Gaussian window's exponent

    def select(self, part: slice) -> _Frames:
        rest = (self.angle, self.turns, self.cos, self.sin, self.falloff)
        return _Frames(self.anchor.select(part), *(values[part] for values in rest))


def _frames(anchor: Anchors, angle: Array) -> _Frames:
    xp, width = library(angle), (_CELL_WIDTH * anchor.scale)[:, None]
    turn = xp.deg2rad(angle)[:, None]
    falloff = (-1 / (2 * (_CELLS / 2) ** 2)) / (width * width)
    return _Frames(anchor, angle, (angle / 360)[:, None], xp.cos(turn) / width, xp.sin(turn) / width, falloff)


@dataclass(frozen=True)
class _Chunk:
    """Consecutive points, in the order of `_chunks`, that use windows of one table."""

    part: slice
    band: int  # that of the largest point
    clipped: bool  # True if a window may touch the border of its octave


def _chunks(anchor: Anchors, samples: int) -> tuple[np.ndarray, list[_Chunk]]:
    """The points ordered by falling scale, as indices, and chunks of about `samples` pixels in that order."""
    half = ((_CELLS + 1) / 2 * _CELL_WIDTH) * host(anchor.scale).astype(np.float64)
    bands = windows.band(half)
    clipped = host(anchor.room()) < np.ceil(half * math.sqrt(2)) + 1
    # Within a band the points are in the order of memory, for the cache.
    order = np.lexsort((host(anchor.index), -bands, clipped))
    bands, clipped = bands[order], clipped[order]
    inner = int(np.count_nonzero(~clipped))
    chunks, start = [], 0
    while start < len(order):
        number = int(bands[start])
        size = max(1, samples // windows.turned(number).y.shape[1])
        stop = min(start + size, inner if start < inner else len(order))
        chunks.append(_Chunk(slice(start, stop), number, start >= inner))
        start = stop
    return order, chunks


def _sums_of_tensors(samples: Array, frames: _Frames, chunk: _Chunk) -> Array:
    """As `_sums`."""
    from idsr_cli.features import tensors

    place = windows.angle_row(frames.angle)
    y, x, distance = (values[place] for values in tensors.turned(chunk.band, samples.device))
    magnitude, direction = tensors.polar_gradients(samples, frames.anchor, y, x, chunk.clipped)
    magnitude = magnitude * (distance * frames.falloff).exp()
    row, column = frames.cos * y - frames.sin * x, frames.cos * x + frames.sin * y
    turns = (direction / 360 + frames.turns).frac()
    return tensors.descriptor_sums(magnitude, turns, row, column, _CELLS, _DIRECTIONS)


def _sums(samples: np.ndarray, frames: _Frames, chunk: _Chunk) -> np.ndarray:
    """(K, 16, 9) sums over the pixels of K windows: cells by `_ramps`, see `_directions`.

    Every operation runs through contiguous memory: numpy takes as long to begin a row of pixels as to compute it.
    """
    table, place = windows.turned(chunk.band), windows.angle_row(frames.angle)
    shape = (len(place), table.y.shape[1])
    with scratch() as memory:
        y, x, weight = (
            np.take(values, place, 0, memory.take(name, *shape), "clip")
            for values, name in ((table.y, "y"), (table.x, "x"), (table.distance, "weight"))
        )
        magnitude, direction = polar_gradients(samples, frames.anchor, y, x, chunk.clipped, memory)
        weight *= frames.falloff
        magnitude *= cv2.exp(weight, weight)
        # Window coordinates in cells from the centre. The screen angle turns +x towards +y.
        product = memory.take("product", *shape)
        row = np.multiply(y, frames.cos, out=memory.take("row", *shape))
        row -= np.multiply(x, frames.sin, out=product)
        x *= frames.cos
        x += np.multiply(y, frames.sin, out=product)
        across = _hats(x, memory.take("across", _CELLS + 1, *shape))
        down = _hats(row, memory.take("down", _CELLS + 1, *shape))
        down *= magnitude
        direction *= np.float32(1 / 360)
        direction += frames.turns
        direction -= np.floor(direction, out=product)
        ramps = _ramps(direction, memory.take("directions", _DIRECTIONS + 1, *shape))
        return _products(down, across, ramps, memory)


def _hats(position: np.ndarray, out: np.ndarray) -> np.ndarray:
    """(K, S) -> (4, K, S): linear weights of the cells, max(0, 1 - |position - cell|), cells at -1.5, -0.5, 0.5, 1.5.

    A hat is the difference of two ramps, clip(position - cell + 1, 0, 1) - clip(position - cell, 0, 1). They are
    computed in `out`, (5, K, S).
    """
    starts = np.arange(_CELLS + 1, dtype=np.float32) - np.float32((_CELLS + 1) / 2)
    np.subtract(position, starts[:, None, None], out=out)
    out.clip(0, 1, out=out)
    for cell in range(_CELLS):
        out[cell] -= out[cell + 1]
    return out[:-1]


def _ramps(turns: np.ndarray, out: np.ndarray) -> np.ndarray:
    """(K, S) in [0, 1) -> (9, K, S) in `out`: ones, then clip(8 turns - k, 0, 1) for the directions k = 0..7."""
    starts = np.arange(_DIRECTIONS, dtype=np.float32)
    turns *= np.float32(_DIRECTIONS)
    out[0] = 1
    np.subtract(turns, starts[:, None, None], out=out[1:])
    out[1:].clip(0, 1, out=out[1:])
    return out


def _directions(sums: Array) -> Array:
    """(K, 16, 9) sums of `_ramps` -> (K, 16, 8) sums of linear weights of the directions, where 8 is 0 again.

    As in `_hats` a weight is the difference of two ramps; taking it after the sum saves a pass over all samples.
    """
    histogram = sums[..., :-1] - sums[..., 1:]
    histogram[..., 0] += sums[..., -1]
    return histogram


def _products(down: np.ndarray, across: np.ndarray, ramps: np.ndarray, memory: Scratch) -> np.ndarray:
    """(K, 16, 9): sums over S of down (4, K, S) times across (4, K, S), all 16 pairs, times ramps (9, K, S)."""
    count, samples = down.shape[1:]
    result = np.empty((count, _CELLS * _CELLS, _DIRECTIONS + 1), np.float32)
    step = max(1, _PRODUCT_SAMPLES // samples)
    for start in range(0, count, step):
        part = slice(start, start + step)
        length = min(step, count - start)
        spatial = memory.take("spatial", _CELLS, _CELLS, length, samples)
        np.multiply(down[:, None, part], across[None, :, part], out=spatial)
        # Half of the cells at a time: OpenBLAS would use threads for larger products, which get in each other's way.
        halves = spatial.reshape(2, _CELLS * _CELLS // 2, length, samples).transpose(2, 0, 1, 3)
        of_directions = ramps[:, None, part].transpose(2, 1, 3, 0)
        np.matmul(halves, of_directions, out=result[part].reshape(length, 2, _CELLS * _CELLS // 2, -1))
    return result


def _normalise(histogram: Array) -> Array:
    """(K, 128) float32 -> uint8: unit length, values clipped at 0.2, unit length again, times 512."""
    xp = library(histogram)
    histogram = xp.minimum(histogram, _CLIP * _norm(histogram))
    gain = _NORM / _norm(histogram).clip(min=np.finfo(np.float32).eps)
    values = xp.round(histogram * gain).clip(0, 255)
    return values.astype(np.uint8) if on_cpu(values) else values.byte()


def _norm(rows: Array) -> Array:
    """(K, N) -> (K, 1)."""
    return library(rows).sqrt((rows * rows).sum(1))[:, None]
