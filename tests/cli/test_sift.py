"""`idsr sift` with stand-in networks and the real SIFT."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from idsr_cli import __version__
from idsr_cli.formats.npz import read_npz


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


def test_plain_sift_needs_no_weights(run, photos, tmp_path) -> None:
    result = run("sift", photos / "img2.png", "-o", tmp_path / "out", "--no-derain", "--weights", "nonsense")
    assert result.exit_code == 0
    _, meta = read_npz(tmp_path / "out" / "img2.png.npz")
    assert meta["weights"] is None


@pytest.mark.parametrize(("letters", "calls"), [("DG", (1, 1)), ("DD", (1, 0)), ("GG", (0, 1))])
def test_splice_runs_only_the_networks_it_names(run, halving, photos, tmp_path, letters, calls) -> None:
    assert run("sift", photos / "img2.png", "-o", tmp_path / "out", "--splice", letters).exit_code == 0
    assert calls == (halving.D, halving.G)
    assert read_npz(tmp_path / "out" / "img2.png.npz")[1]["splice"] == letters


def test_splice_detects_on_one_and_describes_on_the_other(run, halving, photos, tmp_path) -> None:
    found = {}
    for letters in ("DG", "DD", "GG"):
        run("sift", photos / "img2.png", "-o", tmp_path / letters, "--splice", letters)
        found[letters] = read_npz(tmp_path / letters / "img2.png.npz")[0]
    # The stand-ins differ in brightness alone: a quarter finds fewer keypoints than a half, and describes them alike.
    assert len(found["GG"]) < len(found["DD"]) == len(found["DG"])
    np.testing.assert_array_equal(found["DG"].xy, found["DD"].xy)


def test_splice_without_networks_is_refused(run, photos, tmp_path) -> None:
    result = run("sift", photos, "-o", tmp_path / "out", "--no-derain", "--splice", "DG")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)


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
