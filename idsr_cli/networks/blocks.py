"""The paper's residual blocks: CSARB (channel + spatial attention) and CGARB (channel + gradient attention).

Wu, Chang and Li, "See SIFT in a Rain" (IEEE TCSVT 2023), section III and figures 4-6. All tensors are (B, C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional as F

SOBEL_X = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
SOBEL_Y = ((1.0, 2.0, 1.0), (0.0, 0.0, 0.0), (-1.0, -2.0, -1.0))
LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))
# Channel attention averages over 3x3 cells; a cell is a square of this side, input pixels, on a fixed grid.
CELL = 32
# Rows of cells whose weights are enlarged at once where memory is saved.
_CELLS_AT_ONCE = 2
# Largest band of a map that is computed at once where memory is saved, bytes. Smaller bands take more time, because
# their context is computed twice; memory blocks above 32 MiB return to the system when they are freed
# (`runtime.allocator`).
_BAND = 12e6


def may_overwrite(x: object) -> bool:
    """Whether a module may write its result into the memory of `x`, if nothing else needs `x`.

    That is so while no gradients are recorded: in use, networks then take a quarter of the memory. False for anything
    but a tensor: other engines pass a network something else, and write down what becomes of it.
    """
    return isinstance(x, torch.Tensor) and not torch.is_grad_enabled()


def relu(x: torch.Tensor) -> torch.Tensor:
    """ReLU; overwrites `x` if it may."""
    return F.relu(x, inplace=may_overwrite(x))


def scaled(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """`x * factor`; overwrites `x` if it may."""
    return x.mul_(factor) if may_overwrite(x) else x * factor


def added(x: torch.Tensor, term: torch.Tensor) -> torch.Tensor:
    """`x + term`; overwrites `x` if it may."""
    return x.add_(term) if may_overwrite(x) else x + term


def in_bands(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, reach: int) -> torch.Tensor:
    """`function(x)`, computed in bands of rows if no gradients are recorded, so that what it makes on the way is small.

    Args:
        function: (B, C, H, W) -> (B, C', H, W). It does not write into its input.
        x: its input.
        reach: rows above and below that a row of the result depends on, the border that convolutions add included.
    """
    if not may_overwrite(x):
        return function(x)
    result = None
    for first, top, bottom, last in _bands(x, reach):
        part = function(x[:, :, first:last])[:, :, top - first : bottom - first]
        if len(part) == 1 and part.shape[2] == x.shape[2]:
            return part
        if result is None:
            size = (*part.shape[:2], x.shape[2], part.shape[3])
            result = torch.empty(size, dtype=part.dtype, device=part.device, memory_format=torch.channels_last)
        result[:, :, top:bottom] = part
    assert result is not None
    return result


def added_in_bands(
    x: torch.Tensor, function: Callable[[torch.Tensor], torch.Tensor], source: torch.Tensor, reach: int = 0
) -> torch.Tensor:
    """`x + function(source)`; overwrites `x`, and computes the sum in bands of rows, if it may.

    Args:
        x: (B, C, H, W).
        function: makes an image of that size from `source`. It does not write into its input.
        source: its height is a multiple of H, or H a multiple of its height.
        reach: as for `in_bands`, in rows of the lower of the two.
    """
    if not may_overwrite(x):
        return x + function(source)
    lower = min(x, source, key=lambda image: image.shape[2])
    mine, others = x.shape[2] // lower.shape[2], source.shape[2] // lower.shape[2]
    for first, top, bottom, last in _bands(x, reach, mine):
        part = function(source[:, :, first * others : last * others])
        x[:, :, top * mine : bottom * mine] += part[:, :, (top - first) * mine : (bottom - first) * mine]
    return x


def _bands(x: torch.Tensor, reach: int, unit: int = 1) -> Iterator[tuple[int, int, int, int]]:
    """Bands of equal height, in units of `unit` rows: first row of the context, of the band, ends of both."""
    height = x.shape[2] // unit
    count = min(height, math.ceil(x.numel() * x.element_size() / _BAND))
    step = -(-height // max(1, count))
    for top in range(0, height, step):
        bottom = min(top + step, height)
        yield max(0, top - reach), top, bottom, min(bottom + reach, height)


class EdgeConv(nn.Module):
    """3x3 convolution whose kernel is trained as a sum of a plain and three edge-prior branches.

    Each prior branch is a 1x1 convolution followed by a scaled Sobel or Laplacian filter (Zhang et al., "Edge-oriented
    convolution block", ACM MM 2021). A chain of linear filters is one filter, so the branches are summed into a single
    3x3 kernel before it is applied: they cost nothing per pixel. `fold` replaces them by that kernel.
    """

    prior: torch.Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.plain = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.point = nn.Parameter(torch.empty(3, out_channels, in_channels))
        nn.init.kaiming_uniform_(self.point, a=5**0.5)
        self.gain = nn.Parameter(torch.full((3, out_channels), 0.1))
        prior = torch.tensor([SOBEL_X, SOBEL_Y, LAPLACIAN])
        self.register_buffer("prior", prior, persistent=False)

    def kernel(self) -> torch.Tensor:
        """(out, in, 3, 3): the one kernel the branches add up to."""
        branches = torch.einsum("kyx,ko,koi->oiyx", self.prior, self.gain, self.point)
        return self.plain.weight + branches

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.kernel(), self.plain.bias, padding=1)

    def fold(self) -> nn.Conv2d:
        """The equivalent plain convolution."""
        with torch.no_grad():
            self.plain.weight.copy_(self.kernel())
        return self.plain


class PointConv(nn.Conv2d):
    """1x1 convolution whose result on a CPU does not depend on the number of threads, except in training mode.

    With few outputs or few positions the CPU kernels split the sum over channels among threads, so the last bit of the
    output would depend on the machine. Padded to 32 outputs and 256 positions they split positions only.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training or x.device.type != "cpu":
            return super().forward(x)
        outputs, (height, width) = self.out_channels, x.shape[-2:]
        weight, bias, positions = self.weight, self.bias, height * width
        if outputs < 32:
            weight = F.pad(weight, (0, 0, 0, 0, 0, 0, 0, 32 - outputs))
            bias = F.pad(bias, (0, 32 - outputs)) if bias is not None else None
        if positions >= 256:
            return F.conv2d(x, weight, bias)[:, :outputs]
        row = F.pad(x.flatten(2), (0, 256 - positions)).unsqueeze(2).contiguous(memory_format=torch.channels_last)
        return F.conv2d(row, weight, bias)[:, :outputs, 0, :positions].unflatten(2, (height, width))


class ChannelAttention(nn.Module):
    """Channel attention (CAM) over a local window instead of the whole image.

    Pooling over a whole photograph gives other statistics than pooling over the patches of training (Chu et al.,
    "Improving image restoration by revisiting global information aggregation", ECCV 2022). So features are averaged
    over cells of 32x32 input pixels on a fixed grid, then over 3x3 cells. The weights are computed per cell and
    interpolated between cell centres. A window therefore has about the size of a training patch, in training and in
    use, and tiles cut on the same grid agree.

    Like the other attentions it overwrites its input, if it may (`may_overwrite`).

    Args:
        channels: C.
        stride: input pixels per feature pixel (1, 2, 4 ...); the cell has 32 / stride feature pixels.
        reduction: the hidden layer has C / reduction units.
    """

    def __init__(self, channels: int, stride: int, reduction: int = 4) -> None:
        super().__init__()
        self.cell = CELL // stride
        self.squeeze = PointConv(channels, channels // reduction)
        self.excite = PointConv(channels // reduction, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cells = F.avg_pool2d(x, self.cell)
        cells = F.avg_pool2d(cells, 3, stride=1, padding=1, count_include_pad=False)
        weight = torch.sigmoid(self.excite(F.relu(self.squeeze(cells))))
        if not may_overwrite(x):
            return x * self._enlarged(weight)
        count, step = weight.shape[-2], _CELLS_AT_ONCE
        for top in range(0, count, step):  # in bands: the enlarged weights would take as much memory as x
            first, last = max(0, top - 1), min(top + step + 1, count)
            band = x[:, :, top * self.cell : (top + step) * self.cell]
            above = (top - first) * self.cell
            band.mul_(self._enlarged(weight[:, :, first:last])[:, :, above : above + band.shape[-2]])
        return x

    def _enlarged(self, weight: torch.Tensor) -> torch.Tensor:
        return F.interpolate(weight, scale_factor=self.cell, mode="bilinear", align_corners=False)


class SpatialAttention(nn.Module):
    """Spatial attention (SAM): 1x1 C -> 1, ReLU, 5x5, ReLU, 5x5, sigmoid; one map that multiplies the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = PointConv(channels, 1)
        self.first = nn.Conv2d(1, 1, 5, padding=2)
        self.second = nn.Conv2d(1, 1, 5, padding=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return scaled(x, in_bands(self._map, x, reach=4))

    def _map(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.second(F.relu(self.first(F.relu(self.reduce(x))))))


class GradientAttention(nn.Module):
    """Gradient attention (GAM), eq. 5-8: Sobel in x and in y, each C -> 1, 5x5, ReLU, 5x5, ReLU; concatenated, sigmoid.

    A Sobel filter and a 1x1 convolution commute, so the C channels are reduced to one before the Sobel filter instead
    of after it: the same map for 1/C of the work.
    """

    sobel: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = PointConv(channels, 2)
        self.first = nn.Conv2d(2, 2, 5, padding=2, groups=2)
        self.second = nn.Conv2d(2, 2, 5, padding=2, groups=2)
        self.merge = nn.Conv2d(2, 1, 5, padding=2)
        self.register_buffer("sobel", torch.tensor([SOBEL_X, SOBEL_Y]).unsqueeze(1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return scaled(x, in_bands(self._map, x, reach=7))

    def _map(self, x: torch.Tensor) -> torch.Tensor:
        planes = F.pad(self.reduce(x), (1, 1, 1, 1), mode="replicate")
        gradients = F.conv2d(planes, self.sobel.to(planes.dtype), groups=2)
        maps = F.relu(self.second(F.relu(self.first(gradients))))
        return torch.sigmoid(self.merge(maps))


class AttentionBlock(nn.Module):
    """CSARB or CGARB: conv, ReLU, conv, ReLU, channel attention, then spatial or gradient attention, plus the input.

    Args:
        channels: C in and out.
        stride: input pixels per feature pixel, for the channel attention's window.
        attention: "spatial" (CSARB), "gradient" (CGARB), "both" (gradient, then spatial) or "none" (channel alone, the
            paper's ablation).
        edge_branches: train the 3x3 kernels as `EdgeConv`.

    Raises:
        ValueError: another `attention`.
    """

    def __init__(self, channels: int, stride: int, attention: str, edge_branches: bool = False) -> None:
        super().__init__()
        if attention not in ("spatial", "gradient", "both", "none"):
            raise ValueError(f"unknown attention `{attention}`")
        self.conv1 = conv3x3(channels, channels, edge_branches)
        self.conv2 = conv3x3(channels, channels, edge_branches)
        self.channel = ChannelAttention(channels, stride)
        self.gradient = GradientAttention(channels) if attention in ("gradient", "both") else None
        self.spatial = SpatialAttention(channels) if attention in ("spatial", "both") else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.channel(in_bands(self._convolved, x, reach=2))
        if self.gradient is not None:
            y = self.gradient(y)
        if self.spatial is not None:
            y = self.spatial(y)
        return added(y, x)

    def _convolved(self, x: torch.Tensor) -> torch.Tensor:
        return relu(self.conv2(relu(self.conv1(x))))


def conv3x3(in_channels: int, out_channels: int, edge_branches: bool) -> nn.Module:
    """A 3x3 convolution that keeps the size, with foldable edge branches if `edge_branches`."""
    if edge_branches:
        return EdgeConv(in_channels, out_channels)
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)
