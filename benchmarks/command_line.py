"""What the benchmarks' command lines share: sizes of photographs, and how a command ends."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from idsr_cli.errors import IdsrError

SIZES = {"0.5MP": (866, 577), "1MP": (1224, 816), "2MP": (1732, 1155), "4MP": (2448, 1632), "12MP": (4240, 2832)}


def parse_size(text: str) -> tuple[int, int]:
    """`481x321`, or a name such as `4MP`."""
    try:
        width, height = SIZES[text] if text in SIZES else (int(side) for side in text.split("x"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"`{text}` is neither WIDTHxHEIGHT nor {', '.join(SIZES)}") from error
    return width, height


@contextmanager
def plain_errors() -> Iterator[None]:
    """Errors that a user can cause end the command with one line, Ctrl-C with nothing."""
    try:
        yield
    except IdsrError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
