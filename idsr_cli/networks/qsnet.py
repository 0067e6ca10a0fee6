"""QSNet: a trunk of ShuffleNet units at reduced size, five dilations, and decoders that only training needs.

Wang, Ma and Zeng, "Deep Image Deraining Via Intrinsic Rainy Image Priors and Multi-scale Auxiliary Decoding" (arXiv
1911.10810, 2019). The paper gives no widths; those here are of the first author's code for another paper of his (ECCV
2020). Three things differ from that code and from the paper:

- The stem has no instance normalisation. It depends on the whole image, so tiles would not agree with it.
- Maps are enlarged linearly, and convolutions at full size come last. Nearest neighbours would leave block edges, in
  which SIFT finds keypoints.
- The main decoder does not take the auxiliary decoders' images. So these decoders can be left out after training.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from idsr_cli.errors import WeightsError
from idsr_cli.networks.layout import Layout

DILATIONS = (0, 1, 2, 4, 6)  # 0 = a 1x1 convolution
GROUPS = 3
REDUCTIONS = (1, 2, 4)


class QsNet(nn.Module):
    """x -> y = x - r(x): (B, 3, H, W) RGB in [0, 1] -> the same, not clipped. H and W must be multiples of 8.

    With `heads` the result is a tuple: the five auxiliary images, then y, all of the size of x. The last convolutions
    start at zero, so an untrained network returns its input.

    Args:
        reduction: the trunk runs at 1/reduction of the image's size: 1, 2 or 4.
        width: channels of the finest maps, a multiple of 3; the trunk has four times as many.
        units: ShuffleNet units of the trunk.
        heads: has the auxiliary decoders.
        normalised: the units have batch normalisation, as in training; folded into their convolutions otherwise.

    Raises:
        ValueError: another reduction, or a width that the groups do not divide.
    """

    def __init__(
        self, reduction: int = 4, width: int = 33, units: int = 12, heads: bool = True, normalised: bool = True
    ) -> None:
        super().__init__()
        if reduction not in REDUCTIONS or width < 1 or width % GROUPS:
            raise ValueError(f"reductions are 1, 2 and 4, widths multiples of {GROUPS}, not {reduction} and {width}")
        # At 1/2 the last reduction and the first enlargement are left out.
        strides = (2 if reduction > 1 else 1, 2 if reduction > 2 else 1)
        self.enlargements = strides[::-1]
        self.stem = nn.ModuleList(
            nn.Conv2d(i, o, side, stride=stride, padding=side // 2, padding_mode="reflect")
            for i, o, side, stride in (
                (3, width, 9, 1), (width, 2 * width, 3, strides[0]), (2 * width, 4 * width, 3, strides[1]),
            )
        )  # fmt: skip
        self.units = nn.Sequential(*(_Unit(4 * width, normalised) for _ in range(units)))
        self.scales = nn.ModuleList(_grouped(4 * width, width, 3 if d else 1, d or 1) for d in DILATIONS)
        self.heads = nn.ModuleList(_Head(width, self.enlargements) for _ in DILATIONS) if heads else None
        self.decoder = nn.ModuleList(
            (
                _grouped(len(DILATIONS) * width, 2 * width, 3),
                _grouped(2 * width, width, 3),
                _grouped(width, width, 3),
                _last(width),
            )
        )

    def shallow(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, width, H, W), the first features, which see 9x9 pixels."""
        features: torch.Tensor = F.relu(self.stem[0](x))
        return features

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        features = self.shallow(x)
        for convolution in self.stem[1:]:
            features = F.relu(convolution(features))
        features = self.units(features)
        scales = [F.relu(scale(features)) for scale in self.scales]
        image = x - self._decoded(torch.cat(scales, 1))
        if self.heads is None:
            return image
        return (*(x - head(scale) for head, scale in zip(self.heads, scales, strict=True)), image)

    def _decoded(self, features: torch.Tensor) -> torch.Tensor:
        first, second, third, last = self.decoder
        features = _shuffled(features, len(DILATIONS))
        features = F.relu(first(_enlarged(features, self.enlargements[0])))
        features = F.relu(second(_enlarged(_shuffled(features), self.enlargements[1])))
        features = F.relu(third(_shuffled(features)))
        rain: torch.Tensor = last(_shuffled(features))
        return rain

    def fold(self) -> None:
        """Drop the auxiliary decoders, and fold batch normalisation into the convolutions before it."""
        self.heads = None
        for unit in self.units:
            assert isinstance(unit, _Unit)
            unit.fold()


class _Unit(nn.Module):
    """ShuffleNet's unit: grouped 1x1, shuffle, 3x3 per channel, grouped 1x1, plus the input."""

    def __init__(self, channels: int, normalised: bool) -> None:
        super().__init__()
        inner = channels // 4
        self.convolutions = nn.ModuleList(
            (
                _grouped(channels, inner, 1),
                nn.Conv2d(inner, inner, 3, padding=1, groups=inner),
                _grouped(inner, channels, 1),
            )
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) for n in (inner, inner, channels)) if normalised else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = _shuffled(F.relu(self._step(0, x)))
        return F.relu(x + self._step(2, self._step(1, y)))

    def _step(self, i: int, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.convolutions[i](x)
        return y if self.norms is None else self.norms[i](y)

    def fold(self) -> None:
        for convolution, norm in zip(self.convolutions, self.norms or (), strict=False):
            assert isinstance(convolution, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            convolution.weight, convolution.bias = fuse_conv_bn_weights(
                convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight,
                norm.bias,
            )  # fmt: skip
        self.norms = None


class _Head(nn.Module):
    """An auxiliary decoder: the features of one dilation -> the rain that they show, (B, 3, H, W)."""

    def __init__(self, width: int, enlargements: tuple[int, int]) -> None:
        super().__init__()
        self.enlargements = enlargements
        self.convolutions = nn.ModuleList((_grouped(width, width, 3), _grouped(width, width, 3)))
        self.last = _last(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for factor, convolution in zip(self.enlargements, self.convolutions, strict=True):
            x = _shuffled(F.relu(convolution(_enlarged(x, factor))))
        rain: torch.Tensor = self.last(x)
        return rain


def _grouped(inputs: int, outputs: int, side: int, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, padding=side // 2 * dilation, dilation=dilation, groups=GROUPS)


def _last(width: int) -> nn.Conv2d:
    convolution = nn.Conv2d(width, 3, 3, padding=1)
    nn.init.zeros_(convolution.weight)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution


def _shuffled(x: torch.Tensor, groups: int = GROUPS) -> torch.Tensor:
    """Channels of all groups in turn, so that each group of the next convolution sees all of them."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def _enlarged(x: torch.Tensor, factor: int) -> torch.Tensor:
    if factor == 1:
        return x
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def recognise(names: Collection[str]) -> bool:
    """Whether these tensors belong to a `QsNet`; true as well if some are missing."""
    parts = ("stem.", "units.0.convolutions.", "scales.", "decoder.")
    return all(any(name.startswith(part) for name in names) for part in parts)


def configure(tensors: Mapping[str, torch.Tensor], role: str) -> dict[str, Any]:
    """The arguments of the `QsNet` that has these tensors. They do not tell the reduction: 4, the paper's, is taken.

    Raises:
        WeightsError: the tensor that tells the width is missing.
    """
    first = "stem.0.weight"
    if first not in tensors:
        raise WeightsError(f"tensor `{first}` is missing", hint="the file is damaged")
    return {
        "reduction": 4,
        "width": tensors[first].shape[0],
        "units": 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("units.")),
        "heads": any(name.startswith("heads.") for name in tensors),
        "normalised": any(".norms." in name for name in tensors),
    }


def finish(network: nn.Module) -> nn.Module:
    """Leave a `QsNet` with what use needs, in place."""
    assert isinstance(network, QsNet)
    network.fold()
    return network


LAYOUT = Layout(
    build=QsNet,
    recognise=recognise,
    configure=configure,
    # 4 for the reduction; reflection at the border takes more than 4 pixels.
    multiple=8,
    # It sees 90 px at most; tiles must begin at multiples of `multiple`.
    halo=96,
    bytes_per_pixel=1500.0,
    presets={"qsnet": {}, "qsnet-half": {"reduction": 2}},
    finish=finish,
    finished={"heads": False, "normalised": False},
    # The image does not depend on the auxiliary decoders.
    uses_all_parameters=False,
    outputs=1 + len(DILATIONS),
    objective="auxiliary",
    losses={"pixel": 1.0, "quasi-sparsity": 1e-3, "auxiliary": 1e-2, "low-value": 1e-4},
    recipe="qsnet",
    shallow=QsNet.shallow,
)
