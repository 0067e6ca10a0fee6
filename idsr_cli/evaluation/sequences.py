"""Matching with known geometry: image sequences of plane scenes, each with the homographies from its first image.

The layout is Oxford's (Mikolajczyk and Schmid): `img1` .. `imgN` beside `H1to2p` .. `H1toNp`; HPatches' `H_1_N` beside
`1.ppm` .. `N.ppm` is read as well. As in section IV-F of the IDSR paper, one image of each pair gets rain (here image
N) and matches are counted. In addition the known homography tells which matches are right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from idsr_cli.errors import PairingError
from idsr_cli.evaluation.bootstrap import Bootstrap, Interval
from idsr_cli.evaluation.evaluate import RAINY, Attempt, ScoredWeights, plain_attempt, restored_attempts
from idsr_cli.images.folders import natural_key, search_folder
from idsr_cli.images.photo import read_photo
from idsr_cli.keypoints import Keypoints
from idsr_cli.matching import estimate, match_descriptors, transfer_error

DRY = "dry"
RADIUS = 3.0  # pixels, in the second image
MAX_CORNER_ERROR = 5.0  # pixels
GEOMETRY_RULE = (
    f"mutual nearest neighbours, Lowe ratio 0.8, between image 1, dry, and image N; inliers: within {RADIUS:g} px of "
    f"the known homography in image N; ransac: what MAGSAC ({RADIUS:g} px) keeps without knowing it; found: share of "
    "the inliers among them; solved: share of pairs whose corners MAGSAC's homography moves to within "
    f"{MAX_CORNER_ERROR:g} px"
)
_HOMOGRAPHY = re.compile(r"H_?1(?:to|_)(\d+)p?(?:\.txt)?")


@dataclass(frozen=True)
class PlanePair:
    """The first image of a sequence and another one.

    Attributes:
        name: for example "graf 1-3".
        first, second: the files.
        relative: path of the second below the folder that was searched, with "/".
        homography: (3, 3) float64, pixels of the first image to pixels of the second.
    """

    name: str
    first: Path
    second: Path
    relative: str
    homography: np.ndarray


@dataclass(frozen=True)
class GeometryRow:
    """One method on one pair.

    Attributes:
        pair: name of the pair.
        method: "rainy", one of our splices, or "dry": plain SIFT of the second image without rain, the upper bound.
        keypoints: number in the second image.
        matches: number of matches that `idsr match` would find.
        inliers: matches that the known homography confirms.
        ransac: matches that fit the estimated homography.
        found: inliers among those of `ransac`.
        corner_error: mean distance between the corners as moved by the two homographies, pixels; inf without estimate.
    """

    pair: str
    method: str
    keypoints: int
    matches: int
    inliers: int
    ransac: int
    found: int
    corner_error: float


def find_pairs(folder: Path) -> list[PlanePair]:
    """All pairs of the sequences in `folder` and in its subfolders.

    Raises:
        PairingError: no sequence, no image for a homography, or a file without a homography.
    """
    if not folder.is_dir():
        raise PairingError("no such folder", path=folder)
    folders = [folder, *sorted((p for p in folder.iterdir() if p.is_dir()), key=lambda p: natural_key(p.name))]
    found = [pair for sequence in folders for pair in _sequence(sequence, folder)]
    if not found:
        raise PairingError("no image sequence there", path=folder, hint="looked for homographies H1to2p, H1to3p, ...")
    return found


def _sequence(sequence: Path, folder: Path) -> Iterator[PlanePair]:
    files = {int(match[1]): path for path in sequence.iterdir() if (match := _HOMOGRAPHY.fullmatch(path.name))}
    if not files:
        return
    images = _numbered(sequence)
    for number, file in sorted(files.items()):
        if number == 1:  # the identity, which some sequences include
            continue
        if number not in images or 1 not in images:
            raise PairingError(f"there is no image {1 if 1 not in images else number} beside it", path=file)
        second = images[number]
        yield PlanePair(
            f"{sequence.resolve().name} 1-{number}", images[1], second, second.relative_to(folder).as_posix(),
            read_homography(file),
        )  # fmt: skip


def _numbered(folder: Path) -> dict[int, Path]:
    """The photographs of a folder by the number at the end of their names, or else counted from 1 in natural order."""
    photos = [photo.path for photo in search_folder(folder, takes_folder=lambda relative: False)]
    numbers = [re.search(r"\d+$", path.stem) for path in photos]
    by_name = {int(match[0]): path for match, path in zip(numbers, photos, strict=True) if match}
    return by_name if len(by_name) == len(photos) and 1 in by_name else dict(enumerate(photos, 1))


def read_homography(file: Path) -> np.ndarray:
    """(3, 3) float64 from nine numbers of text.

    Raises:
        PairingError: the file has no such numbers, or they cannot be inverted.
    """
    try:
        matrix = np.array(file.read_text(encoding="utf-8").split(), np.float64).reshape(3, 3)
    except (OSError, ValueError) as error:
        raise PairingError("holds no homography of nine numbers", path=file) from error
    if not np.isfinite(matrix).all() or np.linalg.matrix_rank(matrix) < 3:
        raise PairingError("holds a homography that cannot be inverted", path=file)
    return matrix


def evaluate_plane_pair(
    pair: PlanePair,
    rain: Callable[[np.ndarray, str], np.ndarray],
    ours: Mapping[str, ScoredWeights],
) -> list[GeometryRow]:
    """Rows of one pair: rainy, each splice of each set of weights, dry.

    Args:
        pair: the pair.
        rain: (image, name) -> the image with rain; both (H, W, 3) in [0, 1].
        ours: name of the weights, or "" -> its networks and splices.

    Raises:
        ItemError: an image cannot be read.
    """
    first = read_photo(pair.first).rgb
    dry = read_photo(pair.second).rgb
    rainy = rain(dry, pair.relative)
    reference = plain_attempt("first", first).keypoints
    attempts: list[Attempt] = [plain_attempt(RAINY, rainy), *restored_attempts(rainy, ours)]
    attempts.append(plain_attempt(DRY, dry))
    return [judge(pair, a.method, reference, a.keypoints) for a in attempts]


def judge(pair: PlanePair, method: str, first: Keypoints, second: Keypoints) -> GeometryRow:
    """Match the keypoints of the two images and compare the matches with the known homography."""
    matches = match_descriptors(first.descriptors, second.descriptors)
    a, b = first.xy[matches.index[:, 0]], second.xy[matches.index[:, 1]]
    inlier = transfer_error(pair.homography, a.astype(np.float64), b.astype(np.float64)) <= RADIUS
    geometry = estimate(a, b, "homography", RADIUS)
    error = float("inf")
    if geometry.matrix is not None:
        width, height = first.image_size
        corners = np.array([(0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1)], np.float64)
        target = np.column_stack([corners, np.ones(4)]) @ pair.homography.T
        error = float(transfer_error(geometry.matrix, corners, target[:, :2] / target[:, 2:]).mean())
    return GeometryRow(
        pair.name, method, len(second), len(matches), int(inlier.sum()), int(geometry.inliers.sum()),
        int((geometry.inliers & inlier).sum()), error,
    )  # fmt: skip


@dataclass(frozen=True)
class GeometrySummary:
    """One method over all pairs; means unless said otherwise.

    Attributes:
        keypoints, matches, inliers, ransac: as in `GeometryRow`.
        precision: share of the matches that are inliers, over all pairs together.
        found: share of the inliers that RANSAC keeps, over all pairs together.
        solved: share of pairs with a mean corner error up to 5 px.
        difference: other method -> inliers of this one less the other's, with the interval of the mean.
    """

    method: str
    pairs: int
    keypoints: float
    matches: float
    inliers: float
    ransac: float
    precision: float
    found: float
    solved: float
    difference: dict[str, Interval]


def summarise_geometry(rows: Sequence[GeometryRow]) -> list[GeometrySummary]:
    """One summary a method, in order of appearance; every method has every pair."""
    by_method: dict[str, list[GeometryRow]] = {}
    for row in rows:
        by_method.setdefault(row.method, []).append(row)
    inliers = {method: np.array([row.inliers for row in mine], np.float64) for method, mine in by_method.items()}
    differences = Bootstrap([row.pair for row in next(iter(by_method.values()))]).differences(inliers)
    summaries = []
    for method, mine in by_method.items():
        total = {name: sum(getattr(row, name) for row in mine)
                 for name in ("keypoints", "matches", "inliers", "ransac", "found")}  # fmt: skip
        count = len(mine)
        summaries.append(
            GeometrySummary(
                method, count, total["keypoints"] / count, total["matches"] / count, total["inliers"] / count,
                total["ransac"] / count, _share(total["inliers"], total["matches"]),
                _share(total["found"], total["inliers"]),
                sum(row.corner_error <= MAX_CORNER_ERROR for row in mine) / count,
                differences[method],
            )
        )  # fmt: skip
    return summaries


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
