"""How much rain was seen: level, share of the pixels and direction."""

import numpy as np
import pytest
import torch

from idsr_cli.rain_estimate import (
    RAINY_PIXEL,
    Rain,
    part_levels,
    rain_level,
    rainy_share,
    removed_per_pixel,
    streak_angle,
)
from idsr_cli.synthetic_rain import StreakOptions, streak_layer
from tests.conftest import photograph

pytestmark = pytest.mark.usefixtures("one_thread")


def rain(angle: float, seed: int = 3) -> np.ndarray:
    streaks = StreakOptions(angle=angle, jitter=2, length=30, density=0.003)
    return streak_layer((160, 200), streaks, torch.Generator().manual_seed(seed)).numpy()[..., None]


def test_rain_level() -> None:
    a = np.full((4, 5, 3), 0.5, np.float32)
    assert rain_level(a, a) == 0
    assert rain_level(a, a - np.float32(0.1)) == pytest.approx(25.5, rel=1e-5)


def test_rainy_share() -> None:
    a = np.zeros((8, 12, 3), np.float32)
    b = a.copy()
    b[:2] = b[:, :3] = 0.1
    assert rainy_share(part_levels(a, b), 25) == 7 / 16
    assert rainy_share(part_levels(a, b), 26) == 0
    assert rainy_share(part_levels(a[:1, :1], b[:1, :1]), 1) == 1


@pytest.mark.parametrize("angle", [-80, -45, -20, 0, 10, 50, 85])
def test_streak_angle(angle: float) -> None:
    scene = photograph(160, 200)
    rainy = scene + rain(angle)
    assert streak_angle(rainy, scene) == pytest.approx(angle, abs=4)
    assert streak_angle(scene, scene) == 0
    assert Rain.measured(rainy, scene).direction == streak_angle(rainy, scene)
    assert Rain.measured(rainy, scene, dry=True).direction is None


def test_level_and_share_of_the_pixels() -> None:
    scene = np.full((600, 10, 3), 0.5, np.float32)  # several bands
    rainy = scene.copy()
    rainy[250:400, :, 1] += np.float32((RAINY_PIXEL + 0.01) / 255)  # in one channel, and darker counts as much
    rainy[400:430] -= np.float32(20 / 255)
    rainy[430:] += np.float32((RAINY_PIXEL - 0.01) / 255)
    found = Rain.measured(rainy, scene)
    assert found.share == 180 / 600
    assert found.level == rain_level(rainy, scene)
    np.testing.assert_array_equal(removed_per_pixel(rainy, scene), np.abs(rainy - scene).max(2))


def test_what_has_no_direction() -> None:
    scene = photograph(160, 200)
    dots = np.random.default_rng(0).random((160, 200, 1), np.float32) * np.float32(0.1)
    crossing = rain(0) + rain(90)
    assert [Rain.measured(scene + layer, scene).direction for layer in (dots, crossing, 0 * dots)] == [None] * 3
    assert Rain.measured(scene, scene) == Rain(0.0, 0.0, None)
    # A fan of streaks has one.
    assert Rain.measured(scene + rain(-15) + rain(15), scene).direction == pytest.approx(0, abs=6)


def test_a_clip_is_measured_as_one_picture() -> None:
    scene = photograph(160, 200)
    layers = [rain(10), 0.3 * rain(20, seed=4), np.float32(0) * rain(0)]
    frames = [Rain.measured(scene + layer, scene) for layer in layers]
    whole = Rain.measured(np.concatenate([scene + layer for layer in layers]), np.concatenate([scene] * 3))
    found = Rain.over_frames(frames)
    assert found is not None
    assert (found.level, found.share) == (pytest.approx(whole.level), pytest.approx(whole.share))
    assert found.direction == pytest.approx(whole.direction, abs=2)
    assert Rain.over_frames([]) is None


def test_mean_direction_of_frames() -> None:
    def mean(*directions: float | None) -> float | None:
        found = Rain.over_frames(Rain(5.0, 0.1, direction) for direction in directions)
        assert found is not None
        return found.direction

    assert abs(mean(89, -87) or 0) == pytest.approx(89)  # a line at 89 degrees lies near one at -89
    assert mean(10, None, 20) == pytest.approx(15)
    assert mean(0, 90) is None
    assert mean(None, None) is None


def test_record() -> None:
    assert Rain(12.3456, 0.41251, -8.04).record() == {"level": 12.35, "share": 0.413, "direction": -8.0}
    assert Rain(0.0, 0.0, None).record() == {"level": 0.0, "share": 0.0, "direction": None}
    assert str(Rain(1.0, 0.5, -0.01).record()["direction"]) == "0.0"
