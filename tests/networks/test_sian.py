"""SIAN: the numbers of its authors' code, tiles that agree with the whole image, and their checkpoints as they are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from typer.testing import CliRunner

import idsr_cli
from idsr_cli import networks, scale_space
from idsr_cli.cli.app import app
from idsr_cli.errors import WeightsError
from idsr_cli.inference import TiledNetwork
from idsr_cli.networks import sian
from idsr_cli.networks.sian import LAYOUT, Sian
from idsr_cli.runtime.torch_engine import TorchRunner
from idsr_cli.weights import find_weights

pytestmark = pytest.mark.usefixtures("one_thread")

# Of the authors' code for the tensors and image of `oracle`: each stage's mean of R, G, B, and its green values at
# (row, column) of `PLACES`. Both sizes are odd somewhere in the pyramid: 23x30 gives 11x15 and 5x7.
MEANS = (
    (0.41810733, 0.36466438, 0.683812), (0.3690842, 0.33290756, 0.7517271), (0.3241989, 0.31638253, 0.78550583),
    (0.29352757, 0.30641416, 0.8030955), (0.2747037, 0.3004428, 0.8131789), (0.26355645, 0.29732838, 0.8189167),
)  # fmt: skip
PLACES = ((0, 0), (0, 29), (11, 15), (22, 0), (22, 29))
GREEN = (
    (0.45011, -0.308894, 0.005515, 0.288708, 0.161621), (0.456995, -0.348975, -0.093016, 0.303991, 0.179393),
    (0.4583, -0.380604, -0.156081, 0.314074, 0.18783), (0.458839, -0.401458, -0.186591, 0.319367, 0.189673),
    (0.458693, -0.416341, -0.196658, 0.322792, 0.189863), (0.459023, -0.426311, -0.201622, 0.325008, 0.190068),
)  # fmt: skip


def authors_names() -> list[str]:
    """The tensors of the authors' checkpoints, in their order."""
    both = ("weight", "bias")
    names = [f"body.tran_conv.{kind}" for kind in both]
    names += [f"body.scale_conv.{i}.conv_{part}.0.{kind}" for i in range(3) for part in "fmz" for kind in both]
    names += [f"body.up_conv.{i}.conv_m.0.{kind}" for i in range(2) for kind in both]
    names += [f"body.conv_m.{i}.{kind}" for i in (0, 2) for kind in both]  # no output depends on them
    for i in range(3):
        names += [f"body.lstm.{i}.conv_x{gate}.{kind}" for gate in "fioj" for kind in both]
        names += [f"body.lstm.{i}.conv_h{gate}.weight" for gate in "fioj"]
    names += [f"body_end.{block}.body.{i}.{kind}" for block in (0, 1) for i in (0, 2) for kind in both]
    return names + [f"body_end.2.{kind}" for kind in both]


@pytest.fixture(scope="module")
def oracle() -> tuple[dict[str, torch.Tensor], np.ndarray]:
    """Random tensors in the authors' order, and an image, (23, 30, 3), of the same generator."""
    draw = np.random.default_rng(0)
    shapes = {name: value.shape for name, value in Sian(unused=True).state_dict().items()}
    assert shapes.keys() == set(authors_names())
    tensors = {name: torch.tensor(draw.standard_normal(shapes[name]) * 0.06).float() for name in authors_names()}
    return tensors, draw.random((23, 30, 3)).astype(np.float32)


def checkpoint(path: Path, tensors: dict[str, torch.Tensor], without: str = "") -> Path:
    torch.save({name: value for name, value in tensors.items() if name != without}, path)
    return path


def idsr(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="idsr")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def lively(kernels: str = "cut") -> Sian:
    """A small network in which far pixels matter, as in trained ones."""
    torch.manual_seed(0)
    network = Sian(4, 3, kernels).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.25)
    return network


def test_every_stage_is_the_authors(oracle) -> None:
    tensors, image = oracle
    network = Sian(unused=True)
    network.load_state_dict(tensors)
    with torch.no_grad():
        stages = [y[0].permute(1, 2, 0).numpy() for y in network(torch.from_numpy(image).permute(2, 0, 1)[None])]
    assert len(stages) == 6
    for stage, means, green in zip(stages, MEANS, GREEN, strict=True):
        np.testing.assert_allclose(stage.mean((0, 1)), means, atol=2e-6)
        np.testing.assert_allclose([stage[place][1] for place in PLACES], green, atol=5e-6)


def test_the_authors_file_as_it_is(oracle, tmp_path: Path) -> None:
    tensors, image = oracle
    pair = find_weights(str(checkpoint(tmp_path / "rain100l.pth", tensors)))
    weights = pair.dprnet
    assert pair.ggirnet is weights
    assert (weights.arch, pair.splice, weights.layout()) == ("both", "DD", LAYOUT)
    config = {"width": 32, "stages": 6, "kernels": "cut", "unused": True}
    assert weights.configuration(weights.tensors()) == ("sian", config)
    network = weights.build()
    assert sum(p.numel() for p in network.parameters()) == 491_939
    last = TorchRunner(network, LAYOUT, torch.device("cpu")).run(image)
    np.testing.assert_allclose([last[place][1] for place in PLACES], GREEN[-1], atol=5e-6)


def test_its_dry_test(oracle, tmp_path: Path) -> None:
    """The authors' files have no threshold; a converted one can have it, in `derain` and in the API."""
    source = checkpoint(tmp_path / "rain100l.pth", {name: 0.3 * value for name, value in oracle[0].items()})
    pixels = np.asarray(255 * oracle[1], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    results = []
    for level in ("0", "1000"):
        target = tmp_path / level / "sian.safetensors"
        assert idsr("models", "convert", source, target, "--dry-threshold", level)[0] == 0
        assert find_weights(str(target)).dprnet.metadata["idsr.config"].endswith('"unused": false}')
        code, _, told = idsr("derain", tmp_path / "a.png", "-o", tmp_path / level, "--weights", target)
        assert (code, "no rain seen" in told) == (0, level == "1000")
        results.append(np.asarray(Image.open(tmp_path / level / "a.png")))
    plain = idsr_cli.derain(pixels, weights=source)
    np.testing.assert_array_equal(results[0], plain)
    np.testing.assert_array_equal(results[1], pixels)
    assert (plain != pixels).any()


@pytest.mark.parametrize("damage", ["truncated", "without a tensor"])
@pytest.mark.parametrize("command", ["derain", "sift", "convert"])
def test_a_damaged_file_is_one_line_and_nothing_is_written(oracle, tmp_path: Path, damage: str, command: str) -> None:
    path = checkpoint(tmp_path / "rain100l.pth", oracle[0], "body.lstm.0.conv_xf.bias")
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:30_000])
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    out = tmp_path / "out" / "x.safetensors"
    arguments = {
        "derain": ("derain", tmp_path / "a.png", "-o", out.parent, "--weights", path),
        "sift": ("sift", tmp_path / "a.png", "-o", out.parent, "--weights", path),
        "convert": ("models", "convert", path, out),
    }[command]
    code, shown, told = idsr(*arguments)
    assert (code, shown, len(told.splitlines())) == (2, "", 1)
    assert told.startswith(f"{path}: ")
    assert ("missing" if damage != "truncated" else "the file is damaged") in told
    assert not out.parent.exists()


@pytest.mark.parametrize("name", ["body.tran_conv.weight", "body.lstm.1.conv_hj.weight", "body.conv_m.2.bias"])
def test_a_missing_tensor_is_named(oracle, tmp_path: Path, name: str) -> None:
    with pytest.raises(WeightsError, match=f"`{name}`") as caught:
        find_weights(str(checkpoint(tmp_path / "net.pth", oracle[0], name))).dprnet.build()
    assert caught.value.path == str(tmp_path / "net.pth")


@pytest.mark.parametrize("kernels", sian.KERNELS)
def test_tiles_agree_with_the_whole_image(kernels: str) -> None:
    runner = TorchRunner(lively(kernels), LAYOUT, torch.device("cpu"))
    runner.halo = {"cut": 96, "full": 128}[kernels]  # three stages of this network see no farther
    image = np.random.default_rng(0).random((27, 460, 3), np.float32)
    whole = TiledNetwork(runner, 0)(image)
    np.testing.assert_allclose(TiledNetwork(runner, 160)(image), whole, atol=1e-5)
    # Each tile taken for a whole image gives something else; else the test above would show nothing.
    runner._placed = False
    assert np.abs(TiledNetwork(runner, 160)(image) - whole).max() > 1e-3


def test_enlarging_is_align_corners_with_zeros_at_the_end() -> None:
    x = torch.rand(2, 3, 7, 5, generator=torch.Generator().manual_seed(0))
    large = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
    enlarged = sian._enlarged(sian._enlarged(x, 2, 15, 0, 7), 3, 11, 0, 5)
    torch.testing.assert_close(enlarged, F.pad(large, (0, 1, 0, 1)))
    # A part of the map, with its place, is enlarged to the same samples.
    part, whole = sian._enlarged(x[:, :, 2:6], 2, 7, 2, 7), sian._enlarged(x, 2, 15, 0, 7)
    torch.testing.assert_close(part[:, :, 2:-2], whole[:, :, 6:9])


def test_full_kernels_are_gaussian_and_cut_ones_are_their_middle() -> None:
    x = torch.rand(1, 2, 60, 60, generator=torch.Generator().manual_seed(0))
    inside = (..., slice(20, 40), slice(20, 40))
    for sigma in (sian.FIRST_BLUR, *sian.BLURS):
        torch.testing.assert_close(sian._blurred(x, sigma, "full")[inside], scale_space.blur(x, sigma)[inside])
        impulse = F.pad(torch.ones(1, 1, 1, 1), (3, 3, 3, 3))
        full, cut = (sian._blurred(impulse, sigma, kernels)[0, 0] for kernels in ("full", "cut"))
        middle = full[2:5, 2:5] / full[2:5, 2:5].sum()
        torch.testing.assert_close(cut, F.pad(middle, (2, 2, 2, 2)))
    # Added blurs of SIFT's scale space with three intervals per octave.
    blurs = [sian.FIRST_BLUR, *sian.BLURS]
    assert blurs == pytest.approx([1.5199, 1.2263, 1.5450, 1.9466, 2.4525, 3.0900], abs=1e-4)
    assert (lively("full")(x[:, [0, 0, 1]])[-1] - lively("cut")(x[:, [0, 0, 1]])[-1]).abs().max() > 1e-3


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (2, 9), (4, 4)])
def test_any_size(size: tuple[int, int]) -> None:
    x = torch.rand(1, 3, *size)
    with torch.no_grad():
        stages = lively()(x)
    assert [y.shape for y in stages] == [x.shape] * 3
    assert all(torch.isfinite(y).all() for y in stages)


def test_unused_convolutions_take_no_part_in_training() -> None:
    """Several processes would wait for their gradients forever."""
    network = Sian(4, unused=True)
    sum(y.sum() for y in network(torch.rand(1, 3, 8, 8))).backward()
    assert {name for name, p in network.named_parameters() if p.grad is None} == {
        f"body.conv_m.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")
    }
    assert not any(p.requires_grad for p in network.body.conv_m.parameters())


def test_half_precision_stays_near_float32() -> None:
    x = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    network = Sian(8).eval()
    with torch.no_grad():
        exact = network(x)[-1]
        with torch.autocast("cpu", torch.bfloat16):
            half = network(x)[-1]
    assert (half - exact).abs().max() < 0.02 * exact.abs().max()


@pytest.mark.parametrize("config", [{"kernels": "round"}, {"stages": 0}])
def test_configurations_that_there_are_not(config: dict[str, object]) -> None:
    with pytest.raises(WeightsError, match="does not fit layout `sian`"):
        networks.build("sian", config)


def test_initial_weights_are_the_papers() -> None:
    torch.manual_seed(0)
    parameters = dict(Sian().named_parameters())
    weights = torch.cat([p.flatten() for name, p in parameters.items() if not name.endswith("bias")])
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)
    assert all((p == 0).all() for name, p in parameters.items() if name.endswith("bias"))
