"""Mean and covariance of features: by hand, at equality, in half precision, and the guard against shrinking."""

import numpy as np
import pytest
import torch

from idsr_cli import networks
from idsr_cli.networks.layouts import LAYOUTS
from idsr_cli.training.matching_loss import matching_loss
from tests.networks.test_layouts import SMALL


def features(seed: int, count: int = 2, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(4, 4, generator=generator) @ torch.randn(4, count * 30, generator=generator)
    return scale * mixed.view(4, count, 5, 6).transpose(0, 1) + shift


def test_by_hand() -> None:
    synthetic, real = features(0), features(1, 3, shift=0.4)
    a, b = (x.transpose(0, 1).flatten(1).double().numpy() for x in (synthetic, real))
    total = np.trace(np.cov(a))
    mean = np.linalg.norm(a.mean(1) - b.mean(1)) / np.sqrt(total)
    covariance = np.linalg.norm(np.cov(a) - np.cov(b)) / total / 4
    found, spread = matching_loss(synthetic, real)
    assert found.item() == pytest.approx(mean + covariance, rel=1e-4)
    assert spread.item() == pytest.approx(np.sqrt(np.trace(np.cov(b))), rel=1e-4)


def test_equal_features_cost_nothing_and_have_a_gradient() -> None:
    synthetic = features(0).requires_grad_()
    found, _ = matching_loss(synthetic, features(0))
    found.backward()
    assert found.item() < 1e-5
    assert torch.isfinite(synthetic.grad).all()
    flat = torch.zeros(1, 4, 3, 3, requires_grad=True)  # no variance at all
    found, spread = matching_loss(flat, flat)
    found.backward()
    assert torch.isfinite(found)
    assert spread.item() == 0.0
    assert torch.isfinite(flat.grad).all()


def test_shrinking_all_features_gains_nothing() -> None:
    usual, _ = matching_loss(features(0), features(1, shift=0.4))
    for scale in (0.01, 100.0):
        shrunk, spread = matching_loss(scale * features(0), scale * features(1, shift=0.4))
        assert shrunk.item() == pytest.approx(usual.item(), rel=1e-3)
        assert spread.item() == pytest.approx(scale * matching_loss(features(0), features(1))[1].item(), rel=1e-3)


def test_half_precision_counts_in_float32() -> None:
    found, _ = matching_loss(features(0).bfloat16(), features(1).bfloat16())
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(
        matching_loss(features(0).bfloat16().float(), features(1).bfloat16().float())[0].item(), rel=1e-6
    )


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_every_network_has_a_shallow_feature_that_its_result_depends_on(name: str) -> None:
    """A gradient through it reaches few parameters, the first ones; and its pixels see a part of the image only."""
    layout = LAYOUTS[name]
    torch.manual_seed(0)
    network = networks.build(name, SMALL[name])
    x = torch.rand(2, 3, 64, 64, requires_grad=True)
    shallow = layout.shallow(network, x)
    assert (shallow.ndim, shallow.shape[0]) == (4, 2)
    shallow[0].sum().backward()
    assert x.grad[0].abs().sum() > 0
    assert x.grad[1].abs().sum() == 0
    reached = sum(p.numel() for p in network.parameters() if p.grad is not None)
    assert 0 < reached < 0.6 * sum(p.numel() for p in network.parameters())
