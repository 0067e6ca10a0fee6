"""Readers of keypoint files that share no code with the writers; each turns its file into one common form.

A file becomes frames (N, 4): x, y from the centre of the top-left pixel, sigma in pixels, angle in degrees clockwise
(NaN where the format has none), and descriptors (N, 128) in OpenCV's order, as numbers.
"""

import io
import math
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

Read = tuple[np.ndarray, np.ndarray]


def _stack(rows: list[tuple[list[float], list[float]]]) -> Read:
    frames = np.array([frame for frame, _ in rows], float).reshape(-1, 4)
    return frames, np.array([descriptor for _, descriptor in rows], float).reshape(-1, 128)


def _bytes(words: list[str]) -> list[float]:
    values = [int(word) for word in words]  # "3.0" would be refused
    assert all(0 <= value <= 255 for value in values)
    return [float(value) for value in values]


def npz(data: bytes) -> Read:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        frames = np.column_stack([arrays["xy"], arrays["scale"], arrays["angle"]])
        return frames.astype(float).reshape(-1, 4), arrays["descriptors"].astype(float)


def colmap(data: bytes) -> Read:
    """As COLMAP's importer: header, then 4 floats and 128 integers in 0..255 each."""
    words = data.decode("ascii").split()
    count, dimension = int(words[0]), int(words[1])
    assert dimension == 128
    assert len(words) == 2 + 132 * count
    rows = []
    for i in range(2, len(words), 132):
        x, y, scale, turn = (float(word) for word in words[i : i + 4])
        rows.append(([x - 0.5, y - 0.5, scale, math.degrees(turn)], _bytes(words[i + 4 : i + 132])))
    return _stack(rows)


def lowe(data: bytes) -> Read:
    """As Bundler: a line of the frame, then seven lines of descriptor."""
    head, *lines = data.decode("ascii").splitlines()
    count, dimension = (int(word) for word in head.split())
    assert dimension == 128
    assert len(lines) == 8 * count
    rows = []
    for i in range(0, len(lines), 8):
        row, column, scale, turn = (float(word) for word in lines[i].split())
        assert -math.pi - 1e-6 <= turn <= math.pi + 1e-6
        assert [len(line.split()) for line in lines[i + 1 : i + 8]] == [20] * 6 + [8]
        descriptor = _bytes(" ".join(lines[i + 1 : i + 8]).split())
        rows.append(([column, row, scale, math.degrees(-turn) % 360], descriptor))
    return _stack(rows)


def vlfeat(data: bytes) -> Read:
    """Theta is clockwise, and so are a cell's eight directions; OpenCV's and Lowe's go the other way."""
    rows = []
    for line in data.decode("ascii").splitlines():
        words = line.split()
        assert len(words) == 132
        x, y, scale, turn = (float(word) for word in words[:4])
        cells = np.array(_bytes(words[4:])).reshape(16, 8)
        rows.append(([x, y, scale, math.degrees(turn)], cells[:, [0, 7, 6, 5, 4, 3, 2, 1]].ravel().tolist()))
    return _stack(rows)


def oxford(data: bytes) -> Read:
    dimension, count, *lines = data.decode("ascii").splitlines()
    assert (dimension, int(count)) == ("128", len(lines))
    rows = []
    for line in lines:
        words = line.split()
        assert len(words) == 133
        x, y, a, b, c = (float(word) for word in words[:5])
        assert (a, b) == (c, 0)
        rows.append(([x, y, 1 / math.sqrt(a) / 3, math.nan], _bytes(words[5:])))
    return _stack(rows)


def opencv_keypoints(data: bytes) -> list[cv2.KeyPoint]:
    """As C++ reads a vector<KeyPoint>."""
    storage = cv2.FileStorage(data.decode("ascii"), cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
    node = storage.getNode("keypoints")
    assert node.isSeq()
    rows = [[node.at(i).at(j).real() for j in range(node.at(i).size())] for i in range(node.size())]
    assert all(len(row) == 7 for row in rows)
    return [cv2.KeyPoint(*row[:5], int(row[5]), int(row[6])) for row in rows]


def opencv(data: bytes) -> Read:
    storage = cv2.FileStorage(data.decode("ascii"), cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
    descriptors = storage.getNode("descriptors").mat()
    points = opencv_keypoints(data)
    assert descriptors is None or (descriptors.dtype == np.float32 and descriptors.shape == (len(points), 128))
    empty = np.zeros((0, 128), np.float32)  # cv2 in Python has no other form for a matrix without rows
    frames = np.array([(*p.pt, p.size / 2, p.angle) for p in points], float).reshape(-1, 4)
    return frames, (empty if descriptors is None else descriptors).astype(float)


READERS = {"npz": npz, "colmap": colmap, "opencv": opencv, "lowe": lowe, "vlfeat": vlfeat, "oxford": oxford}


@pytest.fixture(scope="session")
def readers() -> SimpleNamespace:
    return SimpleNamespace(**READERS, opencv_keypoints=opencv_keypoints, names=set(READERS))
