"""A new network is one file and one line in LAYOUTS, shown with a made-up one. Shipped files load as before."""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner

from idsr_cli import networks
from idsr_cli.cli.app import app
from idsr_cli.errors import WeightsError
from idsr_cli.networks.layout import Layout
from idsr_cli.networks.layouts import LAYOUTS
from idsr_cli.weights import check_network, find_weights, save_weights

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).resolve().parent.parent.parent


# --- the file of a made-up network -----------------------------------------------------------------------------------


class Staged(nn.Module):
    """Removes rain in stages and returns the image after each, the final one last; `guide` is for training only."""

    multiple = 40

    def __init__(self, stages: int = 3, guide: bool = True) -> None:
        super().__init__()
        if stages < 1:
            raise ValueError("no stages")
        self.stages = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(stages))
        self.guide = nn.Conv2d(3, 1, 1) if guide else None

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        assert x.shape[-2] % self.multiple == x.shape[-1] % self.multiple == 0
        images = []
        for stage in self.stages:
            x = x - 0.1 * stage(x)
            images.append(x)
        return images[0] if len(images) == 1 else tuple(images)


def recognise(names: Collection[str]) -> bool:
    return "stages.0.weight" in names


def configure(tensors: Mapping[str, torch.Tensor], role: str) -> dict[str, object]:
    stages = sum(name.startswith("stages.") and name.endswith(".weight") for name in tensors)
    return {"stages": stages, "guide": "guide.weight" in tensors}


def finish(network: nn.Module) -> nn.Module:
    network.guide = None
    return network


STAGED = Layout(
    build=Staged,
    recognise=recognise,
    configure=configure,
    multiple=Staged.multiple,
    halo=3,
    bytes_per_pixel=200.0,
    wrappers=("generator",),
    prefixes=("module.", "derain."),
    presets={"staged": {"stages": 3}},
    finish=finish,
    finished={"guide": False},
    outputs=3,
)


@pytest.fixture
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LAYOUTS, "staged", STAGED)


def made(stages: int = 3) -> Staged:
    torch.manual_seed(5)
    return Staged(stages).eval()


def checkpoint(path: Path, stages: int = 3) -> Path:
    """A checkpoint as foreign training code writes it: wrapped, with prefixes and training-only tensors."""
    state = {f"module.derain.{name}": value for name, value in made(stages).state_dict().items()}
    torch.save({"generator": state, "discriminator": {"x": torch.zeros(1)}, "epoch": 4}, path)
    return path


def idsr(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="idsr")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


# --- the made-up network in the product ------------------------------------------------------------------------------


@pytest.mark.usefixtures("_registered")
@pytest.mark.parametrize("stages", [1, 3])
def test_a_foreign_checkpoint_is_found_built_and_run(tmp_path: Path, stages: int) -> None:
    pair = find_weights(str(checkpoint(tmp_path / "net_ggir.pth", stages)))
    weights = pair.dprnet
    assert pair.ggirnet is weights
    assert (weights.arch, pair.splice) == ("both", "DD")  # the file's name does not matter
    assert weights.layout() is STAGED
    assert weights.configuration(weights.tensors()) == ("staged", {"stages": stages, "guide": True})
    built = weights.build()
    assert built.guide is None
    assert not built.training
    x = torch.rand(1, 3, 40, 80)
    last = made(stages)(x)
    with torch.no_grad():
        assert torch.equal(STAGED.image_of(built(x)), last if stages == 1 else last[-1])
    check_network(weights)


@pytest.mark.usefixtures("_registered")
def test_models_verify_convert_and_show(tmp_path: Path) -> None:
    source, target = checkpoint(tmp_path / "net.pth"), tmp_path / "mine" / "dprnet.safetensors"
    assert idsr("models", "verify", source)[0] == 0
    code, shown, errors = idsr("models", "convert", source, target, "--half")
    assert (code, errors) == (0, "")
    assert shown.split()[1:3] == ["both", "staged"]
    with safe_open(target, framework="pt") as file:
        metadata, names = file.metadata(), set(file.keys())
    assert (metadata["idsr.arch"], metadata["idsr.layout"]) == ("both", "staged")
    assert json.loads(metadata["idsr.config"]) == {"stages": 3, "guide": False}
    assert not any(name.startswith("guide") for name in names)
    code, shown, _ = idsr("models", "verify", tmp_path / "mine")
    assert (code, shown) == (0, f"{target}: ok (sha256 as in the manifest, loads, finite)\n")
    code, shown, _ = idsr("models", "show", tmp_path / "mine")
    assert (code, "- arch: both" in shown, "- layout: staged" in shown) == (0, True, True)
    code, _, errors = idsr("models", "convert", source, tmp_path / "x.safetensors", "--role", "dprnet")
    assert (code, errors) == (2, f"{source}: a network of this kind plays both roles (leave `--role` out)\n")


@pytest.mark.usefixtures("_registered")
def test_two_files_may_stand_in_either_order(tmp_path: Path) -> None:
    first, second = checkpoint(tmp_path / "a.pth"), tmp_path / "b.safetensors"
    assert idsr("models", "convert", first, second)[0] == 0
    for one, two in ((first, second), (second, first)):
        pair = find_weights(f"{one},{two}")
        assert (pair.dprnet.path, pair.ggirnet.path, pair.splice) == (one, two, "DG")


@pytest.mark.usefixtures("_registered")
def test_safetensors_without_metadata_play_both_roles(tmp_path: Path) -> None:
    state = {f"module.{name}": value for name, value in made().state_dict().items()}
    save_file(state, tmp_path / "ggirnet.safetensors")
    pair = find_weights(str(tmp_path))
    assert (pair.ggirnet.arch, pair.ggirnet.layout()) == ("both", STAGED)
    assert pair.ggirnet.build().guide is None


@pytest.mark.usefixtures("_registered")
def test_derain_with_such_a_file(tmp_path: Path) -> None:
    weights = checkpoint(tmp_path / "net.pth", stages=1)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    code, _, errors = idsr("derain", tmp_path / "a.png", "-o", tmp_path / "out", "--weights", weights, "-q")
    assert (code, errors) == (0, "")
    derained = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    x = torch.from_numpy(np.pad(pixels, ((0, 30), (0, 10), (0, 0)), "reflect") / np.float32(255)).permute(2, 0, 1)[None]
    with torch.no_grad():
        y = 255.0 * made(1)(x)[0, :, :50, :70].clamp(0, 1).permute(1, 2, 0).numpy()
    assert np.abs(derained - y).max() <= 0.51


@pytest.mark.usefixtures("_registered")
def test_errors_name_the_new_network_too(tmp_path: Path) -> None:
    torch.save({"other": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=f"known layouts: {', '.join(LAYOUTS)}"):
        find_weights(str(tmp_path / "w.pth")).dprnet.build()
    with pytest.raises(WeightsError, match="does not fit layout `staged`: no stages"):
        networks.build("staged", {"stages": 0})


@pytest.mark.usefixtures("_registered")
def test_a_preset_and_the_roles_that_may_start_from_it() -> None:
    assert networks.preset("staged", "ggirnet") == ("staged", {"stages": 3})  # no attention
    assert networks.preset("base", "ggirnet") == ("unet", {"attention": "gradient", **networks.BASE})
    assert networks.preset("released", "dprnet") == ("released", {"attention": "spatial"})
    assert STAGED.fits_role({}, "ggirnet")
    for config, fits in (({}, False), ({"attention": "spatial"}, False), ({"attention": "gradient"}, True)):
        assert LAYOUTS["unet"].fits_role(config, "ggirnet") == fits
        assert LAYOUTS["released"].fits_role(config, "ggirnet")


# --- what holds for every network ------------------------------------------------------------------------------------

SMALL = {
    "unet": {"widths": (4, 8), "blocks": (1, 1, 1), "edge_branches": True},
    "released": {"widths": (4, 6, 4)},
    "sian": {"width": 4},
    "qsnet": {"width": 3, "units": 2},
    "mdn": {"width": 4, "units": 2},
}


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_every_record_is_true(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    network = networks.build(name, SMALL[name]).eval()
    state = network.state_dict()
    assert [other for other, record in LAYOUTS.items() if record.recognise(state)] == [name]
    config = layout.configure(state, "dprnet")
    assert {key: config[key] for key in SMALL[name]} == SMALL[name]
    for wrapper in layout.wrappers:
        wrapped = {wrapper: {f"{layout.prefixes[0]}{key}": value for key, value in state.items()}}
        assert networks.canonical(wrapped).keys() == state.keys()
    side = layout.multiple * -(-9 // layout.multiple)
    x = torch.rand(1, 3, side, 2 * side)
    with torch.no_grad():
        result = network(x)
        assert (1 if isinstance(result, torch.Tensor) else len(result)) == layout.outputs
        before = layout.image_of(result)
        assert before.shape == x.shape
        finished = layout.finish(network)
        torch.testing.assert_close(layout.image_of(finished(x)), before, atol=1e-5, rtol=0)
        again = layout.finish(finished)
        assert torch.equal(layout.image_of(again(x)), layout.image_of(finished(x)))
    finished_config = {**config, **layout.finished}
    assert networks.build(name, finished_config).state_dict().keys() == finished.state_dict().keys()
    fresh = networks.build(name, config)
    layout.image_of(fresh(x)).sum().backward()
    assert all(p.grad is not None for p in fresh.parameters()) == layout.uses_all_parameters


def test_saving_wants_a_known_layout(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="unknown network layout"):
        save_weights(tmp_path / "w.safetensors", made(), {"idsr.layout": "staged", "idsr.config": "{}"})


# --- files of today --------------------------------------------------------------------------------------------------

SHIPPED = {
    "dprnet": ("642588969e6a9e99136f4173dfece7e809801bef5e542e4a51d8ebf5148a2e60", "spatial",
               (0.3750230372, 0.2853884101, 0.8585012555), 0.5016745925),
    "ggirnet": ("c1c6c45d8789e324177e781bbe4ad74ca11b0b35762991ec2adfe4f4347972d9", "both",
               (0.3759940267, 0.2849282622, 0.8571102619), 0.5015947223),
}  # fmt: skip


@pytest.mark.parametrize("role", list(SHIPPED))
def test_shipped_files_load_as_before(role: str) -> None:
    sha256, attention, pixel, mean = SHIPPED[role]
    pair = find_weights(str(ROOT / "weights" / "base"))
    weights = getattr(pair, role)
    assert (pair.name, pair.splice, weights.name, weights.arch) == ("base", "DD", role, role)
    assert pair.sha256 == "8dabee77383cea7e3b7d54530c6daa065a25d6ce2732b1e9bbe20c7de750f839"
    assert weights.sha256 == hashlib.sha256(weights.path.read_bytes()).hexdigest() == sha256
    config = {
        "attention": attention, "widths": [48, 96, 128], "blocks": [2, 2, 9, 2, 2], "unshuffle": 2,
        "edge_branches": False,
    }  # fmt: skip
    assert weights.configuration({}) == ("unet", config)
    assert weights.layout() is LAYOUTS["unet"]
    plain = networks.RainUNet(**config).eval()  # type: ignore[arg-type]
    plain.load_state_dict({name: value.float() for name, value in load_file(weights.path).items()})
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = weights.build()(x)
        assert torch.equal(y, plain(x))
    assert y[0, :, 10, 20].tolist() == pytest.approx(pixel, abs=1e-5)
    assert y.mean().item() == pytest.approx(mean, abs=1e-5)


def test_saving_a_shipped_file_again_keeps_its_metadata(tmp_path: Path) -> None:
    weights = find_weights(str(ROOT / "weights" / "base")).ggirnet
    save_weights(tmp_path / "again.safetensors", weights.build(), weights.metadata, half=True)
    again = find_weights(str(tmp_path / "again.safetensors")).ggirnet
    assert again.metadata == weights.metadata
    before, after = load_file(weights.path), load_file(again.path)
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) and value.dtype == after[name].dtype for name, value in before.items())
