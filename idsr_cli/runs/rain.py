"""The work of `idsr rain` on one photograph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from idsr_cli.errors import ItemError, UsageError
from idsr_cli.images.folders import SUFFIX_FORMATS
from idsr_cli.runs.batch import Saved, Stages
from idsr_cli.runs.plan import Item
from idsr_cli.runs.process import Write, load_photo
from idsr_cli.runs.stamps import Stamps

if TYPE_CHECKING:
    import numpy as np
    import torch

    from idsr_cli.images.photo import Photo
    from idsr_cli.synthetic_rain import AskedRain


@dataclass(frozen=True)
class RainWork:
    """What every photograph of a run has in common.

    Attributes:
        seed: of the rain; together with a photograph's name it decides the rain on it.
        asked: the rain that was described.
        measured: streak layers, used in place of procedural streaks if there are any.
        stamps: the record of the output folder.
        write: writes an output.
    """

    seed: int
    asked: AskedRain
    measured: Sequence[torch.Tensor]
    stamps: Stamps
    write: Write

    @property
    def stages(self) -> Stages[Photo, tuple[Photo, np.ndarray]]:
        """The work as stages of a batch."""
        return Stages(load_photo, self.compute, self.save, pixels=lambda photo: photo.width * photo.height)

    def compute(self, item: Item, photo: Photo) -> tuple[Photo, np.ndarray]:
        """Rain on it. Rain falls down in the photograph as it is shown, not as its pixels are stored."""
        import numpy as np

        from idsr_cli.images.photo import undo_orientation
        from idsr_cli.synthetic_rain import rain_photo

        rainy = rain_photo(photo.oriented_rgb, self.seed, item.relative.as_posix(), self.asked, self.measured)
        return photo, np.ascontiguousarray(undo_orientation(rainy, photo.orientation))

    def save(self, item: Item, computed: tuple[Photo, np.ndarray]) -> Saved:
        """Encode and write it."""
        from idsr_cli.images.photo import dropped, encode

        photo, rainy = computed
        written = SUFFIX_FORMATS.get(item.target.suffix.lower() if item.target is not None else "")
        data = encode(photo, rainy, written)
        with self.stamps.recording(item):
            self.write(item.target, data)
        return Saved(photo.width, photo.height, dropped=dropped(photo, data, written))


def load_measured(folder: Path, skipped: Callable[[ItemError], None]) -> list[torch.Tensor]:
    """The streak layers of a folder, (H, W) uint8 each.

    Args:
        folder: is searched.
        skipped: told of each file that cannot be read.

    Raises:
        UsageError: none can be read.
    """
    from idsr_cli.images.folders import photos_in
    from idsr_cli.training.memory import load_layers

    found = load_layers(photos_in(folder), skipped)
    if not found:
        raise UsageError("no streak layer could be read", path=folder)
    return found
