"""Dominant gradient directions around a keypoint.

Source: Lowe (2004), section 5; window and rounding are those of OpenCV's `cv2.SIFT`, the smoothing is OpenCV's or
VLFeat's.
"""

from __future__ import annotations

import cv2
import numpy as np

from idsr_cli.features.arrays import Array, beside, host, library, on_cpu, run_ends, single, stable_order, whole
from idsr_cli.features.gradients import Anchors, inside, polar_gradients, square_gradients
from idsr_cli.features.options import Rules, SiftOptions
from idsr_cli.features.scratch import scratch
from idsr_cli.features.windows import axis_aligned
from idsr_cli.scale_space import OctaveGroup

_BINS = 36
_WINDOW_SIGMA = 1.5  # times the keypoint's scale
_WINDOW_RADIUS = 4.5  # likewise: three window sigmas
_PEAK_RATIO = 0.8  # of the highest bin
_VLFEAT_PASSES = 6  # of VLFeat's smoothing
# Lowest bin that counts as a direction. In a flat image rounding leaves gradients of some 1e-5 grey levels, which sum
# to 1e-3 in a bin; around a point that was found in the same image the sums are far larger.
_FLAT = 0.02
_CHUNK_SAMPLES = 2**15  # so few that they fit in a core's cache
_LARGE_CHUNK_SAMPLES = 2**24  # for tensors; they take some 500 MB


def orientations(group: OctaveGroup, anchor: Anchors, options: SiftOptions) -> tuple[Array, Array]:
    """One angle for each strong peak of the gradient histogram around each point. Like `descriptors` in one thread.

    Args:
        group: Gaussian images to read.
        anchor: N points in them.
        options: how many angles a point may have, and whose smoothing.

    Returns:
        index: (M,) int64 into the N points, ascending; points in flat surroundings are left out.
        angle: (M,) float32, degrees clockwise on screen (from +x towards +y), [0, 360).
    """
    histogram = _smooth(_histograms(group.samples, anchor), options.rules)
    xp = library(histogram)
    before, after = xp.roll(histogram, 1, 1), xp.roll(histogram, -1, 1)
    floor = (xp.amax(histogram, 1)[:, None] * _PEAK_RATIO).clip(min=_FLAT)
    peaks = (histogram > before) & (histogram > after) & (histogram >= floor)
    if options.max_orientations is not None:
        peaks &= _strongest(xp.where(peaks, histogram, 0.0), options.max_orientations)
    index, peak = xp.where(peaks)
    left, top, right = before[index, peak], histogram[index, peak], after[index, peak]
    place = single(peak) + 0.5 * (left - right) / (left - 2 * top + right)
    place = xp.where(place < 0, place + _BINS, xp.where(place >= _BINS, place - _BINS, place))
    return index, (360 - place * (360 / _BINS)) % 360


def _histograms(samples: Array, anchor: Anchors) -> Array:
    """(N, 36) float32: gradient magnitude under a Gaussian window, by direction (y up), not smoothed."""
    radius = whole(library(samples).round(_WINDOW_RADIUS * anchor.scale))
    if on_cpu(samples):
        order, found = _in_chunks(samples, anchor, radius)
    else:
        order, found = _in_large_chunks(samples, anchor, radius)
    sums_of_bins = library(samples).concatenate([*found, beside(np.zeros((0, _BINS + 1)), samples)])
    sums_of_bins[:, 0] += sums_of_bins[:, _BINS]
    return single(sums_of_bins[stable_order(order), :_BINS])


def _in_chunks(samples: np.ndarray, anchor: Anchors, radius: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The points by octave and falling radius, as indices, and `_chunk_histograms` in that order."""
    clipped = anchor.room() < radius
    order = np.lexsort((anchor.index, -radius, anchor.width, clipped))
    anchor, radius, clipped = anchor.select(order), radius[order], clipped[order]
    ends = run_ends(anchor.width, clipped)
    found, start = [], 0
    while start < len(order):
        largest = int(radius[start])
        part = slice(start, min(start + max(1, _CHUNK_SAMPLES // (2 * largest + 1) ** 2), int(ends[start])))
        found.append(_chunk_histograms(samples, anchor.select(part), radius[part], largest, bool(clipped[start])))
        start = part.stop
    return order, found


def _in_large_chunks(samples: Array, anchor: Anchors, radius: Array) -> tuple[Array, list[Array]]:
    """The points by falling radius, of all octaves together, and `_chunk_histograms_of_tensors` in that order.

    On CUDA starting an operation takes longer than most of them, so there are as few chunks as memory allows.
    """
    order = stable_order(-radius)
    anchor, radius = anchor.select(order), radius[order]
    largest, found, start = host(radius), [], 0
    while start < len(largest):
        widest = int(largest[start])
        part = slice(start, start + max(1, _LARGE_CHUNK_SAMPLES // (2 * widest + 1) ** 2))
        found.append(_chunk_histograms_of_tensors(samples, anchor.select(part), radius[part], widest))
        start = part.stop
    return order, found


def _chunk_histograms(
    samples: np.ndarray, anchor: Anchors, radius: np.ndarray, largest: int, clipped: bool
) -> np.ndarray:
    """(K, 37) float64 sums of K points, none with a radius above `largest`; the last bin is 360 degrees, which is 0."""
    window = axis_aligned(largest)
    with scratch() as memory:
        shape = (len(radius), len(window.y))
        found = None if clipped else square_gradients(samples, anchor, largest, memory)
        if found is None:
            offset = window.y * np.float32(anchor.width[0]) + window.x  # below 2^24, so exact
            if clipped:
                counts = inside(anchor, window.y, window.x)
                offset = np.multiply(counts, offset, out=memory.take("offset", *shape))
            else:
                offset = offset.astype(np.int64)
            found = polar_gradients(samples, anchor, offset, memory)
        magnitude, angle = found
        if clipped:
            magnitude *= counts
        weight = np.take(window.distance, radius, 0, memory.take("weight", *shape), "clip")
        weight *= (-0.5 / (_WINDOW_SIGMA * anchor.scale) ** 2)[:, None]
        magnitude *= cv2.exp(weight, weight)
        bins = memory.take("index", *angle.shape, dtype=np.int64)
        angle *= np.float32(_BINS / 360)
        bins[...] = np.rint(angle, out=angle)
        bins += np.arange(0, len(radius) * (_BINS + 1), _BINS + 1)[:, None]
        return np.bincount(bins.ravel(), magnitude.ravel(), len(radius) * (_BINS + 1)).reshape(-1, _BINS + 1)


def _chunk_histograms_of_tensors(samples: Array, anchor: Anchors, radius: Array, largest: int) -> Array:
    """As `_chunk_histograms`, for points of any octaves."""
    from idsr_cli.features import tensors

    y, x, distance = tensors.axis_aligned(largest, samples.device)
    magnitude, angle = tensors.polar_gradients(samples, anchor, y, x)
    falloff = -0.5 / (_WINDOW_SIGMA * anchor.scale) ** 2
    first = beside(np.arange(0, len(radius) * (_BINS + 1), _BINS + 1), samples)
    bins = (angle * (_BINS / 360)).round().long() + first[:, None]
    values = magnitude * (distance[radius] * falloff[:, None]).exp()
    return tensors.sums_by_bin(bins, values, len(radius) * (_BINS + 1)).reshape(-1, _BINS + 1)


def _strongest(peaks: Array, count: int) -> Array:
    """(N, 36) bool: True in the `count` largest bins of each row; of equal ones the first."""
    rank = stable_order(stable_order(-peaks))
    return rank < count


def _smooth(histogram: Array, rules: Rules) -> Array:
    """Circular smoothing: OpenCV's binomial [1 4 6 4 1] / 16, or VLFeat's mean of three bins, six times."""
    roll = library(histogram).roll
    if rules == "vlfeat":
        for _ in range(_VLFEAT_PASSES):
            histogram = (roll(histogram, 1, 1) + histogram + roll(histogram, -1, 1)) / 3
        return histogram
    far = roll(histogram, 2, 1) + roll(histogram, -2, 1)
    near = roll(histogram, 1, 1) + roll(histogram, -1, 1)
    return far * (1 / 16) + near * (4 / 16) + histogram * (6 / 16)
