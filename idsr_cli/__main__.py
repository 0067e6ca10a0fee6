"""`python -m idsr_cli` and the console script `idsr`."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn


def main() -> None:
    """Run the command line; ends the process with its exit code."""
    _open_streams()
    _end_politely()
    try:
        from idsr_cli.cli.app import app

        app(prog_name="idsr")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        # Errors that users cause have become one line and an exit code by now: this one is ours.
        from idsr_cli.cli.console import console
        from idsr_cli.files.faults import item_error

        console.error(item_error(error), error)
        sys.exit(2)


def _open_streams() -> None:
    """A stream that the caller has closed (`>&-`) leads nowhere, so that nobody has to ask whether it is there."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115  # for good


def _end_politely() -> None:
    """`kill`, a batch system's time limit and a closed terminal end a run as Ctrl-C does: with whole files."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # What the caller has chosen to ignore (`nohup`) stays ignored.
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, interrupt)


if __name__ == "__main__":
    main()
