"""MDN: its size, tiles that agree with the whole image, and damaged files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from idsr_cli import networks
from idsr_cli.errors import WeightsError
from idsr_cli.inference import TiledNetwork
from idsr_cli.networks.mdn import LAYOUT, Mdn
from idsr_cli.runtime.torch_engine import TorchRunner
from idsr_cli.weights import find_weights

pytestmark = pytest.mark.usefixtures("one_thread")


def lively(units: int = 8) -> Mdn:
    torch.manual_seed(0)
    network = Mdn(4, units).eval()
    for name, parameter in network.named_parameters():
        if parameter.ndim == 4:
            nn.init.normal_(parameter, std=0.15 if "fusions" in name else 0.3)
    return network


def test_parameters() -> None:
    assert sum(p.numel() for p in Mdn().parameters()) == 509_475


def test_an_untrained_network_returns_its_input() -> None:
    x = torch.rand(1, 3, 8, 12)
    assert torch.equal(Mdn(4, 2)(x), x)


def test_a_unit_is_the_sum_over_scales() -> None:
    unit = Mdn(4, 1).units[0]
    x = torch.rand(1, 4, 16, 16)
    for cascade in unit.scales:  # each then returns its input
        for convolution in (cascade.first, cascade.second):
            nn.init.zeros_(convolution.weight)
            nn.init.zeros_(convolution.bias)
    half, quarter = (F.interpolate(F.max_pool2d(x, s), scale_factor=s, mode="bilinear") for s in (2, 4))
    torch.testing.assert_close(unit(x), 2 * x + half + quarter)


def test_tiles_agree_with_the_whole_image() -> None:
    runner = TorchRunner(lively(), LAYOUT, torch.device("cpu"))
    image = np.random.default_rng(0).random((22, 420, 3), np.float32)
    whole = TiledNetwork(runner, 0)(image)
    scale = np.abs(whole - image).max()
    assert scale > 0.05
    np.testing.assert_allclose(TiledNetwork(runner, 128)(image), whole, atol=1e-5 * max(1.0, scale))
    runner.halo = 32  # too little: else the test above would show nothing
    assert np.abs(TiledNetwork(runner, 128)(image) - whole).max() > 1e-4 * scale


@pytest.mark.parametrize(
    ("missing", "words"), [("entry.weight", "`entry.weight` is missing"), ("match.first.bias", "1 missing")]
)
def test_a_missing_tensor_is_named(tmp_path: Path, missing: str, words: str) -> None:
    torch.save({k: v for k, v in lively(1).state_dict().items() if k != missing}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=words) as caught:
        find_weights(str(tmp_path / "net.pth")).dprnet.build()
    assert caught.value.path == str(tmp_path / "net.pth")


def test_no_units() -> None:
    with pytest.raises(WeightsError, match="at least 1 unit"):
        networks.build("mdn", {"units": 0})
