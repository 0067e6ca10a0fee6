"""Readers of keypoint files, against the writers; what each format holds; descriptors turned back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from idsr_cli.errors import ItemError
from idsr_cli.features import SiftOptions, sift
from idsr_cli.formats import FORMATS, FileFormat
from idsr_cli.formats.descriptors import convert
from idsr_cli.formats.stored import PARTS
from idsr_cli.keypoints import Keypoints

META = {"sift": {"n_layers": 3, "sigma": 1.6}, "splice": "DD"}
PER_PHOTO = [name for name, kind in FORMATS.items() if isinstance(kind, FileFormat) and kind.read is not None]
# Text has four decimals of pixels and six of radians, float32 another 3e-5 near 400 pixels or degrees.
TOLERANCE = {"xy": 1e-4, "scale": 1e-4, "angle": 1e-4}


@pytest.fixture(scope="module")
def keypoints() -> Keypoints:
    import torch

    noise = np.random.default_rng(1).uniform(0, 255, (320, 400)).astype(np.float32)
    points = sift(torch.from_numpy(noise), SiftOptions(contrast_threshold=0.005))
    assert len(points) > 300
    assert len(set(points.octave.tolist())) > 2
    return points


@pytest.mark.parametrize("name", PER_PHOTO)
@pytest.mark.parametrize("count", [0, 400])
def test_what_is_read_is_what_was_written(keypoints, tmp_path: Path, name: str, count: int) -> None:
    some, kind = keypoints.select(np.arange(min(count, len(keypoints)))), FORMATS[name]
    path = tmp_path / f"x.jpg{kind.suffix}"
    path.write_bytes(kind.encode(some, {**META, "descriptors": "sift_u8"}))
    found = kind.read(path)
    assert found.holds == kind.holds
    assert found.kind == ("sift_u8" if name == "npz" else None)
    np.testing.assert_array_equal(found.keypoints.descriptors, some.descriptors)
    assert found.keypoints.descriptors.dtype == np.uint8
    fields = {"xy": "", "scale": "", "angle": "angle", "response": "response", "octave": "octave", "layer": "octave"}
    for field, part in fields.items():
        if part and part not in found.holds:
            continue
        stored, wanted = getattr(found.keypoints, field), getattr(some, field)
        assert stored.dtype == wanted.dtype
        difference = np.abs(stored.astype(float) - wanted)
        if field == "angle":
            difference = np.minimum(difference, 360 - difference)
            assert not count or (stored.min() >= 0 and stored.max() < 360)
        assert not count or difference.max() <= TOLERANCE.get(field, 0)
    if "image size" in found.holds:
        assert found.keypoints.image_size == (400, 320)
    # What is written again is the same file.
    if "settings" not in kind.holds:
        again = {**META, "descriptors": "sift_u8"}
        assert kind.encode(found.keypoints, again) == path.read_bytes()


@pytest.mark.parametrize("name", ["hloc", "colmap-db"])
def test_common_files(keypoints, tmp_path: Path, name: str) -> None:
    pytest.importorskip({"hloc": "h5py", "colmap-db": "pycolmap"}[name])
    from idsr_cli.formats.entry import Entry

    kind, wanted = FORMATS[name], FORMATS[name].kinds[0]
    (tmp_path / "part.npz").write_bytes(FORMATS["npz"].encode(keypoints, {**META, "descriptors": "sift_u8"}))
    (tmp_path / "photos").mkdir()
    path = tmp_path / kind.file_name
    entry = Entry("a/x.jpg", tmp_path / "photos", tmp_path / "part.npz", {**META, "descriptors": wanted})
    kind.add(path, [entry])
    found = kind.read(path, "a/x.jpg")
    # The settings that are in the file tell octaves and layers.
    assert (found.holds, found.kind) == (kind.holds | {"octave"}, wanted)
    np.testing.assert_array_equal(found.keypoints.octave, keypoints.octave)
    np.testing.assert_array_equal(found.keypoints.layer, keypoints.layer)
    np.testing.assert_allclose(found.keypoints.xy, keypoints.xy, atol=2e-5)
    np.testing.assert_allclose(found.keypoints.angle, keypoints.angle, atol=5e-5)
    np.testing.assert_array_equal(found.keypoints.descriptors, convert(keypoints, wanted).descriptors)
    assert found.keypoints.image_size == (400, 320)
    if name == "hloc":
        np.testing.assert_array_equal(found.keypoints.response, keypoints.response)


def test_octave_and_layer_follow_from_the_scale() -> None:
    """For any number of layers and sigma."""
    import torch

    from idsr_cli.formats.stored import Stored, with_octaves

    noise = np.random.default_rng(2).uniform(0, 255, (200, 200)).astype(np.float32)
    for layers, sigma in ((1, 1.2), (2, 1.6), (5, 2.0)):
        options = SiftOptions(contrast_threshold=0, n_layers=layers, sigma=sigma)
        points = sift(torch.from_numpy(noise), options)
        assert len(points) > 20
        empty = replace(points, octave=points.octave * 0, layer=points.layer * 0)
        meta = {"sift": {"n_layers": layers, "sigma": sigma}}
        found = with_octaves(Stored(empty, frozenset(PARTS), "sift_u8", meta)).keypoints
        np.testing.assert_array_equal(found.octave, points.octave)
        np.testing.assert_array_equal(found.layer, points.layer)


def test_sift_comes_back_exactly_of_rootsift_in_floats(keypoints) -> None:
    points = replace(keypoints, descriptors=keypoints.descriptors.copy())
    points.descriptors[0] = 0  # of a flat patch
    roots = convert(points, "rootsift_f32")
    back = convert(roots, "sift_u8", have="rootsift_f32")
    assert back.descriptors.dtype == np.uint8
    np.testing.assert_array_equal(back.descriptors, points.descriptors)
    np.testing.assert_array_equal(
        convert(roots, "rootsift_u8", have="rootsift_f32").descriptors, convert(points, "rootsift_u8").descriptors
    )
    others = np.random.default_rng(0).random(roots.descriptors.shape).astype(np.float32)
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    with pytest.raises(ItemError, match="not RootSIFT of SIFT in bytes"):
        convert(replace(roots, descriptors=others), "sift_u8", have="rootsift_f32")


def test_rootsift_in_bytes_becomes_floats_of_unit_length_and_not_sift(keypoints) -> None:
    rounded = convert(keypoints, "rootsift_u8")
    floats = convert(rounded, "rootsift_f32", have="rootsift_u8").descriptors
    np.testing.assert_allclose(np.linalg.norm(floats, axis=1), 1, atol=1e-6)
    # A half of one of 512 steps, and what the scale to unit length adds.
    assert np.abs(floats - convert(keypoints, "rootsift_f32").descriptors).max() < 2 / 512
    with pytest.raises(ItemError, match="cannot be made of RootSIFT in bytes"):
        convert(rounded, "sift_u8", have="rootsift_u8")


@pytest.mark.parametrize("name", PER_PHOTO)
@pytest.mark.parametrize("data", [b"", b"3 128\n1 2 3\n", b"%YAML:1.0\n---\nx: 1\n", b"\xff\xfe", b"128\n1\n1 2 3\n"])
def test_other_files_are_refused(tmp_path: Path, name: str, data: bytes) -> None:
    if (name, data) == ("vlfeat", b""):
        pytest.skip("an empty file is a file without keypoints")
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises((ValueError, ItemError)):
        FORMATS[name].read(path)
