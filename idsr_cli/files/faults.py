"""Turn what Python raises into one line a user can act on."""

from __future__ import annotations

from idsr_cli.errors import IdsrError, ItemError


def item_error(error: Exception, path: object | None = None) -> IdsrError:
    """The error to report for one input: expected ones as they are, the system's in plain words.

    An exception that nobody foresaw becomes an `ItemError` as well (the batch goes on), marked as ours.
    """
    if isinstance(error, IdsrError):
        return error
    if isinstance(error, MemoryError):
        return ItemError("out of memory", path=path, hint="try a smaller `--tile` or `--jobs 1`")
    if isinstance(error, FileNotFoundError):
        return ItemError("no such file (moved, or a link that leads nowhere)", path=path)
    if isinstance(error, OSError):
        return ItemError((error.strerror or one_line(error)).lower(), path=path)
    return ItemError(
        f"unexpected {type(error).__name__}: {one_line(error)}",
        path=path,
        hint="this is a fault in idsr; `-vv` shows where",
    )


def one_line(error: object) -> str:
    """The text of an error without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
