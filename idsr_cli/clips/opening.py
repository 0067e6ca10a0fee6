"""Opening a clip with PyAV."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.container import InputContainer


def open_clip(path: Path) -> InputContainer:
    """PyAV's container of a file, which is never taken for an address and opens no others.

    A clip is opened several times, and each time has the same streams in the same order.

    Raises:
        av.error.FFmpegError: it cannot be read as a clip.
        OSError: it cannot be read at all.
    """
    import av

    # "file:" because a name with a colon would be taken for a URL. The whitelist stops playlists from opening network
    # addresses.
    # The others search longer for streams that begin late, such as the sound of a second recording.
    options = {
        "protocol_whitelist": "file",
        "scan_all_pmts": "1",
        "probesize": "50000000",
        "analyzeduration": "60000000",
    }
    return av.open(f"file:{path}", container_options=options, metadata_errors="replace")
