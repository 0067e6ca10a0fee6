"""The three kinds of SIFT descriptor, and the conversion from OpenCV's to RootSIFT.

RootSIFT is the square root of the descriptor divided by its sum, so that Euclidean distance becomes the Hellinger
distance of histograms. It has unit length by construction.

Source: R. Arandjelović and A. Zisserman, "Three things everyone should know to improve object retrieval" (2012).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

from idsr_cli.arguments import one_of
from idsr_cli.keypoints import Keypoints

if TYPE_CHECKING:
    import numpy as np

DescriptorKind = Literal["sift_u8", "rootsift_u8", "rootsift_f32"]

MEANINGS: dict[DescriptorKind, str] = {
    "sift_u8": "SIFT in OpenCV's order, uint8, L2 norm about 512",
    "rootsift_u8": "RootSIFT in OpenCV's order, round(512 * value) as uint8, L2 norm about 512",
    "rootsift_f32": "RootSIFT in OpenCV's order, float32, L2 norm 1",
}


def check_kind(kind: str) -> None:
    """Raises UsageError for a kind of descriptor that does not exist."""
    one_of("descriptors", kind, get_args(DescriptorKind))


def convert(keypoints: Keypoints, kind: DescriptorKind) -> Keypoints:
    """Keypoints whose descriptors are of `kind`.

    Args:
        keypoints: with SIFT descriptors, (N, 128) uint8, as `sift` and `splice` give them.
        kind: "sift_u8" leaves them as they are, "rootsift_u8" is COLMAP's form, "rootsift_f32" hloc's.

    Returns:
        (N, 128) uint8 or float32 descriptors, the rest as it was.

    Raises:
        UsageError: an unknown kind.
    """
    check_kind(kind)
    if kind == "sift_u8":
        return keypoints
    roots = _root_sift(keypoints.descriptors)
    return replace(keypoints, descriptors=_bytes(roots) if kind == "rootsift_u8" else roots)


def _root_sift(descriptors: np.ndarray) -> np.ndarray:
    """(N, 128) uint8 -> float32 of unit length; a descriptor of zeros stays zero."""
    import numpy as np

    values = descriptors.astype(np.float64)
    values /= np.maximum(values.sum(1, keepdims=True), 1)
    return np.sqrt(values).astype(np.float32)


def _bytes(roots: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.clip(np.rint(512 * roots), 0, 255).astype(np.uint8)
