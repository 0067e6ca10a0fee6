"""How much rain a network saw in an image: its level, the share of pixels it covers, and its direction.

Everything is measured on the difference of the rainy and the restored image. `RAINY_PIXEL`, in grey levels, is the
change from which a pixel counts as rainy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RAINY_PIXEL = 2.5
# Rows processed at once where a whole photograph would take too much memory.
_ROWS = 256
# Coherence (0..1) of the structure tensor from which the removed layer has a direction.
_DIRECTED = 0.15
# Coherence of streaks that run the same way. Single near drops have 0.7 to 0.9. What is seen in two parts of dry
# photographs has 0.3 to 0.6, or runs nearly level.
_ONE_WAY = 0.65


@dataclass(frozen=True)
class Rain:
    """The rain that a network saw in a photograph, whether or not it was then taken out.

    Attributes:
        level: root mean square of the estimated rain over all pixels and channels, grey levels (0..255).
        share: share (0..1) of the pixels in which it reaches `RAINY_PIXEL` grey levels in any channel.
        direction: of the streaks in the upright photograph, degrees from vertical, above -90 to 90, positive = to the
            right at the bottom, as in `idsr rain --angle`; None = none dominates, or the photograph counts as dry.
    """

    level: float
    share: float
    direction: float | None

    @classmethod
    def measured(cls, rainy: np.ndarray, restored: np.ndarray, dry: bool = False) -> Rain:
        """Measure it.

        Args:
            rainy: (H, W, 3) float32 RGB in [0, 1].
            restored: the network's result, of the same shape; need not be clipped.
            dry: the photograph counts as dry: what was seen is not rain, and has no direction.
        """
        share = sum(int(rainy_pixels(a, b).sum()) for a, b in bands(rainy, restored)) / (rainy.size // 3)
        direction = None
        if not dry:
            angle, coherence = _structure(rainy, restored)
            direction = angle if coherence >= _DIRECTED else None
        return cls(rain_level(rainy, restored), share, direction)

    @classmethod
    def over_frames(cls, frames: Iterable[Rain]) -> Rain | None:
        """That of a clip, as if its frames were one picture: root mean square, mean share, and mean direction."""
        known = list(frames)
        if not known:
            return None
        energy = [rain.level**2 for rain in known]
        # Directions repeat after 180 degrees, so the mean is taken of the doubled angles.
        doubled = [
            (e, math.radians(2.0 * rain.direction))
            for e, rain in zip(energy, known, strict=True)
            if rain.direction is not None
        ]
        x, y = (math.fsum(e * part(angle) for e, angle in doubled) for part in (math.cos, math.sin))
        directed = math.hypot(x, y) >= _DIRECTED * math.fsum(energy) > 0
        return cls(
            math.sqrt(math.fsum(energy) / len(known)),
            math.fsum(rain.share for rain in known) / len(known),
            math.degrees(0.5 * math.atan2(y, x)) if directed else None,
        )

    def record(self) -> dict[str, Any]:
        """For JSON: level to 0.01 grey levels, share to 0.001, direction to 0.1 degrees."""
        direction = None if self.direction is None else round(self.direction, 1) + 0.0
        return {"level": round(self.level, 2), "share": round(self.share, 3), "direction": direction}


def rain_level(rainy: np.ndarray, restored: np.ndarray) -> float:
    """How much rain a network saw: root mean square of what it removed, in grey levels (0..255)."""
    squares = (  # in bands, because a float64 copy of the whole photograph would take twice its memory
        np.sum((a.astype(np.float64) - b) ** 2) for a, b in bands(rainy, restored)
    )
    return 255.0 * math.sqrt(math.fsum(squares) / rainy.size)


def part_levels(rainy: np.ndarray, restored: np.ndarray) -> list[float]:
    """`rain_level` of each of an image's 4x4 parts; tiny images have fewer parts."""
    return [
        rain_level(part, restored_part)
        for rows, restored_rows in zip(*(_split(a, 0) for a in (rainy, restored)), strict=True)
        for part, restored_part in zip(*(_split(a, 1) for a in (rows, restored_rows)), strict=True)
    ]


def rainy_share(levels: Sequence[float], level: float) -> float:
    """Share (0..1) of an image's parts, given their `part_levels`, in which there is rain of at least `level`."""
    return sum(found >= level for found in levels) / len(levels)


def streak_angle(rainy: np.ndarray, restored: np.ndarray) -> float:
    """Direction of the removed streaks, degrees from vertical (-90..90), positive = to the right at the bottom.

    The same convention as `idsr rain --angle`. It is measured with the structure tensor of the whole image, so the
    strongest of several directions dominates.
    """
    return _structure(rainy, restored)[0]


def runs_one_way(rainy: np.ndarray, restored: np.ndarray) -> bool:
    """Whether what was removed are streaks that run nearly the same way, less than 45 degrees from upright."""
    angle, coherence = _structure(rainy, restored)
    return coherence >= _ONE_WAY and abs(angle) <= 45.0


def removed_per_pixel(rainy: np.ndarray, restored: np.ndarray) -> np.ndarray:
    """The largest change of any channel of each pixel: two (H, W, 3) images -> (H, W) float32, not negative."""
    removed = np.empty(rainy.shape[:2], np.float32)
    top = 0
    for a, b in bands(rainy, restored):
        removed[top : top + len(a)] = _largest(a, b)
        top += len(a)
    return removed


def rainy_pixels(rainy: np.ndarray, restored: np.ndarray, level: float = RAINY_PIXEL) -> np.ndarray:
    """Which pixels count as rainy, from `level` grey levels on: two (H, W, 3) images -> (H, W) bool."""
    rainy_ones: np.ndarray = _largest(rainy, restored) * 255.0 >= level
    return rainy_ones


def removed_grey(rainy: np.ndarray, restored: np.ndarray) -> np.ndarray:
    """The mean change of the channels of each pixel: two (H, W, 3) images -> (H, W) float32, above 0 = darkened."""
    red, green, blue = np.moveaxis(rainy - restored, 2, 0)
    grey: np.ndarray = (red + green + blue) / np.float32(3)  # in a tenth of the time of `mean(2)`
    return grey


def _structure(rainy: np.ndarray, restored: np.ndarray) -> tuple[float, float]:
    """Angle as in `streak_angle`, and coherence, 0 (no direction, or nothing removed) to 1 (parallel lines)."""
    import cv2

    grey = removed_grey(rainy, restored)
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    means = (np.asarray(np.mean(a * b)) for a, b in ((across, across), (down, down), (across, down)))
    angle, coherence = directions(*means)
    return float(angle), float(coherence)


def directions(xx: np.ndarray, yy: np.ndarray, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Direction and coherence of structure tensors, float arrays of any one shape.

    Args:
        xx: means of squares of horizontal gradients.
        yy: of vertical ones, of the same shape.
        xy: of products of both.

    Returns:
        Angles as in `streak_angle`, and coherence, 0 (no direction, or no gradients) to 1 (parallel lines), of that
        shape.
    """
    # Gradients run across the streaks.
    angle = -np.rad2deg(0.5 * np.arctan2(2.0 * xy, xx - yy))
    return angle, np.hypot(xx - yy, 2.0 * xy) / np.maximum(xx + yy, np.finfo(np.float32).tiny)


def _largest(rainy: np.ndarray, restored: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(np.abs(rainy - restored), 2, 0)
    return np.maximum(np.maximum(red, green), blue)  # in a tenth of the time of `max(2)`


def bands(*images: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """The same rows of all images, 256 at a time, as views: arithmetic on a whole photograph takes too much memory."""
    for top in range(0, len(images[0]), _ROWS):
        yield tuple(image[top : top + _ROWS] for image in images)


def _split(array: np.ndarray, axis: int) -> list[np.ndarray]:
    return np.array_split(array, min(4, array.shape[axis]), axis)
