"""What the user sees. Data goes to standard output, everything else to standard error. The only module that uses rich.

A progress bar is shown on a terminal; into a file or pipe goes a plain line now and then. `NO_COLOR` is respected.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

from idsr_cli.errors import IdsrError

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.progress import Progress, TaskID

SCHEMA = 1
SECONDS_BETWEEN_LINES = 10.0
WIDEST_PROSE = 120  # columns


class Console:
    """The one conversation with the user; commands configure it first of all."""

    def __init__(self) -> None:
        self.quiet = False
        self.verbose = 0
        self.json = False
        self._rich: RichConsole | None = None
        self._data: IO[bytes] | None = None
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._total = self._done = 0
        self._begun = self._last_line = 0.0

    def configure(self, *, quiet: bool = False, verbose: int = 0, json: bool = False) -> None:
        """Set how much is said.

        Args:
            quiet: errors only.
            verbose: 1 = a line per item, 2 = tracebacks of errors.
            json: results are JSON lines on standard output.
        """
        self.__init__()  # type: ignore[misc]
        self.quiet, self.verbose, self.json = quiet, verbose, json

    # --- standard output: data -----------------------------------------------------------------------------------

    def claim_stdout(self) -> None:
        """Keep standard output for data alone: whatever else a library prints there goes to standard error."""
        if self._data is not None:
            return
        try:
            real = sys.stdout.fileno() == 1
        except (OSError, ValueError):  # replaced by something without a file descriptor
            real = False
        if not real:
            self._data = sys.stdout.buffer
            return
        sys.stdout.flush()
        self._data = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)

    def write_data(self, data: bytes) -> None:
        """Write to standard output."""
        self.claim_stdout()
        assert self._data is not None
        try:
            self._data.write(data)
            self._data.flush()
        except BrokenPipeError:
            self._hang_up()

    def event(self, event: str, **values: object) -> None:
        """One JSON line on standard output, if JSON was asked for."""
        if self.json:
            # ASCII only: file names that are not valid Unicode survive as escapes, whatever the locale.
            self.write_data(json.dumps({"schema": SCHEMA, "event": event, **values}).encode("ascii") + b"\n")

    def text(self, line: str) -> None:
        """A line of results on standard output."""
        self.write_data(line.encode("utf-8", "backslashreplace") + b"\n")

    def terminal_width(self) -> int | None:
        """Columns of standard output; None if it is no terminal."""
        import shutil

        return shutil.get_terminal_size().columns if sys.stdout.isatty() else None

    def markdown(self, text: str) -> None:
        """Lay out Markdown on the terminal that standard output is."""
        from rich.console import Console as RichConsole
        from rich.markdown import Markdown

        rich = RichConsole(highlight=False, emoji=False)
        try:
            rich.print(Markdown(text, hyperlinks=False), width=min(rich.width, WIDEST_PROSE))
        except BrokenPipeError:
            self._hang_up()

    def _hang_up(self) -> None:
        """The reader of our output has gone (`| head`): end quietly."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if self._data is not None and self._data is not getattr(sys.stdout, "buffer", None):
            os.dup2(nowhere, self._data.fileno())
        sys.exit(1)

    # --- standard error: everything else ---------------------------------------------------------------------------

    @property
    def rich(self) -> RichConsole:
        """Standard error, through rich."""
        if self._rich is None:
            from rich.console import Console as RichConsole

            self._rich = RichConsole(stderr=True, highlight=False, markup=False, emoji=False)
        return self._rich

    def _say(self, *parts: tuple[str, str]) -> None:
        from rich.text import Text

        self._last_line = time.monotonic()
        # soft_wrap: one message is one line, however narrow the terminal, so that it can be searched and copied.
        self.rich.print(Text.assemble(*((text.translate(_VISIBLE), style) for text, style in parts)), soft_wrap=True)

    def note(self, text: str) -> None:
        """Said unless quiet."""
        if not self.quiet:
            self._say((text, ""))

    def warn(self, text: str, hint: str) -> None:
        """Something to look at that is no error; said unless quiet."""
        if not self.quiet:
            self._say(("warning: ", "yellow"), (text, ""), (f" ({hint})", ""))

    def detail(self, text: str) -> None:
        """Said with -v."""
        if self.verbose and not self.quiet:
            self._say((text, "dim"))

    def error(self, error: IdsrError, cause: BaseException | None = None) -> None:
        """One line: `path: reason (hint)`; with -vv the traceback of `cause`, or of the error itself."""
        hint = f" ({error.hint})" if error.hint else ""
        self._say((error.path or "idsr", "bold"), (": ", ""), (error.reason, "red"), (hint, ""))
        if self.verbose >= 2:
            self.rich.print("".join(traceback.format_exception(cause or error)).rstrip(), soft_wrap=True)

    # --- progress --------------------------------------------------------------------------------------------------

    def begin(self, doing: str, total: int) -> None:
        """Start counting towards `total` photographs."""
        self._total, self._done = total, 0
        self._begun = self._last_line = time.monotonic()
        if self.quiet or total < 2 or not sys.stderr.isatty():
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=self.rich, transient=True, expand=True)
        self._task = self._progress.add_task(doing, total=total, rate="")
        self._progress.start()

    def advance(self) -> None:
        """One more is through."""
        self._done += 1
        spent = time.monotonic() - self._begun
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, advance=1, rate=f"{spent / self._done:.1f} s each")
        elif not self.quiet and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES and self._done < self._total:
            left = spent / self._done * (self._total - self._done)
            self._say((f"{self._done} of {self._total}, {left:.0f} s left", ""))

    def track(self, share: float, doing: str, detail: str) -> None:
        """One long job: `share` of it (0..1) is done; a bar on a terminal, else a line now and then."""
        if self.quiet:
            return
        if self._progress is None and sys.stderr.isatty():
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.percentage:>3.0f} %"),
                TextColumn("{task.fields[detail]}"),
                TimeRemainingColumn(),
            )
            self._progress = Progress(
                *columns, console=self.rich, transient=True, expand=True, speed_estimate_period=300
            )
            self._task = self._progress.add_task(doing, total=1.0, detail=detail)
            self._progress.start()
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=share, detail=detail)
        elif time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._say((f"{doing} {100 * share:.0f} %, {detail}", ""))

    def end(self) -> None:
        """Take the progress bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = self._task = None


# Control characters in file names must not reach the terminal, nor break a message into lines.
_VISIBLE: Mapping[int, Any] = {code: f"\\x{code:02x}" for code in (*range(9), *range(10, 32), 127)} | {9: " "}

console = Console()
