"""Gaussian scale space. Every sigma in this module's public functions is ABSOLUTE, in pixels of the input image.

An image handed in is taken to carry a blur of `ASSUMED_BLUR` = 0.5 px already (Lowe 2004), so "the Gaussian image of
sigma s" is the input blurred by sqrt(s^2 - 0.5^2). Octave o is the image sampled every 2^o pixels; octave -1 is the
image doubled with sample 2x exactly on sample x. The losses and SIFT share this module, so that what a network is
trained on is what SIFT sees.

Conventions: torch images are (B, C, H, W); numpy images (H, W). Grey values are 0..255, not rounded. Borders are
reflect-101 (the edge pixel is not repeated), folded as often as needed, so a kernel may be larger than the image.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional as F

ASSUMED_BLUR = 0.5
SIFT_SIGMA = 1.6
SIFT_LAYERS = 3
# The paper's five Gaussian images (section IV.B): 1.6 * 2^(k/2), k = 0..4, input pixels.
STACK_SIGMAS = tuple(SIFT_SIGMA * 2 ** (k / 2) for k in range(5))
# Up to this side a blur is a product with a dense matrix: torch's one-channel convolution is some 25 times slower on a
# CPU, and a matrix folds the border for nothing.
_DENSE_SIDE = 512


def luminance(rgb: torch.Tensor) -> torch.Tensor:
    """SIFT's grey image: (B, 3, H, W) RGB in [0, 1] -> (B, 1, H, W) in 0..255, BT.601 full range, not rounded."""
    r, g, b = rgb.unbind(1)
    return (255.0 * (0.299 * r + 0.587 * g + 0.114 * b)).unsqueeze(1)


def added_blur(sigma: float, present: float = ASSUMED_BLUR) -> float:
    """The sigma that takes an image of blur `present` to blur `sigma` (Gaussians add in variance).

    Raises:
        ValueError: `sigma` is below `present`; a blur cannot be undone.
    """
    if sigma < present:
        raise ValueError(f"sigma {sigma} is below the blur {present} that the image already has")
    return math.sqrt(sigma * sigma - present * present)


@lru_cache(maxsize=256)
def gaussian_taps(sigma: float) -> np.ndarray:
    """Sampled Gaussian of odd length round(8 sigma + 1) | 1, float64, sum 1: OpenCV's automatic size for float images."""
    size = int(np.rint(8.0 * sigma + 1.0)) | 1
    x = np.arange(size) - size // 2
    taps = np.exp(-0.5 * (x / sigma) ** 2)
    taps /= taps.sum()
    taps.setflags(write=False)
    return taps


def fold(index: np.ndarray, n: int) -> np.ndarray:
    """Reflect-101 indices into 0..n-1, repeated as often as the index is outside."""
    if n == 1:
        return np.zeros_like(index)
    index = np.abs(index) % (2 * n - 2)
    return np.where(index >= n, 2 * n - 2 - index, index)


def _blur_matrix(n: int, sigma: float) -> np.ndarray:
    """(n, n) float64 matrix of the 1-D blur with folded borders; rows sum to 1."""
    if sigma == 0:
        return np.eye(n)
    taps = gaussian_taps(sigma)
    radius = len(taps) // 2
    rows = np.repeat(np.arange(n), len(taps))
    columns = fold(rows + np.tile(np.arange(-radius, radius + 1), n), n)
    matrix = np.zeros((n, n))
    np.add.at(matrix, (rows, columns), np.tile(taps, n))
    return matrix


def _double_matrix(n: int) -> np.ndarray:
    """(2n, n): even samples copy, odd ones are the mean of their neighbours, the last one is repeated."""
    matrix = np.zeros((2 * n, n))
    i = np.arange(n)
    matrix[2 * i, i] = 1.0
    matrix[2 * i + 1, i] += 0.5
    matrix[2 * i + 1, np.minimum(i + 1, n - 1)] += 0.5
    return matrix


@lru_cache(maxsize=128)
def _operator(n: int, sigmas: tuple[float, ...], octave: int, present: float) -> np.ndarray:
    """(S, m, n) float64: for each sigma, one axis of "to the octave's grid, at that absolute sigma"."""
    if octave < 0:
        doubling = np.eye(n)
        for _ in range(-octave):
            doubling = _double_matrix(len(doubling)) @ doubling
        grid = 2**-octave
        parts = [_blur_matrix(len(doubling), grid * added_blur(s, present)) @ doubling for s in sigmas]
    else:
        step = 2**octave
        parts = [_blur_matrix(n, added_blur(s, present))[: n // step * step : step] for s in sigmas]
    return np.stack(parts)


@lru_cache(maxsize=128)
def _operator_tensor(
    n: int, sigmas: tuple[float, ...], octave: int, present: float, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    return torch.from_numpy(_operator(n, sigmas, octave, present)).to(device=device, dtype=dtype)


def blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Differentiable Gaussian blur by exactly `sigma` pixels of this image's grid: (B, C, H, W) -> the same shape."""
    if sigma == 0:
        return image
    height, width = image.shape[-2:]
    if max(height, width) <= _DENSE_SIDE:
        rows, columns = (
            _operator_tensor(n, (sigma,), 0, 0.0, image.dtype, image.device)[0] for n in (height, width)
        )
        return rows @ image @ columns.T
    taps = torch.as_tensor(gaussian_taps(sigma).copy(), dtype=image.dtype, device=image.device)
    radius = len(taps) // 2
    x = image.reshape(-1, 1, height, width)
    for axis, kernel in ((-1, taps.view(1, 1, 1, -1)), (-2, taps.view(1, 1, -1, 1))):
        n = x.shape[axis]
        index = torch.from_numpy(fold(np.arange(-radius, n + radius), n)).to(image.device)
        x = F.conv2d(x.index_select(axis % 4, index), kernel)
    return x.reshape(image.shape)


def blur_array(image: np.ndarray, sigma: float) -> np.ndarray:
    """`blur` without gradients on a CPU: (H, W) float32 -> the same, by OpenCV (much faster there)."""
    import cv2

    return cv2.GaussianBlur(image, (0, 0), sigma, sigmaY=sigma, borderType=cv2.BORDER_REFLECT_101)


def double(image: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) -> (B, C, 2H, 2W): output sample 2x is input sample x ("precise upscale"), bilinear between."""
    for axis in (-1, -2):
        n = image.shape[axis]
        following = torch.arange(1, n + 1, device=image.device).clamp_(max=n - 1)
        between = 0.5 * (image + image.index_select(axis % 4, following))
        image = torch.stack((image, between), dim=axis % 4 + 1).flatten(axis % 4, axis % 4 + 1)
    return image


def gaussian_stack(
    image: torch.Tensor, sigmas: tuple[float, ...] = STACK_SIGMAS, octave: int = 0, present: float = ASSUMED_BLUR
) -> torch.Tensor:
    """Gaussian images of the given absolute sigmas, sampled on the grid of `octave`. Differentiable.

    Args:
        image: (B, 1, H, W), grey.
        sigmas: S absolute sigmas in INPUT pixels, each at least `present`.
        octave: -1 = doubled grid (2H, 2W), 0 = input grid, 1 = every second pixel (H // 2, W // 2), ...
        present: the blur the image is taken to have already, input pixels.

    Returns:
        (B, S, H', W').

    Raises:
        ValueError: a sigma is below `present`, the image is not one-channel, or it is too small for the octave.
    """
    if image.ndim != 4 or image.shape[1] != 1:
        raise ValueError(f"need one grey channel, (B, 1, H, W), not {tuple(image.shape)}")
    height, width = image.shape[-2:]
    if octave > 0 and min(height, width) < 2**octave:
        raise ValueError(f"{width}x{height} has no pixel left at octave {octave}")
    if max(height, width) * 2 ** max(0, -octave) <= 2 * _DENSE_SIDE:
        rows, columns = (
            _operator_tensor(n, tuple(sigmas), octave, present, image.dtype, image.device) for n in (height, width)
        )
        return rows @ (image @ columns.transpose(-1, -2))
    for _ in range(-octave):
        image = double(image)
    grid, step = 2 ** max(0, -octave), 2 ** max(0, octave)
    planes = [blur(image, grid * added_blur(s, present)) for s in sigmas]
    stack = torch.cat(planes, dim=1)
    return stack[..., : height * grid // step * step : step, : width * grid // step * step : step]


def difference_stack(stack: torch.Tensor) -> torch.Tensor:
    """DoG images: (B, S, H, W) Gaussian images -> (B, S-1, H, W), each the next minus this one."""
    return stack[:, 1:] - stack[:, :-1]


def laplacian_stack(stack: torch.Tensor, sigmas: tuple[float, ...], octave: int = 0) -> torch.Tensor:
    """sigma^2-normalised Laplacian of Gaussian images by the 5-point stencil, reflect-101 at the border.

    Args:
        stack: (B, S, H, W) Gaussian images on the grid of `octave`.
        sigmas: their absolute sigmas in input pixels.
        octave: the grid; spacing is 2^octave input pixels, so the result does not depend on the grid but for sampling.

    Returns:
        (B, S, H, W), grey levels (dimensionless in space).
    """
    padded = F.pad(stack, (1, 1, 1, 1), mode="reflect")
    inner = (slice(1, -1), slice(1, -1))
    around = padded[..., 2:, 1:-1] + padded[..., :-2, 1:-1] + padded[..., 1:-1, 2:] + padded[..., 1:-1, :-2]
    laplacian = around - 4.0 * padded[(..., *inner)]
    gain = torch.tensor([(s / 2.0**octave) ** 2 for s in sigmas], dtype=stack.dtype, device=stack.device)
    return laplacian * gain.view(1, -1, 1, 1)
