"""Where a patch lies in an image: what tiling tells engines and networks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where a patch lies in the whole image; pixels.

    Attributes:
        top, left: row and column of the patch's first pixel.
        height, width: of the whole image.
    """

    top: int
    left: int
    height: int
    width: int
