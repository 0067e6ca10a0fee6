"""MDN: units of three scales, joined by dense links, behind a block on which real and synthetic rain can be matched.

Qiu, Yao, Feng and Cui, "Single image de-raining algorithm based on semi-supervised learning" (Journal of Computer
Applications 42(5), 2022). The paper leaves the layers of its blocks and the number of units open. Those here are the
smallest that fit its words, in the skeleton of JDNet (Wang et al., ACM MM 2020), which it takes for its base: after
each unit a 1x1 convolution merges the results of all units so far.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from idsr_cli.errors import WeightsError
from idsr_cli.networks.blocks import PointConv
from idsr_cli.networks.layout import Layout

SCALES = (1, 2, 4)
_SLOPE = 0.2  # of the leaky ReLUs


class Mdn(nn.Module):
    """x -> y = x - r(x): (B, 3, H, W) RGB in [0, 1] -> the same, not clipped. H and W must be multiples of 4.

    The last convolution starts at zero, so an untrained network returns its input.

    Args:
        width: channels of all inner maps.
        units: multi-scale units.

    Raises:
        ValueError: no units.
    """

    def __init__(self, width: int = 32, units: int = 8) -> None:
        super().__init__()
        if units < 1:
            raise ValueError("it needs at least 1 unit")
        self.entry = nn.Conv2d(3, width, 3, padding=1)
        self.match = _Cascade(width)
        self.units = nn.ModuleList(_Unit(width) for _ in range(units))
        self.fusions = nn.ModuleList(PointConv((i + 2) * width, width) for i in range(units))
        self.exit = nn.Conv2d(width, 3, 3, padding=1)
        nn.init.zeros_(self.exit.weight)
        nn.init.zeros_(self.exit.bias)  # type: ignore[arg-type]

    def shallow(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, width, H, W), the features on which the paper matches real and synthetic rain."""
        features: torch.Tensor = self.match(_leaky(self.entry(x)))
        return features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.shallow(x)
        maps = [features]
        for unit, fusion in zip(self.units, self.fusions, strict=True):
            maps.append(unit(features))
            features = _leaky(fusion(torch.cat(maps, 1)))
        rain: torch.Tensor = self.exit(features)
        return x - rain


class _Cascade(nn.Module):
    """Two convolutions, plus the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + _leaky(self.second(_leaky(self.first(x))))


class _Unit(nn.Module):
    """The sum of one cascade per scale, each on the maximum over cells of that side, plus the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(_Cascade(width) for _ in SCALES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = x
        for scale, cascade in zip(SCALES, self.scales, strict=True):
            if scale == 1:
                total = total + cascade(x)
                continue
            coarse = cascade(F.max_pool2d(x, scale))
            total = total + F.interpolate(coarse, scale_factor=scale, mode="bilinear", align_corners=False)
        return total


def _leaky(x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, _SLOPE)


def recognise(names: Collection[str]) -> bool:
    """Whether these tensors belong to an `Mdn`; true as well if some are missing."""
    parts = ("entry.", "match.", "units.0.scales.", "fusions.", "exit.")
    return all(any(name.startswith(part) for name in names) for part in parts)


def configure(tensors: Mapping[str, torch.Tensor], role: str) -> dict[str, Any]:
    """The arguments of the `Mdn` that has these tensors.

    Raises:
        WeightsError: the tensor that tells the width is missing.
    """
    first = "entry.weight"
    if first not in tensors:
        raise WeightsError(f"tensor `{first}` is missing", hint="the file is damaged")
    units = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("units."))
    return {"width": tensors[first].shape[0], "units": units}


LAYOUT = Layout(
    build=Mdn,
    recognise=recognise,
    configure=configure,
    multiple=4,
    # Its eight units see 124 px at most.
    halo=128,
    bytes_per_pixel=3000.0,
    presets={"mdn": {}},
    objective="result",
    losses={"ssim": 1.0, "pixel": 1.0},
    recipe="mdn",
    matching=1.0,
    shallow=Mdn.shallow,
)
