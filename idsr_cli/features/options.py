"""SIFT's settings, under OpenCV's names, and their checks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from idsr_cli.arguments import number, one_of, whole_number
from idsr_cli.errors import UsageError

Rules = Literal["opencv", "vlfeat"]


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
        first_octave: -1 starts with the doubled image, 0 with the image as it is.
        n_octaves: at most so many octaves, the finest; None = all.
        max_orientations: a position gives at most this many keypoints, in its strongest directions; None = all.
        soft_limit: COLMAP's `max_num_features`: layers are kept from the coarsest on, until they hold more than this
            many positions; the layer that exceeds it is kept whole. None keeps all layers.
        rules: "opencv" or "vlfeat" (which COLMAP uses). VLFeat searches to the border of the image; it keeps extrema
            that lie up to 1.5 samples from where they were found and moves them less; and it smooths the histogram of
            directions more. It finds about a fifth more.

    Raises:
        UsageError: a value outside these ranges, or of another type.
    """

    max_keypoints: int | None = None
    n_layers: int = 3
    contrast_threshold: float = 0.04
    edge_threshold: float = 10.0
    sigma: float = 1.6
    first_octave: int = -1
    n_octaves: int | None = None
    max_orientations: int | None = None
    soft_limit: int | None = None
    rules: Rules = "opencv"

    def __post_init__(self) -> None:
        for name in ("n_layers", "first_octave"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name)))
        for name in ("max_keypoints", "n_octaves", "max_orientations", "soft_limit"):
            limit = getattr(self, name)
            if limit is None:
                continue
            object.__setattr__(self, name, whole_number(name, limit))
            if limit < 1:
                raise UsageError(f"{name} must be at least 1, not {limit}", hint="omit it to keep all")
        for name in ("contrast_threshold", "edge_threshold", "sigma"):
            object.__setattr__(self, name, number(name, getattr(self, name)))
        if not 1 <= self.n_layers <= 16:
            raise UsageError(f"n_layers must be 1 to 16, not {self.n_layers}")
        if not (math.isfinite(self.contrast_threshold) and self.contrast_threshold >= 0):
            raise UsageError(f"contrast_threshold must be 0 or more, not {self.contrast_threshold}")
        if not (math.isfinite(self.edge_threshold) and self.edge_threshold > 0):
            raise UsageError(f"edge_threshold must be above 0, not {self.edge_threshold}")
        if not 1 < self.sigma <= 3.2:
            raise UsageError(f"sigma must be above 1 and at most 3.2, not {self.sigma}", hint="SIFT's own is 1.6")
        if self.first_octave not in (-1, 0):
            raise UsageError(f"first_octave must be -1 or 0, not {self.first_octave}")
        one_of("rules", self.rules, get_args(Rules))
