"""What the volume that is written to does with names: which of them it takes for one, and which are no files.

And whether it has room.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from idsr_cli.errors import ItemError
from idsr_cli.files.stores import StorePath


def same_names(folder: Path, names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of names that are one file on the volume of `folder`, as `A.jpg` and `a.jpg` are on exFAT.

    The volume is asked: in a hidden folder, which is removed again, a file of each name is made. What the operating
    system does elsewhere says nothing, since volumes differ, and on some even folders.

    Args:
        folder: exists and can be written.
        names: file names without folders, all different.

    Returns:
        (the name that was first, a later name for the same file). Empty if the volume cannot be asked.
    """
    probe = folder / f".idsr-probe-{secrets.token_hex(4)}"
    taken: dict[tuple[int, int], str] = {}
    pairs = []
    try:
        probe.mkdir()
    except OSError:
        return []
    try:
        for name in names:
            with suppress(OSError):  # a name that the volume refuses: said when it is written
                (probe / name).touch()
                status = (probe / name).stat()
                first = taken.setdefault((status.st_dev, status.st_ino), name)
                if first != name:
                    pairs.append((first, name))
    finally:
        with suppress(OSError):
            for name in os.listdir(probe):
                (probe / name).unlink()
            probe.rmdir()
    return pairs


def folded(name: str) -> str:
    """The same text for all names that some volume may take for one.

    Case, Unicode composition, and dots and spaces at the end make no difference.
    """
    alike = unicodedata.normalize("NFC", unicodedata.normalize("NFKD", name).casefold()).casefold()
    return alike.rstrip(". ") or alike


def is_special(path: str | os.PathLike[str] | StorePath) -> bool:
    """True if the path is a device or a pipe, such as /dev/null: written to, never replaced."""
    if isinstance(path, StorePath):
        return False
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def check_room(folder: Path, size: int) -> None:
    """Refuse to begin with a large file for which there is no room.

    Raises:
        ItemError: fewer than `size` bytes are free on the volume of `folder`.
        OSError: the volume cannot be asked.
    """
    if shutil.disk_usage(folder).free < size:
        raise ItemError(f"no space left on device, {max(1, size // 1_000_000)} MB are needed", path=folder)
