"""Pictures of keypoints (circles with scale and orientation over the photograph) and of matches between two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from idsr_cli.keypoints import Keypoints

if TYPE_CHECKING:
    import numpy as np

# Photographs are enlarged until their longer side reaches this, so that small keypoints stay legible.
LONG_SIDE = 1920
# A circle's radius in sigmas. SIFT's descriptor reaches out to some 6 sigma, but such circles would cover the picture.
RADIUS = 2.0
# Sigmas at the two ends of the colour scale, which is logarithmic: the usual range of a photograph.
FINEST, COARSEST = 1.5, 24.0
_SUBPIXEL_BITS = 4


def draw_keypoints(rgb: np.ndarray, keypoints: Keypoints) -> np.ndarray:
    """Draw keypoints over a photograph.

    Args:
        rgb: (H, W, 3) float32 in [0, 1].
        keypoints: of this photograph.

    Returns:
        (sH, sW, 3) float32 in [0, 1], enlarged by a whole factor s if the photograph is small. Colour shows scale, from
        blue (fine) to red (coarse); the stroke from the centre shows the orientation.
    """
    import cv2
    import numpy as np

    height, width = rgb.shape[:2]
    factor = max(1, min(8, round(LONG_SIDE / max(height, width))))
    canvas = cv2.resize(rgb, (width * factor, height * factor), interpolation=cv2.INTER_CUBIC)
    canvas = _backdrop(canvas)

    # The centre of pixel x lies at (x + 0.5) * factor - 0.5 on the enlarged grid.
    centre = (keypoints.xy.astype(np.float64) + 0.5) * factor - 0.5
    radius = np.maximum(keypoints.scale.astype(np.float64) * RADIUS * factor, 2.0)
    angle = np.deg2rad(keypoints.angle.astype(np.float64))
    tip = centre + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    colours = _colours(keypoints.scale)
    one = 1 << _SUBPIXEL_BITS
    centre, tip, radius = (np.round(values * one).astype(int) for values in (centre, tip, radius))
    line = max(1, round(max(canvas.shape[:2]) / 1000))
    rows = np.argsort(-keypoints.scale, kind="stable").tolist()  # large ones first, so that small ones lie on top
    # A dark rim under each line keeps it visible on a bright sky.
    for thickness, dark in ((line + 2, True), (line, False)):
        layer = canvas.copy()
        for row in rows:
            colour = DARK if dark else colours[row]
            place = (int(centre[row, 0]), int(centre[row, 1]))
            cv2.circle(layer, place, int(radius[row]), colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
            end = (int(tip[row, 0]), int(tip[row, 1]))
            cv2.line(layer, place, end, colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
        canvas = cv2.addWeighted(layer, 0.45, canvas, 0.55, 0) if dark else layer
    return canvas.astype(np.float32) / 255


def _backdrop(rgb: np.ndarray) -> np.ndarray:
    """The photograph as uint8, a little darker and greyer, so that coloured keypoints stand out."""
    import numpy as np

    grey = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.clip(0.75 * (0.45 * rgb + 0.55 * grey[:, :, None]) * 255 + 0.5, 0, 255).astype(np.uint8)


def _colours(scale: np.ndarray) -> list[tuple[int, int, int]]:
    """The colour of each scale: RGB, 0..255."""
    import numpy as np

    position = np.log2(np.maximum(scale, 1e-6) / FINEST) / np.log2(COARSEST / FINEST)
    # Both ends of the map are too dark to show on a photograph.
    return _turbo(0.28 + 0.58 * np.clip(position, 0, 1))


def _turbo(level: np.ndarray) -> list[tuple[int, int, int]]:
    """Colours of the map Turbo at levels in [0, 1]: RGB, 0..255."""
    import cv2
    import numpy as np

    index = np.round(level * 255).astype(np.uint8).reshape(-1, 1)
    bgr = cv2.applyColorMap(index, cv2.COLORMAP_TURBO) if len(index) else np.zeros((0, 1, 3), np.uint8)
    return [(int(r), int(g), int(b)) for b, g, r in bgr[:, 0]]


# --- matches ---------------------------------------------------------------------------------------------------------

# Both photographs together fit in this box, side by side or one above the other.
BOX = (2400, 1500)
LARGEST_FACTOR = 4.0
GAP = 6
# More lines than this would hide the photographs; then only a part is drawn, spread evenly over the first photograph.
MOST_LINES = 250
MOST_DOTS = 1500  # dots with a dark rim; if there are more, all are drawn small and without rim
DARK = (16, 12, 20)


@dataclass(frozen=True)
class Layout:
    """Positions of two photographs on one canvas.

    Attributes:
        size: (width, height) of the canvas for the photographs.
        boxes: x, y, width, height of each.
        factors: canvas pixels per photograph pixel, x and y, of each.
    """

    size: tuple[int, int]
    boxes: tuple[tuple[int, int, int, int], ...]

    def place(self, which: int, xy: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
        """Pixels of a photograph -> pixels of the canvas; (0, 0) is the centre of a pixel in both."""
        import numpy as np

        left, top, width, height = self.boxes[which]
        factor = np.array([width / image_size[0], height / image_size[1]])
        return (xy.astype(np.float64) + 0.5) * factor - 0.5 + (left, top)


def layout(sizes: tuple[tuple[int, int], tuple[int, int]]) -> Layout:
    """Side by side with equal heights, or one above the other with equal widths, whichever is larger in BOX.

    A photograph is enlarged at most by LARGEST_FACTOR; the other one gets the room that is left.
    """
    options = []
    for along, across in ((0, 1), (1, 0)):
        room = BOX[along] - GAP
        common = min(BOX[across], room / sum(size[along] / size[across] for size in sizes))
        factors = [min(common / size[across], LARGEST_FACTOR) for size in sizes]
        for mine, other in ((0, 1), (1, 0)):
            if factors[other] == LARGEST_FACTOR:
                left = room - factors[other] * sizes[other][along]
                factors[mine] = min(left / sizes[mine][along], BOX[across] / sizes[mine][across], LARGEST_FACTOR)
        options.append([(max(1, round(w * f)), max(1, round(h * f))) for (w, h), f in zip(sizes, factors, strict=True)])
    areas = [sum(w * h for w, h in boxes) for boxes in options]
    if areas[0] >= areas[1]:
        (a, b), (c, d) = options[0]
        return Layout((a + GAP + c, max(b, d)), ((0, 0, a, b), (a + GAP, 0, c, d)))
    (a, b), (c, d) = options[1]
    return Layout((max(a, c), b + GAP + d), ((0, 0, a, b), (0, b + GAP, c, d)))


def draw_matches(
    photos: tuple[np.ndarray, np.ndarray],
    points: tuple[np.ndarray, np.ndarray],
    inliers: np.ndarray,
    error: np.ndarray,
    limit: float,
    words: str,
    scale: tuple[str, str],
) -> np.ndarray:
    """Draw two photographs and lines between the points that match.

    Args:
        photos: two (H, W, 3) float32 in [0, 1], of any sizes.
        points: two (M, 2), pixels in each photograph.
        inliers: (M,) bool: these get lines, the others grey dots.
        error: (M,) determines the colours of lines, from blue (0) to red (`limit`).
        limit: error drawn in red, above 0.
        words: text of the strip below the photographs, which is left out if they are too narrow for it.
        scale: labels for the two ends of the colour scale in the strip.

    Returns:
        (H, W, 3) float32 in [0, 1], at most some 2400x1550.
    """
    import cv2
    import numpy as np

    sizes = tuple((rgb.shape[1], rgb.shape[0]) for rgb in photos)
    plan = layout(sizes)  # type: ignore[arg-type]
    canvas: np.ndarray = np.full((plan.size[1], plan.size[0], 3), DARK, np.uint8)
    for rgb, (left, top, width, height) in zip(photos, plan.boxes, strict=True):
        smaller = width < rgb.shape[1]
        scaled = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
        canvas[top : top + height, left : left + width] = _backdrop(scaled)
    ends = [plan.place(i, xy, size) for i, (xy, size) in enumerate(zip(points, sizes, strict=True))]
    one = 1 << _SUBPIXEL_BITS
    dots = [[(int(x), int(y)) for x, y in np.round(end * one)] for end in ends]
    radius = max(2, round(max(plan.size) / 700)) * one

    layer = canvas.copy()
    for row in np.flatnonzero(~inliers).tolist():
        for dot in dots:
            cv2.circle(layer, dot[row], radius // 2, (205, 205, 205), -1, cv2.LINE_AA, _SUBPIXEL_BITS)
    canvas = cv2.addWeighted(layer, 0.5, canvas, 0.5, 0)

    colours = _ramp(np.clip(error / limit, 0, 1))
    shown = spread(ends[0], np.flatnonzero(inliers), MOST_LINES)
    shown = shown[np.argsort(-error[shown], kind="stable")].tolist()  # the best on top
    layer = canvas.copy()
    for row in shown:
        cv2.line(layer, dots[0][row], dots[1][row], colours[row], 1, cv2.LINE_AA, _SUBPIXEL_BITS)
    canvas = cv2.addWeighted(layer, 0.8, canvas, 0.2, 0)
    crowded = inliers.sum() > MOST_DOTS
    for row in np.flatnonzero(inliers).tolist():
        for dot in dots:
            if not crowded:
                cv2.circle(canvas, dot[row], radius, DARK, -1, cv2.LINE_AA, _SUBPIXEL_BITS)
            inner = one if crowded else radius - one
            cv2.circle(canvas, dot[row], inner, colours[row], -1, cv2.LINE_AA, _SUBPIXEL_BITS)
    if len(shown) < inliers.sum():
        words += f", {len(shown)} of them as lines"
    return np.vstack([canvas, _strip(plan.size[0], words, scale)]).astype(np.float32) / 255


def _ramp(share: np.ndarray) -> list[tuple[int, int, int]]:
    """Colours of errors, given as shares 0..1 of the largest; the dark ends of the map are not used."""
    return _turbo(0.18 + 0.72 * share)


def _strip(width: int, words: str, ends: tuple[str, str]) -> np.ndarray:
    """(height, width, 3) uint8: words on the left, the colour scale on the right; height 0 if they do not fit."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    size = 20 if width >= 1200 else 13
    font = ImageFont.load_default(size)
    height, bar, margin = 2 * size, 8 * size, size // 2
    words_width, *ends_widths = (round(font.getlength(text)) for text in (words, *ends))
    if words_width + sum(ends_widths) + bar + 6 * margin > width:
        return np.zeros((0, width, 3), np.uint8)
    image = Image.new("RGB", (width, height), DARK)
    draw = ImageDraw.Draw(image)
    light = (225, 225, 225)
    draw.text((margin, height // 2), words, light, font, "lm")
    left = width - margin - ends_widths[1] - margin - bar
    draw.text((left - margin, height // 2), ends[0], light, font, "rm")
    draw.text((width - margin, height // 2), ends[1], light, font, "rm")
    array = np.array(image)
    array[height // 3 : -(height // 3), left : left + bar] = _ramp(np.linspace(0, 1, bar))
    return array


def spread(xy: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of `rows`, spread evenly over the plane: the cells of a grid give one point each in turn."""
    import numpy as np

    if len(rows) <= count:
        return rows
    low, high = xy[rows].min(0), xy[rows].max(0)
    cell = np.floor((xy[rows] - low) / np.maximum(high - low, 1e-9) * 24).astype(int)
    number = cell[:, 1] * 25 + cell[:, 0]
    order = np.argsort(number, kind="stable")
    turn = np.empty(len(rows), int)
    starts = np.r_[0, np.flatnonzero(np.diff(number[order])) + 1]
    turn[order] = np.arange(len(rows)) - np.repeat(starts, np.diff(np.r_[starts, len(rows)]))
    return np.sort(rows[np.argsort(turn, kind="stable")[:count]])
