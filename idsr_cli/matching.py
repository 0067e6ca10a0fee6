"""Matching two sets of keypoints: nearest descriptors, Lowe's ratio test, and the geometry that the matches follow.

Results are the same in every run and for any number of threads. Descriptors are small integers, so their squared
distances are exact in float32 in any order of summation. Ties go to the lower index, and the geometry estimation is
seeded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from idsr_cli.keypoints import Keypoints

MODELS = ("auto", "homography", "fundamental", "none")
# Fewest matches that determine a model; 7 would do for a fundamental matrix, but with up to three solutions.
FEWEST = {"homography": 4, "fundamental": 8}
# `auto` chooses the homography if it has at least this share of the fundamental matrix's inliers (COLMAP's rule for
# planar scenes and rotating cameras), since a homography constrains points more.
PLANAR = 0.8
CONFIDENCE = 0.9999
MAX_ITERATIONS = 10_000
# A model is no model if its inliers have less spread than this across their main direction, pixels (they lie on a line
# or on a point), or if a homography makes them so many times smaller or larger in some direction: it collapses them.
LEAST_SPREAD = 1.0
MOST_ZOOM = 50.0
# Distances in memory at once, as float32: 64 MiB, and about as much again for intermediate results.
BLOCK = 1 << 24


@dataclass(frozen=True)
class Matches:
    """Pairs of keypoints, ordered by the first index; M rows.

    Attributes:
        index: (M, 2) int64, rows of the first and of the second set.
        distance: (M,) float32, L2 between the descriptors.
    """

    index: np.ndarray
    distance: np.ndarray

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class Geometry:
    """The model that the matches follow.

    Attributes:
        model: "homography", "fundamental" or "none" (no model requested).
        matrix: (3, 3) float64, or None if none was found. A homography takes points of the first image to the second;
            a fundamental matrix F has x2' F x1 = 0. Scaled so that the homography's last element is 1, or F's norm.
        error: (M,) float32, pixels: distance in the second image for a homography, Sampson's distance for F; inf
            without a matrix.
        inliers: (M,) bool, error up to the threshold.
    """

    model: str
    matrix: np.ndarray | None
    error: np.ndarray
    inliers: np.ndarray

    @property
    def fits(self) -> str | None:
        """The model, if one was found."""
        return None if self.matrix is None else self.model


def match_descriptors(
    first: np.ndarray, second: np.ndarray, ratio: float = 0.8, mutual: bool = True,
    device: torch.device | str = "cpu",
) -> Matches:  # fmt: skip
    """For each descriptor in `first` the nearest in `second`, if the pair passes the tests.

    Args:
        first: (N, D) uint8, D up to 128.
        second: (K, D) uint8.
        ratio: Lowe's test: the nearest must be closer than `ratio` times the second nearest; 1 switches it off. It
            passes if there is no second nearest.
        mutual: keep a pair only if each is the other's nearest; the ratio test then holds in both directions, so that
            the order of the two sets does not matter.
        device: a CPU or a CUDA device; for another kind the CPU computes. Memory is bounded: at most 16 million
            distances at once.
    """
    if len(first) == 0 or len(second) == 0:
        return Matches(np.zeros((0, 2), np.int64), np.zeros(0, np.float32))
    wanted = torch.device(device)
    where = wanted if wanted.type == "cuda" else torch.device("cpu")
    (nearest, squared, runner_up), backward = nearest_neighbours(first, second, mutual, where)
    keep = ratio_test(squared, runner_up, ratio)
    if backward is not None:
        back, back_squared, back_runner_up = backward
        keep &= back[nearest] == np.arange(len(first))
        keep &= ratio_test(back_squared, back_runner_up, ratio)[nearest]
    rows = np.flatnonzero(keep)
    return Matches(np.stack([rows, nearest[rows]], 1), np.sqrt(squared[rows]))


def ratio_test(squared: np.ndarray, runner_up: np.ndarray, ratio: float) -> np.ndarray:
    """Lowe's test on squared distances, as booleans; a ratio of 1 or more switches it off."""
    if ratio >= 1:
        return np.ones(len(squared), bool)
    return squared.astype(np.float64) < ratio**2 * runner_up.astype(np.float64)


Nearest = tuple[np.ndarray, np.ndarray, np.ndarray]


def nearest_neighbours(
    first: np.ndarray, second: np.ndarray, mutual: bool, device: torch.device | str = "cpu"
) -> tuple[Nearest, Nearest | None]:
    """For each of `first`: index, squared distance, squared distance of the second nearest; and from `second` back.

    Squared distances of uint8 vectors of length 128 stay below 2^24, and so do all partial sums: float32 is exact.
    Vectors of other types are computed in float64.
    """
    exact = first.dtype == second.dtype == np.uint8
    a, b = (torch.from_numpy(np.ascontiguousarray(x, np.float32 if exact else np.float64)) for x in (first, second))
    a, b = a.to(device), b.to(device)
    a_norm, b_norm = (a * a).sum(1), (b * b).sum(1)
    rows = max(1, min(len(a), BLOCK // len(b)))
    buffer = torch.empty(rows, len(b), device=device, dtype=a.dtype)
    where = torch.empty(len(a), dtype=torch.long, device=device)
    best, runner_up = (torch.empty(len(a), device=device, dtype=a.dtype) for _ in range(2))
    # The same in the other direction, over the blocks so far.
    back_where = torch.zeros(len(b), dtype=torch.long, device=device)
    back_best, back_runner_up = (torch.full((len(b),), torch.inf, device=device, dtype=a.dtype) for _ in range(2))
    with torch.inference_mode():
        for start in range(0, len(a), rows):
            part = slice(start, min(start + rows, len(a)))
            block = torch.addmm(b_norm[None], a[part], b.T, alpha=-2.0, out=buffer[: part.stop - start])
            block += a_norm[part, None]
            where[part], best[part], runner_up[part] = _two_smallest(block, 1)
            if mutual:
                # `_two_smallest` has overwritten the smallest of each row: put them back.
                block.scatter_(1, where[part, None], best[part, None])
                index, value, other = _two_smallest(block, 0)
                back_runner_up = torch.minimum(torch.maximum(back_best, value), torch.minimum(back_runner_up, other))
                # Ties go to the lower index, which came in an earlier block.
                back_where = torch.where(back_best <= value, back_where, index + start)
                back_best = torch.minimum(back_best, value)
    forward = (where.cpu().numpy(), best.cpu().numpy(), runner_up.cpu().numpy())
    if not mutual:
        return forward, None
    return forward, (back_where.cpu().numpy(), back_best.cpu().numpy(), back_runner_up.cpu().numpy())


def _two_smallest(block: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Index and value of the smallest along `dim`, and the second smallest value; overwrites the smallest with inf."""
    index = block.argmin(dim, keepdim=True)  # the first if several are equal
    value = block.gather(dim, index)
    block.scatter_(dim, index, torch.inf)
    return index.squeeze(dim), value.squeeze(dim), block.amin(dim)


def estimate(first: np.ndarray, second: np.ndarray, model: str = "auto", threshold: float = 3.0) -> Geometry:
    """The homography or fundamental matrix that most pairs of points follow (MAGSAC of OpenCV's USAC, seeded).

    Args:
        first: (M, 2) pixels in the first image.
        second: (M, 2) the points they were matched to.
        model: one of MODELS; "auto" chooses between homography and fundamental matrix.
        threshold: largest error of an inlier, pixels, above 0.

    Returns:
        The geometry; its matrix is None if there are too few matches, or if those that follow it lie on one line or
        point, are fewer than determine it without the doubled ones, or are collapsed by it.
    """
    if model == "auto":
        plane, space = (estimate(first, second, kind, threshold) for kind in ("homography", "fundamental"))
        planar = plane.inliers.sum() >= PLANAR * space.inliers.sum()
        return plane if planar and plane.matrix is not None else space
    points = [np.ascontiguousarray(x, np.float64).reshape(-1, 2) for x in (first, second)]
    matrix = _matrix(points[0], points[1], model, threshold)
    if matrix is not None and not _is_sound(matrix, points[0], points[1], model, threshold):
        # Doubled points may have outvoted the rest: try once with each pair of points counted once.
        once = np.unique(np.hstack(points), axis=0)
        matrix = _matrix(once[:, :2].copy(), once[:, 2:].copy(), model, threshold)
        if matrix is not None and not _is_sound(matrix, points[0], points[1], model, threshold):
            matrix = None
    error = np.full(len(points[0]), np.inf)
    if matrix is not None:
        error = _errors(matrix, points[0], points[1], model)
    return Geometry(model, matrix, error.astype(np.float32), error <= threshold)


def _errors(matrix: np.ndarray, first: np.ndarray, second: np.ndarray, model: str) -> np.ndarray:
    return (transfer_error if model == "homography" else _sampson_error)(matrix, first, second)


def _is_sound(matrix: np.ndarray, first: np.ndarray, second: np.ndarray, model: str, threshold: float) -> bool:
    """False if the inliers are too few without doubled ones, have no extent in a photograph, or are collapsed."""
    inliers = _errors(matrix, first, second, model) <= threshold
    for points in (first[inliers], second[inliers]):
        distinct = np.unique(np.rint(points / LEAST_SPREAD), axis=0)
        # The fewest points are always followed exactly: doubled, they would look like many that agree.
        doubled = len(distinct) < len(points)
        if len(distinct) < FEWEST[model] + doubled or _spread(points) < LEAST_SPREAD:
            return False
    if model == "fundamental":  # of rank 1 or less, it says next to nothing of where a point may be
        values = np.linalg.svd(_conditioned(matrix, first[inliers], second[inliers]), compute_uv=False)
        return bool(values[1] > 1e-6 * values[0])
    return _zoom(matrix, first[inliers]) <= MOST_ZOOM


def _spread(points: np.ndarray) -> float:
    """Standard deviation of (N, 2) points across the line that fits them best, pixels."""
    return float(np.linalg.svd(points - points.mean(0), compute_uv=False)[-1] / np.sqrt(len(points)))


def _conditioned(fundamental: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The fundamental matrix for points of mean 0 and deviation 1, where its numbers are comparable."""
    sides = []
    for points in (first, second):
        scale, centre = max(float(points.std()), 1e-9), points.mean(0)
        sides.append(np.array([[scale, 0, centre[0]], [0, scale, centre[1]], [0, 0, 1]]))
    return np.asarray(sides[1].T @ fundamental @ sides[0])


def _zoom(homography: np.ndarray, points: np.ndarray) -> float:
    """The factor by which the homography makes things at the points smaller or larger, in the worst direction; median.

    Always at least 1. A homography that collapses the picture to a line or a point has a huge one.
    """
    moved = _homogeneous(points) @ homography.T
    weight = moved[:, 2, None, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        outer = moved[:, :2, None] * homography[None, None, 2, :2]
        jacobian = homography[None, :2, :2] / weight - outer / weight**2
    jacobian = jacobian[np.isfinite(jacobian).all((1, 2))]
    if not len(jacobian):
        return float("inf")
    values = np.linalg.svd(jacobian, compute_uv=False)
    return float(np.median(np.maximum(values[:, 0], 1 / np.maximum(values[:, 1], 1e-300))))


def _matrix(first: np.ndarray, second: np.ndarray, model: str, threshold: float) -> np.ndarray | None:
    import cv2

    if model == "none" or len(first) < FEWEST[model]:
        return None
    try:
        # USAC's random numbers start from the same seed in every call, and it runs in one thread.
        if model == "homography":
            matrix, _ = cv2.findHomography(first, second, cv2.USAC_MAGSAC, threshold, None, MAX_ITERATIONS, CONFIDENCE)
        else:
            matrix, _ = cv2.findFundamentalMat(first, second, cv2.USAC_MAGSAC, threshold, CONFIDENCE, MAX_ITERATIONS)
    except cv2.error:  # an assertion about degenerate points
        return None
    if matrix is None or matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        return None
    scale = matrix[2, 2] if model == "homography" and matrix[2, 2] else np.linalg.norm(matrix)
    return matrix / scale if scale else None


def _homogeneous(points: np.ndarray) -> np.ndarray:
    return np.column_stack([points, np.ones(len(points))])


def transfer_error(homography: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Distance in the second image, pixels, (M,); inf for points that the homography puts behind the camera."""
    moved = _homogeneous(first) @ homography.T
    sign = np.sign(np.median(moved[:, 2])) if len(moved) else 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.hypot(*(moved[:, :2] / moved[:, 2:] - second).T)
    return np.where(np.isfinite(error) & (np.sign(moved[:, 2]) == sign), error, np.inf)


def _sampson_error(fundamental: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """First-order distance of the pair to the nearest pair that fits exactly (Hartley and Zisserman, 11.4.3)."""
    x, y = _homogeneous(first), _homogeneous(second)
    lines, back = x @ fundamental.T, y @ fundamental
    algebraic = (y * lines).sum(1)
    slope = np.sqrt((lines[:, :2] ** 2).sum(1) + (back[:, :2] ** 2).sum(1))
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.abs(algebraic) / slope
    return np.where(np.isfinite(error), error, np.inf)


def strongest(keypoints: Keypoints, count: int | None) -> Keypoints:
    """The `count` keypoints of largest response, in their order; all if None."""
    if count is None or len(keypoints) <= count:
        return keypoints
    rows = np.argsort(-keypoints.response, kind="stable")[:count]
    return keypoints.select(np.sort(rows))
