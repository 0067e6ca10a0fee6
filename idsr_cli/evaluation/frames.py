"""Matching between neighbouring frames of real rain: the one measure that needs no clean picture.

Streaks do not repeat from frame to frame, the scene does. So a method that takes rain away and keeps the scene has more
matches that follow the motion of the camera. Drops on the lens do repeat, at rest, and count as parts of a scene at
rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from idsr_cli.clips.reader import Clip, is_clip
from idsr_cli.errors import ItemError, PairingError
from idsr_cli.evaluation.bootstrap import Bootstrap, Interval
from idsr_cli.evaluation.evaluate import RAINY, ScoredWeights, plain_attempt, restored_attempts
from idsr_cli.images.folders import natural_key, search_folder
from idsr_cli.images.photo import apply_orientation, read_photo
from idsr_cli.keypoints import Keypoints
from idsr_cli.matching import estimate, match_descriptors

RADIUS = 3.0  # pixels
FRAMES_RULE = (
    f"mutual nearest neighbours, Lowe ratio 0.8, between a frame and the next; inliers: what MAGSAC ({RADIUS:g} px) "
    "keeps; the rainy frames of each pair decide, for all methods, whether by a homography or by a fundamental matrix"
)


@dataclass(frozen=True)
class Footage:
    """Frames in order: a clip, or the photographs of a folder.

    Attributes:
        name: for messages and rows; different for each.
        path: the clip or the folder.
        photos: of a folder, at least two; empty for a clip.
    """

    name: str
    path: Path
    photos: tuple[Path, ...] = ()

    def pairs(self) -> int:
        """Number of pairs of neighbours; of a clip what the file says, 0 if it says nothing or cannot be opened."""
        if self.photos:
            return len(self.photos) - 1
        try:
            with Clip(self.path) as clip:
                return max(0, (clip.expected or 0) - 1)
        except (ItemError, OSError):  # reported when its turn comes
            return 0

    def frames(self) -> Iterator[tuple[str, np.ndarray | ItemError]]:
        """Name, and the upright frame, (H, W, 3) float32 RGB in [0, 1], or why a photograph cannot be read.

        Raises:
            ItemError: the clip cannot be read, or not further.
        """
        for path in self.photos:
            try:
                yield path.stem, read_photo(path).oriented_rgb
            except ItemError as error:
                yield path.stem, error
        if not self.photos:
            with Clip(self.path) as clip:
                for frame in clip.frames():
                    yield str(frame.index), np.ascontiguousarray(apply_orientation(frame.rgb(), frame.orientation))


@dataclass(frozen=True)
class FrameRow:
    """One method on one pair of neighbouring frames.

    Attributes:
        pair: name of the footage and of the two frames, `street.mp4 12-13`.
        method: "rainy", or one of our splices.
        keypoints: number in the second frame.
        matches: number of matches that `idsr match` would find.
        inliers: matches that follow one geometry; 0 if none is found.
        model: that geometry, "homography" or "fundamental".
    """

    pair: str
    method: str
    keypoints: int
    matches: int
    inliers: int
    model: str


def find_footage(path: Path) -> list[Footage]:
    """The clip, or what is in the folder: its photographs together, those of each subfolder, each clip.

    Raises:
        PairingError: nothing of that kind is there.
    """
    if path.is_file() and is_clip(path):
        return [Footage(path.name, path)]
    if not path.is_dir():
        raise PairingError("no folder of frames and no clip there", path=path)
    inside = sorted((p for p in path.iterdir() if not p.name.startswith(".")), key=lambda p: natural_key(p.name))
    folders = [path, *(p for p in inside if p.is_dir())]
    found = [Footage(folder.resolve().name, folder, photos) for folder in folders if len(photos := _photos(folder)) > 1]
    found += [Footage(p.name, p) for p in inside if p.is_file() and is_clip(p)]
    if not found:
        hint = "looked for clips, and for folders of two or more photographs"
        raise PairingError("holds no neighbouring frames", path=path, hint=hint)
    return found


def _photos(folder: Path) -> tuple[Path, ...]:
    found = search_folder(folder, takes_folder=lambda relative: False)
    return tuple(photo.path for photo in found if not photo.problem)


def keypoints_of(frame: np.ndarray, ours: Mapping[str, ScoredWeights]) -> dict[str, Keypoints]:
    """Method -> keypoints of a frame: rainy, and each splice of each set of weights."""
    attempts = (plain_attempt(RAINY, frame), *restored_attempts(frame, ours))
    return {attempt.method: attempt.keypoints for attempt in attempts}


def judge(pair: str, first: Mapping[str, Keypoints], second: Mapping[str, Keypoints]) -> list[FrameRow]:
    """A row per method; the keypoints of the rainy frames are among them."""
    points = {}
    for method, keypoints in second.items():
        matches = match_descriptors(first[method].descriptors, keypoints.descriptors)
        points[method] = first[method].xy[matches.index[:, 0]], keypoints.xy[matches.index[:, 1]]
    # One model for all: a fundamental matrix keeps more matches than a homography does, right or wrong.
    model = estimate(*points[RAINY], "auto", RADIUS).fits or "homography"
    return [
        FrameRow(pair, method, len(second[method]), len(a), int(estimate(a, b, model, RADIUS).inliers.sum()), model)
        for method, (a, b) in points.items()
    ]


@dataclass(frozen=True)
class FrameSummary:
    """One method over all pairs; means unless said otherwise.

    Attributes:
        keypoints, matches, inliers: as in `FrameRow`.
        precision: share of the matches that are inliers, over all pairs together; NaN without matches.
        lost: share of pairs with fewer inliers than the rainy frames.
        difference: other method -> inliers of this one less the other's, with the interval of the mean.
    """

    method: str
    pairs: int
    keypoints: float
    matches: float
    inliers: float
    precision: float
    lost: float
    difference: dict[str, Interval]


def summarise_frames(rows: Sequence[FrameRow]) -> list[FrameSummary]:
    """One summary a method, in order of appearance; every method has every pair."""
    by_method: dict[str, list[FrameRow]] = {}
    for row in rows:
        by_method.setdefault(row.method, []).append(row)
    inliers = {method: np.array([row.inliers for row in mine], np.float64) for method, mine in by_method.items()}
    differences = Bootstrap([row.pair for row in by_method[RAINY]]).differences(inliers)
    summaries = []
    for method, mine in by_method.items():
        matches = sum(row.matches for row in mine)
        summaries.append(
            FrameSummary(
                method=method,
                pairs=len(mine),
                keypoints=float(np.mean([row.keypoints for row in mine])),
                matches=matches / len(mine),
                inliers=float(inliers[method].mean()),
                precision=float(inliers[method].sum()) / matches if matches else float("nan"),
                lost=float((inliers[method] < inliers[RAINY]).mean()),
                difference=differences[method],
            )
        )
    return summaries
