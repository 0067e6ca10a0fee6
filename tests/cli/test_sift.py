"""`idsr sift` with stand-in networks and the real SIFT."""

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from idsr_cli import __version__
from idsr_cli.formats import FORMATS
from idsr_cli.formats.npz import read_npz
from idsr_cli.restoration import Restored, Restorer


def files(folder: Path) -> list[str]:
    return sorted(
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != ".idsr.jsonl"
    )


def test_folder(run, halving, photos, tmp_path) -> None:
    out = tmp_path / "out"
    result = run("sift", photos, "-o", out)
    assert result.exit_code == 0
    assert files(out) == ["a/b/x.jpg.npz", "img10.png.npz", "img2.png.npz"]
    assert (halving.D, halving.G) == (3, 3)
    keypoints, meta = read_npz(out / "img2.png.npz")
    assert len(keypoints) > 0
    assert keypoints.image_size == (64, 48)
    assert (meta["tool"], meta["version"], meta["splice"]) == ("idsr", __version__, "DG")
    assert meta["weights"] == {"name": "fake", "sha256": "f" * 64}
    assert meta["sift"]["contrast_threshold"] == 0.04
    assert "skipped 3" in run("sift", photos, "-o", out).stderr


def test_keypoints_are_on_the_stored_grid_whatever_the_orientation(run, halving, tmp_path, picture) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(picture).save(tmp_path / "side.png", exif=exif)
    Image.fromarray(picture).save(tmp_path / "up.png")
    found = []
    for name in ("side", "up"):
        run("sift", tmp_path / f"{name}.png", "-o", tmp_path)
        found.append(read_npz(tmp_path / f"{name}.png.npz")[0])
    assert len(found[0]) > 0
    np.testing.assert_array_equal(found[0].xy, found[1].xy)
    np.testing.assert_array_equal(found[0].descriptors, found[1].descriptors)


def test_what_transparency_hides_has_no_keypoints(run, halving, tmp_path, picture) -> None:
    hidden = np.dstack([picture, np.zeros(picture.shape[:2], np.uint8)])
    hidden[:, 40:] = (90, 90, 90, 255)
    Image.fromarray(hidden).save(tmp_path / "x.png")
    for name, options in (("plain", ["--no-derain"]), ("restored", [])):
        assert run("sift", tmp_path / "x.png", "-o", tmp_path / name, *options).exit_code == 0
        assert len(read_npz(tmp_path / name / "x.png.npz")[0]) == 0
    (event,) = run.events("match", tmp_path / "x.png", tmp_path / "x.png", "--derain", "none")
    assert event["keypoints"] == [0, 0]


def test_plain_sift_needs_no_weights(run, photos, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("IDSR_WEIGHTS", "nonsense")
    result = run("sift", photos / "img2.png", "-o", tmp_path / "out", "--no-derain")
    assert result.exit_code == 0, result.stderr
    _, meta = read_npz(tmp_path / "out" / "img2.png.npz")
    assert meta["weights"] is None


@pytest.mark.parametrize(("splice", "calls"), [("DG", (1, 1)), ("DD", (1, 0)), ("GG", (0, 1))])
def test_splice_runs_only_the_networks_it_names(run, halving, photos, tmp_path, splice, calls) -> None:
    assert run("sift", photos / "img2.png", "-o", tmp_path / "out", "--splice", splice).exit_code == 0
    assert calls == (halving.D, halving.G)
    assert read_npz(tmp_path / "out" / "img2.png.npz")[1]["splice"] == splice


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["photos/img2.png", "-o", "k.txt"],
            "cannot write a file of kind .txt (`--format colmap` writes it; `k.txt/` is",
        ),
        (["photos/img2.png", "-o", "k.h5"], "cannot write a file of kind .h5 (`--format hloc` writes it; `k.h5/` is"),
        (["photos", "-o", "k.h5"], "the input is a folder (`--format hloc` writes it; `k.h5/` is a folder)"),
        (["photos", "-o", "k.txt"], "the input is a folder (name a folder; `k.txt/` is a folder)"),
        (
            ["photos/img2.png", "-o", "k.csv"],
            "cannot write a file of kind .csv (choose from .npz; `k.csv/` is a folder)",
        ),
        (["photos", "-o", "k.txt", "--format", "hloc"], "no file of kind .txt (choose from .h5 .hdf5; `k.txt/` is"),
    ],
)
def test_names_of_other_files_are_no_folders(run, photos, tmp_path, monkeypatch, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    if "hloc" in arguments:
        pytest.importorskip("h5py")
    result = run("sift", *arguments, "--no-derain")
    assert (result.exit_code, message in result.stderr, len(result.stderr.splitlines())) == (2, True, 1), result.stderr
    assert not (tmp_path / arguments[2]).exists()


def test_photographs_in_which_no_network_sees_rain_are_counted(run, halving, photos, tmp_path, monkeypatch) -> None:
    def restore(self: object, rgb: np.ndarray, roles: str, before: object = None) -> list[Restored]:
        wet = abs(rgb.mean() - first) < 1e-5
        return [Restored(rgb, rain_seen=False), Restored(rgb / 2 if wet else rgb, rain_seen=wet)]

    first = float("nan")
    monkeypatch.setattr(Restorer, "restore", restore)
    dry = run("sift", photos, "-o", tmp_path / "dry", "-v").stderr.splitlines()
    assert re.fullmatch(r"extracted 3 \(\d+ keypoints\), 3 without rain seen in [\d.]+ s", dry[-1])
    assert sum("keypoints, no rain seen, " in line for line in dry) == 3
    first = (np.asarray(Image.open(photos / "img2.png")).astype(np.float32) / 255).mean()
    *items, summary = run.events("sift", photos, "-o", tmp_path / "mixed")
    assert [item["derained"] for item in items if item["input"].endswith("img2.png")] == [True]
    assert summary["unchanged"] == 2
    # Without networks nobody has looked.
    *items, summary = run.events("sift", photos, "-o", tmp_path / "plain", "--no-derain")
    assert ({item["derained"] for item in items}, summary["unchanged"]) == ({None}, 0)


def test_splice_detects_on_one_and_describes_on_the_other(run, halving, photos, tmp_path) -> None:
    found = {}
    for splice in ("DG", "DD", "GG"):
        run("sift", photos / "img2.png", "-o", tmp_path / splice, "--splice", splice)
        found[splice] = read_npz(tmp_path / splice / "img2.png.npz")[0]
    # The stand-ins differ in brightness alone: a quarter finds fewer keypoints than a half, and describes them alike.
    assert len(found["GG"]) < len(found["DD"]) == len(found["DG"])
    np.testing.assert_array_equal(found["DG"].xy, found["DD"].xy)


@pytest.mark.parametrize("option", ["splice=DG", "weights=base", "precision=fp32", "engine=torch", "tile=64"])
def test_options_of_networks_that_do_not_run_are_refused(run, photos, tmp_path, option) -> None:
    name, value = option.split("=")
    result = run("sift", photos, "-o", tmp_path / "out", "--no-derain", f"--{name}", value)
    assert (result.exit_code, result.stderr) == (2, f"idsr: `--{name}` has no effect with `--no-derain`\n")
    assert not (tmp_path / "out").exists()


def test_colmap_text_and_max_keypoints(run, halving, photos, tmp_path) -> None:
    out = tmp_path / "out"
    assert run("sift", photos, "-o", out, "--format", "colmap", "--max-keypoints", 7).exit_code == 0
    assert files(out) == ["a/b/x.jpg.txt", "img10.png.txt", "img2.png.txt"]
    lines = (out / "img2.png.txt").read_text().splitlines()
    assert lines[0] == "7 128"
    assert [len(line.split()) for line in lines[1:]] == [132] * 7


def test_pipes(run, halving, photos, tmp_path) -> None:
    data = (photos / "img2.png").read_bytes()
    text = run("sift", "-", "--format", "colmap", stdin=data)
    assert text.stdout.splitlines()[0].endswith(" 128")
    binary = run("sift", "-", "-o", "-", stdin=data)
    assert np.load(io.BytesIO(binary.stdout_bytes))["xy"].shape[1] == 2
    assert run("sift", photos / "img2.png", "-o", tmp_path / "one.npz").exit_code == 0
    assert len(read_npz(tmp_path / "one.npz")[0]) > 0


def test_outputs_beside_the_photographs(run, halving, photos) -> None:
    assert run("sift", photos, "-o", photos, "--format", "colmap").exit_code == 0
    assert (photos / "img2.png.txt").exists()
    assert "skipped 3" in run("sift", photos, "-o", photos, "--format", "colmap").stderr


def test_pictures(run, halving, photos, tmp_path) -> None:
    out, pictures = tmp_path / "out", tmp_path / "pictures"
    run("sift", photos, "-o", out)
    assert run("sift", photos, "-o", out, "--draw", pictures).exit_code == 0  # keypoints are there, pictures are not
    assert files(pictures) == ["a/b/x.jpg.png", "img10.png.png", "img2.png.png"]
    image = Image.open(io.BytesIO((pictures / "img2.png.png").read_bytes()))
    assert (image.mode, image.width % 64, image.height % 48) == ("RGB", 0, 0)
    assert "skipped 3" in run("sift", photos, "-o", out, "--draw", pictures).stderr
    inside = run("sift", photos, "-o", out, "--draw", photos / "pictures")
    assert inside.exit_code == 2
    assert "lies inside the input folder" in inside.stderr


def test_flat_and_tiny_photographs_give_empty_files(run, halving, tmp_path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (40, 30), "grey").save(tmp_path / "in" / "flat.png")
    Image.new("L", (1, 1)).save(tmp_path / "in" / "tiny.png")
    result = run("sift", tmp_path / "in", "-o", tmp_path / "out", "--draw", tmp_path / "pictures")
    assert result.exit_code == 0
    assert "extracted 2 (no keypoints) in" in result.stderr
    for name in ("flat", "tiny"):
        assert len(read_npz(tmp_path / "out" / f"{name}.png.npz")[0]) == 0


def test_json_tells_the_number_of_keypoints(run, halving, photos, tmp_path) -> None:
    *items, summary = run.events("sift", photos, "-o", tmp_path / "out")
    for item in items:
        keypoints, _ = read_npz(item["output"])
        assert item["keypoints"] == len(keypoints)
    assert (summary["ok"], summary["weights"]) == (3, "fake")


def test_same_bytes_for_any_number_of_jobs(run, halving, photos, tmp_path) -> None:
    for jobs in (1, 2, 5):
        run("sift", photos, "-o", tmp_path / str(jobs), "-j", jobs)
    for name in files(tmp_path / "1"):
        assert len({(tmp_path / jobs / name).read_bytes() for jobs in "125"}) == 1


def test_bad_photograph(run, halving, photos, tmp_path) -> None:
    (photos / "zero.jpg").touch()
    result = run("sift", photos, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == f"{photos}/zero.jpg: the file is empty"
    assert files(tmp_path / "out") == ["a/b/x.jpg.npz", "img10.png.npz", "img2.png.npz"]


# --- formats and descriptors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "suffix", "start"),
    [
        ("opencv", ".yml", "%YAML"),
        ("lowe", ".key", "7 128"),
        ("vlfeat", ".sift", ""),
        ("oxford", ".oxford", "128"),
    ],
)
def test_text_formats(run, photos, tmp_path, name, suffix, start) -> None:
    options = ("--format", name, "--no-derain", "--max-keypoints", 7)
    assert run("sift", photos, "-o", tmp_path / "out", *options).exit_code == 0
    assert files(tmp_path / "out") == [f"a/b/x.jpg{suffix}", f"img10.png{suffix}", f"img2.png{suffix}"]
    text = (tmp_path / "out" / f"img2.png{suffix}").read_text()
    assert text.startswith(start)
    piped = run("sift", "-", *options, stdin=(photos / "img2.png").read_bytes())
    assert piped.stdout == text
    single = tmp_path / f"one{suffix}"
    assert run("sift", photos / "img2.png", "-o", single, *options).exit_code == 0
    assert single.read_text() == text


@pytest.mark.parametrize("kind", ["sift_u8", "rootsift_u8", "rootsift_f32"])
def test_descriptors(run, photos, tmp_path, kind) -> None:
    photo = photos / "img2.png"
    assert run("sift", photo, "-o", tmp_path / "out", "--no-derain", "--descriptors", kind).exit_code == 0
    keypoints, meta = read_npz(tmp_path / "out" / "img2.png.npz")
    assert meta["descriptors"] == kind
    assert keypoints.descriptors.dtype == (np.float32 if kind == "rootsift_f32" else np.uint8)
    norms = np.linalg.norm(keypoints.descriptors.astype(float), axis=1)
    np.testing.assert_allclose(norms, 1 if kind == "rootsift_f32" else 512, rtol=0.03)


def test_colmap_gets_rootsift_unless_told_otherwise(run, photos, tmp_path) -> None:
    photo, sums = photos / "img2.png", {}
    for kind in (None, "sift_u8", "rootsift_u8"):
        more = () if kind is None else ("--descriptors", kind)
        run("sift", photo, "-o", tmp_path / str(kind), "--no-derain", "--format", "colmap", *more)
        sums[kind] = (tmp_path / str(kind) / "img2.png.txt").read_text()
    assert sums[None] == sums["rootsift_u8"] != sums["sift_u8"]


@pytest.mark.parametrize("name", ["colmap", "lowe", "vlfeat", "oxford"])
def test_descriptors_that_a_format_cannot_hold(run, photos, tmp_path, name) -> None:
    result = run("sift", photos, "-o", tmp_path / "out", "--format", name, "--descriptors", "rootsift_f32")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert f"`--format {name}` cannot hold `--descriptors rootsift_f32`" in line
    assert "sift_u8" in line
    assert not (tmp_path / "out").exists()


# --- SIFT's own options ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "theirs"),
    [
        ((), {}),
        (("--layers", 5), {"nOctaveLayers": 5}),
        (("--contrast-threshold", 0.02), {"contrastThreshold": 0.02}),
        (("--edge-threshold", 5), {"edgeThreshold": 5}),
        (("--sigma", 2.0), {"sigma": 2.0}),
    ],
)
def test_options_mean_what_they_mean_in_opencv(run, paint, tmp_path, options, theirs) -> None:
    import cv2

    grey = paint(120, 160, seed=4)[:, :, 0]
    Image.fromarray(grey).save(tmp_path / "x.png")
    assert run("sift", tmp_path / "x.png", "-o", tmp_path / "out", "--no-derain", *options).exit_code == 0
    keypoints, _ = read_npz(tmp_path / "out" / "x.png.npz")
    points = cv2.SIFT_create(enable_precise_upscale=True, **theirs).detect(grey, None)
    assert abs(len(keypoints) - len(points)) <= 0.01 * len(points)
    found = sum(
        bool((np.hypot(*(keypoints.xy - p.pt).T) + np.abs(2 * keypoints.scale - p.size) < 0.02).any()) for p in points
    )
    assert found >= 0.99 * len(points) > 20
    if options:  # the option matters on this picture
        default = {p.pt for p in cv2.SIFT_create(enable_precise_upscale=True).detect(grey, None)}
        assert len(default ^ {p.pt for p in points}) > 0.05 * len(points)


@pytest.mark.parametrize(
    "options",
    [
        ("--layers", 0), ("--layers", 17), ("--contrast-threshold", -1), ("--contrast-threshold", "nan"),
        ("--edge-threshold", 0), ("--sigma", 1), ("--sigma", 4), ("--max-keypoints", -1),
        ("--first-octave", 1), ("--max-orientations", 0), ("--like", "vlfeat"),
    ],
)  # fmt: skip
def test_options_out_of_range(run, photos, tmp_path, options) -> None:
    assert run("sift", photos, "-o", tmp_path / "out", "--no-derain", *options).exit_code == 2
    assert not (tmp_path / "out").exists()


# --- masks -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def masks(tmp_path) -> Path:
    """Only the left half may have keypoints; one mask by each rule of naming."""
    half = np.zeros((48, 64), np.uint8)
    half[:, :32] = 1
    folder = tmp_path / "masks"
    (folder / "a" / "b").mkdir(parents=True)
    for name in ("img2.png.png", "img10.png", "a/b/x.png"):
        Image.fromarray(half).save(folder / name)
    return folder


def test_masks(run, photos, masks, tmp_path) -> None:
    assert run("sift", photos, "-o", tmp_path / "all", "--no-derain").exit_code == 0
    assert run("sift", photos, "-o", tmp_path / "out", "--no-derain", "--mask", masks).exit_code == 0
    for name in files(tmp_path / "out"):
        everything, _ = read_npz(tmp_path / "all" / name)
        kept, meta = read_npz(tmp_path / "out" / name)
        left = np.floor(everything.xy[:, 0] + 0.5) < 32
        assert 0 < left.sum() < len(left)
        np.testing.assert_array_equal(kept.xy, everything.xy[left])
        np.testing.assert_array_equal(kept.descriptors, everything.descriptors[left])
        assert meta["mask"] is True


def test_another_mask_is_noticed(run, photos, masks, tmp_path) -> None:
    command = ("sift", photos, "-o", tmp_path / "out", "--no-derain", "--mask", masks)
    run(*command)
    assert "stale" not in run(*command).stderr
    Image.new("L", (64, 48), "white").save(masks / "img2.png.png")
    assert "may be stale: 1 made with other settings (mask)" in run(*command).stderr
    assert "may be stale: 3 made with other settings (mask)" in run(*command[:-2]).stderr


def test_max_keypoints_counts_after_the_mask(run, photos, masks, tmp_path) -> None:
    everything = ("sift", photos / "img2.png", "--no-derain", "--mask", masks)
    run(*everything, "-o", tmp_path / "all")
    run(*everything, "-o", tmp_path / "some", "--max-keypoints", 5)
    kept, _ = read_npz(tmp_path / "all" / "img2.png.npz")
    five, _ = read_npz(tmp_path / "some" / "img2.png.npz")
    assert len(kept) > 5 == len(five)
    np.testing.assert_array_equal(five.xy, kept.xy[:5])
    assert (np.diff(kept.response) <= 0).all()


def test_pictures_replace_no_mask_and_no_photograph(run, photos, masks, tmp_path) -> None:
    before = (masks / "img2.png.png").read_bytes()
    result = run("sift", photos, "-o", tmp_path / "out", "--no-derain", "--mask", masks, "--draw", masks)
    assert result.exit_code == 2
    assert "img2.png.png: a picture of keypoints would replace this mask (give `--draw` a folder" in result.stderr
    assert (masks / "img2.png.png").read_bytes() == before
    (photos / "img10.png").rename(photos / "img2.png.png")
    both = (photos / "img2.png", photos / "img2.png.png")
    result = run("sift", *both, "-o", tmp_path / "out", "--no-derain", "--draw", photos)
    assert (result.exit_code, "would replace this photograph" in result.stderr) == (2, True)
    assert not (tmp_path / "out").exists()


def test_missing_mask_and_mask_of_another_size(run, photos, masks, tmp_path) -> None:
    (masks / "img10.png").unlink()
    (photos / "img10.png").rename(photos / "IMG10.png")
    Image.new("L", (64, 47), "white").save(masks / "img2.png.png")
    result = run("sift", photos, "-o", tmp_path / "out", "--no-derain", "--mask", masks)
    assert result.exit_code == 1
    assert files(tmp_path / "out") == ["a/b/x.jpg.npz"]
    small, missing = sorted(line for line in result.stderr.splitlines() if "mask" in line)[::-1]
    assert small.startswith(
        f"{photos}/img2.png: the mask `{masks}/img2.png.png` has 64x47 pixels, the photograph 64x48"
    )
    assert missing.startswith(f"{photos}/IMG10.png: no mask: looked for `IMG10.png.png`, `IMG10.png` in `{masks}`")
    plan = run("sift", photos, "-o", tmp_path / "plan", "--no-derain", "--mask", masks, "--dry-run").stdout
    assert f"{photos}/IMG10.png: no mask" in plan


def test_mask_of_the_same_name(run, photos, masks, tmp_path) -> None:
    (masks / "a" / "b" / "x.png").rename(masks / "a" / "b" / "x.jpg")  # a PNG inside; names do not matter to a reader
    assert run("sift", photos, "-o", tmp_path / "out", "--no-derain", "--mask", masks).exit_code == 0
    assert read_npz(tmp_path / "out" / "a" / "b" / "x.jpg.npz")[0].xy[:, 0].max() < 31.5


@pytest.mark.parametrize("folder", ["empty", "nowhere", "photos/img2.png"])
def test_folders_that_hold_no_masks(run, photos, tmp_path, folder) -> None:
    (tmp_path / "empty").mkdir()
    result = run("sift", photos, "-o", tmp_path / "out", "--no-derain", "--mask", tmp_path / folder)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert not (tmp_path / "out").exists()


def test_mask_needs_a_name(run, photos, masks) -> None:
    result = run("sift", "-", "--no-derain", "--mask", masks, stdin=(photos / "img2.png").read_bytes())
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)


def test_photographs_without_keypoints_are_counted_in_the_summary(run, halving, photos, tmp_path) -> None:
    Image.new("RGB", (40, 30), "grey").save(photos / "flat.png")
    result = run("sift", photos, "-o", tmp_path / "out", "-v")
    assert re.search(r"flat\.png\.npz  40x30, 0 keypoints", result.stderr)
    assert re.search(r"extracted 4 \(\d+ keypoints, none in 1 of them\) in", result.stderr)


def test_like_the_program_that_reads_the_format(run, photos, tmp_path) -> None:
    """COLMAP's numbers for its formats, or for any; recorded in the files, and noticed when they change."""
    made = {}
    for name, options in {
        "npz": (), "like colmap": ("--like", "colmap"), "own": ("--like", "colmap", "--contrast-threshold", 0.1),
        "single": ("--max-orientations", 1), "coarse": ("--first-octave", 0),
    }.items():  # fmt: skip
        assert run("sift", photos, "-o", tmp_path / name, "--no-derain", *options).exit_code == 0
        made[name] = read_npz(tmp_path / name / "img2.png.npz")
    counts = {name: len(keypoints) for name, (keypoints, _) in made.items()}
    assert counts["npz"] < counts["like colmap"] > counts["own"] > 0
    assert counts["single"] < counts["npz"]
    assert counts["coarse"] == len(made["coarse"][0].select(made["coarse"][0].octave >= 0)) != counts["npz"]
    assert (made["npz"][1]["like"], made["like colmap"][1]["like"]) == ("opencv", "colmap")
    assert made["like colmap"][1]["sift"]["contrast_threshold"] == 0.02
    assert made["own"][1]["sift"]["rules"] == "vlfeat"
    text = tmp_path / "text"
    run("sift", photos, "-o", text, "--no-derain", "--format", "colmap")
    assert (text / "img2.png.txt").read_text().split(maxsplit=1)[0] == str(counts["like colmap"])
    kept = run("sift", photos, "-o", tmp_path / "npz", "--no-derain", "--like", "colmap")
    assert "3 made with other settings (like, " in kept.stderr
    assert "other settings" not in run("sift", photos, "-o", tmp_path / "npz", "--no-derain").stderr


@pytest.mark.parametrize("option", [("--camera-mode", "single"), ("--camera-model", "OPENCV")])
def test_cameras_are_for_databases(run, photos, tmp_path, option) -> None:
    refused = run("sift", photos, "-o", tmp_path / "out", "--format", "colmap", *option)
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (2, 1)
    assert "`--format colmap` holds no cameras" in refused.stderr
    assert not (tmp_path / "out").exists()


def test_more_keypoints_than_readers_match(run, photos, tmp_path, monkeypatch) -> None:
    """hloc's matches are int16. A small limit stands for it here."""
    monkeypatch.setitem(FORMATS, "colmap", replace(FORMATS["colmap"], most_keypoints=3))
    result = run("sift", photos, "-o", tmp_path / "out", "--format", "colmap", "--no-derain")
    assert "and 2 more: more than 3 keypoints" in result.stderr
    assert "`--max-keypoints 3` keeps the strongest" in result.stderr
    limited = ("--max-keypoints", 3, "--existing", "overwrite")
    assert "more than" not in run("sift", photos, "-o", tmp_path / "out", "--format", "colmap", *limited).stderr
    most = {name: form.most_keypoints for name, form in FORMATS.items() if form.most_keypoints is not None}
    assert most == {"colmap": 3, "colmap-db": 32768, "hloc": 32767}
