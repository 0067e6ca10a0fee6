"""Plans made from inputs: order, paths of outputs, loops of links, collisions."""

import os
import unicodedata
from dataclasses import replace
from pathlib import Path, PurePath

import pytest

from idsr_cli.errors import UsageError
from idsr_cli.runs import plan
from idsr_cli.runs.plan import Item, Naming, Search, guard_folder, make_plan

SAME = Naming(lambda relative: relative, frozenset({".png", ".jpg"}), makes_photos=True)
NPZ = Naming(lambda relative: relative.with_name(relative.name + ".npz"), frozenset({".npz"}), makes_photos=False)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(items: list[Item]) -> list[str]:
    return [item.relative.as_posix() for item in items]


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
    assert len(make_plan([str(tmp_path / "in")], str(tmp_path / "in"), NPZ)) == 2  # keypoint files are not photographs


def test_an_input_is_never_replaced(tmp_path) -> None:
    touch(tmp_path, "in/x.png")
    (tmp_path / "alias.png").symlink_to(tmp_path / "in" / "x.png")
    for output in (tmp_path / "in", tmp_path / "in" / "x.png", tmp_path / "alias.png"):
        with pytest.raises(UsageError, match="replace an input"):
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
    with pytest.raises(UsageError, match="is a folder, but the output must be a file"):
        make_plan(*arguments)


def test_item_names() -> None:
    assert Item(None, None, PurePath("stdin")).name == "-"
    assert Item(Path("a/b.png"), None, PurePath("b.png")).name == str(Path("a/b.png"))


@pytest.mark.parametrize(
    ("pattern", "taken"),
    [
        ("*.png", "1.png a/2.PNG a/b/3.png"),
        ("?.jpg", "4.jpg"),
        ("[1-2].*", "1.png a/2.PNG"),
        ("[!1-2].*", "a/b/3.png 4.jpg"),
        ("a/*", "a/2.PNG"),
        ("a/**", "a/2.PNG a/b/3.png"),
        ("**/b/*.png", "a/b/3.png"),
        ("a/**/*.png", "a/2.PNG a/b/3.png"),
        ("b/3.png", ""),
        ("A/2.png", "a/2.PNG"),
        ("[x].png", "x.png"),
        ("[[].png", ""),
        ("1.p+g", ""),
    ],
)
def test_include(tmp_path, pattern, taken) -> None:
    touch(tmp_path, "in/1.png", "in/a/2.PNG", "in/a/b/3.png", "in/4.jpg", "in/x.png", "in/notes.txt")
    search = Search(include=(pattern,), exclude=() if "x" in pattern else ("x.*",))
    if taken:
        found = names(make_plan([str(tmp_path / "in")], str(tmp_path / "out"), SAME, search=search))
        assert sorted(found) == sorted(taken.split())
    else:
        with pytest.raises(UsageError, match=r"no photographs found.*as `--include`"):
            make_plan([str(tmp_path / "in")], str(tmp_path / "out"), SAME, search=search)


def test_exclude_prunes_folders_and_wins(tmp_path) -> None:
    touch(tmp_path, "in/1.png", "in/thumbs/2.png", "in/a/thumbs/3.png", "in/a/4.png", "in/a/5_mask.png")
    folder, out = str(tmp_path / "in"), str(tmp_path / "out")
    found = make_plan([folder], out, SAME, search=Search(include=("*.png",), exclude=("thumbs/", "*_mask.png")))
    assert names(found) == ["1.png", "a/4.png"]
    assert names(make_plan([folder], out, SAME, search=Search(exclude=("a/thumbs",)))) == [
        "1.png", "a/4.png", "a/5_mask.png", "thumbs/2.png",
    ]  # fmt: skip
    assert names(make_plan([folder], out, SAME, search=Search(recursive=False))) == ["1.png"]
    # A file that is named is taken as it is.
    named = make_plan([str(tmp_path / "in" / "1.png")], out, SAME, search=Search(exclude=("*",)))
    assert names(named) == ["1.png"]


def test_lists_are_mirrored_from_the_input_folder_or_as_written(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "in/a/1.png", "in/2.png", "other/3.png", "in/more/4.png", "in/more/.5.png")

    def plan(listed: list[str], *inputs: str) -> list[str]:
        return [str(item.target) for item in make_plan(inputs, "out", SAME, listed=listed)]

    assert plan(["in/a/1.png", "./in/2.png"]) == ["out/in/a/1.png", "out/in/2.png"]
    assert plan(["in/a/1.png", "in/2.png", "in/a/1.png"], "in") == ["out/a/1.png", "out/2.png"]
    assert plan(["a/1.png", "2.png"], "in") == ["out/a/1.png", "out/2.png"]  # relative to the folder, as COLMAP's
    assert plan([str(tmp_path / "in/a/1.png")], "in") == ["out/a/1.png"]
    assert plan([str(tmp_path / "in/a/1.png"), "../" + tmp_path.name + "/in/2.png"]) == ["out/1.png", "out/2.png"]
    assert plan(["more", "in/more"], "in") == ["out/more/4.png"]
    assert plan(["other/3.png", "1.png"], "in/a", "other") == ["out/3.png", "out/1.png"]
    assert plan(["in/2.png"], "in/2.png") == ["out/2.png"]
    for wrong in ("other/3.png", str(tmp_path / "other/3.png"), "../x.png"):
        with pytest.raises(UsageError, match="is in the list, but not in `in`"):
            plan([wrong], "in")
    with pytest.raises(UsageError, match="the list is empty"):
        plan([], "in")
    with pytest.raises(UsageError, match="nowhere: no such file"):
        plan(["2.png"], "nowhere")
    with pytest.raises(UsageError, match="two photographs want this output"):
        plan([str(tmp_path / "in/2.png"), "x/../../2.png"])


def test_listed_files_that_are_gone_are_failed_items(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "in/1.png")
    items = make_plan(["in"], "out", SAME, listed=["gone.png", "1.png"])
    assert [str(item.source) for item in items] == ["in/gone.png", "in/1.png"]  # the first fails when it is read


def test_a_listed_name_that_the_system_refuses_is_a_failed_item(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "in/1.png")
    too_long = "x" * 300
    for inputs in ([], ["in"]):
        items = make_plan(inputs, "out", SAME, listed=[f"{too_long}.png", "in/1.png"])
        assert [item.source.name for item in items] == [f"{too_long}.png", "1.png"]


def test_a_folder_that_may_be_listed_but_not_entered_is_a_failed_item(tmp_path, monkeypatch) -> None:
    touch(tmp_path, "in/locked/1.png", "in/2.png")
    real, may, locked = os.stat, os.access, f"{tmp_path}/in/locked/"

    def look(path, *rest, **more):
        if str(path).startswith(locked):
            raise PermissionError(13, "Permission denied")
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "stat", look)
    monkeypatch.setattr(os, "access", lambda path, mode: f"{path}/" != locked and may(path, mode))
    items = make_plan([str(tmp_path / "in")], str(tmp_path / "out"), SAME)
    found = [(item.relative.as_posix(), item.problem) for item in items]
    assert found == [("2.png", ""), ("locked", "permission denied")]


@pytest.mark.parametrize("pattern", ["[z-a]", "[]", "[!]"])
def test_an_invalid_pattern_is_a_usage_error(tmp_path, pattern) -> None:
    touch(tmp_path, "in/1.png")
    with pytest.raises(UsageError, match="not a valid pattern"):
        make_plan([str(tmp_path / "in")], str(tmp_path / "out"), SAME, search=Search(include=(pattern,)))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read and write everything")
def test_real_permissions(tmp_path) -> None:
    touch(tmp_path, "in/1.png", "in/a/2.png", "out/a/x")
    (tmp_path / "in/1.png").chmod(0)
    items = make_plan([str(tmp_path / "in")], str(tmp_path / "out"), SAME)
    assert [item.problem for item in items] == ["permission denied", ""]
    (tmp_path / "out/a").chmod(0o500)
    with pytest.raises(UsageError, match="out/a: permission denied: cannot write there"):
        make_plan([str(tmp_path / "in")], str(tmp_path / "out"), SAME)


def test_permissions_are_checked_before_work(tmp_path, monkeypatch) -> None:
    touch(tmp_path, "in/1.png", "in/a/2.png", "out/a/x")
    real, denied = os.access, {str(tmp_path / "in" / "1.png")}
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) not in denied and real(path, mode))
    items = make_plan([str(tmp_path / "in")], str(tmp_path / "out"), SAME)
    assert [(item.problem, item.target is None) for item in items] == [("permission denied", True), ("", False)]
    denied.add(str(tmp_path / "out" / "a"))
    with pytest.raises(UsageError, match="out/a: permission denied: cannot write there"):
        make_plan([str(tmp_path / "in")], str(tmp_path / "out"), SAME)


def test_a_file_name_with_a_typing_error_is_not_made_a_folder(tmp_path) -> None:
    touch(tmp_path, "a.png", "b.mp4", "in/a.png")
    both = replace(SAME, file_suffixes=SAME.file_suffixes | {".mp4", ".mpo"}, options={".h5": ("--format hloc", True)})
    for source, name, meant in (("a.png", "o.pgn", "o.png"), ("a.png", "o.h6", "o.h5"), ("b.mp4", "o.mp5", "o.mp4")):
        with pytest.raises(UsageError, match=f"is no known kind of file .did you mean .*/{meant}. `.*/{name}/` is a"):
            make_plan([str(tmp_path / source)], str(tmp_path / name), both)
    for inputs, name in (([tmp_path / "a.png"], "o.pgn/"), ([tmp_path / "in"], "o.pgn"), ([tmp_path / "a.png"], "o.1")):
        (item,) = make_plan(list(map(str, inputs)), f"{tmp_path}/{name}", both)
        assert item.target == tmp_path / name / "a.png"


@pytest.mark.parametrize("name", ["o.txt", "o.JSON", "o.avi", "o.npz", "o.gif"])
def test_the_name_of_a_file_that_cannot_be_written_is_not_made_a_folder(tmp_path, name) -> None:
    photo = tmp_path / "a.png"
    photo.touch()
    out = tmp_path / name
    with pytest.raises(
        UsageError, match=r"cannot write a file of kind \.\w+ \(choose from \.jpg \.png; `.*/` is a folder"
    ):
        make_plan([str(photo)], str(out), SAME)
    assert make_plan([str(photo)], f"{out}/", SAME)[0].target == out / "a.png"
    out.mkdir()
    assert make_plan([str(photo)], str(out), SAME)[0].target == out / "a.png"


@pytest.mark.parametrize("name", ["run.1", "2026.11", "dry.d", "v0.9-jpg"])
def test_folders_may_have_dots(tmp_path, name) -> None:
    (tmp_path / "a.png").touch()
    assert make_plan([str(tmp_path / "a.png")], str(tmp_path / name), SAME)[0].target == tmp_path / name / "a.png"


def test_one_file_for_many_photographs_is_refused(tmp_path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).touch()
    both = [str(folder / name) for name in ("a.png", "b.png")]
    out = str(tmp_path / "o.png")
    for inputs, listed, given in (([str(folder)], None, "a folder"), (both, None, "2 paths"), ([], both, "a list")):
        with pytest.raises(
            UsageError, match=rf"o\.png: is the name of one file, and the input is {given} \(name a folder;"
        ):
            make_plan(inputs, out, SAME, listed=listed)
        assert len(make_plan(inputs, f"{out}/", SAME, listed=listed)) == 2


# --- names that differ to us, and not to the volume ------------------------------------------------------------------


def fold(monkeypatch, how) -> list[list[str]]:
    """Let every volume take names for one that `how` makes equal; returns what is asked."""
    asked = []

    def same_names(folder: Path, names) -> list[tuple[str, str]]:
        asked.append(list(names))
        first: dict[str, str] = {}
        return [(first[how(n)], n) for n in names if first.setdefault(how(n), n) != n]

    monkeypatch.setattr(plan, "same_names", same_names)
    return asked


@pytest.mark.parametrize(
    "pair",
    [
        ("IMG.jpg", "img.jpg"),
        ("Trip/x.jpg", "trip/x.jpg"),
        ("a/B/x.JPG", "A/b/X.jpg"),
        ("caf\xe9.jpg", "cafe\u0301.jpg"),
        ("caf\xe9/x.jpg", "cafe\u0301/X.jpg"),
    ],
)
@pytest.mark.parametrize("naming", [SAME, NPZ])
def test_two_names_that_are_one_to_the_volume(tmp_path, monkeypatch, pair, naming) -> None:
    touch(tmp_path / "in", *pair, "other.jpg", "OTHER.png")
    asked = fold(monkeypatch, lambda name: unicodedata.normalize("NFC", name).lower())
    with pytest.raises(UsageError, match="two photographs want this output") as caught:
        make_plan([str(tmp_path / "in")], str(tmp_path / "out"), naming)
    assert all(str(tmp_path / "in" / name) in caught.value.reason for name in pair)
    assert "this volume takes their names for one" in caught.value.hint
    assert not (tmp_path / "out").exists()
    fold(monkeypatch, lambda name: name)
    assert len(make_plan([str(tmp_path / "in")], str(tmp_path / "out"), naming)) == 4
    assert len(asked) == 1


def test_a_volume_may_fold_case_and_not_composition(tmp_path, monkeypatch) -> None:
    touch(tmp_path / "in", "caf\xe9.jpg", "cafe\u0301.jpg")
    fold(monkeypatch, str.lower)
    assert len(make_plan([str(tmp_path / "in")], str(tmp_path / "out"), SAME)) == 2


def test_a_volume_is_not_asked_without_need(tmp_path, monkeypatch) -> None:
    touch(tmp_path / "in", "a.jpg", "b.jpg", "sub/a.jpg")
    asked = fold(monkeypatch, str.lower)
    make_plan([str(tmp_path / "in")], str(tmp_path / "out"), SAME)
    assert asked in ([], [[]])


def test_the_input_under_another_case(tmp_path, monkeypatch) -> None:
    touch(tmp_path, "img.jpg")
    (tmp_path / "IMG.jpg").symlink_to("img.jpg")  # as the volume would show it
    monkeypatch.setattr(plan.os.path, "realpath", os.path.abspath)
    with pytest.raises(UsageError, match="would replace an input"):
        make_plan([str(tmp_path / "img.jpg")], str(tmp_path / "IMG.jpg"), SAME)


# --- devices and pipes -----------------------------------------------------------------------------------------------


def test_a_device_as_output(tmp_path) -> None:
    touch(tmp_path, "in/a.jpg", "in/b.jpg")
    one = str(tmp_path / "in" / "a.jpg")
    for existing in ("skip", "overwrite", "error"):
        (item,) = make_plan([one], os.devnull, SAME, existing)
        assert (item.target, item.done) == (Path(os.devnull), False)
    (item,) = make_plan(["-"], os.devnull, SAME)
    assert item.target == Path(os.devnull)
    for inputs in ([str(tmp_path / "in")], [one, str(tmp_path / "in" / "b.jpg")]):
        with pytest.raises(UsageError, match="OUT is a device or a pipe"):
            make_plan(inputs, os.devnull, SAME)


# --- what a search passes over ---------------------------------------------------------------------------------------


def test_pictures_of_other_kinds_are_passed_over(tmp_path) -> None:
    folder = tmp_path / "in"
    noise = "notes.txt x.xmp IMG.aae x.thm Thumbs.db clip.mp4 .DS_Store .hidden.gif a.npz README".split()
    pictures = "a.gif b.DNG sub/c.jxl d.jps e.pbm f.cr2".split()
    touch(folder, "x.jpg", *noise, *pictures)
    (folder / "scan").write_bytes(b"\xff\xd8\xff\xe0 JFIF")
    (folder / "Makefile").write_bytes(b"all:\n")
    found: list[Path] = []
    assert names(make_plan([str(folder)], str(tmp_path / "out"), SAME, search=Search(passed_over=found.append))) == [
        "x.jpg"
    ]
    assert sorted(path.relative_to(folder).as_posix() for path in found) == sorted([*pictures, "scan"])
    assert plan.suffix_counts([Path("a.GIF"), Path("b.gif"), Path("c")]) == "2 .gif, 1 without a suffix"
    found.clear()
    search = Search(recursive=False, exclude=("*.gif", "*.DNG"), passed_over=found.append)
    make_plan([str(folder)], str(tmp_path / "out"), SAME, search=search)
    assert sorted(path.name for path in found) == ["d.jps", "e.pbm", "f.cr2", "scan"]
    found.clear()
    make_plan([str(folder)], str(tmp_path / "out"), SAME, search=Search(include=("*.jpg",), passed_over=found.append))
    assert found == []
