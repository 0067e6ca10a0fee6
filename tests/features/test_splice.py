"""The splice of two different images, against a slow reference that shares no code with it."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
import threading
from importlib import import_module

import cv2
import numpy as np
import pytest
import torch

from idsr_cli import scale_space
from idsr_cli.errors import ItemError, UsageError
from idsr_cli.features import SiftOptions, descriptor, detection, orientation, sift, splice, tensors
from idsr_cli.features.workers import Workers
from idsr_cli.keypoints import Keypoints

ARRAYS = ("xy", "scale", "angle", "response", "octave", "layer", "descriptors")


@pytest.fixture(scope="module")
def pair(scenes) -> tuple[torch.Tensor, torch.Tensor]:
    """A picture and another version of it: blurred, brighter, with noise."""
    first = scenes["photo-like"][:190, :263].astype(np.float32)
    rng = np.random.default_rng(3)
    second = cv2.GaussianBlur(first, (0, 0), 0.8) * 0.9 + 20 + rng.normal(0, 2, first.shape)
    return torch.from_numpy(first.copy()), torch.from_numpy(second.astype(np.float32))


@pytest.fixture(scope="module")
def spliced(pair) -> Keypoints:
    return splice(*pair)


def same(a: Keypoints, b: Keypoints) -> bool:
    return all(getattr(a, name).tobytes() == getattr(b, name).tobytes() for name in ARRAYS)


def places(keypoints: Keypoints) -> set[tuple[float, ...]]:
    k = keypoints
    columns = (*k.xy.T, k.scale, k.response, k.octave, k.layer)
    return set(zip(*(column.tolist() for column in columns), strict=True))


def pyramid(grey: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """(octave, level) -> Gaussian image, straight from the definition, with float64 sums."""
    height, width = grey.shape
    y, x = np.arange(2 * height) / 2, np.arange(2 * width) / 2
    after_y, after_x = np.minimum(np.ceil(y), height - 1).astype(int), np.minimum(np.ceil(x), width - 1).astype(int)
    rows = (grey[np.floor(y).astype(int)] + grey[after_y]) / 2
    image = (rows[:, np.floor(x).astype(int)] + rows[:, after_x]) / 2
    image = cv2.GaussianBlur(image, (0, 0), math.sqrt(1.6**2 - 1))
    levels = {}
    for octave in range(-1, 8):
        if min(image.shape) < 11:
            break
        for level in range(4):
            if level:
                sigma = 1.6 * math.sqrt(2 ** (2 * level / 3) - 2 ** (2 * (level - 1) / 3))
                image = cv2.GaussianBlur(image, (0, 0), sigma)
            levels[octave, level] = image
        image = image[: image.shape[0] // 2 * 2 : 2, : image.shape[1] // 2 * 2 : 2]
    return levels


def gradients(image: np.ndarray, row: int, column: int, radius: int) -> list[tuple[int, int, float, float]]:
    """dy, dx, magnitude, angle (degrees, y up) of the pixels around, without those on the image's border."""
    result = []
    for i in range(max(1, row - radius), min(image.shape[0] - 1, row + radius + 1)):
        for j in range(max(1, column - radius), min(image.shape[1] - 1, column + radius + 1)):
            x = float(image[i, j + 1]) - float(image[i, j - 1])
            y = float(image[i - 1, j]) - float(image[i + 1, j])
            result.append((i - row, j - column, math.hypot(x, y), cv2.fastAtan2(y, x)))
    return result


def reference_angles(image: np.ndarray, row: int, column: int, scale: float) -> list[float]:
    histogram = np.zeros(36)
    for dy, dx, magnitude, angle in gradients(image, row, column, round(4.5 * scale)):
        weight = math.exp(-(dy * dy + dx * dx) / (2 * (1.5 * scale) ** 2))
        histogram[round(angle / 10) % 36] += weight * magnitude
    h = [
        sum(weight * histogram[(i + step) % 36] for step, weight in zip(range(-2, 3), (1, 4, 6, 4, 1), strict=True))
        / 16
        for i in range(36)
    ]
    angles = []
    for i in range(36):
        left, right = h[i - 1], h[(i + 1) % 36]
        if h[i] > left and h[i] > right and h[i] >= 0.8 * max(h):
            angles.append((360 - 10 * (i + 0.5 * (left - right) / (left - 2 * h[i] + right))) % 360)
    return angles


def reference_descriptor(image: np.ndarray, row: int, column: int, scale: float, angle: float) -> np.ndarray:
    """Each sample added to its eight neighbouring bins, one by one."""
    bins = np.zeros((6, 6, 8))
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    width = 3 * scale
    for dy, dx, magnitude, direction in gradients(image, row, column, round(width * math.sqrt(2) * 2.5)):
        v, u = (cos * dy - sin * dx) / width + 1.5, (cos * dx + sin * dy) / width + 1.5
        if not (-1 < v < 4 and -1 < u < 4):
            continue
        weight = magnitude * math.exp(-((v - 1.5) ** 2 + (u - 1.5) ** 2) / 8)
        o = (direction - (360 - angle)) / 45 % 8
        for i in (0, 1):
            for j in (0, 1):
                for k in (0, 1):
                    a, b, c = math.floor(v) + i, math.floor(u) + j, math.floor(o) + k
                    share = (1 - abs(v - a)) * (1 - abs(u - b)) * (1 - abs(o - c))
                    bins[a + 1, b + 1, c % 8] += weight * share
    flat = bins[1:5, 1:5].ravel()
    flat = np.minimum(flat, 0.2 * np.linalg.norm(flat))
    return np.clip(np.rint(512 * flat / np.linalg.norm(flat)), 0, 255)


def pixel(keypoints: Keypoints, i: int) -> tuple[int, int, float]:
    """Row and column in the octave, sigma in pixels of the octave."""
    step = 2.0 ** int(keypoints.octave[i])
    column, row = np.rint(keypoints.xy[i] / step).astype(int)
    return int(row), int(column), float(keypoints.scale[i]) / step


def test_positions_come_from_the_first_image(pair, spliced):
    assert len(spliced) > 300
    assert places(spliced) <= places(sift(pair[0]))
    # Only positions without gradients in the second image may be missing, and there are none.
    assert places(spliced) == places(sift(pair[0]))


def test_angles_come_from_the_second_image(pair, spliced):
    levels = pyramid(pair[1].numpy())
    wrong = 0
    for i in range(0, len(spliced), 7):
        row, column, scale = pixel(spliced, i)
        image = levels[int(spliced.octave[i]), int(spliced.layer[i])]
        expected = np.array(reference_angles(image, row, column, scale))
        mine = spliced.angle[(spliced.xy == spliced.xy[i]).all(1) & (spliced.scale == spliced.scale[i])]
        turn = np.sort(mine) - np.sort(expected) if len(mine) == len(expected) else np.array([90.0])
        wrong += np.abs((turn + 180) % 360 - 180).max() > 0.01
    assert wrong <= 1  # a sample on the border of two bins


def test_descriptors_come_from_the_second_image(pair, spliced):
    levels = pyramid(pair[1].numpy())
    distances = []
    for i in range(0, len(spliced), 11):
        row, column, scale = pixel(spliced, i)
        image = levels[int(spliced.octave[i]), int(spliced.layer[i])]
        expected = reference_descriptor(image, row, column, scale, float(spliced.angle[i]))
        distances.append(np.abs(spliced.descriptors[i] - expected).sum())
    assert np.mean(distances) <= 0.5
    assert np.max(distances) <= 10


def test_one_image_twice_is_plain_sift(pair):
    assert same(splice(pair[0], pair[0].clone()), sift(pair[0]))


def test_nothing_where_the_second_image_is_flat(pair):
    first, second = pair
    second = second.clone()
    second[:, :200] = 77.0
    assert len(splice(first, torch.full_like(first, 77.0))) == 0
    assert 0 < len(splice(first, second)) < len(splice(*pair))


def test_order(spliced):
    k = spliced
    rows = list(zip(-k.response, k.xy[:, 1], k.xy[:, 0], -k.scale, k.angle, strict=True))
    assert rows == sorted(rows)
    assert len(set(rows)) == len(rows)


def test_arrays(spliced):
    n = len(spliced)
    assert spliced.image_size == (263, 190)
    shapes = {"xy": (n, 2), "descriptors": (n, 128)}
    types = {"octave": np.int32, "layer": np.int32, "descriptors": np.uint8}
    for name in ARRAYS:
        array = getattr(spliced, name)
        assert array.shape == shapes.get(name, (n,))
        assert array.dtype == types.get(name, np.float32)
    assert (spliced.angle >= 0).all()
    assert (spliced.angle < 360).all()
    assert set(spliced.layer) <= {1, 2, 3}


@pytest.mark.parametrize("limit", [1, 2, 57, 200])
def test_limit_is_exact_and_nested(pair, spliced, limit):
    kept = splice(*pair, SiftOptions(max_keypoints=limit))
    assert len(kept) == limit
    assert same(kept, spliced.select(np.arange(limit)))


def test_limit_beyond_the_number(pair, spliced):
    assert same(splice(*pair, SiftOptions(max_keypoints=10**6)), spliced)


@pytest.mark.parametrize("limit", [None, 40])
def test_mask_comes_before_the_limit(pair, spliced, limit):
    mask = np.zeros((190, 263), bool)
    mask[:, 100:200] = True
    column, row = np.floor(spliced.xy + 0.5).astype(int).T
    expected = np.flatnonzero(mask[row, column])
    assert 40 < len(expected) < len(spliced)
    kept = splice(*pair, SiftOptions(max_keypoints=limit), mask)
    assert same(kept, spliced.select(expected[:limit]))


def test_masks_of_everything_and_nothing(pair, spliced):
    assert same(splice(*pair, mask=np.ones((190, 263), bool)), spliced)
    assert len(splice(*pair, mask=np.zeros((190, 263), bool))) == 0


def test_wrong_masks(pair):
    for mask in (np.ones((190, 262), bool), np.ones((190, 263), np.uint8)):
        with pytest.raises(ValueError, match="bool mask of shape"):
            splice(*pair, mask=mask)


def test_same_bytes_for_any_thread_count(pair, spliced):
    threads, opencv_threads = torch.get_num_threads(), cv2.getNumThreads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            cv2.setNumThreads(count)
            assert same(splice(*pair), spliced)
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(opencv_threads)


def test_same_bytes_from_two_threads_at_once(pair, spliced):
    results: list[Keypoints] = []
    threads = [threading.Thread(target=lambda: results.append(splice(*pair))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert all(same(result, spliced) for result in results)


def test_chunks_and_groups_do_not_matter(pair, spliced, monkeypatch):
    """Large images are processed in pieces; the size of the pieces may only change rounding."""
    monkeypatch.setattr(scale_space, "_GROUP_PIXELS", 2**15)
    monkeypatch.setattr(detection, "_BAND_PIXELS", 2**12)
    monkeypatch.setattr(detection, "_CHUNK", {True: 100})
    monkeypatch.setattr(orientation, "_CHUNK_SAMPLES", 2**12)
    monkeypatch.setattr(descriptor, "_CHUNK_SAMPLES", 2**12)
    pieces = splice(*pair)
    assert len(pieces) == len(spliced)
    for name in ("xy", "scale", "response", "octave", "layer"):
        assert np.array_equal(getattr(pieces, name), getattr(spliced, name))
    np.testing.assert_allclose(pieces.angle, spliced.angle, atol=1e-3)
    assert np.abs(pieces.descriptors.astype(int) - spliced.descriptors).max() <= 1


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_turned_image(pair, turn):
    """Keypoints turn with the image, up to the doubling and halving of the grid, which are not symmetric."""
    grey = pair[0][:129, :129]
    k, turned = sift(grey), sift(torch.rot90(grey, -turn).contiguous())
    x, y = k.xy.T
    for _ in range(turn):
        x, y = 128 - y, x
    fine = k.octave == -1
    found = 0
    for i in np.flatnonzero(fine):
        near = np.hypot(turned.xy[:, 0] - x[i], turned.xy[:, 1] - y[i]) < 0.2
        found += bool((near & (np.abs((turned.angle - k.angle[i] - 90 * turn + 180) % 360 - 180) < 5)).any())
    assert found >= 0.85 * fine.sum() > 30


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (2, 3), (5, 5), (6, 6), (11, 200), (200, 11), (13, 13)])
def test_small_images(shape):
    grey = np.random.default_rng(1).uniform(0, 255, shape).round().astype(np.uint8)
    k = sift(torch.from_numpy(grey).float())
    expected = len(cv2.SIFT_create(enable_precise_upscale=True).detect(grey, None)) if min(shape) > 1 else 0
    assert len(k) == expected
    assert k.image_size == shape[::-1]
    assert k.descriptors.shape == (expected, 128)


def test_flat_and_ramp():
    assert len(sift(torch.full((90, 70), 200.0))) == 0
    ramp = torch.linspace(0, 255, 300).repeat(200, 1)
    assert len(sift(ramp)) == 0
    assert len(sift(1000 * ramp)) == 0
    assert len(sift(torch.zeros(40, 40))) == 0


def test_one_blob():
    """A Gaussian blob has its extremum at its centre; the scale grows with its sigma."""
    y, x = torch.meshgrid(torch.arange(101.0), torch.arange(121.0), indexing="ij")
    for sigma in (3.0, 6.0):
        k = sift(200 * torch.exp(-((x - 60) ** 2 + (y - 43) ** 2) / (2 * sigma**2)))
        assert np.abs(k.xy[0] - (60, 43)).max() < 0.05
        assert k.scale[0] == pytest.approx(sigma, rel=0.2)


def test_a_tensor_with_a_gradient_or_strides(pair, spliced):
    first, second = pair
    assert same(splice(first.clone().requires_grad_(), second), spliced)
    assert same(splice(first.T.contiguous().T, second), spliced)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite(pair, value):
    bad = pair[0].clone()
    bad[3, 4] = value
    with pytest.raises(ItemError, match="NaN or infinite"):
        splice(bad, pair[1])
    with pytest.raises(ItemError, match="NaN or infinite"):
        splice(pair[0], bad)


def test_wrong_tensors(pair):
    first, second = pair
    with pytest.raises(ValueError, match="differ"):
        splice(first, second[:-1])
    for bad in (first[None], first.double(), first.byte(), first[:0]):
        with pytest.raises(ValueError, match="float32"):
            sift(bad)


@pytest.mark.parametrize(
    "options",
    [
        {"max_keypoints": 0},
        {"n_layers": 0},
        {"n_layers": 17},
        {"contrast_threshold": -0.1},
        {"contrast_threshold": math.nan},
        {"edge_threshold": 0},
        {"sigma": 1.0},
        {"sigma": math.nan},
    ],
)
def test_wrong_options(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        SiftOptions(**options)


def agreement(mine: Keypoints, theirs: Keypoints) -> float:
    """The share of their keypoints that are among mine within 0.01 px, 1 degree, and descriptors that differ by 20."""
    near = 0
    for i in range(len(theirs)):
        close = np.flatnonzero(np.hypot(*(mine.xy - theirs.xy[i]).T) <= 0.01)
        turn = np.abs((mine.angle[close] - theirs.angle[i] + 180) % 360 - 180)
        distance = np.abs(mine.descriptors[close].astype(int) - theirs.descriptors[i]).sum(1)
        near += bool(((turn <= 1) & (distance <= 20)).any())
    return near / len(theirs)


@pytest.mark.parametrize(
    "options",
    [SiftOptions(), SiftOptions(contrast_threshold=0.02, max_orientations=2, first_octave=0, rules="vlfeat")],
    ids=["opencv", "vlfeat"],
)
def test_the_code_for_cuda(pair, options, monkeypatch):
    """Tensors on a CPU are read as arrays; here they stay tensors, as on CUDA, and go the other way throughout."""
    expected = splice(*pair, options)
    monkeypatch.setattr(import_module("idsr_cli.features.splice"), "_checked", lambda image: image)
    found = splice(*pair, options)
    assert len(expected) > 100
    assert abs(len(found) - len(expected)) <= 0.005 * len(expected)
    assert agreement(found, expected) >= 0.99


def test_fit_for_cuda():
    cubes = np.random.default_rng(0).normal(0, 10, (3, 3, 3, 500)).astype(np.float32)
    cubes[..., 0] = 1  # a singular Hessian
    expected, found = detection._fit(cubes), detection._fit(torch.from_numpy(cubes))
    assert not found.offset[:, 0].any()
    for field in dataclasses.fields(expected):
        theirs = getattr(expected, field.name)
        mine = getattr(found, field.name).numpy()
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, rtol=2e-3, atol=1e-6)


def test_chunks_do_not_matter_to_the_code_for_cuda(pair, monkeypatch):
    """Windows of different sizes share a table, so what lies beyond a window must weigh nothing."""
    monkeypatch.setattr(import_module("idsr_cli.features.splice"), "_checked", lambda image: image)
    together = splice(*pair)
    monkeypatch.setattr(orientation, "_LARGE_CHUNK_SAMPLES", 1)
    monkeypatch.setattr(descriptor, "_LARGE_CHUNK_SAMPLES", 1)
    alone = splice(*pair)
    assert len(alone) == len(together) > 100
    np.testing.assert_allclose(alone.angle, together.angle, atol=1e-3)
    assert np.abs(alone.descriptors.astype(int) - together.descriptors).max() <= 1


def test_scan_for_cuda(pair):
    """It compares with all 26 neighbours at once, and the scan on a CPU with 6; the refinement does the rest."""
    grey = pair[0].numpy()
    arrays, tensor = (next(scale_space.sift_pyramid(grey, 6)) for _ in range(2))
    tensor = dataclasses.replace(tensor, samples=torch.from_numpy(tensor.samples))
    with Workers(1) as workers:
        candidates = detection._scan(arrays, 1.0, 5, workers)
    true = candidates[:, detection._is_extremum(detection._cubes(arrays, candidates))]
    found = tensors.scan(tensor, 1.0, 5).numpy()
    assert 100 < found.shape[1] < candidates.shape[1]
    assert set(map(tuple, found.T.tolist())) == set(map(tuple, true.T.tolist()))


def test_pyramid_for_cuda(pair):
    """Torch's doubling and blur, used on CUDA, against OpenCV's."""
    grey = pair[0]
    assert np.array_equal(scale_space.double_array(grey.numpy()), scale_space.double(grey[None, None])[0, 0].numpy())
    of_arrays, of_tensors = (list(scale_space.sift_pyramid(image, 6)) for image in (grey.numpy(), grey))
    assert len(of_arrays) == len(of_tensors) == 1
    for slot in range(len(of_arrays[0].shapes)):
        np.testing.assert_allclose(of_tensors[0].octave(slot).numpy(), of_arrays[0].octave(slot), atol=1e-3)


def test_a_cpu_needs_no_torch():
    """It takes seconds to import."""
    script = (
        "import sys, numpy as np; from idsr_cli.features import splice; from idsr_cli.scale_space import grey_image;"
        "rgb = np.random.default_rng(0).random((60, 70, 3), np.float32);"
        "found = splice(grey_image(rgb), grey_image(rgb * 0.9)); assert len(found); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_arrays_and_tensors(pair, spliced):
    arrays = [image.numpy() for image in pair]
    assert same(splice(*arrays), spliced)
    assert same(splice(*(np.asfortranarray(image) for image in arrays)), spliced)
    with pytest.raises(ValueError, match=r"images differ: .* of numpy, .* on cpu"):
        splice(arrays[0], pair[1])


def test_training_after_sift(pair):
    """Tensors that SIFT puts into shared caches must not break gradients."""
    splice(*pair)
    image = pair[0][None, None].clone().requires_grad_()
    scale_space.blur(image, 1.5).sum().backward()
    assert image.grad is not None


def test_arc_tangent_for_cuda():
    """CUDA has no OpenCV: the same polynomial in torch."""
    from idsr_cli.features.tensors import fast_atan2

    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 30, (2, 10_000)).astype(np.float32)
    x[:4], y[:4] = (0, 0, 1, -1), (0, 1, 0, 0)
    mine = fast_atan2(torch.from_numpy(y), torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(mine, cv2.phase(x, y, angleInDegrees=True).ravel(), atol=1e-4)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_cuda_agrees_with_the_cpu(pair, spliced):
    k = splice(*(image.cuda() for image in pair))
    assert abs(len(k) - len(spliced)) <= 0.005 * len(spliced)
    assert agreement(k, spliced) >= 0.99
    assert same(splice(*(image.cuda() for image in pair)), k)


def test_two_pyramids_at_once_reuse_their_buffers():
    """Buffers of both pyramids are kept for the next photograph, two at most, and a larger photograph replaces them."""
    small, large = torch.rand(40, 50) * 255, torch.rand(64, 90) * 255
    for image in (small, large, small):
        splice(image, image + 1)
        assert len(scale_space._spare) <= 2
    kept = {buffer.ctypes.data for buffer in scale_space._spare}
    assert kept
    splice(large, large + 1)
    assert {buffer.ctypes.data for buffer in scale_space._spare} == kept
