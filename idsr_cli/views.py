"""How a network is shown an image: as it is, on its side, with more contrast, or at twice its size.

A view makes what the network sees window by window, and turns what the network gives for a window back. So of a large
image only a tile is in memory as the network sees it, and the views need little more memory than the image as it is.

All arrays are (H, W, 3) float32 RGB; pixel (0, 0) is the top left one.
"""

from __future__ import annotations

import numpy as np

# Differences from the surroundings (Gaussian, sigma in pixels) are this many times as large in `Contrasted`.
SURROUNDINGS, CONTRAST = 12.0, 2.0
# What a pixel of `Contrasted` depends on: the Gaussian ends at four sigma. A multiple of 32, since OpenCV computes 8
# pixels at once and rounds the last few of a row otherwise.
_REACH = 64
# What a pixel of `Enlarged` depends on, pixels of the image; Lanczos interpolation looks at four.
_SUPPORT = 8


def enlarged(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image at a larger `size`, (height, width), by Lanczos interpolation, clipped to [0, 1]."""
    import cv2

    large = cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_LANCZOS4)
    return np.clip(large, 0.0, 1.0, out=large)


def without_resized(rgb: np.ndarray, rain: np.ndarray) -> np.ndarray:
    """An image less the rain of it at another size, which is resized to its size.

    The scene itself is not resized, which would blur it. Larger rain is reduced by means over areas, smaller rain
    enlarged by cubic interpolation.
    """
    import cv2

    interpolation = cv2.INTER_AREA if len(rain) > len(rgb) else cv2.INTER_CUBIC
    resized = cv2.resize(rain, rgb.shape[1::-1], interpolation=interpolation)
    return np.subtract(rgb, resized, out=resized)


def reduced(rgb: np.ndarray, times: int) -> np.ndarray:
    """An image so many times smaller, by means over areas, a new array; heights and widths are rounded up."""
    import cv2

    height, width = rgb.shape[:2]
    return cv2.resize(rgb, (-(-width // times), -(-height // times)), interpolation=cv2.INTER_AREA)


class View:
    """An image as it is.

    Args:
        rgb: the image.

    Attributes:
        rgb: as given.
        size: (height, width) as the network sees it.
    """

    def __init__(self, rgb: np.ndarray) -> None:
        self.rgb = rgb
        self.size: tuple[int, int] = rgb.shape[:2]

    def seen(self, rows: slice, columns: slice) -> np.ndarray:
        """What the network sees in this window; the image's own memory if it sees the image as it is."""
        return self.rgb[rows, columns]

    def place(self, rows: slice, columns: slice) -> tuple[slice, slice]:
        """Which rows and columns of the image this window shows."""
        return rows, columns

    def result(self, rows: slice, columns: slice, seen: np.ndarray, restored: np.ndarray) -> np.ndarray:
        """The restored image in this window, at its `place`, in C order.

        Args:
            rows: of the window.
            columns: of the window.
            seen: what the network saw in it; may be overwritten.
            restored: what the network made of that; may be overwritten.
        """
        return restored


class OnItsSide(View):
    """An image rotated by 90 degrees: networks that know rain which falls down see rain that is blown to the side."""

    def __init__(self, rgb: np.ndarray) -> None:
        super().__init__(rgb)
        self.size = (rgb.shape[1], rgb.shape[0])

    def seen(self, rows: slice, columns: slice) -> np.ndarray:
        return np.rot90(self.rgb[self.place(rows, columns)])

    def place(self, rows: slice, columns: slice) -> tuple[slice, slice]:
        width = self.rgb.shape[1]
        return columns, slice(width - rows.stop, width - rows.start)

    def result(self, rows: slice, columns: slice, seen: np.ndarray, restored: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.rot90(restored, -1))


class Contrasted(View):
    """An image with twice the local contrast, for streaks that are too faint; what is removed is halved again."""

    def seen(self, rows: slice, columns: slice) -> np.ndarray:
        import cv2

        height, width = self.size
        above, left = max(rows.start - _REACH, 0), max(columns.start - _REACH, 0)
        around = self.rgb[above : min(rows.stop + _REACH, height), left : min(columns.stop + _REACH, width)]
        part = np.s_[rows.start - above : rows.stop - above, columns.start - left : columns.stop - left]
        seen = cv2.GaussianBlur(around, (0, 0), SURROUNDINGS)[part]
        seen = cv2.addWeighted(self.rgb[rows, columns], CONTRAST, seen, 1.0 - CONTRAST, 0.0)
        return np.clip(seen, 0.0, 1.0, out=seen)

    def result(self, rows: slice, columns: slice, seen: np.ndarray, restored: np.ndarray) -> np.ndarray:
        restored -= seen
        restored /= CONTRAST
        restored += self.rgb[rows, columns]
        return restored


class Enlarged(View):
    """An image at twice its size, for streaks that are too thin.

    The rain that is removed from it is reduced and subtracted from the image, see `without_resized`. Windows begin
    and end at even rows and columns.
    """

    def __init__(self, rgb: np.ndarray) -> None:
        super().__init__(rgb)
        self.size = (2 * rgb.shape[0], 2 * rgb.shape[1])

    def seen(self, rows: slice, columns: slice) -> np.ndarray:
        height, width = self.rgb.shape[:2]
        down, across = self.place(rows, columns)
        above, left = max(down.start - _SUPPORT, 0), max(across.start - _SUPPORT, 0)
        around = self.rgb[above : min(down.stop + _SUPPORT, height), left : min(across.stop + _SUPPORT, width)]
        large = enlarged(around, (2 * around.shape[0], 2 * around.shape[1]))
        y, x = 2 * above, 2 * left
        return large[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]

    def place(self, rows: slice, columns: slice) -> tuple[slice, slice]:
        return slice(rows.start // 2, rows.stop // 2), slice(columns.start // 2, columns.stop // 2)

    def result(self, rows: slice, columns: slice, seen: np.ndarray, restored: np.ndarray) -> np.ndarray:
        seen -= restored
        return without_resized(self.rgb[self.place(rows, columns)], seen)
