"""Writes that are whole or absent: nobody ever sees half a file.

The bytes go to a hidden temporary file in the folder of the target (a rename is atomic only within one file system),
are flushed to the disk, and then take the target's place in one step. On any failure, Ctrl-C included, the temporary
file is removed. After `kill -9` or a power cut a file `.idsr-*.part` may stay behind; it is hidden and never taken for
a photograph, and the next run that writes into the folder removes it, if it was made on this machine by a process that
is no more.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import secrets
import zlib
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
    _remove_leftovers(target.parent)
    # The name is short and independent of the target's: a target of 255 bytes is legal. The random part lets two
    # processes write the same target; the later one wins, whole.
    temporary = target.parent / f".idsr-{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.part"
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


@functools.cache
def _remove_leftovers(folder: Path) -> None:
    """Delete temporary files of dead processes; once per folder and process."""
    if os.name == "nt":  # there is no harmless way to ask whether a process lives
        return
    with suppress(OSError):
        for name in os.listdir(folder):
            found = _LEFTOVER.fullmatch(name)
            if found and found["machine"] == _machine() and not _alive(int(found["process"])):
                (folder / name).unlink(missing_ok=True)


_LEFTOVER = re.compile(r"\.idsr-(?P<machine>[0-9a-f]{8})-(?P<process>[0-9]+)-[0-9a-f]{8}\.part")


@functools.cache
def _machine() -> str:
    """Where process numbers mean the same: the host, and on Linux the container."""
    namespace = ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return f"{zlib.crc32(f'{platform.node()}/{namespace}'.encode()):08x}"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
