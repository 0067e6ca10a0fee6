"""`python -m idsr_cli` and the console script `idsr`."""

from __future__ import annotations


def main() -> None:
    """Run the command line; ends the process with its exit code."""
    from idsr_cli.cli.app import app

    app(prog_name="idsr")


if __name__ == "__main__":
    main()
