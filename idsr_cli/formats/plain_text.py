"""Lines of numbers, as the text formats share them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def frame_texts(layout: str, *columns: np.ndarray) -> list[str]:
    """One text a keypoint, from a %-layout and a column of numbers for each place in it.

    Python's formatting knows no locale, so the decimal point is a point everywhere. Columns go through float64: the
    digits of a float32 are then exact.
    """
    return [layout % row for row in zip(*(column.astype("float64").tolist() for column in columns), strict=True)]


def byte_texts(descriptors: np.ndarray) -> list[list[str]]:
    """(N, 128) uint8 -> the numbers of each row as texts."""
    numbers = [str(value) for value in range(256)]  # three times as fast as formatting each
    return [[numbers[value] for value in row] for row in descriptors.tolist()]


def ascii_file(lines: list[str]) -> bytes:
    """The lines, each ended, as bytes."""
    return "".join(f"{line}\n" for line in lines).encode("ascii")
