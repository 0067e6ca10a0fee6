"""Writes that are whole or absent: nobody ever sees half a file.

The bytes go to a hidden temporary file in the folder of the target (a rename is atomic only within one file system),
are flushed to the disk, and then take the target's place in one step. On any failure, Ctrl-C included, the temporary
file is removed. After `kill -9` or a power cut a file `.idsr-*.part` may stay behind; it is hidden, never taken for a
photograph, and can be deleted.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary path beside `target`, which becomes `target` when the block ends without an exception.

    Folders are created as needed. The temporary file exists and is empty when the block begins.

    Raises:
        OSError: no space, no permission, or `target` is a folder.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # The name is short and independent of the target's: a target of 255 bytes is legal. The random part lets two
    # processes write the same target; the later one wins, whole.
    temporary = target.parent / f".idsr-{secrets.token_hex(6)}.part"
    try:
        # Mode 0666 less the umask, as for any new file; tempfile would give 0600.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_bytes(target: Path, data: bytes) -> None:
    """Write `data` to `target`, atomically, replacing what is there."""
    with atomic_path(target) as temporary, open(temporary, "wb") as file:
        file.write(data)
