"""DPRNet and GGIRNet in the compact U-shaped arrangement that the shipped weights use.

The paper's chain (section III.B: shallow convolution, blocks in a row, shallow features added, convolution, rain
estimate r, y = x - r) with the blocks spread over resolutions 1, 1/2, 1/4: deeper levels see longer streaks and cost
less per pixel.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional as F

from idsr_cli.errors import WeightsError
from idsr_cli.networks.blocks import CELL, AttentionBlock, EdgeConv, added_in_bands
from idsr_cli.networks.layout import ROLES, Layout

# Shape of the shipped networks; docs/base_preset.md compares it with others.
BASE: dict[str, Any] = {"widths": (48, 96, 128), "blocks": (2, 2, 9, 2, 2), "unshuffle": 2}


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

    def head_features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, widths[0], H / unshuffle, W / unshuffle): the first convolution."""
        x = F.pixel_unshuffle(x, self.unshuffle) if self.unshuffle > 1 else x
        features: torch.Tensor = self.head(x - 0.5)
        return features

    def shallow(self, x: torch.Tensor) -> torch.Tensor:
        """As `head_features`, after the first block."""
        first = cast(nn.Sequential, self.encoder[0])[:1]
        features: torch.Tensor = first(self.head_features(x))
        return features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # To save memory, no name keeps a tensor that is no longer needed. So blocks are called one by one: a call of a
        # whole row of them would keep its first input to the end.
        features, skips = self.head_features(x), []
        for blocks, down in zip(self.encoder, self.down, strict=False):
            for block in cast(nn.Sequential, blocks):
                features = block(features)
            skips.append(features)
            features = down(features)
        for block in cast(nn.Sequential, self.encoder[-1]):
            features = block(features)
        for up, blocks in zip(reversed(self.up), reversed(self.decoder), strict=True):
            features = added_in_bands(skips.pop(), partial(_enlarged, up), features)
            for block in cast(nn.Sequential, blocks):
                features = block(features)
        # The first features are computed again. That takes a hundredth of the time; to keep them, a third more memory.
        rain = self.tail(added_in_bands(features, self.head_features, x, reach=1))
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


def _enlarged(up: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) -> (B, C', 2 h, 2 w): the features of a level for the next finer one."""
    return F.pixel_shuffle(up(features), 2)


def recognise(names: Collection[str]) -> bool:
    """Whether these tensors belong to a `RainUNet`."""
    return {"head.weight", "tail.weight", "encoder.0.0.channel.squeeze.weight"} <= set(names)


def configure(tensors: Mapping[str, torch.Tensor], role: str) -> dict[str, Any]:
    """The arguments of the `RainUNet` that has these tensors, whatever the role.

    Raises:
        WeightsError: a tensor between two levels is missing.
    """
    levels = 1 + max(int(m[1]) for n in tensors if (m := re.match(r"encoder\.(\d+)\.", n)))

    def depth(part: str, level: int) -> int:
        pattern = re.compile(rf"{part}\.{level}\.(\d+)\.")
        return 1 + max((int(m[1]) for n in tensors if (m := pattern.match(n))), default=-1)

    first = "encoder.0.0"
    attention = [kind for kind in ("gradient", "spatial") if f"{first}.{kind}.reduce.weight" in tensors]
    down = [f"down.{i}.weight" for i in range(levels - 1)]
    if missing := [name for name in down if name not in tensors]:
        raise WeightsError(f"tensor `{missing[0]}` is missing", hint="the file is damaged")
    widths = [tensors[name].shape[0] for name in ("head.weight", *down)]
    return {
        "widths": tuple(widths),
        "blocks": tuple(depth("encoder", i) for i in range(levels))
        + tuple(depth("decoder", i) for i in reversed(range(levels - 1))),
        "attention": "both" if len(attention) == 2 else attention[0] if attention else "none",
        "unshuffle": round((tensors["head.weight"].shape[1] / 3) ** 0.5),
        "edge_branches": f"{first}.conv1.plain.weight" in tensors,
    }


def finish(network: nn.Module) -> nn.Module:
    """Fold the edge branches of a `RainUNet`, in place."""
    assert isinstance(network, RainUNet)
    return network.fold()


LAYOUT = Layout(
    build=RainUNet,
    recognise=recognise,
    configure=configure,
    multiple=CELL,
    # Convolutions reach about 60 px. The pooling of channel attention reaches further, with little weight. Measured on
    # the base weights, pixels of tiles differ from the whole image's by up to 2 grey levels with 96 px, 0.5 with 128.
    halo=128,
    # Of the base preset, in patches of several megapixels: 96 for two maps of the finest level, 24 for the image and
    # the first reduction of it, and what lies between bands.
    bytes_per_pixel=140.0,
    # Measured with AVX-512 in patches of 1.4 to 2 megapixels: 560 to 670. At its peak the network needs 420, of which
    # 216 are two workspaces of a convolution by Winograd's method. The rest is blocks that wait for blobs of their
    # size.
    ncnn_bytes_per_pixel=670.0,
    presets={"base": BASE},
    attentions=ROLES,
    finish=finish,
    finished={"edge_branches": False},
    shallow=RainUNet.shallow,
)
