"""docs/formats.md: idsr's and COLMAP's SIFT descriptors can be matched with each other."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from idsr_cli.extraction import sift_fields
from idsr_cli.features import SiftOptions, sift
from idsr_cli.formats.descriptors import convert
from idsr_cli.matching import estimate, match_descriptors

ROOT = Path(__file__).resolve().parents[2]
VIEW = np.array([[0.93, 0.18, 10], [-0.13, 0.98, 55], [1.5e-4, -8e-5, 1]])

Features = tuple[np.ndarray, np.ndarray]


def ours(grey: np.ndarray) -> Features:
    options = SiftOptions(**sift_fields("colmap"))
    found = convert(sift(torch.from_numpy(grey.astype(np.float32)), options), "rootsift_u8")
    return found.xy, found.descriptors


def colmaps(grey: np.ndarray, folder: Path) -> Features:
    """By COLMAP's own extraction, out of a database."""
    import pycolmap

    (folder / "photos").mkdir(parents=True)
    cv2.imwrite(str(folder / "photos" / "x.png"), grey)
    pycolmap.logging.minloglevel = int(pycolmap.logging.FATAL)
    pycolmap.extract_features(folder / "database.db", folder / "photos", device=pycolmap.Device.cpu)
    with pycolmap.Database.open(str(folder / "database.db")) as database:
        image = database.read_image_with_name("x.png")
        places = np.array(database.read_keypoints(image.image_id))[:, :2] - 0.5
        return places.astype(np.float32), np.array(database.read_descriptors(image.image_id).data)


def test_the_two_kinds_go_together(tmp_path: Path) -> None:
    pytest.importorskip("pycolmap")
    first = cv2.imread(str(ROOT / "examples" / "clean" / "lighthouse.jpg"), cv2.IMREAD_GRAYSCALE)
    second = cv2.warpPerspective(first, VIEW, first.shape[::-1])
    one = {"idsr": ours(first), "colmap": colmaps(first, tmp_path / "1")}
    other = {"idsr": ours(second), "colmap": colmaps(second, tmp_path / "2")}
    inliers = {}
    for a, (xy, descriptors) in one.items():
        for b, (there, others) in other.items():
            matches = match_descriptors(descriptors, others)
            geometry = estimate(xy[matches.index[:, 0]], there[matches.index[:, 1]], "homography")
            np.testing.assert_allclose(geometry.matrix, VIEW, atol=0.3)
            inliers[a, b] = int(geometry.inliers.sum())
    within = min(inliers["idsr", "idsr"], inliers["colmap", "colmap"])
    assert within > 850
    assert min(inliers["idsr", "colmap"], inliers["colmap", "idsr"]) > 0.9 * within, inliers
