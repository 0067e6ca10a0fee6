"""The .sift text format of VLFeat's `sift` program.

No header; per keypoint a line `x y sigma theta d1 ... d128`. (0, 0) is the centre of the top-left pixel (VLFeat's
MATLAB functions count from 1). Theta is in radians, clockwise on screen. Within each of the 16 cells the directions of
the descriptor run the other way round than OpenCV's, from the same first one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from idsr_cli.formats.plain_text import ascii_file, byte_texts, frame_texts
from idsr_cli.keypoints import Keypoints


def encode(keypoints: Keypoints, meta: Mapping[str, Any]) -> bytes:
    """The file's bytes, ASCII; `meta` is not written."""
    import numpy as np

    backwards = (8 * np.arange(16)[:, None] + -np.arange(8) % 8).ravel()
    x, y = keypoints.xy.T
    theta = np.deg2rad(keypoints.angle.astype(np.float64))
    starts = frame_texts("%.4f %.4f %.4f %.6f", x, y, keypoints.scale, theta)
    rows = byte_texts(keypoints.descriptors[:, backwards])
    return ascii_file([f"{start} {' '.join(row)}" for start, row in zip(starts, rows, strict=True)])
