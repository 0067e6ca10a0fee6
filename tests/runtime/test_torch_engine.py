"""The runner for torch: its interface to the tiling."""

import numpy as np
import pytest
import torch

from idsr_cli.networks import BASE, RainUNet, ReleasedNet, layout_of
from idsr_cli.runtime.precision import PRECISIONS
from idsr_cli.runtime.torch_engine import DTYPES, TorchRunner, load

CPU = torch.device("cpu")
UNET, RELEASED = layout_of("unet"), layout_of("released")
SMALL = {**BASE, "widths": (8, 8), "blocks": (1, 1, 1)}


def test_patches_go_through_and_come_back() -> None:
    network = RainUNet(**SMALL, attention="spatial").eval()
    torch.nn.init.normal_(network.tail.weight, std=0.1)
    patch = np.random.default_rng(0).random((32, 64, 3)).astype(np.float32)
    runner = load(network, UNET, CPU, torch.float32)
    assert all(side % runner.multiple == 0 for side in patch.shape[:2])
    result = runner.run(patch)
    with torch.no_grad():
        by_hand = network(torch.from_numpy(patch).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    assert (result.shape, result.dtype, result.flags.c_contiguous) == (patch.shape, np.float32, True)
    np.testing.assert_allclose(result, by_hand, atol=1e-6)
    rough = TorchRunner(network, UNET, CPU, torch.bfloat16).run(patch)
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - result).max() < 0.05


def test_what_it_needs() -> None:
    small, large = (TorchRunner(n, layout, CPU) for n, layout in ((RainUNet(**SMALL), UNET), (ReleasedNet(), RELEASED)))
    assert large.bytes_per_pixel > small.bytes_per_pixel > 0
    assert small.halo > 0
    assert small.memory(1) > 1e9
    small.release()  # does nothing on a CPU


@pytest.mark.parametrize("name", PRECISIONS)
def test_precision_names(name: str) -> None:
    assert TorchRunner(RainUNet(**SMALL), UNET, CPU, DTYPES[name]).precision == name
