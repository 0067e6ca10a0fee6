"""Losses on what SIFT computes, relative to the clean photograph's contrast.

The gradient and ALP losses are in grey levels, so strong edges dominate them. SIFT normalises its descriptors, and its
keypoints are extrema of any height; these losses are relative for the same reason. After Porav, Maddern and Newman,
"Adversarial training for adverse conditions" (ICRA 2018), who train with the detector response and the dense
descriptors of SURF.

All take restored and clean RGB batches (B, 3, H, W) in [0, 1] and octaves, and return (B,), 0 when the two are equal.
`pyramid` holds intermediate images that losses on the same pair share; None = the loss computes its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch.nn import functional as F

from idsr_cli.scale_space import SIFT_LAYERS, SIFT_SIGMA, difference_stack, gaussian_stack
from idsr_cli.training.pyramid import PairPyramid

_DIRECTIONS = 8
# Below this gradient, in grey levels per grid pixel, there is too little contrast for a keypoint.
_FAINT_GRADIENT = 1.0
# SIFT's contrast threshold 0.04, divided by layers, in grey levels; extrema of half of it may still become keypoints.
_CONTRAST = 255.0 * 0.04 / SIFT_LAYERS


# Window means are computed as matrix products: torch's pooling takes twice as long for training patches on a CPU. These
# caches never drop anything, since a CUDA graph goes on reading it; a training has patches of one or two sizes.
@cache
def _cell_matrix(n: int, box: int, step: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(m, n): the mean of a window of `box`, every `step` samples, then the mean of each two neighbours."""
    matrix = torch.zeros((n - box) // step, n, dtype=torch.float64)
    for i, row in enumerate(matrix):
        for start in (i * step, (i + 1) * step):
            row[start : start + box] += 0.5 / box
    return matrix.to(device, dtype)


@cache
def _mean_matrix(n: int, size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(n, n): the mean over a window of odd `size` around each sample, cut off at the border."""
    matrix = torch.zeros(n, n, dtype=torch.float64)
    for i, row in enumerate(matrix):
        window = row[max(0, i - size // 2) : i + size // 2 + 1]
        window.fill_(1.0 / len(window))
    return matrix.to(device, dtype)


def along_both(image: torch.Tensor, matrices: Sequence[torch.Tensor]) -> torch.Tensor:
    """(B, C, H, W) -> (B, C, H', W') by a (H', H) and a (W', W) matrix."""
    rows, columns = matrices
    # Both products from the right: from the left, torch computes one small product per channel, which is slower.
    return (((image @ columns.T).transpose(2, 3)) @ rows.T).transpose(2, 3)


def _cells(grey: torch.Tensor, octave: int) -> torch.Tensor:
    """(B, 1, H, W) -> (B, 8, h, w): gradient by direction, gathered over SIFT's cells of three sigma."""
    sigma = SIFT_SIGMA * 2.0 ** (octave + 0.5)
    # Octave -1 is computed on the input grid, which resolves its sigma of 1.1 px at a quarter of the pixels.
    grid = max(octave, 0)
    blurred = gaussian_stack(grey, (sigma,), grid)
    dx = 0.5 * (blurred[..., 1:-1, 2:] - blurred[..., 1:-1, :-2])
    dy = 0.5 * (blurred[..., 2:, 1:-1] - blurred[..., :-2, 1:-1])
    angle = torch.arange(_DIRECTIONS, dtype=grey.dtype, device=grey.device) * (2.0 * math.pi / _DIRECTIONS)
    cosine, sine = torch.cos(angle).view(-1, 1, 1), torch.sin(angle).view(-1, 1, 1)
    directed = F.relu(dx * cosine + dy * sine)
    # Two box filters give the triangular weights of SIFT's bilinear cells.
    box = max(2, round(3.0 * sigma / 2**grid))
    step = max(1, box // 2)
    if min(directed.shape[-2:]) < box + step:
        return directed.mean((2, 3), keepdim=True)
    matrices = [_cell_matrix(n, box, step, grey.dtype, grey.device) for n in directed.shape[-2:]]
    return along_both(directed, matrices)


def _cells_of_both(pyramid: PairPyramid, octave: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`_cells` of the restored and of the clean image; computed once for the losses that share the pyramid."""
    key = ("cells", octave)
    if key not in pyramid.shared:
        pyramid.shared[key] = _cells(pyramid.restored, octave), _cells(pyramid.clean, octave)
    return pyramid.shared[key]


def _energy(cells: torch.Tensor, size: int) -> torch.Tensor:
    """Squared contrast around each cell, over size x size cells: (B, 8, h, w) -> (B, 1, h, w)."""
    matrices = [_mean_matrix(n, size, cells.dtype, cells.device) for n in cells.shape[-2:]]
    return along_both((cells * cells).sum(1, keepdim=True), matrices)


def descriptor_loss(
    restored: torch.Tensor, clean: torch.Tensor, octaves: Sequence[int] = (0,), pyramid: PairPyramid | None = None
) -> torch.Tensor:
    """Difference of dense descriptors: directed gradients in cells, each divided by the contrast around it.

    Each place is weighted by the clean photograph's gradient there, so flat places count for almost nothing.
    """
    pyramid = pyramid or PairPyramid(restored, clean)
    terms = []
    for octave in octaves:
        a, b = _cells_of_both(pyramid, octave)
        # A descriptor is normalised over 4x4 cells, some 8 steps of this grid.
        reach = min(7, 2 * ((min(b.shape[-2:]) - 1) // 2) + 1)
        strength = _energy(b, reach)
        weight = strength**2 / (strength**2 + _FAINT_GRADIENT**4)
        # The floor keeps the normalised gradient stable where there is almost no contrast.
        floor = 0.05 * _FAINT_GRADIENT**2
        difference = a / (_energy(a, reach) + floor).sqrt() - b / (strength + floor).sqrt()
        difference = difference.abs().mean(1, keepdim=True)
        terms.append((weight * difference).mean((1, 2, 3)))
    return torch.stack(terms).mean(0)


# Descriptors compared per patch and octave: so many that each has rivals, so few that all pairs take little time.
_POINTS = 96
# A descriptor's cells are this many samples of the grid apart; its step is half a cell.
_CELL_STEPS = 2
_DESCRIPTOR_CELLS = 4
_SPAN = _CELL_STEPS * (_DESCRIPTOR_CELLS - 1)
# Descriptors nearer to each other than this, in steps, are of nearly the same place, and no rivals.
_SAME_PLACE = 4
# SIFT cuts off entries above this.
_LARGEST_ENTRY = 0.2
# Lowe's ratio, and over how much it is made soft.
_RATIO, _SOFTNESS = 0.8, 0.1


@cache
def _draw(count: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(count,) exponential numbers to draw places with. The same serve every patch, since crops are random anyway."""
    uniform = torch.rand(count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return -torch.log1p(-uniform).clamp_max(-1e-12).to(device, dtype)


def _described(cells: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """SIFT descriptors of 4x4 cells: (B, 8, h, w) cells, (B, N) places in the (h - 6, w - 6) grid -> (B, N, 128)."""
    entries = F.unfold(cells, _DESCRIPTOR_CELLS, dilation=_CELL_STEPS)
    found = entries.gather(2, places[:, None].expand(-1, entries.shape[1], -1)).transpose(1, 2)
    found = found / (found.square().sum(2, keepdim=True) + 0.01 * _FAINT_GRADIENT**2).sqrt()
    found = found.clamp(max=_LARGEST_ENTRY)
    return found / (found.square().sum(2, keepdim=True) + 1e-6).sqrt()


def _confusion(restored: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """(B, 8, h, w) cells of both -> (B,): how nearly restored descriptors are taken for those of other places."""
    height, width = (n - _SPAN for n in clean.shape[-2:])
    with torch.no_grad():
        energy = F.unfold(clean, _DESCRIPTOR_CELLS, dilation=_CELL_STEPS).square().sum(1)
        contrast = energy / (energy + _DESCRIPTOR_CELLS**2 * _FAINT_GRADIENT**2)
        # The largest quotients are a draw without replacement, in which strong places have a better chance.
        drawn = (contrast + 1e-6) / _draw(height * width, contrast.dtype, contrast.device)
        places = drawn.topk(min(_POINTS, height * width)).indices
        weight = contrast.gather(1, places)
        row, column = places // width, places % width
        apart = [(n[:, :, None] - n[:, None]).abs() > _SAME_PLACE for n in (row, column)]
        rivals = apart[0] | apart[1]
    mine, wanted = _described(restored, places), _described(clean, places)
    own = ((mine - wanted).square().sum(2) + 1e-6).sqrt() - 1e-3  # its gradient is finite where they are equal
    # Unit vectors are at most 2 apart. Not by a product of matrices: its rounding is as large as small distances.
    others = torch.cdist(mine, wanted, compute_mode="donot_use_mm_for_euclid_dist")
    ratio = own / (torch.where(rivals, others, 10.0).amin(2) + 0.05)
    cost = _SOFTNESS * (F.softplus((ratio - _RATIO) / _SOFTNESS) - math.log1p(math.exp(-_RATIO / _SOFTNESS)))
    return (weight * cost).sum(1) / weight.sum(1).clamp_min(1.0)


def margin_loss(
    restored: torch.Tensor, clean: torch.Tensor, octaves: Sequence[int] = (0,), pyramid: PairPyramid | None = None
) -> torch.Tensor:
    """Lowe's ratio test made soft, at the octaves and one coarser; plus twice the descriptor loss at that one.

    A descriptor is matched if its own in the clean photograph is nearer than 0.8 times the nearest other one there. So
    what counts is not how far it is from its own, as in `descriptor_loss`, but how far compared with its rivals. Up to
    96 places a patch and octave are compared, mostly where the clean photograph has contrast.
    """
    pyramid = pyramid or PairPyramid(restored, clean)
    coarser = max(octaves) + 1
    terms = []
    for octave in (*octaves, coarser):
        cells = _cells_of_both(pyramid, octave)
        if min(cells[0].shape[-2:]) > _SPAN + _SAME_PLACE + 1:  # there may be rivals
            terms.append(_confusion(*cells))
    confusion = torch.stack(terms).mean(0) if terms else pyramid.restored.new_zeros(len(restored))
    return confusion + 2.0 * descriptor_loss(restored, clean, (coarser,), pyramid)


def _extreme(values: torch.Tensor, choose: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """`choose` (torch.maximum or torch.minimum) over the 3x3x3 neighbourhood of all inner samples.

    (B, S, H, W) -> (B, S-2, H-2, W-2).
    """
    for axis in (1, 2, 3):
        n = values.shape[axis]
        twos = choose(values.narrow(axis, 0, n - 1), values.narrow(axis, 1, n - 1))
        values = choose(twos.narrow(axis, 0, n - 2), twos.narrow(axis, 1, n - 2))
    return values


@torch.no_grad()
def _peaks(dog: torch.Tensor, few: bool = True) -> torch.Tensor:
    """Height of the DoG extremum whose 3x3x3 cube contains the sample, 0 outside all cubes: (B, S, H, W).

    The outer scales and border pixels have too few neighbours for extrema, as in SIFT.

    Args:
        dog: (B, S, H, W) DoG images.
        few: fill the cubes one by one, which a CPU does faster than a maximum filter over the whole pyramid. A card
            would have to wait for their number. The result is the same.
    """
    peaks = torch.zeros_like(dog)
    if min(dog.shape[1:]) < 3:
        return peaks
    inner = dog[:, 1:-1, 1:-1, 1:-1]
    found = (inner == _extreme(dog, torch.maximum)) & (inner > 0.5 * _CONTRAST)
    found |= (inner == _extreme(dog, torch.minimum)) & (inner < -0.5 * _CONTRAST)
    if not few:
        heights = torch.where(found, inner.abs(), 0.0)
        return _extreme(F.pad(heights, (2,) * 6), torch.maximum)
    corner = found.nonzero()
    height = inner[tuple(corner.unbind(1))].abs()
    strides = torch.tensor(peaks.stride(), device=dog.device)
    cube = torch.cartesian_prod(*(torch.arange(3, device=dog.device),) * 3) @ strides[1:]
    places = (corner @ strides)[:, None] + cube
    peaks.view(-1).scatter_reduce_(0, places.flatten(), height[:, None].expand(-1, 27).flatten(), "amax")
    return peaks


def extremum_loss(
    restored: torch.Tensor, clean: torch.Tensor, octaves: Sequence[int] = (0,), pyramid: PairPyramid | None = None
) -> torch.Tensor:
    """Error of the DoG in the 3x3x3 cubes around the clean photograph's extrema, relative to their height, 0..1.

    A relative error e costs e / (1 + e), so that lost extrema do not outweigh those that can still be recovered.
    """
    pyramid = pyramid or PairPyramid(restored, clean)
    on_cpu = restored.device.type == "cpu"
    terms = []
    for octave in octaves:
        sigmas = tuple(SIFT_SIGMA * 2.0 ** (octave + i / SIFT_LAYERS) for i in range(SIFT_LAYERS + 3))
        peaks = _peaks(difference_stack(gaussian_stack(pyramid.clean, sigmas, octave)), few=on_cpu)
        stack = gaussian_stack(pyramid.difference, sigmas, octave)
        sums, counts = (_errors_at_few if on_cpu else _errors_everywhere)(stack, peaks)
        # One extremum's worth of samples in the denominator damps patches with few extrema.
        terms.append(sums / (counts + 27.0))
    return torch.stack(terms).mean(0)


# Per patch, (B,) each: sum of e / (1 + e) over the samples in cubes, and their number.
_Errors = tuple[torch.Tensor, torch.Tensor]


def _errors_at_few(stack: torch.Tensor, peaks: torch.Tensor) -> _Errors:
    """The DoG of (B, S, H, W) Gaussian images is computed where (B, S-1, H, W) `peaks` are, which are few."""
    with torch.no_grad():
        where = peaks.view(-1).nonzero()[:, 0]
        peak = peaks.view(-1)[where]
        sample = where // peaks[0].numel()
    plane = peaks[0, 0].numel()
    lower = where + sample * plane  # a sample has one Gaussian image more than DoG images
    flat = stack.flatten()
    error = (flat.index_select(0, lower + plane) - flat.index_select(0, lower)).abs()
    sums, counts = (torch.zeros(len(peaks), dtype=error.dtype, device=error.device) for _ in range(2))
    return sums.index_add(0, sample, error / (error + peak)), counts.index_add(0, sample, torch.ones_like(peak))


def _errors_everywhere(stack: torch.Tensor, peaks: torch.Tensor) -> _Errors:
    """The same without waiting for the number of samples, as a card and its CUDA graphs need it."""
    error = difference_stack(stack).abs()
    inside = peaks > 0.0
    relative = torch.where(inside, error / (error + torch.where(inside, peaks, 1.0)), 0.0)
    return relative.sum((1, 2, 3)), inside.sum((1, 2, 3)).to(error.dtype)
