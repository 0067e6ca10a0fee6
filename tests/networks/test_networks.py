"""The networks follow the paper and the released layout, and are recognised by their files."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from idsr_cli import networks
from idsr_cli.errors import WeightsError
from idsr_cli.networks.blocks import AttentionBlock, ChannelAttention, EdgeConv, GradientAttention
from idsr_cli.networks.released import BODY_WIDTHS, ReleasedNet
from idsr_cli.networks.unet import RainUNet

SMALL = {"widths": (8, 16), "blocks": (1, 2, 1)}


def image(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed))


def randomised(network: nn.Module, seed: int = 0, gain: float = 1.0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            fan = parameter[0].numel() if parameter.ndim > 1 else 100
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * gain / fan**0.5)
    return network.eval()


@pytest.mark.parametrize("attention", ["spatial", "gradient", "both", "none"])
@pytest.mark.parametrize("unshuffle", [1, 2])
def test_untrained_network_returns_its_input(attention: str, unshuffle: int) -> None:
    x = image(2, 3, 64, 96)
    assert torch.equal(RainUNet(**SMALL, attention=attention, unshuffle=unshuffle)(x), x)


@pytest.mark.parametrize("role", list(networks.ROLES))
def test_blocks_of_each_role(role: str) -> None:
    network = networks.build("unet", {**networks.BASE, "attention": networks.ROLES[role]})
    blocks = [m for m in network.modules() if isinstance(m, AttentionBlock)]
    assert len(blocks) == sum(networks.BASE["blocks"])
    assert all((b.spatial is not None) == (role == "dprnet") for b in blocks)
    assert all((b.gradient is not None) == (role == "ggirnet") for b in blocks)
    assert all(isinstance(b.channel, ChannelAttention) for b in blocks)


def test_gradient_attention_is_sobel_of_the_reduced_features() -> None:
    """Reducing C channels to one and then taking Sobel equals eq. 5-6's Sobel of every channel, then reducing."""
    module = randomised(GradientAttention(6))
    with torch.no_grad():
        module.reduce.bias.zero_()
    x = image(1, 6, 12, 15)
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    full = [F.conv2d(padded, module.sobel[i].expand(6, 1, 3, 3), groups=6) for i in (0, 1)]
    planes = torch.cat([F.conv2d(g, module.reduce.weight[i : i + 1]) for i, g in enumerate(full)], 1)
    maps = F.relu(module.second(F.relu(module.first(planes))))
    assert torch.allclose(module(x), x * torch.sigmoid(module.merge(maps)), atol=1e-5)


def test_channel_attention_sees_a_window_not_the_image() -> None:
    module = randomised(ChannelAttention(16, stride=1), gain=3.0)
    x = image(1, 16, 32, 320)
    changed = x.clone()
    changed[..., 224:] = 0.0
    # Cells are 32 px wide, a window reaches one cell further, interpolation half a cell: beyond 80 px nothing changes.
    same = (module(x) == module(changed)).all(1).all(1)[0]
    assert same[: 224 - 80].all()
    assert not same[224 - 16 : 224].all()


def test_edge_branches_fold_into_one_plain_convolution() -> None:
    conv = randomised(EdgeConv(5, 7))
    x = image(1, 5, 9, 9)
    before = conv(x)
    folded = conv.fold()
    assert type(folded) is nn.Conv2d
    assert torch.allclose(folded(x), before, atol=1e-5)
    network = randomised(RainUNet(**SMALL, edge_branches=True), gain=0.5)
    y = network(image(1, 3, 32, 32))
    folded_network = network.fold()
    assert not any(isinstance(m, EdgeConv) for m in folded_network.modules())
    assert torch.allclose(folded_network(image(1, 3, 32, 32)), y, atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        {**SMALL, "attention": "spatial", "unshuffle": 1, "edge_branches": False},
        {**SMALL, "attention": "both", "unshuffle": 2, "edge_branches": True},
        {**SMALL, "attention": "none", "unshuffle": 2, "edge_branches": False},
        {
            "widths": (8, 12, 20),
            "blocks": (1, 2, 3, 1, 2),
            "attention": "gradient",
            "unshuffle": 2,
            "edge_branches": False,
        },
    ],
)
def test_configuration_is_read_off_the_tensors(config: dict) -> None:
    state = RainUNet(**config).state_dict()
    assert networks.infer(state, "dprnet") == ("unet", config)


def test_wrong_configurations_are_refused() -> None:
    with pytest.raises(WeightsError, match="block counts"):
        networks.build("unet", {"widths": (8, 16), "blocks": (1, 1)})
    with pytest.raises(WeightsError, match="unknown attention"):
        networks.build("unet", {**SMALL, "attention": "gradent"})
    with pytest.raises(WeightsError, match="unknown network layout"):
        networks.build("restormer", {})
    with pytest.raises(WeightsError, match="no tensors"):
        networks.canonical({"epoch": 3})
    with pytest.raises(WeightsError, match="no network known"):
        networks.infer({"conv.weight": torch.zeros(1)}, "dprnet")


def released_state(widths: tuple[int, ...], seed: int) -> dict[str, torch.Tensor]:
    """Random tensors in the published files' layout, names and shapes written out here independently of the module."""
    generator = torch.Generator().manual_seed(seed)

    def tensor(*shape: int) -> torch.Tensor:
        fan = 1
        for n in shape[1:]:
            fan *= n
        return torch.randn(shape, generator=generator) * (0.5 / fan**0.5)

    state: dict[str, torch.Tensor] = {}

    def conv(name: str, inputs: int, outputs: int, *kernel: int) -> None:
        state[f"module.{name}.weight"] = tensor(outputs, inputs, *kernel)
        state[f"module.{name}.bias"] = tensor(outputs)

    conv("sub_mean", 3, 3, 1, 1)
    conv("add_mean", 3, 3, 1, 1)
    conv("head.0", 3, widths[0], 5, 5)
    previous = widths[0]
    for i, width in enumerate(widths):
        conv(f"body.{i}.block.0", previous, width, 5, 5)
        conv(f"body.{i}.block.2", width, width, 5, 5)
        conv(f"body.{i}.shortcut", previous, width, 1, 1)
        conv(f"body.{i}.channelattention.ca.0", width, width, 5)
        conv(f"body.{i}.channelattention.ca.2", width, width, 5)
        conv(f"body.{i}.spatialattention.conv.0", width, 1, 1, 1)
        conv(f"body.{i}.spatialattention.conv.2", 1, 1, 5, 5)
        conv(f"body.{i}.spatialattention.conv.4", 1, 1, 5, 5)
        conv(f"body.{i}.gridientattention.conv3", width, 1, 5, 5)
        conv(f"body.{i}.gridientattention.conv2.0", 1, 1, 5, 5)
        conv(f"body.{i}.gridientattention.conv2.2", 1, 1, 5, 5)
        conv(f"body.{i}.gridientattention.conv1", 2, 1, 5, 5)
        previous = width
    conv(f"body.{len(widths)}", previous, widths[0], 5, 5)
    conv("tail.0", widths[0], 3, 5, 5)
    return state


def released_reference(
    state: dict[str, torch.Tensor], x: torch.Tensor, widths: tuple[int, ...], role: str
) -> torch.Tensor:
    """The released layout's arithmetic, written straight from its description, without any module."""

    def conv(name: str, y: torch.Tensor, padding: int = 2, groups: int = 1) -> torch.Tensor:
        return F.conv2d(y, state[f"module.{name}.weight"], state[f"module.{name}.bias"], padding=padding, groups=groups)

    def conv1d(name: str, y: torch.Tensor) -> torch.Tensor:
        return F.conv1d(y, state[f"module.{name}.weight"], state[f"module.{name}.bias"], padding=2)

    sobel = torch.tensor([[[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], [[1.0, 2, 1], [0, 0, 0], [-1, -2, -1]]])
    shallow = conv("head.0", 2 * x - 1)
    y = shallow
    for i, width in enumerate(widths):
        z = F.relu(conv(f"body.{i}.block.2", F.relu(conv(f"body.{i}.block.0", y))))
        pooled = z.mean((2, 3)).unsqueeze(-1)
        weight = conv1d(f"body.{i}.channelattention.ca.2", F.relu(conv1d(f"body.{i}.channelattention.ca.0", pooled)))
        z = z * torch.sigmoid(weight).unsqueeze(-1)
        if role == "dprnet":
            name = f"body.{i}.spatialattention.conv"
            m = conv(f"{name}.4", F.relu(conv(f"{name}.2", F.relu(conv(f"{name}.0", z, 0)))))
        else:
            name, maps = f"body.{i}.gridientattention", []
            for kernel in sobel:
                g = F.conv2d(F.pad(z, (1, 1, 1, 1), mode="replicate"), kernel.repeat(width, 1, 1, 1), groups=width)
                maps.append(F.relu(conv(f"{name}.conv2.2", F.relu(conv(f"{name}.conv2.0", conv(f"{name}.conv3", g))))))
            m = conv(f"{name}.conv1", torch.cat(maps, 1))
        y = z * torch.sigmoid(m) + conv(f"body.{i}.shortcut", y, 0)
    return conv("tail.0", conv(f"body.{len(widths)}", y) + shallow)


@pytest.mark.parametrize("role", ["dprnet", "ggirnet"])
def test_released_layout_gives_the_numbers_it_implies(role: str) -> None:
    widths = (6, 6, 10, 10, 6)
    state = released_state(widths, seed=1)
    layout, config = networks.infer(networks.canonical({"state_dict": state}), role)
    assert (layout, config["widths"]) == ("released", widths)
    network = networks.build(layout, config).eval()
    network.load_state_dict(networks.canonical(state))
    x = image(1, 3, 21, 18)
    assert torch.allclose(network(x), released_reference(state, x, widths, role), atol=1e-5)


def test_full_size_released_file_fits_key_for_key() -> None:
    state = networks.canonical(released_state(BODY_WIDTHS, seed=2))
    layout, config = networks.infer(state, "ggirnet")
    assert config == {"attention": "gradient", "widths": BODY_WIDTHS}
    with torch.device("meta"):
        expected = ReleasedNet(**config).state_dict()
    assert {k: tuple(v.shape) for k, v in state.items()} == {k: tuple(v.shape) for k, v in expected.items()}
    assert layout == "released"
    assert 26.5e6 < sum(v.numel() for v in state.values()) < 27.0e6
