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

    from idsr_cli.features import SiftOptions
    from idsr_cli.images.photo import Photo
    from idsr_cli.keypoints import Keypoints
    from idsr_cli.restoration import Restored, Restorer


@dataclass(frozen=True)
class Loaded:
    """A photograph in memory, and its mask: (H, W) bool or None."""

    photo: Photo
    mask: np.ndarray | None

    @property
    def pixels(self) -> int:
        """How many."""
        return self.photo.width * self.photo.height


@dataclass(frozen=True)
class Viewed:
    """A photograph as the networks restored it: one view, or two if one network detects and the other describes.

    `derained` says whether a network saw rain; None if none looked. The mask is (H, W) bool or None.
    """

    views: list[Restored]
    mask: np.ndarray | None
    derained: bool | None


def picture_path(folder: str, item: Item) -> Path:
    """Where the picture of an item's keypoints goes."""
    return Path(folder) / item.relative.with_name(f"{item.relative.name}.png")


def is_drawn(folder: str, item: Item) -> bool:
    """Whether the picture is there; of a clip, its folder of pictures."""
    return (Path(folder) / item.relative).is_dir() if video.of_clip(item) else picture_path(folder, item).exists()


@dataclass(frozen=True)
class SiftRun:
    """What every photograph of a run has in common.

    Attributes:
        kind: format of the files that photographs get, of parts if there is a `run_file`.
        sift: settings of SIFT.
        letters: the splice, "DG", "DD" or "GG"; "" = the photograph as it is.
        restorer: the networks that `letters` names, or None.
        masks: where masks are, or None.
        draw: folder for pictures, or None.
        made_with: everything else that decides the numbers, for the file.
        run_file: the file that all photographs go to in the end, or None.
    """

    kind: FileFormat
    sift: SiftOptions
    letters: str
    restorer: Restorer | None
    masks: Masks | None
    draw: str | None
    made_with: Mapping[str, Any]
    run_file: RunFile | None = None

    def load(self, item: Item) -> Loaded:
        """Read the photograph and its mask."""
        return self.with_mask(batch.load_photo(item), item.relative)

    def with_mask(self, photo: Photo, place: PurePath) -> Loaded:
        """The photograph with the mask of its place below the input folder."""
        return Loaded(photo, self.masks.read(place, photo.width, photo.height) if self.masks else None)

    def compute(self, item: Item, loaded: Loaded) -> Viewed:
        """The photograph as the networks restore it, one view for each letter."""
        from idsr_cli.extraction import unrestored

        if self.restorer is None:
            return Viewed([unrestored(loaded.photo.visible)], loaded.mask, derained=None)
        views = self.restorer.restore_photo(loaded.photo, self.letters)
        return Viewed(views, loaded.mask, derained=any(view.rain_seen for view in views))

    def save(self, item: Item, viewed: Viewed) -> Saved:
        """Detect, describe, write."""
        from idsr_cli.extraction import extract

        device = self.restorer.device if self.restorer else "cpu"
        keypoints = extract(viewed.views, self.sift, mask=viewed.mask, device=device)
        meta = {"tool": "idsr", "version": __version__, **self.made_with, **video.about(item)}
        if self.run_file is not None:
            meta |= self.run_file.part_meta(item)
        data = self.kind.encode(keypoints, meta)
        rgb = viewed.views[0].rgb
        # The picture first: an item whose keypoint file is there is complete.
        if self.draw is not None:
            self._draw(item, rgb, keypoints)
        batch.emit(item.target, data)
        if self.run_file is not None:
            self.run_file.saved(item)
        height, width = rgb.shape[:2]
        return Saved(width, height, len(keypoints), derained=viewed.derained)

    def _draw(self, item: Item, rgb: np.ndarray, keypoints: Keypoints) -> None:
        from idsr_cli.drawing import draw_keypoints
        from idsr_cli.images.photo import Photo, encode

        assert self.draw is not None
        picture = draw_keypoints(rgb, keypoints)
        batch.emit(picture_path(self.draw, item), encode(Photo(picture), picture, "PNG"))
