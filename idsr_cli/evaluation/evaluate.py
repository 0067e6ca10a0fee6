"""Scoring methods on rainy/clean pairs: our networks' splices, the rainy image itself, and other methods' images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from idsr_cli.errors import PairingError
from idsr_cli.evaluation import metrics
from idsr_cli.files.image import read_photo
from idsr_cli.files.pairs import Pair
from idsr_cli.keypoints import Keypoints
from idsr_cli.scale_space import grey_image
from idsr_cli.sift import sift, splice

RAINY = "rainy"
MATCHING_RULE = (
    "true = nearest neighbour to the clean image's SIFT, Lowe ratio 0.8, within 3 px, each clean keypoint once; "
    "ratio = without the 3 px; mutual = mutual nearest neighbours within 3 px"
)
SIFT_SETTINGS = "OpenCV's defaults (3 layers, contrast 0.04, edge 10, sigma 1.6), precise upscale, unrounded luminance"


@dataclass(frozen=True)
class Row:
    """One method on one pair. Images are scored as they are handed on: unrounded for our networks.

    Attributes:
        pair: name of the rainy file.
        method: "rainy", a splice ("DG", ...) or another method's name.
        recovered: counts.
        psnr_rgb, ssim_rgb, psnr_y, ssim_y: of the image (y_D for a splice that detects with D, else y_G).
        gaussian: squared error of the five Gaussian images of the describing image.
        dog: squared error of the four DoG images of the detecting image.
    """

    pair: str
    method: str
    recovered: metrics.Recovered
    psnr_rgb: float
    ssim_rgb: float
    psnr_y: float
    ssim_y: float
    gaussian: list[float]
    dog: list[float]


def score(pair: str, method: str, keypoints: Keypoints, clean_keypoints: Keypoints, detecting: np.ndarray,
          describing: np.ndarray, clean: np.ndarray) -> Row:  # fmt: skip
    """All metrics of one method on one pair; images are (H, W, 3) in [0, 1]."""
    y, y_clean = metrics.studio_luma(detecting), metrics.studio_luma(clean)
    gaussian, dog = metrics.pyramid_errors(detecting, clean)
    if describing is not detecting:
        gaussian = metrics.pyramid_errors(describing, clean)[0]
    return Row(
        pair, method, metrics.recovered_keypoints(keypoints, clean_keypoints),
        metrics.psnr(detecting, clean, 1.0), metrics.ssim(detecting, clean, 1.0),
        metrics.psnr(y, y_clean, 255.0), metrics.ssim(y, y_clean, 255.0),
        gaussian, dog,
    )  # fmt: skip


def evaluate_pair(
    pair: Pair,
    restore: Callable[[np.ndarray, str], list[np.ndarray]],
    splices: Sequence[str],
    others: dict[str, Path],
) -> Iterator[Row]:
    """Rows of one pair: rainy, the given splices, other methods' images.

    Args:
        pair: what to read.
        restore: (rainy, letters) -> the image of each letter's network; unused without splices.
        splices: "DG", "DD", "GG".
        others: method name -> its image of this pair.

    Raises:
        PairingError: a method's image has another size.
        ItemError: an image cannot be read.
    """
    rainy, clean = pair.read()
    reference = sift(grey_image(clean))
    yield score(pair.name, RAINY, sift(grey_image(rainy)), reference, rainy, rainy, clean)
    letters = "".join(dict.fromkeys("".join(splices)))
    images = dict(zip(letters, restore(rainy, letters), strict=True)) if letters else {}
    for name in splices:
        detect, describe = (images[letter] for letter in name)
        a = grey_image(detect)
        found = splice(a, a if name[0] == name[1] else grey_image(describe))
        yield score(pair.name, name, found, reference, detect, describe, clean)
    for name, path in others.items():
        image = read_photo(path).rgb
        if image.shape != clean.shape:
            raise PairingError(f"differs in size from {pair.clean}", path=path)
        yield score(pair.name, name, sift(grey_image(image)), reference, image, image, clean)


@dataclass(frozen=True)
class Summary:
    """One method over all pairs; means unless said otherwise.

    Attributes:
        lost: share of pairs with fewer `true` keypoints than the rainy image, 0..1.
        worst: mean gain in `true` over the rainy image on the worst 5 % of pairs (at least one pair).
    """

    method: str
    pairs: int
    true: float
    true_median: float
    ratio: float
    mutual: float
    recall: float
    precision: float
    clean: float
    found: float
    psnr_rgb: float
    ssim_rgb: float
    psnr_y: float
    ssim_y: float
    lost: float
    worst: float
    gaussian: list[float]
    dog: list[float]


def summarise(rows: Sequence[Row]) -> list[Summary]:
    """One summary a method, in order of appearance."""
    base = {row.pair: row.recovered.true for row in rows if row.method == RAINY}
    summaries = []
    for method in dict.fromkeys(row.method for row in rows):
        mine = [row for row in rows if row.method == method]
        gain = np.array([row.recovered.true - base[row.pair] for row in mine])
        worst = np.sort(gain)[: max(1, round(0.05 * len(gain)))]

        def mean(values: list[float]) -> float:
            finite = [value for value in values if np.isfinite(value)]
            return float(np.mean(finite)) if finite else float("nan")

        counts = {
            name: mean([float(getattr(row.recovered, name)) for row in mine])
            for name in ("true", "ratio", "mutual", "recall", "precision", "clean", "found")
        }
        images = {
            name: mean([getattr(row, name) for row in mine]) for name in ("psnr_rgb", "ssim_rgb", "psnr_y", "ssim_y")
        }
        summaries.append(
            Summary(
                method=method,
                pairs=len(mine),
                true_median=float(np.median([row.recovered.true for row in mine])),
                lost=float((gain < 0).mean()),
                worst=float(worst.mean()),
                gaussian=np.mean([row.gaussian for row in mine], 0).tolist(),
                dog=np.mean([row.dog for row in mine], 0).tolist(),
                **counts,
                **images,
            )
        )
    return summaries
