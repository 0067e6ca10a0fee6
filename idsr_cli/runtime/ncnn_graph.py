"""A torch network as a network of ncnn: the text of its layers and the bytes of its weights.

The network is called once with a `Blob` in place of a tensor. torch hands every function that is given one to
`Blob.__torch_function__`, which writes the layer of ncnn that computes the same; no tensor is computed. So the forward
functions in `networks` stay the only description of the networks, and weights that a user has trained need no further
step. ncnn's own converter, pnnx, is a download of 85 MB.

The format is that of ncnn's `docs/developer-guide/param-and-model-file-structure.md`, the numbers of the parameters are
those of its `operation-param-weight-table.md`.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from idsr_cli.networks.layout import Layout
from idsr_cli.runtime.ncnn_store import INPUT, OUTPUT, Graph

_MAGIC = 7767517  # of the text format
_RELU, _LEAKY_RELU, _SIGMOID = 1, 2, 4  # `activation_type` of a convolution
_CONVOLUTIONS = ("Convolution", "ConvolutionDepthWise")
_OPERATIONS = {"add": 0, "sub": 1, "mul": 2, "div": 3, "rsub": 7}  # `op_type` of BinaryOp


class NotConvertibleError(Exception):
    """The network does something that ncnn, or this module, does not know; the text says what."""


@dataclass
class _Layer:
    """One line of the text.

    Attributes:
        kind: ncnn's name of the layer's type.
        inputs, output: names of blobs.
        parameters: number of the parameter -> value.
        weights: what the layer reads from the file of weights.
    """

    kind: str
    inputs: list[str]
    output: str
    parameters: dict[int, int | float | list[float]]
    weights: list[bytes] = field(default_factory=list)


class Blob:
    """Stands for a (1, C, H, W) float32 tensor while a network is written down. It has no values and no size."""

    dtype = torch.float32
    # Networks may ask, to choose among ways to compute the same on a CPU; ncnn needs none of them.
    device = torch.device("meta")

    def __init__(self, graph: _Writer, name: str) -> None:
        self.graph, self.name = graph, name

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Blob:
        if function not in _WRITERS:
            raise NotConvertibleError(f"no layer of ncnn for `{getattr(function, '__name__', function)}`")
        return _WRITERS[function](*args, **(kwargs or {}))

    def __add__(self, other: object) -> Blob:
        return _binary("add", self, other)

    def __sub__(self, other: object) -> Blob:
        return _binary("sub", self, other)

    def __mul__(self, other: object) -> Blob:
        return _binary("mul", self, other)

    def __truediv__(self, other: object) -> Blob:
        return _binary("div", self, other)

    def __rsub__(self, other: object) -> Blob:
        return _binary("rsub", self, other)

    __radd__, __rmul__ = __add__, __mul__


class _Writer:
    """The layers so far, in the order in which they are computed."""

    def __init__(self) -> None:
        self.layers: list[_Layer] = []

    def add(
        self,
        kind: str,
        inputs: Sequence[Blob] = (),
        parameters: Mapping[int, int | float | list[float]] = {},  # only read
        weights: Sequence[bytes] = (),
    ) -> Blob:
        output = f"b{len(self.layers)}" if inputs else INPUT
        self.layers.append(_Layer(kind, [blob.name for blob in inputs], output, dict(parameters), list(weights)))
        return Blob(self, output)


def convert(network: nn.Module, layout: Layout) -> Graph:
    """A network in evaluation mode, for images of any size.

    Raises:
        NotConvertibleError: it has an operation that is not translated here, or looks at sizes or values.
    """
    if layout.placed:
        raise NotConvertibleError("its result depends on where a patch lies in the image")
    writer = _Writer()
    try:
        result = network(writer.add("Input"))
        image = result if isinstance(result, Blob) else layout.image_of(result)
    except NotConvertibleError:
        raise
    except Exception as error:  # whatever a forward function does with something that is no tensor
        raise NotConvertibleError(f"its forward function cannot be followed: {error}") from error
    if not isinstance(image, Blob):
        raise NotConvertibleError("its result does not depend on its input")
    layers = _fused(_needed(writer.layers, image.name), image.name)
    weights = b"".join(part for layer in layers for part in layer.weights)
    fast = sum(len(part) for layer in layers for part in layer.weights if _suits_winograd(layer))
    text, gains = _text(layers, image.name), fast > len(weights) / 2
    memory = layout.ncnn_bytes_per_pixel or layout.bytes_per_pixel
    return Graph(text, weights, gains, layout.multiple, layout.halo, memory)


def _suits_winograd(layer: _Layer) -> bool:
    sides = [layer.parameters.get(key) for key in (1, 11, 2, 12, 3, 13)]
    return layer.kind == "Convolution" and sides == [3, 3, 1, 1, 1, 1]


def _needed(layers: Sequence[_Layer], image: str) -> list[_Layer]:
    """Without the layers that the image does not depend on."""
    needed, found = {image, INPUT}, []
    for layer in reversed(layers):
        if layer.output in needed:
            needed.update(layer.inputs)
            found.append(layer)
    return found[::-1]


def _fused(layers: Sequence[_Layer], image: str) -> list[_Layer]:
    """With each activation that alone follows a convolution as part of that convolution."""
    uses = Counter(name for layer in layers for name in layer.inputs)
    uses[image] += 1
    made_by: dict[str, _Layer] = {}
    found = []
    for layer in layers:
        before = made_by.get(layer.inputs[0]) if len(layer.inputs) == 1 else None
        kind = {"ReLU": _LEAKY_RELU if 0 in layer.parameters else _RELU, "Sigmoid": _SIGMOID}.get(layer.kind)
        if (
            kind and before and before.kind in _CONVOLUTIONS
            and 9 not in before.parameters and uses[before.output] == 1
        ):  # fmt: skip
            before.parameters[9] = kind
            if kind == _LEAKY_RELU:
                before.parameters[-23310] = [float(layer.parameters[0])]  # type: ignore[arg-type]
            before.output = layer.output
            made_by[before.output] = before
        else:
            found.append(layer)
            made_by[layer.output] = layer
    return found


def _text(layers: Sequence[_Layer], image: str) -> str:
    """The text format. A blob may be read once, so one that is needed more often is copied by a `Split` layer."""
    uses = Counter(name for layer in layers for name in layer.inputs)
    taken: Counter[str] = Counter()

    def read(name: str) -> str:
        if uses[name] == 1:
            return name
        taken[name] += 1
        return f"{name}_{taken[name]}"

    lines, blobs = [], 0
    for layer in layers:
        output = OUTPUT if layer.output == image else layer.output
        outputs = [output]
        lines.append(_line(layer.kind, [read(name) for name in layer.inputs], outputs, layer.parameters))
        if uses[layer.output] > 1:
            copies = [f"{layer.output}_{i + 1}" for i in range(uses[layer.output])]
            lines.append(_line("Split", outputs, copies, {}))
            outputs = [*outputs, *copies]
        blobs += len(outputs)
    return "\n".join([str(_MAGIC), f"{len(lines)} {blobs}", *lines, ""])


def _line(kind: str, inputs: Sequence[str], outputs: Sequence[str], parameters: Mapping[int, Any]) -> str:
    def value(number: Any) -> str:
        if isinstance(number, list):
            return ",".join([str(len(number)), *map(value, number)])
        return f"{number:e}" if isinstance(number, float) else str(number)

    words = [kind, f"{kind}_{outputs[0]}", str(len(inputs)), str(len(outputs)), *inputs, *outputs]
    return " ".join([*words, *(f"{key}={value(number)}" for key, number in parameters.items())])


def _raw(values: torch.Tensor) -> bytes:
    return values.detach().to("cpu", torch.float32).contiguous().numpy().astype("<f4", copy=False).tobytes()


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    """(vertical, horizontal) of what torch takes as one number or two."""
    vertical, horizontal = (value, value) if isinstance(value, int) else value
    return int(vertical), int(horizontal)


def _conv2d(
    x: Blob,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Blob:
    if isinstance(weight, Blob) or isinstance(bias, Blob):
        raise NotConvertibleError("a convolution whose kernel depends on the image")
    outputs, _, height, width = weight.shape
    (down, across), (tall, wide) = _pair(stride), _pair(dilation)
    if isinstance(padding, str):
        raise NotConvertibleError(f"a convolution with padding `{padding}`")
    above, left = _pair(padding)
    parameters: dict[int, Any] = {0: outputs, 1: width, 11: height, 2: wide, 12: tall, 3: across, 13: down, 4: left}
    parameters |= {14: above, 5: int(bias is not None), 6: weight.numel()}
    if groups > 1:
        parameters[7] = groups
    # The 0 says that float32 numbers follow.
    data = [struct.pack("<I", 0), _raw(weight), *([] if bias is None else [_raw(bias)])]
    return x.graph.add(_CONVOLUTIONS[groups > 1], [x], parameters, data)


def _relu(x: Blob, inplace: bool = False) -> Blob:
    return x.graph.add("ReLU", [x])


def _leaky_relu(x: Blob, negative_slope: float = 0.01, inplace: bool = False) -> Blob:
    return x.graph.add("ReLU", [x], {0: float(negative_slope)})


def _sigmoid(x: Blob) -> Blob:
    return x.graph.add("Sigmoid", [x])


def _binary(name: str, x: object, other: object) -> Blob:
    """`x` and `other` are (1, C, H, W) with the same H and W; the C of one may be 1."""
    if isinstance(x, Blob) and isinstance(other, Blob):
        return x.graph.add("BinaryOp", [x, other], {0: _OPERATIONS[name]})
    if isinstance(x, Blob) and isinstance(other, int | float):
        return x.graph.add("BinaryOp", [x], {0: _OPERATIONS[name], 1: 1, 2: float(other)})
    raise NotConvertibleError("arithmetic of an image with something that is neither an image nor a number")


def _pixel_shuffle(x: Blob, upscale_factor: int) -> Blob:
    return x.graph.add("PixelShuffle", [x], {0: upscale_factor})


def _pixel_unshuffle(x: Blob, downscale_factor: int) -> Blob:
    """The layer `Reorg` orders channels like torch unless its mode is 1."""
    return x.graph.add("Reorg", [x], {0: downscale_factor})


def _avg_pool2d(
    x: Blob,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Blob:
    if ceil_mode or divisor_override is not None:
        raise NotConvertibleError("an average with `ceil_mode` or `divisor_override`")
    height, width = _pair(kernel_size)
    down, across = _pair(kernel_size if stride is None or stride == () else stride)
    above, left = _pair(padding)
    parameters: dict[int, Any] = {0: 1, 1: width, 11: height, 2: across, 12: down, 3: left, 13: above, 14: left}
    parameters |= {15: above, 5: 1, 6: int(count_include_pad)}  # 5 = 1: no padding beyond what is given
    return x.graph.add("Pooling", [x], parameters)


def _interpolate(
    x: Blob,
    size: object = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Blob:
    if size is not None or mode != "bilinear" or align_corners or recompute_scale_factor or antialias:
        raise NotConvertibleError("a change of size other than bilinear by a factor")
    vertical, horizontal = scale_factor if isinstance(scale_factor, list | tuple) else (scale_factor, scale_factor)
    if vertical is None or horizontal is None or vertical % 1 or horizontal % 1:
        raise NotConvertibleError("a change of size by a factor that is not whole")
    return x.graph.add("Interp", [x], {0: 2, 1: float(vertical), 2: float(horizontal)})


def _pad(x: Blob, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Blob:
    modes = {"constant": 0, "replicate": 1, "reflect": 2}
    if len(pad) != 4 or min(pad) < 0 or mode not in modes:
        raise NotConvertibleError(f"a border of the kind `{mode}` with {len(pad)} widths")
    left, right, above, below = pad
    parameters: dict[int, Any] = {0: above, 1: below, 2: left, 3: right, 4: modes[mode]}
    return x.graph.add("Padding", [x], parameters if mode != "constant" else {**parameters, 5: float(value or 0.0)})


def _cat(tensors: Sequence[Blob], dim: int = 0) -> Blob:
    if dim not in (1, -3) or not all(isinstance(blob, Blob) for blob in tensors):
        raise NotConvertibleError("a concatenation of something else than channels")
    return tensors[0].graph.add("Concat", tensors, {0: 0})


# What torch's functions become. Modules such as `nn.Conv2d` call these functions.
_WRITERS: dict[Callable[..., Any], Callable[..., Blob]] = {
    F.conv2d: _conv2d,
    F.relu: _relu,
    torch.relu: _relu,
    F.leaky_relu: _leaky_relu,
    F.sigmoid: _sigmoid,
    torch.sigmoid: _sigmoid,
    F.pixel_shuffle: _pixel_shuffle,
    F.pixel_unshuffle: _pixel_unshuffle,
    F.avg_pool2d: _avg_pool2d,
    F.interpolate: _interpolate,
    F.pad: _pad,
    torch.cat: _cat,
}
