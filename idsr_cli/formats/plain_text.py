"""Lines of numbers, shared by the text formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def frame_texts(layout: str, *columns: np.ndarray) -> list[str]:
    """One text per keypoint, from a %-format and a column of numbers for each of its fields.

    Python's %-formatting ignores the locale, so the decimal point is always a point. Columns are converted to float64,
    in which the digits of a float32 are exact.
    """
    return [layout % row for row in zip(*(column.astype("float64").tolist() for column in columns), strict=True)]


def byte_texts(descriptors: np.ndarray) -> list[list[str]]:
    """(N, 128) uint8 -> the numbers of each row as texts."""
    numbers = [str(value) for value in range(256)]  # a table is three times as fast as formatting each value
    return [[numbers[value] for value in row] for row in descriptors.tolist()]


def ascii_file(lines: list[str]) -> bytes:
    """The lines as bytes, each with a line end."""
    return "".join(f"{line}\n" for line in lines).encode("ascii")
