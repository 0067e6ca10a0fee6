"""Networks of other projects through spandrel: small random ones of three architectures. Skips without spandrel."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from idsr_cli.errors import DeviceError, WeightsError
from idsr_cli.networks import spandrel_models
from idsr_cli.networks.spandrel_models import HALO
from idsr_cli.restoration import RestorationOptions, load_network
from idsr_cli.weights import check_network, find_weights

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def architectures() -> Any:
    """spandrel's networks."""
    if find_spec("spandrel") is None:
        pytest.skip("spandrel is not installed")
    spandrel_models.imported()
    from spandrel.architectures import Compact, DnCNN, NAFNet

    return NAFNet.NAFNet, DnCNN.DnCNN, Compact.Compact


def saved(path: Path, network: torch.nn.Module, wrapper: str = "params") -> Path:
    """A checkpoint as BasicSR writes it."""
    state = network.state_dict()
    torch.save({wrapper: state} if wrapper else state, path)
    return path


@pytest.fixture
def nafnet(architectures: Any, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = architectures[0](width=8, middle_blk_num=1, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1])
    for name, values in network.named_parameters():  # as initialised, its blocks are switched off
        if name.endswith(("beta", "gamma")):
            torch.nn.init.constant_(values, 0.1)
    return saved(tmp_path / "nafnet.pth", network)


@pytest.fixture
def dncnn(architectures: Any, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return saved(tmp_path / "dncnn.pth", architectures[1](in_nc=3, out_nc=3, nc=8, nb=5, mode="R"), "")


@pytest.mark.parametrize("which", ["nafnet", "dncnn"])
def test_it_derains_as_spandrel_alone(run: Any, request: Any, tmp_path: Path, which: str) -> None:
    """Sizes of no multiple; no dry test, so every photograph is changed."""
    path: Path = request.getfixturevalue(which)
    from spandrel import ModelLoader

    pixels = np.random.default_rng(0).integers(40, 200, (45, 61, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    result = run("derain", tmp_path / "a.png", "-o", tmp_path / "b.png", "--weights", path, "--device", "cpu")
    assert (result.exit_code, "no rain seen" in result.stderr) == (0, False)
    alone = ModelLoader("cpu").load_from_file(path)
    with torch.inference_mode():
        expected = alone(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)[0].permute(1, 2, 0).numpy() * 255
    found = np.asarray(Image.open(tmp_path / "b.png")).astype(float)
    assert np.abs(found - expected).max() <= 0.51
    assert np.abs(found - pixels).max() > 2
    check_network(find_weights(path).dprnet)


def test_a_dry_test_on_request(run: Any, dncnn: Path, tmp_path: Path) -> None:
    """A threshold above what the network takes out leaves the photograph as it is, bit for bit."""
    pixels = np.random.default_rng(0).integers(40, 200, (45, 61, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")

    def derained(threshold: float) -> tuple[bool, float, np.ndarray]:
        item, _ = run.events("derain", tmp_path / "a.png", "-o", tmp_path / "b.png", "--weights", dncnn,
                             "--device", "cpu", "--existing", "overwrite", "--dry-threshold", threshold)  # fmt: skip
        return item["derained"], item["rain"]["level"], np.asarray(Image.open(tmp_path / "b.png"))

    changed, level, result = derained(0)
    assert (changed, level > 2, np.array_equal(result, pixels)) == (True, True, False)
    changed, _, result = derained(3 * level)
    assert (changed, np.array_equal(result, pixels)) == (False, True)
    changed, _, _ = derained(level / 3)
    assert changed


def test_tiles_equal_the_whole_photograph(dncnn: Path) -> None:
    weights = find_weights(dncnn).dprnet
    whole, tiled = (load_network(weights, tile=tile) for tile in (0, 64))
    rgb = np.random.default_rng(1).random((150, 170, 3), np.float32)
    np.testing.assert_allclose(tiled(rgb).rgb, whole(rgb).rgb, atol=1e-5)
    record = weights.layout()
    assert (record.halo, record.multiple) == (HALO, 1)
    assert 6 * 4 * 8 <= record.bytes_per_pixel < 6 * 4 * 100


def test_one_file_plays_both_roles_and_is_never_left_as_dry(nafnet: Path) -> None:
    pair = find_weights(nafnet)
    assert (pair.splice, pair.dprnet.identity, pair.dprnet.dry_threshold) == ("DD", pair.ggirnet.identity, 0)
    rgb = np.full((40, 40, 3), 0.5, np.float32)
    [restored] = RestorationOptions(pair, "D", "cpu", "fp32").build().restore(rgb, "D")
    assert restored.rain_seen


def test_precisions_that_the_network_does_not_have(nafnet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = find_weights(nafnet).dprnet
    network = weights.build()
    assert isinstance(network, spandrel_models.Restorer)
    assert network.precisions == {torch.float32, torch.bfloat16}
    with pytest.raises(DeviceError, match=r"NAFNet does not work in fp16 \(use the precision `fp32`\)"):
        load_network(weights, precision="fp16")
    # `auto` takes the next one that works, where float16 would be the choice.
    from idsr_cli.runtime import precision

    rightly = precision.choose_precision
    monkeypatch.setattr(
        precision, "choose_precision", lambda name, device: "fp16" if name == "auto" else rightly(name, device)
    )
    assert RestorationOptions(find_weights(nafnet), "D", "cpu").build().precision == "fp32"


def test_networks_that_are_no_restorers(run: Any, architectures: Any, tmp_path: Path) -> None:
    upscaler = architectures[2](num_feat=8, num_conv=2, upscale=2)
    grey = architectures[1](in_nc=1, out_nc=1, nc=8, nb=5, mode="R")
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    for network, message in (
        (upscaler, "is no restorer of RGB images, but RealESRGAN Compact: SR, scale 2, 3 to 3 channels"),
        (grey, "is no restorer of RGB images, but DnCNN: Restoration, scale 1, 1 to 1 channels"),
    ):
        path = saved(tmp_path / "net.pth", network)
        result = run("derain", tmp_path / "a.png", "-o", tmp_path / "b.png", "--weights", path)
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
        assert result.stderr.startswith(f"{path}: {message}")
        assert not (tmp_path / "b.png").exists()


def test_they_are_not_converted(run: Any, dncnn: Path, tmp_path: Path) -> None:
    result = run("models", "convert", dncnn, tmp_path / "net.safetensors", "--dry-threshold", "3")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "is DnCNN, a network of another project, which is used as it is (give it to --weights, with" in result.stderr
    assert not (tmp_path / "net.safetensors").exists()


def test_files_that_spandrel_cannot_use(nafnet: Path, tmp_path: Path) -> None:
    state = torch.load(nafnet)["params"]
    torch.save({name: value for name, value in state.items() if "ending" not in name}, tmp_path / "part.pth")
    torch.save({"a.weight": torch.zeros(3)}, tmp_path / "other.pth")
    torch.save({**state, "intro.bias": torch.full((8,), torch.nan)}, tmp_path / "nan.pth")
    for name, message in (
        ("part", "(cannot be loaded by spandrel|has the tensors of no network known here)"),
        ("other", "has the tensors of no network known here"),
        ("nan", "tensor `intro.bias` holds values that are not finite"),
    ):
        with pytest.raises(WeightsError, match=message) as caught:
            find_weights(tmp_path / f"{name}.pth").dprnet.build()
        assert caught.value.path == str(tmp_path / f"{name}.pth")


def test_spandrel_without_a_torchvision_that_works(nafnet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """spandrel needs it for two networks that are no restorers; what stands in for it does not stay."""
    state = torch.load(nafnet)
    for name in [name for name in sys.modules if name.split(".")[0] in ("spandrel", "torchvision")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchvision", None)  # its import fails
    network = spandrel_models.load(state)
    assert network is not None
    assert network.name == "NAFNet"
    assert sys.modules["torchvision"] is None
    assert not [name for name in sys.modules if name.startswith("torchvision.")]


def test_spandrel_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spandrel.py").write_text("raise RuntimeError('built for another torch\\nmore')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "spandrel"]:
        monkeypatch.delitem(sys.modules, name)
    torch.save({"a.weight": torch.zeros(3)}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"spandrel cannot be imported: built for another torch \(reinstall it\)"):
        find_weights(tmp_path / "net.pth").dprnet.build()


def test_without_spandrel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual error, with the extra named."""
    monkeypatch.setitem(sys.modules, "spandrel", None)
    torch.save({"a.weight": torch.zeros(3)}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"no network known here .*the extra `spandrel`"):
        find_weights(tmp_path / "net.pth").dprnet.build()
