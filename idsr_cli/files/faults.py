"""Turn what Python raises into one line a user can act on."""

from __future__ import annotations

import errno

from idsr_cli.errors import IdsrError, ItemError


def item_error(error: Exception, path: object | None = None) -> IdsrError:
    """The error to report for one input: expected ones as they are, the system's in plain words.

    An exception that nobody foresaw becomes an `ItemError` as well (the batch goes on), marked as ours.
    """
    if isinstance(error, IdsrError):
        return error
    if is_out_of_memory(error):
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


def failure(error: Exception, path: object) -> IdsrError:
    """`item_error` that names the input in any case, and keeps what it was made from for the traceback of -vv."""
    told = item_error(error, path)
    if told is not error:
        told.__cause__ = error
    if told.path is None:
        told.path = str(path)
    return told


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's, a GPU's, or the CPU's as torch and OpenCV report it, with classes of their own.

    Neither library is imported to see it.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    kind, text = type(error).__module__, str(error).lower()
    if isinstance(error, RuntimeError):  # torch on a CPU and on MPS; OpenBLAS and oneDNN through it
        return "memory" in text and any(sign in text for sign in _NO_MEMORY)
    return kind == "cv2" and "insufficient memory" in text


def is_full_disk(error: BaseException | None) -> bool:
    """Whether there was no room to write: the error itself, or what it was made from."""
    cause = error.__cause__ if isinstance(error, IdsrError) else error
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None), errno.EROFS)


_NO_MEMORY = ("can't allocate", "not enough memory", "out of memory", "failed to allocate", "could not allocate")


def one_line(error: object) -> str:
    """The text of an error without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
