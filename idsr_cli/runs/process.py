"""Go through a plan: work on each item, count, and tell the listener."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from idsr_cli.errors import ItemError
from idsr_cli.files.faults import item_error
from idsr_cli.files.stores import Location
from idsr_cli.runs.batch import Computed, Loaded, Result, Saved, Stages, Summary, counted, run_batch
from idsr_cli.runs.listener import Listener
from idsr_cli.runs.lists import PathList
from idsr_cli.runs.plan import Item
from idsr_cli.runs.request import Request, worker_count

if TYPE_CHECKING:
    from idsr_cli.images.photo import Photo
    from idsr_cli.runs.contact_sheet.sheet import ContactSheet

# Writes bytes to a file or an object of a store, or to standard output for None.
Write = Callable[[Location | None, bytes], None]

# In messages, where `-` alone would be hard to read.
STDIN = "standard input"


@dataclass
class Outcome:
    """What became of a run.

    Attributes:
        summary: counts of items.
        keypoints: number of keypoints of each photograph or clip; empty if the command writes none.
        unchanged: photographs and clips in which the networks saw no rain.
        lost: frames of clips that could not be decoded or processed.
        dropped: kinds of metadata that could not be kept -> number of photographs that lost them.
        finished: False if the file that all photographs share could not be written.
        shown: False if the contact sheet could not be written; None if none was wanted.
    """

    summary: Summary = field(default_factory=Summary)
    keypoints: list[int] = field(default_factory=list)
    unchanged: list[Item] = field(default_factory=list)
    lost: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    finished: bool = True
    shown: bool | None = None

    @property
    def exit_code(self) -> int:
        """0 = everything went well, 1 = something failed, 130 = interrupted."""
        return self.summary.exit_code or int(bool(self.lost) or not self.finished or self.shown is False)

    def add(self, item: Item, saved: Saved) -> None:
        """Count one saved item."""
        self.lost += saved.lost
        self.dropped.update(saved.dropped)
        if saved.derained is False:
            self.unchanged.append(item)
        if saved.keypoints is not None:
            self.keypoints.append(saved.keypoints)


class Elsewhere(Protocol):
    """Works on items in other processes, or on other machines."""

    def run(self, items: Sequence[Item], report: Callable[[Result], None]) -> None:
        """Work on all items, and report each of them, in their order.

        It ends early as `batch.work_through` does: when `report` raises an exception, and on Ctrl-C.
        """


def process(
    items: Sequence[Item],
    work: Stages[Loaded, Computed] | Elsewhere,
    request: Request,
    listener: Listener,
    finishes: Sequence[Callable[[], None]] = (),
    sheet: ContactSheet | None = None,
) -> Outcome:
    """Run the batch.

    Args:
        items: the plan.
        work: the work on each, or what does it elsewhere.
        request: what was asked for.
        listener: hears of everything.
        finishes: called when all items are done, or after Ctrl-C; if one fails, the outcome is not `finished`.
        sheet: gets each result, and is written at the end, however the run ends.

    Raises:
        UsageError: a file for paths cannot be written.
    """
    failures = None if request.failures is None else PathList(request.failures)
    unchanged = None if request.unchanged is None else PathList(request.unchanged)
    outcome = Outcome()

    def report(result: Result) -> None:
        if sheet is not None:
            sheet.add(result)
        if result.saved is not None:
            outcome.add(result.item, result.saved)
            if unchanged is not None and result.saved.derained is False and result.item.source is not None:
                unchanged.add(result.item.name)
        listener.result(result)
        if failures is not None and result.error is not None and result.item.source is not None:
            failures.add(result.item.name)
        if result.item.waits:
            listener.advance()

    def run() -> Summary:
        if not isinstance(work, Stages):
            return counted(lambda record: work.run(items, record), report, request.fail_fast)

        def compute(item: Item, loaded: Loaded) -> Computed:
            listener.started(item)
            try:
                return work.compute(item, loaded)
            finally:
                listener.computed()

        watched = replace(work, compute=compute)
        return run_batch(items, watched, report, worker_count(request.jobs, items), request.fail_fast)

    def attempt(finish: Callable[[], None]) -> bool:
        try:
            finish()
        except Exception as error:  # any failure, as for a single photograph
            listener.error(item_error(error), error)
            return False
        return True

    listener.begin(items)
    try:
        outcome.summary = run()
    finally:
        listener.end()
        if sheet is not None:
            outcome.shown = attempt(lambda: sheet.write(len(items), outcome.summary))
    for finish in finishes:
        outcome.finished = attempt(finish) and outcome.finished
    return outcome


def has_work(items: Sequence[Item]) -> bool:
    """True if anything is left to compute; if not, torch need not be loaded."""
    return any(item.waits for item in items)


def called(item: Item) -> str:
    """The name of an item in messages."""
    return STDIN if item.source is None else item.name


def standard_input() -> bytes:
    """All of standard input.

    Raises:
        ItemError: it is empty.
    """
    data = sys.stdin.buffer.read()
    if not data:
        raise ItemError("it is empty", path=STDIN, hint="the command before the pipe wrote nothing")
    return data


def load_photo(item: Item) -> Photo:
    """Read and decode an item's photograph, from its file or standard input.

    Raises:
        ItemError: it cannot be read, or the file holds more than one.
    """
    from idsr_cli.images.joined import has_second_picture
    from idsr_cli.images.photo import check_single, decode, read_photo

    if item.source is not None:
        photo = read_photo(item.source)
    else:
        data = standard_input()
        if has_second_picture(data):
            hint = "name the files, or list them with `--from-list`"
            raise ItemError("it holds several pictures, one after the other", path=STDIN, hint=hint)
        try:
            photo = decode(data)
        except ItemError as error:
            raise ItemError(error.reason, path=STDIN, hint=error.hint) from error
    check_single(photo, called(item))
    return photo
