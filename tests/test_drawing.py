"""Pictures of keypoints."""

import numpy as np
import pytest

from idsr_cli import drawing
from idsr_cli.drawing import draw_keypoints, draw_matches, layout, spread
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


# --- matches ---------------------------------------------------------------------------------------------------------

SIZES = [(1, 1), (64, 48), (481, 321), (321, 481), (1500, 200), (4000, 3000), (30, 4000)]


@pytest.mark.parametrize("first", SIZES)
@pytest.mark.parametrize("second", SIZES)
def test_layout_fits_and_keeps_shapes(first, second) -> None:
    plan = layout((first, second))
    assert plan.size[0] <= drawing.BOX[0] + 2
    assert plan.size[1] <= drawing.BOX[1] + 2
    for (x, y, width, height), (w, h) in zip(plan.boxes, (first, second), strict=True):
        assert 0 <= x < x + width <= plan.size[0]
        assert 0 <= y < y + height <= plan.size[1]
        assert width <= drawing.LARGEST_FACTOR * w + 1
        if min(width, height) > 20:
            assert width / height == pytest.approx(w / h, rel=0.05)
    (x1, y1, w1, h1), (x2, y2, _, _) = plan.boxes
    assert (x2 >= x1 + w1) != (y2 >= y1 + h1)  # beside or below, with a gap


def test_wide_photographs_go_above_one_another_and_others_side_by_side() -> None:
    assert layout(((1500, 400), (1500, 400))).boxes[1][0] == 0
    assert layout(((600, 400), (600, 400))).boxes[1][1] == 0
    (_, _, _, first), (_, _, _, second) = layout(((60, 40), (3000, 2000))).boxes
    assert (first, second > 800) == (160, True)  # a small one is not enlarged too far, and does not shrink the other


def test_positions_are_pixel_centres() -> None:
    plan = layout(((400, 300), (200, 300)))
    (_, _, width, _), (x, _, w, h) = plan.boxes
    np.testing.assert_allclose(plan.place(0, np.float32([[-0.5, -0.5]]), (400, 300)), [[-0.5, -0.5]])
    corner = plan.place(1, np.float32([[199.5, 299.5]]), (200, 300))
    np.testing.assert_allclose(corner, [[x + w - 0.5, h - 0.5]])
    assert x == width + drawing.GAP


def matches_picture(inliers: list[bool], error: list[float]) -> np.ndarray:
    """Two grey photographs of 300x300, magnified twice or more; matches in rows 100 pixels apart."""
    grey = np.full((300, 300, 3), 0.5, np.float32)
    y = 50.0 + 100 * np.arange(len(inliers))
    points = np.stack([np.full(len(y), 100.0), y], 1)
    return draw_matches((grey, grey), (points, points), np.array(inliers), np.array(error), 3.0, "words", ("0", "3"))


def test_lines_join_inliers_and_their_colour_is_the_error() -> None:
    picture = matches_picture([True, True, False], [0.0, 3.0, np.inf])
    plan = layout(((300, 300), (300, 300)))
    factor = plan.boxes[0][2] / 300
    rows = [round((y + 0.5) * factor - 0.5) for y in (50, 150, 250)]
    column = plan.size[0] // 3  # between the ends
    good, bad, out = (picture[row - 1 : row + 2, column] for row in rows)
    ground = picture[rows[0] + 40, column]
    assert (good[..., 2] - good[..., 0]).max() > 0.3  # blue
    assert (bad[..., 0] - bad[..., 2]).max() > 0.3  # red
    np.testing.assert_allclose(out, np.broadcast_to(ground, out.shape), atol=0.01)
    place = round(100.5 * factor - 0.5)
    assert np.abs(picture[rows[2] - 3 : rows[2] + 4, place - 3 : place + 4] - ground).max() > 0.1  # a dot all the same


def test_many_inliers_do_not_hide_the_photograph(monkeypatch) -> None:
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 300, (400, 2))
    white = np.ones((300, 300, 3), np.float32)
    dark = []
    for most in (400, 399):
        monkeypatch.setattr(drawing, "MOST_DOTS", most)
        monkeypatch.setattr(drawing, "MOST_LINES", 1)
        picture = draw_matches(
            (white, white), (points, points), points[:, 0] >= 0, points[:, 0] / 100, 3.0, "", ("", "")
        )
        dark.append((picture[:1000].max(axis=2) < 0.5).mean())
    assert dark[0] > 1.5 * dark[1]  # the rims; the gap is dark in both


def test_strip_is_left_out_where_it_does_not_fit() -> None:
    picture = matches_picture([True], [1.0])
    assert picture.shape[0] > layout(((300, 300), (300, 300))).size[1]
    assert (picture.dtype, picture.min() >= 0, picture.max() <= 1) == (np.float32, True, True)
    none = np.zeros((0, 2))
    tiny = np.zeros((1, 1, 3), np.float32)
    small = draw_matches((tiny, tiny), (none, none), none[:, 0] > 0, none[:, 0], 3.0, "words", ("0", "3"))
    assert small.shape == (4, 4 + drawing.GAP + 4, 3)


def test_lines_are_spread_over_the_photograph() -> None:
    rng = np.random.default_rng(0)
    crowd, few = rng.uniform(0, 10, (1000, 2)), rng.uniform((0, 0), (1000, 800), (30, 2))
    xy = np.concatenate([crowd, few])
    rows = np.arange(1030)
    chosen = spread(xy, rows, 100)
    assert len(set(chosen.tolist())) == 100
    assert (np.diff(chosen) > 0).all()
    assert (chosen >= 1000).sum() >= 28  # nearly each of the few has a cell of its own
    np.testing.assert_array_equal(spread(xy, rows[:50], 100), rows[:50])
    assert len(spread(np.zeros((500, 2)), np.arange(500), 7)) == 7
