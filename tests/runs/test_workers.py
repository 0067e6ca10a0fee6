"""Work in other processes: the ledger, the worker and the follower, here all in this process and without networks."""

import copy
import errno
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePath
from types import SimpleNamespace
from typing import Any

import pytest

from idsr_cli.errors import ItemError, UsageError, WeightsError
from idsr_cli.files.faults import is_full_disk
from idsr_cli.runs import stamps as stamps_module
from idsr_cli.runs import workers
from idsr_cli.runs.batch import Result, Saved, Stages, Stop
from idsr_cli.runs.outputs import Outputs, SomeOutputsFailed, combine, take_note
from idsr_cli.runs.plan import Item
from idsr_cli.runs.request import Request
from idsr_cli.runs.shards import FOLDER
from idsr_cli.runs.stamps import RECORD, Stamps
from idsr_cli.runs.workers import DONE, Follower, Ledger, Setup, Worker


class Death(BaseException):
    """A worker dies, as far as the ledger can tell: nothing more is heard of it."""


class Listener:
    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)

    def error(self, error: Any, cause: Any = None) -> None:
        self.told.append(str(error))

    def computed(self) -> None: ...


class Work:
    """Items named `bad` fail, `full` have no room, `deadly` kill; of others their length is the width."""

    def __init__(self, jobs: int = 1) -> None:
        self.request = SimpleNamespace(jobs=jobs)
        self.networks = None
        self.outputs = SimpleNamespace(waiting=lambda item: [], each=[])
        self.saved: list[str] = []

    def stages(self, restorer: Any, listener: Any) -> Stages[str, str]:
        def load(item: Item) -> str:
            if item.path == "deadly":
                raise Death
            if item.path == "bad":
                raise ItemError("not an image")
            listener.note(f"reading {item.path}")
            return item.path

        def save(item: Item, name: str) -> Saved:
            if name == "full":
                raise OSError(errno.ENOSPC, "No space left on device")
            self.saved.append(name)
            return Saved(len(name), 1)

        return Stages(load, lambda item, name: name, save, pixels=len)


def plan(text: str) -> list[Item]:
    return [Item(Path(name), Path(f"{name}.out"), PurePath(name)) for name in text.split()]


class House:
    """A plan, a ledger and a way to give workers the items at some places."""

    def __init__(self, text: str, tmp_path: Path, jobs: int = 1) -> None:
        self.items, self.work, self.ledger = plan(text), Work(jobs), Ledger(len(text.split()))
        self.setup = Setup(self.work, 1, 0, str(tmp_path), str(tmp_path))  # type: ignore[arg-type]

    def ask(self, name: str, *values: Any) -> Any:
        return getattr(self.ledger, name)(*values)

    def worker(self, setup: Setup | None = None) -> Worker:
        return Worker(setup or self.setup, self.ask)

    def batch(self, *numbers: int) -> dict[str, Any]:
        places = numbers or tuple(range(len(self.items)))
        return {"number": list(places), "item": [pickle.dumps(self.items[place]) for place in places]}

    def follow(self, over: Callable[[float], str | None], report: Callable[[Result], None]) -> Listener:
        listener = Listener()
        follower = Follower(self.work, self.items, self.ask, listener, lambda ran: None)  # type: ignore[arg-type]
        follower.follow(over, report)
        return listener


@pytest.fixture(autouse=True)
def _own_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers change what belongs to a process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workers, "wait_asleep", lambda: None)
    monkeypatch.setattr(workers, "use_threads", lambda count: None)


@pytest.mark.parametrize("jobs", [1, 3])
def test_results_come_in_the_order_of_the_plan_and_failures_are_results(tmp_path, jobs) -> None:
    house, results = House("a bad bb full ccc", tmp_path, jobs), []
    worker = house.worker()

    def over(seconds: float) -> str | None:
        # The second half is done first.
        worker(house.batch(3, 4) if not results and not house.work.saved else house.batch(0, 1, 2))
        return None

    listener = house.follow(over, results.append)
    assert [(r.item.path, r.status) for r in results] == [
        ("a", "ok"), ("bad", "failed"), ("bb", "ok"), ("full", "failed"), ("ccc", "ok")
    ]  # fmt: skip
    assert [r.saved.width for r in results if r.saved] == [1, 2, 3]
    assert str(results[1].error) == "bad: not an image"
    assert is_full_disk(results[3].error)  # so that the run stops as it does without workers
    assert "OSError" in str(results[3].error.__cause__)  # the traceback for -vv
    assert {"reading a", "reading ccc"} <= set(listener.told)


def test_a_batch_that_is_done_again_skips_what_was_done_and_passes_over_what_kills(tmp_path) -> None:
    house, results = House("a deadly b", tmp_path), []
    for death in range(2):
        with pytest.raises(Death):
            house.worker()(house.batch())
        assert house.ledger.attempts([0, 1, 2]) == [DONE, death + 1, 0]
    house.worker()(house.batch())
    assert house.work.saved == ["a", "b"]  # a once only
    house.follow(lambda seconds: "", results.append)
    assert [r.status for r in results] == ["ok", "failed", "ok"]
    assert str(results[1].error).startswith("deadly: passed over, since 2 workers died with it (out of memory?")


def test_photographs_that_were_in_hand_beside_the_one_that_kills_are_not_blamed(tmp_path) -> None:
    house = House("a deadly b c", tmp_path, jobs=4)
    with pytest.raises(Death):
        house.worker()(house.batch())  # reads ahead: others were begun as well
    begun = [number for number in (0, 2, 3) if house.ledger.attempts([number]) == [1]]
    with pytest.raises(Death):
        house.worker()(house.batch())
    house.worker()(house.batch())
    results: list[Result] = []
    listener = house.follow(lambda seconds: "", results.append)
    assert [r.status for r in results] == ["ok", "failed", "ok", "ok"]
    assert sum("begun again" in text for text in listener.told) >= len(begun)


@pytest.mark.parametrize("cause", [KeyboardInterrupt, Stop])
def test_when_it_is_stopped_nothing_new_is_begun_and_what_is_done_is_reported(tmp_path, cause) -> None:
    house, results, worker = House("a b c d", tmp_path), [], None

    def over(seconds: float) -> str | None:
        nonlocal worker
        if worker is None:
            worker = house.worker()
            worker(house.batch(0, 2))  # c waits for b
        elif cause is KeyboardInterrupt:
            raise KeyboardInterrupt
        return None

    def report(result: Result) -> None:
        results.append(result.item.path)
        if cause is Stop:
            raise Stop

    with pytest.raises(cause):
        house.follow(over, report)
    assert worker is not None
    worker(house.batch(1, 3))
    assert house.work.saved == ["a", "c"]
    assert house.ledger.fetch() == ([], [], 0)
    assert results == ["a", "c"] or cause is Stop
    assert results[0] == "a"


def test_items_that_do_not_wait_are_reported_without_a_worker(tmp_path) -> None:
    house, results = House("a b c", tmp_path), []
    house.items[0] = replace(house.items[0], done=True)
    house.items[2] = replace(house.items[2], problem="permission denied")
    house.worker()(house.batch(1))
    house.follow(lambda seconds: None, results.append)
    assert [r.status for r in results] == ["skipped", "ok", "failed"]


def test_the_run_ends_when_what_its_workers_have_recorded_is_in_place(tmp_path, monkeypatch) -> None:
    """Records in a store are put at the end of a batch, after the last result."""
    house, seen = House("a b", tmp_path), []
    stamps = SimpleNamespace(flush=lambda: seen.append(house.ledger.fetch()))
    house.work.outputs.each = [SimpleNamespace(stamps=stamps)]
    house.worker()(house.batch())
    rows, _, in_hand = seen[0]
    assert ([number for number, _ in rows], in_hand) == ([0, 1], 2)
    assert house.ledger.fetch()[2] == 0

    slow, waited = House("a", tmp_path), []
    slow.ledger.begin(0)
    slow.ledger.end(0, rows[0][1])
    monkeypatch.setattr(workers.time, "sleep", lambda seconds: (waited.append(seconds), slow.ledger.leave([0])))
    slow.follow(lambda seconds: None, lambda result: None)
    assert len(waited) == 1


def test_a_worker_that_cannot_work_ends_the_run(tmp_path) -> None:
    house = House("a", tmp_path)
    gone = replace(house.setup, probe=str(tmp_path / "probe"))
    house.worker(gone)(house.batch())
    with pytest.raises(UsageError, match=r"probe: no such file or directory.*every machine must see") as raised:
        house.follow(lambda seconds: None, lambda result: None)
    assert raised.value.exit_code == 2
    house.worker(replace(house.setup, version="9"))(house.batch())
    with pytest.raises(UsageError, match="installed there, and the run was started with 9"):
        house.follow(lambda seconds: None, lambda result: None)
    assert house.ledger.attempts([0]) == [0]


def test_workers_that_end_too_early_end_the_run(tmp_path) -> None:
    house = House("a b", tmp_path)
    house.worker()(house.batch(0))
    results: list[Result] = []
    with pytest.raises(UsageError, match=r"the workers have ended: no more memory.*goes on from there"):
        house.follow(lambda seconds: "no more memory", results.append)
    assert len(results) == 1


def test_errors_survive_the_way_to_another_process() -> None:
    several = SomeOutputsFailed({"npz": "no room", "derained": "not allowed"}, hint="free some")
    several.path = "x.jpg"
    for error in (several, ItemError("broken", path="x"), WeightsError("gone", hint="look")):
        copied = pickle.loads(pickle.dumps(error))
        assert (type(copied), str(copied), copied.__dict__) == (type(error), str(error), error.__dict__)
    assert copied.exit_code == 2


def test_a_worker_uses_threads_as_asked(tmp_path) -> None:
    house = House("a", tmp_path)
    house.work.request.jobs = 0
    most = min(4, os.cpu_count() or 1)
    assert [replace(house.setup, cpus=cpus).jobs for cpus in (1, 64)] == [1, most]
    house.work.request.jobs = 7
    assert house.setup.jobs == 7


def test_a_request_leaves_its_plan_behind(tmp_path) -> None:
    request = Request(["in"], "out", jobs=3, found=plan("a b"), passed_over=[Path("x.gif")], others={"c"})
    sent = copy.copy(request)  # as it is sent, by the same methods
    assert (sent.inputs, sent.jobs, sent.found, sent.passed_over, sent.others) == (["in"], 3, [], [], set())
    assert len(request.found) == 2


def test_workers_add_to_a_record_of_their_machine(tmp_path, monkeypatch) -> None:
    """On a network file system appends of several machines to one file would overwrite each other."""
    items = [replace(item, source=None, target=tmp_path / item.path, done=True) for item in plan("a b c")]
    for item in items:
        item.target.touch()
    stamps = Stamps(tmp_path, {"command": "derain"})
    stamps.add(items[0])
    for name, item in zip(("00000001", "00000002"), items[1:], strict=True):
        monkeypatch.setattr(stamps_module, "machine", lambda name=name: name)
        copy.copy(stamps).add(item)  # as it is sent, by the same methods
    records = [tmp_path / RECORD, *(tmp_path / FOLDER / f"machine-0000000{i}.jsonl" for i in (1, 2))]
    assert [json.loads(path.read_text())["file"] for path in records] == ["a", "b", "c"]
    assert not any(item.stale for item in stamps.check(items)), "all are read"


def test_outputs_hear_what_was_written_elsewhere() -> None:
    class Output:
        def __init__(self, kind: str) -> None:
            self.kind = kind
            self.heard: list[tuple[str, int]] = []

        def written(self, item: Item, keypoints: int) -> None:
            self.heard.append((item.path, keypoints))

    def result(name: str, **found: Any) -> Result:
        kinds = [replace(item, kind=kind) for item, kind in zip(plan(f"{name} {name}"), ("npz", "dry"), strict=True)]
        return Result(combine(kinds), "failed" if "error" in found else "ok", **found)

    outputs = Outputs([Output("npz"), Output("dry")])
    take_note(outputs, result("a", saved=Saved(1, 1, counts={"npz": 7})))  # type: ignore[arg-type]
    take_note(outputs, result("b", error=SomeOutputsFailed({"npz": "no room"})))  # type: ignore[arg-type]
    take_note(outputs, result("c", error=ItemError("not an image")))  # type: ignore[arg-type]
    assert [output.heard for output in outputs.each] == [[("a", 7)], [("a", 0), ("b", 0)]]
