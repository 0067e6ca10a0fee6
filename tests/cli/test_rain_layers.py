"""Removed rain and rain masks beside the results of `derain` and `sift`."""

import json
from pathlib import Path, PurePath

import numpy as np
import pytest
from PIL import Image

from idsr_cli import restoration
from idsr_cli.formats.npz import read_npz
from idsr_cli.restoration import Restored
from idsr_cli.runs.masks import Masks

NAMES = ["a/b/x.jpg.png", "img10.png.png", "img2.png.png"]


def files(folder: Path) -> list[str]:
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if not Path(name).name.startswith("."))


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.fixture
def folders(tmp_path) -> list[object]:
    return ["-o", tmp_path / "out", "--removed", tmp_path / "removed", "--rain-mask", tmp_path / "masks"]


@pytest.mark.parametrize("command", ["derain", "sift"])
def test_removed_rain_and_masks(run, halving, photos, tmp_path, folders, command) -> None:
    """DPRNet takes half of the light out, GGIRNet three quarters."""
    assert run(command, photos, *folders, "--rain-mask-above", "60").exit_code == 0
    calls = {"derain": (3, 0), "sift": (3, 3)}
    assert calls[command] == (halving.D, halving.G)
    assert files(tmp_path / "removed") == files(tmp_path / "masks") == NAMES
    image = pixels(photos / "img2.png")
    removed, mask = pixels(tmp_path / "removed" / "img2.png.png"), pixels(tmp_path / "masks" / "img2.png.png")
    np.testing.assert_allclose(removed, image / 2, atol=0.51)
    # The mask is of all networks that keypoints come from.
    most = image.max(2) * (0.75 if command == "sift" else 0.5)
    certain = abs(most - 60) > 1e-3
    np.testing.assert_array_equal(mask[certain], np.where(most >= 60, 0, 255)[certain])
    assert (mask.dtype, set(np.unique(mask))) == (np.uint8, {0, 255})


def test_masks_are_those_of_the_next_run(run, halving, photos, tmp_path, folders) -> None:
    run("sift", photos, *folders, "--rain-mask-above", "70")
    masks = Masks(tmp_path / "masks")
    assert masks.find(PurePath("a/b/x.jpg")) == tmp_path / "masks" / "a/b/x.jpg.png"
    assert run("sift", photos, "-o", tmp_path / "kept", "--mask", tmp_path / "masks").exit_code == 0
    before, after = (read_npz(tmp_path / name / "img2.png.npz")[0] for name in ("out", "kept"))
    assert 0 < len(after) < len(before)
    x, y = np.rint(after.xy).astype(int).T
    assert (pixels(tmp_path / "masks" / "img2.png.png")[y, x] == 255).all()


def test_removed_rain_can_fall_on_other_photographs(run, halving, photos, tmp_path, folders) -> None:
    run("derain", photos, *folders)
    result = run("rain", photos / "img2.png", "-o", tmp_path / "wet.png", "--streaks", tmp_path / "removed")
    assert result.exit_code == 0
    assert (pixels(tmp_path / "wet.png") != pixels(photos / "img2.png")).any()


def test_what_is_not_changed_is_not_masked(run, halving, photos, tmp_path, folders, monkeypatch) -> None:
    darker = np.float32(0.1)

    def restore(self: object, rgb: np.ndarray, roles: str, before: object = None) -> list[Restored]:
        """The left half gets lighter, as where drops hid the sky; `wet` says if rain is seen at all."""
        changed = rgb.copy()
        changed[:, : rgb.shape[1] // 2] += darker * (1 - rgb[:, : rgb.shape[1] // 2])
        return [Restored(changed, True) if wet else Restored(rgb, False)]

    monkeypatch.setattr(restoration.Restorer, "restore", restore)
    wet = False
    run("derain", photos / "img2.png", *folders)
    assert pixels(tmp_path / "removed" / "img2.png.png").max() == 0
    assert pixels(tmp_path / "masks" / "img2.png.png").min() == 255
    wet = True
    run("derain", photos / "img2.png", *folders, "--existing", "overwrite", "--rain-mask-above", "1")
    mask = pixels(tmp_path / "masks" / "img2.png.png")
    assert (mask[:, :32].mean(), mask[:, 32:].min()) == (pytest.approx(0, abs=1), 255)
    assert pixels(tmp_path / "removed" / "img2.png.png").max() == 0  # light that was added is no removed rain


def test_pixels_are_those_that_are_stored(run, halving, tmp_path, paint, folders) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(paint(40, 60)).save(tmp_path / "x.png", exif=exif)
    run("derain", tmp_path / "x.png", *folders)
    np.testing.assert_allclose(pixels(tmp_path / "removed" / "x.png.png"), paint(40, 60) / 2, atol=0.51)
    assert pixels(tmp_path / "masks" / "x.png.png").shape == (40, 60)


def test_only_what_is_missing_is_made(run, halving, photos, tmp_path, folders) -> None:
    run("sift", photos, *folders, "--splice", "GG")
    before = (tmp_path / "out" / "img2.png.npz").stat().st_mtime_ns
    (tmp_path / "masks" / "img2.png.png").unlink()
    halving.D = halving.G = 0
    shown = run("sift", photos, *folders, "--splice", "GG").stderr
    assert ("derained 1" in shown, halving.D, halving.G) == (True, 0, 1)
    assert (tmp_path / "out" / "img2.png.npz").stat().st_mtime_ns == before
    assert (tmp_path / "masks" / "img2.png.png").exists()
    shown = run("sift", photos, *folders, "--splice", "GG", "--rain-mask-above", "7").stderr
    assert "3 made with other settings (rain-mask-above)" in shown
    shown = run("sift", photos, *folders, "--splice", "GG", "--strength", "0.5").stderr
    assert "9 made with other settings (strength)" in shown


@pytest.mark.parametrize("command", ["derain", "sift"])
def test_frames_of_clips(run, halving, clips, tmp_path, folders, command) -> None:
    assert run(command, clips.make("a.mp4", 2), *folders).exit_code == 0
    assert files(tmp_path / "removed") == ["a.mp4/000000.png", "a.mp4/000001.png", "a.mp4/frames.json"]
    assert files(tmp_path / "masks") == ["a.mp4/000000.png.png", "a.mp4/000001.png.png", "a.mp4/frames.json"]
    index = json.loads((tmp_path / "masks" / "a.mp4" / "frames.json").read_text())
    assert [frame["file"] for frame in index["frames"]] == ["000000.png.png", "000001.png.png"]
    assert pixels(tmp_path / "removed" / "a.mp4" / "000001.png").shape == (48, 64, 3)


def test_what_cannot_be_asked_for(run, halving, photos, tmp_path) -> None:
    out = ("-o", tmp_path / "out")
    (tmp_path / "masks").mkdir()
    for arguments, reason in (
        (("derain", photos, *out, "--rain-mask-above", "9"), "no effect without `--rain-mask DIR`"),
        (("derain", photos, *out, "--removed", photos / "a"), "inside the input folder"),
        (("derain", photos, *out, "--rain-mask", tmp_path / "m", "--removed", tmp_path / "m"), "two outputs want"),
        (("sift", photos, *out, "--no-derain", "--removed", tmp_path / "r"), "`--removed` has no effect with"),
        (("sift", photos, *out, "--no-derain", "--rain-mask", tmp_path / "m"), "`--rain-mask` has no effect with"),
        (
            ("sift", photos, *out, "--mask", tmp_path / "masks", "--rain-mask", tmp_path / "masks"),
            "would replace the masks",
        ),
    ):
        result = run(*arguments)
        assert (result.exit_code, reason in result.stderr) == (2, True), result.stderr
        assert not (tmp_path / "out").exists()
