"""The layout of the paper authors' published checkpoints, so that their files load.

26.7 million parameters and 22 million multiply-adds per pixel each. It differs from the paper's text: the output is the
clean image itself (no global x - r), the input is normalised to [-1, 1], all convolutions are 5x5 at full resolution,
and every block carries all three attentions of which one network uses two.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from idsr_cli.networks.blocks import SOBEL_X, SOBEL_Y
from idsr_cli.networks.layout import ROLES, Layout

# Output width of body.0 .. body.27.
BODY_WIDTHS = (*[32] * 2, *[64] * 6, *[128] * 4, *[256] * 4, *[128] * 4, *[64] * 6, *[32] * 2)


class ReleasedChannelAttention(nn.Module):
    """Two same-size 1-D convolutions (kernel 5, C -> C) on the globally averaged features, sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ca = nn.Sequential(
            nn.Conv1d(channels, channels, 5, padding=2), nn.ReLU(), nn.Conv1d(channels, channels, 5, padding=2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = x.mean((-2, -1)).unsqueeze(-1)
        return x * torch.sigmoid(self.ca(pooled)).unsqueeze(-1)


class ReleasedSpatialAttention(nn.Module):
    """1x1 C -> 1, ReLU, 5x5, ReLU, 5x5, sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(channels, 1, 1),
            nn.ReLU(),
            nn.Conv2d(1, 1, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(1, 1, 5, padding=2),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.conv(x))


class ReleasedGradientAttention(nn.Module):
    """Sobel in x and y (replicate border), then shared 5x5 C -> 1 and two 5x5; both concatenated, 5x5, sigmoid."""

    sobel: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv3 = nn.Conv2d(channels, 1, 5, padding=2)
        self.conv2 = nn.Sequential(nn.Conv2d(1, 1, 5, padding=2), nn.ReLU(), nn.Conv2d(1, 1, 5, padding=2), nn.ReLU())
        self.conv1 = nn.Conv2d(2, 1, 5, padding=2)
        self.register_buffer("sobel", torch.tensor([SOBEL_X, SOBEL_Y]), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        channels = x.shape[1]
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        maps = []
        for kernel in self.sobel.to(x.dtype):
            gradient = F.conv2d(padded, kernel.expand(channels, 1, 3, 3), groups=channels)
            maps.append(self.conv2(self.conv3(gradient)))
        return x * torch.sigmoid(self.conv1(torch.cat(maps, 1)))


class ReleasedBlock(nn.Module):
    """attention(conv, ReLU, conv, ReLU) + 1x1 shortcut."""

    def __init__(self, in_channels: int, out_channels: int, attention: str) -> None:
        super().__init__()
        self.attention = attention
        self.block = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 5, padding=2),
            nn.ReLU(),
        )
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)
        self.channelattention = ReleasedChannelAttention(out_channels)
        self.spatialattention = ReleasedSpatialAttention(out_channels)
        # Misspelt as in the checkpoints.
        self.gridientattention = ReleasedGradientAttention(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.channelattention(self.block(x))
        y = self.spatialattention(y) if self.attention == "spatial" else self.gridientattention(y)
        return y + self.shortcut(x)


class ReleasedNet(nn.Module):
    """x -> y: (B, 3, H, W) RGB in [0, 1] -> the same, any size; not clipped.

    Args:
        attention: "spatial" (DPRNet) or "gradient" (GGIRNet); the file carries both.
        widths: output channels of the body's blocks; the published files use `BODY_WIDTHS`.
    """

    def __init__(self, attention: str = "spatial", widths: tuple[int, ...] = BODY_WIDTHS) -> None:
        super().__init__()
        self.sub_mean = nn.Conv2d(3, 3, 1)  # in the file, unused
        self.add_mean = nn.Conv2d(3, 3, 1)
        self.head = nn.Sequential(nn.Conv2d(3, widths[0], 5, padding=2))
        inputs = (widths[0], *widths[:-1])
        blocks = [ReleasedBlock(i, o, attention) for i, o in zip(inputs, widths, strict=True)]
        self.body = nn.Sequential(*blocks, nn.Conv2d(widths[-1], widths[0], 5, padding=2))
        self.tail = nn.Sequential(nn.Conv2d(widths[0], 3, 5, padding=2))

    def shallow(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, widths[0], H, W), the first convolution."""
        features: torch.Tensor = self.head((x - 0.5) / 0.5)
        return features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shallow = self.shallow(x)
        y: torch.Tensor = self.tail(self.body(shallow) + shallow)
        return y


def recognise(names: Collection[str]) -> bool:
    """Whether these tensors belong to a `ReleasedNet`: head, tail, and blocks numbered without a gap."""
    if not {"head.0.weight", "body.0.shortcut.weight", "tail.0.weight"} <= set(names):
        return False
    return all(name in names for name in _shortcuts(names))


def configure(tensors: Mapping[str, torch.Tensor], role: str) -> dict[str, Any]:
    """The arguments of the `ReleasedNet` that has these tensors; the role selects the attention."""
    return {"attention": ROLES[role], "widths": tuple(tensors[name].shape[0] for name in _shortcuts(tensors))}


def _shortcuts(names: Collection[str]) -> list[str]:
    """Names of the tensors whose shapes give the blocks' widths, from the first to the last block."""
    count = 1 + max(int(m[1]) for n in names if (m := re.match(r"body\.(\d+)\.shortcut\.weight", n)))
    return [f"body.{i}.shortcut.weight" for i in range(count)]


LAYOUT = Layout(
    build=ReleasedNet,
    recognise=recognise,
    configure=configure,
    multiple=1,
    halo=128,
    # Up to 256 channels at full resolution.
    bytes_per_pixel=14000.0,
    presets={"released": {}},
    attentions=ROLES,
    holds_all_attentions=True,
    # Each block has an attention that is not used.
    uses_all_parameters=False,
    shallow=ReleasedNet.shallow,
)
