"""Sound and subtitles of a clip, copied packet by packet, in step with the pictures."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from idsr_cli.clips.opening import open_clip
from idsr_cli.clips.reader import Clip
from idsr_cli.clips.tags import tags_for

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet

# Seconds of hidden sound that are copied before the first heard one: its decoder starts with them.
_RUN_UP = 0.1

# How many packets are searched for the first one of each stream, with which the new container is tried. A stream that
# begins later is tried without.
_TRIED = 1000


class CopiedStreams:
    """The sound and subtitles that go from one container to another.

    Args:
        clip: the clip that they are copied from.
        output: where they go; its header must not be written yet.
        muxer: FFmpeg's name of its kind.
        notes: one line with their kinds is appended if streams are left out.
    """

    def __init__(self, clip: Clip, output: OutputContainer, muxer: str, notes: list[str]) -> None:
        from av.stream import Discard

        # The file is opened a second time, so that however the streams are interleaved only one packet waits in memory.
        self._source: InputContainer = open_clip(clip.path)
        self._outputs: dict[int, Any] = {}
        self._ends: dict[int, int] = {}
        self._heard: set[int] = set()
        self._hides = muxer in ("mp4", "mov")
        left_out: list[str] = []
        refused = _refused(clip, muxer)
        for stream in self._source.streams:
            if stream.index == clip.stream.index:
                stream.discard = Discard.all
                continue
            if stream.type not in ("audio", "subtitle"):
                left_out.append(stream.type)
                continue
            if stream.codec_context is None:
                left_out.append(f"{stream.type} (of an unknown kind)")
                continue
            if stream.index in refused:
                left_out.append(f"{stream.type} ({stream.name})")
                continue
            copy = output.add_stream_from_template(stream, opaque=True)
            copy.metadata.update(tags_for(muxer, stream.metadata))
            copy.disposition = stream.disposition
            self._outputs[stream.index] = copy
        if left_out:
            notes.append(f"not copied into {muxer}: {', '.join(left_out)}")
        packets = self._source.demux([self._source.streams[index] for index in self._outputs])
        self._packets = self._ordered(clip.clock.applied(packets))
        self._waiting = self._next() if self._outputs else None

    def _next(self) -> Packet | None:
        import av

        while True:
            try:
                packet = next(self._packets, None)
            except (av.error.FFmpegError, OSError):
                return None  # the reader of the pictures reports truncated files
            if packet is None or packet.size:
                return packet

    def _ordered(self, packets: Iterator[Packet]) -> Iterator[Packet]:
        """All packets, with times that no container refuses: none missing, none before the one before."""
        for packet in packets:
            if packet.size:
                stream = packet.stream_index
                if packet.is_discard and self._is_cut_away(packet):
                    continue
                if not packet.is_discard:
                    self._heard.add(stream)
                # One unit of the container that has the coarser ones. Several subtitles may begin at once.
                unit = self._outputs[stream].time_base or packet.time_base
                step = 0 if packet.stream.type == "subtitle" else max(1, math.ceil(unit / packet.time_base))
                earliest = self._ends.get(stream)
                if packet.dts is None:
                    packet.dts = packet.pts if packet.pts is not None else earliest or 0
                if earliest is not None and packet.dts < earliest:
                    packet.dts = earliest
                packet.pts = packet.dts if packet.pts is None else max(packet.pts, packet.dts)
                self._ends[stream] = packet.dts + step
            yield packet

    def _is_cut_away(self, packet: Packet) -> bool:
        """Whether a packet that an edit list hides is left out. Matroska has no edit lists, and it would be heard."""
        if packet.stream_index in self._heard:
            return True
        return not self._hides and float(_end(packet) * packet.time_base) < -_RUN_UP

    def copy_until(self, seconds: float | None) -> None:
        """Copy packets up to a time on the clip's clock, or all that are left."""
        while self._waiting is not None:
            packet = self._waiting
            if seconds is not None and packet.dts is not None and float(packet.dts * packet.time_base) > seconds:
                return
            output = self._outputs[packet.stream.index]
            packet.stream = output
            output.container.mux(packet)
            self._waiting = self._next()

    def close(self) -> None:
        """Close the file that is copied from."""
        self._source.close()


def _end(packet: Packet) -> int:
    return (packet.pts or 0) + (packet.duration or 0)


def _refused(clip: Clip, muxer: str) -> set[int]:
    """Indices of the streams that a kind of container cannot hold: it is tried with the first packet of each."""
    import av

    with open_clip(clip.path) as source:
        streams = {
            stream.index: stream
            for stream in source.streams
            if stream.type in ("audio", "subtitle") and stream.codec_context is not None
        }
        first: dict[int, Packet] = {}
        packets = source.demux()
        for _ in range(_TRIED):
            if len(first) == len(streams):
                break
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, OSError):
                break
            if packet is None:
                break
            if packet.size and packet.stream_index in streams:
                first.setdefault(packet.stream_index, packet)
        return {index for index, stream in streams.items() if not _holds(muxer, stream, first.get(index))}


def _holds(muxer: str, stream: Any, packet: Packet | None) -> bool:
    """Whether a kind of container can hold a stream."""
    import av

    try:
        with av.open(io.BytesIO(), "w", format=muxer) as trial:
            copy = trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
            if packet is not None:
                packet.stream = copy
                packet.pts = packet.dts = 0
                trial.mux(packet)
    except (ValueError, av.error.FFmpegError):
        return False
    return True
