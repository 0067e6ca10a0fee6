"""Grey images and Gaussian stacks of a restored and a clean batch, computed once for several losses."""

from __future__ import annotations

from collections.abc import Hashable
from functools import cached_property

import torch

from idsr_cli.scale_space import STACK_SIGMAS, gaussian_stack, luminance


def _grey(rgb: torch.Tensor) -> torch.Tensor:
    # At least float32, also under autocast: half precision is too coarse for derivatives.
    return luminance(rgb.to(torch.promote_types(rgb.dtype, torch.float32)))


class PairPyramid:
    """Grey images and Gaussian stacks of a restored and a clean batch; each is computed on first use.

    All operators are linear, so the losses on grey levels need only the stack of the difference of the two images.

    Args:
        restored: (B, 3, H, W) in [0, 1]; gradients flow into it.
        clean: the same shape.
        rainy: the image that was restored, the same shape; None if no loss needs it.

    Attributes:
        rainy: as given.
        shared: what else losses have computed from the two images, by name, for others to use.
    """

    def __init__(self, restored: torch.Tensor, clean: torch.Tensor, rainy: torch.Tensor | None = None) -> None:
        self._rgb = restored, clean
        self.rainy = rainy
        self._stacks: dict[int, torch.Tensor] = {}
        self.shared: dict[Hashable, tuple[torch.Tensor, torch.Tensor]] = {}

    @cached_property
    def restored(self) -> torch.Tensor:
        """Grey, (B, 1, H, W), 0..255."""
        return _grey(self._rgb[0])

    @cached_property
    def clean(self) -> torch.Tensor:
        """Grey, (B, 1, H, W), 0..255."""
        return _grey(self._rgb[1])

    @cached_property
    def difference(self) -> torch.Tensor:
        """Grey difference, restored less clean, (B, 1, H, W), -255..255."""
        restored, clean = self._rgb
        wide = torch.promote_types(restored.dtype, torch.float32)
        return luminance(restored.to(wide) - clean.to(wide))

    def difference_stack(self, octave: int) -> torch.Tensor:
        """The five Gaussian images of the difference in units of the full grey range: (B, 5, H', W'), -1..1.

        Their sigmas are 2^octave times `STACK_SIGMAS`, on the grid of `octave`.
        """
        if octave not in self._stacks:
            sigmas = tuple(sigma * 2.0**octave for sigma in STACK_SIGMAS)
            self._stacks[octave] = gaussian_stack(self.difference / 255.0, sigmas, octave)
        return self._stacks[octave]
