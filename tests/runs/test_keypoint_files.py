"""Sinks of keypoints: a file per photograph, or one for the run; without a console."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from idsr_cli.errors import ItemError, UsageError
from idsr_cli.files.atomic import write_bytes
from idsr_cli.formats.npz import read_npz
from idsr_cli.keypoints import Keypoints
from idsr_cli.runs.keypoint_files import descriptor_kind, keypoint_sink
from idsr_cli.runs.request import Request

SETTINGS = {"descriptors": "rootsift_f32", "sift": {}}


class Notes:
    """A listener that keeps notes alone."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def some_keypoints(count: int = 3) -> Keypoints:
    numbers = np.arange(1, count + 1, dtype=np.float32)
    return Keypoints(
        xy=np.stack([numbers, numbers], 1),
        scale=numbers,
        angle=numbers,
        response=numbers,
        octave=np.zeros(count, np.int32),
        layer=np.ones(count, np.int32),
        descriptors=np.full((count, 128), 3, np.uint8),
        image_size=(20, 10),
    )


@pytest.fixture
def request_for(tmp_path: Path) -> Any:
    (tmp_path / "in" / "a").mkdir(parents=True)
    for name in ("1.png", "a/2.png"):
        (tmp_path / "in" / name).write_bytes(b"a photograph")
    return lambda **more: Request([str(tmp_path / "in")], str(tmp_path / "out"), **more)


def made(sink: Any, kind: str = "rootsift_f32") -> list[Any]:
    items = sink.check(sink.plan(), {**SETTINGS, "descriptors": kind}, lambda item: {})
    for item in items:
        if not item.done:
            sink.write(item, some_keypoints(), {"descriptors": kind})
    return items


def test_a_file_per_photograph(request_for, tmp_path: Path) -> None:
    sink = keypoint_sink("npz", request_for(), write_bytes, Notes())
    items = made(sink)
    sink.finish(items)
    assert [item.target for item in items] == [tmp_path / "out/1.png.npz", tmp_path / "out/a/2.png.npz"]
    found, meta = read_npz(tmp_path / "out/a/2.png.npz")
    assert (len(found), meta["descriptors"]) == (3, "rootsift_f32")
    again = keypoint_sink("npz", request_for(), write_bytes, Notes())
    assert [item.done for item in again.plan()] == [True, True]


def test_one_file_for_the_run(request_for, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    from idsr_cli.formats import hloc

    notes = Notes()
    sink = keypoint_sink("hloc", request_for(), write_bytes, notes)
    items = made(sink)
    path = tmp_path / "out" / "features.h5"
    assert [item.output for item in items] == [str(path)] * 2
    assert not path.exists()  # parts, until the run ends
    sink.finish(items)
    assert sorted(hloc.contents(path)) == ["1.png", "a/2.png"]
    assert notes.notes == [f"writing {path}"]
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["features.h5"]
    again = keypoint_sink("hloc", request_for(), write_bytes, notes)
    assert [(item.done, item.stale) for item in again.check(again.plan(), SETTINGS, lambda item: {})] == [
        (True, "")
    ] * 2
    changed = keypoint_sink("hloc", request_for(), write_bytes, notes)
    stale = changed.check(changed.plan(), {**SETTINGS, "sift": {"sigma": 2.0}}, lambda item: {})
    assert {item.stale for item in stale} == {"made with other settings (sigma)"}


def test_parts_of_a_killed_run_are_used(request_for, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    made(keypoint_sink("hloc", request_for(), write_bytes, Notes()))
    sink = keypoint_sink("hloc", request_for(), write_bytes, Notes())
    items = sink.check(sink.plan(), SETTINGS, lambda item: {})
    assert all(item.done for item in items)
    sink.finish(items)
    assert (tmp_path / "out" / "features.h5").exists()


@pytest.mark.parametrize("name", ["npz", "hloc"])
def test_numbers_that_are_not_finite_are_refused(request_for, name) -> None:
    if name == "hloc":
        pytest.importorskip("h5py")
    sink = keypoint_sink(name, request_for(), write_bytes, Notes())
    items = sink.check(sink.plan(), SETTINGS, lambda item: {})
    broken = some_keypoints()
    broken.xy[0, 0] = np.nan
    with pytest.raises(ItemError):
        sink.write(items[0], broken, {"descriptors": "rootsift_f32"})


def test_kinds_of_descriptors() -> None:
    assert descriptor_kind("npz", None) == "sift_u8"
    assert descriptor_kind("npz", "rootsift_f32") == "rootsift_f32"
    with pytest.raises(UsageError, match="`--format hloc` cannot hold `--descriptors sift_u8`"):
        descriptor_kind("hloc", "sift_u8")
