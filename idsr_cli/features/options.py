"""SIFT's settings, under OpenCV's names, and their checks."""

from __future__ import annotations

import math
from dataclasses import dataclass

from idsr_cli.arguments import number, whole_number
from idsr_cli.errors import UsageError


@dataclass(frozen=True)
class SiftOptions:
    """Settings of SIFT; the defaults are OpenCV's.

    Attributes:
        max_keypoints: keep at most this many, the strongest by response; None keeps all. Unlike OpenCV's `nfeatures`
            it is exact, and duplicates are removed before counting.
        n_layers: layers per octave (OpenCV's `nOctaveLayers`), 1..16.
        contrast_threshold: drop points whose |interpolated DoG| times `n_layers` is below it; grey range [0, 1].
        edge_threshold: drop points whose principal curvatures differ by more than this factor.
        sigma: sigma of the first Gaussian image of an octave, pixels of that octave; 1 < sigma <= 3.2.

    Raises:
        UsageError: a value outside these ranges, or of another type.
    """

    max_keypoints: int | None = None
    n_layers: int = 3
    contrast_threshold: float = 0.04
    edge_threshold: float = 10.0
    sigma: float = 1.6

    def __post_init__(self) -> None:
        if self.max_keypoints is not None:
            object.__setattr__(self, "max_keypoints", whole_number("max_keypoints", self.max_keypoints))
        object.__setattr__(self, "n_layers", whole_number("n_layers", self.n_layers))
        for name in ("contrast_threshold", "edge_threshold", "sigma"):
            object.__setattr__(self, name, number(name, getattr(self, name)))
        if self.max_keypoints is not None and self.max_keypoints < 1:
            raise UsageError(f"max_keypoints must be at least 1, not {self.max_keypoints}", hint="omit it to keep all")
        if not 1 <= self.n_layers <= 16:
            raise UsageError(f"n_layers must be 1 to 16, not {self.n_layers}")
        if not (math.isfinite(self.contrast_threshold) and self.contrast_threshold >= 0):
            raise UsageError(f"contrast_threshold must be 0 or more, not {self.contrast_threshold}")
        if not (math.isfinite(self.edge_threshold) and self.edge_threshold > 0):
            raise UsageError(f"edge_threshold must be above 0, not {self.edge_threshold}")
        if not 1 < self.sigma <= 3.2:
            raise UsageError(f"sigma must be above 1 and at most 3.2, not {self.sigma}", hint="SIFT's own is 1.6")
