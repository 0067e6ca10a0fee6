"""Files of matches: a text table or a NumPy .npz, with the same columns.

i j         indices into the two sets of keypoints, from 0, in the order of `idsr sift` with the same settings
xA yA xB yB pixels of the photographs as stored; (0, 0) is the centre of the top-left pixel
distance    L2 distance between the descriptors, whose norm is 512
error       pixels: in the second photograph for a homography, Sampson's for a fundamental matrix; inf without either
inlier      1 or 0
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from idsr_cli.formats import npz

if TYPE_CHECKING:
    import numpy as np

    from idsr_cli.matching import Geometry, Matches

COLUMNS = "i j xA yA xB yB distance error inlier"


@dataclass(frozen=True)
class MatchFile:
    """The content of a file.

    Attributes:
        names: of the two photographs or keypoint files.
        matches: M pairs.
        points: their points in each photograph, two (M, 2) float32, pixels.
        geometry: the model estimated from them.
        sizes: (width, height) of the two photographs.
        meta: settings, as JSON values.
    """

    names: tuple[str, str]
    matches: Matches
    points: tuple[np.ndarray, np.ndarray]
    geometry: Geometry
    sizes: tuple[tuple[int, int], tuple[int, int]]
    meta: Mapping[str, Any]


def text(content: MatchFile) -> bytes:
    """One line per match, columns separated by spaces, after a header of `#` lines. ASCII; `numpy.loadtxt` reads it."""
    geometry = content.geometry
    matrix = None if geometry.matrix is None else geometry.matrix.tolist()
    head = {
        **dict(zip("AB", content.names, strict=True)),
        "sizes": content.sizes, "model": geometry.fits, "matrix": matrix, **content.meta,
    }  # fmt: skip
    lines = [f"# {name}: {json.dumps(value)}" for name, value in head.items()]
    lines.append(f"# {COLUMNS}")
    rows = zip(
        content.matches.index.tolist(),
        content.points[0].tolist(),
        content.points[1].tolist(),
        content.matches.distance.tolist(),
        geometry.error.tolist(),
        geometry.inliers.tolist(),
        strict=True,
    )
    for (i, j), (xa, ya), (xb, yb), distance, error, inlier in rows:
        lines.append(f"{i} {j} {xa:.4f} {ya:.4f} {xb:.4f} {yb:.4f} {distance:.2f} {error:.4f} {int(inlier)}")
    return ("\n".join(lines) + "\n").encode("ascii")


def archive(content: MatchFile) -> bytes:
    """Arrays index (M,2) int32, xy_a and xy_b (M,2), distance and error (M,) float32, inlier (M,) bool, matrix.

    matrix is (3,3) float64, NaN if none was found; meta is a JSON string with the rest. It loads without pickle.
    """
    import numpy as np

    geometry = content.geometry
    meta = {
        "schema": 1, "inputs": content.names, "sizes": content.sizes, "model": geometry.fits, **content.meta,
    }  # fmt: skip
    return npz.pack({
        "index": content.matches.index.astype("<i4"),
        "xy_a": content.points[0].astype("<f4"),
        "xy_b": content.points[1].astype("<f4"),
        "distance": content.matches.distance.astype("<f4"),
        "error": geometry.error.astype("<f4"),
        "inlier": geometry.inliers,
        "matrix": np.full((3, 3), np.nan) if geometry.matrix is None else geometry.matrix.astype("<f8"),
        "meta": np.array(json.dumps(meta, sort_keys=True)),
    })  # fmt: skip


MATCH_FORMATS: dict[str, Callable[[MatchFile], bytes]] = {".txt": text, ".npz": archive}
