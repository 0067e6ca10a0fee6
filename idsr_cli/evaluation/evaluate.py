"""Scoring methods on rainy/clean pairs: our networks' splices, the rainy image itself, and other methods' images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from idsr_cli.errors import PairingError
from idsr_cli.evaluation import metrics
from idsr_cli.evaluation.provenance import Fingerprint
from idsr_cli.extraction import extract
from idsr_cli.features import SiftOptions, sift
from idsr_cli.images.pairs import Pair
from idsr_cli.keypoints import Keypoints
from idsr_cli.rain_estimate import removed_per_pixel
from idsr_cli.restoration import Restored
from idsr_cli.scale_space import STACK_SIGMAS, grey_image

RAINY = "rainy"

# (rainy image, roles, of "D" and "G") -> the result of each role's network; images are (H, W, 3) float32 in [0, 1].
Restore = Callable[[np.ndarray, str], list[Restored]]


@dataclass(frozen=True)
class ScoredWeights:
    """One set of our weights, and what of it is scored.

    Attributes:
        restore: runs its networks.
        splices: the splices to score, of "DG", "DD", "GG", "GD".
    """

    restore: Restore
    splices: Sequence[str]


@dataclass(frozen=True)
class Attempt:
    """The result of one method on a rainy image.

    Attributes:
        method: "rainy", a splice ("DG"; with several weights "NAME DG") or another method's name.
        detecting, describing: the images in which keypoints are found and described, (H, W, 3) in [0, 1]; the same
            object unless two networks are spliced.
        keypoints: found in `detecting`, described in `describing`.
        reference: keypoints of the clean image to compare with; None = its SIFT with default settings.
        compared_with: name of that reference, "" = the same SIFT as for all methods that give images.
        has_image: False for keypoints from a file: then the images are the rainy one, for pictures only.
    """

    method: str
    detecting: np.ndarray
    describing: np.ndarray
    keypoints: Keypoints
    reference: Keypoints | None = None
    compared_with: str = ""
    has_image: bool = True


@dataclass(frozen=True)
class Row:
    """The scores of one method on one pair. The results of our networks are scored unrounded.

    Attributes:
        pair: the rainy file, relative to its folder.
        method: as in `Attempt`.
        recovered: counts.
        psnr_rgb, ssim_rgb, psnr_y, ssim_y: of the detecting image; NaN for keypoints from a file.
        gaussian: squared error of the five Gaussian images of the describing image; NaN likewise.
        dog: squared error of the four DoG images of the detecting image; NaN likewise.
        clean_by_scale, true_by_scale: |C| and `true` in each band of the clean keypoint's scale.
        compared_with: as in `Attempt`.
        must_stay: the rainy image is the clean one, bit for bit, so nothing should be removed.
        removed: mean over the pixels of the largest change of a channel from the rainy image, grey levels 0..255; of
            two spliced images the larger change. NaN for keypoints from a file.
        changed: share of pixels that are changed at all, 0..1; NaN likewise.
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
    clean_by_scale: list[int]
    true_by_scale: list[int]
    compared_with: str = ""
    must_stay: bool = False
    removed: float = float("nan")
    changed: float = float("nan")


# (pair, rainy image, clean image, SIFT of the clean image) -> the result of a method whose keypoints are in files.
FromFiles = Callable[[Pair, np.ndarray, np.ndarray, Keypoints], Attempt]


def method_name(prefix: str, splices: str) -> str:
    """The method's name of a splice of the weights `prefix`, which is "" if there is only one set of weights."""
    return f"{prefix} {splices}".lstrip()


def score(pair: str, attempt: Attempt, reference: Keypoints, rainy: np.ndarray, clean: np.ndarray) -> Row:
    """All metrics of one method on one pair.

    Args:
        pair: its name.
        attempt: the method's result.
        reference: SIFT keypoints of the clean image.
        rainy: the image, (H, W, 3) float32 in [0, 1].
        clean: its clean version.
    """
    compared = reference if attempt.reference is None else attempt.reference
    matches = metrics.match_keypoints(attempt.keypoints, compared)
    return Row(
        pair, attempt.method, metrics.count_recovered(matches, len(compared)), *_image_scores(attempt, clean),
        metrics.scale_counts(compared.scale), metrics.scale_counts(compared.scale[matches.true]),
        attempt.compared_with, np.array_equal(rainy, clean), *_change(attempt, rainy),
    )  # fmt: skip


def _change(attempt: Attempt, rainy: np.ndarray) -> tuple[float, float]:
    """`Row.removed` and `Row.changed`."""
    if not attempt.has_image:
        return float("nan"), float("nan")
    change = removed_per_pixel(rainy, attempt.detecting)
    if attempt.describing is not attempt.detecting:
        change = np.maximum(change, removed_per_pixel(rainy, attempt.describing))
    return 255.0 * float(change.mean(dtype=np.float64)), float((change > 0).mean())


def _image_scores(attempt: Attempt, clean: np.ndarray) -> tuple[float, float, float, float, list[float], list[float]]:
    """PSNR and SSIM on RGB and on Y, squared errors of the Gaussian and of the DoG images."""
    if not attempt.has_image:
        nan = float("nan")
        return nan, nan, nan, nan, [nan] * len(STACK_SIGMAS), [nan] * (len(STACK_SIGMAS) - 1)
    detecting, describing = attempt.detecting, attempt.describing
    y, y_clean = metrics.studio_luma(detecting), metrics.studio_luma(clean)
    gaussian, dog = metrics.pyramid_errors(detecting, clean)
    if describing is not detecting:
        gaussian = metrics.pyramid_errors(describing, clean)[0]
    return (
        metrics.psnr(detecting, clean, 1.0), metrics.ssim(detecting, clean, 1.0),
        metrics.psnr(y, y_clean, 255.0), metrics.ssim(y, y_clean, 255.0), gaussian, dog,
    )  # fmt: skip


def restored_attempts(rainy: np.ndarray, ours: Mapping[str, ScoredWeights]) -> Iterator[Attempt]:
    """Each splice of each set of weights; every network runs once."""
    for prefix, weights in ours.items():
        roles = "".join(dict.fromkeys("".join(weights.splices)))
        views = dict(zip(roles, weights.restore(rainy, roles), strict=True)) if roles else {}
        for name in weights.splices:
            detect, describe = views[name[0]], views[name[1]]
            found = extract([detect, describe], SiftOptions())
            yield Attempt(method_name(prefix, name), detect.rgb, describe.rgb, found)


def plain_attempt(method: str, image: np.ndarray) -> Attempt:
    """Plain SIFT of an image as it is."""
    return Attempt(method, image, image, sift(grey_image(image)))


def attempts(
    pair: Pair,
    rainy: np.ndarray,
    ours: Mapping[str, ScoredWeights],
    others: Mapping[str, Path],
) -> Iterator[Attempt]:
    """The results of all methods on a pair: rainy, ours, others.

    Args:
        pair: the pair; images of other methods are read as its rainy image is.
        rainy: its rainy image.
        ours: name of the weights, or "" -> its networks and splices.
        others: method -> file of its image of this pair.

    Raises:
        PairingError: a method's image has another size.
        ItemError: an image cannot be read.
    """
    yield plain_attempt(RAINY, rainy)
    yield from restored_attempts(rainy, ours)
    for name, path in others.items():
        image = pair.read_version(path, rainy.shape)
        if image.shape != rainy.shape:
            raise PairingError(f"differs in size from {pair.clean}", path=path)
        yield plain_attempt(name, image)


def evaluate_pair(
    pair: Pair,
    ours: Mapping[str, ScoredWeights],
    others: Mapping[str, Path],
    fingerprint: Fingerprint | None = None,
    files: Sequence[FromFiles] = (),
) -> list[Row]:
    """Rows of one pair, in the order of `attempts`, with the same arguments and errors; then those of `files`.

    The pixels of the pair are added to `fingerprint` after it is scored.
    """
    rainy, clean = pair.read()
    reference = sift(grey_image(clean))
    rows = [score(pair.name, a, reference, rainy, clean) for a in attempts(pair, rainy, ours, others)]
    rows += [score(pair.name, read(pair, rainy, clean, reference), reference, rainy, clean) for read in files]
    if fingerprint is not None:
        fingerprint.add(rainy, clean)
    return rows
