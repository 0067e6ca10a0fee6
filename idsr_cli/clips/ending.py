"""Whether a file is all there. The number of frames in its header does not tell: edit lists and AVI skip some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from idsr_cli.clips.matroska import MATROSKA, segment_end


def is_whole(path: Path, kind: str, stream: Any) -> bool:
    """True if the file has all bytes that it speaks of; False if some are missing, or if it does not say.

    Args:
        path: the file.
        kind: FFmpeg's name of its demuxer.
        stream: PyAV's stream of the pictures, after the last packet.
    """
    size = path.stat().st_size
    if kind.startswith("mov,"):
        # The index, without the frames that the edit list cuts away.
        return len(stream.index_entries) > 0 and all(entry.pos + entry.size <= size for entry in stream.index_entries)
    if kind == "avi":
        end = _riff_end(path, size)
    elif kind == MATROSKA:
        end = segment_end(path)
    else:
        end = None
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
