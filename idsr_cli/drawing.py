"""Pictures of keypoints: circles with scale and orientation over the photograph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idsr_cli.keypoints import Keypoints

if TYPE_CHECKING:
    import numpy as np

# Photographs are enlarged until their longer side reaches this, so that small keypoints stay legible.
LONG_SIDE = 1920
# A circle's radius in sigmas. SIFT describes out to some 6 sigma, which would cover the picture; 2 shows scale well.
RADIUS = 2.0
# Colours by log2(sigma), from fine to coarse: the ends of the range of a photograph of ordinary size.
FINEST, COARSEST = 1.5, 24.0
_SUBPIXEL_BITS = 4


def draw_keypoints(rgb: np.ndarray, keypoints: Keypoints) -> np.ndarray:
    """Draw keypoints over a photograph.

    Args:
        rgb: (H, W, 3) float32 in [0, 1].
        keypoints: of this photograph.

    Returns:
        (sH, sW, 3) float32 in [0, 1], enlarged by a whole factor s if the photograph is small. Colour goes with scale,
        blue fine to red coarse; the stroke from the centre points along the orientation.
    """
    import cv2
    import numpy as np

    height, width = rgb.shape[:2]
    factor = max(1, min(8, round(LONG_SIDE / max(height, width))))
    canvas = cv2.resize(rgb, (width * factor, height * factor), interpolation=cv2.INTER_CUBIC)
    # A little darker and greyer, so that colour means keypoint.
    grey = canvas @ np.array([0.299, 0.587, 0.114], np.float32)
    canvas = np.clip(0.75 * (0.45 * canvas + 0.55 * grey[:, :, None]) * 255 + 0.5, 0, 255).astype(np.uint8)

    # The centre of pixel x lies at (x + 0.5) * factor - 0.5 on the enlarged grid.
    centre = (keypoints.xy.astype(np.float64) + 0.5) * factor - 0.5
    radius = np.maximum(keypoints.scale.astype(np.float64) * RADIUS * factor, 2.0)
    angle = np.deg2rad(keypoints.angle.astype(np.float64))
    tip = centre + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    colours = _colours(keypoints.scale)
    one = 1 << _SUBPIXEL_BITS
    centre, tip, radius = (np.round(values * one).astype(int) for values in (centre, tip, radius))
    line = max(1, round(max(canvas.shape[:2]) / 1000))
    rows = np.argsort(-keypoints.scale, kind="stable").tolist()  # large ones first, so that they hide nothing
    # A dark rim under each line keeps it visible on a bright sky.
    for thickness, dark in ((line + 2, True), (line, False)):
        layer = canvas.copy()
        for row in rows:
            colour = (16, 12, 20) if dark else colours[row]
            place = (int(centre[row, 0]), int(centre[row, 1]))
            cv2.circle(layer, place, int(radius[row]), colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
            end = (int(tip[row, 0]), int(tip[row, 1]))
            cv2.line(layer, place, end, colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
        canvas = cv2.addWeighted(layer, 0.45, canvas, 0.55, 0) if dark else layer
    return canvas.astype(np.float32) / 255


def _colours(scale: np.ndarray) -> list[tuple[int, int, int]]:
    """RGB, 0..255, by scale."""
    import cv2
    import numpy as np

    position = np.log2(np.maximum(scale, 1e-6) / FINEST) / np.log2(COARSEST / FINEST)
    # Both ends of the map are too dark to show on a photograph.
    level = np.round((0.28 + 0.58 * np.clip(position, 0, 1)) * 255).astype(np.uint8)
    bgr = cv2.applyColorMap(level.reshape(-1, 1), cv2.COLORMAP_TURBO) if len(level) else np.zeros((0, 1, 3), np.uint8)
    return [(int(r), int(g), int(b)) for b, g, r in bgr[:, 0]]
