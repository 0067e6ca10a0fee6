"""Run a batch: read ahead, compute in order, save in the background; go on after failures; stop cleanly on Ctrl-C.

The work on a photograph has three stages. `load` and `save` run on worker threads. `compute` (the networks) runs on the
calling thread, one photograph at a time and in order, so that files are the same for any number of workers.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from idsr_cli.errors import IdsrError, ItemError
from idsr_cli.files.faults import failure, is_full_disk
from idsr_cli.files.interruption import uninterrupted
from idsr_cli.runs.plan import Item

if TYPE_CHECKING:
    from idsr_cli.rain_estimate import Rain
    from idsr_cli.runs.contact_sheet.thumbnails import Thumbnails

Loaded = TypeVar("Loaded")
Computed = TypeVar("Computed")

# Photographs wait in memory between the stages, and SIFT needs some 200 bytes per pixel. At most this many pixels (or
# one photograph) are saved at a time, so a folder of 12-megapixel photographs needs no more memory than one.
PIXELS_IN_FLIGHT = 8_000_000
# Stop after this many consecutive disk-full errors.
FULL_DISK = 5
# Photographs read ahead. More would not help, since reading is much faster than the networks, and each takes memory.
READ_AHEAD = 2


@dataclass(frozen=True)
class Saved:
    """What `save` reports about a photograph.

    Attributes:
        width: of the photograph, in pixels; 0 if it is not known.
        height: of the photograph, in pixels; 0 if it is not known.
        keypoints: how many were written, or None if the command writes none.
        frames: number of frames written of a video clip; None for a photograph.
        lost: number of a clip's frames that could not be decoded or processed.
        derained: True if a network saw rain and changed the photograph, or a frame of the clip; None if no network ran.
        dropped: kinds of metadata that the photograph has and its output has not, see `images.photo.dropped`.
        rain: how much rain was seen, in a clip over all frames; None if no network ran.
        thumbnails: small pictures of it, if a contact sheet is wanted.
        counts: how many keypoints each output holds, by its kind.
    """

    width: int
    height: int
    keypoints: int | None = None
    frames: int | None = None
    lost: int = 0
    derained: bool | None = None
    dropped: tuple[str, ...] = ()
    rain: Rain | None = None
    thumbnails: Thumbnails | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What became of one item.

    Attributes:
        item: the item.
        status: "skipped" = its output existed already.
        seconds: time spent on it in all stages.
        saved: what was written, if status is "ok".
        error: the reason, if status is "failed".
        seen: small pictures of an item that was skipped, see `Stages.look`.
    """

    item: Item
    status: Literal["ok", "skipped", "failed"]
    seconds: float = 0.0
    saved: Saved | None = None
    error: IdsrError | None = None
    seen: Thumbnails | None = None

    @property
    def thumbnails(self) -> Thumbnails | None:
        """Small pictures of the photograph, if a contact sheet is wanted."""
        return self.saved.thumbnails if self.saved else self.seen


@dataclass
class Summary:
    """Counts over a batch.

    Attributes:
        ok, skipped, failed: numbers of photographs.
        seconds: wall clock time.
        interrupted: ended by Ctrl-C.
        stopped: ended early, by a failure with `fail_fast` or by a full disk.
    """

    ok: int = 0
    skipped: int = 0
    failed: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    stopped: bool = False

    @property
    def exit_code(self) -> int:
        """0 = all done or skipped, 1 = some failed, 130 = interrupted."""
        if self.interrupted:
            return 130
        return 1 if self.failed else 0


@dataclass(frozen=True)
class Stages(Generic[Loaded, Computed]):
    """The work on one photograph.

    Attributes:
        load: reads and decodes. Worker thread.
        compute: the networks. Calling thread.
        save: encodes and writes. Worker thread.
        pixels: size of what `load` returned, to bound memory.
        look: makes small pictures of an item that is skipped, for a contact sheet; worker thread. None = none wanted.
    """

    load: Callable[[Item], Loaded]
    compute: Callable[[Item, Loaded], Computed]
    save: Callable[[Item, Computed], Saved]
    pixels: Callable[[Loaded], int]
    look: Callable[[Item], Thumbnails | None] | None = None

    def without_work(self, item: Item) -> Result:
        """The result of an item that does not wait: it is known to fail, or done."""
        return _failure_of(item) or self.skipped(item)

    def skipped(self, item: Item) -> Result:
        """The result of an item that is done, with a look at it."""
        seen = None
        if self.look is not None:
            with suppress(Exception):  # it is done, and stays so, whether or not it can be shown
                seen = self.look(item)
        return Result(item, "skipped", seen=seen)


def run_batch(
    items: Iterable[Item],
    stages: Stages[Loaded, Computed],
    report: Callable[[Result], None],
    jobs: int = 1,
    fail_fast: bool = False,
) -> Summary:
    """Process `items`.

    Failures of single items, out of memory included, do not stop the batch unless `fail_fast` is set; `FULL_DISK`
    disk-full errors in a row do. When it stops early, and on Ctrl-C, computed photographs are still saved and nothing
    new is begun.

    Args:
        items: the plan.
        stages: the work.
        report: called on the calling thread with each result, in the order of `items`, as soon as it and all before it
            are done.
        jobs: number of worker threads; 1 = no threads, every stage on the calling thread.
        fail_fast: stop after the first failure.

    Returns:
        The counts.
    """
    return counted(lambda record: work_through(items, stages, record, jobs), report, fail_fast)


def work_through(
    items: Iterable[Item], stages: Stages[Loaded, Computed], report: Callable[[Result], None], jobs: int = 1
) -> None:
    """As `run_batch`, without counting, and without an end of its own.

    What `report` raises ends it, and so does Ctrl-C, as a KeyboardInterrupt: what has been computed by then is saved
    and reported first.
    """
    runner = _Threaded(stages, report, jobs) if jobs > 1 else _Serial(stages, report)
    runner.run(items)


def counted(
    work: Callable[[Callable[[Result], None]], None], report: Callable[[Result], None], fail_fast: bool = False
) -> Summary:
    """Count the results of some work, and end it where `run_batch` does.

    Args:
        work: is given what to call with each result; that raises `Stop` where nothing new may be begun.
        report: called with each result too.
        fail_fast: stop after the first failure.
    """
    begun = time.monotonic()
    summary = Summary()

    without_room = 0

    def record(result: Result) -> None:
        nonlocal without_room
        setattr(summary, result.status, getattr(summary, result.status) + 1)
        report(result)
        without_room = without_room + 1 if is_full_disk(result.error) else 0
        if not summary.stopped and ((fail_fast and result.status == "failed") or without_room >= FULL_DISK):
            summary.stopped = True
            raise Stop

    try:
        work(record)
    except KeyboardInterrupt:
        summary.interrupted = True
    except Stop:
        pass
    summary.seconds = time.monotonic() - begun
    return summary


class Stop(Exception):
    """Raised by a result after which nothing new may be begun."""


@dataclass
class _Serial(Generic[Loaded, Computed]):
    stages: Stages[Loaded, Computed]
    report: Callable[[Result], None]

    def run(self, items: Iterable[Item]) -> None:
        for item in items:
            if item.waits:
                self._process(item)
            else:
                self.report(self.stages.without_work(item))

    def _process(self, item: Item) -> None:
        begun = time.monotonic()
        try:
            computed = self.stages.compute(item, self.stages.load(item))
        except Exception as error:  # any failure of one photograph: the others go on
            self.report(Result(item, "failed", time.monotonic() - begun, error=failure(error, item.name)))
            return
        with uninterrupted():  # what is saved is reported too
            self.report(_save(self.stages, item, computed, time.monotonic() - begun))


@dataclass
class _Threaded(Generic[Loaded, Computed]):
    stages: Stages[Loaded, Computed]
    report: Callable[[Result], None]
    jobs: int
    # Items in order, each with the reading of its photograph; None = nothing to read.
    ahead: deque[tuple[Item, Future[tuple[Loaded, float]] | None]] = field(default_factory=deque)
    # Results not yet reported, in order, with sizes in pixels; a future while the photograph is being saved.
    behind: deque[tuple[Result | Future[Result], int]] = field(default_factory=deque)

    def run(self, items: Iterable[Item]) -> None:
        with ThreadPoolExecutor(self.jobs, "idsr") as pool:
            try:
                self._run(items, pool)
            except (KeyboardInterrupt, Stop):
                # Photographs that have been computed are still saved; those only read are dropped.
                for _, loading in self.ahead:
                    if loading is not None:
                        loading.cancel()
                pool.shutdown(wait=True)
                self._report_finished()
                raise

    def _run(self, items: Iterable[Item], pool: ThreadPoolExecutor) -> None:
        coming = iter(items)
        while True:
            while len(self.ahead) < READ_AHEAD and (item := next(coming, None)) is not None:
                self.ahead.append((item, pool.submit(self._load, item) if item.waits else None))
            if not self.ahead:
                break
            item, loading = self.ahead.popleft()
            if loading is not None:
                self._compute(item, loading, pool)
            elif self.stages.look and not item.problem:
                self._look(item, pool)
            else:
                self.behind.append((_failure_of(item) or Result(item, "skipped"), 0))
            self._report_finished()
            if any(_has_failed(result) for result, _ in self.behind):
                # It may end the batch, so nothing new is begun before it and all before it are reported.
                self._report_all()
        self._report_all()

    def _load(self, item: Item) -> tuple[Loaded, float]:
        begun = time.monotonic()
        return self.stages.load(item), time.monotonic() - begun

    def _compute(self, item: Item, loading: Future[tuple[Loaded, float]], pool: ThreadPoolExecutor) -> None:
        begun = time.monotonic()
        try:
            loaded, spent = loading.result()
            begun = time.monotonic()
            pixels = self.stages.pixels(loaded)
            computed = self.stages.compute(item, loaded)
        except Exception as error:  # as above
            self.behind.append((Result(item, "failed", time.monotonic() - begun, error=failure(error, item.name)), 0))
            return
        spent += time.monotonic() - begun
        try:
            # Wait until enough has been saved; if nothing is being saved, any size may go on.
            while self._must_wait(pixels):
                self._wait_for_oldest()
                self._report_finished()
        finally:  # the photograph has been computed, so it is saved even if the batch ends here
            self.behind.append((pool.submit(_save, self.stages, item, computed, spent), pixels))

    def _look(self, item: Item, pool: ThreadPoolExecutor) -> None:
        while self._must_wait(0):
            self._wait_for_oldest()
            self._report_finished()
        self.behind.append((pool.submit(self.stages.skipped, item), 0))

    def _must_wait(self, pixels: int) -> bool:
        sizes = [size for result, size in self.behind if isinstance(result, Future) and not result.done()]
        return bool(sizes) and (len(sizes) >= self.jobs or sum(sizes) + pixels > PIXELS_IN_FLIGHT)

    def _wait_for_oldest(self) -> None:
        waiting = [result for result, _ in self.behind if isinstance(result, Future)]
        if waiting:
            wait(waiting[:1])

    def _report_all(self) -> None:
        while self.behind:
            self._wait_for_oldest()
            self._report_finished()

    def _report_finished(self) -> None:
        while self.behind:
            result, _ = self.behind[0]
            if isinstance(result, Future):
                if not result.done():
                    return
                result = result.result()
            with uninterrupted():
                self.behind.popleft()
                self.report(result)


def _save(stages: Stages[Loaded, Computed], item: Item, computed: Computed, spent: float) -> Result:
    """Save a photograph for which `spent` seconds were spent already."""
    begun = time.monotonic()
    try:
        saved = stages.save(item, computed)
    except Exception as error:  # as above
        return Result(item, "failed", spent + time.monotonic() - begun, error=failure(error, item.name))
    return Result(item, "ok", spent + time.monotonic() - begun, saved)


def _has_failed(result: Result | Future[Result]) -> bool:
    """Whether it is known already that a photograph has failed."""
    if isinstance(result, Future):
        return result.done() and result.result().status == "failed"
    return result.status == "failed"


def _failure_of(item: Item) -> Result | None:
    """The result of an item that is known to fail."""
    return Result(item, "failed", error=ItemError(item.problem, path=item.name)) if item.problem else None
