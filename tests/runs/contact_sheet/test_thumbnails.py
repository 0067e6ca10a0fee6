"""Small pictures for the contact sheet: upright, small enough, and with keypoints where they belong."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from idsr_cli.images.photo import Photo, apply_orientation, orient_points
from idsr_cli.rain_estimate import rain_level
from idsr_cli.runs.contact_sheet import thumbnails
from idsr_cli.runs.contact_sheet.thumbnails import LARGE, RADII, SMALL, Detail, detail_for, draw_points, make


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def vertices(path: str) -> np.ndarray:
    """Where an SVG path of relative steps goes: (N, 2)."""
    assert path.startswith("m")
    numbers = [int(text) for text in re.findall(r"-?\d+", path.removesuffix("h0"))]
    return np.cumsum(np.reshape(numbers, (-1, 2)), axis=0)


def test_a_photograph_before_and_after() -> None:
    rainy = np.full((80, 1000, 3), 0.25, np.float32)
    rainy[:, :500] = 0.5
    restored = rainy.copy()
    restored[:, :500] = 0.45
    made = make(Photo(rainy), LARGE, restored)
    assert made.size == (400, 32)
    assert made.after is not None
    assert made.removed is not None
    for data, left, right in ((made.before, 0.5, 0.25), (made.after, 0.45, 0.25), (made.removed, 0.5 + 4 * 0.05, 0.5)):
        shown = pixels(data)
        assert shown.shape == (32, 400, 3)
        assert abs(shown[:, 20:180].mean() / 255 - left) < 0.02
        assert abs(shown[:, 220:380].mean() / 255 - right) < 0.02
    assert made.difference == rain_level(rainy, restored) > 8
    assert made.points_before is made.points_after is None


def test_a_photograph_that_was_not_changed_has_one_picture() -> None:
    dry = np.full((48, 64, 3), 0.5, np.float32)
    for restored, rain in ((dry, 0.0), (None, None)):
        made = make(Photo(dry), LARGE, restored)
        assert (made.size, made.after, made.removed, made.difference) == ((64, 48), None, None, rain)  # never enlarged


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_and_keypoints_are_turned_alike(orientation: int, points) -> None:
    """A bright spot in a dark picture, and a keypoint on it."""
    rgb = np.zeros((300, 800, 3), np.float32)
    rgb[36:44, 600:608] = 1.0
    here = points(np.array([[603.5, 39.5]]), (800, 300))
    made = make(Photo(rgb, orientation=orientation), LARGE, None, points_after=here)
    shown = pixels(made.before)
    assert shown.shape[:2] == (made.size[1], made.size[0]) == ((400, 150) if orientation >= 5 else (150, 400))
    assert made.points_after is not None
    [[x, y]] = vertices(made.points_after.paths[0])
    rows, columns = np.nonzero(shown.mean(2) > 128)
    # A path's origin is the corner of the picture, and an array's the centre of a pixel.
    assert abs(columns.mean() + 0.5 - x) <= 0.75
    assert abs(rows.mean() + 0.5 - y) <= 0.75


@pytest.mark.parametrize("orientation", range(1, 9))
def test_points_are_turned_with_their_image(orientation: int) -> None:
    image = np.zeros((5, 7))
    image[3, 1] = 1
    [[row, column]] = np.argwhere(apply_orientation(image, orientation))
    assert orient_points(np.array([[1.0, 3.0]]), (7, 5), orientation).tolist() == [[column, row]]


@pytest.mark.parametrize("limits", [LARGE, SMALL, Detail(400, 900, 0)])
def test_pictures_stay_within_their_limit(limits: Detail) -> None:
    noise = np.random.default_rng(0).random((500, 700, 3), dtype=np.float32)
    made = make(Photo(noise), limits, noise[::-1])
    assert made.after is not None
    assert made.removed is not None
    assert max(map(len, (made.before, made.after, made.removed))) <= limits.limit
    assert max(made.size) == limits.long_side


def test_the_strongest_keypoints_are_drawn_in_the_same_share(points) -> None:
    xy = np.stack([np.arange(60), np.arange(60) % 45], 1)
    photo = Photo(np.zeros((48, 64, 3), np.float32))
    made = make(photo, Detail(400, 9000, 30), None, points(xy[:20], (64, 48)), points(xy, (64, 48)))
    before, after = made.points_before, made.points_after
    assert before is not None
    assert after is not None
    assert (before.count, after.count, before.share, after.share) == (20, 60, 0.5, 0.5)
    for drawn, count in ((before, 10), (after, 30)):
        [path] = filter(None, drawn.paths)
        found = vertices(path)
        assert sorted(map(tuple, found.tolist())) == expected(xy, count)


def expected(xy: np.ndarray, count: int) -> list[tuple[int, int]]:
    """The corners' grid is half a pixel off; numpy rounds halves to even numbers."""
    return sorted({(int(x), int(y)) for x, y in np.rint(xy[:count] + 0.5)})


def test_circles_have_the_nearest_radius(points) -> None:
    sigma = np.array([0.1, 0.75, 1.6, 2.8, 40.0])
    drawn = draw_points(points(np.array([[i, i] for i in range(5)]), (64, 48), sigma), 1, (64, 48), 1.0)
    assert [len(vertices(path)) for path in drawn.paths] == [2, 1, 1, 1]
    assert len(drawn.paths) == len(RADII)


def test_no_keypoints_are_no_path(points) -> None:
    drawn = draw_points(points(np.zeros((0, 2)), (64, 48)), 6, (48, 64), 1.0)
    assert (drawn.count, drawn.paths) == (0, ("", "", "", ""))


def test_many_photographs_have_smaller_pictures() -> None:
    assert detail_for(500) is LARGE
    assert detail_for(10_000) is SMALL
    assert thumbnails.SMALL.limit * 4 < thumbnails.LARGE.limit * 2
