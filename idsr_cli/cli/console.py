"""What the user sees. Data goes to standard output, everything else to standard error. The only module that uses rich.

Progress is a bar on a terminal, and a plain line now and then in a file or pipe. `NO_COLOR` is respected. When a
command begins, file descriptor 1 is redirected to standard error, and data is written to a copy of the original
descriptor. So nothing that a library prints, in Python or C, gets into the data.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any

from idsr_cli.errors import IdsrError, UsageError

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.console import RenderableType
    from rich.progress import Progress

SCHEMA = 1
SECONDS_BETWEEN_LINES = 10.0
REFRESHES_PER_SECOND = 4
# Free columns to the right of the bar. On Ctrl-C a terminal prints `^C` after the cursor; a full line would wrap, and
# erasing one line would leave a part of the bar behind.
_MARGIN = 6
WIDEST_PROSE = 120  # columns


class Console:
    """Everything that is said to the user; each command calls `configure` first."""

    def __init__(self) -> None:
        self.quiet = False
        self.verbose = 0
        self.json = False
        self._rich: RichConsole | None = None
        self._data: IO[bytes] | None = None
        self._progress: Progress | None = None
        self._count = _Count("", 0)
        self._last_line = 0.0

    def configure(self, *, quiet: bool = False, verbose: int = 0, json: bool = False) -> None:
        """Set how much is said, and reserve standard output for data.

        Args:
            quiet: errors only.
            verbose: 1 = a line per item, 2 = tracebacks of errors.
            json: results are JSON lines on standard output.
        """
        self.__init__()  # type: ignore[misc]
        self.quiet, self.verbose, self.json = quiet, verbose, json
        self._claim_stdout()

    # --- standard output: data -----------------------------------------------------------------------------------

    def _claim_stdout(self) -> IO[bytes]:
        """The stream for data. From the first call on, everything else that is printed goes to standard error."""
        if self._data is None:
            if _is_descriptor(sys.stdout, 1) and _is_descriptor(sys.stderr, 2):
                self._data = _real_stdout()
            else:  # replaced by something without a file descriptor, as in tests
                self._data = sys.stdout.buffer
        return self._data

    @property
    def data_is_terminal(self) -> bool:
        """True if standard output is a terminal."""
        return self._claim_stdout().isatty()

    def write_data(self, data: bytes) -> None:
        """Write to standard output.

        Raises:
            UsageError: it cannot be written.
        """
        stream = self._claim_stdout()
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[stream.write(rest) :]
            stream.flush()
        except BrokenPipeError:  # the reader has closed the pipe (`| head`): end quietly
            sys.exit(1)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UsageError(reason, path="standard output") from None

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
        if not self.data_is_terminal:
            return None
        return _columns() or os.get_terminal_size(self._claim_stdout().fileno()).columns

    def table_width(self) -> int:
        """Columns for tables on standard output: those of the terminal; without one, COLUMNS or 80."""
        return max(60, min(self.terminal_width() or _columns() or 80, 160))

    def markdown(self, text: str) -> None:
        """Show Markdown on standard output, which must be a terminal."""
        from rich.console import Console as RichConsole
        from rich.markdown import Markdown

        width = min(self.terminal_width() or WIDEST_PROSE, WIDEST_PROSE)
        rich = RichConsole(highlight=False, emoji=False, force_terminal=True, width=width)
        with rich.capture() as laid_out:
            rich.print(Markdown(text, hyperlinks=False))
        self.write_data(laid_out.get().encode("utf-8", "backslashreplace"))

    # --- standard error: everything else ---------------------------------------------------------------------------

    @property
    def rich(self) -> RichConsole:
        """The rich console for standard error."""
        if self._rich is None:
            from rich.console import Console as RichConsole

            self._rich = RichConsole(stderr=True, highlight=False, markup=False, emoji=False)
        return self._rich

    def _say(self, *parts: tuple[str, str]) -> None:
        from rich.text import Text

        self._last_line = time.monotonic()
        # soft_wrap: a message is one line on any terminal, so that it can be searched and copied.
        self.rich.print(Text.assemble(*((text.translate(_VISIBLE), style) for text, style in parts)), soft_wrap=True)

    def note(self, text: str) -> None:
        """A message; not shown with --quiet."""
        if not self.quiet:
            self._say((text, ""))

    def warn(self, text: str, hint: str) -> None:
        """A warning; not shown with --quiet."""
        if not self.quiet:
            self._say(("warning: ", "yellow"), (text, ""), (f" ({hint})", ""))

    def detail(self, text: str) -> None:
        """A message that is shown with -v only."""
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
        self._count = _Count(doing, total)
        self._last_line = time.monotonic()
        if total > 1:
            self._show()

    def expect(self, more: int) -> None:
        """Change the total by `more`, which may be negative (the frames of a clip)."""
        self._count.expect(more)
        if self._count.total > 1:
            self._show()

    def started(self, name: str) -> None:
        """The photograph of this name is being computed now."""
        self._count.started(name)
        self._show()

    def part(self, share: float) -> None:
        """This share (0..1) of the photograph that is being computed is done."""
        self._count.part(share)
        self._show()

    def computed(self) -> None:
        """The photograph is computed; it has still to be saved."""
        self._count.computed_one()
        if self._count.total > 1:
            self._show()

    def advance(self) -> None:
        """One more photograph is done."""
        self._count.done += 1
        if self._count.total > 1:
            self._show()

    def track(self, share: float, doing: str, detail: str) -> None:
        """This share (0..1) of one long job is done."""
        if self._count.doing != doing:
            self.begin(doing, 1)
            # The first report may come late, or from the middle of a resumed job: measure the pace from here.
            self._count.origin = share
        self._count.part(share)
        self._show(detail)

    def end(self) -> None:
        """Remove the progress bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        self._count = _Count("", 0)

    def _show(self, detail: str = "") -> None:
        count = self._count
        if self.quiet or not count.total:
            return
        count.detail = detail
        if self._progress is None and sys.stderr.isatty() and not self.rich.is_dumb_terminal:
            self._progress = self._bar()
            self._progress.add_task(count.doing, total=1.0, text="")
            self._progress.start()
        if self._progress is not None:
            return  # it refreshes itself
        # Often in the first minutes, once in ten minutes of a long run.
        pause = min(max(SECONDS_BETWEEN_LINES, count.seconds / 10), 60 * SECONDS_BETWEEN_LINES)
        if time.monotonic() - self._last_line > pause and count.share < 1:
            self._say((f"{count.doing}: {count.line}", ""))

    def _bar(self) -> Progress:
        from rich.constrain import Constrain
        from rich.progress import BarColumn, Progress, TextColumn

        console = self

        class Bar(Progress):
            def get_renderables(self) -> Iterator[RenderableType]:
                # At each refresh, so that time and bar go on while a large photograph is computed.
                width, count = console.rich.width - _MARGIN, console._count
                for task in self.tasks:
                    task.description, task.completed = count.doing, count.expected_share
                    task.fields["text"] = count.text(width)
                yield Constrain(self.make_tasks_table(self.tasks), width)

        columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[text]}"))
        settings: dict[str, Any] = {"transient": True, "expand": True, "refresh_per_second": REFRESHES_PER_SECOND}
        return Bar(*columns, console=self.rich, **settings)


class _Count:
    """The progress of a run in words. They keep their width, so that the bar beside them does not jump.

    Args:
        doing: "deraining".
        total: photographs, or 1 for one long job.

    Attributes:
        done: photographs that are done.
        origin: share that was done before the clock started.
        detail: what else there is to say, instead of the pace.
    """

    def __init__(self, doing: str, total: int) -> None:
        self.doing, self.total = doing, total
        self.done, self.origin = 0, 0.0
        self.detail = ""
        self._name = ""
        self._computed = 0
        self._part = self._furthest = 0.0
        self._again = False  # a photograph is gone through once more
        # The last step of `part` and how long it took, to guess where the next one is.
        self._step, self._pause, self._told = 0.0, 1.0, time.monotonic()
        self._begun = time.monotonic()

    def expect(self, more: int) -> None:
        self._furthest *= self.total / max(1, self.total + more)
        self.total += more

    def started(self, name: str) -> None:
        self._name = name
        self.part(0.0)
        self._again = False

    def part(self, share: float) -> None:
        now = time.monotonic()
        self._again = self._again or share < self._part
        self._step, self._pause = max(0.0, share - self._part), max(1e-3, now - self._told)
        self._part, self._told = share, now
        self._furthest = max(self._furthest, self._share_with(share))

    def computed_one(self) -> None:
        self._computed += 1
        self.part(0.0)
        self._again = False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    @property
    def share(self) -> float:
        """0..1, never decreasing. A photograph counts 0.5 when it is computed and 1 when it is saved."""
        if not self.total:
            return 0.0
        self._furthest = max(self._furthest, self.done / self.total, self._share_with(self._part))
        return self._furthest

    @property
    def expected_share(self) -> float:
        """`share`, with the part of the photograph that should be done by now if the last step is a measure."""
        ahead = min(0.95, (time.monotonic() - self._told) / self._pause) * self._step
        return max(self.share, self._share_with(min(1.0, self._part + ahead)) if self.total else 0.0)

    def _share_with(self, part: float) -> float:
        ahead = self._computed + part if self.total > 1 else 2 * part
        return min(1.0, (ahead + self.done) / (2 * max(1, self.total)))

    def text(self, width: int) -> str:
        """What stands beside the bar on a terminal of `width` columns."""
        name = shortened(self._name, max(12, min(40, width - 56)))
        pace = self.detail or (self.pace if width > 100 else "")
        return "  ".join(filter(None, (name, self.where, pace, clock(self.seconds), self.left)))

    @property
    def line(self) -> str:
        """A line for a file or pipe."""
        parts = self._name, self.where.strip(), self.detail, f"{clock(self.seconds)} gone", self.left.strip()
        return ", ".join(filter(None, parts))

    @property
    def where(self) -> str:
        if self.total == 1:
            return f"{100 * self.share:3.0f} %"
        return f"{self.done:{len(str(self.total))}d} of {self.total}"

    @property
    def pace(self) -> str:
        if self.total == 1:
            return ""
        each = f"{self.seconds / self.done:.1f}" if self.done else "-"
        return f"{each:>5} s each"

    @property
    def left(self) -> str:
        """Time left; no estimate in the first seconds. While a photograph is looked at again, how far that is."""
        share, seconds = self.share, self.seconds
        if self._again and self._share_with(self._part) < share:
            return f"{'again':>7} {100 * self._part:2.0f} %"
        if share <= self.origin or seconds < 2:
            return f"{'-:--':>7} left"
        return f"{clock(seconds / (share - self.origin) * (1 - share)):>7} left"


def clock(seconds: float) -> str:
    """`1:05`, `1:01:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def shortened(text: str, width: int) -> str:
    """`text`, cut in the middle if it has more than `width` characters (at least 3)."""
    if len(text) <= width:
        return text
    end = width // 2
    return f"{text[: width - 1 - end]}…{text[-end:]}"


def _columns() -> int | None:
    """The width that the user asks for, or None."""
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdigit() and int(columns) else None


def _is_descriptor(stream: IO[str] | None, number: int) -> bool:
    try:
        return stream is not None and stream.fileno() == number
    except (OSError, ValueError):
        return False


@functools.cache
def _real_stdout() -> IO[bytes]:
    """A copy of standard output; descriptor 1 is redirected to standard error."""
    sys.stdout.flush()
    copy = os.fdopen(os.dup(1), "wb", buffering=0, closefd=False)
    os.dup2(2, 1)
    return copy


# Control characters in file names are shown as escapes: they must not control the terminal or break lines.
_VISIBLE: Mapping[int, Any] = {code: f"\\x{code:02x}" for code in (*range(9), *range(10, 32), 127)} | {9: " "}

console = Console()
