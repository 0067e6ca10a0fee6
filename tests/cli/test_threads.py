"""`--threads`: heard by torch and OpenCV in every command that computes, and without a trace in what is written."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import cv2
import pytest
import torch

from idsr_cli.runtime.threads import thread_count, use_threads


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


@pytest.mark.parametrize(
    "command",
    [
        ("derain", "PHOTO", "-o", "OUT"),
        ("sift", "PHOTO", "-o", "OUT"),
        ("sift", "PHOTO", "-o", "OUT", "--no-derain"),
        ("match", "PHOTO", "PHOTO", "-o", "OUT/drawn.png"),
        ("evaluate", "--rainy", "FOLDER", "--clean", "COPY", "-o", "OUT", "--count", 1),
    ],
    ids=["derain", "sift", "plain", "match", "evaluate"],
)
def test_heard(run, halving, photos, tmp_path, command) -> None:
    places = {"PHOTO": photos / "img2.png", "FOLDER": photos, "COPY": tmp_path / "dry", "OUT": tmp_path / "out"}
    shutil.copytree(photos, places["COPY"])
    words = [
        str(places["OUT"] / "drawn.png") if word == "OUT/drawn.png" else places.get(word, word) for word in command
    ]
    (tmp_path / "out").mkdir()
    for count in (3, 1):
        result = run(*words, "--threads", count)
        assert result.exit_code == 0, result.stderr
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (count, count)


def test_threads_sleep_while_they_wait_unless_told_otherwise() -> None:
    """The library that torch brings hears it, so it is set before torch is imported."""
    for given, heard in (({}, ("PASSIVE", "1000")), ({"OMP_WAIT_POLICY": "ACTIVE"}, ("ACTIVE", None))):
        waiting = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}
        environment = {key: value for key, value in os.environ.items() if key not in waiting}
        environment |= {"OMP_DISPLAY_ENV": "verbose", **given}
        command = [sys.executable, "-m", "idsr_cli", "--version", "-v"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0
        shown = dict(re.findall(r"(\w+) ?= ?'(.*)'", done.stderr))
        if not shown:
            pytest.skip("this torch is built without OpenMP")
        assert shown["OMP_WAIT_POLICY"].upper() == heard[0]
        assert heard[1] in (None, shown.get("GOMP_SPINCOUNT", heard[1]))


def test_zero_leaves_them_and_the_environment_is_heard(run, halving, photos, tmp_path, monkeypatch) -> None:
    torch.set_num_threads(2)
    assert run("derain", photos / "img2.png", "-o", tmp_path / "a", "--threads", 0).exit_code == 0
    assert torch.get_num_threads() == 2
    monkeypatch.setenv("IDSR_THREADS", "1")
    assert run("derain", photos / "img2.png", "-o", tmp_path / "b").exit_code == 0
    assert torch.get_num_threads() == 1


def test_counted_without_torch(monkeypatch) -> None:
    """A program that is about to import torch, or never does, has the same number."""
    torch.set_num_threads(2)
    assert thread_count() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    monkeypatch.delitem(sys.modules, "torch")
    use_threads(0)
    cv2.setNumThreads(3)
    assert (os.environ["OMP_NUM_THREADS"], thread_count()) == ("", 3)
    use_threads(1)
    assert (os.environ["OMP_NUM_THREADS"], thread_count(), cv2.getNumThreads()) == ("1", 1, 1)
    for given, count in (("4,2", 4), ("0", 1), ("many", 1)):
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        assert thread_count() == count


def test_same_bytes_for_any_number_of_threads(run, halving, photos, tmp_path) -> None:
    for count in (1, 2, 3):
        assert run("sift", photos, "-o", tmp_path / str(count), "--threads", count).exit_code == 0
    names = sorted(path.name for path in (tmp_path / "1").glob("*.npz"))
    assert names
    for name in names:
        assert len({(tmp_path / count / name).read_bytes() for count in "123"}) == 1
