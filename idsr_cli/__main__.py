"""`python -m idsr_cli` and the console script `idsr`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; ends the process with its exit code."""
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


if __name__ == "__main__":
    main()
