"""From inputs to a plan: order, mirroring, loops, collisions."""

import os
from pathlib import Path, PurePath

import pytest

from idsr_cli.errors import UsageError
from idsr_cli.files.plan import Item, Naming, guard_folder, make_plan, natural_key

SAME = Naming(lambda relative: relative, frozenset({".png", ".jpg"}), makes_photos=True)
NPZ = Naming(lambda relative: relative.with_name(relative.name + ".npz"), frozenset({".npz"}), makes_photos=False)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(items: list[Item]) -> list[str]:
    return [item.relative.as_posix() for item in items]


def test_natural_order() -> None:
    given = ["b1", "a10", "a2", "A3", "a02", "10", "2", "x"]
    assert sorted(given, key=natural_key) == ["2", "10", "a02", "a2", "A3", "a10", "b1", "x"]


def test_recursion_hidden_and_suffixes(tmp_path) -> None:
    touch(tmp_path / "in", "9.JPG", "10.png", "a/.x.png", ".git/x.png", "a/b/c.TIFF", "a/readme.md", "noext")
    items = make_plan([str(tmp_path / "in")], str(tmp_path / "out"), SAME)
    assert names(items) == ["9.JPG", "10.png", "a/b/c.TIFF"]
    assert items[2].target == tmp_path / "out" / "a" / "b" / "c.TIFF"


def test_named_files_are_taken_whatever_their_suffix_and_only_once(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "in/x.png", "strange.raw2")
    assert names(make_plan(["in", "in/x.png", "./in/x.png", "strange.raw2"], "out", SAME)) == ["x.png", "strange.raw2"]


def test_links(tmp_path) -> None:
    touch(tmp_path, "in/a/x.png", "elsewhere/y.png")
    (tmp_path / "in/a/up").symlink_to(tmp_path / "in")
    (tmp_path / "in/self.png").symlink_to("self.png")
    (tmp_path / "in/lost.png").symlink_to("gone.png")
    (tmp_path / "in/other").symlink_to(tmp_path / "elsewhere")
    found = names(make_plan([str(tmp_path / "in")], str(tmp_path / "out"), SAME))
    assert found == ["a/x.png", "lost.png", "other/y.png", "self.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_named_pipes_are_not_photographs(tmp_path) -> None:
    touch(tmp_path, "in/x.png")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    assert names(make_plan([str(tmp_path / "in")], str(tmp_path / "out"), SAME)) == ["x.png"]


def test_unreadable_folder_is_an_item_that_failed(tmp_path, monkeypatch) -> None:
    touch(tmp_path, "in/x.png", "in/locked/y.png")
    real = os.scandir

    def scandir(path: Path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    items = make_plan([str(tmp_path / "in")], str(tmp_path / "out"), SAME)
    assert [(item.relative.as_posix(), item.problem) for item in items] == [
        ("locked", "permission denied"),
        ("x.png", ""),
    ]


@pytest.mark.parametrize(
    ("output", "target"),
    [("dry.png", "dry.png"), ("dry", "dry/x.png"), ("dry.png/", "dry.png/x.png"), ("made", "made/x.png")],
)
def test_a_single_file_goes_to_a_file_or_a_folder(tmp_path, monkeypatch, output, target) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "in/x.png")
    (tmp_path / "made").mkdir()
    (item,) = make_plan(["in/x.png"], output, SAME)
    assert item.target == Path(target)


def test_keypoints_of_x_jpg_and_x_png_do_not_collide_but_equal_names_do(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "1/x.jpg", "1/x.png", "2/x.png")
    assert [str(item.target) for item in make_plan(["1"], "out", NPZ)] == ["out/x.jpg.npz", "out/x.png.npz"]
    with pytest.raises(UsageError, match=r"two photographs want this output: `1/x\.png` and `2/x\.png`"):
        make_plan(["1", "2"], "out", NPZ)


def test_output_inside_input_goes_by_components(tmp_path) -> None:
    touch(tmp_path, "in/out/x.png", "in/outdoor/y.png", "into/z.png")
    for output in ("in", "in/out", "in/new/deep", "in/../in/out"):
        with pytest.raises(UsageError, match="input folder"):
            make_plan([str(tmp_path / "in")], str(tmp_path / output), SAME)
    (tmp_path / "link").symlink_to(tmp_path / "in")
    with pytest.raises(UsageError, match="lies inside"):
        guard_folder([str(tmp_path / "in")], str(tmp_path / "link" / "out"))
    assert len(make_plan([str(tmp_path / "in" / "out")], str(tmp_path / "in" / "outdoor"), SAME)) == 1
    assert len(make_plan([str(tmp_path / "in")], str(tmp_path / "into"), SAME)) == 2
    assert len(make_plan([str(tmp_path / "in")], str(tmp_path / "in"), NPZ)) == 2  # keypoints are no photographs


def test_an_input_is_never_replaced(tmp_path) -> None:
    touch(tmp_path, "in/x.png")
    (tmp_path / "alias.png").symlink_to(tmp_path / "in" / "x.png")
    for output in (tmp_path / "in", tmp_path / "in" / "x.png", tmp_path / "alias.png"):
        with pytest.raises(UsageError, match="replace the input"):
            make_plan([str(tmp_path / "in" / "x.png")], str(output), SAME, "overwrite")


def test_existing(tmp_path) -> None:
    touch(tmp_path, "in/1.png", "in/2.png", "out/1.png", "out/2.png")
    arguments = [str(tmp_path / "in")], str(tmp_path / "out"), SAME
    (tmp_path / "out" / "2.png").unlink()
    assert [item.done for item in make_plan(*arguments, "skip")] == [True, False]
    assert [item.done for item in make_plan(*arguments, "overwrite")] == [False, False]
    with pytest.raises(UsageError, match="exists already"):
        make_plan(*arguments, "error")
    (tmp_path / "out" / "2.png").mkdir()
    with pytest.raises(UsageError, match="is a folder, and a file of that name"):
        make_plan(*arguments)


def test_item_names() -> None:
    assert Item(None, None, PurePath("stdin")).name == "-"
    assert Item(Path("a/b.png"), None, PurePath("b.png")).name == str(Path("a/b.png"))
