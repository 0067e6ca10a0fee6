"""Plain formulas that the product's faster ones are compared with."""

import torch
from torch.nn import functional as F


def laplacian_stack(stack: torch.Tensor, sigmas: tuple[float, ...], octave: int = 0) -> torch.Tensor:
    """sigma^2-normalised Laplacian of Gaussian images by the 5-point stencil, reflect-101 at the border.

    Args:
        stack: (B, S, H, W) Gaussian images on the grid of `octave`.
        sigmas: their absolute sigmas in input pixels.
        octave: the grid, with a spacing of 2^octave input pixels; apart from sampling the result does not depend on it.

    Returns:
        (B, S, H, W), grey levels (dimensionless in space).
    """
    padded = F.pad(stack, (1, 1, 1, 1), mode="reflect")
    around = padded[..., 2:, 1:-1] + padded[..., :-2, 1:-1] + padded[..., 1:-1, 2:] + padded[..., 1:-1, :-2]
    laplacian = around - 4.0 * padded[..., 1:-1, 1:-1]
    gain = torch.tensor([(s / 2.0**octave) ** 2 for s in sigmas], dtype=stack.dtype, device=stack.device)
    return laplacian * gain.view(1, -1, 1, 1)
