"""Keypoint files as an output of a run: what decides them, which of them exist, and how they are written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idsr_cli import __version__
from idsr_cli.errors import UsageError
from idsr_cli.extraction import LIKE, Like
from idsr_cli.formats import FORMATS
from idsr_cli.formats.colmap_db import Cameras
from idsr_cli.formats.descriptors import DescriptorKind
from idsr_cli.runs.frames import clip_settings, frame_meta, is_clip_item
from idsr_cli.runs.keypoint_files import KeypointSink
from idsr_cli.runs.listener import Listener
from idsr_cli.runs.masks import Masks
from idsr_cli.runs.outputs import Made, rain_record
from idsr_cli.runs.plan import Item, check_volume
from idsr_cli.runs.process import Write
from idsr_cli.runs.stamps import Stamps

if TYPE_CHECKING:
    import numpy as np

    from idsr_cli.images.photo import Photo
    from idsr_cli.keypoints import Keypoints
    from idsr_cli.restoration import Restorer
    from idsr_cli.weights import WeightsPair


@dataclass(frozen=True)
class SiftSettings:
    """What decides the content of the keypoint files.

    Attributes:
        format: a key of `FORMATS`.
        descriptors: kind of the descriptors.
        numbers: fields of `SiftOptions`, as `sift_fields` gives them.
        pair: the weights; None = photographs are taken as they are.
        splice: "DG", "DD" or "GG"; "" without weights.
        computed: precision and engine of the networks, as asked for, "auto" or "fp32" ...; engine None = any.
        removal: how rain is taken out, as far as it is not by default: `Removal.changed()`.
        masks: where masks are, or None.
        every, fps: which frames of clips.
        like: a key of `LIKE`.
        cameras: which photographs share a camera in a database; None = as by default.
    """

    format: str
    descriptors: DescriptorKind
    numbers: Mapping[str, Any]
    pair: WeightsPair | None
    splice: str
    computed: Mapping[str, str | None]
    removal: Mapping[str, Any] = field(default_factory=dict)
    masks: Masks | None = None
    every: int = 1
    fps: float | None = None
    like: Like = "opencv"
    cameras: Cameras | None = None

    def made_with(self) -> dict[str, Any]:
        """The settings that are recorded in each file: they decide its bytes."""
        return {
            "splice": self.splice or None,
            **(self.computed if self.pair else dict.fromkeys(self.computed)),
            "removal": dict(self.removal),
            "like": self.like,
            "sift": dict(self.numbers),
            "descriptors": self.descriptors,
            "mask": self.masks is not None,
        }

    def recorded(self) -> dict[str, Any]:
        """The settings for the record of the output folder, to find files that are out of date."""
        hashes = {} if self.pair is None else {"D": self.pair.dprnet.identity, "G": self.pair.ggirnet.identity}
        weights = [hashes[role] for role in self.splice] or None
        # Outputs that were made before there was a choice are like OpenCV's, and their records do not say so.
        like = None if self.like == "opencv" else self.like
        cameras = {} if self.cameras is None else asdict(self.cameras)
        chosen = {f"camera_{name}": value for name, value in cameras.items()}
        return {"weights": weights, "format": self.format, **self.made_with(), "like": like, **chosen}

    def run_meta(self, restorer: Restorer | None, tile: int | None) -> dict[str, Any]:
        """`made_with`, and what ran.

        Args:
            restorer: the networks, or None if none run.
            tile: side of a tile in pixels, 0 = none, None = from memory.
        """
        meta = {**self.made_with(), "weights": None}
        if self.pair is not None and restorer is not None:
            meta |= {
                "weights": {"name": self.pair.name, "sha256": self.pair.sha256},
                "precision": restorer.precision,
                "engine": restorer.engine,
                "device": restorer.device.partition(":")[0],
                "tile": "auto" if tile is None else tile,
            }
        return meta


# --- the plan --------------------------------------------------------------------------------------------------------


def check_masks(items: list[Item], masks: Masks) -> list[Item]:
    """The items; those without a mask are known to fail.

    Raises:
        UsageError: none has a mask, or standard input is among the items.
    """
    if any(item.source is None for item in items):
        raise UsageError("`--mask` finds masks by file name, and standard input has none")
    without = {id(item) for item in items if not item.done and masks.find(item.relative) is None}
    if without and len(without) == len(items):
        raise UsageError(masks.missing(items[0].relative), path=items[0].name)
    return [
        replace(i, target=None, problem=i.problem or masks.missing(i.relative)) if id(i) in without else i
        for i in items
    ]


def check_pictures(items: Sequence[Item], folder: str, masks: Masks | None) -> None:
    """Refuse pictures of keypoints that would replace a photograph, a mask or each other.

    Raises:
        UsageError: one would.
    """
    read = {os.path.realpath(item.source): "photograph" for item in items if isinstance(item.source, Path)}
    if masks is not None:
        found = (masks.find(item.relative) for item in items)
        read |= {os.path.realpath(path): "mask" for path in found if path is not None}
    for item in items:
        path = picture_path(folder, item)
        if (kind := read.get(os.path.realpath(path))) is not None:
            raise UsageError(
                f"a picture of keypoints would replace this {kind}", path=path, hint="give `--draw` a folder of its own"
            )
    check_volume({os.path.realpath(picture_path(folder, item)): item.name for item in items if not item.problem})


def picture_path(folder: str, item: Item) -> Path:
    """Where the picture of an item's keypoints goes."""
    return Path(folder) / item.relative.with_name(f"{item.relative.name}.png")


def is_drawn(folder: str, item: Item) -> bool:
    """True if the picture exists; for a clip, its folder of pictures."""
    return (Path(folder) / item.relative).is_dir() if is_clip_item(item) else picture_path(folder, item).exists()


# --- the output ------------------------------------------------------------------------------------------------------


class TooMany:
    """Photographs with more keypoints than the programs that read a format match.

    Args:
        most: the most that they match; None = any number.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._found: list[str] = []

    def check(self, name: str, count: int) -> None:
        """Note the photograph `name` if it has too many. Any thread."""
        if self._most is not None and count > self._most:
            self._found.append(name)

    def __str__(self) -> str:
        """What to tell the user; "" if there is nothing to tell."""
        if not self._found:
            return ""
        more = f" and {len(self._found) - 1} more" if len(self._found) > 1 else ""
        return (
            f"warning: {min(self._found)}{more}: more than {self._most} keypoints; programs that read this format lose "
            f"the rest (`--max-keypoints {self._most}` keeps the strongest)"
        )


class KeypointOutput:
    """The keypoint files of a run in one format; an `Output`.

    Args:
        sink: where they go.
        settings: what decides them.
        write: writes a picture.
        listener: told of photographs with more keypoints than programs match.
        draw: folder for pictures of the keypoints, or None.

    Attributes:
        settings: as above.
        is_text: the files can be printed on a terminal.
        meta: everything that decides the keypoints, for the files; `settings.run_meta`, once the networks are loaded.
    """

    masked = True

    def __init__(
        self, sink: KeypointSink, settings: SiftSettings, write: Write, listener: Listener, draw: str | None = None
    ) -> None:
        self.kind = settings.format
        self.roles = settings.splice
        self.suffix = sink.kind.suffix
        self.is_text = sink.kind.is_text
        # Which of a clip's pictures exist is not looked at.
        self.resumes = draw is None
        self.meta: Mapping[str, Any] = {}
        self._sink = sink
        self.settings = settings
        self._write = write
        self._draw = draw
        self._listener = listener
        self._too_many = TooMany(FORMATS[settings.format].most_keypoints)

    @property
    def stamps(self) -> Stamps:
        return self._sink.stamps

    def plan(self) -> list[Item]:
        settings, draw = self.settings, self._draw
        items = self._sink.plan()
        clips, masks = clip_settings(items, settings.every, settings.fps), settings.masks

        def own(item: Item) -> dict[str, Any]:
            of_mask = {} if masks is None else {"mask": masks.size(item.relative)}
            return {**of_mask, **(clips if is_clip_item(item) else {})}

        items = self._sink.check(items, settings.recorded(), own)
        if draw is not None:
            check_pictures(items, draw, masks)
            # Keypoints without their picture are not complete.
            items = [
                replace(item, done=False, stale="") if item.done and not is_drawn(draw, item) else item
                for item in items
            ]
        return items if masks is None else check_masks(items, masks)

    def accept(self, item: Item, photo: Photo) -> None:
        pass

    def write(self, item: Item, made: Made) -> tuple[str, ...]:
        from idsr_cli.features import SiftOptions

        splice = self.settings.splice
        keypoints = made.keypoints(SiftOptions(**self.settings.numbers), LIKE[self.settings.like].grey, splice)
        made.counts[self.kind] = len(keypoints)
        self._too_many.check(item.name, len(keypoints))
        # The picture first: an item whose keypoint file exists counts as complete.
        if self._draw is not None:
            self._draw_keypoints(picture_path(self._draw, item), made.detection_view(splice).rgb, keypoints)
        rain = {"rain": None, **rain_record(made.rain(splice))}
        meta = {"tool": "idsr", "version": __version__, **self.meta, **rain, **frame_meta(item)}
        self._sink.write(item, keypoints, meta)
        return ()

    def written(self, item: Item, keypoints: int) -> None:
        self._sink.written(item)
        self._too_many.check(item.name, keypoints)

    def finish(self, items: Sequence[Item]) -> None:
        self._sink.finish(items)
        if told := str(self._too_many):
            self._listener.note(told)

    def _draw_keypoints(self, path: Path, rgb: np.ndarray, keypoints: Keypoints) -> None:
        from idsr_cli.drawing import draw_keypoints
        from idsr_cli.images.photo import Photo, encode

        picture = draw_keypoints(rgb, keypoints)
        self._write(path, encode(Photo(picture), picture, "PNG"))
