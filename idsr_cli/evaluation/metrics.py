"""PSNR, SSIM, recovered keypoints and pyramid errors, each defined once.

Images are (H, W, 3) RGB float arrays in [0, 1]. Every function raises ValueError when shapes differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from idsr_cli.keypoints import Keypoints
from idsr_cli.matching import nearest_neighbours, ratio_test
from idsr_cli.scale_space import STACK_SIGMAS, difference_stack, gaussian_stack, luminance

MATCH_RADIUS = 3.0  # pixels
LOWE_RATIO = 0.8
# Limits between bands of keypoint scale (sigma in pixels), half an octave each; SIFT finds little below 0.8.
SCALE_EDGES = tuple(round(0.8 * 2 ** (k / 2), 2) for k in range(1, 9))
MATCHING_RULE = (
    "true = nearest neighbour to the clean image's SIFT, Lowe ratio 0.8, within 3 px, each clean keypoint once; "
    "ratio = without the 3 px; mutual = each other's nearest within 3 px; recall = true/|C|; precision = true/ratio"
)
PSNR_RULE = (
    "over all samples of one picture, then the mean over pictures; rgb: peak 1; y: BT.601 studio luma 16..235 "
    "(MATLAB's rgb2ycbcr), not rounded, peak 255; our pictures are scored unrounded"
)
SSIM_RULE = "Gaussian window 11, sigma 1.5, K 0.01 and 0.03, windows inside the picture only; rgb: mean of the channels"
PYRAMID_RULE = (
    "mean squared error, grey levels 0..255 squared: five Gaussian images of the describing picture, four DoG images "
    "of the detecting one (tables V-VII of the IDSR paper)"
)


def studio_luma(rgb: np.ndarray) -> np.ndarray:
    """BT.601 studio luma in 16..235, not rounded (MATLAB's rgb2ycbcr): (H, W, 3) in [0, 1] -> (H, W) float64."""
    return rgb.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) + 16.0


def psnr(image: np.ndarray, reference: np.ndarray, peak: float) -> float:
    """Peak signal-to-noise ratio in dB over all samples; inf when equal."""
    if image.shape != reference.shape:
        raise ValueError(f"shapes differ: {image.shape} and {reference.shape}")
    error = np.mean((image.astype(np.float64) - reference.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10.0 * np.log10(peak * peak / error))


def ssim(image: np.ndarray, reference: np.ndarray, peak: float) -> float:
    """Mean structural similarity (Wang et al. 2004), channels averaged.

    Gaussian window of 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03. Only windows that lie inside the image count. Images
    under 11 pixels on a side give nan.
    """
    import cv2

    if image.shape != reference.shape:
        raise ValueError(f"shapes differ: {image.shape} and {reference.shape}")
    if min(image.shape[:2]) < 11:
        return float("nan")
    if image.ndim == 3:  # one channel after the other, for a third of the memory
        return float(np.mean([ssim(image[..., c], reference[..., c], peak) for c in range(image.shape[2])]))
    x, y = image.astype(np.float64), reference.astype(np.float64)

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values, (11, 11), 1.5)[5:-5, 5:-5]

    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    score = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return float(score.mean())


@dataclass(frozen=True)
class Recovered:
    """Recovered keypoints of one image. Each clean keypoint counts once, however many points match it.

    Attributes:
        clean: |C|, keypoints of the clean image.
        found: |R|, keypoints of the method.
        ratio: clean keypoints hit by a nearest-neighbour match R -> C that passes Lowe's ratio 0.8.
        true: those of `ratio` where the two points lie within 3 pixels of each other (the main score).
        mutual: mutual nearest neighbours within 3 pixels, no ratio test.
    """

    clean: int
    found: int
    ratio: int
    true: int
    mutual: int

    @property
    def recall(self) -> float:
        return self.true / self.clean if self.clean else float("nan")

    @property
    def precision(self) -> float:
        return self.true / self.ratio if self.ratio else float("nan")


@dataclass(frozen=True)
class Matches:
    """How each of the method's keypoints R matches the clean image's keypoints C; arrays of |R|.

    Attributes:
        nearest: int64, index into C of the nearest descriptor; 0 where C is empty.
        passed: bool, Lowe's ratio test.
        close: bool, the two points lie within 3 pixels.
        mutual: bool, each is the other's nearest.
    """

    nearest: np.ndarray
    passed: np.ndarray
    close: np.ndarray
    mutual: np.ndarray

    @property
    def true(self) -> np.ndarray:
        """Indices into C of the recovered keypoints, each once, ascending."""
        return np.unique(self.nearest[self.passed & self.close])


def is_binary(descriptors: np.ndarray) -> bool:
    """Whether descriptors are strings of bits, as ORB's: bool, or bytes of another number than SIFT's 128."""
    return descriptors.dtype == np.bool_ or (descriptors.dtype == np.uint8 and descriptors.shape[1] != 128)


def distance_rule(descriptors: np.ndarray) -> str:
    """The distance between such descriptors, in words."""
    distance = "Hamming" if is_binary(descriptors) else "L2"
    return f"{descriptors.shape[1]} {descriptors.dtype} by {distance} distance"


def _vectors(descriptors: np.ndarray) -> np.ndarray:
    """Vectors for squared L2 distances: bits become numbers 0 and 1, since their squared distance is Hamming's."""
    if descriptors.dtype == np.bool_:
        return descriptors.astype(np.uint8)
    return np.unpackbits(descriptors, axis=1) if is_binary(descriptors) else descriptors


def match_keypoints(found: Keypoints, clean: Keypoints) -> Matches:
    """Exact nearest neighbours by descriptor, computed in blocks, so that large photographs fit in memory.

    The distance is L2 between vectors as they are, and Hamming's between strings of bits. Lowe's ratio applies to it.
    """
    size = len(found)
    if size == 0 or len(clean) < 2:
        return Matches(np.zeros(size, np.int64), *(np.zeros(size, bool) for _ in range(3)))
    vectors = [_vectors(keypoints.descriptors) for keypoints in (found, clean)]
    (nearest, squared, runner_up), backward = nearest_neighbours(vectors[0], vectors[1], mutual=True)
    assert backward is not None
    # `squared` is Hamming's distance itself, not its square.
    ratio = LOWE_RATIO**0.5 if is_binary(found.descriptors) else LOWE_RATIO
    close = ((found.xy - clean.xy[nearest]) ** 2).sum(1) <= MATCH_RADIUS**2
    passed = ratio_test(squared, runner_up, ratio)
    return Matches(nearest, passed, close, backward[0][nearest] == np.arange(size))


def count_recovered(matches: Matches, clean: int) -> Recovered:
    """The counts of `matches` with `clean` keypoints in the clean image."""

    def distinct(mask: np.ndarray) -> int:
        return len(np.unique(matches.nearest[mask]))

    ratio, mutual = distinct(matches.passed), distinct(matches.mutual & matches.close)
    return Recovered(clean, len(matches.nearest), ratio, len(matches.true), mutual)


def recovered_keypoints(found: Keypoints, clean: Keypoints) -> Recovered:
    """Match the method's keypoints to the clean image's by descriptor and count, as in `Recovered`."""
    return count_recovered(match_keypoints(found, clean), len(clean))


def scale_counts(scale: np.ndarray) -> list[int]:
    """How many keypoints lie in each band of scale; `scale` is sigma in pixels, the bands are `SCALE_EDGES`.

    Keypoints of unknown scale (NaN) are in no band.
    """
    band = np.digitize(scale[~np.isnan(scale)], SCALE_EDGES)
    return np.bincount(band, minlength=len(SCALE_EDGES) + 1).tolist()


def pyramid_errors(image: np.ndarray, reference: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean squared error (grey levels 0..255 squared) of the five Gaussian and the four DoG images (tables V-VII)."""
    if image.shape != reference.shape:
        raise ValueError(f"shapes differ: {image.shape} and {reference.shape}")
    pair = torch.from_numpy(np.stack((image, reference)).astype(np.float32)).permute(0, 3, 1, 2)
    stack = gaussian_stack(luminance(pair), STACK_SIGMAS)
    dog = difference_stack(stack)
    return tuple([float(v) for v in ((s[0] - s[1]) ** 2).mean((-2, -1))] for s in (stack, dog))  # type: ignore[return-value]
