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
import torch
from torch.nn import functional as F

from idsr_cli.features.options import SiftOptions
from idsr_cli.features.workers import Workers
from idsr_cli.scale_space import SIFT_BORDER, OctaveGroup

_MAX_STEPS = 5  # fits of one point, which moves to a neighbouring sample after each but the last
_GREY_RANGE = 255.0
_BAND_PIXELS = 2**17  # so small that a band's DoG images fit in a core's cache
_CHUNK = {"cpu": 2**13, "cuda": 2**18}  # candidates refined together


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

    slot: torch.Tensor
    layer: torch.Tensor
    row: torch.Tensor
    column: torch.Tensor
    offset: torch.Tensor
    response: torch.Tensor

    def __len__(self) -> int:
        return len(self.slot)

    def select(self, index: torch.Tensor) -> Points:
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
    scan = _scan_bands if group.samples.device.type == "cpu" else _scan_whole
    found = scan(group, threshold, rules.border, workers)
    return _refine(group, found, options, workers)


def _scan_whole(group: OctaveGroup, threshold: float, border: int, workers: Workers) -> torch.Tensor:
    """Extrema by 3x3x3 maxima: (N, 4) int64 slot, layer, row, column. For a GPU: few and large operations."""
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
    return torch.cat(found)


def _scan_bands(group: OctaveGroup, threshold: float, border: int, workers: Workers) -> torch.Tensor:
    """As `_scan_whole`, but for a CPU: in bands of rows, and compared with the six nearest neighbours only.

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
        places = _scan_band(group.octave(slot).numpy(), top, bottom, threshold, border)
        return np.insert(places, 0, slot, axis=1)

    return torch.from_numpy(np.concatenate(workers.map(scan, bands)))


def _scan_band(levels: np.ndarray, top: int, bottom: int, threshold: float, border: int) -> np.ndarray:
    """Candidates in rows top..bottom-1: (N, 3) int64 layer, row, column.

    Each comparison is used for both neighbours: "x >= left" at one pixel is "right >= x" at the pixel before it.
    """
    width = levels.shape[2]
    left, right = border - 1, width - border + 1
    band = [level[top - 1 : bottom + 1, left:right] for level in levels]
    dog = [cv2.subtract(b, a) for a, b in pairwise(band)]
    centre = [d[1:-1, 1:-1] for d in dog]
    at_least = [cv2.compare(b, a, cv2.CMP_GE) for a, b in pairwise(centre)]
    at_most = [cv2.compare(b, a, cv2.CMP_LE) for a, b in pairwise(centre)]
    found = []
    for layer in range(1, len(dog) - 1):
        d = dog[layer]
        x_least = cv2.compare(d[1:-1, 1:], d[1:-1, :-1], cv2.CMP_GE)
        x_most = cv2.compare(d[1:-1, 1:], d[1:-1, :-1], cv2.CMP_LE)
        y_least = cv2.compare(d[1:, 1:-1], d[:-1, 1:-1], cv2.CMP_GE)
        y_most = cv2.compare(d[1:, 1:-1], d[:-1, 1:-1], cv2.CMP_LE)
        maximum = _beyond(centre[layer], threshold, cv2.CMP_GT)
        for more in (x_least[:, :-1], x_most[:, 1:], y_least[:-1], y_most[1:], at_least[layer - 1], at_most[layer]):
            cv2.bitwise_and(maximum, more, dst=maximum)
        minimum = _beyond(centre[layer], -threshold, cv2.CMP_LT)
        for more in (x_most[:, :-1], x_least[:, 1:], y_most[:-1], y_least[1:], at_most[layer - 1], at_least[layer]):
            cv2.bitwise_and(minimum, more, dst=minimum)
        either: np.ndarray = cv2.bitwise_or(maximum, minimum)
        either &= 1  # numpy finds True faster than 255
        flat = np.flatnonzero(either.view(np.bool_))
        row, column = np.divmod(flat, right - left - 2)
        found.append(np.stack([np.full_like(flat, layer), row + top, column + border], axis=1))
    return np.concatenate(found)


def _beyond(values: np.ndarray, limit: float, comparison: int) -> np.ndarray:
    """uint8: 255 where the comparison of `values` with `limit` holds, else 0."""
    if values.size <= 16:
        # OpenCV passes a number as a small array and mistakes it for one if `values` is as small (1x1, 4x1).
        return cv2.compare(values, np.full_like(values, limit), comparison)
    return cv2.compare(values, limit, comparison)  # type: ignore[call-overload]  # stubs lack scalars


def _cubes(group: OctaveGroup, places: torch.Tensor) -> torch.Tensor:
    """The DoG around each point: (N, 4) slot, layer, row, column -> (3, 3, 3, N) float32, axes layer, row, column."""
    slot, layer, row, column = places.unbind(1)
    device = places.device
    shapes = torch.tensor(group.shapes, device=device)
    width = shapes[:, 1][slot]
    plane = shapes.prod(1)[slot]
    first = torch.tensor(group.starts, device=device)[slot] + (layer - 1) * plane + (row - 1) * width + column - 1
    lines = first + width * torch.arange(3, device=device)[:, None]
    levels = lines + plane * torch.arange(4, device=device)[:, None, None]
    index = levels[:, :, None] + torch.arange(3, device=device)[:, None]
    gaussian = group.samples.index_select(0, index.flatten()).view(index.shape)
    return gaussian[1:] - gaussian[:-1]


def _is_extremum(cubes: torch.Tensor) -> torch.Tensor:
    """True where the centre is the largest (if positive) or smallest (if negative) of the 27 values, ties allowed."""
    flat = cubes.flatten(0, 2)
    centre = flat[13]
    return torch.where(centre > 0, centre >= flat.amax(0), centre <= flat.amin(0))


@dataclass(frozen=True)
class _Quadratic:
    """Second-order fit at the centre of DoG cubes, grey range [0, 1]; axes in the order x, y, layer."""

    value: torch.Tensor  # (N,), at the extremum of the fit
    offset: torch.Tensor  # (3, N), from the centre to the extremum; 0 where the Hessian is singular
    trace: torch.Tensor  # (N,), of the spatial Hessian
    determinant: torch.Tensor  # (N,), likewise


def _fit(cubes: torch.Tensor) -> _Quadratic:
    c = cubes / _GREY_RANGE
    below, here, above = c.unbind(0)
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
    offset = torch.where(regular, torch.stack([x, y, s]) / torch.where(regular, -determinant, 1.0), 0.0)
    value = centre + 0.5 * (gx * offset[0] + gy * offset[1] + gs * offset[2])
    return _Quadratic(value, offset, xx + yy, spatial)


def _refine(group: OctaveGroup, candidates: torch.Tensor, options: SiftOptions, workers: Workers) -> Points:
    """Keep the true extrema among (N, 4) candidates, refine each to its sub-sample position, and filter."""
    size = min(_CHUNK[candidates.device.type], len(candidates) // workers.threads + 1)
    chunks = candidates.split(size)
    parts = workers.map(lambda chunk: _refine_chunk(group, chunk, options), chunks)
    places = torch.cat([p[0] for p in parts])
    offset, response = torch.cat([p[1] for p in parts]), torch.cat([p[2] for p in parts])
    # Neighbours on a plateau can move to the same position. Their fits are then identical, so one is kept.
    slot, layer, row, column = places.unbind(1)
    tallest, widest = max(h for h, _ in group.shapes), max(w for _, w in group.shapes)
    key, order = torch.sort(((slot * group.levels + layer) * tallest + row) * widest + column, stable=True)
    order = order[torch.cat([torch.ones_like(key[:1], dtype=torch.bool), key[1:] != key[:-1]])]
    points = Points(slot, layer, row, column, offset, response).select(order)
    return points if _RULES[options.rules].across_layers else _nearest_pixels(group, points)


def _nearest_pixels(group: OctaveGroup, points: Points) -> Points:
    """The same points, each given from the pixel that is nearest to it; gradients are read around that pixel."""
    size = torch.tensor(group.shapes, device=points.slot.device)[points.slot]
    pixel = torch.stack([points.row, points.column], 1)
    # At the border of the octave there are no gradients.
    nearest = (pixel + points.offset[:, :2].flip(1).round().long()).clamp_min(1).minimum(size - 2)
    offset = points.offset.clone()
    offset[:, :2] += (pixel - nearest).flip(1)
    return replace(points, row=nearest[:, 0], column=nearest[:, 1], offset=offset)


def _refine_chunk(
    group: OctaveGroup, places: torch.Tensor, options: SiftOptions
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(N, 4) candidates -> (M, 4) places, (M, 3) offsets, (M,) responses."""
    rules, r = _RULES[options.rules], options.edge_threshold
    shapes = torch.tensor(group.shapes, device=places.device)
    cubes = _cubes(group, places)
    extremum = _is_extremum(cubes)
    places, cubes = places[extremum], cubes[..., extremum]
    done = []
    for left in reversed(range(_MAX_STEPS)):
        fit, size = _fit(cubes), shapes[places[:, 0]]
        step, settled = _steps(fit.offset, places, size, rules, last=not left)
        good = (
            settled
            & (fit.offset.abs().amax(0) < rules.accept)
            & (fit.value.abs() * options.n_layers >= options.contrast_threshold)
            & (fit.determinant > 0)
            & (fit.trace * fit.trace * r < (r + 1) ** 2 * fit.determinant)
            & _within(places[:, 1:] + fit.offset.T.flip(1), size, options.n_layers + 2)
        )
        done.append((places[good], fit.offset[:, good].T, fit.value[good].abs()))
        moved = places[~settled]
        moved[:, 1:] += step[:, ~settled].T.flip(1)
        position, layer, size = moved[:, 2:], moved[:, 1], size[~settled]
        inside = ((position >= rules.border) & (position < size - rules.border)).all(1)
        places = moved[inside & (layer >= 1) & (layer <= options.n_layers)]
        if not len(places):
            break
        cubes = _cubes(group, places)
    return torch.cat([d[0] for d in done]), torch.cat([d[1] for d in done]), torch.cat([d[2] for d in done])


def _steps(
    offset: torch.Tensor, places: torch.Tensor, size: torch.Tensor, rules: _Rules, last: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where points move next.

    Args:
        offset: (3, N) float32, from their samples to the extrema of the fits: x, y, layer.
        places: (N, 4) int64, the samples: slot, layer, row, column.
        size: (N, 2) int64, of their octaves: height, width.
        rules: see `_Rules`.
        last: whether no move is left.

    Returns:
        step: (3, N) int64, samples in x, y, layer.
        settled: (N,) bool: the point stays. With OpenCV's rules a point that has not settled in the end is dropped.
    """
    if rules.across_layers:
        # The clamp keeps huge offsets within integers; such points leave the octave anyway.
        return offset.clamp(-1e6, 1e6).round().long(), offset.abs().amax(0) < rules.move
    step = (offset > rules.move).long() - (offset < -rules.move).long()
    step[2] = 0
    target = places[:, 2:] + step[:2].T.flip(1)
    step[:2] *= ((target >= rules.border) & (target < size - rules.border)).T.flip(0)
    return step, (step == 0).all(0) | last


def _within(place: torch.Tensor, size: torch.Tensor, layers: int) -> torch.Tensor:
    """(N,) bool: whether (N, 3) layer, row, column are within 0..`layers` and octaves of (N, 2) height, width."""
    return ((place >= 0) & (place[:, 1:] <= size - 1).all(1, keepdim=True)).all(1) & (place[:, 0] <= layers)
