"""What `idsr derain` and `idsr sift` share: the plan on show, the batch and what the user is told of it."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from idsr_cli import __version__
from idsr_cli.cli.console import console
from idsr_cli.errors import ItemError, UsageError
from idsr_cli.files.faults import item_error
from idsr_cli.runs.batch import Computed, Loaded, Result, Saved, Stages, Summary, run_batch
from idsr_cli.runs.lists import FailureList, read_list
from idsr_cli.runs.plan import PIPE, Existing, Item, Naming, Search, make_plan, output_folder
from idsr_cli.runs.stamps import Stamps
from idsr_cli.runtime.allocator import keep_memory

if TYPE_CHECKING:
    from idsr_cli.images.photo import Photo
    from idsr_cli.restoration import Restorer
    from idsr_cli.weights import WeightsPair

# In messages, where `-` alone would be hard to read.
_STDIN = "standard input"


@dataclass(frozen=True)
class Account:
    """How a batch is described to the user.

    Attributes:
        doing: on the progress bar, "deraining".
        done: in the summary, "derained".
        device: what it ran on, or None if nothing had to be run.
        precision: of the networks, "fp32", or None likewise.
        weights: name of the weights, or None if none were used.
    """

    doing: str
    done: str
    device: str | None = None
    precision: str | None = None
    weights: str | None = None


@dataclass(frozen=True)
class Request:
    """What a command was asked to process and how: the options that all commands over photographs share.

    Attributes:
        inputs: files and folders, or "-"; None = none.
        output: `-o`.
        existing: "skip", "overwrite" or "error".
        from_list: file with paths, or "-", or None.
        recursive, include, exclude: which files of folders; None = no patterns.
        jobs: number of worker threads, 0 = as many as help.
        fail_fast: stop after the first failure.
        failures: file for the paths that failed, or None.
    """

    inputs: Sequence[str] | None
    output: str | None
    existing: Existing = "skip"
    from_list: str | None = None
    recursive: bool = True
    include: Sequence[str] | None = None
    exclude: Sequence[str] | None = None
    jobs: int = 0
    fail_fast: bool = False
    failures: Path | None = None

    def plan(self, naming: Naming) -> list[Item]:
        """Each photograph and its output.

        Raises:
            UsageError: nothing can be started.
        """
        listed = None if self.from_list is None else read_list(self.from_list)
        search = Search(self.recursive, tuple(self.include or ()), tuple(self.exclude or ()))
        return make_plan(self.inputs or [], self.out, naming, self.existing, search, listed)

    def stamps(
        self,
        naming: Naming,
        command: str,
        settings: Mapping[str, Any],
        own: Callable[[Item], Mapping[str, Any]] = lambda item: {},
    ) -> Stamps:
        """The record of the output folder.

        Args:
            naming: as for `plan`.
            command: name of the command.
            settings: all that decides what is in an output beside the photograph itself, as JSON values.
            own: see `Stamps`.
        """
        folder = output_folder(self.inputs or [], self.out, naming, self.from_list is not None)
        return Stamps(folder, {"command": command, "version": __version__, **settings}, own)

    @property
    def out(self) -> str:
        """`-o`, or standard output for standard input.

        Raises:
            UsageError: it is missing.
        """
        if self.output is not None:
            return self.output
        if self.from_list is None and list(self.inputs or []) == [PIPE]:
            return PIPE
        raise UsageError("where to write is missing", hint="add `-o FOLDER`")


def check_pipes(items: Sequence[Item], text: bool) -> None:
    """Refuse pipes that cannot work.

    Args:
        items: the plan.
        text: the output may be printed on a terminal.
    """
    if any(item.source is None for item in items) and sys.stdin.isatty():
        raise UsageError("standard input is a terminal, not a photograph", hint="use `idsr ... - < photo.jpg`")
    if any(_to_stdout(item) for item in items):
        if console.json:
            raise UsageError("`--json` and `-o -` both want standard output")
        if not text and console.data_is_terminal:
            raise UsageError("will not write a binary file to the terminal", hint="redirect it: `> FILE`")


def _to_stdout(item: Item) -> bool:
    return item.target is None and not item.problem


def show_plan(items: Sequence[Item]) -> None:
    """`--dry-run`: each input and its output, on standard output."""
    for item in items:
        if console.json:
            action = "fail" if item.problem else "skip" if item.done else "write"
            reason = item.problem or _kept(item) or None
            console.event(
                "plan", input=item.name, output=None if item.problem else item.output, action=action, reason=reason
            )
        elif item.problem:
            console.text(f"{item.name}: {item.problem}")
        else:
            console.text(f"{item.name} -> {item.output}{f'  ({_kept(item)})' if item.done else ''}")
    _tell_stale(items)


def _kept(item: Item) -> str:
    return "" if not item.done else f"output exists, {item.stale}" if item.stale else "output exists"


def _tell_stale(items: Sequence[Item]) -> None:
    """Say once that kept outputs may not be what would be written today, and why."""
    reasons = Counter(item.stale for item in items if item.stale)
    if reasons:
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        console.warn(f"kept outputs that may be stale: {why}", "`--existing overwrite` makes them anew")


def has_work(items: Sequence[Item]) -> bool:
    """Whether anything is left to compute; if not, torch need not be loaded."""
    return any(map(_needs_work, items))


def _needs_work(item: Item) -> bool:
    return not item.done and not item.problem


def load_photo(item: Item) -> Photo:
    """Read and decode an item's photograph, from its file or standard input.

    Raises:
        ItemError: it cannot be read, or the file holds more than one.
    """
    from idsr_cli.images.photo import check_single, decode, read_photo

    if item.source is not None:
        photo = read_photo(item.source)
    else:
        data = sys.stdin.buffer.read()
        if not data:
            raise ItemError("it is empty", path=_STDIN, hint="the command before the pipe wrote nothing")
        try:
            photo = decode(data)
        except ItemError as error:
            raise ItemError(error.reason, path=_STDIN, hint=error.hint) from error
    check_single(photo, _STDIN if item.source is None else item.name)
    return photo


def emit(target: Path | None, data: bytes) -> None:
    """Write an output: atomically to its file, or to standard output."""
    from idsr_cli.files.atomic import write_bytes

    if target is None:
        console.write_data(data)
    else:
        write_bytes(target, data)


def load_networks(pair: WeightsPair, roles: str, device: str, precision: str, tile: int | None) -> Restorer:
    """The networks that a command needs, which tell the user of their progress; see `RestorationOptions`."""
    from idsr_cli.restoration import RestorationOptions

    restorer = RestorationOptions(pair, roles, device, precision, tile).build()
    if restorer.device.type == "cpu":
        keep_memory()
    restorer.on_progress = console.part
    restorer.on_smaller = _tell_smaller
    return restorer


def _tell_smaller(side: int) -> None:
    console.warn(f"out of memory; going on with tiles of {side} pixels", f"`--tile {side}` begins with them")


def place(restorer: Restorer | None) -> tuple[str | None, str | None]:
    """Device and precision for the account; plain SIFT, and a batch without work, use neither."""
    return (str(restorer.device), restorer.precision) if restorer else (None, None)


def worker_count(jobs: int, items: Sequence[Item] | None = None) -> int:
    """`--jobs`, or as many as help: reading and writing hide behind the networks with very few threads."""
    most = jobs or min(4, os.cpu_count() or 1)
    return most if items is None else min(most, max(1, len(items)))


def run(
    items: Sequence[Item],
    stages: Stages[Loaded, Computed],
    account: Account,
    request: Request,
    stamps: Stamps,
    finish: Callable[[], None] | None = None,
) -> None:
    """Run the batch, tell of each item, sum up, and leave with the exit code.

    Args:
        items: the plan.
        stages: the work on each.
        account: for the user.
        request: what was asked for.
        stamps: hears of each output that is written.
        finish: what is left to do when all items are through or Ctrl-C was pressed; if it fails, the exit code is 1.

    Raises:
        typer.Exit: always, unless everything went well.
        UsageError: the file for failures cannot be written.
    """
    failures = None if request.failures is None else FailureList(request.failures)
    counts: list[int] = []  # keypoints of each photograph or clip
    lost = unchanged = 0

    def report(result: Result) -> None:
        nonlocal lost, unchanged
        if result.saved is not None:
            lost += result.saved.lost
            unchanged += result.saved.derained is False
        if result.saved is not None and result.saved.keypoints is not None:
            counts.append(result.saved.keypoints)
        _tell(result)
        if failures is not None and result.error is not None and result.item.source is not None:
            failures.add(result.item.name)
        if _needs_work(result.item):
            console.advance()

    def compute(item: Item, loaded: Loaded) -> Computed:
        try:
            return stages.compute(item, loaded)
        finally:
            console.computed()

    def save(item: Item, computed: Computed) -> Saved:
        with stamps.recording(item):
            return stages.save(item, computed)

    _tell_stale(items)
    if account.device:
        with_weights = f", weights {account.weights}" if account.weights else ""
        console.detail(f"{account.doing} on {account.device}, {account.precision}{with_weights}")
    console.begin(account.doing, sum(map(_needs_work, items)))
    try:
        watched = replace(stages, compute=compute, save=save)
        summary = run_batch(items, watched, report, worker_count(request.jobs, items), request.fail_fast)
    finally:
        console.end()
    finished = finish is None or _succeeds(finish)
    _sum_up(summary, account, counts, unchanged, lost, items, finished)
    if summary.exit_code or lost or not finished:
        raise typer.Exit(summary.exit_code or 1)


def _succeeds(finish: Callable[[], None]) -> bool:
    try:
        finish()
    except Exception as error:  # as for a single photograph
        console.error(item_error(error), error)
        return False
    return True


def _tell(result: Result) -> None:
    item, saved = result.item, result.saved
    if result.error is not None:
        console.error(result.error, result.error.__cause__)
    elif saved is None:
        console.detail(f"{item.name} -> {item.output}  skipped: {_kept(item)}")
    else:
        found = "" if saved.keypoints is None else f", {saved.keypoints} keypoints"
        if saved.frames is not None:
            found = f", {saved.frames} frames{found}"
        if saved.derained is False:
            # Pictures of a dry clip are encoded again, and keypoints are nothing that was there before.
            found += ", no rain seen" if found else ", no rain seen, left as it is"
        console.detail(f"{item.name} -> {item.output}  {saved.width}x{saved.height}{found}, {result.seconds:.2f} s")
    of_clip = {} if saved is None or saved.frames is None else {"frames": saved.frames, "lost": saved.lost}
    console.event(
        "item",
        input=item.name,
        output=None if result.status == "failed" else item.output,
        status=result.status,
        reason=result.error.reason if result.error else _kept(item) or None,
        seconds=round(result.seconds, 3),
        width=saved.width if saved else None,
        height=saved.height if saved else None,
        keypoints=saved.keypoints if saved else None,
        derained=saved.derained if saved else None,
        **of_clip,
    )


def _sum_up(
    summary: Summary, account: Account, counts: Sequence[int], unchanged: int, lost: int, items: Sequence[Item],
    finished: bool,
) -> None:  # fmt: skip
    stale = sum(bool(item.stale) for item in items)
    console.event(
        "summary",
        ok=summary.ok,
        skipped=summary.skipped,
        failed=summary.failed,
        unchanged=unchanged,
        stale=stale,
        finished=finished,
        seconds=round(summary.seconds, 3),
        device=account.device,
        precision=account.precision,
        weights=account.weights,
    )
    # Keypoints are taken from dry photographs too.
    parts = [f"{account.done} {summary.ok if counts else summary.ok - unchanged}"]
    if counts:
        empty = counts.count(0)
        without = f", none in {empty} of them" if empty and sum(counts) else ""
        parts[0] += f" ({sum(counts) or 'no'} keypoints{without})"
    if unchanged:
        as_is = "as it is" if unchanged == 1 else "as they are"
        parts.append(f"{unchanged} without rain seen" if counts else f"left {unchanged} {as_is} (no rain seen)")
    if summary.skipped:
        remark = f", {stale} may be stale, see above" if stale else "; `--existing overwrite` makes them anew"
        parts.append(f"skipped {summary.skipped} (outputs exist{remark})")
    if summary.failed:
        parts.append(f"failed {summary.failed} (see above)")
    if lost:
        parts.append(f"lost {lost} {'frame' if lost == 1 else 'frames'} (see above)")
    if not finished:
        parts.append("their common file could not be written (see above)")
    ending = ""
    if left := len(items) - summary.ok - summary.skipped - summary.failed:
        ending = f", {'interrupted' if summary.interrupted else 'stopped'} with {left} to go"
    console.note(f"{', '.join(parts)} in {summary.seconds:.1f} s{ending}")
