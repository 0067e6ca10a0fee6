"""The three kinds of SIFT descriptor, and conversions between them.

RootSIFT is the square root of the descriptor divided by its sum, so that Euclidean distance becomes the Hellinger
distance of histograms. It has unit length by construction.

Source: R. Arandjelović and A. Zisserman, "Three things everyone should know to improve object retrieval" (2012).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

from idsr_cli.arguments import one_of
from idsr_cli.errors import ItemError
from idsr_cli.keypoints import Keypoints

if TYPE_CHECKING:
    import numpy as np

# Largest difference between the sum of a descriptor and that of one of length 512, see `_sift`.
_FARTHEST = 200

DescriptorKind = Literal["sift_u8", "rootsift_u8", "rootsift_f32"]

MEANINGS: dict[DescriptorKind, str] = {
    "sift_u8": "SIFT in OpenCV's order, uint8, L2 norm about 512",
    "rootsift_u8": "RootSIFT in OpenCV's order, round(512 * value) as uint8, L2 norm about 512",
    "rootsift_f32": "RootSIFT in OpenCV's order, float32, L2 norm 1",
}


def check_kind(kind: str) -> None:
    """Raises UsageError for a kind of descriptor that does not exist."""
    one_of("descriptors", kind, get_args(DescriptorKind))


def convert(keypoints: Keypoints, kind: DescriptorKind, have: DescriptorKind = "sift_u8") -> Keypoints:
    """Keypoints whose descriptors are of `kind`.

    Args:
        keypoints: with (N, 128) descriptors of the kind `have`.
        kind: "sift_u8" is OpenCV's form, "rootsift_u8" COLMAP's, "rootsift_f32" hloc's.
        have: the kind that they are of; `sift` and `splice` give "sift_u8".

    Returns:
        (N, 128) uint8 or float32 descriptors, the rest as it was.

    Raises:
        UsageError: an unknown kind.
        ItemError: SIFT cannot be made again: of RootSIFT in bytes, or of floats that are not RootSIFT of SIFT's bytes.
    """
    check_kind(kind)
    if kind == have:
        return keypoints
    if not makes(have, kind):
        raise ItemError("SIFT cannot be made of RootSIFT in bytes, which is rounded")
    found = keypoints.descriptors
    roots = {"sift_u8": _root_sift, "rootsift_u8": _unit}[have](found) if have != "rootsift_f32" else found
    made = {"sift_u8": _sift, "rootsift_u8": _bytes}[kind](roots) if kind != "rootsift_f32" else roots
    return replace(keypoints, descriptors=made)


def makes(have: DescriptorKind, kind: DescriptorKind) -> bool:
    """True if descriptors of `kind` can be made of those of the kind `have`."""
    return (have, kind) != ("rootsift_u8", "sift_u8")


def _root_sift(descriptors: np.ndarray) -> np.ndarray:
    """(N, 128) uint8 -> float32 of unit length; a descriptor of zeros stays zero."""
    import numpy as np

    values = descriptors.astype(np.float64)
    values /= np.maximum(values.sum(1, keepdims=True), 1)
    return np.sqrt(values).astype(np.float32)


def _unit(descriptors: np.ndarray) -> np.ndarray:
    """(N, 128) uint8 -> float32 of unit length; a descriptor of zeros stays zero."""
    import numpy as np

    values = descriptors.astype(np.float64)
    return (values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1)).astype(np.float32)


def _sift(roots: np.ndarray) -> np.ndarray:
    """The (N, 128) uint8 descriptors that `_root_sift` made these float32 of, exactly.

    The squares are shares of the descriptor's sum. The sum is not stored, but it is a whole number, near that of a
    descriptor of length 512, and only with the right one do all 128 shares become whole numbers again.

    Raises:
        ItemError: there is no such sum for a descriptor.
    """
    import numpy as np

    found = np.zeros(roots.shape, np.uint8)
    shares = roots.astype(np.float64) ** 2
    lengths = np.linalg.norm(shares, axis=1)
    left = np.flatnonzero(lengths)
    likely = np.rint(512 / np.where(lengths, lengths, 1)).astype(np.int64)
    # Rounding and the limit of 255 change the length a little.
    for offset in sorted(range(-_FARTHEST, _FARTHEST + 1), key=abs):
        values = np.rint((likely[left] + offset)[:, None] * shares[left])
        same = (values <= 255).all(1) & (_root_sift(values) == roots[left]).all(1)
        found[left[same]] = values[same]
        left = left[~same]
        if not len(left):
            return found
    raise ItemError("the descriptors are not RootSIFT of SIFT in bytes, so SIFT cannot be made of them")


def _bytes(roots: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.clip(np.rint(512 * roots), 0, 255).astype(np.uint8)
