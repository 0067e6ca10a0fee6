"""Clips on the command line, with stand-in networks: every frame through, told and counted, whole or resumed."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

av = pytest.importorskip("av")

from idsr_cli.clips.reader import Clip  # noqa: E402
from idsr_cli.errors import extra_hint  # noqa: E402
from idsr_cli.formats.npz import read_npz  # noqa: E402
from idsr_cli.restoration import Restored, Restorer  # noqa: E402


def numbers(path: Path, number) -> list[int]:
    with av.open(str(path)) as container:
        return [number(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name[0] != ".")


def test_clip_to_clip(run, halving, clips, tmp_path) -> None:
    source = clips.make("a.mp4", 12, sound=0.4, rotation=90)
    out = tmp_path / "dry.mp4"
    result = run("derain", source, "-o", out, "-v")
    assert (result.exit_code, result.stdout, halving.D) == (0, "", 12)
    assert f"{source} -> {out}  64x48, 12 frames, " in result.stderr
    assert halving.rgb.shape == (64, 48, 3)  # the network saw it upright
    assert numbers(out, clips.number) == list(range(12))
    with av.open(str(source)) as before, av.open(str(out)) as after:
        assert [stream.type for stream in after.streams] == ["video", "audio"]
        for wet, dry in zip(before.decode(video=0), after.decode(video=0), strict=True):
            assert (wet.time, wet.rotation) == (dry.time, dry.rotation)
            bright, dim = (frame.to_ndarray(format="gray").astype(float) for frame in (wet, dry))
            assert dim.mean() == pytest.approx(bright.mean() / 2, abs=12)


def test_clips_and_photographs_in_one_run(run, halving, clips, photos, tmp_path) -> None:
    clip = clips.make("a.mov", 3)
    *items, summary = run.events("derain", photos, clip, "-o", tmp_path / "out")
    assert files(tmp_path / "out") == ["a.mov", "a/b/x.jpg", "img10.png", "img2.png"]
    assert (summary["ok"], summary["failed"]) == (4, 0)
    assert {**items[3], "seconds": 0} == {
        "schema": 1, "event": "item", "input": str(clip), "output": str(tmp_path / "out" / "a.mov"), "status": "ok",
        "reason": None, "seconds": 0, "width": 64, "height": 48, "keypoints": None, "frames": 3, "lost": 0,
        "derained": True, "rain": None,
    }  # fmt: skip
    assert "frames" not in items[0]


@pytest.mark.parametrize("command", ["derain", "sift"])
def test_a_clip_is_derained_if_one_of_its_frames_is(run, halving, clips, tmp_path, monkeypatch, command) -> None:
    clip = clips.make("a.mp4", 3)
    seen = []

    def restore(self: object, rgb: np.ndarray, roles: str, before: object = None) -> list[Restored]:
        seen.append(rgb)
        return [Restored(rgb / 2, True) if len(seen) == wet else Restored(rgb, False) for role in roles]

    monkeypatch.setattr(Restorer, "restore", restore)
    wet = 2
    item, summary = run.events(command, clip, "-o", tmp_path / "wet")
    assert (item["derained"], summary["unchanged"]) == (True, 0)
    wet = -1
    result = run(command, clip, "-o", tmp_path / "dry", "-v")
    assert ", no rain seen, " in result.stderr
    assert {"derain": "left 1 as it is (no rain seen)", "sift": ", 1 without rain seen in "}[command] in result.stderr


@pytest.mark.parametrize("jobs", [1, 4])
def test_each_frame_follows_the_one_before(run, halving, clips, photos, tmp_path, jobs) -> None:
    """A frame is looked at as the one before, in the order of the clip; photographs and first frames on their own."""
    halving.look = "contrasted"
    named = clips.make("a.mp4", 3), photos / "img2.png", clips.make("b.mp4", 2)
    assert run("derain", *named, "-o", tmp_path / "out", "-j", jobs).exit_code == 0
    assert halving.before == [None, "contrasted", "contrasted", None, None, "contrasted"]
    halving.before.clear()
    run("evaluate", "--pairs-of-frames", named[0], "--splice", "DG")
    assert halving.before == [None, None, *["contrasted"] * 4]  # of both networks


def test_clips_in_folders_are_passed_over(run, halving, clips, photos, tmp_path) -> None:
    clips.make("a.mp4", 1).rename(photos / "a.mp4")
    assert run("derain", photos, "-o", tmp_path / "out").exit_code == 0
    assert "a.mp4" not in files(tmp_path / "out")
    alone = run("derain", clips.make("b.mp4", 1).parent, "-o", tmp_path / "other")
    assert alone.exit_code == 2
    assert f"no photographs found (video clips must be named: {clips.folder}/*.mp4)" in alone.stderr


def test_second_run_skips_and_other_settings_are_noticed(run, halving, clips, tmp_path) -> None:
    source = clips.make("a.mp4", 3)
    run("derain", source, "-o", tmp_path / "out")
    assert "skipped 1 (outputs exist;" in run("derain", source, "-o", tmp_path / "out").stderr
    assert "made with other settings (crf)" in run("derain", source, "-o", tmp_path / "out", "--crf", 20).stderr
    assert halving.D == 3


def test_any_number_of_jobs_gives_the_same_bytes(run, halving, clips, tmp_path) -> None:
    source = clips.make("a.mp4", 30, size=(176, 144))
    made = set()
    for jobs in (1, 2, 4, 4):
        run("derain", source, "-o", tmp_path / "b.mp4", "-j", jobs, "--existing", "overwrite")
        made.add((tmp_path / "b.mp4").read_bytes())
    assert len(made) == 1


def test_a_kind_that_is_only_read_becomes_matroska(run, halving, clips, tmp_path) -> None:
    source = clips.make("a.avi", 4, codec="mpeg4", unit=Fraction(1, 25))
    assert run("derain", source, "-o", tmp_path / "out").exit_code == 0
    assert numbers(tmp_path / "out" / "a.avi.mkv", clips.number) == [0, 1, 2, 3]


def test_notes_say_what_is_left_out(run, halving, clips, tmp_path) -> None:
    source = clips.make("a.mp4", 3, sound=0.2)
    assert "not copied into webm: audio (aac)" in run("derain", source, "-o", tmp_path / "b.webm").stderr


def test_joined_recordings(run, halving, clips, tmp_path) -> None:
    part = clips.make("a.ts", 15, unit=Fraction(1, 25))
    source = clips.folder / "both.ts"
    source.write_bytes(part.read_bytes() * 2)
    out = tmp_path / "out"
    assert run("derain", source, "-o", out, "--format", "png", "--fps", 5).exit_code == 0
    index = json.loads((out / "both.ts" / "frames.json").read_text())
    assert [frame["index"] for frame in index["frames"]] == [0, 5, 10, 15, 20, 25]
    assert [frame["time"] - index["frames"][0]["time"] for frame in index["frames"]] == pytest.approx(
        [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    )
    run("derain", source, "-o", out, "--format", "png", "--every", 7, "--existing", "overwrite")
    assert [name for name in files(out) if name.endswith("png")] == [
        f"both.ts/0000{n}.png" for n in ("00", "07", 14, 21, 28)
    ]
    item, _ = run.events("derain", source, "-o", tmp_path / "b.mp4")
    assert (item["frames"], item["lost"]) == (30, 0)
    assert numbers(tmp_path / "b.mp4", clips.number) == [*range(15)] * 2


def test_whole_clips_whose_header_counts_more_frames(run, halving, clips, tmp_path) -> None:
    source = clips.make("a.avi", 5, times=[0, 1, 5, 6, 9], unit=Fraction(1, 25), codec="mpeg4")
    result = run("derain", source, "-o", tmp_path / "b.mkv", "-v")
    assert (result.exit_code, "5 frames" in result.stderr, "lost" in result.stderr) == (0, True, False)


def test_sound_that_does_not_fit_is_named_before_the_work(run, halving, clips, tmp_path, monkeypatch) -> None:
    source = clips.make("a.mkv", 3, sound=0.2, sound_codec="pcm_s16le")

    def restore(self: object, rgb: np.ndarray, letters: str, before: object = None) -> list[Restored]:
        raise MemoryError

    result = run("derain", source, "-o", tmp_path / "b.mp4")
    assert (result.exit_code, "not copied into mp4: audio (pcm_s16le)" in result.stderr) == (0, True)
    monkeypatch.setattr(Restorer, "restore", restore)
    result = run("derain", source, "-o", tmp_path / "c.mp4")
    assert (result.exit_code, "not copied into mp4: audio (pcm_s16le)" in result.stderr) == (1, True)


def test_derained_frames_as_pictures(run, halving, clips, tmp_path) -> None:
    source = clips.make("a.mp4", 8)
    deep = clips.make("b.mp4", 2, codec="libx265", pixels="yuv420p10le")
    out = tmp_path / "out"
    assert run("derain", source, deep, "-o", out, "--format", "png", "--every", 3).exit_code == 0
    assert files(out) == [
        "a.mp4/000000.png", "a.mp4/000003.png", "a.mp4/000006.png", "a.mp4/frames.json",
        "b.mp4/000000.png", "b.mp4/frames.json",
    ]  # fmt: skip
    pictures = [Image.open(out / "a.mp4" / f"00000{n}.png") for n in (0, 3, 6)]
    assert [clips.number(np.asarray(picture)) for picture in pictures] == [0, 3, 6]
    assert (out / "b.mp4" / "000000.png").read_bytes()[24] == 16  # bits per channel
    index = json.loads((out / "a.mp4" / "frames.json").read_text())
    assert index["frames"] == [
        {"file": f"00000{n}.png", "index": n, "time": round(n * 1001 / 30000, 6)} for n in (0, 3, 6)
    ]
    assert (index["rate"], index["lost"], index["width"], index["height"]) == ("30000/1001", 0, 64, 48)
    # Another choice takes the place of the first, and leaves nothing of it.
    run("derain", source, "-o", out, "--format", "png", "--fps", 15, "--existing", "overwrite")
    assert [name for name in files(out) if name.startswith("a.mp4/0")] == [f"a.mp4/00000{n}.png" for n in (0, 2, 4, 6)]


def test_damaged_frames_are_told_counted_and_no_reason_to_stop(run, halving, clips, tmp_path) -> None:
    source = clips.damage(clips.make("a.mp4", 24, options={"g": "6"}), 8, 9)
    result = run("derain", source, "-o", tmp_path / "b.mp4")
    assert result.exit_code == 1
    assert f"{source}: 2 frames are lost: damaged data near 0.27 s (and 1 more)" in result.stderr
    assert "derained 1, lost 2 frames (see above)" in result.stderr
    assert numbers(tmp_path / "b.mp4", clips.number) == [number for number in range(24) if number not in (8, 9)]
    item, _ = run.events("derain", source, "-o", tmp_path / "c.mp4")
    assert (item["status"], item["frames"], item["lost"]) == ("ok", 22, 2)


def test_what_is_no_clip_fails_alone(run, halving, clips, tmp_path) -> None:
    (clips.folder / "empty.mp4").touch()
    (clips.folder / "text.mp4").write_text("no clip")
    good = clips.make("good.mp4", 2)
    out = tmp_path / "out"
    result = run("derain", clips.folder / "empty.mp4", clips.folder / "text.mp4", good, "-o", out)
    assert result.exit_code == 1
    assert f"{clips.folder}/empty.mp4: the file is empty" in result.stderr
    assert f"{clips.folder}/text.mp4: not a video clip, or damaged" in result.stderr
    assert files(out) == ["good.mp4"]


def test_a_network_that_fails_drops_the_clip(run, halving, clips, tmp_path, monkeypatch) -> None:
    count = iter(range(100))

    def restore(self, rgb, roles, before=None):
        if next(count) == 5:
            raise MemoryError
        return [Restored(rgb, rain_seen=False)]

    monkeypatch.setattr(Restorer, "restore", restore)
    source = clips.make("a.mp4")
    result = run("derain", source, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert f"{source}: out of memory" in result.stderr
    assert files(tmp_path / "out") == []
    # Of frames to files, the others are kept.
    result = run("derain", clips.make("b.mp4", 3), "-o", tmp_path / "out", "--format", "png", "-v")
    count = iter(range(4, 100))
    result = run("derain", source, "-o", tmp_path / "out", "--format", "png", "-j", 1)
    assert result.exit_code == 1
    assert f"{source}, frame 000001: out of memory" in result.stderr
    assert len([name for name in files(tmp_path / "out") if name.startswith("a.mp4/0")]) == 9


def test_a_full_disk_ends_the_clip_and_leaves_it_unfinished(run, halving, clips, tmp_path, monkeypatch) -> None:
    from idsr_cli.cli import batch

    source, out, write = clips.make("a.mp4", 20), tmp_path / "out", batch.write_output

    def full(target, data):
        if target.stem > "000003":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(target, data)

    monkeypatch.setattr(batch, "write_output", full)
    result = run("sift", source, "-o", out, "--no-derain")
    assert result.exit_code == 1
    assert f"{source}: no space left on device; 4 frames are there (the same command goes on from there)" in (
        result.stderr
    )
    assert files(out) == [f"a.mp4/00000{n}.npz" for n in range(4)]
    monkeypatch.setattr(batch, "write_output", write)
    before = {name: (out / name).stat().st_mtime_ns for name in files(out)}
    assert run("sift", source, "-o", out, "--no-derain").exit_code == 0
    assert len(files(out)) == 21
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "b.png"], "b.png: a clip is written as a clip or as a folder of files (name a folder or one of .mp4"),
        (["-o", "-"], "a clip cannot go to standard output"),
        (["-o", "out", "--every", "2", "--fps", "2"], "`--every` and `--fps` exclude each other"),
        (
            ["-o", "b.avi"],
            "b.avi: cannot write a file of kind .avi (choose from .m4v .mkv .mov .mp4 .webm; `b.avi/` is",
        ),
        (["-o", "b.mp4", "--format", "png"], "b.mp4: cannot write a file of kind .mp4 (`b.mp4/` is a folder)"),
    ],
)
def test_mistakes_are_found_before_the_work(run, halving, clips, tmp_path, monkeypatch, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    source = clips.make("a.mp4", 1)
    result = run("derain", source, *arguments)
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr
    assert not any(Path(name).exists() for name in arguments)
    assert run("derain", clips.folder, "-o", "x.mp4").exit_code == 2


def test_a_photograph_is_no_clip(run, halving, photos, tmp_path) -> None:
    result = run("derain", photos / "img2.png", "-o", tmp_path / "b.mp4")
    assert (result.exit_code, "a photograph cannot be written as a clip" in result.stderr) == (2, True)


def test_without_pyav(run, halving, clips, tmp_path, monkeypatch) -> None:
    source = clips.make("a.mp4", 1)
    monkeypatch.setitem(sys.modules, "av", None)
    result = run("derain", source, "-o", tmp_path / "b.mp4")
    assert (result.exit_code, result.stderr) == (2, f"idsr: video clips need PyAV ({extra_hint('video')})\n")


@pytest.mark.parametrize(("rotation", "orientation"), [(0, 1), (90, 8), (180, 3), (270, 6)])
def test_rotation_of_a_clip_becomes_the_orientation_of_its_pictures(
    run, halving, clips, tmp_path, rotation, orientation
) -> None:
    source = clips.make("a.mp4", 1, rotation=rotation)
    run("derain", source, "-o", tmp_path / "out", "--format", "png")
    with av.open(str(source)) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(float)
    image = Image.open(tmp_path / "out" / "a.mp4" / "000000.png")
    assert image.getexif().get(274, 1) == orientation
    # A player turns counter-clockwise.
    assert np.abs(halving.rgb * 255 - np.rot90(stored, rotation // 90)).mean() < 4
    assert np.abs(np.asarray(image) - stored / 2).mean() < 3


# --- sift ------------------------------------------------------------------------------------------------------------


def test_options_of_clips_are_no_settings_of_photographs(run, halving, clips, photos, tmp_path) -> None:
    clip, photo = clips.make("a.mkv", 2, codec="ffv1", pixels="yuv444p"), photos / "img2.png"
    for command in ("derain", "sift"):
        out = tmp_path / command
        run(command, clip, photo, "-o", out)
        assert "stale" not in run(command, photo, "-o", out).stderr
        assert (
            "may be stale: 1 made with other settings (every)"
            in run(command, clip, photo, "-o", out, "--every", 2).stderr
        )


def test_keypoints_of_every_frame(run, halving, clips, tmp_path) -> None:
    source = clips.make("a.mp4", 6, rotation=90)
    result = run("sift", source, "-o", tmp_path / "out", "-v")
    assert (result.exit_code, halving.D, halving.G) == (0, 6, 6)
    assert "64x48, 6 frames, " in result.stderr
    assert files(tmp_path / "out") == [*(f"a.mp4/00000{n}.npz" for n in range(6)), "a.mp4/frames.json"]
    for number in range(6):
        keypoints, meta = read_npz(tmp_path / "out" / "a.mp4" / f"00000{number}.npz")
        assert keypoints.image_size == (64, 48)  # the grid as stored
        assert meta["frame"] == {"clip": "a.mp4", "index": number, "time": pytest.approx(number * 1001 / 30000)}
    item, summary = run.events("sift", source, "-o", tmp_path / "other", "--no-derain")
    found = [len(read_npz(path)[0]) for path in sorted((tmp_path / "other").rglob("*.npz"))]
    assert (item["frames"], item["lost"], item["keypoints"], summary["ok"]) == (6, 0, sum(found), 1)
    assert "skipped 1" in run("sift", source, "-o", tmp_path / "out").stderr


def test_frame_and_photograph_give_the_same_keypoints(run, clips, tmp_path) -> None:
    source = clips.make("a.mkv", 2, codec="ffv1", pixels="yuv444p", size=(160, 120))
    with Clip(source) as clip:
        for number, frame in enumerate(clip.frames()):
            Image.fromarray((frame.rgb() * 255 + 0.5).astype(np.uint8)).save(tmp_path / f"{number}.png")
    run("sift", source, tmp_path / "1.png", "-o", tmp_path / "out", "--no-derain")
    frame, photo = (read_npz(tmp_path / "out" / name)[0] for name in ("a.mkv/000001.npz", "1.png.npz"))
    assert len(photo) > 5
    distances = np.linalg.norm(frame.xy[:, None] - photo.xy[None], axis=2).min(0)
    assert np.mean(distances < 0.1) > 0.9  # the picture is rounded to 8 bits


@pytest.mark.parametrize("format", ["colmap", "lowe", "opencv"])
def test_frames_in_any_format(run, halving, clips, tmp_path, format) -> None:
    assert run("sift", clips.make("a.mp4", 3), "-o", tmp_path, "--format", format, "--every", 2).exit_code == 0
    first, second, index = files(tmp_path / "a.mp4")
    assert (first[:6], second[:6], index) == ("000000", "000002", f"frames{Path(first).suffix}.json")


def test_one_mask_for_a_clip_and_pictures_of_its_keypoints(run, halving, clips, tmp_path) -> None:
    source = clips.make("a.mp4", 3)
    mask = np.zeros((48, 64), np.uint8)
    mask[:, 32:] = 255
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "masks" / "a.mp4.png")
    arguments = ["sift", source, "-o", tmp_path / "out", "--mask", tmp_path / "masks", "--draw", tmp_path / "drawn"]
    assert run(*arguments).exit_code == 0
    for path in (tmp_path / "out").rglob("*.npz"):
        assert (read_npz(path)[0].xy[:, 0] > 31).all()
    assert files(tmp_path / "drawn") == [f"a.mp4/00000{n}.png" for n in range(3)]
    assert "skipped 1" in run(*arguments).stderr


def test_a_clip_needs_a_folder(run, halving, clips, tmp_path) -> None:
    result = run("sift", clips.make("a.mp4", 1), "-o", tmp_path / "b.npz")
    assert (result.exit_code, "a clip is written as a clip or as a folder of files" in result.stderr) == (2, True)
    result = run("sift", clips.folder / "a.mp4", "-o", tmp_path / "a.db", "--format", "colmap-db")
    assert (result.exit_code, "`--format colmap-db` does not take video clips" in result.stderr) == (2, True)


def test_numbered_pictures_are_a_folder_in_order(run, halving, clips, tmp_path) -> None:
    (tmp_path / "frames").mkdir()
    for number in (10, 9, 1):
        Image.fromarray(clips.picture(number)).save(tmp_path / "frames" / f"f{number}.png")
    *items, _ = run.events("sift", tmp_path / "frames", "-o", tmp_path / "out")
    assert [Path(item["input"]).name for item in items] == ["f1.png", "f9.png", "f10.png"]


# --- processes -------------------------------------------------------------------------------------------------------

SLOW = """
import os, time
from types import SimpleNamespace
import idsr_cli.weights
from idsr_cli import restoration

class Restorer(restoration.Restorer):
    device, precision, engine = SimpleNamespace(type="cpu"), "fp32", "torch"
    _player, _networks = {"D": "D", "G": "G"}, {}
    def __init__(self, *args): pass
    def restore(self, rgb, roles, before=None):
        time.sleep(float(os.environ["SECONDS_EACH"]))
        return [restoration.Restored(rgb * 1.0, rain_seen=True) for role in roles]

one = SimpleNamespace(identity="f", sha256="f")
pair = SimpleNamespace(name="x", dprnet=one, ggirnet=one, splice="DD", sha256="f", remarks=[])
idsr_cli.weights.find_weights = lambda spec=None: pair
restoration.Restorer = Restorer
from idsr_cli.__main__ import main
main()
"""
COMMAND = [sys.executable, "-W", "error", "-c", SLOW]


def interrupted(arguments: list[object], seen) -> tuple[int, str]:
    """Exit code and messages of a run that gets Ctrl-C as soon as `seen()`."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stderr=subprocess.PIPE, text=True, env={**os.environ, "SECONDS_EACH": "0.1"}
    )
    deadline = time.monotonic() + 30
    while not seen() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert "Traceback" not in err
    return process.returncode, err


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_drops_the_clip(clips, tmp_path) -> None:
    source, out = clips.make("a.mp4", 60), tmp_path / "out"
    code, err = interrupted(["derain", source, "-o", out], lambda: list(out.glob(".idsr-*.part")))
    assert code == 130
    assert f"{source}: not finished, so no clip is written" in err
    assert re.search(r"in [\d.]+ s, interrupted with 1 to go\n", err)
    assert list(out.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_after_ctrl_c_frames_go_on(clips, tmp_path) -> None:
    source, out = clips.make("a.mp4", 30), tmp_path / "out"
    command = ["derain", source, "-o", out, "--format", "png"]
    code, err = interrupted(command, lambda: len(list(out.rglob("*.png"))) > 3)
    assert code == 130
    there = {path.name: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert f"{source}: {len(there)} frames are there; the same command goes on from them" in err
    assert 3 < len(there) < 30
    environment = {**os.environ, "SECONDS_EACH": "0"}
    done = subprocess.run([*COMMAND, *map(str, command)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert files(out) == [*(f"a.mp4/{number:06d}.png" for number in range(30)), "a.mp4/frames.json"]
    assert sorted(p.name for p in (out / "a.mp4").iterdir() if p.name.startswith(".")) == []
    assert {name: (out / "a.mp4" / name).stat().st_mtime_ns for name in there} == there
    # With other settings nothing is kept.
    (out / "a.mp4" / "frames.json").rename(out / "a.mp4" / ".idsr-unfinished")
    again = [*COMMAND, *map(str, command), "--quality", "50"]
    assert subprocess.run(again, env=environment).returncode == 0
    assert all((out / "a.mp4" / name).stat().st_mtime_ns != stamp for name, stamp in there.items())
