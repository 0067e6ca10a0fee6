"""Keypoint files: conventions, round trips, re-reading by parsers that share no code with the writers."""

import io
import json
import math
import zipfile

import cv2
import numpy as np
import pytest

from idsr_cli.errors import ItemError
from idsr_cli.formats import FORMATS
from idsr_cli.formats.npz import read_npz
from idsr_cli.keypoints import Keypoints

META = {"tool": "idsr", "version": "0", "weights": None}
SHAPES = {
    "xy": ((5, 2), "float32"),
    "scale": ((5,), "float32"),
    "angle": ((5,), "float32"),
    "response": ((5,), "float32"),
    "octave": ((5,), "int32"),
    "layer": ((5,), "int32"),
    "descriptors": ((5, 128), "uint8"),
    "image_size": ((2,), "int32"),
}


def some(n: int = 5) -> Keypoints:
    rng = np.random.default_rng(0)
    return Keypoints(
        xy=rng.uniform(0, 4000, (n, 2)).astype(np.float32),
        scale=rng.uniform(1, 30, n).astype(np.float32),
        angle=rng.uniform(0, 360, n).astype(np.float32),
        response=rng.uniform(0, 0.1, n).astype(np.float32),
        octave=rng.integers(-1, 5, n).astype(np.int32),
        layer=rng.integers(1, 4, n).astype(np.int32),
        descriptors=rng.integers(0, 256, (n, 128)).astype(np.uint8),
        image_size=(4000, 3000),
    )


def parse_colmap(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """As COLMAP's importer reads it: header, then 4 floats and 128 integers in 0..255 a line."""
    words = iter(data.decode("ascii").split())
    count, dimension = int(next(words)), int(next(words))
    assert dimension == 128
    frames = np.zeros((count, 4))
    descriptors = np.zeros((count, 128), np.uint8)
    for i in range(count):
        frames[i] = [float(next(words)) for _ in range(4)]
        row = [int(next(words)) for _ in range(128)]
        assert all(0 <= value <= 255 for value in row)
        descriptors[i] = row
    assert next(words, None) is None
    return frames, descriptors


def test_npz_has_the_promised_arrays() -> None:
    with np.load(io.BytesIO(FORMATS["npz"].encode(some(), META)), allow_pickle=False) as data:
        assert {name: (data[name].shape, data[name].dtype.name) for name in SHAPES} == SHAPES
        assert set(data.files) == {*SHAPES, "meta"}
        assert data["image_size"].tolist() == [4000, 3000]
        meta = json.loads(str(data["meta"]))
    assert META.items() <= meta.items()
    assert set(meta["conventions"]) >= {"origin", "scale", "angle", "octave", "descriptors"}


@pytest.mark.parametrize("n", [0, 1, 5])
def test_npz_round_trip(tmp_path, n) -> None:
    keypoints = some(n)
    (tmp_path / "x.npz").write_bytes(FORMATS["npz"].encode(keypoints, META))
    again, meta = read_npz(tmp_path / "x.npz")
    for name in SHAPES:
        np.testing.assert_array_equal(getattr(again, name), getattr(keypoints, name))
    assert meta["tool"] == "idsr"


@pytest.mark.parametrize("name", FORMATS)
def test_same_keypoints_same_bytes(name, monkeypatch) -> None:
    first = FORMATS[name].encode(some(), META)
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert FORMATS[name].encode(some(), dict(reversed(META.items()))) == first


@pytest.mark.parametrize("damage", ["text", "cut", "other", "missing"])
def test_npz_refuses_what_is_none(tmp_path, damage) -> None:
    path = tmp_path / "x.npz"
    if damage == "text":
        path.write_text("hello")
    elif damage == "cut":
        path.write_bytes(FORMATS["npz"].encode(some(), META)[:500])
    elif damage == "other":
        np.savez(path, a=np.zeros(3))
    with pytest.raises(ItemError) as caught:
        read_npz(path)
    assert str(path) in str(caught.value)


def test_npz_is_a_plain_archive() -> None:
    with zipfile.ZipFile(io.BytesIO(FORMATS["npz"].encode(some(), META))) as archive:
        assert archive.testzip() is None


def test_colmap_conventions() -> None:
    keypoints = some()
    frames, descriptors = parse_colmap(FORMATS["colmap"].encode(keypoints, META))
    np.testing.assert_allclose(frames[:, :2], keypoints.xy + 0.5, atol=3e-4)  # corner origin
    np.testing.assert_allclose(frames[:, 2], keypoints.scale, atol=1e-4)  # sigma, not diameter
    np.testing.assert_allclose(frames[:, 3], np.deg2rad(keypoints.angle), atol=1e-6)
    np.testing.assert_array_equal(descriptors, keypoints.descriptors)


def test_colmap_empty() -> None:
    data = FORMATS["colmap"].encode(Keypoints.empty((10, 10)), META)
    assert data == b"0 128\n"
    assert len(parse_colmap(data)[0]) == 0


def from_cv2(image: np.ndarray) -> Keypoints:
    points, descriptors = cv2.SIFT_create(enable_precise_upscale=True).detectAndCompute(image, None)
    zeros = np.zeros(len(points), np.int32)
    return Keypoints(
        np.float32([p.pt for p in points]),
        np.float32([p.size / 2 for p in points]),
        np.float32([p.angle for p in points]),
        np.float32([p.response for p in points]),
        zeros,
        zeros,
        descriptors.astype(np.uint8),
        (image.shape[1], image.shape[0]),
    )


def test_turning_the_picture_turns_the_frames() -> None:
    """By 90 degrees clockwise: (x, y) -> (H - y, x) with the corner origin, and 90 degrees are added to each angle."""
    noise = np.random.default_rng(1).uniform(0, 255, (80, 96)).astype(np.float32)
    image = np.clip((cv2.GaussianBlur(noise, (0, 0), 3) - 127) * 9 + 127, 0, 255).astype(np.uint8)
    here, _ = parse_colmap(FORMATS["colmap"].encode(from_cv2(image), META))
    there, _ = parse_colmap(FORMATS["colmap"].encode(from_cv2(cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE)), META))
    found = 0
    for x, y, scale, angle in here:
        near = np.hypot(there[:, 0] - (80 - y), there[:, 1] - x) < 0.1
        turn = (there[near, 3] - angle - math.pi / 2 + math.pi) % (2 * math.pi) - math.pi
        found += bool((np.abs(turn) < 0.1).any() and (np.abs(there[near, 2] / scale - 1) < 0.02).any())
    assert len(here) > 20
    assert found >= 0.8 * len(here)  # OpenCV itself is not quite the same on a turned picture


def test_colmap_itself_accepts_the_numbers(tmp_path) -> None:
    """What the importer makes of the file must fit COLMAP's database."""
    pycolmap = pytest.importorskip("pycolmap")
    frames, descriptors = parse_colmap(FORMATS["colmap"].encode(some(), META))
    with pycolmap.Database.open(str(tmp_path / "x.db")) as database:
        camera = database.write_camera(
            pycolmap.Camera(model="SIMPLE_PINHOLE", width=4000, height=3000, params=[100, 2000, 1500])
        )
        image = database.write_image(pycolmap.Image(name="x.jpg", camera_id=camera))
        database.write_keypoints(image, frames.astype(np.float32))
        np.testing.assert_allclose(database.read_keypoints(image), frames, rtol=1e-6)
    assert descriptors.shape == (5, 128)
