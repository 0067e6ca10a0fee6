"""Positions and scales: extrema of the difference-of-Gaussian (DoG) pyramid, refined as OpenCV's SIFT does.

DoG image i of an octave is Gaussian image i + 1 minus image i. It is not stored: the scan computes it band by band, and
the refinement subtracts the same numbers again.

Source: D. Lowe, "Distinctive Image Features from Scale-Invariant Keypoints" (2004), sections 3 and 4. What the paper
leaves open is as in OpenCV's `cv2.SIFT` or as in VLFeat's `vl_sift`, which COLMAP uses: see `_Rules`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import cv2
import numpy as np

from idsr_cli.features.arrays import Array, beside, library, on_cpu, stable_order, whole
from idsr_cli.features.options import SiftOptions
from idsr_cli.features.workers import Workers
from idsr_cli.scale_space import SIFT_BORDER, OctaveGroup

_MAX_STEPS = 5  # fits of one point, which moves to a neighbouring sample after each but the last
_GREY_RANGE = 255.0
_BAND_PIXELS = 2**17  # so small that a band's DoG images fit in a core's cache
_CHUNK = {True: 2**13, False: 2**18}  # candidates refined together, on a CPU or not


@dataclass(frozen=True)
class Points:
    """N positions in the pyramid of one `OctaveGroup`; no two have the same (slot, layer, row, column).

    Attributes:
        slot: (N,) int64, octave within the group.
        layer: (N,) int64, 1..n_layers.
        row: (N,) int64, pixel of that octave.
        column: (N,) int64, pixel of that octave.
        offset: (N, 3) float32, sub-sample offset in x, y, layer. With OpenCV's rules each is in (-0.5, 0.5); with
            VLFeat's that of the layer is in (-1.5, 1.5), and x and y are outside [-0.5, 0.5] at the border only.
        response: (N,) float32, |interpolated DoG| on a grey range of [0, 1].
    """

    slot: Array
    layer: Array
    row: Array
    column: Array
    offset: Array
    response: Array

    def __len__(self) -> int:
        return len(self.slot)

    def select(self, index: Array) -> Points:
        """The points `index` (integer or boolean), in that order."""
        return Points(*(getattr(self, f.name)[index] for f in fields(self)))


@dataclass(frozen=True)
class _Rules:
    """How an implementation refines an extremum by fits of a quadratic, and what it accepts.

    Attributes:
        border: no extrema nearer than this to the border of an octave, pixels of the octave; 1 or more.
        whole_levels: whether the first threshold of the scan is rounded down to whole grey levels.
        scan_share: the first threshold as a share of the final one.
        move: a point moves on if the fit's extremum is farther than this from its sample in some direction.
        across_layers: whether it moves to other layers, or in x and y only.
        accept: the last fit's extremum must be nearer than this in every direction.
    """

    border: int
    whole_levels: bool
    scan_share: float
    move: float
    across_layers: bool
    accept: float


_RULES = {
    "opencv": _Rules(SIFT_BORDER, whole_levels=True, scan_share=0.5, move=0.5, across_layers=True, accept=0.5),
    "vlfeat": _Rules(1, whole_levels=False, scan_share=0.8, move=0.6, across_layers=False, accept=1.5),
}


def find_points(group: OctaveGroup, options: SiftOptions, workers: Workers) -> Points:
    """The DoG extrema of a group of octaves, refined, without weak, edge-like and duplicate ones.

    Args:
        group: octaves with `n_layers` + 3 Gaussian images each.
        options: thresholds.
        workers: threads for a CPU.

    Returns:
        Points ordered by octave, layer, row, column.
    """
    rules = _RULES[options.rules]
    threshold = rules.scan_share * options.contrast_threshold / options.n_layers * _GREY_RANGE
    if rules.whole_levels:
        threshold = math.floor(threshold)
    if on_cpu(group.samples):
        found: Array = _scan(group, threshold, rules.border, workers)
    else:
        from idsr_cli.features.tensors import scan

        found = scan(group, threshold, rules.border)
    return _refine(group, found, options, workers)


def _scan(group: OctaveGroup, threshold: float, border: int, workers: Workers) -> np.ndarray:
    """Candidates: (4, N) int64 slot, layer, row, column; in bands of rows, compared with the six nearest neighbours.

    The refinement compares with the other twenty, which is cheap because few pixels pass this test.
    """
    bands = []
    for slot, (height, width) in enumerate(group.shapes):
        rows = max(8, _BAND_PIXELS // width)
        bands += [(slot, top) for top in range(border, height - border, rows)]

    def scan(band: tuple[int, int]) -> np.ndarray:
        slot, top = band
        height, width = group.shapes[slot]
        bottom = min(top + max(8, _BAND_PIXELS // width), height - border)
        places = _scan_band(group.octave(slot), top, bottom, threshold, border)
        return np.insert(places, 0, slot, axis=0)

    return np.concatenate(workers.map(scan, bands), axis=1)


def _scan_band(levels: np.ndarray, top: int, bottom: int, threshold: float, border: int) -> np.ndarray:
    """Candidates in rows top..bottom-1: (3, N) int64 layer, row, column.

    Each comparison is used for both neighbours: "x >= left" at one pixel is "right >= x" at the pixel before it. The
    rows are one line here, which numpy goes through in half the time. So the first pixel of a row is compared with the
    last one of the row before, and pixels near the border are dropped at the end.
    """
    width = levels.shape[2]
    band = [level[top - 1 : bottom + 1] for level in levels]
    dog = [cv2.subtract(b, a).ravel() for a, b in pairwise(band)]
    centre = [d[width:-width] for d in dog]
    at_least = [b >= a for a, b in pairwise(centre)]
    at_most = [b <= a for a, b in pairwise(centre)]
    found = []
    for layer in range(1, len(dog) - 1):
        d, middle = dog[layer], centre[layer]
        here, before = d[width : 1 - width], d[width - 1 : -width]
        x_least, x_most = here >= before, here <= before
        y_least, y_most = d[width:] >= d[:-width], d[width:] <= d[:-width]
        extremum = middle > np.float32(threshold)
        for more in (x_least[:-1], x_most[1:], y_least[:-width], y_most[width:], at_least[layer - 1], at_most[layer]):
            extremum &= more
        minimum = middle < np.float32(-threshold)
        for more in (x_most[:-1], x_least[1:], y_most[:-width], y_least[width:], at_most[layer - 1], at_least[layer]):
            minimum &= more
        extremum |= minimum
        found.append(np.flatnonzero(extremum))
    row, column = np.divmod(np.concatenate(found), width)
    layer_of_each = np.repeat(np.arange(1, len(dog) - 1), [len(flat) for flat in found])
    places = np.stack([layer_of_each, row + top, column])
    return places[:, (column >= border) & (column < width - border)]


def _cubes(group: OctaveGroup, places: Array) -> Array:
    """The DoG around each point: (4, N) slot, layer, row, column -> (3, 3, 3, N) float32, axes layer, row, column."""
    slot, layer, row, column = places
    height, width = beside(group.shapes, places).T[:, slot]
    plane = height * width
    steps = beside(range(4), places)
    first = beside(group.starts, places)[slot] + (layer - 1) * plane + (row - 1) * width + column - 1
    lines = first + width * steps[:3, None]
    levels = lines + plane * steps[:, None, None]
    gaussian = library(places).take(group.samples, levels[:, :, None] + steps[:3, None])
    return gaussian[1:] - gaussian[:-1]


def _is_extremum(cubes: Array) -> Array:
    """True where the centre is the largest (if positive) or smallest (if negative) of the 27 values, ties allowed."""
    xp, flat = library(cubes), cubes.reshape(27, -1)
    centre = flat[13]
    return xp.where(centre > 0, centre >= xp.amax(flat, 0), centre <= xp.amin(flat, 0))


@dataclass(frozen=True)
class _Quadratic:
    """Second-order fit at the centre of DoG cubes, grey range [0, 1]; axes in the order x, y, layer."""

    value: Array  # (N,), at the extremum of the fit
    offset: Array  # (3, N), from the centre to the extremum; 0 where the Hessian is singular
    trace: Array  # (N,), of the spatial Hessian
    determinant: Array  # (N,), likewise


def _fit(cubes: Array) -> _Quadratic:
    if not on_cpu(cubes):
        from idsr_cli.features import tensors

        return _Quadratic(*tensors.fit(cubes / _GREY_RANGE))
    below, here, above = cubes / _GREY_RANGE
    centre = here[1, 1]
    gx, gy, gs = (here[1, 2] - here[1, 0]) / 2, (here[2, 1] - here[0, 1]) / 2, (above[1, 1] - below[1, 1]) / 2
    twice = 2 * centre
    xx, yy = here[1, 2] + here[1, 0] - twice, here[2, 1] + here[0, 1] - twice
    ss = above[1, 1] + below[1, 1] - twice
    xy = (here[2, 2] - here[2, 0] - here[0, 2] + here[0, 0]) / 4
    xs = (above[1, 2] - above[1, 0] - below[1, 2] + below[1, 0]) / 4
    ys = (above[2, 1] - above[0, 1] - below[2, 1] + below[0, 1]) / 4
    # Cramer's rule by the adjugate of the symmetric Hessian.
    spatial = xx * yy - xy * xy
    a_xx, a_xy, a_xs = yy * ss - ys * ys, xs * ys - xy * ss, xy * ys - xs * yy
    a_yy, a_ys = xx * ss - xs * xs, xy * xs - xx * ys
    determinant = xx * a_xx + xy * a_xy + xs * a_xs
    x = a_xx * gx + a_xy * gy + a_xs * gs
    y = a_xy * gx + a_yy * gy + a_ys * gs
    s = a_xs * gx + a_ys * gy + spatial * gs
    regular = determinant != 0
    offset = np.where(regular, np.stack([x, y, s]) / np.where(regular, -determinant, 1.0), 0.0)
    value = centre + 0.5 * (gx * offset[0] + gy * offset[1] + gs * offset[2])
    return _Quadratic(value, offset, xx + yy, spatial)


def _refine(group: OctaveGroup, candidates: Array, options: SiftOptions, workers: Workers) -> Points:
    """Keep the true extrema among (4, N) candidates, refine each to its sub-sample position, and filter."""
    xp, size = library(candidates), _CHUNK[on_cpu(candidates)]

    def chunks(places: Array) -> list[Array]:
        count = places.shape[1]
        each = min(size, count // workers.threads + 1)
        return [places[:, start : start + each] for start in range(0, max(count, 1), each)]

    # Few candidates are extrema, so chunks are made anew: each takes some hundred calls of numpy for every move.
    extrema = xp.concatenate(workers.map(lambda chunk: _true_extrema(group, chunk), chunks(candidates)), -1)
    parts = workers.map(lambda chunk: _refine_chunk(group, chunk, options), chunks(extrema))
    places, offset, response = (xp.concatenate(part, -1) for part in zip(*parts, strict=True))
    # Neighbours on a plateau can move to the same position. Their fits are then identical, so one is kept.
    slot, layer, row, column = places
    tallest, widest = max(h for h, _ in group.shapes), max(w for _, w in group.shapes)
    key = ((slot * group.levels + layer) * tallest + row) * widest + column
    order = stable_order(key)
    key = key[order]
    order = order[xp.concatenate([key[:1] == key[:1], key[1:] != key[:-1]])]
    points = Points(slot, layer, row, column, offset.T, response).select(order)
    return points if _RULES[options.rules].across_layers else _nearest_pixels(group, points)


def _nearest_pixels(group: OctaveGroup, points: Points) -> Points:
    """The same points, each given from the pixel that is nearest to it; gradients are read around that pixel."""
    xp, offset = library(points.slot), points.offset.T
    pixel = xp.stack([points.column, points.row])
    size = xp.stack(list(beside(group.shapes, points.slot).T[:, points.slot])[::-1])
    # At the border of the octave there are no gradients.
    nearest = xp.minimum((pixel + whole(xp.round(offset[:2]))).clip(min=1), size - 2)
    column, row = nearest
    moved = xp.concatenate([offset[:2] + (pixel - nearest), offset[2:]]).T
    return replace(points, row=row, column=column, offset=moved)


def _true_extrema(group: OctaveGroup, places: Array) -> Array:
    """The extrema among (4, N) candidates: (4, M)."""
    return places[:, library(places).where(_is_extremum(_cubes(group, places)))[0]]


def _refine_chunk(group: OctaveGroup, places: Array, options: SiftOptions) -> tuple[Array, Array, Array]:
    """(4, N) extrema -> (4, M) places, (3, M) offsets in x, y, layer, (M,) responses."""
    xp, rules, r = library(places), _RULES[options.rules], options.edge_threshold
    shapes = beside(group.shapes, places).T
    cubes = _cubes(group, places)
    done = []
    for left in reversed(range(_MAX_STEPS)):
        fit, size = _fit(cubes), shapes[:, places[0]]
        step, settled = _steps(fit.offset, places, size, rules, last=not left)
        good = xp.where(
            settled
            & (xp.amax(abs(fit.offset), 0) < rules.accept)
            & (abs(fit.value) * options.n_layers >= options.contrast_threshold)
            & (fit.determinant > 0)
            & (fit.trace * fit.trace * r < (r + 1) ** 2 * fit.determinant)
            & _within(places[1:] + xp.flip(fit.offset, (0,)), size, options.n_layers + 2)
        )[0]
        done.append((places[:, good], fit.offset[:, good], abs(fit.value[good])))
        moving = xp.where(~settled)[0]
        slot, layer, row, column = places[:, moving]
        x, y, s = step[:, moving]
        moved, (height, width) = xp.stack([slot, layer + s, row + y, column + x]), size[:, moving]
        inside = _inside(moved, height, width, rules.border) & (moved[1] >= 1) & (moved[1] <= options.n_layers)
        places = moved[:, inside]
        if not places.shape[1]:
            break
        cubes = _cubes(group, places)
    places, offset, response = (xp.concatenate(part, -1) for part in zip(*done, strict=True))
    return places, offset, response


def _inside(places: Array, height: Array, width: Array, border: int) -> Array:
    """(N,) bool: whether (4, N) places are at least `border` pixels from the border of their octaves."""
    _, _, row, column = places
    return (row >= border) & (row < height - border) & (column >= border) & (column < width - border)


def _steps(offset: Array, places: Array, size: Array, rules: _Rules, last: bool) -> tuple[Array, Array]:
    """Where points move next.

    Args:
        offset: (3, N) float32, from their samples to the extrema of the fits: x, y, layer.
        places: (4, N) int64, the samples: slot, layer, row, column.
        size: (2, N) int64, of their octaves: height, width.
        rules: see `_Rules`.
        last: whether no move is left.

    Returns:
        step: (3, N) int64, samples in x, y, layer.
        settled: (N,) bool: the point stays. With OpenCV's rules a point that has not settled in the end is dropped.
    """
    xp = library(offset)
    if rules.across_layers:
        # The clip keeps huge offsets within integers; such points leave the octave anyway.
        return whole(xp.round(offset.clip(-1e6, 1e6))), xp.amax(abs(offset), 0) < rules.move
    step = whole(offset > rules.move) - whole(offset < -rules.move)
    for axis, (position, side) in enumerate(((places[3], size[1]), (places[2], size[0]))):
        target = position + step[axis]
        step[axis] *= (target >= rules.border) & (target < side - rules.border)
    step[2] = 0
    return step, (step == 0).all(0) | last


def _within(place: Array, size: Array, layers: int) -> Array:
    """(N,) bool: whether (3, N) layer, row, column are within 0..`layers` and octaves of (2, N) height, width."""
    return ((place >= 0).all(0) & (place[1:] <= size - 1).all(0)) & (place[0] <= layers)
