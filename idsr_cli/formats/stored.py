"""Keypoints as a file holds them: what is in the file, and what is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from idsr_cli.formats.descriptors import DescriptorKind
from idsr_cli.keypoints import Keypoints

if TYPE_CHECKING:
    import numpy as np

# What a format may have no place for. All have positions, scales and descriptors.
Part = Literal["angle", "response", "octave", "image size", "settings"]
PARTS: tuple[Part, ...] = ("angle", "response", "octave", "image size", "settings")


@dataclass(frozen=True)
class Stored:
    """The keypoints of one photograph, from a file.

    Attributes:
        keypoints: in the conventions of `idsr_cli.keypoints`; zeros stand for what the file does not hold.
        holds: what of `PARTS` the file holds.
        kind: of the descriptors; None = bytes, and the file does not say whether SIFT or RootSIFT.
        meta: how they were made, if the file says so.
    """

    keypoints: Keypoints
    holds: frozenset[Part]
    kind: DescriptorKind | None
    meta: Mapping[str, Any] = field(default_factory=dict)


def stored(
    xy: np.ndarray,
    scale: np.ndarray,
    descriptors: np.ndarray,
    *,
    angle: np.ndarray | None = None,
    response: np.ndarray | None = None,
    image_size: tuple[int, int] | None = None,
    kind: DescriptorKind | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Stored:
    """What a file holds; None stands for what it does not. Octaves and layers follow from the scales and `meta`.

    Args:
        xy: (N, 2), pixels, origin at the centre of the top-left pixel.
        scale: (N,), sigma in pixels.
        descriptors: (N, 128), in OpenCV's order; bytes unless `kind` is "rootsift_f32".
        angle: (N,), degrees, clockwise.
        response: (N,).
        image_size: width, height.
        kind: as in `Stored`.
        meta: how the keypoints were made.
    """
    import numpy as np

    parts: dict[Part, object] = {"angle": angle, "response": response, "image size": image_size, "settings": meta}
    zeros = np.zeros(len(xy))
    points = Keypoints(
        xy=np.asarray(xy, np.float32).reshape(-1, 2),
        scale=np.asarray(scale, np.float32),
        angle=np.asarray(zeros if angle is None else np.mod(angle, 360), np.float32) % np.float32(360),
        response=np.asarray(zeros if response is None else response, np.float32),
        octave=zeros.astype(np.int32),
        layer=zeros.astype(np.int32),
        descriptors=np.asarray(descriptors, np.float32 if kind == "rootsift_f32" else np.uint8).reshape(-1, 128),
        image_size=image_size or (0, 0),
    )
    found = Stored(points, frozenset(name for name, value in parts.items() if value is not None), kind, meta or {})
    return with_octaves(found) if meta and "sift" in meta else found


def with_octaves(found: Stored) -> Stored:
    """With octave and layer, which the scale and the settings of SIFT determine.

    scale = sigma * 2^(octave + (layer + xi) / n_layers), where layer is 1..n_layers and |xi| at most 0.5. By VLFeat's
    rules |xi| is up to 1.5, and large photographs may have been made smaller: then it is the layer nearest to the
    scale.
    """
    import numpy as np

    settings, points = found.meta["sift"], found.keypoints
    count = int(settings["n_layers"])
    steps = np.rint(np.log2(points.scale.astype(np.float64) / settings["sigma"]) * count).astype(np.int64)
    octave = (steps - 1) // count
    layer = steps - octave * count
    points = replace(points, octave=octave.astype(np.int32), layer=layer.astype(np.int32))
    return replace(found, keypoints=points, holds=found.holds | {"octave"})
