"""Losses on what SIFT computes, relative to the clean photograph: contrast cancels in them, as it does in matching.

The gradient and ALP losses count grey levels, so strong edges rule them; a descriptor is normalised and a keypoint is
an extremum whatever its height. After Porav, Maddern and Newman, "Adversarial training for adverse conditions" (ICRA
2018), who train with the detector response and the dense descriptors of SURF.

Both take restored and clean RGB batches (B, 3, H, W) in [0, 1] and octaves, and return (B,), 0 when the two are equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from idsr_cli.scale_space import SIFT_LAYERS, SIFT_SIGMA, difference_stack, gaussian_stack, luminance

_DIRECTIONS = 8
# Below this gradient, grey levels per grid pixel, there is too little contrast for a keypoint.
_FAINT_GRADIENT = 1.0
# SIFT's contrast threshold 0.04, over layers, in grey levels; extrema of half of it may still become keypoints.
_CONTRAST = 255.0 * 0.04 / SIFT_LAYERS


def _grey(rgb: torch.Tensor) -> torch.Tensor:
    return luminance(rgb.to(torch.promote_types(rgb.dtype, torch.float32)))


def _cells(grey: torch.Tensor, octave: int) -> torch.Tensor:
    """(B, 1, H, W) -> (B, 8, h, w): gradient by direction, gathered over SIFT's cells of three sigma."""
    sigma = SIFT_SIGMA * 2.0 ** (octave + 0.5)
    # At 1.1 px the input grid still holds all there is, and it is a quarter of the doubled one.
    grid = max(octave, 0)
    blurred = gaussian_stack(grey, (sigma,), grid)
    dx = 0.5 * (blurred[..., 1:-1, 2:] - blurred[..., 1:-1, :-2])
    dy = 0.5 * (blurred[..., 2:, 1:-1] - blurred[..., :-2, 1:-1])
    angle = torch.arange(_DIRECTIONS, dtype=grey.dtype, device=grey.device) * (2.0 * math.pi / _DIRECTIONS)
    cosine, sine = torch.cos(angle).view(-1, 1, 1), torch.sin(angle).view(-1, 1, 1)
    directed = F.relu(dx * cosine + dy * sine)
    # Two boxes make the triangular weights of SIFT's bilinear cells.
    box = max(2, round(3.0 * sigma / 2**grid))
    step = max(1, box // 2)
    if min(directed.shape[-2:]) < box + step:
        return directed.mean((2, 3), keepdim=True)
    return F.avg_pool2d(F.avg_pool2d(directed, box, step), 2, 1)


def _energy(cells: torch.Tensor, size: int) -> torch.Tensor:
    """Squared contrast around each cell, over size x size cells: (B, 8, h, w) -> (B, 1, h, w)."""
    return F.avg_pool2d((cells * cells).sum(1, keepdim=True), size, 1, size // 2, count_include_pad=False)


def descriptor_loss(restored: torch.Tensor, clean: torch.Tensor, octaves: Sequence[int] = (0,)) -> torch.Tensor:
    """Difference of dense descriptors: directed gradients in cells, each divided by the contrast around it.

    Places where the clean photograph has next to no gradient weigh next to nothing.
    """
    wanted, given = _grey(clean), _grey(restored)
    terms = []
    for octave in octaves:
        a, b = _cells(given, octave), _cells(wanted, octave)
        # A descriptor is normalised over 4x4 cells, some 8 steps of this grid.
        reach = min(7, 2 * ((min(b.shape[-2:]) - 1) // 2) + 1)
        strength = _energy(b, reach)
        weight = strength**2 / (strength**2 + _FAINT_GRADIENT**4)
        # The floor keeps the direction of next to nothing from changing wildly.
        floor = 0.05 * _FAINT_GRADIENT**2
        difference = a / (_energy(a, reach) + floor).sqrt() - b / (strength + floor).sqrt()
        difference = difference.abs().mean(1, keepdim=True)
        terms.append((weight * difference).mean((1, 2, 3)))
    return torch.stack(terms).mean(0)


def _neighbourhood(values: torch.Tensor) -> torch.Tensor:
    """The largest of each 3x3x3 neighbourhood in (B, S, H, W), at the border of what lies inside."""
    for axis in (1, 2, 3):
        n = values.shape[axis]
        largest = values.clone()
        for target, source in (((0, n - 1), 1), ((1, n - 1), 0)):
            part = largest.narrow(axis, *target)
            torch.maximum(part, values.narrow(axis, source, n - 1), out=part)
        values = largest
    return values


@torch.no_grad()
def _peaks(dog: torch.Tensor) -> torch.Tensor:
    """Height of the DoG extremum whose 3x3x3 cube a sample lies in, 0 where there is none: (B, S, H, W)."""
    height = dog.abs()
    faint = height <= 0.5 * _CONTRAST
    extremum = (dog == _neighbourhood(dog)) & (dog > 0)
    extremum |= (dog == -_neighbourhood(-dog)) & (dog < 0)
    height.masked_fill_(faint | ~extremum, 0.0)
    # The outer scales have a neighbour on one side only, the rim lacks some: no extrema for SIFT.
    inside = torch.zeros_like(height)
    inside[:, 1:-1, 1:-1, 1:-1] = height[:, 1:-1, 1:-1, 1:-1]
    return _neighbourhood(inside)


def extremum_loss(restored: torch.Tensor, clean: torch.Tensor, octaves: Sequence[int] = (0,)) -> torch.Tensor:
    """Error of the DoG in the 3x3x3 cubes around the clean photograph's extrema, relative to their height, 0..1.

    e / (1 + e) of the relative error e: what is hopelessly lost does not outweigh what can be saved.
    """
    wanted = _grey(clean)
    difference = _grey(restored) - wanted
    terms = []
    for octave in octaves:
        sigmas = tuple(SIFT_SIGMA * 2.0 ** (octave + i / SIFT_LAYERS) for i in range(SIFT_LAYERS + 3))
        with torch.no_grad():
            peak = _peaks(difference_stack(gaussian_stack(wanted, sigmas, octave)))
            where = peak.nonzero(as_tuple=True)
            peak = peak[where]
        error = difference_stack(gaussian_stack(difference, sigmas, octave))[where].abs()
        sums, counts = (torch.zeros(len(wanted), dtype=error.dtype, device=error.device) for _ in range(2))
        sums = sums.index_add(0, where[0], error / (error + peak))
        counts = counts.index_add(0, where[0], torch.ones_like(peak))
        # One extremum's worth in the denominator keeps a nearly empty patch from shouting.
        terms.append(sums / (counts + 27.0))
    return torch.stack(terms).mean(0)
