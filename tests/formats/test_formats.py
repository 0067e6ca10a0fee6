"""Keypoint files of one photograph: conventions and numbers, checked with the readers of `conftest.py`."""

import io
import json
import math
import re
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from idsr_cli.cli import sift_options
from idsr_cli.errors import ItemError
from idsr_cli.features import SiftOptions, sift
from idsr_cli.formats import FORMATS, FileFormat
from idsr_cli.formats.descriptors import convert
from idsr_cli.formats.npz import read_npz
from idsr_cli.keypoints import Keypoints

FILES = {name: kind for name, kind in FORMATS.items() if isinstance(kind, FileFormat)}
PAIRS = [(name, kind) for name, form in FILES.items() for kind in form.kinds]
SETTINGS = {"n_layers": 3, "sigma": 1.6}
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


def meta(descriptors: str = "sift_u8") -> dict[str, object]:
    return {"tool": "idsr", "version": "0", "weights": None, "descriptors": descriptors, "sift": SETTINGS}


def some(n: int = 5) -> Keypoints:
    rng = np.random.default_rng(0)
    octave, layer = rng.integers(-1, 5, n), rng.integers(1, 4, n)
    return Keypoints(
        xy=rng.uniform(0, 4000, (n, 2)).astype(np.float32),
        scale=(1.6 * 2 ** (octave + (layer + rng.uniform(-0.5, 0.5, n)) / 3)).astype(np.float32),
        angle=rng.uniform(0, 360, n).astype(np.float32),
        response=rng.uniform(0, 0.1, n).astype(np.float32),
        octave=octave.astype(np.int32),
        layer=layer.astype(np.int32),
        descriptors=rng.integers(0, 256, (n, 128)).astype(np.uint8),
        image_size=(4000, 3000),
    )


def photo(height: int = 80, width: int = 96) -> np.ndarray:
    """(H, W) uint8 with blobs, in which SIFT finds keypoints."""
    noise = np.random.default_rng(1).uniform(0, 255, (height, width)).astype(np.float32)
    return np.clip((cv2.GaussianBlur(noise, (0, 0), 3) - 127) * 9 + 127, 0, 255).astype(np.uint8)


def extract(grey: np.ndarray) -> Keypoints:
    return sift(torch.from_numpy(grey.astype(np.float32)))


# --- the table -------------------------------------------------------------------------------------------------------


def test_the_command_offers_every_format(readers) -> None:
    assert {name.value for name in sift_options.FormatName} == set(FORMATS)
    assert readers.names == set(FILES)
    suffixes = [form.suffix for form in FILES.values()]
    assert len(set(suffixes)) == len(suffixes)


def test_the_document_describes_every_format() -> None:
    text = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    rows = {row.split("|")[1].strip(" `"): row.split("|") for row in text.splitlines() if re.match(r"\| `\w", row)}
    assert set(rows) == set(FORMATS)
    for name, form in FORMATS.items():
        assert (form.suffix if isinstance(form, FileFormat) else form.file_name) in rows[name][2]
        assert tuple(re.findall(r"`(\w+)`", rows[name][7])) == form.kinds


# --- every format ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), PAIRS)
@pytest.mark.parametrize("n", [0, 1, 5, 300])
def test_read_again(readers, name, kind, n) -> None:
    keypoints = some(n)
    frames, descriptors = getattr(readers, name)(FILES[name].encode(keypoints, meta(kind)))
    assert frames.shape == (n, 4)
    np.testing.assert_allclose(frames[:, :2], keypoints.xy, atol=3e-4)
    np.testing.assert_allclose(frames[:, 2], keypoints.scale, atol=1e-4)
    if name != "oxford":
        turn = (frames[:, 3] - keypoints.angle + 180) % 360 - 180
        np.testing.assert_allclose(turn, 0, atol=1e-4)
    np.testing.assert_array_equal(descriptors, convert(keypoints, kind).descriptors)


@pytest.mark.parametrize("name", FILES)
def test_where_opencv_finds_it(readers, name) -> None:
    """A picture's own keypoints against those of cv2.SIFT: origin, scale, angle, order of the descriptor."""
    grey = photo()
    frames, descriptors = getattr(readers, name)(FILES[name].encode(extract(grey), meta()))
    points, expected = cv2.SIFT_create(enable_precise_upscale=True).detectAndCompute(grey, None)
    assert len(points) == len(frames) > 20
    found = 0
    for point, theirs in zip(points, expected, strict=True):
        near = np.hypot(frames[:, 0] - point.pt[0], frames[:, 1] - point.pt[1]) < 0.01
        near &= np.abs(2 * frames[:, 2] / point.size - 1) < 1e-3
        if name != "oxford":
            near &= np.abs((frames[:, 3] - point.angle + 180) % 360 - 180) < 0.1
        found += any(np.abs(ours - theirs).sum() < 10 for ours in descriptors[near])
    assert found >= 0.99 * len(points)


@pytest.mark.parametrize("name", [name for name in FILES if name != "oxford"])
def test_turning_the_picture_turns_the_frames(readers, name) -> None:
    """Turned by 90 degrees clockwise, (x, y) becomes (H - 1 - y, x), and each angle grows by 90 degrees."""
    grey = photo()
    turned = np.ascontiguousarray(cv2.rotate(grey, cv2.ROTATE_90_CLOCKWISE))
    here, _ = getattr(readers, name)(FILES[name].encode(extract(grey), meta()))
    there, _ = getattr(readers, name)(FILES[name].encode(extract(turned), meta()))
    found = 0
    for x, y, scale, angle in here:
        near = np.hypot(there[:, 0] - (79 - y), there[:, 1] - x) < 0.3
        turn = (there[near, 3] - angle - 90 + 180) % 360 - 180
        found += bool((np.abs(turn) < 6).any() and (np.abs(there[near, 2] / scale - 1) < 0.05).any())
    assert len(here) > 20
    assert found >= 0.8 * len(here)  # the pyramid's grids are not symmetric, so a turned picture differs a little


def test_directions_of_a_cell(readers) -> None:
    """Brightness that rises down and to the right, seen by a keypoint of angle 0.

    Clockwise that is 45 degrees, VLFeat's direction 1 of 8; counter-clockwise 315, OpenCV's, Lowe's and COLMAP's 7.
    """
    y, x = np.mgrid[:64, :64]
    point = cv2.KeyPoint(32, 32, 8, 0, 0.1, 1 << 8)
    _, described = cv2.SIFT_create(enable_precise_upscale=True).compute(np.uint8(2 * (x + y)), [point])
    keypoints = some(1)
    keypoints.descriptors[:] = described
    for name, direction in (("colmap", 7), ("lowe", 7), ("opencv", 7), ("vlfeat", 1)):
        text = FILES[name].encode(keypoints, meta()).decode("ascii")
        written = readers.opencv(text.encode())[1][0] if name == "opencv" else np.array(text.split()[-128:], float)
        cells = written.reshape(16, 8)
        assert (cells.argmax(1) == direction).all(), name
        assert cells[:, direction].sum() > 0.9 * cells.sum()


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_same_keypoints_same_bytes(name, kind, monkeypatch) -> None:
    first = FILES[name].encode(some(), meta(kind))
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert FILES[name].encode(some(), dict(reversed(meta(kind).items()))) == first


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("field", ["xy", "scale", "angle", "response"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_infinity_are_refused(name, field, value) -> None:
    keypoints = some()
    getattr(keypoints, field)[3] = value
    with pytest.raises(ItemError, match=f"{field} of keypoint 3 is NaN or infinite"):
        FILES[name].encode(keypoints, meta())


@pytest.mark.parametrize("name", ["colmap", "lowe", "vlfeat", "oxford"])
def test_numbers_do_not_depend_on_the_locale(name, monkeypatch) -> None:
    import locale

    monkeypatch.setattr(locale, "localeconv", lambda: {"decimal_point": ",", "thousands_sep": ".", "grouping": [3]})
    assert b"," not in FILES[name].encode(some(), meta())


# --- descriptors -----------------------------------------------------------------------------------------------------


def test_root_sift() -> None:
    keypoints = some(40)
    floats = convert(keypoints, "rootsift_f32").descriptors
    values = keypoints.descriptors.astype(np.float64)
    expected = np.sqrt(values / values.sum(1, keepdims=True))
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats, expected, atol=1e-7)
    np.testing.assert_allclose((floats**2).sum(1), 1, atol=1e-5)
    bytes_ = convert(keypoints, "rootsift_u8").descriptors
    assert bytes_.dtype == np.uint8
    np.testing.assert_array_equal(bytes_, np.rint(512 * expected))
    assert convert(keypoints, "sift_u8") is keypoints


def test_root_sift_of_odd_descriptors() -> None:
    keypoints = some(2)
    keypoints.descriptors[0] = 0
    keypoints.descriptors[1] = 0
    keypoints.descriptors[1, 5] = 255  # all in one place: 512 does not fit into a byte
    assert (convert(keypoints, "rootsift_f32").descriptors[0] == 0).all()
    assert convert(keypoints, "rootsift_f32").descriptors[1, 5] == 1
    assert convert(keypoints, "rootsift_u8").descriptors[1, 5] == 255


def test_root_sift_equals_colmaps(readers) -> None:
    """COLMAP's own L1_ROOT on the same picture, with an extractor that is not ours: the same numbers up to SIFT's."""
    pycolmap = pytest.importorskip("pycolmap")
    grey = photo(160, 200)
    options = pycolmap.FeatureExtractionOptions()
    options.use_gpu = False
    options.sift.normalization = pycolmap.Normalization.L1_ROOT
    theirs, described = pycolmap.FeatureExtractor.create(options).extract_from_uint8_array(grey)
    ours = extract(grey)
    frames, roots = readers.colmap(FILES["colmap"].encode(ours, meta("rootsift_u8")))
    unit = described.data / np.linalg.norm(described.data.astype(float), axis=1, keepdims=True)
    distances, angles = [], []
    for point, descriptor in zip(theirs, unit, strict=True):
        near = np.flatnonzero(np.hypot(frames[:, 0] + 0.5 - point.x, frames[:, 1] + 0.5 - point.y) < 0.2)
        near = near[np.abs(frames[near, 2] / point.compute_scale() - 1) < 0.1]
        turns = np.abs((frames[near, 3] - math.degrees(point.compute_orientation()) + 180) % 360 - 180)
        if len(near) and turns.min() < 10:
            angles.append(turns.min())
            distances.append(np.linalg.norm(roots[near[turns.argmin()]] / 512 - descriptor))
    assert len(distances) > 0.5 * len(theirs) > 20
    assert np.median(distances) < 0.2
    assert np.median(angles) < 4


# --- npz -------------------------------------------------------------------------------------------------------------


def test_npz_has_the_promised_arrays() -> None:
    with np.load(io.BytesIO(FILES["npz"].encode(some(), meta())), allow_pickle=False) as data:
        assert {name: (data[name].shape, data[name].dtype.name) for name in SHAPES} == SHAPES
        assert set(data.files) == {*SHAPES, "meta"}
        assert data["image_size"].tolist() == [4000, 3000]
        said = json.loads(str(data["meta"]))
    assert meta().items() <= said.items()
    assert set(said["conventions"]) >= {"origin", "scale", "angle", "octave", "descriptors"}


@pytest.mark.parametrize(("kind", "dtype", "word"), [
    ("sift_u8", "uint8", "norm about 512"), ("rootsift_u8", "uint8", "RootSIFT"), ("rootsift_f32", "float32", "norm 1"),
])  # fmt: skip
def test_npz_says_which_descriptors(tmp_path, kind, dtype, word) -> None:
    (tmp_path / "x.npz").write_bytes(FILES["npz"].encode(some(), meta(kind)))
    keypoints, said = read_npz(tmp_path / "x.npz")
    assert (keypoints.descriptors.dtype, said["descriptors"]) == (dtype, kind)
    assert word in said["conventions"]["descriptors"]


@pytest.mark.parametrize("n", [0, 1, 5])
def test_npz_round_trip(tmp_path, n) -> None:
    keypoints = some(n)
    (tmp_path / "x.npz").write_bytes(FILES["npz"].encode(keypoints, meta()))
    again, said = read_npz(tmp_path / "x.npz")
    for name in SHAPES:
        np.testing.assert_array_equal(getattr(again, name), getattr(keypoints, name))
    assert said["tool"] == "idsr"


@pytest.mark.parametrize("damage", ["text", "cut", "other", "missing", "strange kind"])
def test_npz_refuses_other_files(tmp_path, damage) -> None:
    path = tmp_path / "x.npz"
    data = FILES["npz"].encode(some(), meta())
    if damage == "text":
        path.write_text("hello")
    elif damage == "cut":
        path.write_bytes(data[:500])
    elif damage == "other":
        np.savez(path, a=np.zeros(3))
    elif damage == "strange kind":
        with np.load(io.BytesIO(data)) as arrays:
            np.savez(path, **{**arrays, "meta": json.dumps({"descriptors": "surf"})})
    with pytest.raises(ItemError) as caught:
        read_npz(path)
    assert str(path) in str(caught.value)


def test_npz_is_a_plain_archive() -> None:
    with zipfile.ZipFile(io.BytesIO(FILES["npz"].encode(some(), meta()))) as archive:
        assert archive.testzip() is None


# --- others ----------------------------------------------------------------------------------------------------------


def test_empty_files() -> None:
    nothing = Keypoints.empty((10, 10))
    texts = {name: FILES[name].encode(nothing, meta()) for name in ("colmap", "lowe", "vlfeat", "oxford")}
    assert texts == {"colmap": b"0 128\n", "lowe": b"0 128\n", "vlfeat": b"", "oxford": b"128\n0\n"}


def test_opencv_octaves_are_packed_as_its_own(readers) -> None:
    """cv2 itself, given the keypoints, describes them as we did: it reads layer and octave from the packed word."""
    grey = photo(160, 200)
    ours = extract(grey)
    points = readers.opencv_keypoints(FILES["opencv"].encode(ours, meta()))
    detector = cv2.SIFT_create(enable_precise_upscale=True)
    words = {tuple(np.round(p.pt, 2)): p.octave for p in detector.detect(grey, None)}
    same = [words.get(tuple(np.round(p.pt, 2))) == p.octave for p in points]
    assert np.mean(same) > 0.95  # the rest is rounding of the last bit of the offset, or of x and y
    kept, described = detector.compute(grey, points)
    assert len(kept) == len(points) > 50
    assert np.mean(np.abs(described - ours.descriptors).sum(1)) < 1


def test_opencv_octaves_with_other_options(readers) -> None:
    options = SiftOptions(n_layers=5, sigma=2.0)
    grey = photo(160, 200)
    ours = sift(torch.from_numpy(grey.astype(np.float32)), options)
    said = {**meta(), "sift": {"n_layers": 5, "sigma": 2.0}}
    points = readers.opencv_keypoints(FILES["opencv"].encode(ours, said))
    detector = cv2.SIFT_create(nOctaveLayers=5, sigma=2.0, enable_precise_upscale=True)
    words = {tuple(np.round(p.pt, 2)): p.octave for p in detector.detect(grey, None)}
    assert np.mean([words.get(tuple(np.round(p.pt, 2))) == p.octave for p in points]) > 0.95
