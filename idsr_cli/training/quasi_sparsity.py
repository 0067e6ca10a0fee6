"""QSNet's losses on the two layers of a rainy image: the restored image and the rain that was removed.

Wang, Ma and Zeng, "Deep Image Deraining Via Intrinsic Rainy Image Priors and Multi-scale Auxiliary Decoding" (arXiv
1911.10810, 2019). Signature and units are those of `losses`; both need the rainy image, which the pyramid holds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from idsr_cli.training.pyramid import PairPyramid

# A pixel has rain if a channel of it differs from the clean image by more than this; then so have its 8 neighbours.
RAIN_LEVEL = 4.0 / 255.0


def derivatives(x: torch.Tensor) -> list[torch.Tensor]:
    """First and second differences, horizontal and vertical, per channel, where they lie inside the image.

    The filters [1 -1] and [1 -2 1] and their transposes. The paper takes its prior from Levin and Weiss, "User assisted
    separation of reflections from a single image using a sparsity prior" (TPAMI 2007).
    (B, C, H, W) -> four maps, one or two pixels smaller.
    """
    return [x.diff(n, axis) for n in (1, 2) for axis in (-1, -2)]


def quasi_sparsity_loss(
    restored: torch.Tensor, clean: torch.Tensor, octaves: Sequence[int] = (0,), pyramid: PairPyramid | None = None
) -> torch.Tensor:
    """Eq. 9: mean absolute derivatives of the restored image and of the removed rain, summed over four filters.

    The sum is least where each edge is in one of the two layers only. Half-removed edges, and edges of the scene in the
    rain, cost more. The clean image does not count; `octaves` are not used.
    """
    rainy, restored = _wide(_rainy(pyramid), restored)
    layers = (restored, rainy - restored)
    return torch.stack([part.abs().mean((1, 2, 3)) for layer in layers for part in derivatives(layer)]).sum(0)


def low_value_loss(
    restored: torch.Tensor, clean: torch.Tensor, octaves: Sequence[int] = (0,), pyramid: PairPyramid | None = None
) -> torch.Tensor:
    """Mean absolute change of the pixels that have no rain (see `RAIN_LEVEL`), those with rain counting as 0."""
    rainy, restored, clean = _wide(_rainy(pyramid), restored, clean)
    differs = ((rainy - clean).abs().amax(1, keepdim=True) > RAIN_LEVEL).to(rainy.dtype)
    dry = 1.0 - F.max_pool2d(differs, 3, 1, 1)
    return (dry * (rainy - restored).abs()).mean((1, 2, 3))


def _rainy(pyramid: PairPyramid | None) -> torch.Tensor:
    if pyramid is None or pyramid.rainy is None:
        raise ValueError("this loss needs the rainy image")
    return pyramid.rainy


def _wide(*images: torch.Tensor) -> list[torch.Tensor]:
    """At least float32."""
    return [image.to(torch.promote_types(image.dtype, torch.float32)) for image in images]
