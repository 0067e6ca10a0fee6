"""Time stamps of a clip whose clock starts again: joined transport streams, dashcams, MPEG program streams.

Such a file holds several recordings, and each counts its time from its own start. Here the later ones are moved so that
each goes on where the one before it ends. Pictures, sound and subtitles of a recording are moved by the same time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idsr_cli.clips.matroska import MATROSKA, segment_end
from idsr_cli.clips.opening import open_clip

if TYPE_CHECKING:
    from av.packet import Packet

# Containers that count time from anywhere (a broadcast's clock may say hours). Their times are counted from the start.
FREE_CLOCKS = frozenset({"mpegts", "mpeg"})

# Containers with a time stamp beside each packet. In the others the times come from an index, which never starts again.
_RESTARTABLE = FREE_CLOCKS | {"ogg", MATROSKA}

# A step ahead longer than this (seconds) is a step back, too: FFmpeg takes an earlier time for a 33-bit clock that has
# run over, and adds its 26.5 hours.
_RUN_OVER = 12 * 3600.0

# Streams whose clocks start again within so many packets, for each stream, do so at the same joint.
_NEAR = 200


@dataclass(frozen=True)
class Clock:
    """Turns a file's time stamps into times on the clip's clock.

    Attributes:
        start: the file's time at which the clip's clock is 0, seconds.
        joints: for each joint, by stream: the number of the first packet behind it, counted within its stream.
        moves: for each joint, seconds added to all times behind it.
        packets: number of packets of each stream; empty if the file was not searched for joints.
    """

    start: float = 0.0
    joints: tuple[dict[int, int], ...] = ()
    moves: tuple[float, ...] = ()
    packets: dict[int, int] = field(default_factory=dict)

    def applied(self, packets: Iterator[Packet]) -> Iterator[Packet]:
        """All packets, with `pts` and `dts` changed in place to the clip's clock.

        Args:
            packets: of one demuxer from its start. Streams may be missing, but none of a stream's packets.
        """
        numbers: dict[int, int] = {}
        passed: dict[int, int] = {}
        for packet in packets:
            if packet.pts is None and packet.dts is None:
                yield packet
                continue
            stream = packet.stream_index
            number = numbers[stream] = numbers.get(stream, -1) + 1
            behind = passed.get(stream, 0)
            while behind < len(self.joints) and number >= self.joints[behind].get(stream, 0):
                behind += 1
            passed[stream] = behind
            ticks = round(((self.moves[behind - 1] if behind else 0.0) - self.start) / packet.time_base)
            if ticks and packet.pts is not None:
                packet.pts += ticks
            if ticks and packet.dts is not None:
                packet.dts += ticks
            yield packet


def clock_of(container: Any, path: Path) -> Clock:
    """The clock of an open clip. The file is read once more if its clock may start again, but not decoded.

    Args:
        container: PyAV's container of the clip.
        path: its file.

    Raises:
        av.error.FFmpegError: the file cannot be opened.
    """
    kind = container.format.name
    start = container.start_time / 1e6 if kind in FREE_CLOCKS and container.start_time else 0.0
    if kind not in _RESTARTABLE or (kind == MATROSKA and (segment_end(path) or 0) >= path.stat().st_size):
        return Clock(start)
    search = _Search(by_keyframes=kind == MATROSKA, runs_over=kind in FREE_CLOCKS)
    search.read(path)
    joints = search.joints()
    return Clock(start, tuple(joint.numbers for joint in joints), tuple(_moves(joints)), search.numbers)


@dataclass
class _Part:
    """One stream from one start of its clock to the next; seconds."""

    start: float
    end: float


@dataclass
class _Restart:
    """The place where a stream's clock starts again."""

    order: int
    stream: int
    time: float
    numbers: dict[int, int]  # of every stream's next packet
    old: _Part
    new: _Part


@dataclass
class _Stream:
    """What is known of a stream so far; times in seconds on the file's clock."""

    part: _Part
    before: float | None = None
    last: float | None = None
    end: float | None = None  # of the last packet, which counts when the next one shows that its time is not an error
    restart: _Restart | None = None  # waits for the next packet to confirm it


@dataclass
class _Joint:
    """Where one recording ends and the next begins: the streams that start again there, and all packet numbers."""

    restarts: dict[int, _Restart]
    numbers: dict[int, int]


class _Search:
    """Finds the joints of a file.

    Attributes:
        numbers: packets of each stream so far.
    """

    def __init__(self, by_keyframes: bool, runs_over: bool) -> None:
        self.numbers: dict[int, int] = {}
        self._by_keyframes = by_keyframes  # Matroska has no decoding times, and display times step back at B-frames
        self._runs_over = runs_over
        self._streams: dict[int, _Stream] = {}
        self._restarts: list[_Restart] = []

    def read(self, path: Path) -> None:
        """Look at every packet; stops without an error where the file is damaged."""
        import av

        with open_clip(path) as container:
            # Subtitles are too rare to tell a joint from a pause. They follow the sound and the pictures.
            timed = {stream.index for stream in container.streams if stream.type in ("video", "audio")}
            packets = container.demux()
            order = 0
            while True:
                try:
                    packet = next(packets)
                except (StopIteration, av.error.FFmpegError, OSError):
                    break
                if packet.pts is None and packet.dts is None:
                    continue
                if packet.stream_index in timed:
                    self._look(packet, order)
                self.numbers[packet.stream_index] = self.numbers.get(packet.stream_index, 0) + 1
                order += 1
        for stream in self._streams.values():
            if stream.restart is not None:
                self._restarts.append(stream.restart)

    def _look(self, packet: Packet, order: int) -> None:
        unit = packet.time_base
        shown = packet.pts if packet.pts is not None else packet.dts
        coded = shown if self._by_keyframes or packet.dts is None else packet.dts
        assert shown is not None
        assert coded is not None
        at, time = float(shown * unit), float(coded * unit)
        stream = self._streams.get(packet.stream_index)
        length = float((packet.duration or 0) * unit)
        if not length and stream is not None and stream.last is not None:
            length = max(0.0, time - stream.last)
        end = at + length
        if stream is None:
            self._streams[packet.stream_index] = _Stream(_Part(at, end), None, time, end)
            return
        assert stream.last is not None
        if stream.restart is not None:
            restart, stream.restart = stream.restart, None
            if self._is_back(time, stream.last) or time == stream.last:
                self._restarts.append(restart)
                stream.part, stream.before, stream.last, stream.end = restart.new, None, restart.time, None
            # Else a single packet had a wrong time.
        if self._is_back(time, stream.last) and (packet.is_keyframe or not self._by_keyframes):
            if stream.before is not None and stream.before < time < stream.last:
                # The packet before had a wrong time, in the future.
                stream.last, stream.end = time, end
                return
            old = stream.part
            if stream.end is not None:
                old = _Part(old.start, max(old.end, stream.end))
            stream.restart = _Restart(order, packet.stream_index, time, dict(self.numbers), old, _Part(at, end))
            return
        if stream.end is not None:
            stream.part.end = max(stream.part.end, stream.end)
        stream.part.start = min(stream.part.start, at)
        if time >= stream.last:
            stream.before, stream.last = stream.last, time
        stream.end = end

    def _is_back(self, time: float, last: float) -> bool:
        return time < last or (self._runs_over and time > last + _RUN_OVER)

    def joints(self) -> list[_Joint]:
        """The joints in order."""
        joints: list[_Joint] = []
        first = 0
        near = _NEAR * len(self._streams)
        for restart in sorted(self._restarts, key=lambda restart: restart.order):
            if joints and restart.stream not in joints[-1].restarts and restart.order - first < near:
                joints[-1].restarts[restart.stream] = restart
                joints[-1].numbers[restart.stream] = restart.numbers.get(restart.stream, 0)
            else:
                first = restart.order
                joints.append(_Joint({restart.stream: restart}, restart.numbers))
        return joints


def _moves(joints: list[_Joint]) -> Iterator[float]:
    """Seconds to add behind each joint. No stream overlaps itself: the recording with the longest stream decides."""
    move = 0.0
    for joint in joints:
        move += max(restart.old.end - restart.new.start for restart in joint.restarts.values())
        yield move
