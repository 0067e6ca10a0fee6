"""Derained photographs as an output of a run: of `idsr derain`, and of other commands that derain on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from idsr_cli.clips.reader import CRF
from idsr_cli.errors import UsageError
from idsr_cli.images.encoders import JPEG_QUALITY
from idsr_cli.images.folders import SUFFIX_FORMATS
from idsr_cli.runs.frames import clip_settings, clips_naming, frames_naming, is_clip_item
from idsr_cli.runs.outputs import Made
from idsr_cli.runs.plan import Item, Naming
from idsr_cli.runs.process import Write
from idsr_cli.runs.request import Request
from idsr_cli.runs.stamps import Stamps

if TYPE_CHECKING:
    import numpy as np

    from idsr_cli.images.photo import Photo
    from idsr_cli.weights import WeightsPair


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
            raise UsageError(f"the name contradicts the format {extension}", path=item.target)


class DerainedOutput:
    """The derained photographs and clips of a run; an `Output`.

    Args:
        request: what was asked for; its `output` is where they go.
        pair: the weights; DPRNet restores.
        computed: precision and engine of the network, as asked for; engine None = any.
        write: writes an output.
        extension: of the format to write, "png", or None = that of the output's name.
        quality: of JPEG and its like, 1..100.
        crf: quality of clips, 0..51.
        every, fps: which frames of clips.
        removal: how rain is taken out, as far as it is not by default: `Removal.changed()`.
    """

    kind = "derained"
    roles = "D"
    masked = False
    resumes = True

    def __init__(
        self,
        request: Request,
        pair: WeightsPair,
        computed: Mapping[str, str | None],
        write: Write,
        *,
        extension: str | None = None,
        quality: int = JPEG_QUALITY,
        crf: int = CRF,
        every: int = 1,
        fps: float | None = None,
        removal: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.suffix = f".{extension}"
        self.crf = crf
        self.stamps = Stamps(None, {})
        self._request = request
        self._pair = pair
        self._computed = dict(computed)
        self._write = write
        self._extension = extension
        self._quality = quality
        self._frames = every, fps
        self._removal = dict(removal)

    def plan(self) -> list[Item]:
        naming = photo_naming(self._extension)
        items = self._request.plan(naming)
        check_extension(items, self._extension)
        clips = clip_settings(items, *self._frames, self.crf if self._extension is None else None)
        settings = {
            "weights": self._pair.dprnet.identity,
            **self._computed,
            "format": self._extension,
            "quality": self._quality,
            "removal": self._removal,
        }
        self.stamps = self._request.stamps(naming, "derain", settings, lambda i: clips if is_clip_item(i) else {})
        return self.stamps.check(items)

    def accept(self, item: Item, photo: Photo) -> None:
        from idsr_cli.images.photo import encoder_for

        written = self._format(item)
        # In its own format a dry photograph needs no encoder.
        if written is not None and written != photo.format and not is_clip_item(item):
            encoder_for(photo, written)

    def write(self, item: Item, made: Made) -> tuple[str, ...]:
        from idsr_cli.images.photo import dropped, encode

        written = self._format(item)
        data = encode(made.photo, made.views["D"].rgb, written, self._quality)
        self._write(item.target, data)
        return dropped(made.photo, data, written)

    def frame(self, made: Made) -> np.ndarray | None:
        view = made.views["D"]
        # A dry frame is encoded as it is stored, without the way to RGB and back.
        return view.rgb if view.rain_seen else None

    def written(self, item: Item, keypoints: int) -> None:
        pass

    def finish(self, items: Sequence[Item]) -> None:
        pass

    def _format(self, item: Item) -> str | None:
        """Format to write: that of the output's suffix; None = as the input, if there is none or an unknown one."""
        if self._extension is not None:
            return SUFFIX_FORMATS[f".{self._extension}"]
        return SUFFIX_FORMATS.get(item.target.suffix.lower()) if item.target is not None else None
