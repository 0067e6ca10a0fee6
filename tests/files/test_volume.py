"""What a volume does with names is asked of the volume itself."""

import os
import shutil
from pathlib import Path

import pytest

from idsr_cli.errors import ItemError
from idsr_cli.files import volume
from idsr_cli.files.volume import check_room, folded, is_special, same_names


def test_the_volume_is_asked_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "there.jpg").touch()
    names = ["A.jpg", "a.jpg", "e\u0301.jpg", "\xe9.jpg", "stra\xdfe", "STRASSE", "b/c", "x" * 300]
    pairs = same_names(tmp_path, names)
    assert [path.name for path in tmp_path.iterdir()] == ["there.jpg"]
    (tmp_path / "probe").touch()
    if not (tmp_path / "PROBE").exists():  # names that differ are different files here
        assert pairs == []


def test_files_that_are_one_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a volume without case: opening the second name opens the first file."""
    touch = Path.touch

    def link(self: Path) -> None:
        lower = self.with_name(self.name.lower())
        touch(lower)
        if lower != self:
            self.symlink_to(lower)

    monkeypatch.setattr(volume.Path, "touch", link)
    assert same_names(tmp_path, ["a.jpg", "A.jpg", "b.jpg", "B.JPG", "c"]) == [("a.jpg", "A.jpg"), ("b.jpg", "B.JPG")]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_tells_nothing(tmp_path: Path) -> None:
    assert same_names(tmp_path / "gone", ["a", "A"]) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A.jpg", "a.JPG"),
        ("e\u0301", "\xe9"),
        ("stra\xdfe", "STRASSE"),
        ("\u212b", "\xe5"),
        ("\ufb01", "FI"),
        ("a.", "A"),
    ],
)
def test_what_some_volume_may_fold(one: str, other: str) -> None:
    assert folded(one) == folded(other)
    assert folded(one) != folded(one + "x")


def test_devices_and_pipes(tmp_path: Path) -> None:
    assert is_special(os.devnull)
    assert not is_special(tmp_path)
    assert not is_special(tmp_path / "gone")
    (tmp_path / "file").touch()
    assert not is_special(tmp_path / "file")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert is_special(tmp_path / "pipe")


def test_a_volume_without_room_is_named(tmp_path) -> None:
    free = shutil.disk_usage(tmp_path).free
    check_room(tmp_path, free // 2)
    with pytest.raises(ItemError, match=rf"{tmp_path}: no space left on device, [0-9]+ MB are needed\Z"):
        check_room(tmp_path, 2 * free + 1)
