"""The one in-memory form of SIFT keypoints, and its conventions.

Origin: (0, 0) is the centre of the top-left pixel; x to the right, y down. Scale is sigma in pixels of the stored
image (OpenCV's `size` is twice that). Angle is in degrees in [0, 360), clockwise on screen (from +x towards +y).
Octave -1 is the doubled image, 0 the image itself; layer is 1..3 with SIFT's three layers per octave. Descriptors are
OpenCV's 4x4x8 SIFT: uint8, L2 norm about 512 (`formats.descriptors` makes RootSIFT of them, for files).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from idsr_cli.errors import ItemError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, repr=False)
class Keypoints:
    """Keypoints of one image; N rows, in a deterministic order.

    Attributes:
        xy: (N, 2) float32, pixels, origin at the centre of the top-left pixel.
        scale: (N,) float32, sigma in pixels.
        angle: (N,) float32, degrees clockwise, [0, 360).
        response: (N,) float32, |interpolated DoG| on a grey range of [0, 1].
        octave: (N,) int32, -1 = doubled image.
        layer: (N,) int32, 1..n_layers.
        descriptors: (N, 128) uint8; float32 for RootSIFT of unit length.
        image_size: (width, height) of the stored image, in pixels.
    """

    xy: np.ndarray
    scale: np.ndarray
    angle: np.ndarray
    response: np.ndarray
    octave: np.ndarray
    layer: np.ndarray
    descriptors: np.ndarray
    image_size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.xy)

    def __repr__(self) -> str:
        width, height = self.image_size
        return f"<{len(self)} keypoints of a {width}x{height} image>"

    def select(self, index: np.ndarray) -> Keypoints:
        """The keypoints at `index` (integer or boolean array), in that order."""
        rows = {f.name: getattr(self, f.name)[index] for f in fields(self) if f.name != "image_size"}
        return Keypoints(image_size=self.image_size, **rows)

    def on(self, mask: np.ndarray) -> np.ndarray:
        """(N,) bool: True for keypoints whose nearest pixel is True in `mask`, (H, W) bool."""
        import numpy as np

        # Halves round up, as in COLMAP, which truncates coordinates that are larger by 0.5.
        column, row = np.floor(self.xy.astype(np.float64) + 0.5).astype(np.int64).T
        height, width = mask.shape
        return mask[row.clip(0, height - 1), column.clip(0, width - 1)]

    def check_finite(self) -> None:
        """Raise `ItemError` if a number is NaN or infinite, which readers of keypoint files do not expect."""
        import numpy as np

        for name in ("xy", "scale", "angle", "response"):
            bad = np.argwhere(~np.isfinite(getattr(self, name)))
            if len(bad):
                raise ItemError(f"{name} of keypoint {bad[0, 0]} is NaN or infinite")

    @staticmethod
    def empty(image_size: tuple[int, int]) -> Keypoints:
        """No keypoints: arrays of shape (0, ...), which every writer accepts."""
        import numpy as np

        f, i = np.float32, np.int32
        return Keypoints(
            np.zeros((0, 2), f), np.zeros(0, f), np.zeros(0, f), np.zeros(0, f), np.zeros(0, i), np.zeros(0, i),
            np.zeros((0, 128), np.uint8), image_size,
        )  # fmt: skip
