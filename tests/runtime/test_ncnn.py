"""The engine ncnn: each layer gives what torch gives, whole networks too, and what it cannot run is told."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from idsr_cli.errors import DeviceError
from idsr_cli.inference import TiledNetwork
from idsr_cli.networks import BASE, LAYOUTS, RainUNet, ReleasedNet, build, layout_of
from idsr_cli.networks.blocks import ChannelAttention, EdgeConv, GradientAttention, PointConv, SpatialAttention
from idsr_cli.runtime import engines, ncnn_engine
from idsr_cli.runtime.ncnn_graph import NotConvertibleError, convert
from idsr_cli.runtime.torch_engine import TorchRunner
from tests.networks.test_layouts import SMALL as SMALLEST

UNET, RELEASED = layout_of("unet"), layout_of("released")
CPU = torch.device("cpu")
SMALL = {**BASE, "widths": (16, 24), "blocks": (1, 2, 1)}
needs_ncnn = pytest.mark.skipif(not ncnn_engine.is_installed(), reason="ncnn is not installed")


@pytest.fixture(autouse=True)
def avx2(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor on which ncnn is the faster engine."""
    monkeypatch.setattr(engines, "torch_is_as_fast", lambda: False)


class Function(nn.Module):
    """A function of the image and some modules, as a network."""

    def __init__(self, function: Callable, *modules: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(modules)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x, *self.parts)


def small(attention: str = "spatial") -> nn.Module:
    """A network with weights everywhere; new ones return their input."""
    torch.manual_seed(0)
    network = RainUNet(**SMALL, attention=attention)
    nn.init.normal_(network.tail.weight, std=0.05)
    return network.eval().requires_grad_(False)


def convolution(*arguments: int, **settings) -> nn.Module:
    return nn.Conv2d(*arguments, **settings)


LAYERS = {
    "3x3": (lambda x, m: m(x), lambda: [convolution(8, 16, 3, padding=1)]),
    "3x3 with ReLU": (lambda x, m: F.relu(m(x)), lambda: [convolution(8, 16, 3, padding=1)]),
    "leaky ReLU": (lambda x, m: F.leaky_relu(m(x), 0.2), lambda: [convolution(8, 5, 3, padding=1)]),
    "leaky ReLU alone": (lambda x: F.leaky_relu(x, 0.2), list),
    "used twice": (lambda x, m: torch.relu(m(x)) + torch.sigmoid(m(x)), lambda: [convolution(8, 8, 3, padding=1)]),
    "before and after": (lambda x, m: (y := m(x)) + F.relu(y), lambda: [convolution(8, 8, 3, padding=1)]),
    "asymmetric": (lambda x, m: m(x), lambda: [convolution(8, 4, (3, 5), padding=(0, 2), stride=(2, 1))]),
    "dilated": (lambda x, m: m(x), lambda: [convolution(8, 4, 3, padding=2, dilation=(1, 2))]),
    "no bias": (lambda x, m: m(x), lambda: [convolution(8, 4, 2, stride=2, bias=False)]),
    "groups": (lambda x, m: m(x), lambda: [convolution(8, 8, 5, padding=2, groups=4)]),
    "edges": (lambda x, m: m(x), lambda: [EdgeConv(8, 8)]),
    "point": (lambda x, m: m(x), lambda: [PointConv(8, 1)]),
    "shuffle": (lambda x: F.pixel_shuffle(x, 2), list),
    "unshuffle": (lambda x: F.pixel_unshuffle(x, 4), list),
    "numbers": (lambda x: (2 - x) * 3 + (1 + x) / 4 - 0.5 * x, list),
    "broadcast": (lambda x, m: x * torch.sigmoid(m(x)), lambda: [convolution(8, 1, 1)]),
    "cells": (lambda x: F.avg_pool2d(F.avg_pool2d(x, 16), 3, stride=1, padding=1, count_include_pad=False), list),
    "padded average": (lambda x: F.avg_pool2d(x, (3, 5), stride=2, padding=1), list),
    "bilinear": (lambda x: F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False), list),
    "border": (lambda x: F.pad(x, (1, 2, 3, 0), mode="replicate"), list),
    "mirrored": (lambda x: F.pad(x, (1, 2, 3, 4), mode="reflect"), list),
    "zeros": (lambda x: F.pad(x, (1, 2, 3, 4)), list),
    "concatenated": (lambda x: torch.cat([x, F.relu(x), x], 1), list),
    "channel attention": (lambda x, m: m(x), lambda: [ChannelAttention(8, 2)]),
    "spatial attention": (lambda x, m: m(x), lambda: [SpatialAttention(8)]),
    "gradient attention": (lambda x, m: m(x), lambda: [GradientAttention(8)]),
    "unused": (lambda x, m: (m(x), x + 1)[1], lambda: [convolution(8, 8, 3)]),
}  # fmt: skip


@needs_ncnn
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("size", [(16, 16), (48, 80)])
def test_layers_give_what_torch_gives(name: str, size: tuple[int, int]) -> None:
    import ncnn

    torch.manual_seed(0)
    function, modules = LAYERS[name]
    network = Function(function, *modules()).eval().requires_grad_(False)
    x = torch.randn(1, 8 if name != "unshuffle" else 3, *size, generator=torch.Generator().manual_seed(1))
    loaded = ncnn_engine.loaded(convert(network, UNET))
    extractor, planes = loaded.create_extractor(), x[0].numpy()
    extractor.input("in0", ncnn.Mat(planes).clone())
    status, result = extractor.extract("out0")
    assert status == 0
    np.testing.assert_allclose(np.array(result), network(x)[0].numpy(), atol=5e-5)


@needs_ncnn
@pytest.mark.parametrize("attention", ["spatial", "gradient", "both", "none"])
def test_networks_give_what_torch_gives(attention: str) -> None:
    network = small(attention)
    image = np.random.default_rng(0).random((70, 101, 3), np.float32)
    kept = image.copy()
    runner = engines.load(network, UNET, CPU, torch.float32)
    assert (runner.engine, runner.precision, runner.remark) == ("ncnn", "fp32", "")
    result, expected = (TiledNetwork(r, 0)(image) for r in (runner, TorchRunner(network, UNET, CPU)))
    assert (result.shape, result.dtype, result.flags.c_contiguous) == (image.shape, np.float32, True)
    assert np.abs(expected - image).max() > 0.05  # it does something
    assert np.abs(result - expected).max() < 0.01 / 255
    np.testing.assert_array_equal(image, kept)
    again = np.random.default_rng(0).random((64, 32, 3), np.float32)  # a patch that is contiguous in memory
    np.testing.assert_array_equal(runner.run(again), runner.run(again.copy()))


@needs_ncnn
@pytest.mark.parametrize("name", list(LAYOUTS))
def test_each_layout_is_run_rightly_or_refused(name: str) -> None:
    """Also by those that are added: what is written down, but not as torch computes it, would go unnoticed."""
    torch.manual_seed(0)
    record, network = LAYOUTS[name], build(name, SMALLEST[name])
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    network = record.finish(network).eval().requires_grad_(False)
    image = np.random.default_rng(0).random((64, 96, 3), np.float32)
    try:
        graph = convert(network, record)
    except NotConvertibleError:
        graph = None
    assert graph or name != "unet"
    if graph is None:
        with pytest.raises(DeviceError, match="ncnn cannot run this network: "):
            engines.load(network, record, CPU, torch.float32, "ncnn")
        return
    result, expected = ncnn_engine.NcnnRunner(graph).run(image), TorchRunner(network, record, CPU).run(image)
    assert np.abs(result - expected).max() < 0.01 / 255


@needs_ncnn
def test_results_do_not_depend_on_threads_or_earlier_calls() -> None:
    network, image = small("both"), np.random.default_rng(0).random((96, 160, 3), np.float32)
    before, found = torch.get_num_threads(), set()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            runner = engines.load(network, UNET, CPU, torch.float32, "ncnn")
            found |= {runner.run(image).tobytes() for _ in range(2)}
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1


@needs_ncnn
def test_memory_is_kept_for_patches_of_the_same_size_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of other sizes would add up, and those of large patches are better spent on what comes after."""
    runner = engines.load(small(), UNET, CPU, torch.float32, "ncnn")
    monkeypatch.setattr(ncnn_engine, "_LARGE", 96 * 96)
    emptied: list[tuple[int, ...]] = []
    release = runner.release
    monkeypatch.setattr(runner, "release", lambda: (emptied.append(sides), release()))
    image = np.random.default_rng(0).random((96, 96, 3), np.float32)
    expected = {}
    for sides in [(64, 64), (64, 64), (32, 128), (32, 32), (64, 64), (96, 96), (96, 96)]:
        result = runner.run(image[: sides[0], : sides[1]].copy() if sides != (32, 128) else np.ones((32, 128, 3), "f4"))
        np.testing.assert_array_equal(result, expected.setdefault(sides, result))
    assert emptied == [(64, 64), (32, 32), (64, 64), (96, 96), (96, 96), (96, 96)]


@needs_ncnn
def test_large_photographs_leave_less_for_a_tile() -> None:
    memory = engines.load(small(), UNET, CPU, torch.float32, "ncnn").memory
    assert memory(0) > memory(2_000_000) > memory(12_000_000) >= memory(100_000_000) > 0
    assert memory(12_000_000) + 24 * 12_000_000 < 1.5e9


@needs_ncnn
def test_out_of_memory_is_known_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ncnn returns where it gets no memory leads to smaller tiles."""
    runner = engines.load(small(), UNET, CPU, torch.float32, "ncnn")

    class Failing:
        def input(self, *_: object) -> None: ...

        def extract(self, name: str) -> tuple[int, None]:
            return -100, None

    monkeypatch.setattr(runner, "_network", type("Net", (), {"create_extractor": lambda self: Failing()})())
    with pytest.raises(MemoryError):
        runner.run(np.zeros((32, 32, 3), np.float32))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: torch.softmax(x, 1), "no layer of ncnn for `softmax`"),
        (lambda x: x.mean((2, 3)), "cannot be followed"),
        (lambda x: x[:, :, : x.shape[2] // 2], "cannot be followed"),
        (lambda x: x * torch.ones(3, 1, 1), "neither an image nor a number"),
        (lambda x: F.conv2d(x, x), "kernel depends on the image"),
        (lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear"), "not whole"),
        (lambda x: F.interpolate(x, size=(8, 8), mode="bilinear"), "other than bilinear"),
        (lambda x: torch.ones(1, 3, 8, 8), "does not depend on its input"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_refused(function: Callable, reason: str) -> None:
    with pytest.raises(NotConvertibleError, match=reason):
        convert(Function(function), UNET)


def test_networks_that_look_at_places_are_refused() -> None:
    with pytest.raises(NotConvertibleError, match="where a patch lies"):
        convert(Function(lambda x: x + 1), replace(UNET, placed=True))


def test_networks_that_ncnn_cannot_run_are_run_by_torch() -> None:
    network = ReleasedNet(widths=(4, 4)).eval()
    runner = engines.load(network, RELEASED, CPU, torch.float32)
    assert runner.engine == "torch"
    if ncnn_engine.is_installed():
        assert runner.remark.startswith("ncnn cannot run this network: ")
    with pytest.raises(DeviceError, match="ncnn"):
        engines.load(network, RELEASED, CPU, torch.float32, "ncnn")


@needs_ncnn
def test_networks_without_small_convolutions_are_left_to_torch() -> None:
    """ncnn is slower where Winograd's method does not apply."""
    wide = Function(lambda x, m: x - m(x), nn.Conv2d(3, 3, 5, padding=2)).eval()
    runner = engines.load(wide, UNET, CPU, torch.float32)
    assert (runner.engine, runner.remark) == ("torch", "ncnn is faster only with 3x3 convolutions")
    assert engines.load(wide, UNET, CPU, torch.float32, "ncnn").engine == "ncnn"


@needs_ncnn
def test_on_a_processor_on_which_torch_is_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "torch_is_as_fast", lambda: True)
    runner = engines.load(small(), UNET, CPU, torch.float32)
    assert (runner.engine, runner.remark) == ("torch", "torch is as fast as ncnn on this processor")
    assert engines.load(small(), UNET, CPU, torch.float32, "ncnn").engine == "ncnn"


def test_without_ncnn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ncnn_engine, "is_installed", lambda: False)
    runner = engines.load(small(), UNET, CPU, torch.float32)
    assert (runner.engine, runner.remark) == ("torch", "ncnn is not installed")
    with pytest.raises(DeviceError, match="ncnn is not installed") as raised:
        engines.load(small(), UNET, CPU, torch.float32, "ncnn")
    assert "'.[fast]'" in (raised.value.hint or "")


@needs_ncnn
def test_a_temporary_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ncnn_engine.tempfile, "TemporaryDirectory", refuse)
    runner = engines.load(small(), UNET, CPU, torch.float32)
    assert (runner.engine, "No space left" in runner.remark) == ("torch", True)


def test_other_choices() -> None:
    assert engines.load(small(), UNET, CPU, torch.float32, "torch").engine == "torch"
    rough = engines.load(small(), UNET, CPU, torch.bfloat16)
    assert (rough.engine, rough.precision, rough.remark) == ("torch", "bf16", "")
    with pytest.raises(DeviceError, match="in the precision `fp32`"):
        engines.load(small(), UNET, CPU, torch.bfloat16, "ncnn")
    with pytest.raises(DeviceError, match="unknown engine `nccn`") as raised:
        engines.load(small(), UNET, CPU, torch.float32, "nccn")
    assert "ncnn" in (raised.value.hint or "")
