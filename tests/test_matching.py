"""Matching against a slow reference, and geometry against known scenes."""

import numpy as np
import pytest
import torch

from idsr_cli import matching
from idsr_cli.keypoints import Keypoints
from idsr_cli.matching import estimate, match_descriptors, strongest


def descriptors(count: int, seed: int, high: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, (count, 128)).astype(np.uint8)


def reference(a: np.ndarray, b: np.ndarray, ratio: float, mutual: bool) -> list[tuple[int, int, float]]:
    """One pair at a time, in exact integers."""
    squared = ((a[:, None].astype(np.int64) - b[None].astype(np.int64)) ** 2).sum(2)

    def passes(row: np.ndarray) -> bool:
        first, *second = sorted(row.tolist())[:2]
        return ratio >= 1 or not second or first < ratio**2 * second[0]

    found = []
    for i, row in enumerate(squared):
        j = int(row.argmin())  # the first of equals
        back = squared[:, j]
        if passes(row) and (not mutual or (int(back.argmin()) == i and passes(back))):
            found.append((i, j, float(np.sqrt(row[j]))))
    return found


@pytest.mark.parametrize("mutual", [True, False])
@pytest.mark.parametrize("ratio", [0.8, 0.97, 1.0])
@pytest.mark.parametrize("block", [1, 700, 1 << 24])
def test_same_as_brute_force(monkeypatch, mutual, ratio, block) -> None:
    monkeypatch.setattr(matching, "BLOCK", block)
    a, b = descriptors(90, 1), descriptors(70, 2)
    b[:40] = np.clip(a[30:70].astype(int) + np.random.default_rng(3).integers(-30, 30, (40, 128)), 0, 255)
    found = match_descriptors(a, b, ratio, mutual)
    expected = reference(a, b, ratio, mutual)
    assert len(found) >= 40
    assert [tuple(row) for row in found.index.tolist()] == [(i, j) for i, j, _ in expected]
    np.testing.assert_allclose(found.distance, [d for *_, d in expected], rtol=1e-6)


@pytest.mark.parametrize("mutual", [True, False])
@pytest.mark.parametrize("block", [1, 50, 1 << 24])
def test_ties_go_to_the_lower_index(monkeypatch, mutual, block) -> None:
    monkeypatch.setattr(matching, "BLOCK", block)
    a, b = descriptors(60, 4, high=2), descriptors(50, 5, high=2)
    a[:, 6:] = b[:, 6:] = 0  # 64 different descriptors: equal distances everywhere
    found = match_descriptors(a, b, 1.0, mutual)
    assert found.index.tolist() == [[i, j] for i, j, _ in reference(a, b, 1.0, mutual)]
    assert len(match_descriptors(a, b, 0.8, mutual)) == len(reference(a, b, 0.8, mutual))


def test_largest_distances_are_exact() -> None:
    a, b = np.full((1, 128), 255, np.uint8), np.zeros((2, 128), np.uint8)
    b[0, 0] = 1  # squares of 8323200 - 255^2 + 254^2 and 8323200
    found = match_descriptors(a, b, 1.0, False)
    assert found.index.tolist() == [[0, 0]]
    assert round(float(found.distance[0]) ** 2) == 127 * 255**2 + 254**2


def test_order_of_the_two_sets_does_not_matter_if_mutual() -> None:
    a, b = descriptors(80, 6), descriptors(90, 7)
    b[:50] = np.clip(a[:50].astype(int) + np.random.default_rng(8).integers(-70, 70, (50, 128)), 0, 255)
    there, back = match_descriptors(a, b, 0.9), match_descriptors(b, a, 0.9)
    assert {tuple(row) for row in there.index.tolist()} == {(i, j) for j, i in back.index.tolist()}
    assert len(there) >= 40


@pytest.mark.parametrize(("first", "second", "count"), [(0, 5, 0), (5, 0, 0), (0, 0, 0), (1, 1, 1)])
def test_small_sets(first, second, count) -> None:
    found = match_descriptors(descriptors(first, 1), descriptors(second, 2))
    assert (len(found), found.index.shape, found.distance.dtype) == (count, (count, 2), np.float32)


def test_identical_sets_match_themselves() -> None:
    a = descriptors(50, 9)
    found = match_descriptors(a, a)
    assert found.index.tolist() == [[i, i] for i in range(50)]
    assert not found.distance.any()


def test_memory_is_bounded(monkeypatch) -> None:
    largest = 0
    real = matching._two_smallest

    def watched(block: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        nonlocal largest
        largest = max(largest, block.numel())
        return real(block, dim)

    monkeypatch.setattr(matching, "BLOCK", 10_000)
    monkeypatch.setattr(matching, "_two_smallest", watched)
    match_descriptors(descriptors(500, 1), descriptors(300, 2))
    assert 9_000 < largest <= 10_000


def test_any_number_of_threads_gives_the_same() -> None:
    a, b = descriptors(400, 10), descriptors(500, 11)
    first, second, _ = scene(outliers=60)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found = match_descriptors(a, b, 0.99)
            models = [estimate(first, second, model) for model in ("homography", "fundamental")]
            results.append((found.index.tobytes(), found.distance.tobytes(),
                            *(g.matrix.tobytes() for g in models), *(g.error.tobytes() for g in models)))  # fmt: skip
    finally:
        torch.set_num_threads(before)
    assert results[0] == results[1] == results[2]


@pytest.mark.cuda
def test_cuda_gives_the_same() -> None:
    a, b = descriptors(3000, 12), descriptors(2500, 13)
    b[:1000] = np.clip(a[:1000].astype(int) + np.random.default_rng(1).integers(-40, 40, (1000, 128)), 0, 255)
    here, there = match_descriptors(a, b), match_descriptors(a, b, device="cuda")
    np.testing.assert_array_equal(here.index, there.index)
    np.testing.assert_array_equal(here.distance, there.distance)


# --- geometry --------------------------------------------------------------------------------------------------------

HOMOGRAPHY = np.array([[0.9, 0.12, 25.0], [-0.06, 1.05, 12.0], [1.2e-4, -6e-5, 1.0]])


def scene(outliers: int = 0, noise: float = 0.4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points of a plane in two photographs of 640x480, and where the second ones are without noise."""
    rng = np.random.default_rng(20)
    first = rng.uniform((0, 0), (640, 480), (200, 2))
    moved = np.column_stack([first, np.ones(200)]) @ HOMOGRAPHY.T
    true = moved[:, :2] / moved[:, 2:]
    second = true + rng.normal(0, noise, true.shape)
    if outliers:
        second[-outliers:] = rng.uniform((0, 0), (640, 480), (outliers, 2))
    return first.astype(np.float32), second.astype(np.float32), true


def room(outliers: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points in depth, seen by two cameras that are turned and moved."""
    rng = np.random.default_rng(21)
    points = rng.uniform((-3, -2, 4), (3, 2, 12), (300, 3))
    camera = np.array([[600, 0, 320], [0, 600, 240], [0, 0, 1.0]])
    angle = 0.15
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    views = []
    for where in (points, points @ turn.T + (0.8, 0.1, 0.2)):
        seen = where @ camera.T
        views.append(seen[:, :2] / seen[:, 2:] + rng.normal(0, 0.3, (300, 2)))
    if outliers:
        views[1][-outliers:] = rng.uniform((0, 0), (640, 480), (outliers, 2))
    return views[0], views[1]


@pytest.mark.parametrize("outliers", [0, 60, 120])
def test_a_known_homography_is_found(outliers) -> None:
    first, second, true = scene(outliers)
    found = estimate(first, second, "homography", 3.0)
    assert found.matrix is not None
    assert found.matrix[2, 2] == 1
    moved = np.column_stack([first, np.ones(200)]) @ found.matrix.T
    assert np.median(np.hypot(*(moved[:, :2] / moved[:, 2:] - true).T)) < 0.3
    assert found.inliers[: 200 - outliers].all()
    assert found.inliers[200 - outliers :].sum() < 6
    np.testing.assert_array_equal(found.inliers, found.error <= 3.0)
    np.testing.assert_allclose(found.error, np.hypot(*(moved[:, :2] / moved[:, 2:] - second).T), atol=1e-3)


@pytest.mark.parametrize("outliers", [0, 100])
def test_a_known_fundamental_matrix_is_found(outliers) -> None:
    first, second = room(outliers)
    found = estimate(first, second, "fundamental", 2.0)
    assert found.matrix is not None
    assert np.linalg.norm(found.matrix) == pytest.approx(1)
    assert abs(np.linalg.det(found.matrix)) < 1e-9
    assert found.inliers[: 300 - outliers].mean() > 0.97
    assert found.inliers[300 - outliers :].sum() <= 0.06 * outliers


def test_sampson_error_is_the_distance_to_the_nearest_pair_that_fits() -> None:
    """For two parallel cameras y' = y: moving the second point down by d puts the pair d / sqrt(2) away."""
    fundamental = np.array([[0, 0, 0], [0, 0, -1.0], [0, 1, 0]])
    first = np.array([[10.0, 20.0], [300.0, 50.0], [5.0, 5.0]])
    error = matching._sampson_error(fundamental, first, first + np.array([[30, 0], [30, 1], [30, -4]]))
    np.testing.assert_allclose(error, [0, 1 / np.sqrt(2), 4 / np.sqrt(2)])


def test_auto_tells_planes_from_depth() -> None:
    assert estimate(*scene(60)[:2]).model == "homography"
    assert estimate(*room(60)).model == "fundamental"


def test_points_behind_the_camera_are_no_inliers() -> None:
    homography = np.array([[1, 0, 0], [0, 1, 0], [-0.01, 0, 1.0]])
    first = np.array([[10.0, 0], [50.0, 0], [90.0, 0], [150.0, 0], [100.0, 0]])
    moved = np.column_stack([first, np.ones(5)]) @ homography.T
    with np.errstate(divide="ignore", invalid="ignore"):
        second = np.nan_to_num(moved[:, :2] / moved[:, 2:])
    error = matching.transfer_error(homography, first, second)
    assert error[:3].max() < 1e-9
    assert np.isinf(error[3:]).all()


@pytest.mark.parametrize("model", ["auto", "homography", "fundamental"])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 7, 8])
@pytest.mark.parametrize("kind", ["same point", "line", "same twice"])
def test_degenerate_sets(model, count, kind) -> None:
    rng = np.random.default_rng(1)
    points = {
        "same point": np.full((count, 2), 7.0),
        "line": np.repeat(np.arange(count, dtype=float)[:, None], 2, 1),
        "same twice": rng.uniform(0, 100, (count, 2)),
    }[kind].astype(np.float32)
    found = estimate(points, points, model)
    assert found.error.shape == found.inliers.shape == (count,)
    enough = kind == "same twice" and count >= 4 and model != "fundamental"
    if enough:
        np.testing.assert_allclose(found.matrix, np.eye(3), atol=1e-6)
        assert found.inliers.all()
    elif model == "homography" or count < 8:
        assert found.matrix is None
        assert not found.inliers.any()


def test_no_model() -> None:
    first, second, _ = scene()
    found = estimate(first, second, "none")
    assert (found.model, found.matrix, found.inliers.any()) == ("none", None, False)


def test_strongest() -> None:
    one = Keypoints.empty((9, 9))
    response = np.array([0.1, 0.5, 0.3, 0.5], np.float32)
    four = one.select(np.zeros(0, int))
    rows = {name: np.zeros((4, *getattr(four, name).shape[1:]), getattr(four, name).dtype)
            for name in ("xy", "scale", "angle", "octave", "layer", "descriptors")}  # fmt: skip
    four = Keypoints(response=response, image_size=(9, 9), **rows)
    assert strongest(four, 2).response.tolist() == [0.5, 0.5]
    assert strongest(four, 3).response.tolist() == pytest.approx([0.5, 0.3, 0.5])  # in their own order
    assert strongest(four, 9) is four is strongest(four, None)


@pytest.mark.parametrize("model", ["auto", "homography", "fundamental"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_doubled_points_are_no_model(model, count) -> None:
    """A homography follows any four points, however often each comes (SIFT gives one point several orientations)."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        places = rng.uniform(0, 600, (2, count, 2))
        rows = rng.integers(0, count, 16)
        jitter = rng.uniform(-0.01, 0.01, (2, 16, 2))
        found = estimate(*np.rint(places[:, rows]) + jitter, model)
        assert found.matrix is None
        assert not found.inliers.any()


@pytest.mark.parametrize("model", ["homography", "fundamental"])
@pytest.mark.parametrize("targets", ["point", "line", "few"])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_model_that_collapses_the_picture_is_none(model, targets, swapped) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        first = rng.uniform(0, 600, (40, 2))
        along = rng.uniform(0, 600, (40, 1))
        second = {
            "point": np.array([300.0, 200.0]) + rng.uniform(-1, 1, (40, 2)),
            "line": np.hstack([along, 0.5 * along + 20]) + rng.uniform(-0.5, 0.5, (40, 2)),
            "few": rng.uniform(0, 600, (3, 2))[rng.integers(0, 3, 40)],
        }[targets]
        found = estimate(second, first, model) if swapped else estimate(first, second, model)
        if model == "homography" or targets != "line":
            assert found.matrix is None or found.inliers.sum() < 8, (seed, found.inliers.sum(), found.matrix)


def test_doubled_points_do_not_hide_a_true_model() -> None:
    first, second, _ = scene()
    often = np.r_[np.arange(200), np.repeat(3, 60), np.repeat(4, 60)]
    found = estimate(first[often], second[often], "homography")
    assert found.inliers.sum() > 300
    assert matching._zoom(found.matrix, first) < 2
