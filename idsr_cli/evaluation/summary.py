"""Summaries of rows, one per method: means, medians, losses, and differences to every other method."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from idsr_cli.evaluation.bootstrap import Bootstrap, Interval
from idsr_cli.evaluation.evaluate import RAINY, Row

COUNTS = ("true", "ratio", "mutual", "recall", "precision", "found", "clean")
IMAGE_SCORES = ("psnr_rgb", "ssim_rgb", "psnr_y", "ssim_y")
# Quantities for which differences between methods are given.
COMPARED = ("true", "ratio", "mutual", "recall", "precision", *IMAGE_SCORES)
WORST_SHARE = 0.05


@dataclass(frozen=True)
class Summary:
    """One method over all pairs; means unless said otherwise.

    Attributes:
        pairs: number of pairs.
        median: medians of the quantities whose means are attributes.
        lost: share of pairs with fewer `true` keypoints than the rainy image, 0..1.
        worst: mean gain in `true` over the rainy image on the worst 5 % of pairs (at least one pair).
        compared_with: what the keypoints are compared with, "" = SIFT of the clean image. `true` of methods with
            different references cannot be compared, so their `lost` and `worst` are NaN.
        gaussian, dog: squared errors of the Gaussian and DoG images.
        clean_by_scale, true_by_scale: totals by band of keypoint scale.
        difference: other method -> quantity -> paired difference, this method minus the other, with its interval.
    """

    method: str
    pairs: int
    true: float
    ratio: float
    mutual: float
    recall: float
    precision: float
    found: float
    clean: float
    psnr_rgb: float
    ssim_rgb: float
    psnr_y: float
    ssim_y: float
    median: dict[str, float]
    lost: float
    worst: float
    gaussian: list[float]
    dog: list[float]
    clean_by_scale: list[int]
    true_by_scale: list[int]
    difference: dict[str, dict[str, Interval]]
    compared_with: str = ""

    @property
    def has_images(self) -> bool:
        """False for keypoints from files."""
        return not math.isnan(self.gaussian[0])


def quantity(row: Row, name: str) -> float:
    """One of COUNTS or IMAGE_SCORES of a row."""
    return float(getattr(row if name in IMAGE_SCORES else row.recovered, name))


def gains(rows: Sequence[Row], method: str) -> dict[str, int]:
    """Pair -> `true` of the method minus `true` of the rainy image."""
    base = {row.pair: row.recovered.true for row in rows if row.method == RAINY}
    return {row.pair: row.recovered.true - base[row.pair] for row in rows if row.method == method}


def summarise(rows: Sequence[Row], clean_of: Mapping[str, str]) -> list[Summary]:
    """One summary per method, in order of appearance.

    Args:
        rows: every method has every pair.
        clean_of: pair -> its clean photograph; pairs that share one are resampled together.
    """
    methods = list(dict.fromkeys(row.method for row in rows))
    by_method = {method: [row for row in rows if row.method == method] for method in methods}
    values = {
        method: {name: np.array([quantity(row, name) for row in mine]) for name in (*COUNTS, *IMAGE_SCORES)}
        for method, mine in by_method.items()
    }
    difference = _differences(values, Bootstrap([clean_of[row.pair] for row in by_method[methods[0]]]))
    summaries = []
    for method, mine in by_method.items():
        gain = np.array(list(gains(rows, method).values()), float)
        if mine[0].compared_with:
            gain[:] = np.nan
        worst = np.sort(gain)[: max(1, round(WORST_SHARE * len(gain)))]
        summaries.append(
            Summary(
                method=method,
                pairs=len(mine),
                **{name: _finite(np.mean, column) for name, column in values[method].items()},
                median={name: _finite(np.median, column) for name, column in values[method].items()},
                lost=float(np.where(np.isnan(gain), np.nan, gain < 0).mean()),
                worst=float(worst.mean()),
                gaussian=np.mean([row.gaussian for row in mine], 0).tolist(),
                dog=np.mean([row.dog for row in mine], 0).tolist(),
                clean_by_scale=np.sum([row.clean_by_scale for row in mine], 0).tolist(),
                true_by_scale=np.sum([row.true_by_scale for row in mine], 0).tolist(),
                difference={other: difference[method, other] for other in methods if other != method},
                compared_with=mine[0].compared_with,
            )
        )
    return summaries


def groups(summaries: Sequence[Summary]) -> list[list[Summary]]:
    """The methods by what they are compared with, those of SIFT first. Within a group `true` can be compared."""
    found: dict[str, list[Summary]] = {"": []}
    for summary in summaries:
        found.setdefault(summary.compared_with, []).append(summary)
    return [group for group in found.values() if group]


def _finite(statistic: Callable[[np.ndarray], np.floating], column: np.ndarray) -> float:
    """The statistic without infinite and nan values (PSNR of equal images, precision without matches)."""
    finite = column[np.isfinite(column)]
    return float(statistic(finite)) if len(finite) else float("nan")


def _differences(
    values: Mapping[str, Mapping[str, np.ndarray]], bootstrap: Bootstrap
) -> dict[tuple[str, str], dict[str, Interval]]:
    """(method, other) -> quantity -> method minus other, for every ordered pair of methods."""
    found: dict[tuple[str, str], dict[str, Interval]] = {}
    for one, other in combinations(values, 2):
        with np.errstate(invalid="ignore"):  # two infinite PSNRs differ by nan, which is left out
            forth = {name: bootstrap.interval(values[one][name] - values[other][name]) for name in COMPARED}
        found[one, other] = forth
        # `0.0 - mean`, since `-mean` would turn 0.0 into -0.0.
        found[other, one] = {name: Interval(0.0 - i.mean, 0.0 - i.high, 0.0 - i.low) for name, i in forth.items()}
    return found
