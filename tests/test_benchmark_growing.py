"""The script that adds blocks or gradient attention to trained weights: the result starts as what it was made from."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from idsr_cli.networks import build
from idsr_cli.training.setup import initial
from idsr_cli.weights import find_weights, save_weights

CONFIG = {"attention": "spatial", "widths": [8, 16], "blocks": [1, 2, 1], "unshuffle": 2, "edge_branches": False}


def trained(folder: Path, **changes: object) -> torch.nn.Module:
    """Both networks of a pair, saved; returns DPRNet."""
    torch.manual_seed(3)
    for role, attention in (("ggirnet", "gradient"), ("dprnet", "spatial")):
        config = {**CONFIG, "attention": attention, **changes}
        network = build("unet", config)
        for value in network.parameters():
            torch.nn.init.normal_(value, std=0.1)
        metadata = {"idsr.arch": role, "idsr.layout": "unet", "idsr.config": json.dumps(config), "idsr.rain_floor": "3"}
        save_weights(folder / f"{role}.safetensors", network, metadata)
    return network.eval()


@pytest.fixture
def grow(script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    module = script("grow_weights")

    def grow(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["grow_weights.py", *map(str, arguments)])
        module.main()

    return grow


@pytest.mark.parametrize("edges", [False, True])
def test_a_ggirnet_made_from_dprnet_starts_as_dprnet(edges: bool, tmp_path: Path, grow: Callable[..., None]) -> None:
    trained(tmp_path / "pair", edge_branches=edges)
    dprnet = find_weights(str(tmp_path / "pair")).dprnet.build()
    grow(tmp_path / "pair", tmp_path / "grown", "--ggirnet-from-dprnet")
    found = find_weights(str(tmp_path / "grown")).ggirnet
    assert (found.arch, found.rain_floor) == ("ggirnet", 3.0)
    ggirnet = found.build()
    image = torch.rand(2, 3, 64, 96)
    assert torch.equal(ggirnet(image), dprnet(image))
    ggirnet.requires_grad_()(image).square().mean().backward()
    learns = {name for name, value in ggirnet.named_parameters() if value.grad is not None and value.grad.any()}
    assert {f"encoder.0.0.gradient.merge.{kind}" for kind in ("weight", "bias")} <= learns
    _, config, _, inherited = initial(str(tmp_path / "grown"), "ggirnet")
    assert (config["attention"], inherited) == ("both", {"idsr.rain_floor": "3"})


def test_other_networks_are_refused(tmp_path: Path, grow: Callable[..., None]) -> None:
    trained(tmp_path / "pair", attention="none")
    with pytest.raises(SystemExit, match=r"pair/dprnet.safetensors: "):
        grow(tmp_path / "pair", tmp_path / "grown", "--ggirnet-from-dprnet")


def test_added_blocks_hardly_change_the_result(tmp_path: Path, grow: Callable[..., None]) -> None:
    dprnet = trained(tmp_path / "pair")
    grow(tmp_path / "pair", tmp_path / "grown", "--blocks", 1, 3, 1)
    pair = find_weights(str(tmp_path / "grown"))
    assert pair.ggirnet.configuration(pair.ggirnet.tensors())[1]["blocks"] == [1, 3, 1]
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before, after = dprnet(image), pair.dprnet.build().eval()(image)
    assert 0 < (after - before).abs().mean() < 0.05 * (before - image).abs().mean()
