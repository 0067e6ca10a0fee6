"""The runner: order, failures, memory, interruption, for one and several threads."""

import errno
import threading
import time
from pathlib import Path, PurePath

import pytest

from idsr_cli.errors import ItemError
from idsr_cli.runs import batch
from idsr_cli.runs.batch import Result, Saved, Stages, run_batch
from idsr_cli.runs.plan import Item

ITEMS = [Item(Path(f"{i}.png"), Path(f"out/{i}.png"), PurePath(f"{i}.png")) for i in range(12)]


def stages(load=lambda item: int(item.source.stem), compute=lambda item, x: x * 2, save=None, pixels=lambda x: 10):
    return Stages(load, compute, save or (lambda item, x: Saved(x, x)), pixels)


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_results_come_in_order(jobs) -> None:
    def save(item: Item, x: int) -> Saved:
        time.sleep(0.002 * (x % 5))
        return Saved(x, 0, keypoints=x)

    told: list[Result] = []
    summary = run_batch(ITEMS, stages(save=save), told.append, jobs)
    assert [result.item for result in told] == ITEMS
    assert [result.saved.keypoints for result in told] == [2 * i for i in range(12)]
    assert (summary.ok, summary.failed, summary.skipped, summary.exit_code) == (12, 0, 0, 0)


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("stage", ["load", "compute", "save"])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ItemError("bad pixels"), "bad pixels"),
        (OSError(28, "No space left on device"), "no space left on device"),
        (PermissionError(13, "Permission denied"), "permission denied"),
        (FileNotFoundError(2, "gone"), "no such file (moved, or a broken link)"),
        (MemoryError(), "out of memory"),
        (ValueError("what\nis this"), "unexpected ValueError: what is this"),
    ],
)
def test_one_failure_does_not_stop_the_others(jobs, stage, error, reason) -> None:
    def fail_third(item: Item, *args: int) -> object:
        if item is ITEMS[3]:
            raise error
        return Saved(1, 1) if stage == "save" else 1

    told: list[Result] = []
    summary = run_batch(ITEMS, stages(**{stage: fail_third}), told.append, jobs)
    assert (summary.ok, summary.failed, summary.exit_code) == (11, 1, 1)
    assert [result.status for result in told].index("failed") == 3
    assert told[3].error.reason == reason
    assert told[3].error.path == "3.png"


@pytest.mark.parametrize("jobs", [1, 3])
def test_known_results_need_no_work(jobs) -> None:
    items = [
        Item(Path("a"), Path("b"), PurePath("a"), done=True),
        Item(Path("locked"), None, PurePath("locked"), problem="permission denied"),
    ]
    told: list[Result] = []

    def never(*args: object) -> None:
        raise AssertionError

    run_batch(items, Stages(never, never, never, never), told.append, jobs)
    assert [result.status for result in told] == ["skipped", "failed"]
    assert str(told[1].error) == "locked: permission denied"


@pytest.mark.parametrize("jobs", [1, 3])
def test_interruption_saves_what_is_computed_and_begins_nothing(jobs) -> None:
    saved: list[Item] = []

    def compute(item: Item, x: int) -> int:
        if item is ITEMS[5]:
            raise KeyboardInterrupt
        return x

    def save(item: Item, x: int) -> Saved:
        time.sleep(0.01)
        saved.append(item)
        return Saved(1, 1)

    told: list[Result] = []
    summary = run_batch(ITEMS, stages(compute=compute, save=save), told.append, jobs)
    assert summary.interrupted
    assert summary.exit_code == 130
    assert sorted(item.name for item in saved) == [item.name for item in ITEMS[:5]]
    assert [result.item for result in told] == ITEMS[:5]


@pytest.mark.parametrize("stage", ["load", "compute", "save"])
def test_a_failure_stops_the_batch_while_an_earlier_photograph_is_still_being_saved(stage) -> None:
    failed, more = threading.Event(), threading.Event()
    begun: list[Item] = []

    def work(name: str, item: Item) -> None:
        if name == stage and item is ITEMS[1]:
            failed.set()
            raise ItemError("broken")

    def load(item: Item) -> int:
        work("load", item)
        return 1

    def compute(item: Item, x: int) -> int:
        begun.append(item)
        if stage == "save" and len(begun) == 3:  # two of three threads are saving, so the failure can be known by now
            failed.wait(10.0)
            time.sleep(0.05)
        if len(begun) > 4:
            more.set()
        work("compute", item)
        return x

    def save(item: Item, x: int) -> Saved:
        if item is ITEMS[0]:  # slow: until more photographs are begun than there should be, or until that cannot be
            failed.wait(10.0)
            more.wait(0.3)
        work("save", item)
        return Saved(1, 1)

    told: list[Result] = []
    summary = run_batch(ITEMS, stages(load, compute, save), told.append, 3, fail_fast=True)
    assert (summary.stopped, summary.failed) == (True, 1)
    assert len(begun) <= {"load": 1, "compute": 2, "save": 3}[stage]
    assert [result.item for result in told] == ITEMS[: max(2, len(begun))]


def test_large_photographs_wait_for_each_other(monkeypatch) -> None:
    monkeypatch.setattr(batch, "PIXELS_IN_FLIGHT", 25)
    lock, saving, most = threading.Lock(), 0, 0

    def save(item: Item, x: int) -> Saved:
        nonlocal saving, most
        with lock:
            saving += 1
            most = max(most, saving)
        time.sleep(0.005)
        with lock:
            saving -= 1
        return Saved(1, 1)

    run_batch(ITEMS, stages(save=save, pixels=lambda x: 10), lambda result: None, 8)
    assert most <= 2
    most = 0
    run_batch(ITEMS, stages(save=save, pixels=lambda x: 1000), lambda result: None, 8)
    assert most == 1


def test_compute_stays_on_the_calling_thread() -> None:
    threads = set()

    def compute(item: Item, x: int) -> int:
        threads.add(threading.get_ident())
        return x

    run_batch(ITEMS, stages(compute=compute), lambda result: None, 4)
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_full_disk_stops_the_batch_but_a_single_photograph_without_room_does_not(jobs) -> None:
    def save(item: Item, x: int) -> Saved:
        if x in full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return Saved(1, 1)

    for full, stopped in (({2, 4, 6, 8, 12, 14, 16, 18}, False), ({2, 4, 6, 8, 10}, True)):
        told: list[Result] = []
        summary = run_batch(ITEMS, stages(save=save), told.append, jobs)
        assert (summary.stopped, summary.exit_code) == (stopped, 1)
        assert summary.failed == len(full)
        assert len(told) == summary.ok + summary.failed
        assert (len(told) < len(ITEMS)) == stopped
