"""Keypoint files: one module per format, one line here.

A writer turns keypoints and a description of how they were made (`meta`) into the bytes of a file. The same input
gives the same bytes. `Keypoints` has one convention (see `idsr_cli.keypoints`); each writer converts to its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from idsr_cli.formats import colmap, npz
from idsr_cli.keypoints import Keypoints

Meta = Mapping[str, Any]


@dataclass(frozen=True)
class KeypointFormat:
    """A way to write keypoints.

    Attributes:
        suffix: appended to the full name of the photograph ("x.jpg" -> "x.jpg.npz").
        encode: the writer.
        is_text: the file is safe to print on a terminal.
    """

    suffix: str
    encode: Callable[[Keypoints, Meta], bytes]
    is_text: bool


FORMATS = {
    "npz": KeypointFormat(".npz", npz.encode, is_text=False),
    "colmap": KeypointFormat(".txt", colmap.encode, is_text=True),
}
