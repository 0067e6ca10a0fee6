"""Every metric against a second, slow definition of it."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from idsr_cli import matching
from idsr_cli.evaluation import metrics
from idsr_cli.evaluation.metrics import Recovered, psnr, pyramid_errors, recovered_keypoints, ssim, studio_luma
from idsr_cli.keypoints import Keypoints


def random_image(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def keypoints(xy: np.ndarray, descriptors: np.ndarray) -> Keypoints:
    n = len(xy)
    f, i = np.zeros(n, np.float32), np.zeros(n, np.int32)
    return Keypoints(np.asarray(xy, np.float32), f, f, f, i, i, np.asarray(descriptors, np.uint8), (100, 100))


def random_keypoints(count: int, seed: int) -> Keypoints:
    generator = np.random.default_rng(seed)
    return keypoints(generator.uniform(0, 12, (count, 2)), generator.integers(0, 120, (count, 128)))


def noisy(k: Keypoints, seed: int, by: float, offset: float) -> Keypoints:
    """The same keypoints out of order, some twice, with slightly changed descriptors and positions."""
    generator = np.random.default_rng(seed)
    index = generator.integers(0, len(k), 2 * len(k))
    descriptors = k.descriptors[index] + generator.normal(0, by, (len(index), 128)) * generator.random((len(index), 1))
    return keypoints(k.xy[index] + generator.normal(0, offset, (len(index), 2)), descriptors.clip(0, 255).round())


def test_psnr_by_hand() -> None:
    a, b = np.zeros((2, 2)), np.array([[0.0, 0.0], [0.0, 0.2]])
    assert psnr(a, b, 1.0) == pytest.approx(20.0)  # mean square 0.01
    assert psnr(255 * a, 255 * b, 255.0) == pytest.approx(20.0)
    assert psnr(a, a, 1.0) == math.inf
    assert psnr(np.uint8([[0]]), np.uint8([[255]]), 255.0) == pytest.approx(0.0)  # no integer overflow
    with pytest.raises(ValueError, match=r"shapes differ: \(2, 2\) and \(2, 3\)"):
        psnr(a, np.zeros((2, 3)), 1.0)


def slow_ssim(x: np.ndarray, y: np.ndarray, peak: float) -> float:
    """Window by window, as Wang et al. write it."""
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    values = []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a, b = (i[top : top + 11, left : left + 11].astype(np.float64) for i in (x, y))
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
            vab = (window * (a - ma) * (b - mb)).sum()
            values.append((2 * ma * mb + c1) * (2 * vab + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return float(np.mean(values))


@pytest.mark.parametrize(("shape", "peak"), [((16, 21), 1.0), ((11, 11), 1.0), ((14, 13), 255.0)])
def test_ssim_of_one_channel(shape: tuple[int, int], peak: float) -> None:
    x = random_image(*shape) * peak
    y = 0.8 * x + 0.2 * random_image(*shape, seed=1) * peak
    assert ssim(x, y, peak) == pytest.approx(slow_ssim(x, y, peak), abs=1e-9)


def test_ssim_of_colours_is_the_mean_of_the_channels() -> None:
    x, y = random_image(14, 15, 3), random_image(14, 15, 3, seed=1)
    expected = np.mean([slow_ssim(x[..., c], y[..., c], 1.0) for c in range(3)])
    assert ssim(x, y, 1.0) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("shape", [(37, 52), (11, 64), (90, 41)])
def test_scikit_image_agrees(shape: tuple[int, int]) -> None:
    """Under the conventions that every table states: RGB with peak 1, and Y unrounded with peak 255."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    clean = random_image(*shape, 3)
    rainy = np.clip(clean + 0.2 * random_image(*shape, 3, seed=1) ** 4, 0, 1)
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for x, y, peak in ((rainy, clean, 1.0), (studio_luma(rainy), studio_luma(clean), 255.0)):
        x64, y64 = x.astype(np.float64), y.astype(np.float64)
        channels = {"channel_axis": 2} if x.ndim == 3 else {}
        assert psnr(x, y, peak) == pytest.approx(peak_signal_noise_ratio(y64, x64, data_range=peak), abs=1e-6)
        expected = structural_similarity(x64, y64, data_range=peak, **window, **channels)
        assert ssim(x, y, peak) == pytest.approx(expected, abs=1e-6)
        assert 0.3 < expected < 0.999  # not a trivial case


def test_ssim_at_its_ends() -> None:
    x = random_image(20, 20, 3)
    assert ssim(x, x, 1.0) == pytest.approx(1.0)
    assert math.isnan(ssim(x[:10], x[:10], 1.0))
    with pytest.raises(ValueError, match="shapes differ"):
        ssim(x, x[:19], 1.0)


def test_studio_luma() -> None:
    # White, black, red, green, blue: the values of MATLAB's rgb2ycbcr.
    rgb = np.array([[[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]], np.float32)
    np.testing.assert_allclose(studio_luma(rgb), [[235, 16, 81.481, 144.553, 40.966]], atol=1e-9)
    assert studio_luma(rgb).dtype == np.float64


def slow_recovered(found: Keypoints, clean: Keypoints) -> Recovered:
    """Loops over every pair of keypoints, in Python integers."""
    table = [
        [sum((int(a) - int(b)) ** 2 for a, b in zip(r, c, strict=True)) for c in clean.descriptors]
        for r in found.descriptors
    ]
    hits: dict[str, set[int]] = {"ratio": set(), "true": set(), "mutual": set()}
    for i, row in enumerate(table):
        order = sorted(range(len(row)), key=row.__getitem__)
        j = order[0]
        near = math.dist(found.xy[i], clean.xy[j]) <= 3
        if math.sqrt(row[j]) < 0.8 * math.sqrt(row[order[1]]):
            hits["ratio"].add(j)
            if near:
                hits["true"].add(j)
        if near and min(range(len(table)), key=lambda k: table[k][j]) == i:
            hits["mutual"].add(j)
    return Recovered(len(clean), len(found), *(len(hits[name]) for name in ("ratio", "true", "mutual")))


def slow_counts(found: Keypoints, clean: Keypoints, distance: Callable[..., float]) -> Recovered:
    """As `slow_recovered`, for any distance."""
    table = [[distance(r, c) for c in clean.descriptors] for r in found.descriptors]
    ratio, true, mutual = set(), set(), set()
    for i, row in enumerate(table):
        order = sorted(range(len(row)), key=row.__getitem__)
        j = order[0]
        near = math.dist(found.xy[i], clean.xy[j]) <= 3
        if row[j] < 0.8 * row[order[1]]:
            ratio.add(j)
            if near:
                true.add(j)
        if near and min(range(len(table)), key=lambda k: table[k][j]) == i:
            mutual.add(j)
    return Recovered(len(clean), len(found), len(ratio), len(true), len(mutual))


def hamming(a: np.ndarray, b: np.ndarray) -> int:
    return sum((int(x) ^ int(y)).bit_count() for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("kind", ["float32", "float16", "long", "bytes", "bool"])
def test_descriptors_of_other_extractors(kind: str) -> None:
    """Floats of any length by L2, as they are; strings of bits by Hamming's distance."""
    generator = np.random.default_rng(7)
    if kind in ("bytes", "bool"):
        bits = generator.random((30, 256)) < 0.5
        flips = bits[:25] ^ (generator.random((25, 256)) < generator.uniform(0, 0.6, (25, 1)))
        pack = (lambda b: np.packbits(b, 1)) if kind == "bytes" else (lambda b: b)
        descriptors, others, distance = pack(bits), pack(flips), hamming
    else:
        dtype, length = {"float32": (np.float32, 64), "float16": (np.float16, 128), "long": (np.float32, 512)}[kind]
        descriptors = generator.normal(size=(30, length)).astype(dtype)
        others = (descriptors[:25] + generator.normal(size=(25, length)) * generator.uniform(0, 2, (25, 1))).astype(
            dtype
        )
        distance = lambda a, b: math.dist(a.astype(float), b.astype(float))  # noqa: E731
    xy = generator.uniform(0, 90, (30, 2))
    clean = replace(keypoints(xy, np.zeros((30, 1))), descriptors=descriptors)
    found = replace(keypoints(xy[:25] + generator.normal(0, 2.2, (25, 2)), np.zeros((25, 1))), descriptors=others)
    result = recovered_keypoints(found, clean)
    assert result == slow_counts(found, clean, distance)
    assert 0 < result.true < result.ratio <= 25
    assert 0 < result.mutual < 25
    assert recovered_keypoints(clean, clean) == Recovered(30, 30, 30, 30, 30)


@pytest.mark.parametrize("seed", range(4))
def test_recovered_keypoints(seed: int) -> None:
    clean = random_keypoints(25, seed)
    found = noisy(clean, seed + 10, by=60, offset=1.6)
    result = recovered_keypoints(found, clean)
    assert result == slow_recovered(found, clean)
    assert 0 < result.true < result.ratio < 25  # not a trivial case
    assert 0 < result.mutual < 25
    assert result.recall == result.true / 25
    assert result.precision == result.true / result.ratio


def test_matching_in_blocks_changes_nothing(monkeypatch) -> None:
    """Large photographs are matched in blocks of rows."""
    clean = random_keypoints(25, 5)
    found = noisy(clean, 15, by=60, offset=1.6)
    whole = recovered_keypoints(found, clean)
    for rows in (1, 7):
        monkeypatch.setattr(matching, "BLOCK", rows * 25)
        assert recovered_keypoints(found, clean) == whole == slow_recovered(found, clean)


def test_counts_by_scale_add_up() -> None:
    edges = metrics.SCALE_EDGES
    assert edges[1] == 1.6
    assert edges[3] == 3.2
    scale = np.array([0.1, 1.0, 1.6, 1.7, 2.0, 3.3, 400.0], np.float32)
    assert metrics.scale_counts(scale) == [2, 0, 3, 0, 1, 0, 0, 0, 1]
    assert metrics.scale_counts(scale[:0]) == [0] * 9
    assert metrics.scale_counts(np.append(scale, np.nan)) == metrics.scale_counts(scale)  # of unknown scale


def test_an_image_recovers_all_of_itself() -> None:
    clean = random_keypoints(30, 1)
    assert recovered_keypoints(clean, clean) == Recovered(30, 30, 30, 30, 30)


def test_each_clean_keypoint_counts_once() -> None:
    clean = random_keypoints(5, 2)
    found = clean.select(np.array([3, 3, 3, 1, 1]))
    assert recovered_keypoints(found, clean) == Recovered(5, 5, 2, 2, 2)


def test_three_pixels_are_near_and_more_are_not() -> None:
    clean = random_keypoints(4, 3)
    for offset, expected in ((3.0, 4), (3.01, 0)):
        whole = keypoints(np.arange(8).reshape(4, 2), clean.descriptors)
        moved = keypoints(whole.xy + np.float32([offset, 0]), clean.descriptors)
        result = recovered_keypoints(moved, whole)
        assert (result.ratio, result.true, result.mutual) == (4, expected, expected)


def test_no_keypoints() -> None:
    none, one, some = Keypoints.empty((100, 100)), random_keypoints(1, 4), random_keypoints(6, 4)
    assert recovered_keypoints(none, some) == Recovered(6, 0, 0, 0, 0)
    assert recovered_keypoints(some, none) == Recovered(0, 6, 0, 0, 0)
    assert recovered_keypoints(some, one) == Recovered(1, 6, 0, 0, 0)  # Lowe's test needs a second nearest
    assert recovered_keypoints(one, some).found == 1
    empty = recovered_keypoints(none, none)
    assert empty == Recovered(0, 0, 0, 0, 0)
    assert math.isnan(empty.recall)
    assert math.isnan(empty.precision)


def test_pyramid_errors() -> None:
    image = 0.8 * random_image(40, 52, 3)
    assert pyramid_errors(image, image) == ([0.0] * 5, [0.0] * 4)
    gaussian, dog = pyramid_errors(image + np.float32(5 / 255), image)
    assert gaussian == pytest.approx([25.0] * 5, abs=1e-3)
    assert dog == pytest.approx([0.0] * 4, abs=1e-6)
    gaussian, dog = pyramid_errors(random_image(40, 52, 3, seed=1), image)
    assert gaussian == sorted(gaussian, reverse=True)  # blur takes noise away
    assert min(dog) > 0
    with pytest.raises(ValueError, match="shapes differ"):
        pyramid_errors(image, image[1:])
