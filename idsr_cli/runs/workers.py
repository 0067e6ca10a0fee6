"""Work on items in other processes, whatever starts them.

A `Worker` does there what a local run does here, a `Ledger` keeps what became of each item, and a `Follower` reports it
here, in order. The ledger lives outside of the workers. So results are known one by one, a batch that is done again
after its worker died skips what was done, and a photograph with which two workers died is passed over instead of ending
one worker after the other.
"""

from __future__ import annotations

import os
import pickle
import socket
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from idsr_cli import __version__
from idsr_cli.errors import IdsrError, ItemError, UsageError
from idsr_cli.files.faults import failure
from idsr_cli.files.interruption import uninterrupted
from idsr_cli.runs.batch import Result, Stages, work_through
from idsr_cli.runs.listener import Listener
from idsr_cli.runs.outputs import take_note
from idsr_cli.runs.plan import Item
from idsr_cli.runs.request import worker_count
from idsr_cli.runs.work import Work
from idsr_cli.runtime.allocator import keep_memory
from idsr_cli.runtime.threads import use_threads, wait_asleep

# A photograph is passed over when this many workers have died with it.
MOST_DEATHS = 2
# In the ledger, instead of a number of attempts.
DONE = 255
# Seconds: between two looks at the ledger, until it is said that no worker has started, and for the photographs in hand
# after Ctrl-C.
_PAUSE, _PATIENCE, _GRACE = 0.2, 60.0, 20.0

# Calls a method of the ledger, in its process: name, arguments -> what it returns.
Ask = Callable[..., Any]


class Ledger:
    """What became of each item of a run."""

    def __init__(self, count: int) -> None:
        self._attempts = bytearray(count)
        self._in_hand: set[int] = set()
        self._rows: list[tuple[int, bytes]] = []
        self._workers: list[bytes] = []
        self._stopped = False

    def attempts(self, numbers: Sequence[int]) -> list[int]:
        """How often each of these items was begun; `DONE` = its result is known."""
        return [self._attempts[number] for number in numbers]

    def begin(self, number: int) -> int:
        """A worker begins with an item -> which attempt this is, from 1; 0 = nothing new may be begun."""
        if self._stopped:
            return 0
        self._in_hand.add(number)
        self._attempts[number] += 1
        return self._attempts[number]

    def end(self, number: int, row: bytes) -> None:
        """A worker has done an item."""
        self._attempts[number] = DONE
        self._rows.append((number, row))

    def leave(self, numbers: Sequence[int]) -> None:
        """A worker is through with a batch, whether or not it has done all of it, and has recorded what it did."""
        self._in_hand.difference_update(numbers)

    def hear(self, worker: bytes) -> None:
        """A worker has started, or cannot work."""
        self._workers.append(worker)

    def stop(self) -> None:
        """Let workers begin nothing new."""
        self._stopped = True

    def fetch(self) -> tuple[list[tuple[int, bytes]], list[bytes], int]:
        """Results and workers that are new since the last call, and how many items of unfinished batches are begun."""
        rows, workers = self._rows, self._workers
        self._rows, self._workers = [], []
        return rows, workers, len(self._in_hand)


# --- in a worker -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setup:
    """What each worker starts from.

    Attributes:
        work: the work.
        cpus: processors of a worker.
        threads: of networks and SIFT; 0 = `cpus`.
        folder: the working folder of the run.
        probe: a file in its output folder; None = all outputs are in a store.
        version: of idsr where the run was started.
    """

    work: Work
    cpus: int
    threads: int
    folder: str
    probe: str | None
    version: str = __version__

    @property
    def jobs(self) -> int:
        """Threads that read and write beside the networks."""
        return self.work.request.jobs or min(self.cpus, worker_count(0))

    def start(self, listener: Listener) -> tuple[Stages[Any, Any], dict[str, str]]:
        """Load the networks -> the stages of the work, and what the networks run on.

        Raises:
            IdsrError: this machine cannot do the work.
        """
        if self.version != __version__:
            raise UsageError(f"idsr {__version__} is installed there, and the run was started with {self.version}")
        try:
            os.chdir(self.folder)
            if self.probe is not None:
                os.stat(self.probe)
        except OSError as error:
            hint = "every machine must see photographs and outputs under the same paths"
            raise UsageError((error.strerror or str(error)).lower(), path=error.filename, hint=hint) from error
        wait_asleep()
        use_threads(self.threads or self.cpus)
        restorer, ran = None, {}
        if self.work.networks is not None:
            restorer = self.work.networks.build()
            restorer.on_smaller = lambda side: listener.note(f"out of memory; going on with tiles of {side} pixels")
            ran = {"device": restorer.device, "precision": restorer.precision, "engine": restorer.engine}
            if restorer.device == "cpu":
                keep_memory()
        return self.work.stages(restorer, listener), ran


class Worker:
    """Loads the networks once, and works on batches of items as a local run does."""

    def __init__(self, setup: Setup, ask: Ask) -> None:
        self._ask = ask
        self._jobs = setup.jobs
        self._outputs = setup.work.outputs.each
        self._told = _Told()
        self._stages: Stages[Any, Any] | None = None
        said: object
        try:
            self._stages, said = setup.start(self._told)
        except Exception as error:  # any: the user hears of it, and the engine must not try again
            said = _sendable(failure(error, f"worker on {socket.gethostname()}"))
        ask("hear", pickle.dumps(said))

    def __call__(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """Work on a batch: "number" = places in the plan, "item" = the items, pickled. The ledger gets the results."""
        if self._stages is not None:
            numbers = [int(number) for number in batch["number"]]
            self._work(self._stages, numbers, [pickle.loads(data) for data in batch["item"]])
        return {"number": batch["number"]}

    def _work(self, stages: Stages[Any, Any], numbers: Sequence[int], items: Sequence[Item]) -> None:
        attempts = self._ask("attempts", numbers)
        left = {id(item): n for n, item, tried in zip(numbers, items, attempts, strict=True) if tried != DONE}

        def load(item: Item) -> Any:
            attempt = self._ask("begin", left[id(item)])
            if not attempt:
                raise KeyboardInterrupt
            if attempt > MOST_DEATHS:
                hint = "out of memory? try a smaller `--tile`, or fewer workers on a machine"
                raise ItemError(f"passed over, since {MOST_DEATHS} workers died with it", hint=hint)
            if attempt > 1:
                self._told.note(f"{item.name}: begun again, since a worker died with it")
            return stages.load(item)

        def report(result: Result) -> None:
            row = (result.status, result.seconds, result.saved, _sendable(result.error), self._told.take())
            self._ask("end", left[id(result.item)], pickle.dumps(row))

        # If a worker has died with this batch, one item at a time: only the one that is to blame is tried too often.
        jobs = 1 if any(attempts) else self._jobs
        with suppress(KeyboardInterrupt):
            work_through([item for item in items if id(item) in left], replace(stages, load=load), report, jobs)
        for output in self._outputs:
            output.stamps.flush()
        self._ask("leave", numbers)


@dataclass
class _Told:
    """A `Listener` that keeps what the user should hear, for the process that the user sees."""

    calls: list[tuple[str, Any]] = field(default_factory=list)

    def error(self, error: IdsrError, cause: BaseException | None = None) -> None:
        self.calls.append(("error", error))

    def note(self, text: str) -> None:
        self.calls.append(("note", text))

    def nothing(self, *told: object) -> None: ...

    begin = expect = started = computed = advance = result = end = nothing

    def take(self) -> list[tuple[str, Any]]:
        calls, self.calls = self.calls, []
        return calls


class WorkerError(OSError):
    """An exception in a worker: its number, if the system gave it one, and its traceback as text."""

    def __str__(self) -> str:
        return str(self.strerror)


def _sendable(error: IdsrError | None) -> tuple[IdsrError, int | None, str] | None:
    """An error for another process: itself, and number and traceback of its cause."""
    if error is None:
        return None
    cause = error.__cause__
    text = "".join(traceback.format_exception(cause or error)).rstrip()
    return error, cause.errno if isinstance(cause, OSError) else None, text


def _received(sent: tuple[IdsrError, int | None, str]) -> IdsrError:
    """What `_sendable` was given, with a `WorkerError` as its cause."""
    error, number, text = sent
    error.__cause__ = WorkerError(number, text)
    return error


# --- in the process that the user sees -------------------------------------------------------------------------------


class Follower:
    """Reports what workers do.

    Args:
        work: their work.
        items: the plan.
        ask: the ledger.
        listener: hears what workers say.
        on_worker: called once, with what the networks of the first worker run on.
    """

    def __init__(
        self,
        work: Work,
        items: Sequence[Item],
        ask: Ask,
        listener: Listener,
        on_worker: Callable[[Mapping[str, str]], None],
    ) -> None:
        self._work = work
        self._items = items
        self._ask = ask
        self._listener = listener
        self._on_worker = on_worker
        self._stages = work.stages(None, listener)  # for items that no worker gets
        self._results: dict[int, Result] = {}
        self._next = 0
        self._started = False

    def follow(self, over: Callable[[float], str | None], report: Callable[[Result], None]) -> None:
        """Report each item, in order, as soon as it and all before it are done.

        If `report` raises an exception, and on Ctrl-C, workers finish the items in hand and begin nothing new; these
        are reported too.

        Args:
            over: waits so many seconds at most -> why no more results will come, or None.
            report: called with each result.

        Raises:
            UsageError: the workers have ended before all was done.
            IdsrError: a worker cannot do the work.
        """
        begun: float | None = time.monotonic()
        try:
            while self._next < len(self._items):
                ended = over(_PAUSE)
                self._fetch()
                self._report(report)
                if ended is not None and self._next < len(self._items):
                    raise UsageError(f"the workers have ended: {ended}", hint="the same command goes on from there")
                if begun is not None and not self._started and time.monotonic() - begun > _PATIENCE:
                    begun = None
                    self._listener.note("waiting for the first worker to start")
            self._wait()
        except BaseException:
            self._end(report)
            raise

    def _wait(self) -> None:
        """Wait a little for the batches in hand, and what workers record at their end."""
        until = time.monotonic() + _GRACE
        while self._fetch() and time.monotonic() < until:
            time.sleep(_PAUSE)

    def _fetch(self) -> int:
        """Take results out of the ledger -> how many items of unfinished batches are begun."""
        rows, workers, in_hand = self._ask("fetch")
        for number, row in rows:
            status, seconds, saved, error, told = pickle.loads(row)
            result = Result(self._items[number], status, seconds, saved, error and _received(error))
            take_note(self._work.outputs, result)
            self._results[number] = result
            self._listener.computed()
            for name, value in told:
                getattr(self._listener, name)(value)
        for said in map(pickle.loads, workers):
            if not isinstance(said, dict):
                raise _received(said)
            if not self._started:
                self._started = True
                self._on_worker(said)
        return in_hand

    def _report(self, report: Callable[[Result], None]) -> None:
        """Report what is done, as far as all before it is."""
        while self._next < len(self._items):
            item = self._items[self._next]
            result = self._results.pop(self._next, None) if item.waits else self._stages.without_work(item)
            if result is None:
                return
            self._next += 1
            with uninterrupted():
                report(result)

    def _end(self, report: Callable[[Result], None]) -> None:
        """After Ctrl-C or a failure: wait a little for the items in hand, and report what is done."""
        try:
            with suppress(Exception):  # the workers may have failed: then there is nothing to wait for
                self._ask("stop")
                self._wait()
        finally:  # also after a second Ctrl-C
            for number in sorted(self._results):
                with uninterrupted():
                    report(self._results.pop(number))
