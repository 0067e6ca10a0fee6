"""Which files of a folder count as photographs, and their order."""

import os
from pathlib import Path

import pytest

from idsr_cli.images.folders import natural_key, photos_in, search_folder


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_natural_order() -> None:
    given = ["b1", "a10", "a2", "A3", "a02", "10", "2", "x"]
    assert sorted(given, key=natural_key) == ["2", "10", "a02", "a2", "A3", "a10", "b1", "x"]


def test_search_goes_folder_by_folder_and_takes_only_what_is_wanted(tmp_path: Path) -> None:
    touch(tmp_path, "10.png", "2.JPG", "a/1.tif", "a/.x.png", ".git/x.png", "notes.txt", "folder.png/3.png")
    found = [photo.relative.as_posix() for photo in search_folder(tmp_path)]
    assert found == ["2.JPG", "10.png", "a/1.tif", "folder.png/3.png"]
    assert [photo.path.name for photo in search_folder(tmp_path, takes_folder=lambda below: False)] == found[:2]
    assert [path.relative_to(tmp_path).as_posix() for path in photos_in(tmp_path)] == found


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
def test_linked_folders_are_searched_only_on_request_and_never_in_a_loop(tmp_path: Path) -> None:
    inner = touch(tmp_path / "photos", "a/1.png") / "a"
    (tmp_path / "photos" / "b").symlink_to(inner)
    (inner / "back").symlink_to(tmp_path / "photos")
    assert [photo.relative.as_posix() for photo in search_folder(tmp_path / "photos")] == ["a/1.png", "b/1.png"]
    assert photos_in(tmp_path / "photos") == [inner / "1.png"]
