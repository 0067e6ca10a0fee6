"""`python -m idsr_cli` and the console script `idsr`."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from idsr_cli.runtime.threads import wait_asleep


def main() -> None:
    """Run the command line; ends the process with its exit code."""
    _replace_closed_streams()
    _handle_signals()
    wait_asleep()
    try:
        from idsr_cli.cli.app import app

        app(prog_name="idsr")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        # Errors that users cause have been handled in `app`; this one is a bug.
        from idsr_cli.cli.console import console
        from idsr_cli.files.faults import item_error

        console.error(item_error(error), error)
        sys.exit(2)


def _replace_closed_streams() -> None:
    """Replace closed standard streams (`>&-`) by os.devnull."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115  # for good


def _handle_signals() -> None:
    """Handle `kill`, a batch system's time limit and a closed terminal like Ctrl-C, so that files are left whole."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # Signals that the caller ignores (`nohup`) stay ignored.
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, interrupt)


if __name__ == "__main__":
    main()
