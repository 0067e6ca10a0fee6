"""SIAN: one network applied six times, with attention from a scale space of its own features.

Pang, Zhai, Jiang and Liu, "Single Image Deraining via Scale-space Invariant Attention Neural Network" (arXiv
2006.05049, 2020). Tensors have the names of the authors' checkpoints. Where the authors' code differs from the paper,
this is the code, because the checkpoints were trained with it: there is no ReLU before the attention's sigmoid, and the
Gaussian kernels are cut to 3x3, which blurs by about 0.8 px where the paper blurs by 1.2 to 3.1 (`kernels`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from idsr_cli.errors import WeightsError
from idsr_cli.networks.layout import Layout
from idsr_cli.place import Place
from idsr_cli.scale_space import SIFT_LAYERS, SIFT_SIGMA, added_blur, gaussian_taps

# The entry features are used at these reductions, each with one octave of the attention's scale space. The order is
# that of the checkpoints' tensors.
SCALES = (4, 2, 1)
# Blur of the first octave's first Gaussian image, and from each image of an octave to the next: SIFT's.
FIRST_BLUR = added_blur(SIFT_SIGMA)
_SIGMAS = tuple(SIFT_SIGMA * 2.0 ** (i / SIFT_LAYERS) for i in range(SIFT_LAYERS + 3))
BLURS = tuple(added_blur(after, before) for before, after in pairwise(_SIGMAS))
KERNELS = ("cut", "full")

# Hidden state and cell of a convolutional LSTM.
_State = tuple[torch.Tensor, torch.Tensor]


class Sian(nn.Module):
    """x -> the results of all stages, the last one last: (B, 3, H, W) RGB in [0, 1], any size, not clipped.

    A stage estimates the rain r from x and the result of the stage before; its result is x - r.

    Args:
        width: channels of all inner convolutions; the authors' checkpoints have 32.
        stages: how often the network is applied; all stages share its weights.
        kernels: "cut" = Gaussian kernels of 3x3, as in the authors' code; "full" = four sigma to each side.
        unused: has the two convolutions of the authors' checkpoints that no output depends on.

    Raises:
        ValueError: unknown `kernels`, or no stages.
    """

    def __init__(self, width: int = 32, stages: int = 6, kernels: str = "cut", unused: bool = False) -> None:
        super().__init__()
        if kernels not in KERNELS or stages < 1:
            raise ValueError(f"kernels are {' or '.join(KERNELS)}, stages 1 or more, not `{kernels}` and {stages}")
        self.stages = stages
        self.body = _Body(width, kernels, unused)
        self.body_end = nn.Sequential(_Block(width), _Block(width), _convolution(width, 3))
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=0.02)

    def shallow(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, width, H, W), the first stage's entry features."""
        features: torch.Tensor = self.body.tran_conv(torch.cat((x, x), 1))
        return features

    def forward(self, x: torch.Tensor, place: Place | None = None) -> tuple[torch.Tensor, ...]:
        """`place` says where x lies in the whole image, top and left multiples of 4; None = it is the whole image."""
        height, width = x.shape[-2:]
        coarsest = max(SCALES)
        if min(height, width) < coarsest:
            x = F.pad(x, (0, max(0, coarsest - width), 0, max(0, coarsest - height)), mode="replicate")
        place = place or Place(0, 0, *x.shape[-2:])
        states: list[_State | None] = [None] * len(SCALES)
        results = [x]
        for _ in range(self.stages):
            features = self.body(torch.cat((x, results[-1]), 1), states, place)
            results.append(x - self.body_end(features))
        return tuple(y[..., :height, :width] for y in results[1:])


class _Body(nn.Module):
    """A stage without its last convolutions: image and estimate (B, 6, H, W) -> features (B, C, H, W)."""

    def __init__(self, width: int, kernels: str, unused: bool) -> None:
        super().__init__()
        self.kernels = kernels
        self.tran_conv = _convolution(6, width)
        self.scale_conv = nn.ModuleList(_Scale(width, kernels) for _ in SCALES)
        self.lstm = nn.ModuleList(_Memory(width) for _ in SCALES)
        self.up_conv = nn.ModuleList(_Fusion(width) for _ in SCALES[1:])
        self.conv_m = _two_convolutions(width).requires_grad_(False) if unused else None

    def forward(self, x: torch.Tensor, states: list[_State | None], place: Place) -> torch.Tensor:
        """`states` holds those of the stage before, and afterwards those of this stage."""
        entry = self.tran_conv(x)
        image = _blurred(entry, FIRST_BLUR, self.kernels)
        for i in reversed(range(len(SCALES))):  # from fine to coarse
            pooled = F.avg_pool2d(entry, SCALES[i]) if SCALES[i] > 1 else entry
            features, image = self.scale_conv[i](pooled, image)
            if i:  # before the LSTM, which takes the most memory
                image = F.max_pool2d(image, 2)
            states[i] = self.lstm[i](features, states[i])
        hidden = [state[0] for state in states if state is not None]
        result = hidden[0]
        for scale, finer, fusion in zip(SCALES, hidden[1:], self.up_conv, strict=False):
            result = fusion(finer, result, place, scale)
        return result


class _Scale(nn.Module):
    """The features of one scale, strengthened by the attention."""

    def __init__(self, width: int, kernels: str) -> None:
        super().__init__()
        self.kernels = kernels
        self.conv_f = nn.Sequential(_convolution(width, width))
        self.conv_m = nn.Sequential(_convolution(len(BLURS) * width, width))
        self.conv_z = nn.Sequential(_convolution(width, width), nn.ReLU())

    def forward(self, pooled: torch.Tensor, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Strengthen the features of this scale.

        Args:
            pooled: (B, C, h, w), entry features at this scale.
            image: (B, C, h, w), the octave's first Gaussian image.

        Returns:
            The features, and the Gaussian image of twice the first one's sigma, from which the next octave starts.
        """
        mask: Any = self.conv_m[0]
        logits, doubled = mask.bias.view(-1, 1, 1), image
        # The convolution of all differences is a sum over differences: computed so, they need not be kept.
        for i, (sigma, weight) in enumerate(zip(BLURS, mask.weight.chunk(len(BLURS), 1), strict=True), 1):
            following = _blurred(image, sigma, self.kernels)
            logits = logits + F.conv2d(following - image, weight, padding=1)
            image = following
            if i == SIFT_LAYERS:
                doubled = image
        features = self.conv_f(pooled)
        return self.conv_z(features + features * torch.sigmoid(logits)), doubled


class _Memory(nn.Module):
    """A convolutional LSTM with the gates f(orget), i(nput), o(utput), and the candidate j."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for gate in "fioj":
            self.add_module(f"conv_x{gate}", _convolution(width, width))
            self.add_module(f"conv_h{gate}", nn.Conv2d(width, width, 3, padding=1, bias=False))

    def forward(self, x: torch.Tensor, state: _State | None) -> _State:
        """(B, C, h, w) and the state of the stage before, None = zeros -> the new state."""
        own, hidden = ([getattr(self, f"conv_{source}{gate}") for gate in "fioj"] for source in "xh")
        weight, bias = torch.cat([conv.weight for conv in own]), torch.cat([conv.bias for conv in own])
        if state is None:
            gates = F.conv2d(x, weight, bias, padding=1)
        else:
            weight = torch.cat((weight, torch.cat([conv.weight for conv in hidden])), 1)
            gates = F.conv2d(torch.cat((x, state[0]), 1), weight, bias, padding=1)
        forget, write, show, candidate = gates.chunk(4, 1)
        cell = torch.sigmoid(write) * torch.tanh(candidate)
        if state is not None:
            cell = torch.addcmul(cell, torch.sigmoid(forget), state[1])
        return torch.sigmoid(show) * torch.tanh(cell), cell


class _Fusion(nn.Module):
    """A coarser map enlarged and merged into the next finer one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_m = nn.Sequential(_convolution(2 * width, width), nn.ReLU())

    def forward(self, fine: torch.Tensor, coarse: torch.Tensor, place: Place, scale: int) -> torch.Tensor:
        """`scale` is the reduction of the coarser map."""
        for axis, first, whole in ((2, place.top, place.height), (3, place.left, place.width)):
            coarse = _enlarged(coarse, axis, fine.shape[axis], first // scale, whole // scale)
        merged: torch.Tensor = self.conv_m(torch.cat((fine, coarse), 1))
        return merged


class _Block(nn.Module):
    """A residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = _two_convolutions(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.body(x))


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _two_convolutions(width: int) -> nn.Sequential:
    return nn.Sequential(_convolution(width, width), nn.ReLU(), _convolution(width, width), nn.ReLU())


@lru_cache(maxsize=32)
def _taps(sigma: float, kernels: str) -> np.ndarray:
    """One axis of a Gaussian kernel, float32, sum 1."""
    taps = gaussian_taps(sigma)
    if kernels == "cut":
        taps = taps[len(taps) // 2 - 1 : len(taps) // 2 + 2]
    return (taps / taps.sum()).astype(np.float32)


def _blurred(x: torch.Tensor, sigma: float, kernels: str) -> torch.Tensor:
    """Each channel blurred; outside the map everything counts as 0, as in the convolutions."""
    channels = x.shape[1]
    taps = torch.tensor(_taps(sigma, kernels), dtype=x.dtype, device=x.device)
    if kernels == "cut":  # one pass over 3x3 takes less time than two
        return F.conv2d(x, torch.outer(taps, taps).expand(channels, 1, -1, -1), padding=1, groups=channels)
    reach = len(taps) // 2
    x = F.conv2d(x, taps.view(-1, 1).expand(channels, 1, -1, 1), padding=(reach, 0), groups=channels)
    return F.conv2d(x, taps.view(1, -1).expand(channels, 1, 1, -1), padding=(0, reach), groups=channels)


def _enlarged(x: torch.Tensor, axis: int, size: int, first: int, whole: int) -> torch.Tensor:
    """One axis enlarged to twice its length, linearly, then cut or filled with zeros to `size` samples.

    The first and the last sample stay at the ends of the whole map (torch's align_corners), so where a sample lies
    between its neighbours depends on its place in the whole map. Tiles would not agree if each had its own ends.

    Args:
        x: the part of the coarser map that is here.
        axis: of `x`.
        size: samples of the finer map that are here.
        first: index in the whole coarser map of the first sample of `x`.
        whole: length of the whole coarser map.
    """
    fine = np.arange(2 * first, 2 * first + size)
    coarse = fine * ((whole - 1) / (2 * whole - 1)) - first
    below = np.floor(coarse).astype(np.int64)
    inside = fine < 2 * whole
    shape = (-1,) + (1,) * (x.ndim - 1 - axis)

    def weighted(index: np.ndarray, weight: np.ndarray) -> torch.Tensor:
        nearest = torch.from_numpy(np.clip(index, 0, x.shape[axis] - 1)).to(x.device)
        return x.index_select(axis, nearest) * torch.from_numpy(weight * inside).to(x.device, x.dtype).view(shape)

    return weighted(below, 1.0 - (coarse - below)) + weighted(below + 1, coarse - below)


def recognise(names: Collection[str]) -> bool:
    """Whether these tensors belong to a `Sian`; true as well if some are missing."""
    parts = ("body.tran_conv.", "body.scale_conv.", "body.lstm.", "body.up_conv.", "body_end.")
    return all(any(name.startswith(part) for name in names) for part in parts)


def configure(tensors: Mapping[str, torch.Tensor], role: str) -> dict[str, Any]:
    """The arguments of the `Sian` that has these tensors. They do not tell stages and kernels: the authors' are taken.

    Raises:
        WeightsError: the tensor that tells the width is missing.
    """
    first = "body.tran_conv.weight"
    if first not in tensors:
        raise WeightsError(f"tensor `{first}` is missing", hint="the file is damaged")
    unused = any(name.startswith("body.conv_m.") for name in tensors)
    return {"width": tensors[first].shape[0], "stages": 6, "kernels": "cut", "unused": unused}


def finish(network: nn.Module) -> nn.Module:
    """Drop the unused convolutions of a `Sian`, in place."""
    assert isinstance(network, Sian)
    network.body.conv_m = None
    return network


LAYOUT = Layout(
    build=Sian,
    recognise=recognise,
    configure=configure,
    multiple=1,
    # Measured on the authors' weights: pixels of tiles differ from the whole image's by up to 0.01 grey levels with
    # 96 px (0.03 with full kernels), 0.003 with 128.
    halo=128,
    # 2400 to 2900 measured.
    bytes_per_pixel=3000.0,
    presets={"sian": {}, "sian-paper": {"kernels": "full"}},
    finish=finish,
    finished={"unused": False},
    placed=True,
    outputs=6,
    objective="stages",
    losses={"ssim": 1.0},
    recipe="sian",
    shallow=Sian.shallow,
)
