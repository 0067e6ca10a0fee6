"""Video clips, frame by frame: read as an iterator, written completely or not at all. Needs PyAV (extra `video`).

Kept: every frame once and in order, its time stamp (variable rates too; `clock` mends those that start again),
the stored pixel grid (rotation stays a tag and is not applied), the shape of pixels, colour range, primaries, transfer
curve and matrix, chroma subsampling, 8 or 10 bits, sound and subtitles (copied, not encoded again), chapters and tags.

Changed: the picture is encoded again, lossily unless `crf` is 0. RGB becomes Y'CbCr 4:4:4, and so does a clip with an
odd width or height, which H.264 cannot store otherwise. More than 10 bits become 10. Matroska and WebM round time
stamps to milliseconds. There is no colour management: the numbers in the file are the numbers processed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path, PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Any

from idsr_cli.clips.clock import Clock, clock_of
from idsr_cli.clips.ending import frames_cut_off, is_whole
from idsr_cli.clips.matroska import MATROSKA, recordings
from idsr_cli.clips.opening import open_clip
from idsr_cli.clips.pixels import rgb_of
from idsr_cli.errors import ItemError, UsageError, extra_hint
from idsr_cli.files.faults import one_line
from idsr_cli.files.stores import StorePath

if TYPE_CHECKING:
    import av
    import numpy as np
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

# Containers that can be written, with FFmpeg's name of the muxer. All others can only be read.
CLIP_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
CLIP_SUFFIXES = frozenset(
    [*CLIP_FORMATS, *".avi .mts .m2ts .ts .mpg .mpeg .vob .wmv .asf .flv .3gp .3g2 .ogv .mxf .dv".split()]
)
CRF = 12

# Containers that say when a frame is decoded, but not when it is shown.
_NO_PTS = frozenset({"avi"})


def is_clip(path: PurePath | StorePath) -> bool:
    """True if the suffix is that of a video clip."""
    return path.suffix.lower() in CLIP_SUFFIXES


def require_av() -> Any:
    """The PyAV module.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise UsageError("video clips need PyAV", hint=extra_hint("video")) from error
    return av


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded frame.

    Attributes:
        index: number in the order of display, from 0.
        pts: time stamp in units of the clip's `time_base`; strictly increasing.
        time: the same in seconds.
        picture: the decoded frame; its pixels must not be changed.
    """

    index: int
    pts: int
    time: float
    picture: av.VideoFrame

    @property
    def orientation(self) -> int:
        """How a player turns the stored grid, as EXIF's number; mirroring is ignored."""
        # Keys are quarter turns counter-clockwise.
        return {0: 1, 1: 8, 2: 3, 3: 6}[round(self.picture.rotation / 90) % 4]

    def rgb(self) -> np.ndarray:
        """(H, W, 3) float32 RGB in [0, 1], on the stored grid."""
        return rgb_of(self.picture)


@dataclass
class Clip:
    """An open clip; a context manager.

    Attributes:
        path: the file.
        width: of the stored grid, pixels.
        height: of the stored grid, pixels.
        time_base: unit of time stamps, seconds.
        rate: average frames per second, or None if unknown.
        clock: what the file's time stamps mean; those of frames and packets are counted on it already.
        expected: number of frames according to the file, or None if unknown. Only good for progress: edit lists show
            fewer, and some files are wrong.
        shown: frames yielded so far.
        damaged: frames known to be lost so far, because their data are missing or cannot be decoded.
        faults: one line for each fault found so far.
    """

    path: Path
    width: int = 0
    height: int = 0
    time_base: Fraction = Fraction(1, 1000)
    rate: Fraction | None = None
    clock: Clock = field(default_factory=Clock)
    expected: int | None = None
    shown: int = 0
    damaged: int = 0
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        require_av()
        with plain_errors(self.path):
            if not os.path.getsize(self.path):
                raise ItemError("the file is empty", path=self.path)
            self._container: InputContainer = open_clip(self.path)
        try:
            self._stream = self._choose()
            with plain_errors(self.path):
                self.clock = clock_of(self._container, self.path)
        except BaseException:
            self._container.close()
            raise
        if self.clock.joints:
            self.expected = self.clock.packets.get(self._stream.index)

    def _choose(self) -> VideoStream:
        from av.stream import Disposition

        pictures = [s for s in self._container.streams.video if not s.disposition & Disposition.attached_pic]
        if not pictures:
            raise ItemError("holds no video", path=self.path)
        known = [s for s in pictures if s.codec_context is not None]
        if not known:
            raise ItemError("a kind of video that cannot be decoded", path=self.path)
        best = self._container.streams.best("video")
        stream = next((s for s in known if best is not None and s.index == best.index), known[0])
        if not stream.codec_context.width or not stream.codec_context.height:
            raise ItemError("damaged: the size of its frames is not known", path=self.path)
        self.width, self.height = stream.codec_context.width, stream.codec_context.height
        self.time_base = stream.time_base or self.time_base
        self.rate = stream.average_rate or stream.guessed_rate
        self.expected = stream.frames or self._guess(stream)
        # Frame threads would report an error several packets late and drop good frames.
        stream.thread_type = "SLICE"
        return stream

    def _guess(self, stream: VideoStream) -> int | None:
        seconds = _seconds(stream.duration, stream.time_base) or (self._container.duration or 0) / 1e6
        return round(seconds * self.rate) or None if self.rate and seconds > 0 else None

    @property
    def container(self) -> InputContainer:
        """PyAV's container."""
        return self._container

    @property
    def stream(self) -> VideoStream:
        """PyAV's stream of the frames."""
        return self._stream

    def frames(self) -> Iterator[Frame]:
        """The frames as a player shows them; can be iterated once.

        Damaged data are skipped and counted in `damaged`, which is complete after the last frame.

        Raises:
            ItemError: nothing could be decoded, or the frames change their size.
        """
        import av

        times = _Times(trust_pts=self._container.format.name not in _NO_PTS)
        last: int | None = None
        first: int | None = None
        packets = to_show = 0
        end = end_of_pictures = 0.0
        waiting: set[int] = set()  # time stamps given to the decoder whose frames it has not returned yet
        for packet in self._packets():
            if packet.stream.index != self._stream.index:
                end = max(end, _end_of(packet))
                continue
            if not packet.size and packet.pts is not None:
                continue  # an empty packet says that the picture before it stays (Theora)
            if packet.size:
                packets += 1
                end_of_pictures = max(end_of_pictures, _end_of(packet))
                end = max(end, end_of_pictures)
                if packet.pts is not None and not packet.is_discard:
                    to_show += 1
                    waiting.add(packet.pts)
            try:
                pictures = self._stream.decode(packet)
            except av.error.EOFError:
                continue
            except av.error.FFmpegError:
                self._record_damage(packet.pts)
                to_show -= 1
                waiting.discard(packet.pts or 0)
                continue
            for picture in pictures:
                if (picture.width, picture.height) != (self.width, self.height):
                    if self.shown:
                        raise ItemError(
                            f"frame {self.shown} is {picture.width}x{picture.height}, "
                            f"those before {self.width}x{self.height}",
                            path=self.path,
                            hint="split the clip there",
                        )
                    self.width, self.height = picture.width, picture.height
                if picture.pts is not None:
                    waiting.discard(picture.pts)
                    first = picture.pts if first is None else first
                # Time stamps must increase, even if the file has none or repeats them.
                pts = times.of(picture)
                pts = self._next_pts(last) if pts is None else pts
                last = pts if last is None else max(pts, last + 1)
                yield Frame(self.shown, last, float(last * self.time_base), picture)
                self.shown += 1
        # A decoder may also drop data without an error. Data before the first frame do not count: they cannot be shown.
        dropped = sorted(pts for pts in waiting if first is not None and pts > first)
        for pts in dropped[: max(0, to_show - self.shown)]:
            self._record_damage(pts)
        self._check_end(packets, end_of_pictures, end)
        if not self.shown:
            raise ItemError(f"damaged: {self.faults[0]}" if self.faults else "holds no frames", path=self.path)

    def _packets(self) -> Iterator[Packet]:
        import av

        packets = self.clock.applied(self._container.demux())
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.error.FFmpegError, OSError) as error:
                self.faults.append(f"cannot be read to its end: {_wording(error)}")
                self.damaged = max(self.damaged, 1)
                # An empty packet makes the decoder return the complete frames it still holds.
                flush = av.Packet()
                flush.stream = self._stream
                yield flush
                return
            yield packet

    def _next_pts(self, last: int | None) -> int:
        step = round(1 / (self.rate * self.time_base)) if self.rate else 1
        return 0 if last is None else last + max(1, step)

    def _record_damage(self, pts: int | None) -> None:
        self.damaged += 1
        at = "" if pts is None else f" near {float(pts * self.time_base):.2f} s"
        self.faults.append(f"damaged data{at}")

    def _check_end(self, packets: int, end_of_pictures: float, end: float) -> None:
        """Detect a truncated file, which decoders end without an error."""
        kind = self._container.format.name
        missing = frames_cut_off(self.path, kind, self._stream, packets, round(end_of_pictures / self.time_base))
        if missing:
            self.damaged += missing
            self.faults.append(f"cut off: {missing} of {self._stream.frames} frames are not there")
            return
        if kind != MATROSKA:
            return
        joined, read = recordings(self.path), len(self.clock.joints) + 1
        if joined > read:
            self.damaged += 1  # at least
            self.faults.append(f"{joined} recordings one behind the other, of which {read} can be read")
        length = (self._container.duration or 0) / 1e6
        if end < length - 0.5 - 0.02 * length and not is_whole(self.path, kind):
            self.damaged += max(1, round((length - end) * self.rate) if self.rate else 1)
            self.faults.append(f"cut off at {end:.2f} s of {length:.2f} s")

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def __enter__(self) -> Clip:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass
class _Times:
    """The time stamps of decoded frames, by the rule of FFmpeg's own tools.

    A frame has the time at which it is shown, as the container tells or the demuxer guesses, and the time at which the
    decoder gave it out. The second one counts if there is no first one, or if those have stepped back more often.

    Attributes:
        trust_pts: the container tells when a frame is shown.
    """

    trust_pts: bool
    _wrong_pts: int = 0
    _wrong_dts: int = 0
    _last_pts: int | None = None
    _last_dts: int | None = None

    def of(self, picture: av.VideoFrame) -> int | None:
        """In units of the clip's time base; None if the frame has none."""
        pts, dts = picture.pts if self.trust_pts else None, picture.dts
        if dts is not None:
            self._wrong_dts += self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        elif pts is not None:
            self._last_dts = pts
        if pts is not None:
            self._wrong_pts += self._last_pts is not None and pts <= self._last_pts
            self._last_pts = pts
        elif dts is not None:
            self._last_pts = dts
        return pts if pts is not None and (dts is None or self._wrong_pts <= self._wrong_dts) else dts


def sampled(frames: Iterator[Frame], every: int = 1, fps: float | None = None) -> Iterator[Frame]:
    """Some of the frames: each `every`-th from the first, or, with `fps`, the first at or after each 1/fps seconds."""
    first: float | None = None
    due = 0
    for frame in frames:
        if fps is None:
            if frame.index % every == 0:
                yield frame
            continue
        first = frame.time if first is None else first
        # Half a millisecond of tolerance, since containers round times.
        if (frame.time - first + 5e-4) * fps >= due:
            yield frame
            due = int((frame.time - first + 5e-4) * fps) + 1


def _seconds(ticks: int | None, unit: Fraction | None) -> float:
    return float(ticks * unit) if ticks and unit else 0.0


def _end_of(packet: Packet) -> float:
    at = packet.pts if packet.pts is not None else packet.dts
    return 0.0 if at is None else float((at + (packet.duration or 0)) * packet.time_base)


def _wording(error: BaseException) -> str:
    return one_line(getattr(error, "strerror", None) or error).lower()


_READING = "cannot be read as a video clip"


@contextmanager
def plain_errors(path: Path, doing: str = _READING) -> Iterator[None]:
    """Turn FFmpeg's errors into `ItemError`; errors of the system (no space, no permission) are raised as `OSError`."""
    import av

    try:
        yield
    except av.error.FFmpegError as error:
        if isinstance(error, OSError) and error.errno and 0 < error.errno < 1000:
            raise OSError(error.errno, os.strerror(error.errno)) from error
        if isinstance(error, av.error.InvalidDataError) and doing == _READING:
            raise ItemError("not a video clip, or damaged beyond reading", path=path) from error
        raise ItemError(f"{doing}: {_wording(error)}", path=path) from error
    except ValueError as error:  # raised by PyAV itself
        raise ItemError(f"{doing}: {one_line(error).lower()}", path=path) from error
