"""Whether a file is all there. The number of frames in its header does not tell: edit lists and AVI skip some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from idsr_cli.clips.matroska import MATROSKA, segment_end


def frames_cut_off(path: Path, kind: str, stream: Any, packets: int, passed: int) -> int:
    """How many frames of the header are not in the file because its end is missing.

    Args:
        path: the file.
        kind: FFmpeg's name of its demuxer.
        stream: PyAV's stream of the pictures, after the last packet.
        packets: how many of its packets were read.
        passed: where the last one ended, in units of the stream's time base.
    """
    missing: int = stream.frames - packets
    if missing <= 0:
        return 0
    if kind.startswith("mov,"):
        # The index is without the frames that an edit list cuts away.
        size = path.stat().st_size
        return min(missing, sum(entry.pos + entry.size > size for entry in stream.index_entries))
    if kind == "avi":
        # The unit is a frame. Those that repeat the one before are no packets, but their time passes.
        return 0 if is_whole(path, kind) else max(0, stream.frames - max(packets, passed))
    return missing


def is_whole(path: Path, kind: str) -> bool:
    """True if a file is as long as its header says; False if it is shorter, or if the header does not say.

    Args:
        path: an AVI or Matroska file.
        kind: FFmpeg's name of its demuxer.
    """
    size = path.stat().st_size
    end = segment_end(path) if kind == MATROSKA else _riff_end(path, size)
    return end is not None and end <= size


def _riff_end(path: Path, size: int) -> int | None:
    """Where the last part of an AVI file ends according to its header (large ones have several); None if unknown."""
    end: int | None = None
    with open(path, "rb") as file:
        while file.tell() < size:
            head = file.read(8)
            length = int.from_bytes(head[4:], "little")
            if head[:4] != b"RIFF" or not length:
                break
            end = file.tell() + length
            file.seek(end + length % 2)
    return end
