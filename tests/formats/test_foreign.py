"""Keypoint files of other extractors: what is read, and what is refused with one line."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from idsr_cli.errors import IdsrError, ItemError, UsageError
from idsr_cli.features import sift
from idsr_cli.formats import foreign, hloc, npz
from idsr_cli.formats.descriptors import convert
from idsr_cli.formats.entry import Entry
from idsr_cli.formats.foreign import open_store

SIZE = (64, 48)
XY = np.array([[1, 2], [30.5, 40.25], [63.9, 47.9]], np.float32)
DESCRIPTORS = np.random.default_rng(0).normal(size=(3, 256)).astype(np.float32)
PLAIN = {"keypoints": XY, "descriptors": DESCRIPTORS}


def write_npz(folder: Path, **arrays: Any) -> None:
    folder.mkdir(exist_ok=True)
    np.savez(folder / "x.jpg.npz", **arrays)


def write_h5(folder: Path, **arrays: Any) -> None:
    """As hloc: descriptors (D, N)."""
    folder.mkdir(exist_ok=True)
    with h5py.File(folder / "features.h5", "w") as file:
        group = file.create_group("x.jpg")
        for name, array in arrays.items():
            group[name] = array.T if name == "descriptors" else array


WRITERS = pytest.mark.parametrize("write", [write_npz, write_h5])


@WRITERS
def test_plain_files(write: Callable[..., None], tmp_path: Path) -> None:
    write(tmp_path, **PLAIN, scores=np.array([0.1, 0.9, 0.5], np.float16), scales=np.array([3, 1, 2.0]))
    store = open_store(tmp_path)
    assert store.names == ["x.jpg"]
    stored = store.read("x.jpg", SIZE)
    assert stored.meta is None
    order = [1, 2, 0]  # by falling score
    np.testing.assert_array_equal(stored.keypoints.xy, XY[order])
    np.testing.assert_array_equal(stored.keypoints.descriptors, DESCRIPTORS[order])
    assert stored.keypoints.descriptors.dtype == np.float32
    assert stored.keypoints.scale.tolist() == [1, 2, 3]
    assert stored.keypoints.image_size == SIZE


@WRITERS
def test_either_way_round_and_batches_of_one(write: Callable[..., None], tmp_path: Path) -> None:
    write(tmp_path, keypoints=XY[None], descriptors=DESCRIPTORS.T)
    found = open_store(tmp_path).read("x.jpg", SIZE).keypoints
    np.testing.assert_array_equal(found.descriptors, DESCRIPTORS)
    assert np.isnan(found.scale).all()
    square = np.arange(9.0).reshape(3, 3)  # as many numbers as keypoints: the format's own way
    write(tmp_path, keypoints=np.column_stack([XY, [9, 9, 9]]), descriptors=square)
    np.testing.assert_array_equal(open_store(tmp_path).read("x.jpg", SIZE).keypoints.descriptors, square)


@WRITERS
@pytest.mark.parametrize("width", [0, 128])
def test_no_keypoints(write: Callable[..., None], tmp_path: Path, width: int) -> None:
    write(tmp_path, keypoints=np.zeros((0, 2)), descriptors=np.zeros((0, width)))
    assert len(open_store(tmp_path).read("x.jpg", SIZE).keypoints) == 0


@pytest.mark.parametrize("kind", ["sift_u8", "rootsift_u8", "rootsift_f32"])
def test_our_own_files(tmp_path: Path, kind: Any) -> None:
    import torch

    points = sift(torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (48, 64)).astype(np.float32)))
    assert len(points) > 5
    made = convert(points, kind)
    meta = {"descriptors": kind, "sift": {"sigma": 1.6}}
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.jpg.npz").write_bytes(npz.encode(made, meta))
    stores = [open_store(tmp_path)]
    if kind == "rootsift_f32":
        (tmp_path / "part").write_bytes(npz.encode(points, meta | {"descriptors": "sift_u8"}))
        hloc.add(tmp_path / "k.h5", [Entry("a/x.jpg", tmp_path, tmp_path / "part", meta)])
        stores.append(open_store(tmp_path / "k.h5"))
    for store in stores:
        assert store.names == ["a/x.jpg"]
        stored = store.read("a/x.jpg", SIZE)
        assert stored.meta is not None
        assert stored.meta["descriptors"] == kind
        for name in ("xy", "scale", "response", "descriptors"):
            np.testing.assert_array_equal(getattr(stored.keypoints, name), getattr(made, name))
        assert stored.keypoints.descriptors.dtype == made.descriptors.dtype


BAD_XY, BAD_DESCRIPTORS = XY.copy(), DESCRIPTORS.copy()
BAD_XY[2, 0] = np.nan
BAD_DESCRIPTORS[1, 7] = np.inf


@WRITERS
@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"keypoints": XY}, "has no `descriptors` (it has keypoints)"),
        ({"keypoints": XY[:, :1], "descriptors": DESCRIPTORS}, "keypoints of shape (3, 1) are not N x 2"),
        ({"keypoints": XY.ravel(), "descriptors": DESCRIPTORS}, "keypoints of shape (6,) are not N x 2"),
        ({"keypoints": XY[:2], "descriptors": DESCRIPTORS}, "has 2 keypoints and descriptors of shape "),
        ({"keypoints": XY, "descriptors": DESCRIPTORS[:, :0]}, "has 3 keypoints and descriptors of shape "),
        ({"keypoints": BAD_XY, "descriptors": DESCRIPTORS}, "keypoint 2 is NaN or infinite"),
        ({"keypoints": XY, "descriptors": BAD_DESCRIPTORS}, "descriptor 1 is NaN or infinite"),
        (PLAIN | {"scores": np.zeros(5)}, "has 3 keypoints and 5 scores"),
        (PLAIN | {"scales": np.zeros(2)}, "has 3 keypoints and 2 scales"),
        (PLAIN | {"keypoints": XY * 1.1}, "keypoint 2 at (70.3, 52.7) is outside of the photograph of 64 x 48 pixels"),
        (PLAIN | {"image_size": np.array([48, 64])}, "is of a photograph of 48 x 64 pixels, not of 64 x 48"),
        ({"keypoints": XY.astype(np.complex64), "descriptors": DESCRIPTORS}, "`keypoints` are of type complex64"),
    ],
)
def test_numbers_that_cannot_be(write: Callable[..., None], tmp_path: Path, arrays: Any, message: str) -> None:
    write(tmp_path, **arrays)
    store = open_store(tmp_path)
    with pytest.raises(ItemError) as caught:
        store.read("x.jpg", SIZE)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(store.path))
    assert "\n" not in str(caught.value)


def test_damaged_files(tmp_path: Path) -> None:
    write_npz(tmp_path, **PLAIN)
    file = tmp_path / "x.jpg.npz"
    whole = file.read_bytes()
    np.save(tmp_path / "one.npy", XY)
    for damaged in (b"", b"text", whole[: len(whole) // 2], whole[:-10], (tmp_path / "one.npy").read_bytes()):
        file.write_bytes(damaged)
        with pytest.raises(ItemError, match="damaged, or no keypoint file"):
            open_store(tmp_path).read("x.jpg", SIZE)
    write_npz(tmp_path, keypoints=np.array([{}], object), descriptors=DESCRIPTORS)  # would run code to be read
    with pytest.raises(ItemError, match="damaged, or no keypoint file"):
        open_store(tmp_path).read("x.jpg", SIZE)
    write_npz(tmp_path, **PLAIN, meta=np.array("{"))
    with pytest.raises(ItemError, match="damaged, or no keypoint file"):
        open_store(tmp_path).read("x.jpg", SIZE)


def test_what_is_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, empty, damaged, other = (tmp_path / name for name in ("a.txt", "empty", "a.h5", "other.h5"))
    text.write_text("x")
    empty.mkdir()
    damaged.write_bytes(b"no HDF5")
    with h5py.File(other, "w") as file:
        file["x.jpg/global_descriptor"] = np.zeros(4)
    for path, message in (
        (tmp_path / "gone", "no such folder or file"),
        (text, "is neither a folder nor an HDF5 file"),
        (empty, "holds no keypoint files (looked for .npz, .h5, .hdf5)"),
        (damaged, "not an HDF5 file, or damaged, or in use"),
        (other, "holds no keypoints"),
        (tmp_path, f"holds 2 HDF5 files (name one of them: {damaged})"),
    ):
        with pytest.raises(UsageError) as caught:
            open_store(path)
        assert str(caught.value).startswith(f"{path}: {message}")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(UsageError, match="reading it needs h5py"):
        open_store(damaged)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="files that may not be read")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    write_npz(tmp_path, **PLAIN)
    (tmp_path / "x.jpg.npz").chmod(0)
    with pytest.raises(IdsrError, match="permission denied"):
        open_store(tmp_path).read("x.jpg", SIZE)


def test_the_margin_is_that_of_a_corner_origin() -> None:
    """COLMAP's coordinates run from 0 to the width: the last one is one pixel outside."""
    assert foreign._MARGIN == 1.0
    corner = np.array([[64, 48], [0, 0]], np.float32)
    foreign._check_inside(corner, None, SIZE, "x")
