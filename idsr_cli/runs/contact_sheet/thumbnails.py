"""Small pictures of a photograph for the contact sheet: as it was, derained, what was removed, and its keypoints.

They are made where the photograph is in memory, on the threads that write outputs, and travel with the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from idsr_cli.images.photo import Photo
    from idsr_cli.keypoints import Keypoints

# What was removed is drawn so many times stronger.
AMPLIFICATION = 4
# Radii of the circles, pixels of the thumbnail: a keypoint gets the nearest. As in `idsr sift --draw` the radius is two
# sigma.
RADII = (1.5, 3.0, 6.0, 12.0)
_SIGMAS = 2.0
_QUALITIES = (75, 60, 45, 30, 15)


@dataclass(frozen=True)
class Detail:
    """How much of a photograph is shown.

    Attributes:
        long_side: of a picture, pixels.
        limit: bytes of a picture; quality, then size are lowered until it fits.
        points: keypoints drawn on a picture.
    """

    long_side: int
    limit: int
    points: int


# 500 photographs with three pictures and two sets of keypoints each take less than 30 MB.
LARGE = Detail(long_side=400, limit=13_000, points=500)
SMALL = Detail(long_side=240, limit=4_000, points=150)
# A browser opens a page of some 100 MB.
_MOST_LARGE = 1500


def detail_for(count: int) -> Detail:
    """The detail for a sheet of `count` photographs."""
    return LARGE if count <= _MOST_LARGE else SMALL


@dataclass(frozen=True)
class Points:
    """Keypoints as they are drawn.

    Attributes:
        count: number of keypoints of the photograph.
        share: share of them that is drawn, the strongest, 0..1.
        paths: for each of `RADII` an SVG path with a vertex at each keypoint, in pixels of the thumbnail with the
            origin at its corner; "" = none.
    """

    count: int
    share: float
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Thumbnails:
    """The pictures of one photograph, upright.

    Attributes:
        size: (width, height) of the pictures, pixels.
        before: the photograph, WebP.
        after: derained, WebP; None if it was not changed.
        removed: 0.5 + `AMPLIFICATION` times the difference, WebP; None if there is none.
        difference: root mean square of what was removed, grey levels (0..255); None if there is nothing to compare.
        points_before, points_after: keypoints of the two; None if none were looked for.
    """

    size: tuple[int, int]
    before: bytes
    after: bytes | None = None
    removed: bytes | None = None
    difference: float | None = None
    points_before: Points | None = None
    points_after: Points | None = None


def make(
    photo: Photo,
    detail: Detail,
    restored: np.ndarray | None = None,
    points_before: Keypoints | None = None,
    points_after: Keypoints | None = None,
) -> Thumbnails:
    """The thumbnails of a photograph.

    Args:
        photo: as read.
        detail: how much is shown.
        restored: (H, W, 3) float32 in [0, 1] on the stored grid; None if no network ran.
        points_before: keypoints of the photograph as it is, on the stored grid.
        points_after: those of the restored photograph.
    """
    from idsr_cli.rain_estimate import rain_level

    before = _reduced(photo.visible, photo.orientation, detail.long_side)
    height, width = before.shape[:2]
    difference = after = None
    if restored is not None:
        difference = rain_level(photo.visible, restored)
        after = _reduced(restored, photo.orientation, detail.long_side) if difference else None
    most = max((len(points) for points in (points_before, points_after) if points is not None), default=0)
    share = min(1.0, detail.points / most) if most else 1.0
    before_drawn, after_drawn = (
        None if points is None else draw_points(points, photo.orientation, (width, height), share)
        for points in (points_before, points_after)
    )
    return Thumbnails(
        (width, height),
        encode_within(before, detail.limit),
        None if after is None else encode_within(after, detail.limit),
        None if after is None else encode_within(amplified(before, after), detail.limit),
        difference,
        before_drawn,
        after_drawn,
    )


def amplified(rainy: np.ndarray, restored: np.ndarray) -> np.ndarray:
    """What was removed, many times stronger: (H, W, 3) each in [0, 1] -> the same, no change = 0.5."""
    import numpy as np

    return np.clip(0.5 + AMPLIFICATION * (rainy - restored), 0.0, 1.0)


def _reduced(rgb: np.ndarray, orientation: int, long_side: int) -> np.ndarray:
    """An image on the stored grid, upright and no longer than `long_side`."""
    import cv2

    from idsr_cli.images.photo import apply_orientation

    height, width = rgb.shape[:2]
    factor = min(1.0, long_side / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = rgb if factor == 1.0 else cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return apply_orientation(small, orientation)


def encode_within(rgb: np.ndarray, limit: int) -> bytes:
    """(H, W, 3) in [0, 1] -> WebP of at most `limit` bytes: of lower quality, and then of half the size, if need be."""
    import cv2
    import numpy as np

    from idsr_cli.pages import webp

    while True:
        pixels = np.rint(255.0 * np.ascontiguousarray(rgb)).clip(0, 255).astype(np.uint8)
        for quality in _QUALITIES:
            data = webp(pixels, quality)
            if len(data) <= limit or max(pixels.shape[:2]) <= 16:
                return data
        height, width = rgb.shape[:2]
        half = (max(1, width // 2), max(1, height // 2))
        rgb = cv2.resize(np.ascontiguousarray(rgb), half, interpolation=cv2.INTER_AREA)


def draw_points(keypoints: Keypoints, orientation: int, size: tuple[int, int], share: float) -> Points:
    """Keypoints for a thumbnail.

    Args:
        keypoints: on the stored grid, strongest first.
        orientation: EXIF's, 1..8.
        size: (width, height) of the thumbnail, upright.
        share: share of the keypoints that is drawn, 0..1.
    """
    import numpy as np

    from idsr_cli.images.photo import orient_points

    count = len(keypoints)
    shown = np.arange(round(share * count))
    stored_width, stored_height = keypoints.image_size
    xy = orient_points(keypoints.xy[shown], keypoints.image_size, orientation)
    longer = max(size) / max(stored_width, stored_height)
    corner = np.rint((xy + 0.5) * longer).astype(int)
    radius = np.maximum(_SIGMAS * longer * keypoints.scale[shown], RADII[0])
    kinds = np.abs(np.log(radius[:, None] / np.array(RADII))).argmin(1)
    paths = (_path(np.unique(corner[kinds == kind], axis=0)) for kind in range(len(RADII)))
    return Points(count, share, tuple(paths))


def _path(places: np.ndarray) -> str:
    """An SVG path with a vertex at each place, (N, 2) whole numbers, ordered so that steps are short."""
    import numpy as np

    if not len(places):
        return ""
    x, y = places.T
    strip = y // 16
    order = np.lexsort((np.where(strip % 2, -x, x), strip))
    steps = np.diff(places[order], axis=0, prepend=0).reshape(-1).tolist()
    numbers = "".join(str(step) if step < 0 else f" {step}" for step in steps)
    # A path of one point has no end for the last marker.
    return f"m{numbers.removeprefix(' ')}{'h0' if len(places) == 1 else ''}"
