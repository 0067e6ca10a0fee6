"""Video clips in a run: a clip is one item of the batch, its frames are a batch of their own.

Clips are recognised by their suffix. They are processed if they are named; a folder search skips them, since phones
store a short clip beside every photograph. A clip becomes a clip, or a folder with one file per frame in display order
(`000000.npz`, ...) and `frames.json`, which lists the files with their times and is written last.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, cast

from idsr_cli import __version__
from idsr_cli.clips.reader import CLIP_FORMATS, Clip, Frame, is_clip, require_av, sampled
from idsr_cli.errors import IdsrError, ItemError, UsageError
from idsr_cli.files.atomic import write_bytes
from idsr_cli.files.faults import failure
from idsr_cli.files.stores import Location, StorePath, local
from idsr_cli.runs.batch import Result, Saved, Stages, run_batch
from idsr_cli.runs.listener import Listener
from idsr_cli.runs.outputs import (
    ClipOutput,
    Loaded,
    Made,
    Output,
    PhotoWork,
    SomeOutputsFailed,
    combine,
    rain_record,
    saved,
    write_each,
)
from idsr_cli.runs.plan import Item, Naming
from idsr_cli.runs.request import Request, worker_count

if TYPE_CHECKING:
    from idsr_cli.images.photo import Photo
    from idsr_cli.rain_estimate import Rain
    from idsr_cli.runs.contact_sheet.thumbnails import Thumbnails

INDEX = "frames.json"
# Marks a folder whose clip is unfinished, so that the next run with the same settings continues it.
_UNFINISHED = ".idsr-unfinished"


@dataclass(frozen=True)
class FrameItem(Item):
    """One frame as an item of a batch.

    Attributes:
        frame: the frame.
        clip: path of the clip below its input folder.
    """

    frame: Frame | None = None
    clip: PurePath | None = None


def frame_meta(item: Item) -> dict[str, Any]:
    """What a keypoint file says about the frame it was made from; empty for photographs."""
    if not isinstance(item, FrameItem) or item.frame is None:
        return {}
    return {"frame": {"clip": str(item.clip), "index": item.frame.index, "time": item.frame.time}}


# --- the plan --------------------------------------------------------------------------------------------------------


def index_name(suffix: str) -> str:
    """The index of frames with keypoint files of this suffix: `frames.json` for .npz, `frames.txt.json` for .txt.

    Each format has its own, so that several can share a folder.
    """
    return INDEX if suffix == ".npz" else f"frames{suffix}.json"


def is_index(path: Location | None) -> bool:
    """True if the name is that of an index."""
    return path is not None and path.name.startswith("frames.") and path.suffix == ".json"


def unfinished_name(index: Path) -> str:
    """The name of the mark beside an index that is not written yet."""
    return _UNFINISHED + index.name.removeprefix("frames").removesuffix(".json")


def frames_naming(photos: Naming, index: str = INDEX) -> Naming:
    """As `photos`, and each clip becomes a folder of files; its target is `index` in that folder."""

    def rename(relative: PurePath) -> PurePath:
        return relative / index if is_clip(Path(relative)) else photos.rename(relative)

    return replace(photos, rename=rename)


def clips_naming(photos: Naming) -> Naming:
    """As `photos`, and each clip becomes a clip of the same name, with `.mkv` added if its format cannot be written."""

    def rename(relative: PurePath) -> PurePath:
        if not is_clip(Path(relative)):
            return photos.rename(relative)
        return relative if relative.suffix.lower() in CLIP_FORMATS else relative.with_name(f"{relative.name}.mkv")

    return replace(photos, rename=rename, file_suffixes=photos.file_suffixes | set(CLIP_FORMATS))


def is_clip_item(item: Item) -> bool:
    """True if the item is a clip."""
    return item.source is not None and is_clip(item.source)


def clip_settings(items: Sequence[Item], every: int, fps: float | None, crf: int | None = None) -> dict[str, Any]:
    """Check the clips in a plan.

    Args:
        items: the plan.
        every: take every N-th frame.
        fps: take so many frames a second; None = all.
        crf: quality of the clips that are written, 0..51; None = none are.

    Returns:
        The settings that decide the outputs of clips, for the record; empty if there are no clips.

    Raises:
        UsageError: a clip cannot be written to its target, a photograph would become a clip, the options contradict
            each other, or PyAV is missing.
    """
    if every > 1 and fps is not None:
        raise UsageError("`--every` and `--fps` exclude each other")
    for item in items:
        suffix = "" if item.target is None else item.target.suffix.lower()
        if item.problem:
            continue
        if not is_clip_item(item):
            if suffix in CLIP_FORMATS:
                raise UsageError("a photograph cannot be written as a clip", path=item.target)
        elif item.target is None:
            raise UsageError("a clip cannot go to standard output", path=item.name)
        elif isinstance(item.target, StorePath):
            hint = "write it to a local folder, and copy that"
            raise UsageError("what becomes of a clip cannot be written to a store", path=item.target, hint=hint)
        elif suffix not in CLIP_FORMATS and not is_index(item.target):
            raise UsageError(
                "a clip is written as a clip or as a folder of files",
                path=item.target,
                hint=f"name a folder or one of {' '.join(CLIP_FORMATS)}",
            )
    if not any(map(is_clip_item, items)):
        return {}
    require_av()
    return {"every": every, "fps": fps, "crf": crf}


# --- the work --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClipWork:
    """How a command works on clips.

    Attributes:
        photos: the work on a photograph, which is that on a frame too.
        request: what the command was asked for.
        listener: hears of each frame.
        every, fps: which frames; see `sampled`.
    """

    photos: PhotoWork
    request: Request
    listener: Listener
    every: int = 1
    fps: float | None = None

    @property
    def stages(self) -> Stages[Any, Any]:
        """As those of `photos`; a clip is processed as a whole in the `compute` stage."""
        photos = self.photos.stages

        def load(item: Item) -> Any:
            if not is_clip_item(item):
                return photos.load(item)
            return Clip(local(item.source))

        def compute(item: Item, loaded: Any) -> Any:
            if not isinstance(loaded, Clip):
                return photos.compute(item, loaded)
            with loaded:
                return self._work(item, loaded)

        def save(item: Item, computed: Any) -> Saved:
            return computed if isinstance(computed, Saved) else photos.save(item, computed)

        def pixels(loaded: Any) -> int:
            return 0 if isinstance(loaded, Clip) else photos.pixels(loaded)

        def look(item: Item) -> Thumbnails | None:
            return None if photos.look is None or is_clip_item(item) else photos.look(item)

        return Stages(load, compute, save, pixels, photos.look and look)

    def _work(self, item: Item, clip: Clip) -> Saved:
        expected = -(-(clip.expected or 1) // self.every)
        if self.fps is not None and clip.rate is not None:
            expected = min(expected, max(1, round(expected / clip.rate * Fraction(self.fps))))
        count = _FrameCount(item, clip, expected, self.listener)
        frames = sampled(clip.frames(), self.every, self.fps)
        first = next(frames)
        waiting = self.photos.outputs.waiting(item)
        outputs: list[_FrameFiles | _FrameClip] = []
        try:
            with ExitStack() as ending:
                lines = []
                for output, one in waiting:
                    lines.append(ending.enter_context(output.stamps.recording(one)))
                    outputs.append(self._frames_of(output, one, clip, first))
                    ending.push(outputs[-1].leave)
                self._run(item, first, frames, outputs, count)
                for line in lines:
                    line.update(rain_record(count.rain))
        except KeyboardInterrupt:
            notes = [output.interrupted for output in outputs]
            # Ctrl-C may come before they are all open.
            notes += [_FrameClip.interrupted for _, one in waiting[len(notes) :] if not is_index(one.target)]
            for note in dict.fromkeys(notes):
                self.listener.note(f"{item.name}: {note}")
            raise
        failures = {output.item.kind: output.error for output in outputs if output.error is not None}
        if failures and not item.outputs:
            raise next(iter(failures.values()))
        reasons = {one.kind: one.problem for one in item.outputs if one.problem}
        reasons |= {kind: error.reason for kind, error in failures.items()}
        if reasons:
            raise SomeOutputsFailed(reasons, next((error.hint for error in failures.values()), ""))
        return count.result()

    def _frames_of(self, output: Output, item: Item, clip: Clip, first: Frame) -> _FrameFiles | _FrameClip:
        if is_index(item.target):
            return _FrameFiles(output, item, clip, self.request.existing == "skip")
        return _FrameClip(cast(ClipOutput, output), item, clip, first, self.listener)

    def _run(
        self,
        item: Item,
        first: Frame,
        frames: Iterator[Frame],
        outputs: Sequence[_FrameFiles | _FrameClip],
        count: _FrameCount,
    ) -> None:
        """Put every frame through the networks once, in order, and give it to all outputs of the clip."""
        photos = replace(self.photos, before={})

        def frame_items() -> Iterator[Item]:
            for frame in itertools.chain([first], frames):
                yield combine([output.frame_item(frame) for output in outputs])

        def load(frame: Item) -> Loaded:
            return photos.accept(frame, _photo(frame), item.relative)

        def compute(frame: Item, loaded: Loaded) -> Made:
            made = photos.compute(frame, loaded)
            count.computed_one()
            return made

        def save(frame: Item, made: Made) -> Saved:
            items = zip(outputs, frame.each_output, strict=True)
            write_each(frame, [(partial(output.write, made), one) for output, one in items if one.waits])
            # A contact sheet shows the first frame.
            shown = isinstance(frame, FrameItem) and frame.frame is not None and frame.frame.index == first.index
            return saved(made, detail=self.photos.detail if shown else None)

        def report(result: Result) -> None:
            for output in outputs:
                output.add(result)
            errors = [output.error for output in outputs]
            if errors[0] is not None and None not in errors:
                raise errors[0]
            count.add(result)

        stages = Stages(load, compute, save, pixels=lambda loaded: loaded.pixels)
        summary = run_batch(frame_items(), stages, report, worker_count(self.request.jobs), self.request.fail_fast)
        if summary.interrupted:
            raise KeyboardInterrupt
        files = [output for output in outputs if isinstance(output, _FrameFiles)]
        if summary.stopped and count.error is not None:
            there = f"; {files[0].there}" if files else ""
            raise ItemError(f"{count.error.reason}{there}", hint="the same command goes on from there", path=item.name)
        for output in outputs:
            output.finish(count.lost)


class _FrameFiles:
    """The frames of a clip as one file each, with an index, for one output.

    Args:
        output: writes the files.
        item: the clip; its target is the index.
        clip: the clip.
        keep: files of an interrupted run with the same settings are kept, if the output allows it.

    Attributes:
        item: as above.
        error: why the whole output failed; always None, since files of other frames are kept.
    """

    error: IdsrError | None = None

    def __init__(self, output: Output, item: Item, clip: Clip, keep: bool) -> None:
        target = local(item.target)
        self.item = item
        self._output = output
        self._clip = clip
        self._folder = target.parent
        self._unfinished = self._folder / unfinished_name(target)
        self._mark = replace(item, target=self._unfinished, done=True)
        self._written: list[tuple[int, float]] = []
        self._kept = _numbers(self._folder, output.suffix) if keep and self._can_resume() else frozenset()
        target.unlink(missing_ok=True)
        write_bytes(self._unfinished, b"")
        output.stamps.add(self._mark)

    def _can_resume(self) -> bool:
        """True if an interrupted run has left frames of this clip, made with the same settings."""
        there = self._output.resumes and self._unfinished.exists()
        return there and not self._output.stamps.check([self._mark])[0].stale

    def frame_item(self, frame: Frame) -> FrameItem:
        """The frame with its file."""
        item, name = self.item, f"{frame.index:06d}"
        return FrameItem(
            item.source,
            self._folder / f"{name}{self._output.suffix}",
            item.relative / name,
            done=frame.index in self._kept,
            kind=item.kind,
            frame=frame,
            clip=item.relative,
        )

    def write(self, made: Made, frame: Item) -> tuple[str, ...]:
        """Write a frame. Any thread."""
        return self._output.write(frame, made)

    def add(self, result: Result) -> None:
        """One more frame is written, kept or lost; in order."""
        assert isinstance(result.item, FrameItem)
        assert result.item.frame is not None
        if result.error is None:
            self._written.append((result.item.frame.index, result.item.frame.time))

    @property
    def there(self) -> str:
        """How many frames are there, in words."""
        return f"{len(self._written)} frames are there" if self._written else "no frame is there"

    @property
    def interrupted(self) -> str:
        """What becomes of it after Ctrl-C."""
        return f"{len(self._written)} frames are there; the same command goes on from them"

    def finish(self, lost: int) -> None:
        """Write the index, and remove frames of an earlier run that took others."""
        suffix = self._output.suffix
        for number in _numbers(self._folder, suffix) - {index for index, _ in self._written}:
            (self._folder / f"{number:06d}{suffix}").unlink(missing_ok=True)
        write_bytes(local(self.item.target), _index(self.item, self._clip, lost, suffix, self._written))
        self._unfinished.unlink(missing_ok=True)

    def leave(self, *error: Any) -> None:
        """Nothing to close."""


class _FrameClip:
    """The frames of a clip as a clip, for one output.

    Args:
        output: makes the pictures.
        item: the clip; its target is the new one.
        clip: the clip.
        first: its first frame.
        listener: told of what the new clip cannot keep.

    Attributes:
        item: as above.
        error: why there is no new clip, or None.
    """

    interrupted = "not finished, so no clip is written"

    def __init__(self, output: ClipOutput, item: Item, clip: Clip, first: Frame, listener: Listener) -> None:
        from idsr_cli.clips.writer import write_clip

        self.item = item
        self.error: IdsrError | None = None
        self._output = output
        # Encoded in order, made in any order.
        self._pictures: dict[int, Any] = {}
        self._open = ExitStack()
        try:
            self._writer = self._open.enter_context(write_clip(local(item.target), clip, first, output.crf))
        except Exception as error:  # the other outputs go on
            self._fail(error)
            return
        for note in self._writer.notes:
            listener.note(f"{item.name}: {note}")

    def _fail(self, error: Exception) -> None:
        self.error = failure(error, self.item.name)
        self.leave(type(error), error, error.__traceback__)

    def frame_item(self, frame: Frame) -> FrameItem:
        """The frame, which has no file of its own."""
        item = self.item
        name = item.relative / f"{frame.index:06d}"
        done = self.error is not None
        return FrameItem(item.source, None, name, done=done, kind=item.kind, frame=frame, clip=item.relative)

    def write(self, made: Made, frame: Item) -> tuple[str, ...]:
        """Make the picture of a frame. Any thread."""
        assert isinstance(frame, FrameItem)
        assert frame.frame is not None
        if self.error is None:
            self._pictures[frame.frame.index] = self._writer.picture(frame.frame, self._output.frame(made))
        return ()

    def add(self, result: Result) -> None:
        """Encode the next frame. A clip without it would be another clip, so one lost frame is the end of it."""
        if self.error is not None:
            return
        assert isinstance(result.item, FrameItem)
        assert result.item.frame is not None
        try:
            if result.error is not None:
                raise result.error
            self._writer.put(self._pictures.pop(result.item.frame.index))
        except Exception as error:  # the other outputs go on
            self._fail(error)

    def finish(self, lost: int) -> None:
        """Close the clip; it appears now."""
        try:
            self._open.close()
        except Exception as error:  # the other outputs go on
            self._fail(error)

    def leave(self, *error: Any) -> None:
        """After an exception, remove what there is of the clip."""
        self._open.__exit__(*error)


@dataclass
class _FrameCount:
    """Counts the frames of a clip, and tells the listener of each.

    Attributes:
        item: the clip in the plan.
        clip: the clip.
        expected: number of frames, as far as it is known.
        listener: hears of them.
        computed, saved, failed: numbers of frames so far; `saved` includes those that failed.
        keypoints: of all frames; None if the command writes none.
        derained: True if rain was seen in a frame; None if no network ran.
        rainy_frames: what was seen in each frame that a network ran on.
        thumbnails: of the first frame, if a contact sheet is wanted.
        error: of the frame that failed last.
    """

    item: Item
    clip: Clip
    expected: int
    listener: Listener
    computed: int = 0
    saved: int = 0
    failed: int = 0
    keypoints: int | None = None
    derained: bool | None = None
    rainy_frames: list[Rain] = field(default_factory=list)
    thumbnails: Thumbnails | None = None
    error: IdsrError | None = None

    def __post_init__(self) -> None:
        self.listener.expect(self.expected - 1)

    def computed_one(self) -> None:
        """One more frame is computed."""
        if self.computed:  # the clip itself counts as one item, in place of its first frame
            self.listener.computed()
        else:
            self.listener.started(self.item)
        self.computed += 1

    def add(self, result: Result) -> None:
        """One more frame is saved or has failed."""
        if self.saved:
            self.listener.advance()
        self.saved += 1
        if self.saved > self.expected:
            self.expected += 1
            self.listener.expect(1)
        if result.error is not None:
            self.failed, self.error = self.failed + 1, result.error
            where = f"{self.item.name}, frame {result.item.relative.name}"
            self.listener.error(
                ItemError(result.error.reason, path=where, hint=result.error.hint), result.error.__cause__
            )
        if result.saved is not None and result.saved.keypoints is not None:
            self.keypoints = (self.keypoints or 0) + result.saved.keypoints
        if result.saved is not None and result.saved.derained is not None:
            self.derained = self.derained or result.saved.derained
        if result.saved is not None and result.saved.rain is not None:
            self.rainy_frames.append(result.saved.rain)
        self.thumbnails = self.thumbnails or result.thumbnails

    @property
    def rain(self) -> Rain | None:
        """How much rain was seen in all frames together; None if no network ran."""
        from idsr_cli.rain_estimate import Rain

        return Rain.over_frames(self.rainy_frames)

    @property
    def lost(self) -> int:
        """Frames that could not be decoded or processed."""
        return self.clip.damaged + self.failed

    def result(self) -> Saved:
        """What became of the clip. Damaged frames are reported as an error."""
        self.listener.expect(self.saved - self.expected)
        if self.clip.damaged:
            more = f" (and {len(self.clip.faults) - 1} more)" if len(self.clip.faults) > 1 else ""
            gone = "1 frame is" if self.clip.damaged == 1 else f"{self.clip.damaged} frames are"
            self.listener.error(ItemError(f"{gone} lost: {self.clip.faults[0]}{more}", path=self.item.name))
        frames = self.saved - self.failed
        return Saved(
            self.clip.width,
            self.clip.height,
            self.keypoints,
            frames,
            self.lost,
            self.derained,
            rain=self.rain,
            thumbnails=self.thumbnails,
        )


def _photo(item: Item) -> Photo:
    from idsr_cli.images.photo import Photo

    assert isinstance(item, FrameItem)
    assert item.frame is not None
    over_8_bits = max(part.bits for part in item.frame.picture.format.components) > 8
    # A clip's rotation is to its frames what EXIF's orientation is to a photograph.
    return Photo(item.frame.rgb(), bits=16 if over_8_bits else 8, orientation=item.frame.orientation)


def _numbers(folder: Path, suffix: str) -> frozenset[int]:
    """Numbers of the frames that have a file in a folder."""
    pattern = re.compile(rf"(\d{{6,}}){re.escape(suffix)}")
    matches = (pattern.fullmatch(path.name) for path in (folder.iterdir() if folder.is_dir() else ()))
    return frozenset(int(match[1]) for match in matches if match)


def _index(item: Item, clip: Clip, lost: int, suffix: str, written: list[tuple[int, float]]) -> bytes:
    head = {
        "schema": 1,
        "tool": "idsr",
        "version": __version__,
        "clip": item.relative.name,
        "width": clip.width,
        "height": clip.height,
        "rate": None if clip.rate is None else str(clip.rate),
        "lost": lost,
    }
    frames = [json.dumps({"file": f"{n:06d}{suffix}", "index": n, "time": round(t, 6)}) for n, t in written]
    # A line for each frame, and JSON as a whole.
    return (json.dumps(head)[:-1] + ', "frames": [\n' + ",\n".join(frames) + "\n]}\n").encode("ascii")
