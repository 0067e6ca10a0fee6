"""Opening a clip with PyAV."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.container import InputContainer


def open_clip(path: Path) -> InputContainer:
    """PyAV's container of a file, which is never taken for an address and opens no others.

    Raises:
        av.error.FFmpegError: it cannot be read as a clip.
        OSError: it cannot be read at all.
    """
    import av

    # "file:" because a name with a colon would be taken for a URL. The whitelist stops playlists from opening network
    # addresses.
    return av.open(f"file:{path}", container_options={"protocol_whitelist": "file"}, metadata_errors="replace")
