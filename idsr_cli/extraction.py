"""Keypoints of restored photographs, found as OpenCV, COLMAP or hloc find theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from idsr_cli.arguments import one_of
from idsr_cli.errors import UsageError
from idsr_cli.formats.descriptors import DescriptorKind

if TYPE_CHECKING:
    import numpy as np
    import torch

    from idsr_cli.features import SiftOptions
    from idsr_cli.keypoints import Keypoints
    from idsr_cli.restoration import Restored
    from idsr_cli.scale_space import Luma

Like = Literal["opencv", "colmap", "hloc"]


@dataclass(frozen=True)
class GreyOptions:
    """How a photograph becomes the grey image that SIFT looks at.

    Attributes:
        luma: shares of the colours: "bt601" as in OpenCV, or "bt709" as in COLMAP.
        max_side: a photograph with a longer side is made smaller for SIFT; None = never. Keypoints are in pixels of
            the photograph all the same, but octaves are counted from the smaller image.
    """

    luma: Luma = "bt601"
    max_side: int | None = None


@dataclass(frozen=True)
class Detection:
    """How a program that reads keypoints detects its own.

    Attributes:
        sift: the fields of `SiftOptions` in which it differs from OpenCV.
        grey: how it makes the grey image.
    """

    sift: Mapping[str, Any] = field(default_factory=dict)
    grey: GreyOptions = GreyOptions()


_COLMAP: Mapping[str, Any] = {"n_octaves": 4, "max_orientations": 2, "soft_limit": 8192, "rules": "vlfeat"}
# COLMAP's threshold is 0.02 / 3 for a layer, and ours is for the three layers of an octave together. Sources: COLMAP's
# `SiftExtractionOptions` and `FeatureExtractionOptions`; hloc's configuration "sift" and its extractor `dog`, which
# calls COLMAP's.
LIKE: dict[Like, Detection] = {
    "opencv": Detection(),
    "colmap": Detection(
        {"contrast_threshold": 0.02, **_COLMAP},
        GreyOptions("bt709", 3200),
    ),
    "hloc": Detection(
        {"contrast_threshold": 0.03, "first_octave": 0, **_COLMAP},
        GreyOptions("bt601", 1600),
    ),
}


def sift_fields(like: Like, **wanted: Any) -> dict[str, Any]:
    """The fields of `SiftOptions` for a detection like that of a program.

    Args:
        like: a key of `LIKE`.
        wanted: fields that the user has chosen; None = the program's own. `max_keypoints` replaces the program's limit
            too; 0 keeps all.

    Returns:
        The fields that are set, in a fixed order.

    Raises:
        UsageError: an unknown program.
    """
    one_of("like", like, get_args(Like))
    fields = dict(LIKE[like].sift)
    limit = wanted.pop("max_keypoints", None)
    if limit is not None:
        fields["soft_limit"] = None
    fields |= {name: value for name, value in wanted.items() if value is not None}
    return {"max_keypoints": limit or None, **_OPENCV, **fields}


# Always recorded with keypoints.
_OPENCV = {"n_layers": 3, "contrast_threshold": 0.04, "edge_threshold": 10.0, "sigma": 1.6}


def extract(
    views: Sequence[Restored],
    options: SiftOptions,
    *,
    grey: GreyOptions = GreyOptions(),
    mask: np.ndarray | None = None,
    descriptors: DescriptorKind = "sift_u8",
    device: torch.device | str = "cpu",
) -> Keypoints:
    """Keypoints detected in the first view and described in the last.

    Args:
        views: one view of a photograph, or two, as `Restorer.restore_photo` gives them for a splice.
        options: SIFT's settings.
        grey: how the grey image is made.
        mask: (H, W) bool; keypoints whose nearest pixel is False are dropped, before the limits count.
        descriptors: "sift_u8", "rootsift_u8" or "rootsift_f32".
        device: where SIFT runs: a CPU or a CUDA device. For devices of another kind it runs on the CPU.

    Returns:
        Keypoints in pixels of the views' grid, (0, 0) at the centre of the top-left pixel, strongest first.

    Raises:
        ValueError: the views differ in size, or the mask has another size.
        UsageError: no view, or an unknown kind of descriptor.
    """
    from idsr_cli.features import splice
    from idsr_cli.formats.descriptors import check_kind, convert
    from idsr_cli.runtime.allocator import return_memory
    from idsr_cli.scale_space import is_one_group

    check_kind(descriptors)
    if not len(views):
        raise UsageError("there is no view to find keypoints in")
    first, last = views[0], views[-1]
    height, width = first.rgb.shape[:2]
    size = _reduced_size(width, height, grey.max_side)
    detect = _grey(first, grey, device)
    if not is_one_group(size[1], size[0], options.first_octave):
        return_memory()  # of the networks, before a large pyramid needs as much
    # Both views are the same image if one network made both, or if neither saw rain: then one pyramid is enough.
    same = first is last or not (first.rain_seen or last.rain_seen)
    describe = detect if same else _grey(last, grey, device)
    if mask is None or size == (width, height):
        found = splice(detect, describe, options, mask)
    else:
        _check_mask(mask, height, width)
        found = splice(detect, describe, options, _resized(mask.view("u1"), size, exact=True).view(bool))
    if size != (width, height):
        found = _enlarged(found, (width, height))
        found = found if mask is None else found.select(found.on(mask))
    return convert(found, descriptors)


def _grey(view: Restored, options: GreyOptions, device: torch.device | str) -> Any:
    """What SIFT looks at: (H, W) float32, 0..255; an array for the CPU, for other devices a tensor on them."""
    from idsr_cli.scale_space import grey_image

    height, width = view.rgb.shape[:2]
    rgb = _resized(view.rgb, _reduced_size(width, height, options.max_side))
    return grey_image(rgb, device, options.luma)


def _check_mask(mask: np.ndarray, height: int, width: int) -> None:
    if mask.shape != (height, width) or mask.dtype != bool:
        raise ValueError(f"need a bool mask of shape {(height, width)}, not {mask.dtype} {mask.shape}")


def _reduced_size(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    """Width and height with the longer side at most `max_side`, rounded down as in COLMAP."""
    if max_side is None or max(width, height) <= max_side:
        return width, height
    scale = max_side / max(width, height)
    return max(1, int(width * scale)), max(1, int(height * scale))


def _resized(image: np.ndarray, size: tuple[int, int], exact: bool = False) -> np.ndarray:
    """`image` at (width, height) `size`, which is not larger; `exact` takes pixels instead of their mean."""
    import cv2

    if image.shape[1::-1] == size:
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_NEAREST_EXACT if exact else cv2.INTER_AREA)


def _enlarged(keypoints: Keypoints, size: tuple[int, int]) -> Keypoints:
    """Keypoints of a smaller image, in pixels of the photograph of (width, height) `size`."""
    import numpy as np

    x, y = (full / part for full, part in zip(size, keypoints.image_size, strict=True))
    # Corners of pixels stay corners: see COLMAP's `FeatureKeypoint::Rescale`.
    xy = (keypoints.xy.astype(np.float64) + 0.5) * (x, y) - 0.5
    scale = keypoints.scale * ((x + y) / 2)
    return replace(keypoints, xy=xy.astype(np.float32), scale=scale.astype(np.float32), image_size=size)


def unrestored(rgb: np.ndarray) -> Restored:
    """Wrap an image for plain SIFT, without restoring it: (H, W, 3) float32 RGB in [0, 1]."""
    from idsr_cli.restoration import Restored

    return Restored(rgb, rain_seen=False)


def plain_device(name: str) -> str:
    """Where SIFT runs if no network is used: `auto` means the CPU.

    Raises:
        DeviceError: unknown name, or not available here.
    """
    from idsr_cli.runtime.devices import device_name

    return device_name("cpu" if name == "auto" else name)
