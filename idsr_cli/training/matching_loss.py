"""Real rain without a clean version in training: the features of real and of synthetic photographs are made alike.

Qiu, Yao, Feng and Cui, "Single image de-raining algorithm based on semi-supervised learning" (Journal of Computer
Applications 42(5), 2022): mean and covariance of a shallow feature, before any rain is removed. The term on the
covariance is that of Sun and Saenko, "Deep CORAL" (ECCV workshops 2016).
"""

from __future__ import annotations

import torch

# Keeps the roots differentiable at 0.
_FLOOR = 1e-12


def matching_loss(synthetic: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How far mean and covariance of two batches of features are apart.

    Each pixel is a sample of d numbers. Two changes to the printed formula: the covariance is divided by the number of
    samples less 1, or else the term would grow with the patch; and both differences are measured in units of the
    synthetic features' spread, which counts as a constant. Without that the cheapest way to make features alike is to
    shrink them all.

    Args:
        synthetic: (B, d, h, w), any floating type; gradients flow into it.
        real: (R, d, H, W); gradients flow into it too.

    Returns:
        The loss, a float32 scalar; and the spread of the real features, detached: the root of their total variance. If
        it falls towards 0 in training, the features shrink in spite of the guard.
    """
    (mean_s, covariance_s), (mean_r, covariance_r) = _moments(synthetic), _moments(real)
    total = covariance_s.trace().detach().clamp_min(_FLOOR)
    mean = ((mean_s - mean_r).square().sum() / total + _FLOOR).sqrt()
    covariance = ((covariance_s - covariance_r).square().sum() / total.square() + _FLOOR).sqrt()
    return mean + covariance / len(mean_s), covariance_r.trace().detach().clamp_min(0.0).sqrt()


def _moments(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (d,) and covariance (d, d) over batch and pixels, float32."""
    samples = features.float().movedim(1, 0).flatten(1)
    mean = samples.mean(1)
    centred = samples - mean[:, None]
    return mean, centred @ centred.T / max(1, samples.shape[1] - 1)
