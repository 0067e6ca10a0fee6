"""The scale space: sigmas add, borders reflect, the two backends agree."""

import numpy as np
import pytest
import torch

from idsr_cli import scale_space as ss
from tests.references import laplacian_stack


def noise(height: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    values = torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (255.0 * values).to(dtype)


@pytest.mark.parametrize(("a", "b"), [(1.2, 1.6), (2.0, 3.0), (1.0, 4.0)])
def test_blurs_add_in_variance(a: float, b: float) -> None:
    image = noise(80, 97)
    twice, once = ss.blur(ss.blur(image, a), b), ss.blur(image, (a * a + b * b) ** 0.5)
    # Sampled, truncated Gaussians: equal to a twentieth of a grey level, not to rounding.
    assert (twice - once).abs().max() < 0.05


def test_constant_image_stays_constant() -> None:
    image = torch.full((1, 1, 31, 17), 77.0, dtype=torch.float64)
    for sigma in (0.5, 1.6, 30.0):
        assert torch.allclose(ss.blur(image, sigma), image, atol=1e-9)
    assert laplacian_stack(ss.gaussian_stack(image), ss.STACK_SIGMAS).abs().max() < 1e-9


def test_impulse_gives_the_gaussian_itself() -> None:
    image = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    image[..., 20, 20] = 1.0
    y, x = np.mgrid[-20:21, -20:21]
    expected = np.exp(-(x**2 + y**2) / (2 * 2.5**2)) / (2 * np.pi * 2.5**2)
    assert np.abs(ss.blur(image, 2.5)[0, 0].numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (5, 4), (7, 31)])
def test_images_smaller_than_the_kernel_fold_like_opencv(size: tuple[int, int]) -> None:
    image = noise(*size, dtype=torch.float32)
    ours = ss.blur(image, 3.09)[0, 0].numpy()
    opencv = torch.empty(size)
    ss._blur_into(image[0, 0], 3.09, opencv)
    np.testing.assert_allclose(ours, opencv.numpy(), atol=2e-4)


@pytest.mark.parametrize(
    ("height", "sigma", "parts"),
    [(97, 0.1, 5), (97, 1.2263, 5), (97, 3.09, 3), (97, 9.3, 1), (130, 3.09, 5), (12, 1.6, 1)],
)
def test_blur_of_rows_apart_is_the_same(height, sigma, parts, monkeypatch):
    """Threads blur a part of the rows each; results must not depend on their number."""
    sizes = []

    class Parts:
        threads = 5

        def map(self, function, pieces):
            sizes.extend(len(image) for image, _ in pieces)
            return [function(piece) for piece in reversed(pieces)]

    image = np.random.default_rng(0).random((height, 53), np.float32)
    whole, apart = np.full((2, height, 53), np.nan, np.float32)
    ss._blur_into(image, sigma, whole)
    monkeypatch.setattr(ss, "_PART_PIXELS", 1)
    ss._blur_into(image, sigma, apart, Parts())
    assert whole.tobytes() == apart.tobytes()
    assert len(sizes) == (2 * parts - 1 if parts > 1 else 0)
    assert not sizes or sum(sizes[:parts]) == height


def test_dense_and_convolution_paths_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise(75, 60)
    dense = ss.gaussian_stack(image, octave=-1), ss.gaussian_stack(image, (3.2, 6.4), octave=1), ss.blur(image, 2.0)
    monkeypatch.setattr(ss, "_DENSE_SIDE", 4)
    sparse = ss.gaussian_stack(image, octave=-1), ss.gaussian_stack(image, (3.2, 6.4), octave=1), ss.blur(image, 2.0)
    for a, b in zip(dense, sparse, strict=True):
        assert a.shape == b.shape
        assert torch.allclose(a, b, atol=1e-9)


def kept_bytes() -> int:
    return sum(operator.nbytes for operator in ss._operators.values())


def test_many_sizes_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ss, "_OPERATOR_BYTES", 2**22)
    ss._operators.clear()
    first = {}
    for i in range(60):  # some 60 MB of operators
        image = noise(120 + 3 * i, 300 - 4 * i, seed=i, dtype=torch.float32)
        first[i] = ss.gaussian_stack(image), ss.gaussian_stack(image, ss.STACK_SIGMAS[:1], -1), ss.blur(image, 2.0)
        assert 0 < kept_bytes() <= 2**22
    ss._operators.clear()
    monkeypatch.setattr(ss, "_OPERATOR_BYTES", 0)  # nothing is kept, everything works
    for i in (0, 17, 59):
        image = noise(120 + 3 * i, 300 - 4 * i, seed=i, dtype=torch.float32)
        again = ss.gaussian_stack(image), ss.gaussian_stack(image, ss.STACK_SIGMAS[:1], -1), ss.blur(image, 2.0)
        assert all(torch.equal(a, b) for a, b in zip(first[i], again, strict=True))
    assert not ss._operators


def test_the_operators_used_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    ss._operators.clear()
    built: list[int] = []
    build = ss._build_operator
    monkeypatch.setattr(ss, "_build_operator", lambda n, *key: built.append(n) or build(n, *key))

    def use(n: int) -> None:
        ss._operator(n, (2.0,), 0, 0.5, torch.float32, torch.device("cpu"))

    sizes = {n: 4 * n * n for n in (40, 41, 42, 80)}
    monkeypatch.setattr(ss, "_OPERATOR_BYTES", sizes[40] + sizes[41] + sizes[42] - 1)  # two of the three fit
    for n in (40, 41, 40, 42):
        use(n)
    assert [key[0] for key in ss._operators] == [40, 42]  # 41 was used longest ago
    use(40)
    assert built == [40, 41, 42]
    use(41)
    assert [key[0] for key in ss._operators] == [40, 41]
    use(80)  # larger than all that may be kept: it pushes nothing out
    assert [key[0] for key in ss._operators] == [40, 41]
    assert built == [40, 41, 42, 41, 80]
    monkeypatch.setattr(ss, "_OPERATOR_BYTES", sizes[40])
    use(42)
    assert not [key for key in ss._operators if key[0] == 42]
    use(39)  # smaller, so it is kept, and the others go
    assert [key[0] for key in ss._operators] == [39]


def test_operators_of_a_training_run_are_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both patch sizes, all octaves: far under the bound, so nothing is built again while photographs come between."""
    ss._operators.clear()
    built = []
    build = ss._build_operator
    monkeypatch.setattr(ss, "_build_operator", lambda *key: built.append(key) or build(*key))
    patches = [noise(side, side, dtype=torch.float32) for side in (128, 192)]
    for step in range(6):
        for patch in patches:
            for octave in (-1, 0):
                ss.gaussian_stack(patch, octave=octave)
        ss.gaussian_stack(noise(321, 401 + step, dtype=torch.float32))  # validation
    assert len(built) == len(set(built)) == 4 + 1 + 6
    assert kept_bytes() <= ss._OPERATOR_BYTES == 2**26


def test_operators_made_in_inference_mode_serve_in_training() -> None:
    ss._operators.clear()
    with torch.inference_mode():
        ss.gaussian_stack(noise(21, 22))
    image = noise(21, 22).requires_grad_()
    ss.gaussian_stack(image).sum().backward()
    assert image.grad is not None


def test_doubling_puts_even_samples_on_the_input() -> None:
    image = noise(6, 5)
    big = ss.double(image)
    assert big.shape == (1, 1, 12, 10)
    assert torch.equal(big[..., ::2, ::2], image)
    assert torch.allclose(big[..., 0, 1::2][..., :-1], 0.5 * (image[..., 0, :-1] + image[..., 0, 1:]))
    assert torch.equal(big[..., 0, -1], image[..., 0, -1])


def test_sigma_means_the_same_on_every_octave() -> None:
    """The Gaussian image of sigma 3.2 input pixels, sampled at common points, from the doubled and the halved grid."""
    image = ss.blur(noise(96, 96), 1.5)
    plain = ss.gaussian_stack(image, (3.2,), 0)
    doubled = ss.gaussian_stack(image, (3.2,), -1)[..., ::2, ::2]
    halved = ss.gaussian_stack(image, (3.2,), 1)
    assert (plain - doubled)[..., 8:-8, 8:-8].abs().max() < 0.35  # bilinear doubling adds a little blur of its own
    assert torch.allclose(plain[..., ::2, ::2], halved)


def test_laplacian_does_not_depend_on_the_grid() -> None:
    image = ss.blur(noise(128, 128), 2.0)
    fine = laplacian_stack(ss.gaussian_stack(image, (6.4,), 0), (6.4,), 0)[..., ::2, ::2]
    coarse = laplacian_stack(ss.gaussian_stack(image, (6.4,), 1), (6.4,), 1)
    inner = (..., slice(12, -12), slice(12, -12))
    assert (fine - coarse)[inner].abs().max() < 0.05 * fine[inner].abs().max()


def test_gradients_are_right() -> None:
    image = noise(7, 9, seed=3).requires_grad_()

    def stacks(x: torch.Tensor) -> torch.Tensor:
        stack = ss.gaussian_stack(x, ss.STACK_SIGMAS[:3], -1)
        return torch.cat((ss.difference_stack(stack), laplacian_stack(stack, ss.STACK_SIGMAS[:3], -1)), 1)

    assert torch.autograd.gradcheck(stacks, (image,), eps=1e-4, atol=1e-6)


def test_wrong_arguments_raise() -> None:
    with pytest.raises(ValueError, match="below the blur"):
        ss.gaussian_stack(noise(8, 8), (0.3,))
    with pytest.raises(ValueError, match="one grey channel"):
        ss.gaussian_stack(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="no pixel left"):
        ss.gaussian_stack(noise(3, 3), octave=2)


@pytest.mark.cuda
def test_cuda_equals_cpu() -> None:
    image = noise(211, 173, dtype=torch.float32)
    for octave in (-1, 0, 1):
        there = ss.gaussian_stack(image.cuda(), ss.STACK_SIGMAS[2:], octave).cpu()
        assert (there - ss.gaussian_stack(image, ss.STACK_SIGMAS[2:], octave)).abs().max() < 1e-2
