"""Masks: which pixels of a photograph may have keypoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idsr_cli.errors import ItemError

if TYPE_CHECKING:
    import numpy as np

    from idsr_cli.images.photo import Photo


def allowed_pixels(mask: Photo | np.ndarray, width: int, height: int, path: object | None = None) -> np.ndarray:
    """The mask of a photograph of this size: (H, W) bool, True where keypoints may be.

    Args:
        mask: a picture, which excludes its black pixels, whatever their alpha; or a bool array, (H, W) or (H, W, 1).
        width: of the photograph as stored, pixels.
        height: likewise.
        path: of the mask, for messages.

    Raises:
        ItemError: the mask has another size, or a bool array has another shape.
    """
    import numpy as np

    if isinstance(mask, np.ndarray):
        allowed = mask[:, :, 0] if mask.ndim == 3 and mask.shape[2] == 1 else mask
        if allowed.dtype != np.bool_ or allowed.ndim != 2:
            raise ItemError(
                f"a mask of type {mask.dtype} and shape {mask.shape} has no meaning", hint="give (H, W) of bool"
            )
    else:
        allowed = mask.rgb.max(2) > 0
    if allowed.shape != (height, width):
        name = "the mask" if path is None else f"the mask `{path}`"
        raise ItemError(
            f"{name} has {allowed.shape[1]}x{allowed.shape[0]} pixels, the photograph {width}x{height}",
            hint="masks are compared with pixels as stored, whatever EXIF says of orientation",
        )
    return allowed
