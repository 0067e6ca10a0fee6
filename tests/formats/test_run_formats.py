"""Files that hold a whole run, COLMAP's database and hloc's HDF5, read back with their own libraries."""

import itertools
import json
import math
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
from idsr_cli.formats import FORMATS, RunFormat
from idsr_cli.formats.descriptors import DescriptorKind, convert
from idsr_cli.formats.entry import Entry
from idsr_cli.formats.npz import encode
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
        with pytest.raises(UsageError, match=path):
            form.contents(tmp_path / path)


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
