"""The losses are the paper's: checked against the published ALP table and gradients, and for what they must ignore."""

import numpy as np
import pytest
import torch

from idsr_cli.evaluation.metrics import ssim
from idsr_cli.scale_space import gaussian_stack, luminance
from idsr_cli.training import losses
from tests.references import laplacian_stack

# Those on the removed rain have their own tests.
NAMES = sorted(set(losses.LOSSES) - {"quasi-sparsity", "low-value"})


def batch(seed: int, size: int = 24, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def alp_coefficients(grey: torch.Tensor) -> torch.Tensor:
    """eta_1, eta_2, eta_3 of the cubic scale-space response (eq. 12): (B, 1, H, W) -> (B, 3, H, W)."""
    response = laplacian_stack(gaussian_stack(grey, losses.ALP_SIGMAS), losses.ALP_SIGMAS)
    table = torch.tensor([losses.ALP_COEFFICIENTS[j] for j in (1, 2, 3)], dtype=grey.dtype)
    return torch.einsum("jk,bkhw->bjhw", table, response)


@pytest.mark.parametrize("name", NAMES)
def test_zero_exactly_at_equality(name: str) -> None:
    image = batch(1)
    assert losses.LOSSES[name](image, image, (-1, 0, 1)).mean().item() == 0.0
    assert losses.LOSSES[name](image, batch(2), (-1, 0, 1)).mean().item() > 1e-3


@pytest.mark.parametrize("name", [n for n in NAMES if n != "pixel"])
def test_gradcheck(name: str) -> None:
    clean, restored = batch(3, 8), batch(4, 8).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: losses.LOSSES[name](x, clean, (-1, 0)).mean(), (restored,), atol=1e-6)


def test_a_pure_brightness_shift_costs_only_pixels() -> None:
    clean = batch(5) * 0.8
    for name in set(NAMES) - {"ssim"}:  # which compares means too
        cost = losses.LOSSES[name](clean + 0.1, clean, (-1, 0, 1)).mean().item()
        assert cost == pytest.approx({"pixel": 0.1, "pixel-l2": 0.01}.get(name, 0.0), abs=1e-9)


def test_octaves_select_what_is_compared() -> None:
    clean, restored = batch(6, 64), batch(7, 64)
    each = [losses.alp_loss(restored, clean, (o,)).mean().item() for o in (-1, 0, 1)]
    assert losses.alp_loss(restored, clean, (-1, 0, 1)).mean().item() == pytest.approx(np.mean(each))
    assert len({round(value, 6) for value in each}) == 3


def test_gradient_loss_by_hand() -> None:
    """A step of height 1/255: each Gaussian image has horizontal differences that sum to the step, no vertical ones."""
    clean = torch.zeros(1, 3, 64, 128, dtype=torch.float64)
    restored = clean.clone()
    restored[..., 64:] = 1.0 / 255.0
    expected = 5 * (1.0 / 255.0) / 127
    assert losses.gradient_loss(restored, clean).mean().item() == pytest.approx(expected, rel=1e-6)


def test_alp_loss_is_eq_16_term_by_term() -> None:
    clean, restored = batch(8, 32), batch(9, 32)
    eta = [alp_coefficients(luminance(x) / 255.0) for x in (clean, restored)]
    assert losses.alp_loss(restored, clean).mean().item() == pytest.approx((eta[0] - eta[1]).abs().sum(1).mean().item())


def test_gauss_legendre_rule_is_exact_for_the_derivative_of_a_cubic() -> None:
    """Without the absolute value the three points integrate eq. 14 over [1.6, 4.53] exactly."""
    a, b = losses.ALP_SIGMAS[0], losses.ALP_SIGMAS[-1]
    for j in (1, 2, 3):
        rule = sum(w * j * s ** (j - 1) for w, s in zip(losses.ALP_NODE_WEIGHTS, losses.ALP_NODES, strict=True))
        assert rule == pytest.approx((b**j - a**j) / (b - a), rel=2e-4)
    clean, restored = batch(10, 32), batch(11, 32)
    eta = alp_coefficients(luminance(restored - clean) / 255.0)
    at_nodes = [eta[:, 0] + 2 * eta[:, 1] * s + 3 * eta[:, 2] * s * s for s in losses.ALP_NODES]
    expected = sum(w * d.abs().mean() for w, d in zip(losses.ALP_NODE_WEIGHTS, at_nodes, strict=True))
    assert losses.alp_derivative_loss(restored, clean).mean().item() == pytest.approx(float(expected), rel=1e-9)


def _response_spectrum(sigma: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """sigma^2-normalised LoG in the frequency domain, radial: (S, F)."""
    return -((sigma[:, None] * frequency) ** 2) * np.exp(-0.5 * (sigma[:, None] * frequency) ** 2)


def _fit(spectrum_exponent: float) -> np.ndarray:
    """(4, 4) cubic coefficients that best predict the response at any scale from the four, under a 1/f^p spectrum."""
    frequency = np.linspace(1e-3, np.pi, 4000)
    weight = frequency ** (1.0 - spectrum_exponent)  # area element f df times the power spectrum
    nodes = np.array(losses.ALP_SIGMAS)
    sigma = np.linspace(nodes[0], nodes[-1], 200)
    basis, target = _response_spectrum(nodes, frequency), _response_spectrum(sigma, frequency)
    powers = np.stack([sigma**3, sigma**2, sigma, np.ones_like(sigma)], 1)
    gram, cross = (basis * weight) @ basis.T, (target * weight) @ basis.T
    best = np.linalg.solve(gram, cross.T).T
    return np.linalg.lstsq(powers, best, rcond=None)[0]


def _errors(table: np.ndarray, spectrum_exponent: float) -> tuple[float, float]:
    """Relative approximation error over scale: maximum and root mean square."""
    frequency = np.linspace(1e-3, np.pi, 4000)
    weight = frequency ** (1.0 - spectrum_exponent)
    nodes = np.array(losses.ALP_SIGMAS)
    sigma = np.linspace(nodes[0], nodes[-1], 200)
    powers = np.stack([sigma**3, sigma**2, sigma, np.ones_like(sigma)], 1)
    target = _response_spectrum(sigma, frequency)
    difference = powers @ table @ _response_spectrum(nodes, frequency) - target
    relative = np.sqrt((difference**2 * weight).sum(1) / (target**2 * weight).sum(1))
    return float(relative.max()), float(np.sqrt(np.mean(relative**2)))


def test_published_table_is_the_natural_image_fit() -> None:
    published = np.array([losses.ALP_COEFFICIENTS[j] for j in (3, 2, 1, 0)])
    natural, white = _fit(2.0), _fit(0.0)
    assert np.abs(natural - published).max() < 0.7
    assert np.abs(white - published).max() > 2.5
    assert _errors(published, 2.0) == pytest.approx((0.044, 0.023), abs=0.0006)
    assert _errors(published, 0.0) == pytest.approx((0.091, 0.051), abs=0.0006)


def test_balance_evens_out_easy_and_hard_samples() -> None:
    clean = batch(12).repeat(1, 1, 1, 1)
    error = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scale = torch.tensor([0.2, 0.02], dtype=torch.float64).view(2, 1, 1, 1)

    def share_of_the_hard_one(balance: float) -> float:
        restored = (clean + scale * error).requires_grad_()
        losses.total_loss(restored, clean, {"gradient": 1.0}, balance=balance)[0].backward()
        norms = restored.grad.flatten(1).norm(dim=1)
        return (norms[0] / norms[1]).item()

    # Both samples get the same gradient from an L1 loss; at 0.5 the easy one's is larger by the root of 10.
    assert share_of_the_hard_one(0.0) == pytest.approx(1.0, rel=0.1)
    assert share_of_the_hard_one(0.5) == pytest.approx(10**-0.5, rel=0.15)
    same = losses.total_loss(clean, clean, {"gradient": 1.0, "pixel": 0.2}, balance=0.5)[0]
    assert same.item() == pytest.approx(0.0, abs=1e-12)


def test_errors_in_dry_pixels_count_more() -> None:
    clean = torch.full((1, 3, 32, 48), 0.5, dtype=torch.float64)
    rainy = clean.clone()
    rainy[..., 24:] += 0.1  # 25 grey levels on the right
    rainy[..., :24] += 1.5 / 255.0  # what JPEG does to a dry pixel
    restored = clean + 0.02
    counted = losses.dry_errors_times(3.0, restored, clean, rainy)
    torch.testing.assert_close(counted[..., :21], clean[..., :21] + 0.06)
    torch.testing.assert_close(counted[..., 24:], restored[..., 24:])
    assert losses.dry_errors_times(1.0, restored, clean, rainy) is restored
    faint = losses.dry_errors_times(3.0, restored, clean, clean + 3.5 / 255.0)  # half way from 2 to 5 levels
    torch.testing.assert_close(faint, clean + 0.04)


def test_unknown_loss_is_refused() -> None:
    with pytest.raises(KeyError):
        losses.total_loss(batch(1), batch(2), {"beauty": 1.0})


def test_pixel_l2_is_the_mean_square_of_each_sample() -> None:
    clean, restored = batch(13), batch(14)
    expected = ((restored - clean).numpy() ** 2).reshape(2, -1).mean(1)
    np.testing.assert_allclose(losses.LOSSES["pixel-l2"](restored, clean).numpy(), expected, rtol=1e-12)


def test_ssim_is_that_of_the_evaluation() -> None:
    y = torch.rand(2, 3, 24, 31, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = 0.7 * y + 0.3 * y.flip(-1)
    scores = [ssim(a.permute(1, 2, 0).numpy(), b.permute(1, 2, 0).numpy(), 1.0) for a, b in zip(x, y, strict=True)]
    assert (1.0 - losses.ssim_loss(x, y)).tolist() == pytest.approx(scores, abs=1e-9)
    assert (1.0 - losses.ssim_loss(x.float(), y.float())).tolist() == pytest.approx(scores, abs=1e-5)
    assert losses.ssim_loss(x.bfloat16(), y.bfloat16()).dtype == torch.float32
