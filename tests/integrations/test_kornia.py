"""Frames for kornia: by its documented convention, by its own functions where it is installed, by what they cut out."""

import math

import cv2
import numpy as np
import pytest
import torch

from idsr_cli.errors import UsageError
from idsr_cli.features import sift
from idsr_cli.integrations.kornia import SIFT_WINDOW, to_laf
from idsr_cli.keypoints import Keypoints


def keypoints(*rows: tuple[float, float, float, float]) -> Keypoints:
    """From (x, y, sigma, degrees clockwise)."""
    x, y, scale, angle = np.array(rows, np.float32).reshape(-1, 4).T
    whole = np.zeros(len(x), np.int32)
    return Keypoints(
        np.stack([x, y], 1), scale, angle, scale, whole, whole, np.zeros((len(x), 128), np.uint8), (64, 48)
    )


def test_the_documented_example() -> None:
    """`laf_from_center_scale_ori` of (5, 7), scale 2, 30 degrees counter-clockwise, as kornia documents it."""
    frame = to_laf(keypoints((5, 7, 2, 330)), magnification=1.0)
    assert (frame.shape, frame.dtype) == ((1, 1, 2, 3), torch.float32)
    expected = torch.tensor([[[[1.7321, 1.0, 5.0], [-1.0, 1.7321, 7.0]]]])
    torch.testing.assert_close(frame, expected, atol=1e-4, rtol=0)


def test_the_axes_of_the_patch_turn_clockwise() -> None:
    """At 90 degrees clockwise the patch's x axis points down on the screen and its y axis to the left."""
    [[frame]] = to_laf(keypoints((10, 20, 1.5, 90)))
    torch.testing.assert_close(frame[:, 0], torch.tensor([0, 1.5 * SIFT_WINDOW]), atol=1e-5, rtol=0)
    torch.testing.assert_close(frame[:, 1], torch.tensor([-1.5 * SIFT_WINDOW, 0]), atol=1e-5, rtol=0)
    assert frame[:, 2].tolist() == [10, 20]


def test_scale_and_orientation_by_their_definitions() -> None:
    """Scale is sqrt |det A| and orientation atan2(a12, a11), counter-clockwise."""
    generator = np.random.default_rng(0)
    sigma, angle = generator.uniform(0.8, 60, 50), generator.uniform(0, 360, 50)
    frames = to_laf(keypoints(*((1, 2, s, a) for s, a in zip(sigma, angle, strict=True))), 3.0)[0].double()
    np.testing.assert_allclose(torch.linalg.det(frames[:, :, :2]).sqrt(), 3 * sigma, rtol=1e-5)
    turn = torch.rad2deg(torch.atan2(frames[:, 0, 1], frames[:, 0, 0])).numpy()
    np.testing.assert_allclose((turn + angle + 180) % 360, 180, atol=1e-3)


def test_no_keypoints_and_wrong_magnifications() -> None:
    assert to_laf(Keypoints.empty((64, 48))).shape == (1, 0, 2, 3)
    for wrong in (0, -1.0, math.inf, math.nan, "6", True):
        with pytest.raises(UsageError, match="magnification must be"):
            to_laf(keypoints((1, 1, 1, 0)), wrong)  # type: ignore[arg-type]


def test_kornia_reads_back_what_was_put_in() -> None:
    feature = pytest.importorskip("kornia.feature")
    points = keypoints((5, 7, 2, 30), (9.25, 3.5, 11, 200), (0, 0, 0.9, 0))
    frames = to_laf(points)
    xy, scale, angle = (torch.from_numpy(values)[None] for values in (points.xy, points.scale, points.angle))
    expected = feature.laf_from_center_scale_ori(xy, 6 * scale[..., None, None], -angle[..., None])
    torch.testing.assert_close(frames, expected)
    torch.testing.assert_close(feature.get_laf_center(frames), xy)
    torch.testing.assert_close(feature.get_laf_scale(frames).flatten(), 6 * scale[0])
    torch.testing.assert_close(feature.get_laf_orientation(frames).flatten() % 360, -angle[0] % 360)


def test_kornia_cuts_the_same_patch_from_a_turned_photograph() -> None:
    """The patches of matching keypoints in a photograph and in the photograph turned by 90 degrees are the same."""
    feature = pytest.importorskip("kornia.feature")
    noise = np.random.default_rng(1).uniform(0, 255, (160, 160)).astype(np.float32)
    image = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
    turned = np.rot90(image, -1).copy()  # clockwise: (x, y) -> (159 - y, x)
    first, second = sift(torch.from_numpy(image)), sift(torch.from_numpy(turned))
    patches = []
    where = np.stack([159 - first.xy[:, 1], first.xy[:, 0]], 1)
    turn = (first.angle + 90) % 360
    gaps = np.linalg.norm(where[:, None] - second.xy[None], axis=2) + np.abs(turn[:, None] - second.angle[None]) / 10
    nearest = gaps.argmin(1)
    inside = (gaps[np.arange(len(first)), nearest] < 0.2) & (np.abs(first.xy - 80).max(1) + 8 * first.scale < 75)
    assert inside.sum() > 10
    for picture, points in ((image, first.select(inside)), (turned, second.select(nearest[inside]))):
        grey = torch.from_numpy(picture)[None, None] / 255
        patches.append(feature.extract_patches_from_pyramid(grey, to_laf(points), 16)[0])
    difference = (patches[0] - patches[1]).abs().mean((1, 2, 3))
    assert difference.median() < 0.01
    assert (patches[0] - patches[1].rot90(1, (2, 3))).abs().mean() > 0.05  # it matters how they are turned
