"""Writing the report of an evaluation: a folder with the page and the data, or a single page."""

from __future__ import annotations

import os
from pathlib import Path

from idsr_cli.errors import UsageError
from idsr_cli.evaluation.result import Result
from idsr_cli.files.atomic import write_bytes
from idsr_cli.files.spelling import check_spelling

PAGES = (".html", ".htm")


def is_page(output: Path) -> bool:
    """Whether `-o` names a single page."""
    return output.suffix.lower() in PAGES


def check_output(output: Path) -> None:
    """Raises UsageError if the report could not be written there. Called before the evaluation."""
    hint = "`-o` takes a folder, or a page, x.html"
    check_spelling(output, PAGES)
    folder = output.absolute()
    if is_page(output):
        if output.is_dir():
            raise UsageError("is a folder", path=output, hint=hint)
        folder = folder.parent
    above = next(place for place in (folder, *folder.parents) if place.exists())
    if not above.is_dir():
        raise UsageError("is a file", path=above, hint=hint)
    if not os.access(above, os.W_OK):
        raise UsageError("may not be written to", path=above, hint="give another `-o`")


def write_report(output: Path, result: Result, page: str) -> Path:
    """Write a single page if `output` ends in .html or .htm, else a folder; each file atomically.

    Returns:
        The page.

    Raises:
        UsageError: a file cannot be written.
    """
    html = page.encode("utf-8", "backslashreplace")
    files = {output: html}
    if not is_page(output):
        files = {output / name: data for name, data in {**result.files(), "report.html": html}.items()}
    for path, data in files.items():
        try:
            write_bytes(path, data)
        except OSError as error:
            raise UsageError(f"cannot be written: {(error.strerror or str(error)).lower()}", path=path) from error
    return output if is_page(output) else output / "report.html"
