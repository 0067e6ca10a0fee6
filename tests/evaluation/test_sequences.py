"""Matching with known geometry, on pictures warped by homographies of our own."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from idsr_cli.errors import ItemError, PairingError
from idsr_cli.evaluation.evaluate import RAINY, ScoredNetworks
from idsr_cli.evaluation.sequences import (
    DRY,
    GeometryRow,
    PlanePair,
    evaluate_plane_pair,
    find_pairs,
    judge,
    read_homography,
    summarise_geometry,
)
from idsr_cli.evaluation.table import geometry_lines
from idsr_cli.keypoints import Keypoints
from idsr_cli.restoration import Restored

HOMOGRAPHY = np.array([[0.96, 0.05, 4.0], [-0.04, 0.98, 6.0], [1e-4, -5e-5, 1.0]])


def texture(seed: int = 0, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0, 255, (*size, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return np.clip((smooth - smooth.mean()) * 6 + 128, 0, 255).astype(np.uint8)


def sequence(folder: Path, names: tuple[str, ...] = ("img1.png", "img2.png"), file: str = "H1to2p") -> Path:
    """Two pictures of a plane, the second of them moved by HOMOGRAPHY."""
    folder.mkdir(parents=True, exist_ok=True)
    first = texture()
    second = cv2.warpPerspective(first, HOMOGRAPHY, (160, 120), borderMode=cv2.BORDER_REFLECT)
    for name, image in zip(names, (first, second), strict=True):
        Image.fromarray(image).save(folder / name)
    np.savetxt(folder / file, HOMOGRAPHY)
    return folder


def test_layouts(tmp_path: Path) -> None:
    sequence(tmp_path / "b10")
    np.savetxt(tmp_path / "b10" / "H1to1p", np.eye(3))  # some sequences carry the identity
    sequence(tmp_path / "b9", ("1.ppm", "2.ppm"), "H_1_2")
    sequence(tmp_path / "c", ("a.png", "b.png"))
    (tmp_path / "notes").mkdir()
    found = find_pairs(tmp_path)
    assert [(p.name, p.relative, p.first.name) for p in found] == [
        ("b9 1-2", "b9/2.ppm", "1.ppm"),
        ("b10 1-2", "b10/img2.png", "img1.png"),
        ("c 1-2", "c/b.png", "a.png"),
    ]
    [alone] = find_pairs(tmp_path / "c")
    assert (alone.name, alone.relative) == ("c 1-2", "b.png")
    np.testing.assert_allclose(alone.homography, HOMOGRAPHY)


def test_images_go_by_their_number(tmp_path: Path) -> None:
    """img10 is image 10, although there are only three images."""
    folder = sequence(tmp_path / "s", ("img1.png", "img10.png"), "H1to10p")
    Image.new("RGB", (8, 8)).save(folder / "img2.png")
    [pair] = find_pairs(folder)
    assert (pair.name, pair.second.name) == ("s 1-10", "img10.png")


def test_folders_that_are_not_sequences(tmp_path: Path) -> None:
    with pytest.raises(PairingError, match="no such folder"):
        find_pairs(tmp_path / "gone")
    with pytest.raises(PairingError, match=r"no image sequence there .*H1to2p"):
        find_pairs(tmp_path)
    folder = sequence(tmp_path / "s")
    np.savetxt(folder / "H1to5p", HOMOGRAPHY)
    with pytest.raises(PairingError, match=r"H1to5p: there is no image 5 beside it"):
        find_pairs(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("1 2 3", "of nine numbers"), ("1 " * 9 + "x", "of nine numbers"), ("1 " * 9, "cannot be inverted"),
     ("nan " * 9, "cannot be inverted"), ("", "of nine numbers")],
)  # fmt: skip
def test_no_homography(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "H1to2p").write_text(text)
    with pytest.raises(PairingError, match=reason) as caught:
        read_homography(tmp_path / "H1to2p")
    assert caught.value.path == str(tmp_path / "H1to2p")


def keypoints(xy: np.ndarray, descriptors: np.ndarray) -> Keypoints:
    n = len(xy)
    f, i = np.zeros(n, np.float32), np.zeros(n, np.int32)
    return Keypoints(np.asarray(xy, np.float32), f, f, f, i, i, descriptors, (160, 120))


def plane(homography: np.ndarray = HOMOGRAPHY) -> PlanePair:
    return PlanePair("s 1-2", Path("1"), Path("2"), "2", homography)


def test_matches_are_judged_by_the_known_homography() -> None:
    generator = np.random.default_rng(0)
    first = generator.uniform(0, 100, (40, 2))
    descriptors = generator.integers(0, 120, (40, 128)).astype(np.uint8)
    moved = np.column_stack([first, np.ones(40)]) @ HOMOGRAPHY.T
    second = moved[:, :2] / moved[:, 2:]
    second[:30] += 1.0  # 1.4 px: still right
    second[30:] += generator.uniform(20, 60, (10, 2))  # matched, but wrong
    row = judge(plane(), "m", keypoints(first, descriptors), keypoints(second, descriptors))
    assert (row.keypoints, row.matches, row.inliers, row.ransac, row.found) == (40, 40, 30, 30, 30)
    assert row.corner_error == pytest.approx(math.sqrt(2), abs=0.2)
    away = judge(plane(np.diag([3.0, 3.0, 1.0])), "m", keypoints(first, descriptors), keypoints(second, descriptors))
    assert away.inliers < 5
    assert away.ransac == 30  # a homography fits, but not the known one
    assert away.corner_error > 50


@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_to_judge(count: int) -> None:
    descriptors = np.random.default_rng(1).integers(0, 120, (20, 128)).astype(np.uint8)
    some = keypoints(np.arange(40.0).reshape(20, 2), descriptors)
    row = judge(plane(np.eye(3)), "m", some, some.select(np.arange(count)))
    assert (row.keypoints, row.matches, row.inliers, row.ransac, row.corner_error) == (count, count, count, 0, math.inf)


def test_rain_dry_and_networks(tmp_path: Path) -> None:
    [pair] = find_pairs(sequence(tmp_path / "s"))
    dry = np.asarray(Image.open(pair.second), np.float32) / 255
    seen = []

    def rain(rgb: np.ndarray, name: str) -> np.ndarray:
        seen.append(name)
        wet = rgb.copy()
        wet[:, ::6] = 1.0
        return wet

    rows = evaluate_plane_pair(
        pair, rain, {"": ScoredNetworks(lambda rgb, roles: [Restored(dry, True)] * len(roles), ("DD", "DG"))}
    )
    rainy, dd, dg, upper = rows
    assert [row.method for row in rows] == [RAINY, "DD", "DG", DRY]
    assert seen == ["img2.png"]
    assert upper.inliers > 40
    assert upper.inliers > 0.9 * upper.matches
    assert upper.corner_error < 1
    assert rainy.inliers < upper.inliers / 2
    # Networks that return the dry image reach the upper bound exactly.
    assert dd.inliers == dg.inliers == upper.inliers
    pair.second.write_bytes(b"nothing")
    with pytest.raises(ItemError):
        evaluate_plane_pair(pair, rain, {})


def test_summary_and_text() -> None:
    rows = [
        GeometryRow("s 1-2", RAINY, 90, 20, 10, 12, 9, 2.0), GeometryRow("s 1-2", "ours", 70, 30, 25, 25, 25, 0.5),
        GeometryRow("s 1-3", RAINY, 110, 0, 0, 0, 0, math.inf), GeometryRow("s 1-3", "ours", 70, 10, 5, 0, 0, 80.0),
    ]  # fmt: skip
    rainy, ours = summarise_geometry(rows)
    assert (rainy.inliers, rainy.precision, rainy.found, rainy.solved, rainy.keypoints) == (5, 0.5, 0.9, 0.5, 100)
    assert (ours.inliers, ours.precision, ours.found, ours.solved) == (15, 0.75, 25 / 30, 0.5)
    assert (ours.difference[RAINY].mean, ours.difference[RAINY].low, ours.difference[RAINY].high) == (10, 5, 15)
    for width in (60, 80):
        lines = list(geometry_lines([rainy, ours], rows, width))
        assert max(map(len, lines)) <= 80
        assert "s 1-2     10    25" in lines
    several = [GeometryRow("s 1-2", f"weights {k} DG", 9, 8, 7, 6, 5, 4.0) for k in range(9)]
    several.insert(0, rows[0])
    assert max(map(len, geometry_lines(summarise_geometry(several), several, 80))) <= 80
    none = summarise_geometry([GeometryRow("s 1-2", RAINY, 0, 0, 0, 0, 0, math.inf)])[0]
    assert math.isnan(none.precision)
    assert math.isnan(none.found)
