"""OpenCV's FileStorage, YAML: what `cv::FileStorage` reads into a `vector<KeyPoint>` and a `Mat`.

`keypoints` is a sequence of [x, y, size, angle, response, octave, class_id]: (0, 0) is the centre of the top-left
pixel, size is a diameter (2 sigma), angle is in degrees, clockwise on screen, octave is packed as in `cv2.SIFT`, so
that `SIFT::compute` accepts the keypoints. `descriptors` is a CV_32F matrix, as `cv2.SIFT` returns it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from idsr_cli.formats.descriptors import DescriptorKind
from idsr_cli.formats.stored import Stored, stored
from idsr_cli.keypoints import Keypoints

if TYPE_CHECKING:
    import numpy as np


def encode(keypoints: Keypoints, meta: Mapping[str, Any]) -> bytes:
    """The file's bytes; `meta["sift"]` (n_layers and sigma) is needed to pack the octaves."""
    import cv2
    import numpy as np

    rows = zip(
        keypoints.xy[:, 0].tolist(),
        keypoints.xy[:, 1].tolist(),
        (2 * keypoints.scale).tolist(),
        keypoints.angle.tolist(),
        keypoints.response.tolist(),
        strict=True,
    )
    storage = cv2.FileStorage(".yml", cv2.FILE_STORAGE_WRITE | cv2.FILE_STORAGE_MEMORY)
    storage.startWriteStruct("keypoints", cv2.FILE_NODE_SEQ)
    for row, octave in zip(rows, octave_words(keypoints, meta["sift"]).tolist(), strict=True):
        storage.startWriteStruct("", cv2.FILE_NODE_SEQ | cv2.FILE_NODE_FLOW)
        for number in (*row, octave, -1):
            storage.write("", number)
        storage.endWriteStruct()
    storage.endWriteStruct()
    storage.write("descriptors", keypoints.descriptors.astype(np.float32))
    return storage.releaseAndGetString().encode("ascii")


def octave_words(keypoints: Keypoints, settings: Mapping[str, Any]) -> np.ndarray:
    """(N,) int64: octave in byte 0, layer in byte 1, round(255 (xi + 0.5)) in byte 2.

    xi is the sub-layer offset. It is computed from the scale, which is sigma * 2^(octave + (layer + xi) / n_layers).
    """
    import numpy as np

    octave, layer = keypoints.octave.astype(np.int64), keypoints.layer.astype(np.int64)
    levels = np.log2(keypoints.scale.astype(np.float64) / settings["sigma"]) - octave
    beyond = np.clip(levels * settings["n_layers"] - layer, -0.5, 0.5)
    return octave & 255 | layer << 8 | np.rint(255 * (beyond + 0.5)).astype(np.int64) << 16


def decode(data: bytes) -> Stored:
    """The keypoints of a file; `ValueError` if it is not one."""
    import cv2
    import numpy as np

    try:
        storage = cv2.FileStorage(data.decode("ascii"), cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
        node, matrix = storage.getNode("keypoints"), storage.getNode("descriptors").mat()
        numbers = [[node.at(i).at(j).real() for j in range(7)] for i in range(node.size())]
    except (cv2.error, SystemError) as error:  # from `FileStorage` in Python, a SystemError caused by cv2's
        raise ValueError("not YAML of OpenCV's FileStorage") from error
    if not node.isSeq():
        raise ValueError("no sequence of keypoints")
    rows = np.array(numbers, np.float64).reshape(-1, 7)
    descriptors = np.zeros((0, 128), np.float32) if matrix is None else matrix
    if descriptors.shape != (len(rows), 128):
        raise ValueError("not one descriptor for each keypoint")
    in_bytes = bool((descriptors == np.rint(descriptors)).all())
    kind: DescriptorKind | None = None if in_bytes else "rootsift_f32"
    found = stored(rows[:, :2], rows[:, 2] / 2, descriptors, angle=rows[:, 3], response=rows[:, 4], kind=kind)
    words = rows[:, 5].astype(np.int64)
    octave, layer = (words & 255).astype(np.int8).astype(np.int32), (words >> 8 & 255).astype(np.int32)
    points = replace(found.keypoints, octave=octave, layer=layer)
    return replace(found, keypoints=points, holds=found.holds | {"octave"})
