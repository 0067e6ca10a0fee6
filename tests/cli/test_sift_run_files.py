"""`idsr sift` into one file for all photographs: COLMAP's database and hloc's HDF5."""

import itertools
import json
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from idsr_cli.errors import ItemError
from idsr_cli.formats import colmap_db, hloc
from idsr_cli.formats.npz import read_npz
from idsr_cli.images.photo import read_photo
from idsr_cli.runs.one_file import OneFile
from idsr_cli.runs.outputs import PhotoWork

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FORMATS = {
    "colmap-db": SimpleNamespace(file="database.db", contents=colmap_db.contents, library="pycolmap", extra="colmap"),
    "hloc": SimpleNamespace(file="features.h5", contents=hloc.contents, library="h5py", extra="hloc"),
}
NAMES = ["a/b/x.jpg", "img10.png", "img2.png"]


@pytest.fixture(params=FORMATS)
def form(request) -> SimpleNamespace:
    pytest.importorskip(FORMATS[request.param].library)
    return SimpleNamespace(name=request.param, **vars(FORMATS[request.param]))


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def stored(form: SimpleNamespace, path: Path, name: str) -> np.ndarray:
    """x and y as the file has them."""
    if form.name == "hloc":
        import h5py

        with h5py.File(path) as file:
            return file[name]["keypoints"][()]
    import pycolmap

    with pycolmap.Database.open(str(path)) as database:
        return np.array(database.read_keypoints(database.read_image_with_name(name).image_id))[:, :2] - 0.5


def test_folder(run, halving, photos, tmp_path, form) -> None:
    out = tmp_path / "out"
    result = run("sift", photos, "-o", out, "--format", form.name)
    assert (result.exit_code, halving.D) == (0, 3)
    assert files(out) == [form.file]
    contents = form.contents(out / form.file)
    assert sorted(contents) == NAMES
    assert contents["img2.png"]["weights"] == {"name": "fake", "sha256": "f" * 64}
    assert contents["img2.png"]["settings"]["splice"] == "DG"
    assert str(tmp_path) not in json.dumps(contents)  # a file to pass on does not tell where it was made
    run("sift", photos, "-o", tmp_path / "npz", "--like", form.name.removesuffix("-db"))
    for name in NAMES:
        keypoints, _ = read_npz(tmp_path / "npz" / f"{name}.npz")
        np.testing.assert_allclose(stored(form, out / form.file, name), keypoints.xy, atol=1e-4)
    assert f"writing {out / form.file}" in result.stderr
    again = run("sift", photos, "-o", out, "--format", form.name)
    assert "skipped 3" in again.stderr
    assert "writing" not in again.stderr
    assert (again.exit_code, halving.D) == (0, 6)


def test_a_file_as_out(run, photos, tmp_path, form) -> None:
    out = tmp_path / f"my{Path(form.file).suffix}"
    assert run("sift", photos / "img2.png", "-o", out, "--format", form.name, "--no-derain").exit_code == 0
    assert list(form.contents(out)) == ["img2.png"]
    assert run("sift", photos, "-o", out, "--format", form.name, "--no-derain").exit_code == 0
    assert sorted(form.contents(out)) == NAMES
    (tmp_path / "x.txt").touch()
    wrong = run("sift", photos, "-o", tmp_path / "x.txt", "--format", form.name, "--no-derain")
    assert (wrong.exit_code, len(wrong.stderr.splitlines())) == (2, 1)


def test_a_file_of_something_else_is_refused(run, photos, tmp_path, form) -> None:
    out = tmp_path / form.file
    out.write_text("precious")
    result = run("sift", photos, "-o", out, "--format", form.name, "--no-derain")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert out.read_text() == "precious"


def test_bad_photograph(run, photos, tmp_path, form) -> None:
    (photos / "zero.jpg").touch()
    out = tmp_path / "out"
    result = run("sift", photos, "-o", out, "--format", form.name, "--no-derain")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == f"{photos}/zero.jpg: the file is empty"
    assert sorted(form.contents(out / form.file)) == NAMES
    assert files(out) == [form.file]
    Image.open(photos / "img2.png").save(photos / "zero.jpg")
    assert "extracted 1" in run("sift", photos, "-o", out, "--format", form.name, "--no-derain").stderr
    assert sorted(form.contents(out / form.file)) == [*NAMES, "zero.jpg"]


def test_another_mask_is_noticed(run, photos, tmp_path, form) -> None:
    (tmp_path / "masks").mkdir()
    mask = np.full((48, 64), 255, np.uint8)
    for name in ("img2.png.png", "img10.png.png"):
        Image.fromarray(mask).save(tmp_path / "masks" / name)
    command = ("sift", photos / "img2.png", photos / "img10.png", "-o", tmp_path / "out", "--format", form.name)
    options = ("--no-derain", "--mask", tmp_path / "masks")
    assert run(*command, *options).exit_code == 0
    assert "stale" not in run(*command, *options).stderr
    mask[:, :32] = 0
    Image.fromarray(mask).save(tmp_path / "masks" / "img2.png.png")
    assert "1 made with other settings (mask)" in run(*command, *options).stderr
    run(*command, *options, "--existing", "overwrite")
    assert "stale" not in run(*command, *options).stderr


def test_other_settings_are_noticed(run, photos, tmp_path, form) -> None:
    everything = ("sift", photos, "-o", tmp_path / "out", "--format", form.name, "--no-derain")
    run(*everything)
    before = stored(form, tmp_path / "out" / form.file, "img2.png")
    kept = run(*everything, "--max-keypoints", 5)
    assert "3 made with other settings (max-keypoints)" in kept.stderr
    assert "skipped 3" in kept.stderr
    np.testing.assert_array_equal(stored(form, tmp_path / "out" / form.file, "img2.png"), before)
    assert run(*everything, "--max-keypoints", 5, "--existing", "overwrite").exit_code == 0
    np.testing.assert_array_equal(stored(form, tmp_path / "out" / form.file, "img2.png"), before[:5])
    assert "other settings" not in run(*everything, "--max-keypoints", 5).stderr
    refused = run(*everything, "--existing", "error")
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (2, 1)
    assert "holds `a/b/x.jpg` already (and 2 more)" in refused.stderr


def test_what_others_put_there_is_kept_and_noticed(run, photos, tmp_path, form) -> None:
    everything = ("sift", photos, "-o", tmp_path, "--format", form.name, "--no-derain")
    run(*everything, "--include", "img2.png")
    if form.name == "hloc":
        import h5py

        with h5py.File(tmp_path / form.file, "a") as file:
            del file["img2.png"].attrs["idsr"]
    else:
        with closing(sqlite3.connect(tmp_path / form.file)) as database, database:
            database.execute("DROP TABLE idsr")
    result = run(*everything)
    assert "1 without a record of its settings" in result.stderr
    assert "extracted 2" in result.stderr
    assert sorted(form.contents(tmp_path / form.file)) == NAMES


def test_a_photograph_that_changed_is_noticed(run, photos, tmp_path, form) -> None:
    everything = ("sift", photos, "-o", tmp_path / "out", "--format", form.name, "--no-derain")
    run(*everything)
    Image.new("RGB", (64, 48), "red").save(photos / "img2.png")
    assert "1 made from another photograph" in run(*everything).stderr
    later = (tmp_path / "out" / form.file).stat().st_mtime + 60
    os.utime(photos / "img10.png", (later, later))  # rewritten, and of the same size
    assert "1 made before the photograph was last written" in run(*everything).stderr


def test_dry_run_and_json(run, photos, tmp_path, form) -> None:
    everything = ("sift", photos, "-o", tmp_path / "out", "--format", form.name, "--no-derain")
    plan = run(*everything, "--dry-run").stdout.splitlines()
    assert plan[0] == f"{photos}/a/b/x.jpg -> {tmp_path}/out/{form.file}"
    assert not (tmp_path / "out").exists()
    *items, summary = run.events(*everything)
    assert {item["output"] for item in items} == {f"{tmp_path}/out/{form.file}"}
    assert summary["ok"] == 3
    before = (tmp_path / "out" / form.file).read_bytes()
    assert "output exists" in run(*everything, "--dry-run").stdout
    assert files(tmp_path / "out") == [form.file]
    assert (tmp_path / "out" / form.file).read_bytes() == before


def test_killed_before_the_end(run, halving, photos, tmp_path, form, monkeypatch) -> None:
    """What was computed is not computed again, unless the settings or the photograph are others now."""
    out = tmp_path / "out"
    everything = ("sift", photos, "-o", out, "--format", form.name)
    with monkeypatch.context() as patch:
        patch.setattr(OneFile, "finish", lambda self, items: None)  # as good as killed
        run(*everything)
        assert files(out) == sorted(f".{form.file}.parts/{name}.npz" for name in NAMES)
    assert halving.D == 3
    os.utime(photos / "img10.png", (1, 1))
    result = run(*everything)
    assert (result.exit_code, halving.D) == (0, 4)
    assert "extracted 1" in result.stderr
    assert files(out) == [form.file]
    assert sorted(form.contents(out / form.file)) == NAMES
    assert "stale" not in run(*everything).stderr


def test_killed_and_run_again_with_other_settings(run, photos, tmp_path, form, monkeypatch) -> None:
    everything = ("sift", photos, "-o", tmp_path / "out", "--format", form.name, "--no-derain")
    with monkeypatch.context() as patch:
        patch.setattr(OneFile, "finish", lambda self, items: None)
        run(*everything)
    assert "extracted 3" in run(*everything, "--max-keypoints", 5).stderr
    assert len(stored(form, tmp_path / "out" / form.file, "img2.png")) == 5


def test_interrupted(run, photos, tmp_path, form, monkeypatch) -> None:
    """Ctrl-C: what is done is in the file."""
    compute, calls = PhotoWork.compute, itertools.count(1)

    def interrupt(self, item, loaded):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return compute(self, item, loaded)

    monkeypatch.setattr(PhotoWork, "compute", interrupt)
    result = run("sift", photos, "-o", tmp_path / "out", "--format", form.name, "--no-derain", "-j", 1)
    assert result.exit_code == 130
    assert len(form.contents(tmp_path / "out" / form.file)) == 2
    assert files(tmp_path / "out") == [form.file]


def test_a_file_that_cannot_be_written_keeps_the_work(run, halving, photos, tmp_path, form, monkeypatch) -> None:
    everything = ("sift", photos, "-o", tmp_path / "out", "--format", form.name)

    def full(*_: object) -> None:
        raise ItemError("no space left on device")

    with monkeypatch.context() as patch:
        for module, name in ((hloc, "_write"), (colmap_db, "_write_features")):
            patch.setattr(module, name, full)
        result = run(*everything, "--json")
    assert result.exit_code == 1
    assert f"{form.file}: no space left on device" in result.stderr
    assert "run the same command again" in result.stderr
    assert "their common file could not be written (see above)" in result.stderr.splitlines()[-1]
    # Each photograph was worked on, so its line says ok; the last one says that this is not the end of it.
    assert json.loads(result.stdout.splitlines()[-1])["finished"] is False
    assert run.events(*everything)[-1]["finished"] is True
    assert halving.D == 3
    assert sorted(form.contents(tmp_path / "out" / form.file)) == NAMES


def test_same_file_for_any_number_of_jobs(run, photos, tmp_path, form) -> None:
    found = []
    for jobs in (1, 2, 5):
        run("sift", photos, "-o", tmp_path / str(jobs), "--format", form.name, "--no-derain", "-j", jobs)
        found.append((tmp_path / str(jobs) / form.file).read_bytes())
    assert found[0] == found[1] == found[2]


def test_pictures_as_well(run, photos, tmp_path, form) -> None:
    everything = ("sift", photos, "-o", tmp_path / "out", "--format", form.name, "--no-derain")
    run(*everything)
    assert "extracted 3" in run(*everything, "--draw", tmp_path / "pictures").stderr
    assert "skipped 3" in run(*everything, "--draw", tmp_path / "pictures").stderr
    assert files(tmp_path / "out") == [form.file]


def test_missing_library(run, photos, tmp_path, form, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, form.library, None)
    result = run("sift", photos, "-o", tmp_path / "out", "--format", form.name)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert f"`--format {form.name}` needs a library that is not here" in line
    assert form.library in line
    assert f"pip install -c constraints.txt '.[{form.extra}]'" in line
    assert not (tmp_path / "out").exists()


def test_pipes_are_refused(run, photos, form) -> None:
    data = (photos / "img2.png").read_bytes()
    for arguments in (("-",), ("-", "-o", "x.db"), (photos, "-o", "-")):
        result = run("sift", *arguments, "--format", form.name, stdin=data)
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)


def test_one_kind_of_descriptor_for_hloc(run, photos, tmp_path) -> None:
    result = run("sift", photos, "-o", tmp_path, "--format", "hloc", "--descriptors", "rootsift_u8")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "it takes rootsift_f32" in result.stderr


def test_names_that_are_no_unicode(run, photos, tmp_path, form) -> None:
    bad = os.fsdecode(b"caf\xe9.png")
    try:
        (photos / "img2.png").rename(photos / bad)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such name")
    result = run("sift", photos, "-o", tmp_path / "out", "--format", form.name, "--no-derain")
    assert result.exit_code == 1
    assert "this format needs a name in valid UTF-8" in result.stderr
    assert sorted(form.contents(tmp_path / "out" / form.file)) == NAMES[:2]


def test_names_beyond_ascii(run, photos, tmp_path, form) -> None:
    (photos / "img2.png").rename(photos / "cäfé 雨.png")
    assert run("sift", photos, "-o", tmp_path / "out", "--format", form.name, "--no-derain").exit_code == 0
    assert sorted(form.contents(tmp_path / "out" / form.file)) == sorted([*NAMES[:2], "cäfé 雨.png"])


def test_colmap_matches_and_verifies(run, tmp_path) -> None:
    """A rainy photograph and the same from another side, through the shipped networks: matching, two-view geometry."""
    pycolmap = pytest.importorskip("pycolmap")
    folder = tmp_path / "pair"
    folder.mkdir()
    picture = np.asarray(Image.open(EXAMPLES / "rainy" / "town" / "houses.jpg"))[:288, :352]
    height, width = picture.shape[:2]
    corners = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    view = cv2.getPerspectiveTransform(corners, corners + np.float32([[14, 9], [-20, 4], [-6, -12], [10, -16]]))
    Image.fromarray(picture).save(folder / "a.png")
    Image.fromarray(cv2.warpPerspective(picture, view, (width, height))).save(folder / "b.png")
    database = tmp_path / "out.db"
    assert run("sift", folder, "-o", database, "--format", "colmap-db").exit_code == 0

    options = pycolmap.FeatureMatchingOptions()
    options.use_gpu = False
    options.num_threads = 1
    pycolmap.match_exhaustive(str(database), matching_options=options)
    with pycolmap.Database.open(str(database)) as opened:
        first, second = (opened.read_image_with_name(name).image_id for name in ("a.png", "b.png"))
        geometry = opened.read_two_view_geometry(first, second)
        here, there = opened.read_keypoints(first)[:, :2], opened.read_keypoints(second)[:, :2]
    inliers = geometry.inlier_matches
    assert len(inliers) > 100
    # They are true: COLMAP's own coordinates, taken back to pixel centres, follow the view that was made.
    moved = cv2.perspectiveTransform(here[inliers[:, 0]][None].astype(float) - 0.5, view)[0] + 0.5
    assert np.median(np.hypot(*(moved - there[inliers[:, 1]]).T)) < 0.5


def test_what_a_killed_writer_left_in_the_log_counts(tmp_path) -> None:
    """SQLite keeps the last changes beside the database until someone opens it."""
    pycolmap = pytest.importorskip("pycolmap")
    pycolmap.Database.open(str(tmp_path / "x.db")).close()
    writer = sqlite3.connect(tmp_path / "x.db")
    writer.execute("PRAGMA journal_mode = wal")
    writer.execute("INSERT INTO cameras VALUES (1, 0, 10, 10, x'', 0)")
    writer.execute("INSERT INTO images VALUES (1, 'a.png', 1)")
    writer.execute("INSERT INTO keypoints VALUES (1, 0, 4, x'')")
    writer.execute("INSERT INTO descriptors VALUES (1, 0, 0, 128, x'')")
    writer.commit()
    for name in ("x.db", "x.db-wal"):  # as after a kill: both files, nobody who has them open
        (tmp_path / f"killed.{name}").write_bytes((tmp_path / name).read_bytes())
    writer.close()
    assert colmap_db.contents(tmp_path / "killed.x.db") == {"a.png": None}


def test_cameras_of_a_database(run, photos, tmp_path) -> None:
    """One camera for all; another mode for photographs that are there is noticed, and parts serve any."""
    pycolmap = pytest.importorskip("pycolmap")
    everything = ("sift", photos, "--format", "colmap-db", "--no-derain")
    single = ("--camera-mode", "single", "--camera-model", "pinhole")
    assert run(*everything, "-o", tmp_path / "one.db", *single).exit_code == 0
    assert run(*everything, "-o", tmp_path / "many.db").exit_code == 0
    cameras = {}
    for name in ("one", "many"):
        with pycolmap.Database.open(str(tmp_path / f"{name}.db")) as database:
            cameras[name] = [camera.model_name for camera in database.read_all_cameras()]
    sizes = {read_photo(photos / name).visible.shape for name in NAMES}
    assert (cameras["one"], len(cameras["many"])) == (["PINHOLE"] * len(sizes), 3)
    assert "made with other settings (camera-mode, camera-model)" in run(*everything, "-o", tmp_path / "one.db").stderr
