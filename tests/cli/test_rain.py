"""`idsr rain`: the seed and the name decide, and nothing else."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.usefixtures("one_thread")


def files(folder: Path) -> list[str]:
    return sorted(
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != ".idsr.jsonl"
    )


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    """A measured streak layer: bright columns on black."""
    (tmp_path / "layers").mkdir()
    image = np.zeros((120, 160), np.uint8)
    image[:, ::9] = 120
    Image.fromarray(image).save(tmp_path / "layers" / "1.png")
    return tmp_path / "layers"


def test_folder(run, photos, tmp_path) -> None:
    out = tmp_path / "out"
    result = run("rain", photos, "-o", out)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "rained on 3" in result.stderr
    assert files(out) == ["a/b/x.jpg", "img10.png", "img2.png"]
    before, after = pixels(photos / "img2.png"), pixels(out / "img2.png")
    assert before.shape == after.shape
    assert (after != before).any()
    assert "skipped 3" in run("rain", photos, "-o", out).stderr


def test_seed_decides(run, photos, tmp_path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run("rain", photos, "-o", tmp_path / name, "--seed", seed).exit_code == 0
    for name in files(tmp_path / "a"):
        a, b, c = ((tmp_path / folder / name).read_bytes() for folder in "abc")
        assert a == b
        assert a != c


def test_each_name_has_its_own_rain(run, tmp_path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (80, 60), (60, 60, 60)).save(tmp_path / "in" / name)
    run("rain", tmp_path / "in", "-o", tmp_path / "out", "--density", 0.01)
    assert (tmp_path / "out" / "a.png").read_bytes() != (tmp_path / "out" / "b.png").read_bytes()


def test_same_rain_whatever_the_batch(run, photos, tmp_path) -> None:
    run("rain", photos, "-o", tmp_path / "all", "-j", 3)
    run("rain", photos, "-o", tmp_path / "serial", "-j", 1)
    run("rain", photos / "img2.png", "-o", tmp_path / "one")
    run("rain", photos / "img10.png", photos / "img2.png", "-o", tmp_path / "two")
    run("rain", photos / "img2.png", "-o", tmp_path / "file.png")
    expected = (tmp_path / "all" / "img2.png").read_bytes()
    for other in ("serial/img2.png", "one/img2.png", "two/img2.png", "file.png"):
        assert (tmp_path / other).read_bytes() == expected
    assert run("rain", photos / "img2.png", "-o", "-").stdout_bytes == expected


def test_options_mean_what_they_say(run, photos, tmp_path) -> None:
    def gain(name: str, *arguments: object) -> float:
        run("rain", photos / "img2.png", "-o", tmp_path / f"{name}.png", *arguments)
        return float((pixels(tmp_path / f"{name}.png") - pixels(photos / "img2.png")).mean())

    base = ("--length", 20, "--brightness", 0.5)
    drizzle = gain("drizzle", *base, "--density", 0.001)
    assert 0 < drizzle < gain("heavy", *base, "--density", 0.01)
    assert drizzle < gain("deep", *base, "--density", 0.001, "--layers", 3)
    assert gain("none", *base, "--density", 0) == 0
    dense = (*base, "--density", 0.01)
    added, screened = gain("add", *dense), gain("screen", *dense, "--composite", "screen")
    assert 0 < screened < added
    dark = gain("dark", *dense, "--light", 0)
    assert dark < 0 < gain("bright", *dense, "--light", 1)
    hazy = gain("hazy", *base, "--density", 0, "--veil", 0.5, "--light", 1)
    assert 0 < gain("thin", *base, "--density", 0, "--veil", 0.9, "--light", 1) < hazy


@pytest.mark.parametrize("how", ["add", "screen"])
def test_light_is_of_drops_that_hide_or_of_a_veil(run, photos, tmp_path, how) -> None:
    result = run("rain", photos, "-o", tmp_path / "out", "--composite", how, "--light", 0.5)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert f"--light has no meaning with --composite {how}" in result.stderr
    assert run("rain", photos, "-o", tmp_path / "out", "--composite", how, "--light", 0.5, "--veil", 0.5).exit_code == 0


def test_measured_streaks(run, photos, layers, tmp_path) -> None:
    for name in "ab":
        assert run("rain", photos, "-o", tmp_path / name, "--streaks", layers).exit_code == 0
    run("rain", photos, "-o", tmp_path / "procedural")
    for name in files(tmp_path / "a"):
        a, b, other = ((tmp_path / folder / name).read_bytes() for folder in ("a", "b", "procedural"))
        assert a == b
        assert a != other


@pytest.mark.parametrize("option", ["length", "width", "angle", "density", "brightness", "jitter", "blur", "fan"])
def test_measured_streaks_exclude_options_of_drawn_ones(run, photos, layers, tmp_path, option) -> None:
    result = run("rain", photos, "-o", tmp_path / "out", "--streaks", layers, f"--{option}", 1)
    assert result.exit_code == 2
    assert result.stderr == f"idsr: --streaks and --{option} exclude each other\n"
    assert not (tmp_path / "out").exists()


def test_layers_go_with_described_streaks(run, photos, layers, tmp_path) -> None:
    out = tmp_path / "out"
    result = run("rain", photos, "-o", out, "--layers", 3)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "--layers has no effect on random streaks" in result.stderr
    result = run("rain", photos, "-o", out, "--layers", 3, "--streaks", layers)
    assert (result.exit_code, result.stderr) == (2, "idsr: --streaks and --layers exclude each other\n")
    assert not out.exists()
    for option in ("--fan", "--patchy"):
        assert run("rain", photos / "img2.png", "-o", out / option, "--layers", 2, option, 0.5).exit_code == 0
        assert option in run("rain", "--help").stdout.split("--layers")[1].split("--streaks")[0]


def test_no_streak_layers(run, photos, tmp_path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder, message in ((tmp_path / "gone", "no such folder"), (empty, "no photographs in this folder")):
        result = run("rain", photos, "-o", tmp_path / "out", "--streaks", folder)
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
        assert f"{folder}: {message}" in result.stderr
    (empty / "bad.png").write_bytes(b"no picture")
    result = run("rain", photos, "-o", tmp_path / "out", "--streaks", empty)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == f"{empty}: no streak layer could be read"
    assert not (tmp_path / "out").exists()


def test_dry_run_writes_nothing(run, photos, tmp_path) -> None:
    out = tmp_path / "out"
    result = run("rain", photos, "-o", out, "--dry-run")
    assert result.exit_code == 0
    assert f"{photos / 'img2.png'} -> {out / 'img2.png'}" in result.stdout.splitlines()
    assert len(result.stdout.splitlines()) == 3
    assert not out.exists()


def test_output_is_needed(run, photos) -> None:
    result = run("rain", photos)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--density", 2),
        ("--length", 0),
        ("--angle", 91),
        ("--layers", 0),
        ("--seed", -1),
        ("--light", 2),
        ("--veil", -1),
        ("--composite", "paint"),
        ("--patchy", 2),
        ("--fan", 90),
    ],
)
def test_values_out_of_range(run, photos, tmp_path, arguments) -> None:
    result = run("rain", photos, "-o", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_json_and_failures(run, photos, tmp_path) -> None:
    (photos / "zero.jpg").touch()
    *items, summary = run.events("rain", photos, "-o", tmp_path / "out")
    assert [item["status"] for item in items] == ["ok", "ok", "ok", "failed"]
    assert (summary["ok"], summary["failed"], summary["weights"], summary["device"]) == (3, 1, None, None)


def test_kinds_of_photographs(run, tmp_path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGBA", (50, 40), (90, 90, 90, 128)).save(tmp_path / "in" / "alpha.png")
    Image.new("L", (50, 40), 90).save(tmp_path / "in" / "grey.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "in" / "tiny.png")
    Image.fromarray(np.full((40, 50), 20000, np.uint16)).save(tmp_path / "in" / "deep.png")
    assert run("rain", tmp_path / "in", "-o", tmp_path / "out").exit_code == 0
    for name in files(tmp_path / "in"):
        with Image.open(tmp_path / "in" / name) as a, Image.open(tmp_path / "out" / name) as b:
            assert (a.mode, a.size) == (b.mode, b.size)
    assert (pixels(tmp_path / "out" / "alpha.png")[..., 3] == 128).all()


def test_rain_falls_down_in_a_photograph_stored_on_its_side(run, tmp_path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (120, 90), (60, 60, 60)).save(tmp_path / "x.png", exif=exif)
    options = ("--angle", 0, "--jitter", 0, "--length", 30, "--density", 0.002)
    assert run("rain", tmp_path / "x.png", "-o", tmp_path / "out", *options).exit_code == 0
    rainy = pixels(tmp_path / "out" / "x.png")[:, :, 0]
    assert rainy.shape == (90, 120)
    across, down = (np.abs(np.diff(rainy, axis=axis)).mean() for axis in (1, 0))
    assert down > 5 * across  # the stored rows are columns for the viewer
