"""A run without a console: a listener hears of each item, outputs are recorded, and everything is counted."""

from pathlib import Path
from typing import Any

import pytest

from idsr_cli.errors import ItemError
from idsr_cli.runs.batch import Result, Saved, Stages
from idsr_cli.runs.plan import Item, Naming
from idsr_cli.runs.process import has_work, process
from idsr_cli.runs.request import Request, worker_count
from idsr_cli.runs.stamps import Stamps

NAMING = Naming(lambda relative: relative.with_name(f"{relative.name}.txt"), frozenset(), makes_photos=False)


class Recorder:
    """Keeps what a listener hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def begin(self, items: Any) -> None:
        self.heard.append(("begin", len(items)))

    def expect(self, more: int) -> None:
        self.heard.append(("expect", more))

    def started(self, item: Any) -> None:
        self.heard.append(("started", item.relative.name))

    def computed(self) -> None:
        self.heard.append(("computed",))

    def advance(self) -> None:
        self.heard.append(("advance",))

    def result(self, result: Result) -> None:
        self.heard.append((result.status, result.item.relative.name))

    def error(self, error: Exception, cause: BaseException | None = None) -> None:
        self.heard.append(("error", str(error)))

    def note(self, text: str) -> None:
        self.heard.append(("note", text))

    def end(self) -> None:
        self.heard.append(("end",))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("1.png", "2.png", "3.png"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(name.encode())
    return tmp_path / "in"


def stages(stamps: Stamps) -> Stages[bytes, bytes]:
    """Copy the file; 2.png fails, and 3.png is dry."""

    def load(item: Item) -> bytes:
        assert item.source is not None
        return item.source.read_bytes()

    def compute(item: Item, data: bytes) -> bytes:
        if item.relative.name == "2.png":
            raise ItemError("not a picture", path=item.name)
        return data

    def save(item: Item, data: bytes) -> Saved:
        assert item.target is not None
        item.target.parent.mkdir(exist_ok=True)
        with stamps.recording(item):
            item.target.write_bytes(data)
        return Saved(4, 3, keypoints=len(data), derained=item.relative.name != "3.png")

    return Stages(load, compute, save, pixels=len)


def run(request: Request, *finishes: Any) -> tuple[Recorder, Any, Any]:
    items = request.plan(NAMING)
    stamps = request.stamps(NAMING, "copy", {"how": "as it is"})
    items = stamps.check(items)
    listener = Recorder()
    return listener, process(items, stages(stamps), request, listener, finishes), items


def test_each_item_is_told_and_counted(photos: Path, tmp_path: Path) -> None:
    failures = tmp_path / "failed.txt"
    request = Request([str(photos)], str(tmp_path / "out"), jobs=1, failures=failures)
    listener, outcome, items = run(request)
    assert has_work(items)
    assert listener.heard == [
        ("begin", 3),
        ("started", "1.png"), ("computed",), ("ok", "1.png"), ("advance",),
        ("started", "2.png"), ("computed",), ("failed", "2.png"), ("advance",),
        ("started", "3.png"), ("computed",), ("ok", "3.png"), ("advance",),
        ("end",),
    ]  # fmt: skip
    assert (outcome.summary.ok, outcome.summary.failed, outcome.keypoints, len(outcome.unchanged)) == (2, 1, [5, 5], 1)
    assert outcome.exit_code == 1
    assert failures.read_text() == f"{photos}/2.png\n"
    # What is there is skipped, and its settings are on record.
    listener, outcome, items = run(request)
    assert [(item.done, item.stale) for item in items] == [(True, ""), (False, ""), (True, "")]
    assert [event for event in listener.heard if event[0] == "skipped"] == [("skipped", "1.png"), ("skipped", "3.png")]


def test_a_common_file_that_fails_is_an_error(photos: Path, tmp_path: Path) -> None:
    finished = []

    def finish() -> None:
        raise OSError(28, "No space left on device")

    (photos / "2.png").unlink()
    request = Request([str(photos)], str(tmp_path / "out"), jobs=1)
    listener, outcome, _ = run(request, finish, lambda: finished.append("the other common file"))
    assert finished
    assert listener.heard[-2:] == [("end",), ("error", "no space left on device")]
    assert (outcome.finished, outcome.exit_code, outcome.summary.exit_code) == (False, 1, 0)


def test_few_workers_are_enough() -> None:
    assert 1 <= worker_count(0) <= 4
    assert worker_count(9) == 9
    item = Item(None, None, Path("x"))
    assert worker_count(9, [item, item]) == 2
    assert worker_count(9, []) == 1
