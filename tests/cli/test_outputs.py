"""Several outputs of one run: the networks run once, each output is what a run of its own writes, or is left alone."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from idsr_cli.cli import batch
from idsr_cli.formats.npz import read_npz
from idsr_cli.restoration import Restored, Restorer

NAMES = ["a/b/x.jpg", "img10.png", "img2.png"]
PER_PHOTO = {"npz": ".npz", "colmap": ".txt", "opencv": ".yml", "lowe": ".key", "vlfeat": ".sift", "oxford": ".oxford"}


def contents(folder: Path) -> dict[str, bytes]:
    """Path below a folder -> bytes of the file; without records."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".idsr.jsonl")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def formats(*names: str) -> list[str]:
    return [word for name in names for word in ("--format", name)]


def test_each_output_is_that_of_a_run_of_its_own(run, halving, photos, tmp_path) -> None:
    alone: dict[str, bytes] = {}
    for name in PER_PHOTO:
        run("sift", photos, "-o", tmp_path / name, "--format", name)
        alone |= contents(tmp_path / name)
    run("derain", photos, "-o", tmp_path / "derain")
    halving.D = halving.G = 0
    result = run("sift", photos, "-o", tmp_path / "out", *formats(*PER_PHOTO), "--derained", tmp_path / "dry")
    assert (result.exit_code, halving.D, halving.G) == (0, 3, 3)
    assert contents(tmp_path / "out") == alone
    assert sorted(alone) == sorted(f"{name}{suffix}" for name in NAMES for suffix in PER_PHOTO.values())
    assert contents(tmp_path / "dry") == contents(tmp_path / "derain")
    # Each command takes the other's files for its own.
    again = run("derain", photos, "-o", tmp_path / "dry")
    assert ("skipped 3" in again.stderr, "stale" in again.stderr) == (True, False)
    again = run("sift", photos, "-o", tmp_path / "out", "--format", "lowe")
    assert ("skipped 3" in again.stderr, "stale" in again.stderr) == (True, False)
    assert halving.D == 3


def test_common_files_beside_files_of_each_photograph(run, halving, photos, tmp_path) -> None:
    pytest.importorskip("h5py")
    pytest.importorskip("pycolmap")
    from idsr_cli.formats import colmap_db, hloc

    out, names = tmp_path / "out", ("npz", "colmap-db", "hloc")
    assert run("sift", photos, "-o", out, *formats(*names)).exit_code == 0
    assert halving.D == 3
    files = sorted(contents(out))
    assert files == sorted(["database.db", "features.h5", *(f"{name}.npz" for name in NAMES)])
    for module, file, kind in ((colmap_db, "database.db", "rootsift_u8"), (hloc, "features.h5", "rootsift_f32")):
        found = module.contents(out / file)
        assert sorted(found) == NAMES
        assert {meta["descriptors"] for meta in found.values()} == {kind}
    run("sift", photos, "-o", tmp_path / "alone", "--format", "hloc")
    assert (out / "features.h5").read_bytes() == (tmp_path / "alone" / "features.h5").read_bytes()
    again = run("sift", photos, "-o", out, *formats(*names))
    assert ("skipped 3" in again.stderr, "stale" in again.stderr) == (True, False)
    assert halving.D == 6


def test_a_killed_run_goes_on_in_each_output(run, halving, photos, tmp_path, monkeypatch) -> None:
    """Killed before the common file was written, and one of the other files is missing."""
    pytest.importorskip("h5py")
    from idsr_cli.formats import hloc
    from idsr_cli.runs.one_file import OneFile

    out = tmp_path / "out"
    command = ["sift", photos, "-o", out, *formats("npz", "hloc")]
    with monkeypatch.context() as patch:
        patch.setattr(OneFile, "finish", lambda self, items: None)
        run(*command)
    assert not (out / "features.h5").exists()
    (out / "img2.png.npz").unlink()
    (out / ".features.h5.parts" / "img10.png.npz").unlink()
    halving.D = 0
    *items, summary = run.events(*command)
    assert (halving.D, summary["ok"], summary["skipped"]) == (2, 2, 1)
    assert [[one["status"] for one in item["outputs"]] for item in items] == [
        ["skipped", "skipped"], ["ok", "skipped"], ["skipped", "ok"],
    ]  # fmt: skip
    assert sorted(hloc.contents(out / "features.h5")) == NAMES
    assert sorted(contents(out)) == sorted(["features.h5", *(f"{name}.npz" for name in NAMES)])


@pytest.mark.parametrize(
    ("missing", "calls", "said"),
    [
        ("out/img2.png.npz", {"D": 0, "G": 1}, "extracted 1"),
        ("out/img2.png.key", {"D": 0, "G": 1}, "extracted 1"),
        ("dry/img2.png", {"D": 1, "G": 0}, "derained 1"),
    ],
)
def test_only_what_is_missing_is_made(run, halving, photos, tmp_path, missing, calls, said) -> None:
    command = ["sift", photos, "-o", tmp_path / "out", *formats("npz", "lowe"), "--derained", tmp_path / "dry"]
    command += ["--splice", "GG"]
    run(*command)
    before = contents(tmp_path / "out") | contents(tmp_path / "dry")
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.is_file()}
    (tmp_path / missing).unlink()
    halving.D = halving.G = 0
    result = run(*command, "-v")
    assert ({"D": halving.D, "G": halving.G}, said in result.stderr) == (calls, True), result.stderr
    assert f"{photos}/img2.png -> {tmp_path / missing}  64x48" in result.stderr
    assert contents(tmp_path / "out") | contents(tmp_path / "dry") == before
    changed = {path.name for path, time in times.items() if path.exists() and path.stat().st_mtime_ns != time}
    assert changed == {Path(missing).name, ".idsr.jsonl"}
    halving.D = halving.G = 0
    run(*command)
    assert (halving.D, halving.G) == (0, 0)


def test_an_output_of_other_settings_is_kept_and_named(run, halving, photos, tmp_path) -> None:
    out = tmp_path / "out"
    run("sift", photos, "-o", out, "--format", "npz", "--max-keypoints", 3)
    before = contents(out)
    result = run("sift", photos, "-o", out, *formats("npz", "lowe"))
    assert "may be stale: 3 made with other settings (max-keypoints)" in result.stderr
    assert "extracted 3" in result.stderr
    assert before.items() <= contents(out).items()
    assert len(contents(out)) == 6
    run("sift", photos, "-o", out, *formats("npz", "lowe"), "--existing", "overwrite")
    assert "stale" not in run("sift", photos, "-o", out, *formats("npz", "lowe")).stderr
    refused = run("sift", photos, "-o", out, *formats("opencv", "lowe"), "--existing", "error")
    assert (refused.exit_code, "exists already (and 2 more)" in refused.stderr) == (2, True)
    assert len(contents(out)) == 6


def test_json_tells_each_output(run, halving, photos, tmp_path, monkeypatch) -> None:
    out, dry, photo = tmp_path / "out", tmp_path / "dry", photos / "img2.png"
    command = ["sift", photo, "-o", out, *formats("npz", "colmap"), "--like", "opencv", "--derained", dry]
    paths = {"npz": f"{out}/img2.png.npz", "colmap": f"{out}/img2.png.txt", "derained": f"{dry}/img2.png"}
    (plan,) = run.events(*command, "--dry-run")
    assert (plan["output"], plan["action"], plan["reason"]) == (paths["npz"], "write", None)
    assert plan["outputs"] == [
        {"kind": kind, "output": path, "action": "write", "reason": None} for kind, path in paths.items()
    ]
    lines = run(*command, "--dry-run").stdout.splitlines()
    assert lines == [f"{photo} -> {path}" for path in paths.values()]
    assert not out.exists()

    write = batch.write_output

    def full(target, data):
        if target.suffix == ".txt":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(target, data)

    monkeypatch.setattr(batch, "write_output", full)
    result = run(*command, "--json")
    item = json.loads(result.stdout.splitlines()[0])
    assert (result.exit_code, item["status"], item["reason"]) == (1, "failed", "colmap: no space left on device")
    assert f"{photo}: colmap: no space left on device" in result.stderr
    assert [(one["kind"], one["output"], one["status"], one["reason"]) for one in item["outputs"]] == [
        ("npz", paths["npz"], "ok", None),
        ("colmap", None, "failed", "no space left on device"),
        ("derained", paths["derained"], "ok", None),
    ]
    monkeypatch.setattr(batch, "write_output", write)
    item, _ = run.events(*command)
    assert (item["status"], item["keypoints"]) == ("ok", len(read_npz(paths["npz"])[0]))
    assert [(one["output"], one["status"], one["reason"]) for one in item["outputs"]] == [
        (paths["npz"], "skipped", "output exists"),
        (paths["colmap"], "ok", None),
        (paths["derained"], "skipped", "output exists"),
    ]
    item, summary = run.events(*command)
    assert (item["status"], item["reason"], summary["skipped"]) == ("skipped", "output exists", 1)
    assert "outputs" not in run.events("sift", photo, "-o", out, "--format", "npz")[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "k.npz", *formats("npz", "lowe")], "k.npz: is one file, and 2 formats are asked for (name a folder)"),
        (["-o", "k.db", *formats("colmap-db", "hloc")], "k.db: is one file, and 2 formats are asked for"),
        (["-o", "-", *formats("npz", "lowe")], "2 formats are asked for, which do not fit into one pipe"),
        (["-o", "out", "--no-derain", "--derained", "dry"], "`--derained` has no effect with `--no-derain`"),
        (["-o", "out", "--no-derain", "--derained-format", "png"], "`--derained-format` has no effect with"),
        (["-o", "out", "--derained-format", "png"], "`--derained-format` has no effect without `--derained DIR`"),
        (["-o", "out", "--quality", "80"], "`--quality` has no effect without `--derained DIR`"),
        (["-o", "out", "--crf", "20"], "`--crf` has no effect without `--derained DIR`"),
        (["-o", "out", "--derained", "d.jpg", "--derained-format", "png"], "d.jpg: the name contradicts the format"),
        (["-o", "-", "--derained", "-"], "derained and npz both want standard output"),
        (["-o", "x.npz", "--derained", "dry.npz"], "dry.npz: cannot write a file of kind .npz"),
    ],
)
def test_outs_that_do_not_fit(run, halving, photos, tmp_path, monkeypatch, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("sift", photos / "img2.png", *arguments)
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_how_the_derained_copy_is_written(run, halving, photos, clips, tmp_path) -> None:
    """The options of `idsr derain` about files; `--format` is that of the keypoints, so it has another name here."""
    Image.fromarray(np.full((48, 64, 3), 99, np.uint8)).save(photos / "y.jpg")
    source = clips.make("a.mp4", 3)
    both = (photos, source, "--quality", 60)
    run("sift", *both, "-o", tmp_path / "out", "--derained", tmp_path / "dry", "--derained-format", "webp")
    run("derain", *both, "-o", tmp_path / "derain", "--format", "webp")
    found = contents(tmp_path / "dry")
    assert found == contents(tmp_path / "derain")
    assert {"y.webp", "a.mp4/000002.webp"} <= set(found)
    # Each command takes the files of the other for its own.
    again = run("derain", *both, "-o", tmp_path / "dry", "--format", "webp")
    assert ("skipped 5" in again.stderr, "stale" in again.stderr) == (True, False)
    run("sift", source, "-o", tmp_path / "out", "--derained", tmp_path / "b.mp4", "--crf", 40)
    run("derain", source, "-o", tmp_path / "c.mp4", "--crf", 40)
    run("derain", source, "-o", tmp_path / "d.mp4")
    sizes = [(tmp_path / f"{name}.mp4").stat().st_size for name in "bcd"]
    assert sizes[0] == sizes[1] < sizes[2]


def test_outputs_do_not_replace_each_other_or_a_photograph(run, halving, photos, tmp_path) -> None:
    Image.open(photos / "img2.png").save(tmp_path / "b.png")
    (tmp_path / "b.png").rename(photos / "img2.png.npz")  # a photograph named so by hand
    result = run(
        "sift", photos / "img2.png", photos / "img2.png.npz", "-o", tmp_path / "o", "--derained", tmp_path / "o"
    )
    assert (result.exit_code, "two outputs want this file: npz and derained" in result.stderr) == (2, True)
    result = run("sift", photos, "-o", tmp_path / "out", "--derained", photos / "dry")
    assert (result.exit_code, "lies inside the input folder" in result.stderr) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


def test_one_photograph_and_a_pipe(run, halving, photos, tmp_path) -> None:
    data = (photos / "img2.png").read_bytes()
    result = run("sift", "-", "-o", tmp_path / "k.npz", "--derained", tmp_path / "dry.png", stdin=data)
    assert (result.exit_code, sorted(contents(tmp_path))[:2]) == (0, ["dry.png", "k.npz"])
    run("derain", photos / "img2.png", "-o", tmp_path / "same.png")
    assert (tmp_path / "dry.png").read_bytes() == (tmp_path / "same.png").read_bytes()
    result = run("sift", "-", "-o", tmp_path / "f", *formats("npz", "lowe"), stdin=data)
    assert (result.exit_code, "standard input has no name to call their files by" in result.stderr) == (2, True)
    result = run("sift", photos / "img2.png", "-o", "-", "--derained", tmp_path / "dry2.png")
    assert (result.exit_code, (tmp_path / "dry2.png").exists()) == (0, True)
    # The list is read from standard input once, for all outputs.
    listed = run(
        "sift", "--from-list", "-", "-o", tmp_path / "o", *formats("npz", "lowe"), stdin=f"{photos}/img2.png".encode()
    )
    assert (listed.exit_code, sorted(contents(tmp_path / "o"))) == (0, ["img2.png.key", "img2.png.npz"])


def test_a_photograph_that_one_output_cannot_take(run, halving, photos, tmp_path) -> None:
    """Without a mask there are no keypoints, and the photograph fails; it is derained all the same."""
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.full((48, 64), 255, np.uint8)).save(tmp_path / "masks" / "img2.png")
    options = ("--mask", tmp_path / "masks", "--derained", tmp_path / "dry")
    *items, summary = run.events("sift", photos, "-o", tmp_path / "out", *options)
    assert ([item["status"] for item in items], summary["failed"]) == (["failed", "ok", "failed"], 2)
    assert sorted(contents(tmp_path / "dry")) == NAMES
    assert sorted(contents(tmp_path / "out")) == ["img2.png.npz"]
    told = [one for item in items for one in item["outputs"] if one["status"] == "failed"]
    assert {one["kind"] for one in told} == {"npz"}
    assert all(one["reason"].startswith("no mask: looked for") for one in told)


def test_pictures_go_with_the_first_format(run, halving, photos, tmp_path) -> None:
    command = ["sift", photos, "-o", tmp_path / "out", *formats("npz", "lowe"), "--draw", tmp_path / "pictures"]
    run(*command)
    assert len(contents(tmp_path / "pictures")) == 3
    (tmp_path / "pictures" / "img2.png.png").unlink()
    assert "extracted 1" in run(*command).stderr
    assert len(contents(tmp_path / "pictures")) == 3


# --- clips -----------------------------------------------------------------------------------------------------------


def test_clips(run, halving, clips, photos, tmp_path) -> None:
    """Frames in two formats and a derained clip in one pass; equal to three runs."""
    source = clips.make("a.mp4", 5)
    alone = tmp_path / "alone"
    for name in ("npz", "lowe"):
        run("sift", source, photos, "-o", alone, "--format", name, "--every", 2)
    run("derain", source, photos, "-o", tmp_path / "derain", "--every", 2)
    halving.D = 0
    out, dry = tmp_path / "out", tmp_path / "dry"
    command = ["sift", source, photos, "-o", out, *formats("npz", "lowe"), "--derained", dry, "--every", 2]
    result = run(*command)
    assert (result.exit_code, halving.D) == (0, 3 + 3)
    assert contents(out) == contents(alone)
    assert {"a.mp4/frames.json", "a.mp4/frames.key.json", "a.mp4/000004.key"} <= set(contents(out))
    assert contents(dry) == contents(tmp_path / "derain")
    again = run(*command)
    assert ("skipped 4" in again.stderr, "stale" in again.stderr, halving.D) == (True, False, 6)
    # One of its outputs is missing, and made anew.
    (dry / "a.mp4").unlink()
    (out / "a.mp4" / "frames.key.json").unlink()
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.npz")}
    item, *_ = run.events(*command)
    assert [one["status"] for one in item["outputs"]] == ["skipped", "ok", "ok"]
    assert contents(out) == contents(alone)
    assert contents(dry) == contents(tmp_path / "derain")
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert "stale" not in run(*command).stderr


def test_a_frame_that_fails_is_the_end_of_the_clip_and_not_of_the_files(
    run, halving, clips, tmp_path, monkeypatch
) -> None:
    source = clips.make("a.mp4", 6)
    count = iter(range(100))

    def restore(self, rgb, roles, before=None):
        if next(count) == 2:
            raise MemoryError
        return [Restored(rgb / 2, rain_seen=True) for role in roles]

    monkeypatch.setattr(Restorer, "restore", restore)
    item, summary = run.events("sift", source, "-o", tmp_path / "out", "--derained", tmp_path / "dry", "-j", 1)
    assert (item["status"], summary["failed"]) == ("failed", 1)
    assert [(one["kind"], one["status"]) for one in item["outputs"]] == [("npz", "ok"), ("derained", "failed")]
    assert contents(tmp_path / "dry") == {}
    assert sorted(contents(tmp_path / "out")) == [
        *(f"a.mp4/00000{n}.npz" for n in (0, 1, 3, 4, 5)),
        "a.mp4/frames.json",
    ]
    item, _ = run.events("sift", source, "-o", tmp_path / "out", "--derained", tmp_path / "dry")
    assert [one["status"] for one in item["outputs"]] == ["skipped", "ok"]


def test_a_clip_needs_folders_of_its_own(run, halving, clips, tmp_path) -> None:
    source = clips.make("a.mp4", 1)
    result = run("sift", source, "-o", tmp_path / "out", "--derained", tmp_path / "out")
    message = "a.mp4: is a file of derained, and npz needs a folder there (write them to separate folders)"
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr
    result = run("sift", source, "-o", tmp_path / "out", *formats("npz", "colmap-db"))
    assert (result.exit_code, "`--format colmap-db` does not take video clips" in result.stderr) == (2, True)
    assert not (tmp_path / "out").exists()
