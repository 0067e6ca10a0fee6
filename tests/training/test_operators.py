"""The hand-written gradients equal autograd's of the plain formulas."""

import pytest
import torch

from idsr_cli.training.operators import laplacian, neighbour_difference
from tests.references import laplacian_stack

SIZES = [(2, 2), (2, 7), (9, 6)]


def stack(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height * 10 + width)
    return torch.randn(2, 3, height, width, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("size", SIZES)
def test_laplacian(size: tuple[int, int]) -> None:
    x = stack(*size)
    torch.testing.assert_close(laplacian(x), laplacian_stack(x, (1.0,) * 3))
    assert torch.autograd.gradcheck(laplacian, (x,))


@pytest.mark.parametrize("size", SIZES)
def test_neighbour_difference(size: tuple[int, int]) -> None:
    x = stack(*size)
    plain = x.diff(dim=-1).abs().mean((2, 3)).sum(1) + x.diff(dim=-2).abs().mean((2, 3)).sum(1)
    torch.testing.assert_close(neighbour_difference(x), plain)
    assert torch.autograd.gradcheck(neighbour_difference, (x,))
