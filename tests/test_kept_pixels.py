"""What of a photograph stays although the network would change it."""

from typing import Any

import cv2
import numpy as np
import pytest
import torch

from idsr_cli.kept_pixels import leave_crowded_places, leave_dry_pixels, leave_the_sky, leave_what_runs_across
from idsr_cli.synthetic_rain import StreakOptions, streak_layer
from tests.conftest import few_drops_and_a_fence

pytestmark = pytest.mark.usefixtures("one_thread")


def test_pixels_with_next_to_no_rain_come_back_bit_for_bit() -> None:
    rainy = np.random.default_rng(0).random((600, 40, 3), np.float32)  # several bands
    floor = 2.0
    removed = np.zeros((600, 40), np.float32)
    removed[:, 10:20], removed[300:, 30:] = 1.9, 3.0
    removed[255:258, 2:4] = 8.0  # a streak across the border of two bands
    restored = rainy - (removed / 255)[..., None] * np.array((0.5, 1.0, 0.25), np.float32)
    before = restored.copy()
    leave_dry_pixels(rainy, restored, floor)
    beside = np.zeros((600, 40), bool)
    beside[254:259, 1:5] = True  # the streak and the pixels next to it are removed fully
    np.testing.assert_array_equal(restored[beside], before[beside])
    half = np.zeros((600, 40), bool)
    half[300:, 30:] = True
    np.testing.assert_allclose(restored[half], (0.5 * (rainy + before))[half], atol=1e-6)
    half[299:, 29:] = True  # the pixels next to it
    elsewhere = ~(beside | half)
    np.testing.assert_array_equal(restored[elsewhere], rainy[elsewhere])


def test_a_place_full_of_rain_in_a_photograph_with_little_comes_back() -> None:
    rainy, restored = few_drops_and_a_fence()
    before = restored.copy()
    leave_crowded_places(rainy, restored)
    inner = np.s_[256:304, 126:274]  # the places around these pixels are nothing but fence
    np.testing.assert_array_equal(restored[inner], rainy[inner])
    outside = np.ones((600, 360), bool)
    outside[215:345, 85:315] = False  # the fence and a little more
    np.testing.assert_array_equal(restored[outside], before[outside])
    assert (before[outside] != rainy[outside]).any()
    back = ((restored - before) / np.where(rainy == before, 1, rainy - before))[231, 100:130, 0]
    assert (np.diff(back) >= 0).all()  # more and more towards the middle
    assert ((back > 0.05) & (back < 0.95)).sum() >= 5


def test_rain_in_a_quarter_of_the_photograph_is_rain() -> None:
    for drops in (0.36, 0.5, 1.0):
        rainy, restored = few_drops_and_a_fence(drops)
        before = restored.copy()
        leave_crowded_places(rainy, restored)
        np.testing.assert_array_equal(restored, before)
    rainy, restored = few_drops_and_a_fence(0)
    before = restored.copy()
    before[:, 240:] = restored[:, 240:] = 0.5 * rainy[:, 240:]  # a gust that takes a third
    leave_crowded_places(rainy, restored)
    np.testing.assert_array_equal(restored, before)


@pytest.mark.parametrize(("veil", "comes_back"), [(3.9, True), (4.1, False)])
def test_a_faint_veil_does_not_hide_a_crowded_place(veil: float, comes_back: bool) -> None:
    rainy, restored = few_drops_and_a_fence()
    for rows in (np.s_[:160], np.s_[400:]):
        restored[rows] = np.minimum(restored[rows], rainy[rows] - np.float32(veil / 255))
    before = restored.copy()
    leave_crowded_places(rainy, restored)
    inner = np.s_[256:304, 126:274]
    np.testing.assert_array_equal(restored[inner], (rainy if comes_back else before)[inner])


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (3, 2)])
def test_tiny_photographs_have_neither_places_nor_sky(size: tuple[int, int]) -> None:
    rainy = np.full((*size, 3), 0.5, np.float32)
    restored = rainy - np.float32(0.1)
    leave_crowded_places(rainy, restored)
    leave_the_sky(rainy, restored)
    leave_what_runs_across(rainy, restored)
    np.testing.assert_array_equal(restored, rainy - np.float32(0.1))


def a_tree_before_the_sky(
    sky: float = 0.99, rows: int = 100, gap: float = 0.95, first: int = 112
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A photograph, what a network made of it that took gaps in a tree for rain too, and where the gaps are.

    The sky is in the uppermost `rows`, 320 pixels wide; rows of gaps begin at `first`.
    """
    random = np.random.default_rng(1)
    rainy = np.full((480, 320, 3), 0.3, np.float32) + random.random((480, 320, 3), np.float32) / 50
    gaps, streaks = np.zeros((2, 480, 320), bool)
    for x in range(20, 300, 24):
        for y in range(first, first + 48, 16):
            gaps[y : y + 6, x : x + 2] = True
        for y in range(110, 460, 16):
            streaks[y : y + 6, x + 10 : x + 12] = True
    rainy[:rows], rainy[streaks], rainy[gaps] = sky, 0.8, gap
    restored = rainy.copy()
    restored[gaps | streaks] = 0.3
    return rainy, restored, gaps


def test_what_is_as_bright_as_a_white_sky_is_no_rain() -> None:
    rainy, restored, gaps = a_tree_before_the_sky()
    before = restored.copy()
    leave_the_sky(rainy, restored)
    around = cv2.dilate(gaps.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    np.testing.assert_array_equal(restored[around], rainy[around])
    away = cv2.dilate(gaps.astype(np.uint8), np.ones((19, 19), np.uint8)) == 0
    np.testing.assert_array_equal(restored[away], before[away])
    assert (before[away] != rainy[away]).any()


@pytest.mark.parametrize(
    "difference",
    [
        {"sky": 0.9},  # grey: what is brighter is rain
        {"rows": 23},  # too narrow for a sky
        {"gap": 0.9},  # darker than the sky
        {"first": 240},  # far from it: the sky is looked for within 80 pixels
    ],
)
def test_other_bright_streaks_are_rain(difference: dict[str, Any]) -> None:
    rainy, restored, _ = a_tree_before_the_sky(**difference)
    before = restored.copy()
    leave_the_sky(rainy, restored)
    np.testing.assert_array_equal(restored, before)


def test_a_lamp_is_no_sky() -> None:
    rainy, restored, _ = a_tree_before_the_sky()
    for image in rainy, restored:
        image[:100] = 0.3
        image[32:72, 32:72] = 1.0  # 1 % of the photograph
    before = restored.copy()
    leave_the_sky(rainy, restored)
    np.testing.assert_array_equal(restored, before)


def streaks(angle: float, seed: int) -> np.ndarray:
    """(480, 480, 1) rain in one direction."""
    options = StreakOptions(angle=angle, density=0.005)
    return streak_layer((480, 480), options, torch.Generator().manual_seed(seed)).numpy()[..., None]


def rain_above_a_wet_road(angle: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A photograph with rain in the upper two thirds, and what a network made of it that took glints below for rain."""
    restored = np.full((480, 480, 3), 0.3, np.float32)
    rainy = restored + streaks(angle, seed=1)
    rainy[320:] = restored[320:] + streaks(90, seed=2)[320:]
    return rainy, restored


@pytest.mark.parametrize("angle", [0.0, 25.0, -25.0])
def test_what_runs_across_the_rain_comes_back(angle: float) -> None:
    rainy, restored = rain_above_a_wet_road(angle)
    before = restored.copy()
    leave_what_runs_across(rainy, restored)
    np.testing.assert_array_equal(restored[:280], before[:280])
    np.testing.assert_array_equal(restored[380:], rainy[380:])
    assert all((before[part] != rainy[part]).any() for part in (np.s_[:280], np.s_[380:]))


def drops_before_glints(columns: slice) -> tuple[np.ndarray, np.ndarray]:
    """As `rain_above_a_wet_road`; before these columns of the road nearly as much rain falls as there are glints."""
    rainy, restored = rain_above_a_wet_road()
    waves = np.sin(np.arange(480, dtype=np.float32) * (np.pi / 4))
    both = 0.1 * waves[:, None] + 0.075 * waves  # a coherence of 0.28, level
    rainy[320:, columns] = restored[320:, columns] + both[320:, columns, None]
    return rainy + np.float32(0.2), restored


def test_a_wet_road_comes_back_where_drops_fall_before_it_too() -> None:
    """Or it would come back in patches."""
    rainy, restored = drops_before_glints(np.s_[160:320])
    leave_what_runs_across(rainy, restored)
    np.testing.assert_array_equal(restored[380:], rainy[380:])


def test_drops_before_few_glints_are_rain() -> None:
    """Where no place beside them runs across plainly."""
    rainy, restored = drops_before_glints(np.s_[:])
    before = restored.copy()
    leave_what_runs_across(rainy, restored)
    np.testing.assert_array_equal(restored, before)


@pytest.mark.parametrize(("angle", "turned"), [(0.0, -20.0), (10.0, -40.0), (70.0, 50.0), (90.0, 70.0), (90.0, 0.0)])
def test_rain_that_turns_is_rain(angle: float, turned: float) -> None:
    """Also if it is horizontal."""
    rainy, restored = rain_above_a_wet_road(angle)
    rainy[320:] = restored[320:] + streaks(turned, seed=3)[320:]
    before = restored.copy()
    leave_what_runs_across(rainy, restored)
    np.testing.assert_array_equal(restored, before)


def test_without_a_direction_nothing_runs_across() -> None:
    rainy, restored = rain_above_a_wet_road()
    rainy[:320] = restored[:320]
    rainy[:, 48:] = restored[:, 48:]  # glints in a thirtieth of the photograph, and nothing else
    before = restored.copy()
    leave_what_runs_across(rainy, restored)
    np.testing.assert_array_equal(restored, before)
    specks = np.random.default_rng(0).random((480, 480, 1), np.float32) < 0.1
    rainy = restored + np.float32(0.2) * specks
    leave_what_runs_across(rainy, restored)
    np.testing.assert_array_equal(restored, before)
