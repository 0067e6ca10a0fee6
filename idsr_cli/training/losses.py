"""The losses: ALP (paper eq. 10-16), gradient (eq. 9) and a small pixel term.

All take restored and clean RGB batches (B, 3, H, W) in [0, 1], convert them to SIFT's luminance and its scale space,
and return (B,), per sample: the mean over pixels (and octaves) of the sum over scales, in units of the full grey range,
comparable with an L1 on [0, 1]. Every operator is linear, so each acts on the difference of the two images.

The pyramid losses ignore brightness (a constant shift costs nothing, slow changes next to nothing). The pixel term
fixes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import torch
from torch.nn import functional as F

from idsr_cli.scale_space import STACK_SIGMAS
from idsr_cli.training.feature_losses import descriptor_loss, extremum_loss, margin_loss
from idsr_cli.training.operators import laplacian, neighbour_difference
from idsr_cli.training.pyramid import PairPyramid
from idsr_cli.training.quasi_sparsity import low_value_loss, quasi_sparsity_loss
from idsr_cli.training.similarity import ssim_loss

# Coefficients of the scale-space response as a cubic in sigma, SSR(s) = sum_j eta_j s^j with eta_j = sum_k c[j][k] h_k,
# h_k the sigma^2-normalised LoG at 1.6 * 2^(k/2), k = 0..3: the table published with MPEG CDVS (ISO/IEC 15938-13).
ALP_COEFFICIENTS = {
    3: (-0.246388, 0.493379, -0.271662, 0.013998),
    2: (2.502135, -4.563607, 2.010828, 0.154854),
    1: (-8.200728, 12.982370, -4.044904, -1.056472),
    0: (8.643160, -10.842436, 2.120433, 1.388641),
}
ALP_SIGMAS = STACK_SIGMAS[:4]
# (3, 4): Laplacians of the four Gaussian images, on their octave's grid -> eta_1, eta_2, eta_3.
ALP_MATRIX = torch.tensor([ALP_COEFFICIENTS[j] for j in (1, 2, 3)], dtype=torch.float64) * torch.tensor(
    [sigma * sigma for sigma in ALP_SIGMAS], dtype=torch.float64
)
# Three-point Gauss-Legendre rule on [1.6, 4.5255]: an invertible linear map of (eta_1, eta_2, eta_3).
ALP_NODES = (1.9297, 3.0627, 4.1957)
ALP_NODE_WEIGHTS = (5 / 18, 8 / 18, 5 / 18)


# Kept on their device: a copy in each step would make the card wait, and cannot be part of a CUDA graph.
@cache
def _alp_matrix(derivative: bool, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(3, 4): Laplacians of the Gaussian images -> eta_1, eta_2, eta_3, or the derivative at `ALP_NODES`."""
    nodes = torch.tensor([[1.0, 2.0 * s, 3.0 * s * s] for s in ALP_NODES], dtype=torch.float64)
    return (nodes @ ALP_MATRIX if derivative else ALP_MATRIX).to(device, dtype)


@cache
def _node_weights(dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.tensor(ALP_NODE_WEIGHTS, dtype=dtype, device=device)


def _mixed_laplacian(stack: torch.Tensor, derivative: bool) -> torch.Tensor:
    """`_alp_matrix` applied to the Laplacians of (B, 4, H, W); mixed first, so that only three are needed."""
    mixed = _alp_matrix(derivative, stack.dtype, stack.device) @ stack.flatten(2)
    return laplacian(mixed.unflatten(2, stack.shape[2:]))


def _alp_stack(pyramid: PairPyramid, octave: int) -> torch.Tensor:
    """The four Gaussian images of ALP: the first of the paper's five."""
    return pyramid.difference_stack(octave)[:, : len(ALP_SIGMAS)]


def alp_loss(
    restored: torch.Tensor, clean: torch.Tensor, octaves: Sequence[int] = (0,), pyramid: PairPyramid | None = None
) -> torch.Tensor:
    """Eq. 16: the sum over j of |eta_j - eta_j'|. The paper prints index 3 in one term, a misprint as eq. 15 shows.

    eta_0 does not count: adding a constant to the response moves no extremum over scale.
    """
    pyramid = pyramid or PairPyramid(restored, clean)
    terms = [_mixed_laplacian(_alp_stack(pyramid, o), derivative=False).abs().sum(1).mean((1, 2)) for o in octaves]
    return torch.stack(terms).mean(0)


def alp_derivative_loss(
    restored: torch.Tensor, clean: torch.Tensor, octaves: Sequence[int] = (0,), pyramid: PairPyramid | None = None
) -> torch.Tensor:
    """The mean over scale of eq. 14's |3 d3 s^2 + 2 d2 s + d1|, so that the three coefficients are balanced.

    In eq. 16 eta_1 makes up three quarters of the sum, although the terms of the derivative nearly cancel. Here the
    derivative itself is penalised, at three Gauss-Legendre points of [1.6, 4.5255].
    """
    pyramid = pyramid or PairPyramid(restored, clean)
    terms = []
    for octave in octaves:
        derivative = _mixed_laplacian(_alp_stack(pyramid, octave), derivative=True)
        terms.append(derivative.abs().mean((2, 3)) @ _node_weights(derivative.dtype, derivative.device))
    return torch.stack(terms).mean(0)


def gradient_loss(
    restored: torch.Tensor, clean: torch.Tensor, octaves: Sequence[int] = (0,), pyramid: PairPyramid | None = None
) -> torch.Tensor:
    """Eq. 9: L1 of horizontal and vertical differences of five Gaussian images, sigma 1.6 * 2^(k/2), k = 0..4."""
    pyramid = pyramid or PairPyramid(restored, clean)
    return torch.stack([neighbour_difference(pyramid.difference_stack(octave)) for octave in octaves]).mean(0)


def pixel_loss(
    restored: torch.Tensor, clean: torch.Tensor, octaves: Sequence[int] = (0,), pyramid: PairPyramid | None = None
) -> torch.Tensor:
    """Mean absolute difference over RGB, QSNet's content loss; `octaves` and `pyramid` are not used."""
    wide = torch.promote_types(restored.dtype, torch.float32)
    return (restored.to(wide) - clean.to(wide)).abs().mean((1, 2, 3))


def pixel_l2_loss(
    restored: torch.Tensor, clean: torch.Tensor, octaves: Sequence[int] = (0,), pyramid: PairPyramid | None = None
) -> torch.Tensor:
    """Mean squared difference over RGB, for comparison with the others; `octaves` and `pyramid` are not used.

    In units of the full range squared (10 grey levels everywhere cost (10 / 255)^2 = 0.0015), unlike all other losses.
    """
    wide = torch.promote_types(restored.dtype, torch.float32)
    return (restored.to(wide) - clean.to(wide)).square().mean((1, 2, 3))


LOSSES = {
    "pixel": pixel_loss,
    "pixel-l2": pixel_l2_loss,
    "alp": alp_loss,
    "alp-derivative": alp_derivative_loss,
    "gradient": gradient_loss,
    "descriptor": descriptor_loss,
    "extremum": extremum_loss,
    "margin": margin_loss,
    "ssim": ssim_loss,
    "quasi-sparsity": quasi_sparsity_loss,
    "low-value": low_value_loss,
}


# Keeps the power in `total_loss` differentiable at zero. Losses far below this make almost no difference.
_FLOOR = 1e-3


# Rain of a pixel, grey levels: up to the first it is dry for `dry_errors_times`, from the second on it is not at all.
_DRY, _RAINY = 2.0, 5.0


def dry_errors_times(factor: float, restored: torch.Tensor, clean: torch.Tensor, rainy: torch.Tensor) -> torch.Tensor:
    """`restored` with errors that are `factor` times as large where no rain is.

    In faint rain most pixels are dry, and what a network takes for rain there harms more keypoints than drops do.
    Errors in the rain stay as they are, so that heavy rain is learnt as before.

    Args:
        factor: 1 = no change.
        restored: (B, 3, H, W).
        clean: (B, 3, H, W).
        rainy: (B, 3, H, W). A pixel's rain is the largest change of a channel in its 3x3 neighbourhood, averaged over
            5x5 pixels.
    """
    if factor == 1.0:
        return restored
    rain = 255.0 * (rainy - clean).abs().amax(1, keepdim=True)
    rain = F.avg_pool2d(F.max_pool2d(rain, 3, 1, 1), 5, 1, 2, count_include_pad=False)
    dry = ((_RAINY - rain) / (_RAINY - _DRY)).clamp(0.0, 1.0)
    return clean + (restored - clean) * (1.0 + (factor - 1.0) * dry)


def total_loss(
    restored: torch.Tensor,
    clean: torch.Tensor,
    weights: Mapping[str, float],
    octaves: Sequence[int] = (-1, 0),
    balance: float = 0.0,
    rainy: torch.Tensor | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Weighted sum of the named losses, averaged over the batch; and each term's mean, unweighted and detached.

    Args:
        restored: (B, 3, H, W).
        clean: (B, 3, H, W).
        weights: weight per name of `LOSSES`.
        octaves: octaves the pyramid losses act on.
        balance: 0 = plain mean over samples; above 0 each sample counts as its loss to the power 1 - balance, so that
            light rain, whose errors are ten times smaller, counts beside heavy rain.
        rainy: the network's input, (B, 3, H, W), for the losses on the removed rain.

    Raises:
        KeyError: an unknown loss name.
        ValueError: a loss needs `rainy`.
    """
    pyramid = PairPyramid(restored, clean, rainy)
    terms = {name: LOSSES[name](restored, clean, octaves, pyramid) for name, weight in weights.items() if weight}
    samples = torch.stack([weights[name] * value for name, value in terms.items()]).sum(0)
    if balance:
        samples = (samples + _FLOOR) ** (1.0 - balance) - _FLOOR ** (1.0 - balance)
    return samples.mean(), {name: value.detach().mean() for name, value in terms.items()}
