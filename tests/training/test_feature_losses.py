"""The losses on SIFT's quantities act where SIFT has keypoints and gradients, and ignore contrast."""

import cv2
import numpy as np
import pytest
import torch

from idsr_cli.scale_space import luminance
from idsr_cli.training.feature_losses import (
    _CONTRAST,
    _cells,
    _confusion,
    _errors_at_few,
    _errors_everywhere,
    _peaks,
    descriptor_loss,
    difference_stack,
    extremum_loss,
    gaussian_stack,
    margin_loss,
)


def texture(seed: int, size: int = 96) -> torch.Tensor:
    """(1, 3, size, size) float64 in [0, 1]: blobs of several sizes."""
    generator = np.random.default_rng(seed)
    image = sum(
        cv2.GaussianBlur(generator.standard_normal((size, size)), (0, 0), sigma) * sigma for sigma in (1.0, 2.0, 4.0)
    )
    image = 0.5 + 0.16 * image / np.std(image)
    return torch.from_numpy(np.clip(image, 0, 1)).expand(1, 3, size, size).contiguous()


def test_a_fainter_photograph_has_nearly_the_same_descriptors() -> None:
    clean = texture(1)
    faint = 0.5 + 0.5 * (clean - 0.5)
    soft = torch.from_numpy(cv2.GaussianBlur(clean[0, 0].numpy(), (0, 0), 2.0)).expand_as(clean)
    # The faint image differs more in its pixels and less in its descriptors.
    assert (faint - clean).abs().mean() > (soft - clean).abs().mean()
    assert descriptor_loss(faint, clean, (-1, 0)) < 0.2 * descriptor_loss(soft, clean, (-1, 0))


def test_flat_places_of_the_clean_photograph_do_not_count() -> None:
    clean = texture(2)
    clean[..., 40:] = 0.5
    noise = 0.02 * torch.randn(1, 1, 96, 96, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    left, right = clean.clone(), clean.clone()
    left[..., :32] += noise[..., :32]
    right[..., 64:] += noise[..., 64:]
    assert descriptor_loss(right, clean).item() < 0.2 * descriptor_loss(left, clean).item()


@pytest.mark.parametrize("seed", [3, 4])
def test_the_extrema_are_those_that_opencv_finds(seed: int) -> None:
    clean = texture(seed)
    grey = luminance(clean)
    sigmas = tuple(1.6 * 2 ** (i / 3) for i in range(6))
    inside = _peaks(difference_stack(gaussian_stack(grey, sigmas, 0)))[0] > 0
    eight_bit = np.rint(grey[0, 0].numpy()).astype(np.uint8)
    found = [
        point
        for point in cv2.SIFT_create(enable_precise_upscale=True).detect(eight_bit)
        if point.octave & 255 == 0 and min(point.pt) > 8 and max(point.pt) < 87
    ]
    hits = [bool(inside[:, round(p.pt[1]), round(p.pt[0])].any()) for p in found]
    assert len(hits) >= 10
    assert np.mean(hits) >= 0.95
    # The cubes cover only a small part of the pyramid.
    assert inside[1:-1].double().mean() < 0.35


def test_extremum_loss_by_hand() -> None:
    """Halving the contrast halves every DoG: at an extremum the relative error is 0.5, hence the cost 1/3."""
    clean = texture(5)
    faint = 0.5 + 0.5 * (clean - 0.5)
    wanted, given = luminance(clean), luminance(faint)
    sigmas = tuple(1.6 * 2 ** (i / 3) for i in range(6))
    dog, other = (difference_stack(gaussian_stack(g, sigmas, 0))[0].numpy() for g in (wanted, given))
    heights = np.zeros_like(dog)
    for s, y, x in np.ndindex(dog.shape[0] - 2, dog.shape[1] - 2, dog.shape[2] - 2):
        cube, height = dog[s : s + 3, y : y + 3, x : x + 3], dog[s + 1, y + 1, x + 1]
        if abs(height) > 0.5 * _CONTRAST and height == (cube.max() if height > 0 else cube.min()):
            part = heights[s : s + 3, y : y + 3, x : x + 3]
            np.maximum(part, abs(height), out=part)
    error = np.abs(other - dog)[heights > 0]
    expected = (error / (error + heights[heights > 0])).sum() / (len(error) + 27)
    assert extremum_loss(faint, clean).item() == pytest.approx(expected, rel=1e-9)
    assert 0.0 < extremum_loss(texture(6), clean).item() < 1.0


def test_a_card_computes_what_a_cpu_does() -> None:
    """Everywhere instead of at the few samples that count; the same peaks, sums, counts and gradients."""
    clean = torch.cat((texture(5), torch.full((1, 3, 96, 96), 0.5), texture(7)))
    sigmas = tuple(1.6 * 2 ** (i / 3) for i in range(6))
    dog = difference_stack(gaussian_stack(luminance(clean), sigmas, 0))
    peaks = _peaks(dog)
    assert torch.equal(_peaks(dog, few=False), peaks)
    stacks = [(luminance(texture(6).expand_as(clean)) + 3.0).requires_grad_() for _ in range(2)]
    for grey, errors in zip(stacks, (_errors_at_few, _errors_everywhere), strict=True):
        sums, counts = errors(gaussian_stack(grey, sigmas, 0), peaks)
        assert counts.tolist() == [(part > 0).sum() for part in peaks]
        (sums / (counts + 27.0)).sum().backward()
    torch.testing.assert_close(stacks[0].grad, stacks[1].grad, rtol=1e-9, atol=1e-12)
    assert stacks[0].grad is not None
    assert stacks[0].grad.abs().max() > 0


def test_a_photograph_without_extrema_costs_nothing_and_keeps_the_gradient_finite() -> None:
    flat = torch.full((2, 3, 32, 32), 0.5)
    restored = (flat + 0.1 * torch.rand(flat.shape, generator=torch.Generator().manual_seed(1))).requires_grad_()
    cost = extremum_loss(restored, flat, (-1, 0)).sum() + descriptor_loss(restored, flat, (-1, 0)).sum()
    cost.backward()
    assert extremum_loss(restored, flat, (-1, 0)).sum() == 0
    assert restored.grad is not None
    assert bool(restored.grad.isfinite().all())


def test_what_can_be_told_apart_costs_nothing() -> None:
    """Half the contrast changes no descriptor; another photograph's are nearer to others than to their own."""
    clean = texture(8)
    faint = 0.5 + 0.5 * (clean - 0.5)
    assert margin_loss(clean, clean, (-1, 0)).item() < 1e-3
    assert margin_loss(faint, clean, (-1, 0)).item() < 0.02
    assert margin_loss(texture(9), clean, (-1, 0)).item() > 0.2


def test_errors_cost_more_where_places_look_alike() -> None:
    """On a pattern that repeats, each descriptor has rivals like its own, so that a little noise confuses them."""
    scenes = texture(10), texture(10)[..., :24, :24].repeat(1, 1, 4, 4)
    noise = 0.15 * torch.randn(1, 1, 96, 96, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    unlike, alike = (
        (margin_loss(scene + noise, scene, (0,)) - 2.0 * descriptor_loss(scene + noise, scene, (1,))).item()
        for scene in scenes
    )
    assert alike > 4.0 * unlike > 0.0


def test_the_margin_is_learned_from_any_patch() -> None:
    """Gradients are finite, also where patches are flat, equal to the clean one, or too small for rivals."""
    flat, textured = torch.full((1, 3, 64, 64), 0.5, dtype=torch.float64), texture(12, 64)
    noise = 0.05 * torch.rand(flat.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    small = textured[..., :32, :32]
    assert min(_cells(luminance(small), 0).shape[-2:]) <= 11
    for clean, error in ((flat, noise), (textured, 0.0 * noise), (textured, noise), (small, noise[..., :32, :32])):
        restored = (clean + error).requires_grad_()
        margin_loss(restored, clean, (0,)).sum().backward()
        assert restored.grad is not None
        assert bool(restored.grad.isfinite().all())


def test_the_margin_by_hand() -> None:
    """Few places, so that all are compared: Lowe's ratio with the nearest one that is more than four steps away."""
    generator = torch.Generator().manual_seed(3)
    clean, restored = torch.randn(2, 1, 8, 14, 15, generator=generator, dtype=torch.float64).relu()
    rows, columns = 14 - 6, 15 - 6

    def described(cells: torch.Tensor) -> np.ndarray:
        found = []
        for y, x in np.ndindex(rows, columns):
            vector = cells[0, :, y : y + 7 : 2, x : x + 7 : 2].numpy().ravel()
            vector = np.minimum(vector / np.sqrt((vector**2).sum() + 0.01), 0.2)
            found.append(vector / np.sqrt((vector**2).sum() + 1e-6))
        return np.array(found)

    mine, wanted = described(restored), described(clean)
    places = np.array(list(np.ndindex(rows, columns)))
    costs, weights = [], []
    for i, (y, x) in enumerate(places):
        energy = float((clean[0, :, y : y + 7 : 2, x : x + 7 : 2] ** 2).sum())
        far = np.abs(places - places[i]).max(1) > 4
        distance = np.linalg.norm(mine[i] - wanted, axis=1)
        ratio = (np.sqrt(distance[i] ** 2 + 1e-6) - 1e-3) / (np.min(distance[far], initial=10.0) + 0.05)
        costs.append(0.1 * (np.logaddexp(0.0, (ratio - 0.8) / 0.1) - np.logaddexp(0.0, -8.0)))
        weights.append(energy / (energy + 16.0))
    expected = np.dot(costs, weights) / np.sum(weights)
    assert rows * columns <= 96
    assert expected > 0.1
    assert _confusion(restored, clean).item() == pytest.approx(expected, rel=1e-9)
