"""QSNet: what training has and published files have not, tiles that agree, and no nearest neighbours."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner

from idsr_cli import networks
from idsr_cli.cli.app import app
from idsr_cli.errors import WeightsError
from idsr_cli.inference import TiledNetwork
from idsr_cli.networks.qsnet import LAYOUT, QsNet
from idsr_cli.runtime.torch_engine import TorchRunner
from idsr_cli.weights import find_weights, save_weights

pytestmark = pytest.mark.usefixtures("one_thread")


def lively(reduction: int = 4, units: int = 12) -> QsNet:
    """A small network in which every convolution matters, and whose normalisation has seen data."""
    torch.manual_seed(0)
    network = QsNet(reduction, 6, units)
    for parameter in network.parameters():
        if parameter.ndim == 4:
            nn.init.kaiming_normal_(parameter)
    with torch.no_grad():
        network(torch.rand(2, 3, 64, 64))
    return network.eval()


@pytest.mark.parametrize("preset", ["qsnet", "qsnet-half"])
def test_parameters(preset: str) -> None:
    network = networks.build(*networks.preset(preset, "dprnet"))
    whole = sum(p.numel() for p in network.parameters())
    heads = sum(p.numel() for p in network.heads.parameters())
    norms = sum(p.numel() for unit in network.units for p in unit.norms.parameters())
    assert (heads, norms) == (37_470, 4_752)
    assert whole - heads - norms == sum(p.numel() for p in LAYOUT.finish(network).parameters()) == 244_434


@pytest.mark.parametrize("reduction", [1, 2, 4])
def test_the_trunk_runs_at_the_reduction(reduction: int) -> None:
    network, sizes = lively(reduction, 1), []
    network.units.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[2:])))
    images = network(torch.rand(1, 3, 32, 48))
    assert sizes == [(32 // reduction, 48 // reduction)]
    assert [image.shape for image in images] == [(1, 3, 32, 48)] * 6


def test_an_untrained_network_returns_its_input() -> None:
    x = torch.rand(1, 3, 16, 24)
    assert all(torch.equal(image, x) for image in QsNet(width=3, units=1)(x))


def test_published_files_are_without_what_only_training_needs(tmp_path: Path) -> None:
    network = lively(2, 2)
    metadata = {"idsr.arch": "both", "idsr.layout": "qsnet",
                "idsr.config": json.dumps({"reduction": 2, "width": 6, "units": 2})}  # fmt: skip
    save_weights(tmp_path / "net.safetensors", network, metadata)
    names = load_file(tmp_path / "net.safetensors").keys()
    assert not any("heads" in name or "norms" in name for name in names)
    weights = find_weights(str(tmp_path / "net.safetensors")).dprnet
    assert weights.configuration({})[1] == {"reduction": 2, "width": 6, "units": 2, "heads": False, "normalised": False}
    built, x = weights.build(), torch.rand(1, 3, 40, 56)
    with torch.no_grad():
        found, expected = built(x), network(x)[-1]
    assert isinstance(found, torch.Tensor)
    assert (expected - x).abs().max() > 0.05
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("reduction", [2, 4])
def test_tiles_agree_with_the_whole_image(reduction: int) -> None:
    runner = TorchRunner(LAYOUT.finish(lively(reduction)), LAYOUT, torch.device("cpu"))
    image = np.random.default_rng(0).random((37, 420, 3), np.float32)
    whole = TiledNetwork(runner, 0)(image)
    scale = np.abs(whole - image).max()
    np.testing.assert_allclose(TiledNetwork(runner, 96)(image), whole, atol=1e-5 * max(1.0, scale))
    runner.halo = 8  # too little: else the test above would show nothing
    assert np.abs(TiledNetwork(runner, 96)(image) - whole).max() > 3e-5 * scale


def test_what_it_removes_has_no_block_edges() -> None:
    """Maps are enlarged linearly: differences across the edges of 4x4 cells are like those within. Random weights."""
    network = LAYOUT.finish(lively(4, 2))
    with torch.no_grad():
        for last in (network.decoder[2], network.decoder[3]):  # as smooth as they can be: they only pass maps on
            nn.init.constant_(last.weight, 0.0)
            last.weight[..., 1, 1] = 0.1
        x = torch.rand(1, 3, 64, 64)
        rain = (x - network(x)).mean(1)[0, :, 8:-8]
    steps = rain.diff(dim=1).square().mean(0)
    across, within = steps[3::4].mean().item(), np.mean([steps[k::4].mean().item() for k in (0, 1, 2)])
    assert 0.3 < across / within < 3.0


def test_commands_take_what_was_trained(tmp_path: Path) -> None:
    metadata = {"idsr.arch": "both", "idsr.layout": "qsnet", "idsr.config": json.dumps({"width": 6, "units": 12})}
    save_weights(tmp_path / "net.safetensors", lively(), metadata)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (45, 50, 3), np.uint8)).save(tmp_path / "a.png")
    arguments = ("derain", tmp_path / "a.png", "-o", tmp_path / "o", "--weights", tmp_path / "net.safetensors")
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert (result.exit_code, result.stderr.count("error")) == (0, 0)
    assert np.asarray(Image.open(tmp_path / "o" / "a.png")).shape == (45, 50, 3)


@pytest.mark.parametrize("config", [{"reduction": 3}, {"width": 4}, {"width": 0}])
def test_configurations_that_there_are_not(config: dict[str, int]) -> None:
    with pytest.raises(WeightsError, match="does not fit layout `qsnet`"):
        networks.build("qsnet", config)


@pytest.mark.parametrize(
    ("missing", "words"), [("stem.0.weight", "`stem.0.weight` is missing"), ("scales.3.bias", "1 missing")]
)
def test_a_missing_tensor_is_named(tmp_path: Path, missing: str, words: str) -> None:
    state = {name: value for name, value in LAYOUT.finish(lively(4, 1)).state_dict().items() if name != missing}
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=words) as caught:
        find_weights(str(tmp_path / "net.pth")).dprnet.build()
    assert caught.value.path == str(tmp_path / "net.pth")
