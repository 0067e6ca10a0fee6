"""Bootstrap intervals of mean paired differences.

Pairs that share a clean photograph (Rain1400 has fourteen rainy versions of each) are not independent samples. So clean
photographs are drawn, each with all its pairs (cluster bootstrap). The interval is the percentile interval (Efron and
Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 2000
SEED = 0
LEVEL = 0.95
INTERVAL_RULE = (
    f"{100 * LEVEL:.0f} % bootstrap percentiles of the mean paired difference, {DRAWS} draws of clean photographs or "
    f"image pairs with replacement, seed {SEED}"
)


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval; all nan if there was nothing to average."""

    mean: float
    low: float
    high: float


class Bootstrap:
    """One set of draws, used for every difference, so that all intervals have the same resamples.

    Args:
        groups: the clean photograph of each pair; pairs with the same one are drawn together.
        draws: number of resamples.
        seed: seed of the draws.
    """

    def __init__(self, groups: Sequence[str], draws: int = DRAWS, seed: int = SEED) -> None:
        index = {name: i for i, name in enumerate(dict.fromkeys(groups))}
        self._group = np.array([index[name] for name in groups], np.int64)
        count = len(index)
        generator = np.random.default_rng(seed)
        # How often each group is in each resample.
        self._weights = generator.multinomial(count, np.full(count, 1.0 / count), size=draws).astype(np.float64)

    def differences(self, values: Mapping[str, np.ndarray]) -> dict[str, dict[str, Interval]]:
        """Method -> other method -> interval of the first one's values less the other's; one value per pair."""
        return {
            one: {other: self.interval(values[one] - values[other]) for other in values if other != one}
            for one in values
        }

    def interval(self, differences: Sequence[float] | np.ndarray) -> Interval:
        """Interval of the mean of `differences`, one per pair; those that are not finite are left out."""
        values = np.asarray(differences, np.float64)
        finite = np.isfinite(values)
        if not finite.any():
            return Interval(*(float("nan"),) * 3)
        size = self._weights.shape[1]
        sums = np.bincount(self._group[finite], values[finite], minlength=size)
        counts = np.bincount(self._group[finite], minlength=size)
        drawn = self._weights @ counts
        # A resample may contain no finite difference.
        means = (self._weights @ sums)[drawn > 0] / drawn[drawn > 0]
        low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Interval(float(values[finite].mean()), float(low), float(high))
