"""Keypoints as kornia's local affine frames (LAFs), for its descriptors, patches and matchers.

A frame [A | c] maps the patch that a descriptor sees to the image: c is the keypoint, and the columns of A are where
the patch's unit x and y axes end, in pixels. The patch reaches from -1 to 1, so the length of a column is half its
side. Both kornia and idsr have (0, 0) at the centre of the top-left pixel. kornia's angles are counter-clockwise on
screen and idsr's clockwise, so they differ in sign. Only torch is needed here.

Source: the convention that `kornia.feature.laf_from_center_scale_ori` documents.
"""

from __future__ import annotations

import math

import torch

from idsr_cli.arguments import number
from idsr_cli.errors import UsageError
from idsr_cli.keypoints import Keypoints

# Half the side of SIFT's descriptor window in sigmas: two cells of three sigmas. It is what kornia's own SIFT uses, and
# what its LightGlue expects of SIFT's frames. (`kornia_moons` multiplies OpenCV's size by 6, which is twice as much.)
SIFT_WINDOW = 6.0


def to_laf(
    keypoints: Keypoints, magnification: float = SIFT_WINDOW, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Local affine frames of keypoints.

    Args:
        keypoints: N keypoints.
        magnification: half the side of the patch in sigmas of the keypoint, above 0.
        device: where the frames go.

    Returns:
        (1, N, 2, 3) float32, pixels. `kornia.feature.get_laf_scale` of it is `magnification` times sigma, and
        `get_laf_orientation` is minus the keypoint's angle, in -180..180 degrees.

    Raises:
        UsageError: the magnification is no number above 0.
    """
    if not 0 < number("magnification", magnification) < math.inf:
        raise UsageError(f"magnification must be above 0, not {magnification}")
    xy, scale, angle = (
        torch.tensor(values, dtype=torch.float64) for values in (keypoints.xy, keypoints.scale, keypoints.angle)
    )
    turn = torch.deg2rad(angle)
    across, along = torch.cos(turn), torch.sin(turn)
    shape = torch.stack([across, -along, along, across], -1).reshape(-1, 2, 2) * (magnification * scale)[:, None, None]
    return torch.cat([shape, xy[:, :, None]], 2)[None].to(device, torch.float32)
