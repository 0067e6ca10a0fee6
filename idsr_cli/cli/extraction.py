"""The work of `idsr sift` on one photograph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from idsr_cli import __version__
from idsr_cli.cli import batch, video
from idsr_cli.cli.run_file import RunFile
from idsr_cli.formats import FileFormat
from idsr_cli.runs.batch import Saved
from idsr_cli.runs.masks import Masks
from idsr_cli.runs.plan import Item

if TYPE_CHECKING:
    import numpy as np
    import torch

    from idsr_cli.features import SiftOptions
    from idsr_cli.images.photo import Photo
    from idsr_cli.keypoints import Keypoints


@dataclass(frozen=True)
class Shot:
    """A photograph in memory: `views` (H, W, 3) float32 RGB in [0, 1], and a mask (H, W) bool or None.

    One view is the photograph itself (`Photo.visible`), or what one network made of it; two are what the two networks
    made of it. `photo` is there until the networks have seen it; then `derained` says whether one of them saw rain.
    """

    views: list[np.ndarray]
    mask: np.ndarray | None
    photo: Photo | None = None
    derained: bool | None = None

    @property
    def pixels(self) -> int:
        """How many."""
        height, width = self.views[0].shape[:2]
        return int(height * width)


def picture_path(folder: str, item: Item) -> Path:
    """Where the picture of an item's keypoints goes."""
    return Path(folder) / item.relative.with_name(f"{item.relative.name}.png")


def is_drawn(folder: str, item: Item) -> bool:
    """Whether the picture is there; of a clip, its folder of pictures."""
    return (Path(folder) / item.relative).is_dir() if video.of_clip(item) else picture_path(folder, item).exists()


@dataclass(frozen=True)
class Extraction:
    """What every photograph of a run has in common.

    Attributes:
        kind: format of the files that photographs get, of parts if there is a `run_file`.
        sift: settings of SIFT.
        letters: the splice, "DG", "DD" or "GG"; "" = the photograph as it is.
        networks: those that `letters` names, or None.
        masks: where masks are, or None.
        draw: folder for pictures, or None.
        made_with: everything else that decides the numbers, for the file.
        run_file: the file that all photographs go to in the end, or None.
    """

    kind: FileFormat
    sift: SiftOptions
    letters: str
    networks: batch.Networks | None
    masks: Masks | None
    draw: str | None
    made_with: Mapping[str, Any]
    run_file: RunFile | None = None

    def load(self, item: Item) -> Shot:
        """Read the photograph and its mask."""
        return self.shot(batch.load_photo(item), item.relative)

    def shot(self, photo: Photo, place: PurePath) -> Shot:
        """The photograph with the mask of its place below the input folder."""
        mask = self.masks.read(place, photo.width, photo.height) if self.masks else None
        return Shot([photo.visible], mask, photo)

    def compute(self, item: Item, shot: Shot) -> Shot:
        """The photograph as the networks restore it, one view for each letter."""
        if self.networks is None or shot.photo is None:
            return Shot(shot.views, shot.mask)
        views = self.networks.restore_photo(shot.photo, self.letters)
        # A network returns the very photograph if it sees no rain in it.
        return Shot(views, shot.mask, derained=any(view is not shot.photo.visible for view in views))

    def save(self, item: Item, shot: Shot) -> Saved:
        """Detect, describe, write."""
        from idsr_cli.features import splice

        grey = [self._grey(view) for view in shot.views]
        same = len(grey) == 1 or shot.views[0] is shot.views[1]
        keypoints = splice(grey[0], grey[0] if same else grey[1], self.sift, shot.mask)
        meta = {"tool": "idsr", "version": __version__, **self.made_with, **video.about(item)}
        if self.run_file is not None:
            meta |= self.run_file.part_meta(item)
        data = self.kind.encode(keypoints, meta)
        # The picture first: an item whose keypoint file is there is complete.
        if self.draw is not None:
            self._draw(item, shot.views[0], keypoints)
        batch.emit(item.target, data)
        if self.run_file is not None:
            self.run_file.saved(item)
        height, width = shot.views[0].shape[:2]
        return Saved(width, height, len(keypoints), derained=shot.derained)

    def _grey(self, rgb: np.ndarray) -> torch.Tensor:
        from idsr_cli.scale_space import grey_image

        return grey_image(rgb, self.networks.device if self.networks else "cpu")

    def _draw(self, item: Item, rgb: np.ndarray, keypoints: Keypoints) -> None:
        from idsr_cli.drawing import draw_keypoints
        from idsr_cli.images.photo import Photo, encode

        assert self.draw is not None
        picture = draw_keypoints(rgb, keypoints)
        batch.emit(picture_path(self.draw, item), encode(Photo(picture), picture, "PNG"))
