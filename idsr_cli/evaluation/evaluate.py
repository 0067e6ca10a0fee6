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
from idsr_cli.restoration import Restored
from idsr_cli.scale_space import grey_image

RAINY = "rainy"

# (rainy image, roles such as "DG") -> what the network of each role makes of it; (H, W, 3) float32 in [0, 1].
Restore = Callable[[np.ndarray, str], list[Restored]]


@dataclass(frozen=True)
class ScoredNetworks:
    """One set of our weights.

    Attributes:
        restore: runs its networks.
        splices: those that are scored, of "DG", "DD", "GG", "GD".
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
    """

    method: str
    detecting: np.ndarray
    describing: np.ndarray
    keypoints: Keypoints


@dataclass(frozen=True)
class Row:
    """The scores of one method on one pair. The results of our networks are scored unrounded.

    Attributes:
        pair: the rainy file, relative to its folder.
        method: as in `Attempt`.
        recovered: counts.
        psnr_rgb, ssim_rgb, psnr_y, ssim_y: of the detecting image.
        gaussian: squared error of the five Gaussian images of the describing image.
        dog: squared error of the four DoG images of the detecting image.
        clean_by_scale, true_by_scale: |C| and `true` in each band of the clean keypoint's scale.
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


def method_name(prefix: str, splices: str) -> str:
    """Name of one splice of the weights `prefix`, which is "" if there is only one set of weights."""
    return f"{prefix} {splices}".lstrip()


def score(pair: str, attempt: Attempt, reference: Keypoints, clean: np.ndarray) -> Row:
    """All metrics of one method on one pair; `clean` is (H, W, 3) in [0, 1] and `reference` its keypoints."""
    detecting, describing = attempt.detecting, attempt.describing
    y, y_clean = metrics.studio_luma(detecting), metrics.studio_luma(clean)
    gaussian, dog = metrics.pyramid_errors(detecting, clean)
    if describing is not detecting:
        gaussian = metrics.pyramid_errors(describing, clean)[0]
    matches = metrics.match_keypoints(attempt.keypoints, reference)
    return Row(
        pair, attempt.method, metrics.count_recovered(matches, len(reference)),
        metrics.psnr(detecting, clean, 1.0), metrics.ssim(detecting, clean, 1.0),
        metrics.psnr(y, y_clean, 255.0), metrics.ssim(y, y_clean, 255.0),
        gaussian, dog,
        metrics.scale_counts(reference.scale), metrics.scale_counts(reference.scale[matches.true]),
    )  # fmt: skip


def restored_attempts(rainy: np.ndarray, ours: Mapping[str, ScoredNetworks]) -> Iterator[Attempt]:
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
    ours: Mapping[str, ScoredNetworks],
    others: Mapping[str, Path],
) -> Iterator[Attempt]:
    """The results of all methods on a pair: rainy, ours, others.

    Args:
        pair: reads images of other methods, and is named in messages.
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
    ours: Mapping[str, ScoredNetworks],
    others: Mapping[str, Path],
    fingerprint: Fingerprint | None = None,
) -> list[Row]:
    """Rows of one pair, in the order of `attempts`; arguments and errors as there.

    The pixels of the pair are added to `fingerprint` once it is scored.
    """
    rainy, clean = pair.read()
    reference = sift(grey_image(clean))
    rows = [score(pair.name, a, reference, clean) for a in attempts(pair, rainy, ours, others)]
    if fingerprint is not None:
        fingerprint.add(rainy, clean)
    return rows
