"""Video clips in a run: a clip is one item of the batch, its frames are a batch of their own.

Clips are recognised by their suffix. They are processed if they are named; a folder search skips them, since phones
store a short clip beside every photograph. A clip becomes a clip, or a folder with one file per frame in display order
(`000000.npz`, ...) and `frames.json`, which lists the files with their times and is written last.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from idsr_cli import __version__
from idsr_cli.clips.reader import CLIP_FORMATS, CRF, Clip, Frame, is_clip, require_av, sampled
from idsr_cli.errors import IdsrError, ItemError, UsageError
from idsr_cli.files.atomic import write_bytes
from idsr_cli.runs.batch import Result, Saved, Stages, run_batch
from idsr_cli.runs.listener import Listener
from idsr_cli.runs.plan import Item, Naming
from idsr_cli.runs.request import Request, worker_count

if TYPE_CHECKING:
    from idsr_cli.images.photo import Photo
    from idsr_cli.restoration import Restored
    from idsr_cli.runs.stamps import Stamps

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


def frames_naming(photos: Naming) -> Naming:
    """As `photos`, and each clip becomes a folder of files; its target is the index in that folder."""

    def rename(relative: PurePath) -> PurePath:
        return relative / INDEX if is_clip(Path(relative)) else photos.rename(relative)

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
        elif suffix not in CLIP_FORMATS and item.target.name != INDEX:
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
        suffix: of the files that frames become.
        request: what the command was asked for.
        stamps: the record of the output folder.
        listener: hears of each frame.
        every, fps: which frames; see `sampled`.
        crf: quality of clips.
        load_frame: makes what `compute` takes, from a frame as a photograph and the path of its clip below the input.
        restored: gets the restored frame out of what `compute` returns; None if the command makes no clips.
        resumes: frames of an interrupted run with the same settings are kept.
    """

    suffix: str
    request: Request
    stamps: Stamps
    listener: Listener
    every: int = 1
    fps: float | None = None
    crf: int = CRF
    load_frame: Callable[[Photo, PurePath], Any] = lambda photo, relative: photo
    restored: Callable[[Any], Restored] | None = None
    resumes: bool = True

    @property
    def _jobs(self) -> int:
        return worker_count(self.request.jobs)

    def stages(self, photos: Stages[Any, Any]) -> Stages[Any, Any]:
        """As `photos`; a clip is processed as a whole in the `compute` stage."""

        def load(item: Item) -> Any:
            if not is_clip_item(item):
                return photos.load(item)
            assert item.source is not None
            return Clip(item.source)

        def compute(item: Item, loaded: Any) -> Any:
            if not isinstance(loaded, Clip):
                return photos.compute(item, loaded)
            with loaded, self.stamps.recording(item):
                return self._work(item, loaded, photos)

        def save(item: Item, computed: Any) -> Saved:
            return computed if isinstance(computed, Saved) else photos.save(item, computed)

        return Stages(load, compute, save, lambda loaded: 0 if isinstance(loaded, Clip) else photos.pixels(loaded))

    def _work(self, item: Item, clip: Clip, photos: Stages[Any, Any]) -> Saved:
        assert item.target is not None
        expected = -(-(clip.expected or 1) // self.every)
        if self.fps is not None and clip.rate is not None:
            expected = min(expected, max(1, round(expected / clip.rate * Fraction(self.fps))))
        count = _FrameCount(item, clip, expected, self.listener)

        def load(frame: Item) -> Any:
            return self.load_frame(_photo(frame), item.relative)

        def compute(frame: Item, loaded: Any) -> Any:
            computed = photos.compute(frame, loaded)
            count.computed_one()
            return computed

        work = replace(photos, load=load, compute=compute)
        frames = sampled(clip.frames(), self.every, self.fps)
        if item.target.name == INDEX:
            self._to_files(item, clip, frames, work, count)
        else:
            try:
                self._to_clip(item, clip, frames, work, count)
            except KeyboardInterrupt:
                # Half a clip could be taken for a whole one.
                self.listener.note(f"{item.name}: not finished, so no clip is written")
                raise
        return count.result()

    def _to_clip(
        self, item: Item, clip: Clip, frames: Iterator[Frame], work: Stages[Any, Any], count: _FrameCount
    ) -> None:
        from idsr_cli.clips.writer import write_clip

        assert item.target is not None
        assert self.restored is not None
        restored = self.restored
        first = next(frames)
        done: dict[int, Any] = {}
        with write_clip(item.target, clip, first, self.crf) as writer:
            for note in writer.notes:
                self.listener.note(f"{item.name}: {note}")

            def compute(frame: Item, photo: Photo) -> Any:
                result = restored(work.compute(frame, photo))
                # A dry frame is encoded as it is stored, without the way to RGB and back.
                return result.rgb if result.rain_seen else None

            def save(frame: Item, rgb: Any) -> Saved:
                assert isinstance(frame, FrameItem)
                assert frame.frame is not None
                done[frame.frame.index] = writer.picture(frame.frame, rgb)
                return Saved(clip.width, clip.height, derained=rgb is not None)

            def report(result: Result) -> None:
                if result.error is not None:
                    raise result.error
                assert isinstance(result.item, FrameItem)
                assert result.item.frame is not None
                writer.put(done.pop(result.item.frame.index))
                count.add(result)

            items = (FrameItem(clip.path, None, item.relative, frame=f) for f in _chain(first, frames))
            summary = run_batch(items, replace(work, compute=compute, save=save), report, self._jobs)
            if summary.interrupted:
                raise KeyboardInterrupt

    def _to_files(
        self, item: Item, clip: Clip, frames: Iterator[Frame], work: Stages[Any, Any], count: _FrameCount
    ) -> None:
        assert item.target is not None
        folder = item.target.parent
        mark = replace(item, target=folder / _UNFINISHED, done=True)
        kept = _numbers(folder, self.suffix) if self._can_resume(mark) else frozenset()
        item.target.unlink(missing_ok=True)
        write_bytes(folder / _UNFINISHED, b"")
        self.stamps.add(mark)
        written: list[tuple[int, float]] = []

        def frame_items() -> Iterator[FrameItem]:
            for frame in frames:
                name = f"{frame.index:06d}"
                target = folder / f"{name}{self.suffix}"
                there = frame.index in kept
                yield FrameItem(clip.path, target, item.relative / name, done=there, frame=frame, clip=item.relative)

        def report(result: Result) -> None:
            assert isinstance(result.item, FrameItem)
            assert result.item.frame is not None
            if result.error is None:
                written.append((result.item.frame.index, result.item.frame.time))
            count.add(result)

        summary = run_batch(frame_items(), work, report, self._jobs, self.request.fail_fast)
        if summary.stopped and count.error is not None:
            there = f"{len(written)} frames are there" if written else "no frame is there"
            raise ItemError(
                f"{count.error.reason}; {there}", hint="the same command goes on from there", path=item.name
            )
        if summary.interrupted:
            self.listener.note(f"{item.name}: {len(written)} frames are there; the same command goes on from them")
            raise KeyboardInterrupt
        # Frames of an earlier run that took others.
        for number in _numbers(folder, self.suffix) - {index for index, _ in written}:
            (folder / f"{number:06d}{self.suffix}").unlink(missing_ok=True)
        write_bytes(item.target, _index(item, clip, count.lost, self.suffix, written))
        (folder / _UNFINISHED).unlink(missing_ok=True)

    def _can_resume(self, mark: Item) -> bool:
        """True if an interrupted run has left frames of this clip, made with the same settings."""
        assert mark.target is not None
        wanted = self.resumes and self.request.existing == "skip"
        return wanted and mark.target.exists() and not self.stamps.check([mark])[0].stale


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
    error: IdsrError | None = None

    def __post_init__(self) -> None:
        self.listener.expect(self.expected - 1)

    def computed_one(self) -> None:
        """One more frame is computed."""
        if self.computed:  # the clip itself counts as one item, in place of its first frame
            self.listener.computed()
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
        return Saved(self.clip.width, self.clip.height, self.keypoints, frames, self.lost, self.derained)


def _photo(item: Item) -> Photo:
    from idsr_cli.images.photo import Photo

    assert isinstance(item, FrameItem)
    assert item.frame is not None
    over_8_bits = max(part.bits for part in item.frame.picture.format.components) > 8
    # A clip's rotation is to its frames what EXIF's orientation is to a photograph.
    return Photo(item.frame.rgb(), bits=16 if over_8_bits else 8, orientation=item.frame.orientation)


def _chain(first: Frame, rest: Iterator[Frame]) -> Iterator[Frame]:
    yield first
    yield from rest


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
