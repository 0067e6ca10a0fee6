"""Files that hold a whole run, COLMAP's database and hloc's HDF5, read back with their own libraries."""

import itertools
import json
import math
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from idsr_cli.errors import ItemError, UsageError
from idsr_cli.features import sift
from idsr_cli.formats import FORMATS, RunFormat, colmap_db
from idsr_cli.formats.colmap_db import Cameras
from idsr_cli.formats.descriptors import DescriptorKind, convert
from idsr_cli.formats.entry import Entry
from idsr_cli.formats.npz import encode
from idsr_cli.images.folders import SUFFIX_FORMATS
from idsr_cli.images.photo import encode as encode_photo
from idsr_cli.images.photo import read_photo
from idsr_cli.keypoints import Keypoints

NAMES = [name for name, form in FORMATS.items() if isinstance(form, RunFormat)]


def run_format(name: str) -> RunFormat:
    pytest.importorskip({"colmap-db": "pycolmap", "hloc": "h5py"}[name])
    form = FORMATS[name]
    assert isinstance(form, RunFormat)
    return form


def photo(seed: int = 1, size: tuple[int, int] = (80, 96)) -> np.ndarray:
    """(H, W) uint8 with blobs, in which SIFT finds keypoints."""
    noise = np.random.default_rng(seed).uniform(0, 255, size).astype(np.float32)
    return np.clip((cv2.GaussianBlur(noise, (0, 0), 3) - 127) * 9 + 127, 0, 255).astype(np.uint8)


def extract(grey: np.ndarray) -> Keypoints:
    return sift(torch.from_numpy(grey.astype(np.float32)))


Make = Callable[..., Entry]


@pytest.fixture
def make(tmp_path) -> Make:
    """A photograph on disk and the part that holds its keypoints."""
    counter = itertools.count()

    def entry(name: str, grey: np.ndarray | None = None, keypoints: Keypoints | None = None, **meta: object) -> Entry:
        grey = photo(seed=len(name)) if grey is None else grey
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grey).save(path)
        part = tmp_path / f"part{next(counter)}.npz"
        part.write_bytes(encode(extract(grey) if keypoints is None else keypoints, {"descriptors": "sift_u8"}))
        return Entry(name, tmp_path / "photos", part, {"descriptors": "sift_u8", **meta})

    return entry


def read(name: str, path: Path, photograph: str) -> tuple[np.ndarray, np.ndarray]:
    """By the format's library: x, y from the centre of the first pixel, sigma, degrees clockwise; descriptors."""
    if name == "hloc":
        import h5py

        with h5py.File(path, "r") as file:
            group = file[photograph]
            assert all(
                group[key].dtype == np.float32 for key in ("keypoints", "descriptors", "scores", "scales", "oris")
            )
            frames = np.column_stack([group["keypoints"][()], group["scales"][()], group["oris"][()]])
            return frames.reshape(-1, 4), group["descriptors"][()].T
    import pycolmap

    with pycolmap.Database.open(str(path)) as database:
        image = database.read_image_with_name(photograph)
        frames = np.array(database.read_keypoints(image.image_id), float)
        described = database.read_descriptors(image.image_id)
    assert described.type == pycolmap.FeatureExtractorType.SIFT
    frames[:, :2] -= 0.5
    frames[:, 3] = np.rad2deg(frames[:, 3])
    return frames, described.data


def add(name: str, path: Path, entries: Sequence[Entry], kind: DescriptorKind | None = None) -> None:
    form = run_format(name)
    ready = [Entry(e.name, e.root, e.part, {**e.meta, "descriptors": kind or form.kinds[0]}) for e in entries]
    form.add(path, ready)


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in NAMES for kind in FORMATS[name].kinds])
def test_read_again(make, tmp_path, name, kind) -> None:
    grey = photo()
    keypoints = extract(grey)
    add(name, tmp_path / "out", [make("a/x.jpg", grey), make("y.png")], kind)
    frames, descriptors = read(name, tmp_path / "out", "a/x.jpg")
    assert len(frames) == len(keypoints) > 20
    np.testing.assert_allclose(frames[:, :2], keypoints.xy, atol=1e-5)
    np.testing.assert_allclose(frames[:, 2], keypoints.scale, rtol=1e-6)
    np.testing.assert_allclose(frames[:, 3], keypoints.angle, atol=1e-4)
    np.testing.assert_array_equal(descriptors, convert(keypoints, kind).descriptors)


@pytest.mark.parametrize("name", NAMES)
def test_turning_the_picture_turns_the_frames(make, tmp_path, name) -> None:
    grey = photo()
    turned = np.ascontiguousarray(cv2.rotate(grey, cv2.ROTATE_90_CLOCKWISE))
    add(name, tmp_path / "out", [make("here.png", grey), make("there.png", turned)])
    here, _ = read(name, tmp_path / "out", "here.png")
    there, _ = read(name, tmp_path / "out", "there.png")
    found = 0
    for x, y, _, angle in here:
        near = np.hypot(there[:, 0] - (79 - y), there[:, 1] - x) < 0.3
        found += bool((np.abs((there[near, 3] - angle - 90 + 180) % 360 - 180) < 6).any())
    assert found >= 0.8 * len(here) > 16


@pytest.mark.parametrize("name", NAMES)
def test_no_keypoints_at_all(make, tmp_path, name) -> None:
    add(name, tmp_path / "out", [make("flat.png", np.full((30, 40), 99, np.uint8))])
    frames, descriptors = read(name, tmp_path / "out", "flat.png")
    assert (frames.shape, descriptors.shape) == ((0, 4), (0, 128))
    assert list(run_format(name).contents(tmp_path / "out")) == ["flat.png"]


def test_hloc_layout(make, tmp_path) -> None:
    h5py = pytest.importorskip("h5py")
    keypoints = extract(photo())
    far = Keypoints(**{**vars(keypoints), "xy": keypoints.xy + np.float32(3000.3), "image_size": (4000, 3900)})
    add("hloc", tmp_path / "out.h5", [make("a/b/x.jpg", keypoints=far)])
    with h5py.File(tmp_path / "out.h5") as file:
        group = file["a"]["b"]["x.jpg"]
        assert group["descriptors"].shape == (128, len(keypoints))
        assert group["keypoints"].attrs["uncertainty"] == 1
        assert group["image_size"][()].tolist() == [4000, 3900]
        np.testing.assert_array_equal(group["keypoints"][()], far.xy)  # float16 would be 2 pixels off here
        np.testing.assert_allclose((group["descriptors"][()] ** 2).sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_nan_leaves_the_file_unchanged(make, tmp_path, name) -> None:
    add(name, tmp_path / "out", [make("good.png")])
    bad = extract(photo())
    bad.xy[3, 0] = math.nan
    with pytest.raises(ItemError, match="xy of keypoint 3"):
        add(name, tmp_path / "out", [make("bad.png", keypoints=bad)])
    assert list(run_format(name).contents(tmp_path / "out")) == ["good.png"]


# --- additions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_adding_and_replacing(make, tmp_path, name) -> None:
    out = tmp_path / "out"
    add(name, out, [make("a.png", photo(1), run=1), make("sub/b.png", photo(2), run=1)])
    first = read(name, out, "sub/b.png")
    add(name, out, [make("a.png", photo(3), run=2), make("c.png", photo(4), run=2)])
    found = run_format(name).contents(out)
    assert {key: meta and meta["run"] for key, meta in found.items()} == {"a.png": 2, "sub/b.png": 1, "c.png": 2}
    np.testing.assert_array_equal(read(name, out, "sub/b.png")[0], first[0])
    np.testing.assert_allclose(read(name, out, "a.png")[0][:, :2], extract(photo(3)).xy, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_files_of_other_kinds(tmp_path, name) -> None:
    form = run_format(name)
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").touch()
    with closing(sqlite3.connect(tmp_path / "other")) as database, database:
        database.execute("CREATE TABLE t (x)")
    for path in ("text", "empty", "other"):
        for look in (form.contents, form.incomplete):
            with pytest.raises(UsageError, match=path):
                look(tmp_path / path)


def test_hloc_keeps_what_others_wrote(make, tmp_path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "out.h5", "w") as file:
        file["theirs.jpg/keypoints"] = np.zeros((5, 2), np.float16)
        file["theirs.jpg/descriptors"] = np.zeros((128, 5), np.float16)
        file["other"] = [1, 2, 3]
        file.attrs["note"] = "mine"
    add("hloc", tmp_path / "out.h5", [make("ours.jpg")])
    found = run_format("hloc").contents(tmp_path / "out.h5")
    assert found["theirs.jpg"] is None
    assert found["ours.jpg"] is not None
    with h5py.File(tmp_path / "out.h5") as file:
        assert (file.attrs["note"], file["other"][()].tolist()) == ("mine", [1, 2, 3])


# --- COLMAP's database -----------------------------------------------------------------------------------------------


def test_cameras_are_colmaps_own(make, tmp_path) -> None:
    """One for each photograph without EXIF, f = 1.2 max(w, h); shared where EXIF says so, f from EXIF."""
    pycolmap = pytest.importorskip("pycolmap")
    entries = [make("plain.png"), make("one.jpg"), make("two.jpg", photo(5))]
    exif = Image.Exif()
    exif[271], exif[272] = "Maker", "Model"
    exif.get_ifd(0x8769).update({0x9207: 1, 0x920A: 28.0, 0xA405: 42})  # 42 mm on 35 mm film
    for name in ("one.jpg", "two.jpg"):
        image = Image.open(tmp_path / "photos" / name)
        image.save(tmp_path / "photos" / name, exif=exif)
    add("colmap-db", tmp_path / "out.db", entries)
    reference = tmp_path / "theirs.db"
    pycolmap.Database.open(str(reference)).close()
    pycolmap.import_images(str(reference), str(tmp_path / "photos"), image_names=sorted(e.name for e in entries))
    found = []
    for path in (tmp_path / "out.db", reference):
        with pycolmap.Database.open(str(path)) as database:
            images = {image.name: image for image in database.read_all_images()}
            cameras = {name: database.read_camera(image.camera_id) for name, image in images.items()}
            found.append(
                {name: (c.camera_id, c.model_name, c.params.tolist(), c.width, c.height) for name, c in cameras.items()}
            )
            priors = [c.has_prior_focal_length for c in cameras.values()]
            assert sorted(priors) == [False, True, True]
            assert database.num_rigs() == database.num_cameras()
            assert database.num_frames() == 3
    assert found[0] == found[1]
    assert found[0]["plain.png"][1:3] == ("SIMPLE_RADIAL", [1.2 * 96, 48, 40, 0])
    assert found[0]["one.jpg"][0] == found[0]["two.jpg"][0] != found[0]["plain.png"][0]


def test_photographs_that_colmap_cannot_import_are_added_too(make, tmp_path) -> None:
    """Two sizes with one camera in EXIF, and a file that COLMAP cannot read."""
    pycolmap = pytest.importorskip("pycolmap")
    entries = [make("wide.jpg"), make("tall.jpg", photo(5, (96, 80))), make("odd.png")]
    exif = Image.Exif()
    exif[271], exif[272] = "Maker", "Model"
    exif.get_ifd(0x8769).update({0x9207: 1, 0x920A: 28.0, 0xA405: 42})
    for name in ("wide.jpg", "tall.jpg"):
        Image.open(tmp_path / "photos" / name).save(tmp_path / "photos" / name, exif=exif)
    (tmp_path / "photos" / "odd.png").write_bytes(b"gone bad meanwhile")
    add("colmap-db", tmp_path / "out.db", entries)
    with pycolmap.Database.open(str(tmp_path / "out.db")) as database:
        sizes = {}
        for image in database.read_all_images():
            camera = database.read_camera(image.camera_id)
            sizes[image.name] = (camera.width, camera.height)
            assert camera.verify_params()
            assert database.read_frame(image.frame_id).rig_id == image.camera_id  # each with a rig of its own
            assert database.num_keypoints_for_image(image.image_id) > 0
    assert sizes == {"wide.jpg": (96, 80), "tall.jpg": (80, 96), "odd.png": (96, 80)}


def test_replacing_features_deletes_their_matches(make, tmp_path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    out = tmp_path / "out.db"
    add("colmap-db", out, [make(name, photo(seed)) for seed, name in enumerate(("a.png", "b.png", "c.png"))])
    with pycolmap.Database.open(str(out)) as database:
        ids = {image.name: image.image_id for image in database.read_all_images()}
        for first, second in (("a.png", "b.png"), ("b.png", "c.png"), ("a.png", "c.png")):
            database.write_matches(ids[first], ids[second], np.array([[0, 0]], np.uint32))
            database.write_two_view_geometry(ids[first], ids[second], pycolmap.TwoViewGeometry())
    add("colmap-db", out, [make("b.png", photo(9))])
    with pycolmap.Database.open(str(out)) as database:
        assert {image.name: image.image_id for image in database.read_all_images()} == ids
        assert database.exists_matches(ids["a.png"], ids["c.png"])
        assert not database.exists_matches(ids["a.png"], ids["b.png"])
        assert not database.exists_matches(ids["c.png"], ids["b.png"])
        assert not database.exists_two_view_geometry(ids["a.png"], ids["b.png"])


def test_reading_a_database_creates_no_files(make, tmp_path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    add("colmap-db", folder / "out.db", [make("a.png")])
    before = (folder / "out.db").read_bytes()
    run_format("colmap-db").contents(folder / "out.db")
    assert [path.name for path in folder.iterdir()] == ["out.db"]
    assert (folder / "out.db").read_bytes() == before


# --- killed in the middle --------------------------------------------------------------------------------------------

KILLED = """
import json, os, sys
from pathlib import Path
from idsr_cli.formats import FORMATS
from idsr_cli.formats.entry import Entry
name, path, entries = json.loads(sys.argv[1])
keypoints, calls = Entry.keypoints, []
def die(self):
    calls.append(self)
    if len(calls) == 2:
        os._exit(9)
    return keypoints(self)
Entry.keypoints = die
FORMATS[name].add(Path(path), [Entry(n, Path(r), Path(p), m) for n, r, p, m in entries])
"""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("exists", [False, True])
def test_killed_while_adding(make, tmp_path, name, exists) -> None:
    form, out = run_format(name), tmp_path / "out"
    if exists:
        add(name, out, [make("old.png", photo(1)), make("b.png", photo(2))])
        before = read(name, out, "old.png"), read(name, out, "b.png")
    entries = [make("a.png", photo(3)), make("b.png", photo(4)), make("c.png", photo(5))]
    said = [(e.name, str(e.root), str(e.part), {"descriptors": form.kinds[0]}) for e in entries]
    command = [sys.executable, "-c", KILLED, json.dumps([name, str(out), said])]
    assert subprocess.run(command, cwd=Path(__file__).parents[2]).returncode == 9
    inside = set(form.contents(out)) if out.exists() else set()
    # Replaced photographs may be missing (the next run makes them again), but none is incomplete.
    assert inside <= {"old.png", "b.png"}
    if exists:
        assert "old.png" in inside
        np.testing.assert_array_equal(read(name, out, "old.png")[0], before[0][0])
        if "b.png" in inside:
            np.testing.assert_array_equal(read(name, out, "b.png")[0], before[1][0])
    add(name, out, entries)
    assert set(form.contents(out)) == {"a.png", "b.png", "c.png"} | ({"old.png"} if exists else set())
    for entry, seed in zip(entries, (3, 4, 5), strict=True):
        assert len(read(name, out, entry.name)[0]) == len(extract(photo(seed)))
    if name == "colmap-db":
        with closing(sqlite3.connect(out)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# --- cameras, rigs and frames ----------------------------------------------------------------------------------------


def with_exif(path: Path, focal: int = 42, maker: str = "Maker", place: float | None = None) -> None:
    exif = Image.Exif()
    exif[271], exif[272] = maker, "Model"
    exif.get_ifd(0x8769).update({0x9207: 1, 0x920A: 28.0, 0xA405: focal})
    if place is not None:
        exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 0.0, 0.0), 3: "E", 4: (8.0, 0.0, 0.0), 5: 0, 6: place})
    Image.open(path).save(path, exif=exif)


def state(path: Path) -> dict[str, tuple[object, ...]]:
    """Of each image: camera id, width, height, parameters, prior; each has a frame, in the rig of its camera."""
    import pycolmap

    with pycolmap.Database.open(str(path)) as database:
        found = {}
        for image in database.read_all_images():
            camera = database.read_camera(image.camera_id)
            frame = database.read_frame(image.frame_id)
            assert [data.id for data in frame.data_ids] == [image.image_id]
            assert database.read_rig(frame.rig_id).has_sensor(camera.sensor_id)
            prior = camera.has_prior_focal_length
            found[image.name] = (image.camera_id, camera.width, camera.height, camera.params.tolist(), prior)
        assert database.num_frames() == database.num_images()
        assert database.num_cameras() == database.num_rigs() == len({values[0] for values in found.values()})
        pycolmap.DatabaseCache.create(database, pycolmap.DatabaseCacheOptions())  # as the mapper begins
    return found


@pytest.mark.parametrize("recorded", [True, False])
def test_photographs_added_later_get_the_camera_that_is_there(make, tmp_path, recorded) -> None:
    pytest.importorskip("pycolmap")
    folder, out = tmp_path / "photos", tmp_path / "out.db"
    entries = [make(f"{k}.jpg", photo(k)) for k in range(7)] + [make("plain.png"), make("plain2.png")]
    for k in range(7):
        with_exif(
            folder / f"{k}.jpg", focal=50 if k == 5 else 42, maker="Other" if k == 6 else "Maker", place=400.0 + k
        )
    add("colmap-db", out, entries[:2])
    if not recorded:
        with closing(sqlite3.connect(out)) as database, database:
            database.execute("DROP TABLE idsr")
    add("colmap-db", out, entries[2:4])
    add("colmap-db", out, entries[4:])
    in_one_go = tmp_path / "one.db"
    add("colmap-db", in_one_go, entries)
    found, expected = state(out), state(in_one_go)
    assert {name: values[1:] for name, values in found.items()} == {name: v[1:] for name, v in expected.items()}
    assert len({found[f"{k}.jpg"][0] for k in range(5)}) == 1
    assert len({values[0] for values in found.values()}) == 5
    with closing(sqlite3.connect(out)) as database:
        assert database.execute("SELECT count(*) FROM pose_priors").fetchone() == (7,)


def test_two_folders_in_one_go_share_their_camera(make, tmp_path) -> None:
    pytest.importorskip("pycolmap")
    entries = []
    for k in range(2):
        entry = make(f"{k}.jpg", photo(k))
        with_exif(tmp_path / "photos" / entry.name)
        root = tmp_path / f"folder{k}"
        root.mkdir()
        (tmp_path / "photos" / entry.name).rename(root / entry.name)
        entries.append(Entry(entry.name, root, entry.part, entry.meta))
    add("colmap-db", tmp_path / "out.db", entries)
    assert len({values[0] for values in state(tmp_path / "out.db").values()}) == 1


@pytest.mark.parametrize("change", ["size", "focal length", "maker", "no camera"])
def test_the_camera_follows_a_photograph_that_is_replaced(make, tmp_path, change) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    folder, out = tmp_path / "photos", tmp_path / "out.db"
    entries = [make(name, photo(k)) for k, name in enumerate(("a.jpg", "b.jpg", "c.jpg"))]
    for entry in entries:
        with_exif(folder / entry.name)
    add("colmap-db", out, entries)
    with pycolmap.Database.open(str(out)) as database:
        ids = {image.name: image.image_id for image in database.read_all_images()}
        for first, second in (("a.jpg", "b.jpg"), ("a.jpg", "c.jpg")):
            database.write_matches(ids[first], ids[second], np.array([[0, 0]], np.uint32))
    again = make("b.jpg", photo(9, (96, 80) if change == "size" else (80, 96)))
    if change != "no camera":
        focal, maker = (50 if change == "focal length" else 42), ("Other" if change == "maker" else "Maker")
        with_exif(folder / "b.jpg", focal, maker)
    add("colmap-db", out, [again])
    fresh = tmp_path / "fresh.db"
    add("colmap-db", fresh, [*entries[:1], again, *entries[2:]])
    found, expected = state(out), state(fresh)
    assert {name: values[1:] for name, values in found.items()} == {name: v[1:] for name, v in expected.items()}
    assert found["b.jpg"][0] not in (found["a.jpg"][0], found["c.jpg"][0])
    assert found["a.jpg"][0] == found["c.jpg"][0]
    with pycolmap.Database.open(str(out)) as database:
        ids = {image.name: image.image_id for image in database.read_all_images()}
        assert database.exists_matches(ids["a.jpg"], ids["c.jpg"])
        assert not database.exists_matches(ids["a.jpg"], ids["b.jpg"])
        assert database.num_matched_image_pairs() == 1
    np.testing.assert_allclose(read("colmap-db", out, "b.jpg")[0][:, :2], again.keypoints().xy, atol=1e-5)


@pytest.mark.parametrize(("mode", "count"), [("auto", 5), ("single", 2), ("per-folder", 3)])
def test_photographs_that_share_a_camera(make, tmp_path, mode, count) -> None:
    """Frames without EXIF, of two sizes and in two folders, in one go and in two; one of them COLMAP cannot read."""
    pytest.importorskip("pycolmap")
    names = ("a/1.png", "a/2.png", "b/1.png", "b/2.png")
    entries = [make(name, photo(k)) for k, name in enumerate(names)]
    entries.append(make("b/3.png", photo(7, (96, 80))))
    (tmp_path / "photos" / "a" / "2.png").write_bytes(b"gone bad meanwhile")
    cameras = Cameras(mode, "OPENCV")
    for path, parts in ((tmp_path / "one.db", [entries]), (tmp_path / "two.db", [entries[:1], entries[1:]])):
        for part in parts:
            ready = [Entry(e.name, e.root, e.part, {"descriptors": "rootsift_u8"}) for e in part]
            colmap_db.add(path, ready, cameras)
        found = state(path)
        assert len({values[0] for values in found.values()}) == count
        assert found["b/3.png"][1:3] == (80, 96)
        parameters = {name: values[3] for name, values in found.items()}
        assert parameters["a/1.png"] == parameters["a/2.png"] == pytest.approx([115.2, 115.2, 48, 40, 0, 0, 0, 0])
        if mode != "auto":
            assert found["a/1.png"][0] == found["a/2.png"][0]
        assert (found["a/1.png"][0] == found["b/2.png"][0]) == (mode == "single")


def test_photographs_written_again_get_the_cameras_that_are_asked_for(make, tmp_path) -> None:
    """`--existing overwrite` with another mode or model does what it says; with the same, set parameters stay."""
    pycolmap = pytest.importorskip("pycolmap")
    out = tmp_path / "out.db"
    made = [make(name, photo(k)) for k, name in enumerate(("a.png", "b.png"))]

    def write(cameras: Cameras) -> dict:
        settings = {"camera_mode": cameras.mode, "camera_model": cameras.model}
        meta = {"descriptors": "rootsift_u8", "settings": settings}
        colmap_db.add(out, [Entry(e.name, e.root, e.part, meta) for e in made], cameras)
        return state(out)

    assert len({values[0] for values in write(Cameras()).values()}) == 2
    single = write(Cameras("single", "PINHOLE"))
    assert len({values[0] for values in single.values()}) == 1
    assert {len(values[3]) for values in single.values()} == {4}
    with pycolmap.Database.open(str(out)) as database:
        assert database.num_cameras() == database.num_rigs() == 1
        camera = database.read_camera(single["a.png"][0])
        camera.params = [50, 50, 48, 40]
        database.update_camera(camera)
    assert list(write(Cameras("single", "PINHOLE"))["b.png"][3]) == [50, 50, 48, 40]


@pytest.mark.parametrize("suffix", ["webp", "avif", "heic", "jp2", "png", "tif"])
def test_exif_of_formats_that_colmap_cannot_read(make, tmp_path, suffix) -> None:
    """Focal length, GPS position, and one camera with a JPEG of the same EXIF and size, added before."""
    pytest.importorskip("pycolmap")
    if suffix == "heic":
        pytest.importorskip("pillow_heif")
    folder, out = tmp_path / "photos", tmp_path / "out.db"
    first, second = make("a/1.jpg"), make("a/2.png")
    with_exif(folder / "a/1.jpg", place=400.0)
    picture = read_photo(folder / "a/1.jpg")
    (folder / "a" / f"2.{suffix}").write_bytes(encode_photo(picture, picture.rgb, SUFFIX_FORMATS[f".{suffix}"]))
    second = Entry(f"a/2.{suffix}", second.root, second.part, second.meta)
    add("colmap-db", out, [first])
    add("colmap-db", out, [second])
    found = state(out)
    assert found[f"a/2.{suffix}"] == found["a/1.jpg"]
    assert found["a/1.jpg"][4] is True
    with closing(sqlite3.connect(out)) as database:
        assert database.execute("SELECT count(*) FROM pose_priors").fetchone() == (2,)
        places = database.execute("SELECT DISTINCT prior_tx, prior_ty, prior_tz FROM images").fetchall()
        assert places == [(47.0, 8.0, 400.0)]


# What COLMAP prepares when it opens a database; one that does not compile ends the program. From the sources of 3.8,
# of 3.10 and of 3.12, without statements that have been the same ever since.
STATEMENTS = {
    "3.8": (
        "INSERT INTO images(image_id, name, camera_id, prior_qw, prior_qx, prior_qy, prior_qz, prior_tx, prior_ty, "
        "prior_tz) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        "UPDATE images SET name=?, camera_id=?, prior_qw=?, prior_qx=?, prior_qy=?, prior_qz=?, prior_tx=?, "
        "prior_ty=?, prior_tz=? WHERE image_id=?",
        "INSERT INTO descriptors(image_id, rows, cols, data) VALUES(?, ?, ?, ?)",
        "SELECT rows, cols, data, config, F, E, H, qvec, tvec FROM two_view_geometries WHERE pair_id = ?",
    ),
    "3.10": (
        "SELECT 1 FROM pose_priors WHERE image_id = ?",
        "SELECT * FROM pose_priors WHERE image_id = ?",
        "INSERT INTO pose_priors(image_id, position, coordinate_system, position_covariance) VALUES(?, ?, ?, ?)",
        "UPDATE pose_priors SET position=?, coordinate_system=?, position_covariance=? WHERE image_id=?",
        "INSERT INTO images(image_id, name, camera_id) VALUES(?, ?, ?)",
    ),
    "3.12": (
        "INSERT INTO rigs(rig_id, ref_sensor_id, ref_sensor_type) VALUES(?, ?, ?)",
        "INSERT INTO rig_sensors(rig_id, sensor_id, sensor_type, sensor_from_rig) VALUES(?, ?, ?, ?)",
        "INSERT INTO frames(frame_id, rig_id) VALUES(?, ?)",
        "INSERT INTO frame_data(frame_id, data_id, sensor_id, sensor_type) VALUES(?, ?, ?, ?)",
    ),
}


@pytest.mark.parametrize("begun", ["by idsr", "by COLMAP 3.8"])
def test_colmap_3_can_open_the_database(make, tmp_path, begun) -> None:
    pytest.importorskip("pycolmap")
    out = tmp_path / "out.db"
    entries = [make("a.jpg"), make("b.png", photo(3))]
    with_exif(tmp_path / "photos" / "a.jpg", place=400.0)
    if begun == "by COLMAP 3.8":
        begin_as_colmap_3_8(out, "theirs.png")
    for entry in entries:  # in two runs: COLMAP 4 opens the database of the first
        add("colmap-db", out, [entry])
    with closing(sqlite3.connect(out)) as database:
        for statement in itertools.chain(*STATEMENTS.values()):
            database.execute(f"EXPLAIN {statement}", [None] * statement.count("?"))
        assert [row[1] for row in database.execute("PRAGMA table_info(images)")][:3] == [
            "image_id",
            "name",
            "camera_id",
        ]
        # 3.10 reads the columns by their number.
        kept = database.execute("SELECT * FROM pose_priors").fetchall()
        assert [(number, np.frombuffer(place).tolist(), kind) for number, place, kind, _ in kept] == [
            (database.execute("SELECT image_id FROM images WHERE name = 'a.jpg'").fetchone()[0], [47, 8, 400], 0)
        ]
        database.execute("PRAGMA user_version = 3800")  # as COLMAP 3.8 leaves it
    found = state(out)
    assert set(found) == {"a.jpg", "b.png"} | ({"theirs.png"} if begun == "by COLMAP 3.8" else set())


def test_positions_that_colmap_3_cannot_hold_are_kept(make, tmp_path) -> None:
    """The direction of gravity, which COLMAP 4 keeps beside the position."""
    pycolmap = pytest.importorskip("pycolmap")
    if not hasattr(pycolmap.PosePrior, "gravity"):
        pytest.skip("this COLMAP keeps none")
    out = tmp_path / "out.db"
    entries = [make("a.jpg"), make("b.png", photo(3))]
    with_exif(tmp_path / "photos" / "a.jpg", place=400.0)
    add("colmap-db", out, entries[:1])
    with pycolmap.Database.open(str(out)) as database:
        (prior,) = database.read_all_pose_priors()
        prior.gravity = [0.0, 0.0, -1.0]
        database.update_pose_prior(prior)
    add("colmap-db", out, entries[1:])
    with pycolmap.Database.open(str(out)) as database:
        (prior,) = database.read_all_pose_priors()
        assert prior.gravity.tolist() == [0.0, 0.0, -1.0]
        assert prior.position.tolist() == [47.0, 8.0, 400.0]


def begin_as_colmap_3_8(path: Path, name: str) -> None:
    """A database as COLMAP 3.8 makes it, with one image without features."""
    priors = ", ".join(f"prior_{n} REAL" for n in ("qw", "qx", "qy", "qz", "tx", "ty", "tz"))
    blob = "rows INTEGER NOT NULL, cols INTEGER NOT NULL, data BLOB"
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(
            "CREATE TABLE cameras (camera_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, model INTEGER NOT NULL, "
            "width INTEGER NOT NULL, height INTEGER NOT NULL, params BLOB, prior_focal_length INTEGER NOT NULL);"
            "CREATE TABLE images (image_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, name TEXT NOT NULL UNIQUE, "
            f"camera_id INTEGER NOT NULL, {priors});"
            f"CREATE TABLE keypoints (image_id INTEGER PRIMARY KEY NOT NULL, {blob});"
            f"CREATE TABLE descriptors (image_id INTEGER PRIMARY KEY NOT NULL, {blob});"
            f"CREATE TABLE matches (pair_id INTEGER PRIMARY KEY NOT NULL, {blob});"
            f"CREATE TABLE two_view_geometries (pair_id INTEGER PRIMARY KEY NOT NULL, {blob}, "
            "config INTEGER NOT NULL, F BLOB, E BLOB, H BLOB, qvec BLOB, tvec BLOB);"
            "PRAGMA user_version = 3800;"
        )
        camera = np.array([100.0, 48.0, 40.0, 0.0]).tobytes()
        database.execute("INSERT INTO cameras VALUES (1, 2, 96, 80, ?, 0)", [camera])
        database.execute("INSERT INTO images (image_id, name, camera_id) VALUES (1, ?, 1)", [name])


@pytest.mark.skipif(shutil.which("colmap") is None, reason="the program `colmap` is not here")
def test_the_program_colmap_matches(make, tmp_path, monkeypatch) -> None:
    """COLMAP of any version, as Debian and Ubuntu ship it; then pycolmap, which may be a newer one."""
    pycolmap = pytest.importorskip("pycolmap")
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    large = photo(4, (200, 220))
    entries = [make("a.png", large), make("b.png", np.ascontiguousarray(large[4:, 6:]))]
    out = tmp_path / "out.db"
    add("colmap-db", out, entries)
    colmap = ["colmap", "exhaustive_matcher", "--database_path", str(out)]
    version = subprocess.run(["colmap", "help"], capture_output=True, text=True, check=False).stdout
    kind = "Sift" if "COLMAP 3" in version else "Feature"
    done = subprocess.run(
        [*colmap, f"--{kind}Matching.use_gpu", "0", f"--{kind}Matching.num_threads", "1"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with pycolmap.Database.open(str(out)) as database:
        assert len(database.read_two_view_geometry(1, 2).inlier_matches) > 20
        assert database.num_frames() == 2
    add("colmap-db", out, [make("c.png", np.ascontiguousarray(large[2:, 1:]))])
    assert subprocess.run(done.args, capture_output=True, check=False).returncode == 0
    with closing(sqlite3.connect(out)) as database:
        assert database.execute("SELECT count(*) FROM two_view_geometries WHERE rows > 20").fetchone() == (3,)


def test_a_calibrated_camera_stays(make, tmp_path) -> None:
    """The same photographs again, and new ones of the same camera: the parameters that somebody set are kept."""
    pycolmap = pytest.importorskip("pycolmap")
    folder, out = tmp_path / "photos", tmp_path / "out.db"
    entries = [make(name, photo(k)) for k, name in enumerate(("a.jpg", "b.jpg"))]
    for entry in entries:
        with_exif(folder / entry.name)
    add("colmap-db", out, entries[:1])
    with pycolmap.Database.open(str(out)) as database:
        camera = database.read_all_cameras()[0]
        camera.params = [123.0, 48.0, 40.0, 0.01]
        database.update_camera(camera)
    add("colmap-db", out, entries)
    assert [values[3] for values in state(out).values()] == [[123.0, 48.0, 40.0, 0.01]] * 2


def test_a_database_with_rigs_that_colmap_has_begun(make, tmp_path) -> None:
    """Two cameras in one rig; images of theirs with and without a frame; the mapper wants one for each."""
    pycolmap = pytest.importorskip("pycolmap")
    out = tmp_path / "out.db"
    entries = [make(name, photo(k)) for k, name in enumerate(("left.png", "right.png", "new.png", "odd.png"))]
    (tmp_path / "photos" / "odd.png").write_bytes(b"gone bad meanwhile")
    with pycolmap.Database.open(str(out)) as database:
        cameras = []
        for _ in range(2):
            camera = pycolmap.Camera.create_from_model_name(0, "SIMPLE_RADIAL", 100, 96, 80)
            camera.camera_id = database.write_camera(camera)
            cameras.append(camera)
        rig = pycolmap.Rig()
        rig.add_ref_sensor(cameras[0].sensor_id)
        rig.add_sensor(cameras[1].sensor_id, pycolmap.Rigid3d())
        rig.rig_id = database.write_rig(rig)
        frame = pycolmap.Frame()
        frame.rig_id = rig.rig_id
        for name, camera in zip(("left.png", "right.png", "theirs.png"), [*cameras, cameras[1]], strict=True):
            image = pycolmap.Image(name=name, camera_id=camera.camera_id)
            image.image_id = database.write_image(image)
            if name != "theirs.png":
                frame.add_data_id(image.data_id)
        database.write_frame(frame)
    add("colmap-db", out, entries)
    with pycolmap.Database.open(str(out)) as database:
        images = {image.name: image for image in database.read_all_images()}
        assert set(images) == {"left.png", "right.png", "theirs.png", "new.png", "odd.png"}
        assert all(image.has_frame_id() for image in images.values())
        assert images["left.png"].frame_id == images["right.png"].frame_id
        assert database.read_frame(images["theirs.png"].frame_id).rig_id == rig.rig_id
        assert database.num_frames() == 4
        pycolmap.DatabaseCache.create(database, pycolmap.DatabaseCacheOptions())
    with pytest.raises(ItemError, match=r"`left\.png` has another size or camera than before, and is part of a frame"):
        add("colmap-db", out, [make("left.png", photo(5, (96, 80)))])


# --- files of other extractors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["SuperPoint", "ALIKED", "retrieval", "empty SuperPoint"])
def test_hloc_files_of_other_extractors_are_refused(tmp_path, kind) -> None:
    h5py = pytest.importorskip("h5py")
    out = tmp_path / "features.h5"
    numbers = np.random.default_rng(0).normal(size=(256 if "SuperPoint" in kind else 128, 0 if "empty" in kind else 5))
    with h5py.File(out, "w") as file:
        group = file.create_group("a/theirs.jpg")
        if kind == "retrieval":
            group["global_descriptor"] = numbers[:, 0]
        else:
            group["keypoints"], group["descriptors"] = np.zeros((numbers.shape[1], 2)), numbers.astype(np.float16)
    before = out.read_bytes()
    with pytest.raises(UsageError, match=r"holds features of another extractor: .*a/theirs\.jpg"):
        run_format("hloc").contents(out)
    assert out.read_bytes() == before


@pytest.mark.parametrize("kind", ["ALIKED_N32", "columns"])
def test_databases_of_other_extractors_are_refused(make, tmp_path, kind) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    out = tmp_path / "out.db"
    add("colmap-db", out, [make("a.png")])
    with closing(sqlite3.connect(out)) as database, database:
        change = {"ALIKED_N32": "type = 2, cols = 512", "columns": "cols = 256"}[kind]
        database.execute(f"UPDATE descriptors SET {change}")
    with pytest.raises(UsageError, match=r"holds descriptors of another extractor \(`a\.png`: (512|256) bytes each"):
        run_format("colmap-db").contents(out)
    assert int(pycolmap.FeatureExtractorType.ALIKED_N32) == 2
    with closing(sqlite3.connect(out)) as database, database:
        database.execute("UPDATE descriptors SET type = -1, cols = 128")
    assert list(run_format("colmap-db").contents(out)) == ["a.png"]


def test_a_foreign_file_is_refused_before_any_work(tmp_path, make) -> None:
    from typer.testing import CliRunner

    from idsr_cli.cli.app import app

    h5py = pytest.importorskip("h5py")
    make("a.png")
    with h5py.File(tmp_path / "features.h5", "w") as file:
        file["x.jpg/keypoints"], file["x.jpg/descriptors"] = np.zeros((5, 2)), np.zeros((256, 5))
    arguments = [
        "sift",
        str(tmp_path / "photos"),
        "-o",
        str(tmp_path / "features.h5"),
        "--format",
        "hloc",
        "--no-derain",
    ]
    result = CliRunner().invoke(app, arguments, prog_name="idsr")
    assert (result.exit_code, "holds features of another extractor" in result.stderr) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".npz") == ["features.h5", "photos"]
