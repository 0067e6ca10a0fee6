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


def number_rows(text: str, columns: int) -> np.ndarray:
    """Numbers separated by white space, `columns` to a row, as (N, columns) float64.

    Raises:
        ValueError: something else is there, or the last row is not full.
    """
    import numpy as np

    return np.array(text.split(), np.float64).reshape(-1, columns)


def counted_rows(data: bytes) -> np.ndarray:
    """Four numbers and a descriptor of each keypoint, (N, 132) float64, of a file that begins with `N 128`.

    Raises:
        ValueError: it is not such a file, or has another number of keypoints than its first line says.
    """
    head, _, body = data.decode("ascii").partition("\n")
    count, _ = (int(word) for word in head.split())
    rows = number_rows(body, 132)
    if len(rows) != count:
        raise ValueError(f"{len(rows)} keypoints, where the first line says {count}")
    return rows


def byte_columns(rows: np.ndarray) -> np.ndarray:
    """Numbers of a descriptor as bytes, (N, 128) uint8.

    Raises:
        ValueError: one is not a whole number from 0 to 255, or there are not 128.
    """
    import numpy as np

    made = rows.astype(np.uint8)
    if rows.shape[1] != 128 or (made != rows).any():
        raise ValueError("descriptors are not 128 bytes")
    return made


def ascii_file(lines: list[str]) -> bytes:
    """The lines as bytes, each with a line end."""
    return "".join(f"{line}\n" for line in lines).encode("ascii")
