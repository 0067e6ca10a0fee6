"""QSNet's losses on the two layers: by hand, their gradients, and what they reward."""

import pytest
import torch

from idsr_cli.training import losses
from idsr_cli.training.pyramid import PairPyramid
from idsr_cli.training.quasi_sparsity import derivatives

NAMES = ("quasi-sparsity", "low-value")


def loss(name: str, restored: torch.Tensor, clean: torch.Tensor, rainy: torch.Tensor) -> torch.Tensor:
    return losses.LOSSES[name](restored, clean, (), PairPyramid(restored, clean, rainy))


def images(seed: int, size: int = 9) -> torch.Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_four_filters() -> None:
    x = torch.zeros(1, 1, 3, 4)
    x[0, 0, 1, 1] = 1.0
    found = derivatives(x)
    assert [tuple(part.shape[2:]) for part in found] == [(3, 3), (2, 4), (3, 2), (1, 4)]
    assert [part.abs().sum().item() for part in found] == [2, 2, 3, 2]  # [-1 1] and [1 -2 1], where they fit
    assert found[2][0, 0, 1].tolist() == [-2, 1]


def test_quasi_sparsity_by_hand_and_the_clean_image_does_not_count() -> None:
    """A step of 0.2 in the rainy image. It costs the same wholly in either layer, more if both have opposite ones."""
    rainy = torch.full((1, 3, 8, 8), 0.4)
    rainy[..., 4:] = 0.6
    flat = torch.full_like(rainy, 0.4)
    step = rainy - flat
    # Of 7 first differences a row one is 0.2; of 6 second differences two are.
    expected = 0.2 / 7 + 2 * 0.2 / 6
    for restored in (rainy, flat, flat + 0.5 * step):
        for clean in (flat, rainy):
            assert loss("quasi-sparsity", restored, clean, rainy).item() == pytest.approx(expected, rel=1e-5)
    assert loss("quasi-sparsity", flat - step, flat, rainy).item() == pytest.approx(3 * expected, rel=1e-5)


def test_low_value_counts_changes_of_dry_pixels_only() -> None:
    clean = torch.full((2, 3, 7, 7), 0.5)
    rainy = clean.clone()
    rainy[0, 1, 3, 3] += 0.1  # rain in one channel of one pixel makes 3x3 pixels wet
    rainy[1] += 3.9 / 255.0  # too little to be rain
    assert loss("low-value", rainy - 0.01, clean, rainy).tolist() == pytest.approx([0.01 * 40 / 49, 0.01], rel=1e-4)
    assert loss("low-value", rainy, clean, rainy).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name: str) -> None:
    clean = images(0)
    rainy = clean.clone()
    rainy[..., :4] += 0.3
    restored = images(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(name, x, clean, rainy).sum(), (restored,))


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_counts_in_float32(name: str) -> None:
    small, clean, rainy = images(2).bfloat16(), images(3).float(), images(4).float()
    found = loss(name, small, clean, rainy)
    assert found.dtype == torch.float32
    assert found.shape == (2,)
    torch.testing.assert_close(found, loss(name, small.float(), clean, rainy))


@pytest.mark.parametrize("name", NAMES)
def test_without_the_rainy_image_it_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="needs the rainy image"):
        losses.LOSSES[name](images(0), images(1))
    mixed = losses.total_loss(images(0), images(1), {"pixel": 1.0, name: 0.5}, rainy=images(2))
    assert mixed[0].item() == pytest.approx((mixed[1]["pixel"] + 0.5 * mixed[1][name]).item())
