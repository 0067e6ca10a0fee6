"""How a run reports: it calls a listener, and knows nothing of consoles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from idsr_cli.errors import IdsrError
from idsr_cli.runs.batch import Result
from idsr_cli.runs.plan import Item


class Listener(Protocol):
    """Hears of the progress of a run. All calls come from the thread that started it."""

    def begin(self, items: Sequence[Item]) -> None:
        """The run starts with this plan."""

    def expect(self, more: int) -> None:
        """There is more to do than was planned (the frames of a clip), or less if negative."""

    def started(self, item: Item) -> None:
        """The networks begin with this photograph or clip, or with its second frame."""

    def computed(self) -> None:
        """One photograph or frame is computed; it has still to be saved."""

    def advance(self) -> None:
        """One photograph or frame is saved, or has failed."""

    def result(self, result: Result) -> None:
        """One item of the plan is done; in the order of the plan."""

    def error(self, error: IdsrError, cause: BaseException | None = None) -> None:
        """A part of an item has failed, or the common file."""

    def note(self, text: str) -> None:
        """Something that the user should know."""

    def end(self) -> None:
        """No more results come."""
