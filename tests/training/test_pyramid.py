"""Losses on the same pair share their Gaussian stacks."""

import pytest
import torch

from idsr_cli.training import losses, pyramid


def batch(seed: int) -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def test_each_stack_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    octaves = []
    right = pyramid.gaussian_stack

    def counted(grey: torch.Tensor, sigmas: tuple[float, ...], octave: int) -> torch.Tensor:
        octaves.append(octave)
        return right(grey, sigmas, octave)

    monkeypatch.setattr(pyramid, "gaussian_stack", counted)
    restored, clean = batch(1).requires_grad_(), batch(2)
    weights = {"gradient": 1.0, "alp": 0.5, "alp-derivative": 2.0, "descriptor": 1.0, "extremum": 1.0}
    total, terms = losses.total_loss(restored, clean, weights, (-1, 0))
    assert octaves == [-1, 0]
    alone = {name: losses.LOSSES[name](restored, clean, (-1, 0)).mean() for name in weights}
    for name, value in alone.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-6)
    total.backward()
    shared, restored.grad = restored.grad, None
    sum(weights[name] * value for name, value in alone.items()).backward()  # type: ignore[union-attr]
    torch.testing.assert_close(restored.grad, shared)


def test_half_precision_is_widened() -> None:
    pair = pyramid.PairPyramid(batch(1).bfloat16(), batch(2))
    assert pair.restored.dtype == pair.clean.dtype == pair.difference.dtype == torch.float32
    torch.testing.assert_close(pair.difference, pair.restored - pair.clean, atol=1e-3, rtol=1e-5)
