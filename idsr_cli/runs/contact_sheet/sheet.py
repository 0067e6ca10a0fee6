"""The page: photographs are collected in a file as their results come, and put together at the end.

The file is nameless and lies beside the page, so memory does not grow with the number of photographs, and nothing is
left behind, whatever ends the run. The page itself is written atomically, at the end or when the run is interrupted.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from idsr_cli.errors import ItemError, UsageError
from idsr_cli.files.atomic import atomic_path
from idsr_cli.files.faults import item_error
from idsr_cli.files.interruption import uninterrupted
from idsr_cli.pages import closing, opening, text
from idsr_cli.runs.batch import Result, Summary
from idsr_cli.runs.contact_sheet.entry import STATES, entry_html, markers, state
from idsr_cli.runs.plan import check_writable

SUFFIXES = (".html", ".htm")
# Buttons: what is sorted by -> its name on the page.
_ORDERS = {
    "order": "the run’s order",
    "name": "name",
    "rain": "rain",
    "keypoints": "keypoints",
    "change": "change in keypoints",
    "seconds": "time",
}
_HERE = Path(__file__)


def check_page(path: Path) -> None:
    """Refuse a page that could not be written, before the work starts.

    Raises:
        UsageError: it is no HTML file, or may not be written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError("`--report` writes an HTML page", path=path, hint="call it *.html")
    if path.is_dir():
        raise UsageError("is a folder, but `--report` takes a file", path=path, hint=f"try `{path / 'report.html'}`")
    check_writable(path.parent)


class ContactSheet:
    """Collects the photographs of a run, then writes the page.

    Args:
        path: the page.
        title: of the page, such as "idsr derain".

    Attributes:
        path: as above.
        facts: what the run was made with, name -> value; may be filled until `write`.
    """

    def __init__(self, path: Path, title: str) -> None:
        self.path = path
        self.facts: dict[str, str] = {}
        self._title = title
        self._states: Counter[str] = Counter()
        self._orders = {"order", "name"}
        self._points = False
        self._spool: IO[bytes] | None = None
        self._error: Exception | None = None

    def add(self, result: Result) -> None:
        """Append a photograph. If that fails, the run goes on, and `write` raises the error."""
        number = self._states.total()
        self._states[state(result)] += 1
        if self._error is not None:
            return
        try:
            if self._spool is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._spool = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115  (`write` closes it)
            entry = entry_html(number, result)
            self._spool.write(entry.encode())
        except OSError as error:
            self._error = error
            return
        head = entry[: entry.index(">")]
        self._orders.update(order for order in _ORDERS if f' data-{order}="' in head)
        self._points = self._points or "<path class" in entry

    def write(self, planned: int, summary: Summary) -> None:
        """Write the page of the photographs so far.

        Args:
            planned: number of photographs in the plan.
            summary: how the run ended.

        Raises:
            ItemError: it, or the temporary file, cannot be written.
        """
        try:
            if self._error is not None:
                raise self._error
            with uninterrupted(), atomic_path(self.path) as temporary, open(temporary, "wb") as page:
                page.write("".join(self._head(planned, summary)).encode())
                if self._spool is not None:
                    self._spool.seek(0)
                    shutil.copyfileobj(self._spool, page, 1 << 20)
                page.write("".join(self._tail()).encode())
        except OSError as error:
            reason = f"the contact sheet cannot be written: {item_error(error).reason}"
            raise ItemError(reason, path=self.path, hint="the photographs are not affected") from error
        finally:
            if self._spool is not None:
                self._spool.close()
                self._spool = None

    def __len__(self) -> int:
        """Number of photographs so far."""
        return self._states.total()

    def _head(self, planned: int, summary: Summary) -> Iterator[str]:
        count = f"{len(self)} {'photograph' if len(self) == 1 else 'photographs'}"
        yield opening(f"{self._title}, {count}", [_HERE.with_name("sheet.css")])
        yield f"{markers()}<main>\n<h1>{text(self._title)}, {count}</h1>\n"
        if left := planned - len(self):
            why = "was interrupted" if summary.interrupted else "stopped early"
            yield f'<p class="notice" role="note">The run {why}: {left} of {planned} are not here.</p>\n'
        cards = [(STATES[kind], self._states[kind]) for kind in STATES if self._states[kind]]
        boxes = "".join(f"<div><b>{number}</b><span>{name}</span></div>" for name, number in cards)
        yield f'<div class="cards">{boxes}<div><b>{_duration(summary.seconds)}</b><span>in all</span></div></div>\n'
        yield from self._controls()
        yield '<h2>Photographs</h2>\n<ol class="entries">\n'

    def _controls(self) -> Iterator[str]:
        yield '<noscript><p class="notice">Sorting, filters and the sliders need JavaScript.</p></noscript>\n'
        buttons = "".join(
            f'<button type="button" data-order="{order}" aria-pressed="{str(order == "order").lower()}">{name}</button>'
            for order, name in _ORDERS.items()
            if order in self._orders
        )
        boxes = "".join(
            f'<label><input type="checkbox" name="state" value="{kind}" checked> {name} ({self._states[kind]})</label>'
            for kind, name in STATES.items()
            if self._states[kind]
        )
        marks = '<label><input type="checkbox" id="marks" checked> draw keypoints</label>' if self._points else ""
        yield (
            '<form class="controls" role="search" aria-label="Sort and filter">'
            f'<fieldset class="orders"><legend>Sort by</legend>{buttons}</fieldset>'
            f"<fieldset><legend>Show</legend>{boxes}</fieldset>"
            '<fieldset><legend>Name has</legend><input type="search" id="name" aria-label="Part of the name" '
            f'autocomplete="off" spellcheck="false">{marks}</fieldset><output id="shown"></output></form>\n'
        )

    def _tail(self) -> Iterator[str]:
        facts = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in self.facts.items())
        yield f'</ol>\n<h2>How it was made</h2>\n<dl class="made">{facts}</dl>\n'
        yield from _legend(self._points)
        yield "</main>\n"
        yield closing(_HERE.with_name("sheet.js"))


def _legend(points: bool) -> Iterator[str]:
    yield """<p class="soft"><b>rain</b>: root mean square of the rain that was seen, in grey levels (0 to 255);
<b>direction</b>: of its streaks from vertical, positive = to the right at the bottom. In the picture of the removed
rain grey is no change. <b>time</b>: of one photograph, reading, writing and this page included; several are worked on
at a time. Sliders also move with the arrow keys, Page Up, Page Down, Home and End."""
    if points:
        yield """ <b>keypoints</b>: those of the photograph as it is (orange) → those that were written (green);
a circle’s radius is about two sigma. Rain makes keypoints of its own, so fewer can be better."""
    yield "</p>\n"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"
