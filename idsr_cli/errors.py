"""Every error a user can cause, each with its exit code.

Exit codes: 1 = an item failed (the batch goes on), 2 = nothing could run. `reason` is one line without the path; it is
reported as `path: reason`. `hint` says what to do next.
"""

from __future__ import annotations


class IdsrError(Exception):
    """Base of all expected errors.

    Attributes:
        reason: one line, lower case, no full stop.
        hint: what the user can do next, or "".
        path: the file or folder the error is about, or None.
        exit_code: process exit code if this error ends the run.
    """

    exit_code = 2

    def __init__(self, reason: str, *, path: object | None = None, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.path = None if path is None else str(path)

    def __str__(self) -> str:
        head = f"{self.path}: {self.reason}" if self.path else self.reason
        return f"{head} ({self.hint})" if self.hint else head


class UsageError(IdsrError):
    """The options contradict each other or the inputs do not exist: nothing is started."""


class ItemError(IdsrError):
    """One input cannot be read, processed or written; the others go on."""

    exit_code = 1


class WeightsError(IdsrError):
    """A weights file is missing, damaged or of an unknown layout."""


class DeviceError(IdsrError):
    """The device or precision asked for is not available here."""


class PairingError(IdsrError):
    """Rainy and clean photographs cannot be paired, or a pair differs in size."""


def extra_hint(extra: str) -> str:
    """The command that installs an extra. idsr is installed from a clone, so the command names its folder."""
    return f"install the extra `{extra}`: pip install -c constraints.txt '.[{extra}]' in idsr's folder"
