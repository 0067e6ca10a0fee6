"""Structural similarity as a loss, with which SIAN is trained.

Wang et al., "Image quality assessment: from error visibility to structural similarity" (IEEE TIP 2004).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch

from idsr_cli.training.feature_losses import along_both
from idsr_cli.training.pyramid import PairPyramid

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2  # for images in [0, 1]


@cache
def _window_matrix(n: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(n - 10, n): Gaussian means over the windows that lie inside; one smaller window if none does."""
    size = min(_WINDOW, n)
    taps = torch.exp(-0.5 * ((torch.arange(size, dtype=torch.float64) - (size - 1) / 2) / _SIGMA) ** 2)
    matrix = torch.zeros(n - size + 1, n, dtype=torch.float64)
    for i, row in enumerate(matrix):
        row[i : i + size] = taps / taps.sum()
    return matrix.to(device, dtype)


def ssim_loss(
    restored: torch.Tensor, clean: torch.Tensor, octaves: Sequence[int] = (0,), pyramid: PairPyramid | None = None
) -> torch.Tensor:
    """1 - SSIM over RGB: Gaussian window of 11, sigma 1.5, windows inside the image; `octaves`, `pyramid` not used.

    (B, 3, H, W) in [0, 1] -> (B,), from 0 (equal) to 2. Its gradient is that of negative SSIM.
    """
    wide = torch.promote_types(restored.dtype, torch.float32)
    x, y = restored.to(wide), clean.to(wide)
    matrices = [_window_matrix(n, wide, x.device) for n in x.shape[-2:]]
    means = along_both(torch.cat((x, y, x * x, y * y, x * y), 1), matrices)
    mx, my, mxx, myy, mxy = means.chunk(5, 1)
    product, squares = mx * my, mx * mx + my * my
    score = (2 * product + _C1) * (2 * (mxy - product) + _C2) / ((squares + _C1) * (mxx + myy - squares + _C2))
    return 1.0 - score.mean((1, 2, 3))
