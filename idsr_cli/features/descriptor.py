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
from idsr_cli.features.arrays import Array, beside, host, library, on_cpu, run_ends, single, stable_order
from idsr_cli.features.gradients import Anchors, inside, polar_gradients
from idsr_cli.features.scratch import Scratch, scratch
from idsr_cli.scale_space import OctaveGroup

_CELLS = 4  # along a side
_EDGES = _CELLS + 1  # places where a cell's hat function begins or ends to rise
_DIRECTIONS = 8
_CELL_WIDTH = 3.0  # times the keypoint's scale
_CLIP = 0.2
_NORM = 512.0
_CHUNK_SAMPLES = 2**15  # so few that their weights stay in a core's cache
_LARGE_CHUNK_SAMPLES = 2**22  # for tensors; they take some 500 MB


def descriptors(group: OctaveGroup, anchor: Anchors, angle: Array) -> Array:
    """SIFT descriptors on the Gaussian images of `group`.

    On a CPU they take thousands of calls of numpy, of some ten microseconds each. Two threads that share them wait for
    the interpreter as long as they compute, so the calling thread does all, in as much time and less processor time.

    Args:
        group: Gaussian images to read.
        anchor: N points in them.
        angle: (N,) float32, degrees clockwise on screen.

    Returns:
        (N, 128) uint8, L2 norm about 512; in order of cell row, cell column, direction.
    """
    order, chunks = _chunks(anchor) if on_cpu(angle) else _large_chunks(anchor)
    if not chunks:
        return beside(np.zeros((0, _CELLS * _CELLS * _DIRECTIONS), np.uint8), angle)
    rows = beside(order, angle)
    frames = _frames(anchor.select(rows), angle[rows])
    sums_of_chunk = _sums if on_cpu(angle) else _sums_of_tensors
    parts = [sums_of_chunk(group.samples, frames.select(chunk.part), chunk) for chunk in chunks]
    sums = library(angle).concatenate(parts)[stable_order(rows)]
    return _normalise(_directions(sums).reshape(len(sums), -1))


@dataclass(frozen=True)
class _Frames:
    """N points with their coordinate systems.

    Attributes:
        anchor: the points.
        row: (N,) int64, of each point in a table of `windows.turned`.
        turns: (N, 1) float32, the angle in full turns.
        transform: (N, 14, 4) float32, what the table's pixels y, x, squared distance, 1 are multiplied by. It gives the
            distance below each of the five edges of cells, and to the right of each, in cells; the exponent of the
            window's weight; the index of the pixel from that of the point; the pixel's y and x.
    """

    anchor: Anchors
    row: Array
    turns: Array
    transform: Array

    def select(self, part: slice) -> _Frames:
        return _Frames(self.anchor.select(part), self.row[part], self.turns[part], self.transform[part])


def _frames(anchor: Anchors, angle: Array) -> _Frames:
    xp, width = library(angle), _CELL_WIDTH * anchor.scale
    zero, one = xp.zeros_like(angle), xp.ones_like(angle)
    row, quarter = windows.angle_step(angle)
    turn = xp.deg2rad(angle - 90 * single(quarter))
    # The screen angle turns +x towards +y.
    cos, sin = xp.cos(turn) / width, xp.sin(turn) / width
    below = [xp.stack([cos, -sin, zero, (_EDGES / 2 - edge) * one]) for edge in range(_EDGES)]
    right = [xp.stack([sin, cos, zero, (_EDGES / 2 - edge) * one]) for edge in range(_EDGES)]
    falloff = -1 / (2 * (_CELLS / 2) ** 2) / (width * width)
    across = beside(np.array([0, 1, 0, -1], np.float32), angle)[quarter]  # sine and cosine of the quarter turns
    along = beside(np.array([1, 0, -1, 0], np.float32), angle)[quarter]
    y, x = xp.stack([along, across, zero, zero]), xp.stack([-across, along, zero, zero])
    transform = xp.stack([*below, *right, xp.stack([zero, zero, falloff, zero]), single(anchor.width) * y + x, y, x])
    return _Frames(anchor, row, (angle / 360)[:, None], _contiguous(xp.moveaxis(transform, 2, 0)))


def _contiguous(array: Array) -> Array:
    return np.ascontiguousarray(array) if on_cpu(array) else array.contiguous()


@dataclass(frozen=True)
class _Chunk:
    """Consecutive points that use windows of one table; on a CPU they are of one octave."""

    part: slice
    band: int  # that of the largest point
    clipped: bool  # whether a window may reach the border of its octave; with tensors always


def _half_sides(anchor: Anchors) -> np.ndarray:
    """(N,) float64: half the side of each point's window, pixels of its octave."""
    half: np.ndarray = ((_CELLS + 1) / 2 * _CELL_WIDTH) * host(anchor.scale).astype(np.float64)
    return half


def _chunks(anchor: Anchors) -> tuple[np.ndarray, list[_Chunk]]:
    """The points by octave and falling scale in it, as indices, and chunks in that order for `_sums`."""
    half = _half_sides(anchor)
    bands = windows.band(half)
    clipped = host(anchor.room()) < np.ceil(half * math.sqrt(2)) + 1
    # Within a band the points are in the order of memory, for the cache.
    width = host(anchor.width)
    order = np.lexsort((host(anchor.index), -bands, width, clipped))
    bands, clipped, width = bands[order], clipped[order], width[order]
    ends = run_ends(width, clipped)
    chunks, start = [], 0
    while start < len(order):
        number, end = int(bands[start]), int(ends[start])
        size = max(1, _CHUNK_SAMPLES // windows.turned(number).pixels.shape[-1])
        served = int(np.searchsorted(-bands[start:end], windows.SPREAD - number))
        chunks.append(_Chunk(slice(start, min(start + size, start + served, end)), number, bool(clipped[start])))
        start = chunks[-1].part.stop
    return order, chunks


def _large_chunks(anchor: Anchors) -> tuple[np.ndarray, list[_Chunk]]:
    """The points by falling scale, of all octaves together, and chunks in that order for `_sums_of_tensors`.

    On CUDA starting an operation takes longer than most of them. So there are as few chunks as memory allows, and small
    windows are computed with the table of the largest: what lies beyond a window weighs nothing.
    """
    bands = windows.band(_half_sides(anchor))
    order = np.argsort(-bands, kind="stable")
    chunks, start = [], 0
    while start < len(order):
        number = int(bands[order[start]])
        size = max(1, _LARGE_CHUNK_SAMPLES // windows.turned(number).pixels.shape[-1])
        chunks.append(_Chunk(slice(start, min(start + size, len(order))), number, clipped=True))
        start = chunks[-1].part.stop
    return order, chunks


def _sums_of_tensors(samples: Array, frames: _Frames, chunk: _Chunk) -> Array:
    """As `_sums`."""
    from idsr_cli.features import tensors

    planes = frames.transform @ tensors.turned(chunk.band, samples.device)[frames.row]
    y, x = planes[:, -2].round(), planes[:, -1].round()
    magnitude, direction = tensors.polar_gradients(samples, frames.anchor, y, x)
    edges = planes[:, : 2 * _EDGES].clip(0, 1).unflatten(1, (2, _EDGES))
    hats = edges[:, :, :-1] - edges[:, :, 1:]
    down, across = hats[:, 0] * (magnitude * planes[:, -4].exp())[:, None], hats[:, 1]
    turns = (direction / 360 + frames.turns).frac()
    return tensors.descriptor_sums(down, across, turns, _DIRECTIONS)


def _sums(samples: np.ndarray, frames: _Frames, chunk: _Chunk) -> np.ndarray:
    """(K, 16, 9) sums over the pixels of K windows: cells by `_ramps`, see `_directions`.

    A hat function, max(0, 1 - |position - cell|), is the difference of two ramps, clip(position - cell + 1, 0, 1) -
    clip(position - cell, 0, 1), so the four cells of a side need five. One matrix product gives these of both sides,
    before they are clipped. Otherwise every operation runs through contiguous memory: numpy takes as long to begin a
    row of pixels as to compute it.
    """
    table = windows.turned(chunk.band)
    count, length = len(frames.row), table.pixels.shape[-1]
    with scratch() as memory:
        pixels = np.take(table.pixels, frames.row, 0, memory.take("pixels", count, 4, length), mode="clip")

        def transformed(rows: slice, planes: np.ndarray) -> np.ndarray:
            return np.matmul(frames.transform[:, rows], pixels, out=planes.transpose(1, 0, 2)).transpose(1, 0, 2)

        # Gradients first: what they need is out of the cache before the cells' weights come.
        used = 4 if chunk.clipped else 2
        weight, offset, *places = transformed(
            slice(2 * _EDGES, 2 * _EDGES + used), memory.take("edges", used, count, length)
        )
        if chunk.clipped:
            counts = inside(frames.anchor, *places)
            offset *= counts
        magnitude, direction = polar_gradients(samples, frames.anchor, offset, memory)
        magnitude *= cv2.exp(weight, weight)
        if chunk.clipped:
            magnitude *= counts
        direction *= np.float32(1 / 360)
        direction += frames.turns
        direction -= np.floor(direction, out=offset)
        edges = transformed(slice(2 * _EDGES), memory.take("edges", 2 * _EDGES, count, length))
        edges.clip(0, 1, out=edges)
        down, across = edges[:_EDGES], edges[_EDGES:]
        for hats in (down, across):
            for cell in range(_CELLS):
                hats[cell] -= hats[cell + 1]
        down = down[:_CELLS]
        down *= magnitude
        ramps = _ramps(direction, memory.take("ramps", _DIRECTIONS + 1, count, length))
        return _products(down, across[:_CELLS], ramps, table.rows, memory)


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


def _products(
    down: np.ndarray, across: np.ndarray, ramps: np.ndarray, rows: tuple[slice, ...], memory: Scratch
) -> np.ndarray:
    """(K, 16, 9): sums over S of down (4, K, S) times across (4, K, S), all 16 pairs, times ramps (9, K, S).

    Each row of `down` is above 0 in its part of the S samples only, see `windows.Turned`.
    """
    count = down.shape[1]
    result = np.empty((count, _CELLS, _CELLS, _DIRECTIONS + 1), np.float32)
    for row, part in enumerate(rows):
        spatial = memory.take("spatial", _CELLS, count, part.stop - part.start)
        for column in range(_CELLS):
            # numpy takes several times as long for arrays whose lines are apart.
            cv2.multiply(down[row, :, part], across[column, :, part], dst=spatial[column])
        np.matmul(spatial.transpose(1, 0, 2), ramps[..., part].transpose(1, 2, 0), out=result[:, row])
    return result.reshape(count, _CELLS * _CELLS, _DIRECTIONS + 1)


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
