"""`idsr derain` with stand-in networks: files, folders, pipes, messages, exit codes."""

import errno
import io
import os
import re
import stat
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from idsr_cli import restoration
from idsr_cli.files import atomic
from idsr_cli.restoration import Restored


def opened(path: Path) -> Image.Image:
    """The image, with its file closed."""
    return Image.open(io.BytesIO(path.read_bytes()))


def files(folder: Path) -> list[str]:
    return sorted(
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != ".idsr.jsonl"
    )


def test_folder_is_mirrored(run, halving, photos, tmp_path) -> None:
    out = tmp_path / "out"
    result = run("derain", photos, "-o", out)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "derained 3 in" in result.stderr
    assert files(out) == ["a/b/x.jpg", "img10.png", "img2.png"]
    before = np.asarray(opened(photos / "img2.png")).astype(int)
    after = np.asarray(opened(out / "img2.png")).astype(int)
    assert np.abs(after - before / 2).max() <= 0.5
    assert opened(out / "a/b/x.jpg").format == "JPEG"


def test_second_run_skips_and_overwrite_does_not(run, halving, photos, tmp_path) -> None:
    out = tmp_path / "out"
    run("derain", photos, "-o", out)
    times = {name: (out / name).stat().st_mtime_ns for name in files(out)}
    again = run("derain", photos, "-o", out)
    assert again.exit_code == 0
    assert "skipped 3 (outputs exist" in again.stderr
    assert {name: (out / name).stat().st_mtime_ns for name in files(out)} == times
    assert halving.D == 3
    assert run("derain", photos, "-o", out, "--existing", "overwrite").exit_code == 0
    assert halving.D == 6
    refused = run("derain", photos, "-o", out, "--existing", "error")
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"{out}/a/b/x.jpg: exists already (and 2 more) (use `--existing skip`")
    assert len(refused.stderr.splitlines()) == 1


def test_one_file_to_a_file_a_folder_and_another_format(run, halving, photos, tmp_path) -> None:
    assert run("derain", photos / "img2.png", "-o", tmp_path / "dry.jpg").exit_code == 0
    assert opened(tmp_path / "dry.jpg").format == "JPEG"
    assert run("derain", photos / "img2.png", "-o", tmp_path / "new").exit_code == 0
    assert files(tmp_path / "new") == ["img2.png"]
    assert run("derain", photos, "-o", tmp_path / "tif", "--format", "tif").exit_code == 0
    assert files(tmp_path / "tif") == ["a/b/x.tif", "img10.tif", "img2.tif"]
    clash = run("derain", photos / "img2.png", "-o", tmp_path / "x.jpg", "--format", "png")
    assert (clash.exit_code, clash.stderr) == (2, f"{tmp_path}/x.jpg: the name contradicts the format png\n")


def test_quality(run, halving, photos, tmp_path) -> None:
    for quality in (30, 95):
        run("derain", photos / "a/b/x.jpg", "-o", tmp_path / f"{quality}.jpg", "--quality", quality)
    assert (tmp_path / "30.jpg").stat().st_size < (tmp_path / "95.jpg").stat().st_size
    assert run("derain", photos, "-o", tmp_path, "--quality", 0).exit_code == 2


def test_pipe(run, halving, picture) -> None:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    for extra in ([], ["-o", "-"]):
        result = run("derain", "-", *extra, stdin=stream.getvalue())
        assert result.exit_code == 0
        image = Image.open(io.BytesIO(result.stdout_bytes))
        assert (image.format, image.size) == ("PNG", (64, 48))
    bad = run("derain", "-", stdin=b"no image")
    assert (bad.exit_code, bad.stdout_bytes) == (1, b"")
    assert bad.stderr.startswith("standard input: not an image")
    empty = run("derain", "-", stdin=b"")
    assert empty.exit_code == 1
    assert empty.stderr.startswith("standard input: it is empty (the command before the pipe wrote nothing)\n")


def test_file_to_standard_output_and_pipe_to_file(run, halving, photos, tmp_path) -> None:
    result = run("derain", photos / "img2.png", "-o", "-")
    assert Image.open(io.BytesIO(result.stdout_bytes)).format == "PNG"
    target = tmp_path / "dry.tif"
    assert run("derain", "-", "-o", target, stdin=(photos / "img2.png").read_bytes()).exit_code == 0
    assert opened(target).format == "TIFF"
    folder = run("derain", "-", "-o", tmp_path / "folder", stdin=b"")
    assert folder.exit_code == 2
    assert "standard input has no name" in folder.stderr


def test_json_lines(run, halving, photos, tmp_path) -> None:
    (photos / "zero.png").touch()
    *items, summary = run.events("derain", photos, "-o", tmp_path / "out")
    assert [set(item) for item in items] == [
        set("schema event input output status reason seconds width height keypoints derained rain".split())
    ] * 4
    assert [item["status"] for item in items] == ["ok", "ok", "ok", "failed"]
    assert items[1]["input"] == str(photos / "img2.png")  # before img10
    assert (items[1]["width"], items[1]["height"], items[1]["keypoints"]) == (64, 48, None)
    assert (items[3]["output"], items[3]["reason"]) == (None, "the file is empty")
    assert summary.pop("seconds") >= 0
    assert summary == {
        "schema": 1,
        "event": "summary",
        "ok": 3,
        "skipped": 0,
        "failed": 1,
        "unchanged": 0,
        "stale": 0,
        "finished": True,
        "device": summary["device"],
        "precision": summary["precision"],
        "engine": "torch",
        "weights": "fake",
    }


def test_dry_run_prints_the_plan_and_writes_nothing(run, halving, photos, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(restoration, "Restorer", None)  # never loaded
    out = tmp_path / "out"
    out.mkdir()
    (out / "img2.png").touch()
    (photos / "lost.png").symlink_to("gone")
    result = run("derain", photos, "-o", out, "-n", "--failures", tmp_path / "failed")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{photos}/a/b/x.jpg -> {out}/a/b/x.jpg",
        f"{photos}/img2.png -> {out}/img2.png  (output exists, without a record of its settings)",
        f"{photos}/img10.png -> {out}/img10.png",
        f"{photos}/lost.png -> {out}/lost.png",
    ]
    events = run.events("derain", photos, "-o", out, "-n")
    assert [event["action"] for event in events] == ["write", "skip", "write", "write"]
    assert [event["reason"] for event in events[:2]] == [None, "output exists, without a record of its settings"]
    assert files(tmp_path / "out") == ["img2.png"]
    assert not (tmp_path / "failed").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["derain", "nowhere", "-o", "out"], "nowhere: no such file or folder"),
        (["derain", "photos"], "idsr: where to write is missing (add `-o FOLDER`)"),
        (["derain", "photos", "-o", "photos"], "photos: OUT is the input folder (choose a folder outside it)"),
        (["derain", "photos", "-o", "photos/out"], "photos/out: OUT lies inside the input folder `photos`"),
        (["derain", "photos/img2.png", "-o", "photos/img2.png"], "would replace an input"),
        (["derain", "photos", "-o", "-"], "`-o -` writes one photograph"),
        (["derain", "photos/img2.png", "-o", "-", "--json"], "`--json` and `-o -` both want standard output"),
        (["derain", "-", "photos", "-o", "out"], "stands alone"),
        (["derain", "photos", "-o", "photos/notes.txt"], "photos/notes.txt: OUT is a file"),
        (["derain", "photos", "-o", "photos/notes.txt/x"], "is a file, so no folder can be made there"),
        (["derain", "empty", "-o", "out"], "empty: no photographs found (looked for .avif .bmp"),
        (["derain", "photos", "-o", "out", "--device", "toaster"], "unknown device `toaster`"),
        (["derain", "photos", "-o", "out", "--precision", "fp16", "--device", "cpu"], "float16"),
        (["derain", "photos", "-o", "out", "--tile", "huge"], "neither `auto` nor a number"),
        (["derain", "photos", "-o", "out", "--existing", "maybe"], "--existing"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(run, halving, photos, monkeypatch, args, message) -> None:
    monkeypatch.chdir(photos.parent)
    Path("empty").mkdir()
    before = files(photos.parent)
    result = run(*args)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""
    if "--tile" not in args and "maybe" not in args:  # those two are Typer's own, in a box
        assert len(result.stderr.splitlines()) == 1
    assert files(photos.parent) == before


def test_two_photographs_for_one_output(run, halving, photos, tmp_path) -> None:
    opened(photos / "img2.png").save(photos / "img2.bmp")
    result = run("derain", photos, "-o", tmp_path / "out", "--format", "jpg")
    assert result.exit_code == 2
    assert "img2.jpg: two photographs want this output:" in result.stderr
    assert not (tmp_path / "out").exists()


def test_missing_weights(run, photos, tmp_path) -> None:
    result = run("derain", photos, "-o", tmp_path / "out", "--weights", "nonsense")
    assert result.exit_code == 2
    assert "no weights named `nonsense`" in result.stderr
    assert not (tmp_path / "out").exists()


def test_bad_photographs_do_not_stop_the_good(run, halving, photos, tmp_path) -> None:
    (photos / "empty.jpg").touch()
    (photos / "text.jpg").write_text("not at all a picture")
    (photos / "cut.png").write_bytes((photos / "img2.png").read_bytes()[:900])
    (photos / "cut.jpg").write_bytes((photos / "a/b/x.jpg").read_bytes()[:900])
    (photos / "lost.jpg").symlink_to(photos / "gone.jpg")
    Image.new("1", (20000, 20000)).save(photos / "bomb.png")
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(photos / "two.tif", save_all=True, append_images=frames[1:])
    (photos / "ünï☂.png").write_bytes((photos / "img2.png").read_bytes())
    result = run("derain", photos, "-o", tmp_path / "out")
    assert result.exit_code == 1
    *lines, summary = result.stderr.splitlines()
    told = {line.split(": ", 1)[0].rsplit("/", 1)[-1]: line.split(": ", 1)[1] for line in lines}
    assert sorted(told) == ["bomb.png", "cut.jpg", "cut.png", "empty.jpg", "lost.jpg", "text.jpg", "two.tif"]
    assert told["empty.jpg"] == "the file is empty"
    assert told["text.jpg"] == "not an image, or of a kind that cannot be read"
    assert told["cut.png"].startswith("damaged image: ")
    assert told["cut.jpg"].startswith("damaged image: image file is truncated")
    assert told["lost.jpg"].startswith("no such file")
    assert told["bomb.png"].startswith("too large: 20000x20000 pixels, the limit is 256 million")
    assert told["two.tif"].startswith("holds 2 pictures")
    assert "derained 4, failed 7 (see above)" in summary
    assert files(tmp_path / "out") == ["a/b/x.jpg", "img10.png", "img2.png", "ünï☂.png"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read and write everything")
def test_no_permission(run, halving, photos, tmp_path) -> None:
    (photos / "img2.png").chmod(0)
    (photos / "a").chmod(0)
    try:
        result = run("derain", photos, "-o", tmp_path / "out")
    finally:
        (photos / "a").chmod(0o755)
    assert result.exit_code == 1
    assert f"{photos}/img2.png: permission denied" in result.stderr
    assert f"{photos}/a: permission denied" in result.stderr
    assert files(tmp_path / "out") == ["img10.png"]
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    refused = run("derain", photos, "-o", locked / "out")
    assert (refused.exit_code, refused.stderr) == (2, f"{locked}: permission denied: cannot write there\n")


@pytest.mark.parametrize("jobs", [1, 3])
def test_full_disk_leaves_nothing_half_written(run, halving, photos, tmp_path, monkeypatch, jobs) -> None:
    def fsync(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", fsync)
    result = run("derain", photos, "-o", tmp_path / "out", "-j", jobs)
    assert result.exit_code == 1
    assert f"{photos}/img2.png: no space left on device\n" in result.stderr
    assert files(tmp_path / "out") == []


@pytest.mark.parametrize("jobs", [1, 3])
def test_interrupted(run, halving, photos, tmp_path, monkeypatch, jobs) -> None:
    calls = 0

    def restore(self: object, rgb: np.ndarray, roles: str, before: object = None) -> list[Restored]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return [Restored(rgb / 2, rain_seen=True)]

    monkeypatch.setattr(restoration.Restorer, "restore", restore)
    result = run("derain", photos, "-o", tmp_path / "out", "-j", jobs)
    assert result.exit_code == 130
    assert re.search(r"^derained 1 in [\d.]+ s, interrupted with 2 to go$", result.stderr, re.MULTILINE)
    assert files(tmp_path / "out") == ["a/b/x.jpg"]


def test_out_of_memory_is_reported_and_the_batch_goes_on(run, halving, photos, tmp_path, monkeypatch) -> None:
    from idsr_cli.images import photo as image

    real = image.encode

    def encode(photo: image.Photo, *args: object) -> bytes:
        if photo.format == "JPEG":
            raise MemoryError
        return real(photo, *args)

    monkeypatch.setattr(image, "encode", encode)
    result = run("derain", photos, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert f"{photos}/a/b/x.jpg: out of memory (try a smaller `--tile`" in result.stderr
    assert files(tmp_path / "out") == ["img10.png", "img2.png"]


def test_an_unforeseen_fault_shows_its_traceback_only_on_request(run, halving, photos, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(restoration.Restorer, "restore", lambda *args: 1 / 0)
    plain = run("derain", photos / "img2.png", "-o", tmp_path / "out")
    assert plain.exit_code == 1
    assert plain.stderr.splitlines()[0].endswith(
        "unexpected ZeroDivisionError: division by zero (this is a fault in idsr; `-vv` shows where)"
    )
    assert "Traceback" not in plain.stderr
    assert "Traceback" in run("derain", photos / "img2.png", "-o", tmp_path / "out", "-vv").stderr


def test_quiet_and_verbose(run, halving, photos, tmp_path) -> None:
    assert run("derain", photos, "-o", tmp_path / "1", "-q").stderr == ""
    loud = run("derain", photos, "-o", tmp_path / "2", "-v").stderr.splitlines()
    assert "deraining on" in loud[0]
    assert "weights fake" in loud[0]
    assert loud[2].startswith(f"{photos}/img2.png -> {tmp_path}/2/img2.png  64x48, ")
    (photos / "bad.png").touch()
    assert "bad.png: the file is empty" in run("derain", photos, "-o", tmp_path / "3", "-q").stderr


def test_same_bytes_for_any_number_of_jobs(run, halving, photos, tmp_path) -> None:
    for jobs in (1, 2, 5):
        assert run("derain", photos, "-o", tmp_path / str(jobs), "-j", jobs).exit_code == 0
    for name in files(tmp_path / "1"):
        assert len({(tmp_path / jobs / name).read_bytes() for jobs in "125"}) == 1


def test_grid_orientation_and_grey_are_kept(run, halving, tmp_path, picture) -> None:
    exif = Image.Exif()
    exif[274] = 6
    source, target = tmp_path / "phone.jpg", tmp_path / "out" / "phone.jpg"
    Image.fromarray(picture[:, :, 0]).save(source, exif=exif)
    run("derain", source, "-o", tmp_path / "out")
    image = opened(target)
    assert (image.size, image.mode, image.getexif()[274]) == ((64, 48), "L", 6)
    assert halving.rgb.shape == (64, 48, 3)  # the network saw it upright


@pytest.mark.parametrize("orientation", range(1, 9))
def test_networks_see_photographs_upright_and_the_stored_grid_stays(
    run, halving, tmp_path, picture, orientation
) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(picture).save(tmp_path / "x.png", exif=exif)
    run("derain", tmp_path / "x.png", "-o", tmp_path / "out.png")
    seen = ImageOps.exif_transpose(Image.open(tmp_path / "x.png"))
    np.testing.assert_array_equal(np.round(halving.rgb * 255), np.asarray(seen))
    image = opened(tmp_path / "out.png")
    assert image.getexif()[274] == orientation
    assert np.abs(np.asarray(image) - picture / 2).max() <= 0.5


def test_what_the_format_cannot_hold_is_refused_before_the_networks_run(run, halving, tmp_path, picture) -> None:
    alpha = np.full(picture.shape[:2], 128, np.uint8)
    Image.fromarray(np.dstack([picture, alpha])).save(tmp_path / "x.png")
    result = run("derain", tmp_path / "x.png", "-o", tmp_path / "out", "--format", "jpg")
    assert (result.exit_code, halving.D) == (1, 0)
    assert "x.png: JPEG cannot hold transparency (choose another with `--format png`)" in result.stderr
    assert not (tmp_path / "out" / "x.jpg").exists()


def test_a_dry_photograph_is_the_same_file(run, halving, tmp_path, picture, monkeypatch) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(picture).save(tmp_path / "x.jpg", exif=exif, quality=50)
    monkeypatch.setattr(restoration.Restorer, "restore", lambda self, rgb, roles, before=None: [Restored(rgb, False)])
    run("derain", tmp_path / "x.jpg", "-o", tmp_path / "out.jpg")
    assert (tmp_path / "out.jpg").read_bytes() == (tmp_path / "x.jpg").read_bytes()


def test_what_is_left_as_it_is_is_told(run, halving, photos, tmp_path, monkeypatch) -> None:
    dark = np.asarray(Image.open(photos / "img2.png")).mean() / 255

    def restore(self: object, rgb: np.ndarray, roles: str, before: object = None) -> list[Restored]:
        return [Restored(rgb / 2, True) if abs(rgb.mean() - dark) < 1e-5 else Restored(rgb, False)]

    monkeypatch.setattr(restoration.Restorer, "restore", restore)
    mixed = run("derain", photos, "-o", tmp_path / "out", "-v").stderr.splitlines()
    (wet,) = (line for line in mixed if line.startswith(f"{photos}/img2.png"))
    assert "no rain" not in wet
    assert sum(", no rain seen, left as it is, " in line for line in mixed) == 2
    assert mixed[-1].startswith("derained 1, left 2 as they are (no rain seen) in ")
    one = run("derain", photos / "img10.png", "-o", tmp_path / "one")
    assert one.stderr.startswith("derained 0, left 1 as it is (no rain seen) in ")
    *items, summary = run.events("derain", photos, "-o", tmp_path / "json")
    assert {Path(item["input"]).name: item["derained"] for item in items} == {
        "x.jpg": False,
        "img2.png": True,
        "img10.png": False,
    }
    assert (summary["ok"], summary["unchanged"]) == (3, 2)


@pytest.mark.parametrize("command", [("derain",), ("sift",), ("sift", "--no-derain"), ("rain",)])
def test_several_pictures_in_a_file_are_refused_not_dropped(run, halving, tmp_path, picture, command) -> None:
    image = Image.fromarray(picture)
    image.save(tmp_path / "x.tif", save_all=True, append_images=[image])
    result = run(*command, tmp_path / "x.tif", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "holds 2 pictures, and only single ones are taken (split it first)" in result.stderr


def test_outputs_of_other_settings_are_noticed(run, halving, photos, tmp_path) -> None:
    out = tmp_path / "out"
    run("derain", photos, "-o", out)
    same = run("derain", photos, "-o", out)
    assert "stale" not in same.stderr
    other = run("derain", photos, "-o", out, "--quality", 80)
    assert other.exit_code == 0
    assert other.stderr.splitlines()[0] == (
        "warning: kept outputs that may be stale: 3 made with other settings (quality) "
        "(`--existing overwrite` writes them again)"
    )
    assert "skipped 3 (outputs exist, 3 may be stale, see above)" in other.stderr
    assert run("derain", photos, "-o", out, "--quality", 80, "-q").stderr == ""
    item, *_, summary = run.events("derain", photos, "-o", out, "--quality", 80)
    assert item["reason"] == "output exists, made with other settings (quality)"
    assert summary["stale"] == 3
    run("derain", photos, "-o", out, "--quality", 80, "--existing", "overwrite")
    assert "stale" not in run("derain", photos, "-o", out, "--quality", 80).stderr
    assert halving.D == 6


def test_outputs_of_other_weights_photographs_and_programs_are_noticed(run, halving, photos, tmp_path) -> None:
    import idsr_cli.weights

    out = tmp_path / "out"
    run("derain", photos, "-o", out)
    idsr_cli.weights.find_weights().dprnet.identity = "0" * 64
    assert "3 made with other settings (weights)" in run("derain", photos, "-o", out).stderr
    idsr_cli.weights.find_weights().dprnet.identity = "D" * 64
    opened(photos / "img10.png").save(photos / "img10.png", compress_level=0)  # another photograph of the same name
    (out / "img2.png").write_bytes(b"something else")
    (out / "a/b/x.jpg").unlink()
    result = run("derain", photos, "-o", out)
    assert "1 changed since it was made, 1 made from another photograph" in result.stderr
    assert "derained 1, skipped 2" in result.stderr


def test_list_include_exclude_and_not_recursive(run, halving, photos, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(photos.parent)
    run("derain", "photos", "-o", "1", "--include", "img*", "--include", "x.*", "--exclude", "a")
    assert files(tmp_path / "1") == ["img10.png", "img2.png"]
    run("derain", "photos", "-o", "2", "--no-recursive")
    assert files(tmp_path / "2") == ["img10.png", "img2.png"]
    Path("list.txt").write_text("photos/img2.png\r\n\r\nphotos/a/b/x.jpg\r\n")
    run("derain", "--from-list", "list.txt", "-o", "3")
    assert files(tmp_path / "3") == ["photos/a/b/x.jpg", "photos/img2.png"]
    run("derain", "photos", "--from-list", "list.txt", "-o", "4")
    assert files(tmp_path / "4") == ["a/b/x.jpg", "img2.png"]
    run("derain", "photos", "--from-list", "-", "-o", "5", stdin=b"img2.png\0a/b/x.jpg\0")
    assert files(tmp_path / "5") == ["a/b/x.jpg", "img2.png"]
    none = run("derain", "photos", "-o", "6", "--include", "*.jp")
    assert none.exit_code == 2
    assert "as `--include`, `--exclude`" in none.stderr
    assert run("derain", "--from-list", "nowhere", "-o", "6").stderr == "nowhere: no such file or directory\n"


def test_failures_can_be_tried_again(run, halving, photos, tmp_path) -> None:
    good = (photos / "img2.png").read_bytes()
    (photos / "img2.png").write_bytes(b"broken")
    (photos / "a" / "b" / "new\nline.png").touch()
    (photos / "gone.png").symlink_to("nowhere")
    failed, out = tmp_path / "failed", tmp_path / "out"
    assert run("derain", photos, "-o", out, "--failures", failed).exit_code == 1
    assert failed.read_bytes().split(b"\0") == [
        os.fsencode(photos / name) for name in ("a/b/new\nline.png", "gone.png", "img2.png")
    ] + [b""]
    (photos / "img2.png").write_bytes(good)
    again = run("derain", photos, "-o", out, "--from-list", failed, "--failures", failed)
    assert "derained 1, failed 2" in again.stderr
    assert files(out) == ["a/b/x.jpg", "img10.png", "img2.png"]
    assert run("derain", photos / "img2.png", "-o", out, "--failures", tmp_path / "no" / "x").exit_code == 2


@pytest.mark.parametrize("jobs", [1, 3])
def test_fail_fast(run, halving, photos, tmp_path, jobs) -> None:
    (photos / "a" / "broken.png").touch()
    for i in range(9):
        (photos / f"z{i}.png").write_bytes((photos / "img2.png").read_bytes())
    result = run("derain", photos, "-o", tmp_path / "out", "--fail-fast", "-j", jobs)
    assert result.exit_code == 1
    assert files(tmp_path / "out") == ["a/b/x.jpg"]  # the only one before the broken one
    last = result.stderr.splitlines()[-1]
    assert re.fullmatch(r"derained 1, failed 1 \(see above\) in [\d.]+ s, stopped with 11 to go", last)


def test_pictures_that_are_passed_over_are_counted(run, halving, photos, tmp_path) -> None:
    for name in ("a.gif", "b.GIF", "c.dng", "x.xmp"):
        (photos / name).touch()
    result = run("derain", photos, "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert "derained 3, passed over 3 (2 .gif, 1 .dng; `-v` names them) in" in result.stderr
    result = run("derain", photos, "-o", tmp_path / "out2", "-v")
    assert f"{photos}/c.dng: passed over, since its name is not that of a photograph" in result.stderr
    assert "x.xmp" not in result.stderr
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "a.gif").touch()
    result = run("derain", tmp_path / "only", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "no photographs found" in result.stderr
    assert "passed over 1 .gif" in result.stderr


def test_the_null_device(run, halving, photos) -> None:
    result = run("derain", photos / "img2.png", "-o", os.devnull)
    assert (result.exit_code, "derained 1" in result.stderr) == (0, True), result.stderr
    again = run("sift", photos / "img2.png", "-o", os.devnull)
    assert (again.exit_code, "extracted 1" in again.stderr) == (0, True), again.stderr
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert run("rain", photos, "-o", os.devnull).exit_code == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("name", ["pipe", "pipe.png"])
def test_a_named_pipe_as_output(run, halving, photos, tmp_path, name) -> None:
    pipe, read = tmp_path / name, []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    result = run("derain", photos / "img2.png", "-o", pipe)
    reader.join()
    assert result.exit_code == 0, result.stderr
    assert Image.open(io.BytesIO(read[0])).size == (64, 48)
    assert pipe.is_fifo()


def test_another_name_of_standard_output(run, halving, photos) -> None:
    result = run("derain", photos / "img2.png", "-o", "/dev/stdout")
    assert Image.open(io.BytesIO(result.stdout_bytes)).size == (64, 48)


def test_a_name_that_the_output_volume_refuses(run, halving, photos, tmp_path, monkeypatch) -> None:
    replace = os.replace

    def refuse(source, target):
        if ":" in str(target):
            raise OSError(errno.EINVAL, "Invalid argument")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    (photos / "img2.png").rename(photos / "10:30.png")
    result = run("derain", photos, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert f"{tmp_path}/out/10:30.png: the output volume refuses this name: invalid argument" in result.stderr
    assert "derained 2, failed 1" in result.stderr


@pytest.mark.parametrize("command", ["derain", "sift", "rain"])
def test_several_pictures_on_one_pipe(run, halving, photos, command) -> None:
    data = (photos / "img2.png").read_bytes() + (photos / "a/b/x.jpg").read_bytes()
    result = run(command, "-", stdin=data)
    assert (result.exit_code, result.stdout_bytes) == (1, b"")
    assert "standard input: it holds several pictures, one after the other (name the files" in result.stderr


@pytest.mark.parametrize("command", ["derain", "rain"])
def test_metadata_that_cannot_be_kept_is_said_under_the_summary(run, halving, photos, tmp_path, command) -> None:
    exif = Image.Exif()
    exif[270] = "a garden"
    for name in ("img2.png", "img10.png"):
        Image.open(photos / name).save(photos / name, exif=exif)
    folder = tmp_path / "bmp"
    one = ("--format", "bmp") if command == "derain" else ()
    if command == "rain":
        for name in ("img2.png", "img10.png"):
            result = run("rain", photos / name, "-o", folder / f"{name}.bmp", "-v")
            assert "not kept in the outputs: EXIF of 1 (docs/photographs.md)" in result.stderr
        return
    result = run(command, photos, "-o", folder, *one)
    assert result.exit_code == 0
    assert result.stderr.splitlines()[-1].startswith("not kept in the outputs: EXIF of 2")
    again = run(command, photos, "-o", folder, *one, "-v", "--existing", "overwrite")
    assert re.search(r"img2\.png -> .*64x48, without EXIF(,| and)", again.stderr)
    items = run.events(command, photos, "-o", tmp_path / "json", *one)
    assert [item.get("dropped") for item in items[:-1]].count(None) in (0, 1)
    assert items[-1]["dropped"]["EXIF"] == 2
    kept = run(command, photos, "-o", tmp_path / "same")
    assert "not kept" not in kept.stderr
