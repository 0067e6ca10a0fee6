"""Atomic writes: a file is there completely or not at all.

The bytes go to a hidden temporary file in the target's folder (a rename is atomic only within one file system), are
flushed to the disk, and then replace the target in one step. On any failure, Ctrl-C included, the temporary file is
removed. A device or a pipe (/dev/null) is written to and not replaced. After `kill -9` or a power cut a file
`.idsr-*.part` may stay behind. It is hidden and never taken for a photograph. The next run that writes into the folder
removes it, if a process of this machine made it and has ended.
"""

from __future__ import annotations

import errno
import functools
import os
import platform
import re
import secrets
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from idsr_cli.errors import ItemError
from idsr_cli.files.stores import Location, StorePath
from idsr_cli.files.volume import is_special

# What a volume says to a name that it cannot hold: `10:30.jpg` on exFAT, or one that is too long.
_BAD_NAME = (errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG)


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary path beside `target`, which becomes `target` when the block ends without an exception.

    Folders are created as needed. The temporary file exists and is empty when the block begins.

    Raises:
        OSError: no space, no permission, or `target` is a folder.
        ItemError: the volume refuses the name; its path is `target`.
    """
    if is_special(target):
        with _copied_into(target) as temporary:
            yield temporary
        return
    with _naming(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target.parent)
    # The name does not contain the target's, which may already have the 255 bytes allowed. With the random part two
    # processes can write the same target; the later one wins.
    temporary = target.parent / f".idsr-{machine()}-{os.getpid()}-{secrets.token_hex(4)}.part"
    try:
        # Mode 0666 minus the umask, as for any new file; tempfile would give 0600.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        with _naming(target):
            os.replace(temporary, target)
    except BaseException:
        for path in (temporary, *(temporary.with_name(temporary.name + end) for end in _OF_SQLITE)):
            with suppress(OSError):
                path.unlink()
        raise


@contextmanager
def _copied_into(target: Path) -> Iterator[Path]:
    """A temporary file whose content is written to `target`, a device or a pipe, when the block ends."""
    with tempfile.TemporaryDirectory(prefix="idsr-") as folder:
        temporary = Path(folder) / "output"
        temporary.touch()
        yield temporary
        with open(temporary, "rb") as source, open(target, "wb") as file:
            shutil.copyfileobj(source, file)


@contextmanager
def _naming(target: Path) -> Iterator[None]:
    """Say which name the volume refuses: the error of the system would be taken for one of the input."""
    try:
        yield
    except OSError as error:
        if error.errno not in _BAD_NAME:
            raise
        reason = (error.strerror or str(error)).lower()
        hint = "choose another OUT, or rename the input"
        raise ItemError(f"the output volume refuses this name: {reason}", path=target, hint=hint) from error


def write_bytes(target: Location, data: bytes) -> None:
    """Write `data` to `target` atomically, replacing an old file or object.

    Errors are those of `atomic_path`, and of `StorePath.write_bytes`.
    """
    if isinstance(target, StorePath):
        target.write_bytes(data)
        return
    if is_special(target):
        with open(target, "wb") as pipe:
            pipe.write(data)
        return
    with atomic_path(target) as temporary, open(temporary, "wb") as file:
        file.write(data)


@functools.cache
def _remove_leftovers(folder: Path) -> None:
    """Delete temporary files of dead processes; once per folder and process."""
    if os.name == "nt":  # os.kill has no harmless signal 0 there
        return
    with suppress(OSError):
        for name in os.listdir(folder):
            found = _LEFTOVER.fullmatch(name)
            if found and found["machine"] == machine() and not _alive(int(found["process"])):
                (folder / name).unlink(missing_ok=True)


_OF_SQLITE = ("-wal", "-shm", "-journal")  # files that it keeps beside a database
_LEFTOVER = re.compile(
    rf"\.idsr-(?P<machine>[0-9a-f]{{8}})-(?P<process>[0-9]+)-[0-9a-f]{{8}}\.part({'|'.join(_OF_SQLITE)})?"
)


@functools.cache
def machine() -> str:
    """8 hex digits for this machine, or on Linux for the container: for the space of its process numbers."""
    namespace = ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return f"{zlib.crc32(f'{platform.node()}/{namespace}'.encode()):08x}"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it lives, but belongs to another user
        return True
    return True
