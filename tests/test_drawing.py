"""Pictures of keypoints."""

import numpy as np
import pytest

from idsr_cli.drawing import draw_keypoints
from idsr_cli.keypoints import Keypoints


def one(x: float, y: float, scale: float, angle: float, size: tuple[int, int]) -> Keypoints:
    empty = Keypoints.empty(size)
    zero, octave = np.zeros(1, np.float32), np.zeros(1, np.int32)
    return Keypoints(
        np.float32([[x, y]]), zero + scale, zero + angle, zero, octave, octave, empty.descriptors[:1], size
    )  # fmt: skip


@pytest.mark.parametrize(("height", "width"), [(1, 1), (30, 50), (481, 321), (2000, 3000)])
def test_size_and_range(height, width) -> None:
    rgb = np.full((height, width, 3), 0.5, np.float32)
    picture = draw_keypoints(rgb, Keypoints.empty((width, height)))
    factor = picture.shape[0] // height
    assert picture.shape == (height * factor, width * factor, 3)
    assert picture.dtype == np.float32
    assert 0 <= picture.min() <= picture.max() <= 1


def test_circle_and_stroke_lie_where_the_keypoint_says() -> None:
    """At (40, 30) of a 1000 px wide picture, enlarged twice; radius 2 sigma; angle 90 points down."""
    rgb = np.zeros((200, 1000, 3), np.float32)
    picture = draw_keypoints(rgb, one(40, 30, 8, 90, (1000, 200)))
    factor = picture.shape[0] // 200
    centre = [(v + 0.5) * factor - 0.5 for v in (40, 30)]
    ink = np.argwhere(picture.max(axis=2) > 0.5)[:, ::-1]
    radius = np.hypot(*(ink - centre).T)
    assert radius.max() == pytest.approx(16 * factor, abs=3)
    inner = ink[radius < 12 * factor]
    assert np.abs(inner[:, 0] - centre[0]).max() < 3
    assert inner[:, 1].max() > centre[1] + 10 * factor
    assert inner[:, 1].min() > centre[1] - 3


def test_colour_goes_with_scale() -> None:
    rgb = np.zeros((100, 100, 3), np.float32)
    fine, coarse = (draw_keypoints(rgb, one(50, 50, scale, 0, (100, 100))) for scale in (1.6, 20))
    assert fine[..., 2].sum() > fine[..., 0].sum()
    assert coarse[..., 0].sum() > coarse[..., 2].sum()
