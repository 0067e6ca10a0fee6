"""Keypoints of restored photographs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from idsr_cli.errors import UsageError
from idsr_cli.formats.descriptors import DescriptorKind

if TYPE_CHECKING:
    import numpy as np
    import torch

    from idsr_cli.features import SiftOptions
    from idsr_cli.keypoints import Keypoints
    from idsr_cli.restoration import Restored


def extract(
    views: Sequence[Restored],
    options: SiftOptions,
    *,
    mask: np.ndarray | None = None,
    descriptors: DescriptorKind = "sift_u8",
    device: torch.device | str = "cpu",
) -> Keypoints:
    """Keypoints detected in the first view and described in the last.

    Args:
        views: one view of a photograph, or two, as `Restorer.restore_photo` gives them for a splice.
        options: SIFT's settings.
        mask: (H, W) bool; keypoints whose nearest pixel is False are dropped, before `max_keypoints` counts.
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
    from idsr_cli.scale_space import grey_image

    check_kind(descriptors)
    if not len(views):
        raise UsageError("there is no view to find keypoints in")
    first, last = views[0], views[-1]
    detect = grey_image(first.rgb, device)
    # Both views are the same image if one network made both, or if neither saw rain: then one pyramid is enough.
    same = first is last or not (first.rain_seen or last.rain_seen)
    return convert(splice(detect, detect if same else grey_image(last.rgb, device), options, mask), descriptors)


def unrestored(rgb: np.ndarray) -> Restored:
    """Wrap an image for plain SIFT, without restoring it: (H, W, 3) float32 RGB in [0, 1]."""
    from idsr_cli.restoration import Restored

    return Restored(rgb, rain_seen=False)


def plain_device(name: str) -> torch.device:
    """Where SIFT runs if no network is used: `auto` means the CPU.

    Raises:
        DeviceError: unknown name, or not available here.
    """
    from idsr_cli.runtime.devices import choose_device

    return choose_device("cpu" if name == "auto" else name)
