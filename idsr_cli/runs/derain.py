"""The work of `idsr derain` on one photograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from idsr_cli.errors import UsageError
from idsr_cli.images.folders import SUFFIX_FORMATS
from idsr_cli.runs.batch import Saved, Stages
from idsr_cli.runs.frames import clips_naming, frames_naming, is_clip_item
from idsr_cli.runs.plan import Item, Naming
from idsr_cli.runs.process import Write, load_photo

if TYPE_CHECKING:
    from idsr_cli.images.photo import Photo
    from idsr_cli.restoration import Restored, Restorer


def photo_naming(extension: str | None) -> Naming:
    """Outputs have the name of their input; an extension replaces the suffix where it means another format.

    Args:
        extension: of the format to write, "png", or None = that of the input. With one, a clip becomes a folder of
            pictures, without one a clip.
    """

    def rename(relative: PurePath) -> PurePath:
        suffix = relative.suffix.lower()
        if extension is None or SUFFIX_FORMATS.get(suffix) == SUFFIX_FORMATS[f".{extension}"]:
            return relative
        if suffix in SUFFIX_FORMATS:
            return relative.with_suffix(f".{extension}")
        return relative.with_name(f"{relative.name}.{extension}")

    photos = Naming(rename, frozenset(SUFFIX_FORMATS), makes_photos=True)
    return clips_naming(photos) if extension is None else frames_naming(photos)


def check_extension(items: Sequence[Item], extension: str | None) -> None:
    """Refuse an OUT whose suffix means another format than `extension`.

    Raises:
        UsageError: it does.
    """
    for item in items:
        if extension is None or item.target is None or is_clip_item(item):
            continue
        if SUFFIX_FORMATS.get(item.target.suffix.lower()) != SUFFIX_FORMATS[f".{extension}"]:
            raise UsageError(f"the name contradicts `--format {extension}`", path=item.target)


@dataclass(frozen=True)
class DerainWork:
    """What every photograph of a run has in common.

    Attributes:
        restorer: with DPRNet; None if there is nothing to do.
        extension: of the format to write, or None = that of the output's name.
        quality: of JPEG and its like, 1..100.
        write: writes an output.
    """

    restorer: Restorer | None
    extension: str | None
    quality: int
    write: Write

    @property
    def stages(self) -> Stages[Photo, tuple[Photo, Restored]]:
        """The work as stages of a batch."""
        return Stages(self.load, self.compute, self.save, pixels=lambda photo: photo.width * photo.height)

    def load(self, item: Item) -> Photo:
        """Read the photograph, and refuse one that the format to write cannot hold."""
        from idsr_cli.images.photo import encoder_for

        photo = load_photo(item)
        written = self._format(item)
        # Checked before the networks run. In its own format a dry photograph needs no encoder.
        if written is not None and written != photo.format:
            encoder_for(photo, written)
        return photo

    def compute(self, item: Item, photo: Photo) -> tuple[Photo, Restored]:
        """Restore it."""
        assert self.restorer is not None
        return photo, self.restorer.restore_photo(photo, "D")[0]

    def save(self, item: Item, computed: tuple[Photo, Restored]) -> Saved:
        """Encode and write it."""
        from idsr_cli.images.photo import dropped, encode

        photo, restored = computed
        written = self._format(item)
        data = encode(photo, restored.rgb, written, self.quality)
        self.write(item.target, data)
        lost = dropped(photo, data, written)
        return Saved(photo.width, photo.height, derained=restored.rain_seen, dropped=lost)

    def _format(self, item: Item) -> str | None:
        """Format to write: that of the output's suffix; None = as the input, if there is none or an unknown one."""
        if self.extension is not None:
            return SUFFIX_FORMATS[f".{self.extension}"]
        return SUFFIX_FORMATS.get(item.target.suffix.lower()) if item.target is not None else None
