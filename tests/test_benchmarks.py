"""The benchmark of reconstructions, on a tiny scene with known cameras, and the script that renders such scenes."""

import argparse
import importlib.util
import json
import math
import shutil
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"
VIEWS = 4

pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="a sdist has the tests without the benchmarks")


def load(name: str) -> ModuleType:
    if str(BENCHMARKS) not in sys.path:
        sys.path.append(str(BENCHMARKS))  # as for a script, which imports its neighbours
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def scene() -> ModuleType:
    return load("render_scene")


@pytest.fixture
def sfm(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark; commands of idsr run in this process, because each start costs two seconds."""
    from idsr_cli.cli.app import app

    module = load("sfm")

    def idsr(*arguments: object) -> None:
        CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)

    monkeypatch.setattr(module, "idsr", idsr)
    for name in ("IDSR_WEIGHTS", "IDSR_DEVICE", "IDSR_THREADS"):  # set by the benchmark
        monkeypatch.setenv(name, "")
    return module


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory, scene: ModuleType) -> Path:
    folder = tmp_path_factory.mktemp("scene") / "yard"
    scene.write(ROOT / "examples" / "clean", folder, VIEWS, 320, 240)
    return folder


def run(sfm: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["sfm.py", *map(str, arguments)])
    sfm.main()


def test_every_way_is_reconstructed_and_scored(
    sfm: ModuleType,
    scene: ModuleType,
    views: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import pycolmap

    out = tmp_path / "out"
    run(sfm, monkeypatch, views, "-o", out, "--rain", "drops=--length 20 --density 0.001 --brightness 0.5", "--seed", 3)
    record = json.loads((out / "sfm.json").read_text())
    scores = {(row["rain"], row["way"]): row for row in record["scores"]}
    ways = [(sfm.DRY, sfm.REFERENCE), (sfm.DRY, "plain"), *(("drops", way) for way in sfm.WAYS)]
    assert list(scores) == ways
    # The renderer knows where the cameras were: COLMAP finds the same, so both scripts are right.
    model = pycolmap.Reconstruction(out / "3" / sfm.DRY / sfm.REFERENCE / "sparse" / "0")
    steps = [2 * i / (VIEWS - 1) - 1 for i in range(VIEWS)]
    truth = {f"{i:02}.jpg": scene.camera(step)[0] for i, step in enumerate(steps)}
    assert sfm.turned(sfm.rotations(model), truth) < 0.5
    (camera,) = model.cameras.values()
    assert camera.focal_length == pytest.approx(scene.FOCAL * 320, rel=0.1)
    assert scores[sfm.DRY, sfm.REFERENCE]["points"] == model.num_points3D()
    for row in scores.values():
        assert row["registered"] == VIEWS
        assert 2 <= row["track"] <= VIEWS
        assert 0 < row["error"] < 1
        assert row["turned"] < 1
    # Rain costs points, and each of ours brings some back.
    points = {key: row["points"] for key, row in scores.items()}
    assert points["drops", "plain"] < points["drops", "idsr"]
    assert points["drops", "colmap"] < points["drops", "derain"] <= points[sfm.DRY, "colmap"]
    rows = [
        line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith(("| none", "| drops"))
    ]
    assert [int(row[4]) for row in rows] == list(points.values())
    assert record["sha256"][:12] in (out / "sfm.md").read_text()


def test_the_angle_between_models_does_not_depend_on_their_axes(sfm: ModuleType) -> None:
    def about(axis: str, degrees: float) -> np.ndarray:
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        return np.array({"y": [[c, 0, s], [0, 1, 0], [-s, 0, c]], "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]]}[axis])

    truth = {name: about("y", degrees) for name, degrees in (("a", 0), ("b", 20), ("c", 50))}
    axes = about("z", 40) @ about("y", 70)
    same = {name: rotation @ axes for name, rotation in truth.items()}
    assert sfm.turned(same, truth) == pytest.approx(0, abs=1e-4)
    assert sfm.turned({**same, "c": about("z", 5) @ same["c"]}, truth) == pytest.approx(5)  # in two of three pairs
    assert sfm.turned({"a": truth["a"], "d": truth["b"]}, truth) is None


def test_errors_of_a_user_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each script ends as the commands do: no traceback, a code that is not 0."""
    rendering, speed = load("render_scene"), load("speed")
    monkeypatch.setattr(sys, "argv", ["render_scene.py", str(tmp_path / "nothing"), "-o", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match=r"^error: .*nothing: no such folder"):
        rendering.main()
    monkeypatch.setattr(rendering, "write", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(SystemExit) as caught:
        rendering.main()
    assert caught.value.code == 130
    assert [speed.parse_size(text) for text in ("1MP", "30x20")] == [(1224, 816), (30, 20)]
    with pytest.raises(argparse.ArgumentTypeError, match=r"`30` is neither WIDTHxHEIGHT nor 0\.5MP"):
        speed.parse_size("30")


def test_photographs_are_reduced_with_their_focal_length(sfm: ModuleType, views: Path, tmp_path: Path) -> None:
    photos = sorted(views.iterdir())
    sfm.reduce(photos, views.parent, tmp_path / "small", 100)
    sfm.reduce(photos, views.parent, tmp_path / "same", 320)
    for path in photos:
        name = path.relative_to(views.parent)
        with Image.open(tmp_path / "small" / name) as small:
            assert small.size == (100, 75)
            assert small.getexif().get_ifd(0x8769)[0xA405] == 40
        assert (tmp_path / "same" / name).read_bytes() == path.read_bytes()


def test_what_cannot_be_reconstructed_is_refused(
    sfm: ModuleType, views: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: object) -> str:
        with pytest.raises(SystemExit) as caught:
            run(sfm, monkeypatch, *arguments)
        assert caught.value.code == 2
        return capsys.readouterr().err

    assert "exists" in refused(views, "-o", tmp_path)
    assert "no photographs" in refused(tmp_path, "-o", tmp_path / "out")
    shutil.copy(views / "00.jpg", tmp_path)
    assert "one photograph" in refused(tmp_path, "-o", tmp_path / "out")
    assert "NAME=OPTIONS" in refused(views, "-o", tmp_path / "out", "--rain", "hail")
    assert "name of a folder" in refused(views, "-o", tmp_path / "out", "--rain", "none=--length 3")
    assert not (tmp_path / "out").exists()


def test_a_report_of_an_interrupted_run_is_not_taken_for_whole(tmp_path: Path) -> None:
    styles = load("rain_styles")
    assert not styles.is_whole(tmp_path, 12)
    for pairs, whole in ((5, False), (12, True)):
        (tmp_path / "summary.json").write_text(json.dumps({"methods": [{"method": "DD", "pairs": pairs}]}))
        assert styles.is_whole(tmp_path, 12) == whole


def test_lookalikes_are_drawn_before_it_rains(tmp_path: Path) -> None:
    styles = load("rain_styles")
    photo = tmp_path / "a.png"
    Image.new("RGB", (96, 64), (90, 110, 90)).save(photo)
    pictures = {}
    for name in ("lookalikes: tartan", "in rain: tartan"):
        folders = styles.make(styles.STYLES[name], [photo], tmp_path / name[:4], 1)
        pictures[name] = [np.asarray(Image.open(folder / "a.png")).astype(int) for folder in folders]
    dry, clean = pictures["lookalikes: tartan"]
    assert np.array_equal(dry, clean)
    rainy, below = pictures["in rain: tartan"]
    assert np.array_equal(below, clean)
    assert np.ptp(clean, (0, 1)).max() > 20
    assert 0.01 < ((rainy - below).max(2) > 10).mean() < 0.5
