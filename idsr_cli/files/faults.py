"""Turn Python's exceptions into one line that a user can act on."""

from __future__ import annotations

import errno

from idsr_cli.errors import IdsrError, ItemError


def item_error(error: Exception, path: object | None = None) -> IdsrError:
    """The error to report for one input: expected errors unchanged, errors of the system in plain words.

    An unexpected exception also becomes an `ItemError` (so the batch goes on), which says that it is a fault in idsr.
    """
    if isinstance(error, IdsrError):
        return error
    if is_out_of_memory(error):
        return ItemError("out of memory", path=path, hint="try a smaller `--tile` or `--jobs 1`")
    if isinstance(error, FileNotFoundError):
        return ItemError("no such file (moved, or a broken link)", path=path)
    if isinstance(error, OSError):
        return ItemError((error.strerror or one_line(error)).lower(), path=path)
    return ItemError(
        f"unexpected {type(error).__name__}: {one_line(error)}",
        path=path,
        hint="this is a fault in idsr; `-vv` shows where",
    )


def failure(error: Exception, path: object) -> IdsrError:
    """`item_error` with the path always set, and the original exception as its cause for the traceback of -vv."""
    reported = item_error(error, path)
    if reported is not error:
        reported.__cause__ = error
    if reported.path is None:
        reported.path = str(path)
    return reported


def is_out_of_memory(error: BaseException) -> bool:
    """True if memory ran out: Python's, a GPU's, or the CPU's as torch and OpenCV report it.

    Their exception classes are recognised by name, so that neither library is imported.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    kind, text = type(error).__module__, str(error).lower()
    if isinstance(error, RuntimeError):  # torch on a CPU and on MPS; OpenBLAS and oneDNN through it
        return "memory" in text and any(sign in text for sign in _NO_MEMORY)
    return kind == "cv2" and "insufficient memory" in text


def is_full_disk(error: BaseException | None) -> bool:
    """True if the error, or its cause, says that there is no room on the disk."""
    cause = error.__cause__ if isinstance(error, IdsrError) else error
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None), errno.EROFS)


_NO_MEMORY = ("can't allocate", "not enough memory", "out of memory", "failed to allocate", "could not allocate")


def one_line(error: object) -> str:
    """The text of an error without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
