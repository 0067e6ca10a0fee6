"""Blocks compute the same with little memory, in bands and in the memory of their input, as they do in training."""

import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from idsr_cli.networks import BASE, LAYOUTS, RainUNet, blocks

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=[4e3, 28e6], ids=["bands", "whole"])
def band(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[float]:
    monkeypatch.setattr(blocks, "_BAND", request.param)
    return request.param


def network(attention: str, **settings: Any) -> RainUNet:
    """With weights everywhere; new ones return their input."""
    torch.manual_seed(0)
    made = RainUNet(**{"widths": (8, 12), "blocks": (2, 1, 1), "unshuffle": 2, "attention": attention, **settings})
    nn.init.normal_(made.tail.weight, std=0.05)
    return made.eval()


@pytest.mark.parametrize("attention", ["spatial", "gradient", "both", "none"])
@pytest.mark.parametrize("size", [(1, 32, 64), (1, 160, 96), (2, 96, 32)])
def test_little_memory_changes_nothing(band: float, attention: str, size: tuple[int, int, int]) -> None:
    count, height, width = size
    made, x = network(attention), torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))
    kept, expected = x.clone(), made(x)
    assert expected.requires_grad
    with torch.no_grad():
        result = made(x)
        channels_last = made(x.contiguous(memory_format=torch.channels_last))
    assert (expected - x).abs().max() > 0.02  # it does something
    torch.testing.assert_close(result, expected.detach(), atol=1e-6, rtol=0)
    torch.testing.assert_close(channels_last, expected.detach(), atol=1e-6, rtol=0)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("counts", [(0, 1, 0), (1, 0, 1), (0, 0, 0)])
def test_levels_without_blocks(band: float, counts: tuple[int, ...]) -> None:
    """There a map is the first one and the one to be added to at once."""
    made, x = network("spatial", blocks=counts), torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    expected = made(x).detach()
    with torch.no_grad():
        torch.testing.assert_close(made(x), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("attention", ["spatial", "gradient"])
def test_too_little_context_would_show(band: float, attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, x = network(attention), torch.rand(1, 3, 160, 96, generator=torch.Generator().manual_seed(1))
    expected, real = made(x).detach(), blocks.in_bands
    monkeypatch.setattr(blocks, "in_bands", lambda function, y, reach: real(function, y, 0))
    with torch.no_grad():
        same = torch.allclose(made(x), expected, atol=1e-6, rtol=0)
    assert same == (band > 1e6)  # where there is one band, nothing is cut


class _Live(TorchDispatchMode):
    """Bytes of the tensors that are alive, and the most that there were."""

    def __init__(self) -> None:
        super().__init__()
        self.users: dict[int, int] = {}
        self.bytes = self.most = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                memory = tensor.untyped_storage()
                place, size = memory.data_ptr(), memory.nbytes()
                if place not in self.users:
                    self.users[place] = 0
                    self.bytes += size
                    self.most = max(self.most, self.bytes)
                self.users[place] += 1
                weakref.finalize(tensor, self._gone, place, size)
        return result

    def _gone(self, place: int, size: int) -> None:
        self.users[place] -= 1
        if not self.users[place]:
            del self.users[place]
            self.bytes -= size


def test_memory_of_the_base_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two maps of the finest level and what is small, not the six of a plain forward function."""
    pixels = 512 * 128
    monkeypatch.setattr(blocks, "_BAND", 3.0 * pixels)  # 1/16 of a map of the finest level
    made = RainUNet(**{**BASE, "blocks": (2, 1, 1, 1, 2)}).eval().to(memory_format=torch.channels_last)
    x = torch.rand(1, 3, 512, 128).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), _Live() as live:
        made(x)
    assert 96 < live.most / pixels < 120 < LAYOUTS["unet"].bytes_per_pixel
    with _Live() as plain:
        made(x)
    assert plain.most > 3 * live.most  # the gradients' too
