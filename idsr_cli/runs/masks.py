"""Masks of photographs, found and read as COLMAP does: keypoints on black pixels are excluded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from idsr_cli.errors import ItemError, UsageError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Masks:
    """A folder of masks, mirroring the folder of the photographs."""

    folder: Path

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            reason = "is a file, not a folder of masks" if self.folder.exists() else "no such folder"
            raise UsageError(reason, path=self.folder)

    def is_folder(self, name: str) -> bool:
        """True if this is the folder of the masks, under whatever name."""
        return os.path.realpath(name) == os.path.realpath(self.folder)

    def names(self, photo: PurePath) -> list[PurePath]:
        """Possible paths of a mask, the first found counts: a/x.jpg.png and a/x.png, as in COLMAP, and a/x.jpg."""
        return list(dict.fromkeys([photo.with_name(f"{photo.name}.png"), photo.with_suffix(".png"), photo]))

    def find(self, photo: PurePath) -> Path | None:
        """The mask of the photograph at this path below the input folder, or None."""
        return next((self.folder / name for name in self.names(photo) if os.path.isfile(self.folder / name)), None)

    def size(self, photo: PurePath) -> int | None:
        """Size of the mask's file in bytes; None without a mask."""
        path = self.find(photo)
        try:
            return None if path is None else path.stat().st_size
        except OSError:
            return None

    def read(self, photo: PurePath, width: int, height: int) -> np.ndarray:
        """The mask of a photograph of this size: (H, W) bool, True where keypoints may be.

        Raises:
            ItemError: there is none (an error in COLMAP too), it cannot be read, or it has another size.
        """
        path = self.find(photo)
        if path is None:
            raise ItemError(self.missing(photo))
        from idsr_cli.images.masks import allowed_pixels
        from idsr_cli.images.photo import read_photo

        return allowed_pixels(read_photo(path), width, height, path)

    def missing(self, photo: PurePath) -> str:
        """The reason for the failure of a photograph without a mask."""
        return f"no mask: looked for {', '.join(f'`{name}`' for name in self.names(photo))} in `{self.folder}`"
