"""A photograph's keypoints, to be added to a file of many photographs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from idsr_cli.formats.descriptors import convert
from idsr_cli.formats.npz import read_npz
from idsr_cli.keypoints import Keypoints


@dataclass(frozen=True)
class Entry:
    """One photograph.

    Attributes:
        name: its path below `root`, with `/`; its name in the file.
        root: folder of the photographs.
        part: .npz file of its keypoints.
        meta: how they were made; "descriptors" is the kind to write.
    """

    name: str
    root: Path
    part: Path
    meta: Mapping[str, Any]

    def keypoints(self) -> Keypoints:
        """The keypoints, with descriptors of the kind to write."""
        keypoints, made = read_npz(self.part)
        keypoints.check_finite()
        return convert(keypoints, self.meta["descriptors"], made["descriptors"])
