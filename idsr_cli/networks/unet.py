"""DPRNet and GGIRNet in the compact U-shaped arrangement that the shipped weights use.

The paper's chain (section III.B: shallow convolution, blocks in a row, shallow features added, convolution, rain
estimate r, y = x - r) with the blocks spread over resolutions 1, 1/2, 1/4: deeper levels see longer streaks and cost
less per pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from idsr_cli.networks.blocks import CELL, AttentionBlock, EdgeConv


class RainUNet(nn.Module):
    """x -> y = x - r(x): (B, 3, H, W) RGB in [0, 1] -> the same, not clipped. H and W must be multiples of 32.

    The last convolution starts at zero, so an untrained network returns its input.

    Args:
        widths: channels per level, from fine to coarse.
        blocks: blocks per level: encoder levels, the coarsest, then decoder levels back up (2 * levels - 1 numbers).
        attention: "spatial" = CSARB (DPRNet), "gradient" = CGARB (GGIRNet), "both", "none".
        unshuffle: 1 = the finest level runs on the image's grid; 2 = on the 2x2 pixel-unshuffled image.
        edge_branches: train 3x3 kernels with foldable Sobel and Laplacian branches.

    Raises:
        ValueError: `blocks` does not fit `widths`, or an unknown `attention`.
    """

    multiple = CELL

    def __init__(
        self,
        widths: Sequence[int] = (24, 48, 96),
        blocks: Sequence[int] = (2, 2, 4, 2, 2),
        attention: str = "spatial",
        unshuffle: int = 1,
        edge_branches: bool = False,
    ) -> None:
        super().__init__()
        if len(blocks) != 2 * len(widths) - 1:
            raise ValueError(f"{len(widths)} widths need {2 * len(widths) - 1} block counts, not {len(blocks)}")
        self.unshuffle = unshuffle
        levels = len(widths)

        def run(level: int, count: int) -> nn.Sequential:
            stride = unshuffle * 2**level
            return nn.Sequential(
                *(AttentionBlock(widths[level], stride, attention, edge_branches) for _ in range(count))
            )

        self.head = nn.Conv2d(3 * unshuffle**2, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(run(i, blocks[i]) for i in range(levels))
        self.decoder = nn.ModuleList(run(i, blocks[2 * levels - 2 - i]) for i in range(levels - 1))
        self.down = nn.ModuleList(nn.Conv2d(widths[i], widths[i + 1], 2, stride=2) for i in range(levels - 1))
        self.up = nn.ModuleList(nn.Conv2d(widths[i + 1], 4 * widths[i], 1) for i in range(levels - 1))
        self.tail = nn.Conv2d(widths[0], 3 * unshuffle**2, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shallow = F.pixel_unshuffle(x, self.unshuffle) if self.unshuffle > 1 else x
        shallow = self.head(shallow - 0.5)
        features, skips = shallow, []
        for i, down in enumerate(self.down):
            features = self.encoder[i](features)
            skips.append(features)
            features = down(features)
        features = self.encoder[-1](features)
        for i in reversed(range(len(self.up))):
            features = skips[i] + F.pixel_shuffle(self.up[i](features), 2)
            features = self.decoder[i](features)
        rain = self.tail(features + shallow)
        if self.unshuffle > 1:
            rain = F.pixel_shuffle(rain, self.unshuffle)
        return x - rain

    def fold(self) -> RainUNet:
        """Replace every `EdgeConv` by the plain convolution it equals; returns self."""
        for module in self.modules():
            for name, child in list(module.named_children()):
                if isinstance(child, EdgeConv):
                    setattr(module, name, child.fold())
        return self
