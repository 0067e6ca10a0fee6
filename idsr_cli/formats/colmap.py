"""COLMAP's text format, one file per image, as `colmap feature_importer` reads it.

First line `N 128`; then per keypoint `x y scale orientation d1 ... d128`. COLMAP puts the origin at the *corner* of the
top-left pixel, so its centre is (0.5, 0.5). Scale is sigma in pixels; orientation is in radians, clockwise on screen.
Descriptors are OpenCV's (not VLFeat's bin order): match them among themselves, not with features COLMAP extracted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from idsr_cli.keypoints import Keypoints


def encode(keypoints: Keypoints, meta: Mapping[str, Any]) -> bytes:
    """The file's bytes, ASCII; `meta` has no place in this format."""
    import numpy as np

    xy = keypoints.xy.astype(np.float64) + 0.5
    # Python's formatting knows no locale, so the decimal point is a point everywhere. Four decimals of a pixel are as
    # fine as COLMAP's float32 coordinates on a photograph of 2000 pixels.
    frames = zip(
        xy[:, 0].tolist(),
        xy[:, 1].tolist(),
        keypoints.scale.astype(np.float64).tolist(),
        np.deg2rad(keypoints.angle.astype(np.float64)).tolist(),
        keypoints.descriptors.tolist(),
        strict=True,
    )
    numbers = [str(value) for value in range(256)]
    lines = [f"{len(keypoints)} 128"]
    for x, y, scale, angle, descriptor in frames:
        lines.append(f"{x:.4f} {y:.4f} {scale:.4f} {angle:.6f} {' '.join([numbers[value] for value in descriptor])}")
    return ("\n".join(lines) + "\n").encode("ascii")
