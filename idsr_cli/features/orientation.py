"""Dominant gradient directions around a keypoint.

Source: Lowe (2004), section 5; window and rounding are those of OpenCV's `cv2.SIFT`, the smoothing is OpenCV's or
VLFeat's.
"""

from __future__ import annotations

import numpy as np
import torch

from idsr_cli.features.gradients import Anchors, polar_gradients
from idsr_cli.features.options import Rules, SiftOptions
from idsr_cli.features.scratch import Scratch, scratch
from idsr_cli.features.windows import Windows, axis_aligned
from idsr_cli.features.workers import Workers
from idsr_cli.scale_space import OctaveGroup

_BINS = 36
_WINDOW_SIGMA = 1.5  # times the keypoint's scale
_WINDOW_RADIUS = 4.5  # likewise: three window sigmas
_PEAK_RATIO = 0.8  # of the highest bin
_VLFEAT_PASSES = 6  # of VLFeat's smoothing
# Lowest bin that counts as a direction. In a flat image rounding leaves gradients of some 1e-5 grey levels, which sum
# to 1e-3 in a bin; around a point that was found in the same image the sums are far larger.
_FLAT = 0.02
_CHUNK_SAMPLES = {"cpu": 2**16, "cuda": 2**24}
_FIXED_POINT = 2.0**24  # CUDA adds in any order, so sums are only reproducible in integers


def orientations(
    group: OctaveGroup, anchor: Anchors, options: SiftOptions, workers: Workers
) -> tuple[torch.Tensor, torch.Tensor]:
    """One angle for each strong peak of the gradient histogram around each point.

    Args:
        group: Gaussian images to read.
        anchor: N points in them.
        options: how many angles a point may have, and whose smoothing.
        workers: threads for a CPU.

    Returns:
        index: (M,) int64 into the N points, ascending; points in flat surroundings are left out.
        angle: (M,) float32, degrees clockwise on screen (from +x towards +y), [0, 360).
    """
    histogram = _smooth(_histograms(group.samples, anchor, workers), options.rules)
    before, after = histogram.roll(1, 1), histogram.roll(-1, 1)
    floor = (histogram.amax(1, keepdim=True) * _PEAK_RATIO).clamp_min(_FLAT)
    peaks = (histogram > before) & (histogram > after) & (histogram >= floor)
    if options.max_orientations is not None:
        peaks &= _strongest(torch.where(peaks, histogram, 0.0), options.max_orientations)
    index, peak = torch.nonzero(peaks, as_tuple=True)
    left, top, right = before[index, peak], histogram[index, peak], after[index, peak]
    place = peak + 0.5 * (left - right) / (left - 2 * top + right)
    place = torch.where(place < 0, place + _BINS, torch.where(place >= _BINS, place - _BINS, place))
    angle = 360 - place * (360 / _BINS)
    return index, angle.remainder(360)


def _histograms(samples: torch.Tensor, anchor: Anchors, workers: Workers) -> torch.Tensor:
    """(N, 36) float32: gradient magnitude under a Gaussian window, by direction (y up), not smoothed."""
    device = samples.device
    radius = torch.round(_WINDOW_RADIUS * anchor.scale).long()
    host_radius = radius.cpu().numpy()
    clipped = (anchor.room() < radius).cpu().numpy()
    order = np.lexsort((anchor.index.cpu().numpy(), -host_radius, clipped))
    rows = torch.from_numpy(order).to(device)
    anchor, radius, host_radius = anchor.select(rows), radius[rows], host_radius[order]
    inner = int(np.count_nonzero(~clipped))
    slices, start = [], 0
    while start < len(order):
        size = max(1, _CHUNK_SAMPLES[device.type] // int(2 * host_radius[start] + 1) ** 2)
        slices.append(slice(start, min(start + size, inner if start < inner else len(order))))
        start = slices[-1].stop
    histograms = torch.empty(len(order), _BINS, device=device)

    def fill(part: slice) -> None:
        window = axis_aligned(int(host_radius[part.start]), device)
        clipped = part.start >= inner
        with scratch(device) as memory:
            found = _chunk_histograms(samples, anchor.select(part), radius[part], window, clipped, memory)
        histograms[rows[part]] = found

    workers.map(fill, slices)
    return histograms


def _chunk_histograms(
    samples: torch.Tensor,
    anchor: Anchors,
    radius: torch.Tensor,
    window: Windows,
    clipped: bool,
    memory: Scratch,
) -> torch.Tensor:
    """(K, 36) float32 histograms of K points, whose windows are rows of one table."""
    magnitude, angle = polar_gradients(samples, anchor, window.y, window.x, clipped, memory)
    falloff = -0.5 / (_WINDOW_SIGMA * anchor.scale) ** 2
    weight = torch.index_select(window.distance, 0, radius, out=memory.take("weight", *magnitude.shape))
    magnitude *= weight.mul_(falloff[:, None]).exp_()
    # One extra bin per point receives 360 degrees; it is added to bin 0 below.
    count = len(radius)
    first = torch.arange(0, count * (_BINS + 1), _BINS + 1, device=angle.device)
    if angle.device.type == "cpu":
        angle.mul_(_BINS / 360).round_().add_(first[:, None].float())  # below 2^24, so exact
        bins = memory.take("bins", *angle.shape, dtype=torch.int64).copy_(angle)
        sums = torch.from_numpy(np.bincount(bins.view(-1).numpy(), magnitude.view(-1).numpy(), count * (_BINS + 1)))
    else:
        bins = angle.mul_(_BINS / 360).round_().long().add_(first[:, None])
        fixed = (magnitude.double() * _FIXED_POINT).round_().long()
        sums = torch.zeros(count * (_BINS + 1), dtype=torch.int64, device=bins.device)
        sums = sums.scatter_add_(0, bins.view(-1), fixed.view(-1)).double() / _FIXED_POINT
    sums = sums.view(count, _BINS + 1)
    sums[:, 0] += sums[:, _BINS]
    return sums[:, :_BINS].float()


def _strongest(peaks: torch.Tensor, count: int) -> torch.Tensor:
    """(N, 36) bool: True in the `count` largest bins of each row; of equal ones the first."""
    order = peaks.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(peaks, dtype=torch.bool).scatter_(1, order, value=True)


def _smooth(histogram: torch.Tensor, rules: Rules) -> torch.Tensor:
    """Circular smoothing: OpenCV's binomial [1 4 6 4 1] / 16, or VLFeat's mean of three bins, six times."""
    if rules == "vlfeat":
        for _ in range(_VLFEAT_PASSES):
            histogram = (histogram.roll(1, 1) + histogram + histogram.roll(-1, 1)) / 3
        return histogram
    far = histogram.roll(2, 1) + histogram.roll(-2, 1)
    near = histogram.roll(1, 1) + histogram.roll(-1, 1)
    return far * (1 / 16) + near * (4 / 16) + histogram * (6 / 16)
