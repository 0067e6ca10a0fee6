"""The dry test, the rotated pass, and photographs restored by the networks of a pair."""

import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import idsr_cli.inference
from idsr_cli import restoration
from idsr_cli.errors import ItemError, UsageError
from idsr_cli.images.photo import Photo
from idsr_cli.inference import run_padded
from idsr_cli.kept_pixels import leave_dry_pixels
from idsr_cli.rain_estimate import Rain, part_levels, rain_level
from idsr_cli.restoration import (
    Look,
    RainRemover,
    Removal,
    RestorationOptions,
    Restored,
    load_network,
    most_rain,
    seems_dry,
)
from idsr_cli.synthetic_rain import StreakOptions, streak_layer
from idsr_cli.weights import WeightsPair
from tests.conftest import few_drops_and_a_fence, make_weights, photograph

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


def remover(folder: Path, tile: int | None = None, **settings: object) -> RainRemover:
    return load_network(make_weights(folder, **settings), "cpu", "fp32", tile)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (33, 47)])
def test_results_are_images_and_the_input_stays(tmp_path: Path, size: tuple[int, int]) -> None:
    image = photograph(*size)
    before = image.copy()
    result = remover(tmp_path)(image).rgb
    assert (result.shape, result.dtype, result.flags.c_contiguous) == ((*size, 3), np.float32, True)
    assert result.min() >= 0
    assert result.max() <= 1
    np.testing.assert_array_equal(image, before)


def test_dry_photographs_come_back_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RainRemover, "_rotated", lambda *_: None)  # it has its own tests
    image = photograph(64, 64)
    removed = rain_level(image, remover(tmp_path)(image).rgb)
    dry = remover(tmp_path, **{"idsr.dry_threshold": str(removed * 3)})
    assert dry.dry_threshold == pytest.approx(removed * 3)
    assert not dry(image).rain_seen
    np.testing.assert_array_equal(dry(image).rgb, image)
    assert dry(image).rain == Rain(pytest.approx(removed, rel=0.01), pytest.approx(1, abs=0.4), None)
    wet = remover(tmp_path, **{"idsr.dry_threshold": str(removed * 0.8)})(image)
    assert wet.rain_seen
    np.testing.assert_array_equal(wet.rgb, remover(tmp_path)(image).rgb)


def upright_lines_only(rgb: np.ndarray) -> np.ndarray:
    """Stands for a network that removes bright vertical lines as rain, and leaves horizontal ones."""
    means = cv2.blur(rgb, (1, 21), borderType=cv2.BORDER_REPLICATE)
    return np.where(means > 0.5, np.float32(0.2), rgb).astype(np.float32)


def test_rain_from_the_side_is_seen_when_the_photograph_lies_on_it(tmp_path: Path, monkeypatch) -> None:
    sizes = []

    def network(runner: object, rgb: np.ndarray, place: object = None) -> np.ndarray:
        sizes.append(rgb.shape[:2])
        return upright_lines_only(rgb)

    restore = remover(tmp_path, tile=0, **{"idsr.dry_threshold": "2.5"})
    monkeypatch.setattr(idsr_cli.inference, "run_padded", network)
    scene = np.full((300, 400, 3), 0.2, np.float32)
    level = scene.copy()
    level[5::10] = 0.9
    result = restore(level).rgb
    assert (result.shape, result.flags.c_contiguous) == (level.shape, True)
    np.testing.assert_array_equal(result[40:-40, 40:-40], scene[40:-40, 40:-40])
    assert sizes == [(300, 400), (256, 256), (400, 300)]
    sizes.clear()
    upright = scene.copy()
    upright[:, 5::10] = 0.9
    restore(upright)
    assert sizes == [(300, 400)]  # decided by one run
    sizes.clear()
    pavement = scene.copy()
    pavement[185::10] = 0.9  # not in most parts of the picture
    assert not restore(pavement).rain_seen
    # On its side, more contrast, a half and a third of the size.
    assert sizes == [(300, 400), (256, 256), (256, 256), (150, 200), (100, 134)]
    for size in ((1, 1), (2, 50), (50, 3)):
        tiny = np.full((*size, 3), 0.2, np.float32)
        assert not restore(tiny).rain_seen


def slanting_rain(angle: float) -> tuple[np.ndarray, np.ndarray]:
    """A grey scene (300, 400, 3), and streaks to add to it."""
    streaks = StreakOptions(angle=angle, density=0.005)
    layer = streak_layer((300, 400), streaks, torch.Generator().manual_seed(1)).numpy()
    return np.full((300, 400, 3), 0.3, np.float32), layer[..., None]


def partly(scene: np.ndarray, upright: float, lying: float) -> Callable[..., np.ndarray]:
    """A network that removes one share of the rain from the upright photograph, another from the rotated one."""

    def network(runner: object, rgb: np.ndarray, place: object = None) -> np.ndarray:
        share = upright if rgb.shape == scene.shape else lying
        return rgb + np.float32(share) * (np.float32(0.3) - rgb)

    return network


@pytest.mark.parametrize(
    ("angle", "upright", "lying", "kept"),
    [(60, 0.3, 1.0, 1.0), (60, 1.0, 0.8, 0.8), (60, 1.0, 0.3, 1.0), (30, 1.0, 0.8, 1.0)],
    ids=["more", "little less", "far less", "upright rain"],
)
def test_slanting_rain_is_looked_at_lying_down(tmp_path: Path, monkeypatch, angle, upright, lying, kept) -> None:
    """The look that removes more is used."""
    scene, layer = slanting_rain(angle)
    restore = remover(tmp_path, tile=0, **{"idsr.dry_threshold": "2.5"})
    monkeypatch.setattr(idsr_cli.inference, "run_padded", partly(scene, upright, lying))
    np.testing.assert_allclose(restore(scene + layer).rgb, scene + np.float32(1 - kept) * layer, atol=1e-6)


def test_places_are_tested_where_photographs_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rainy, restored = few_drops_and_a_fence(0.08)
    monkeypatch.setattr(idsr_cli.inference, "run_padded", lambda *_: restored.copy())
    monkeypatch.setattr(RainRemover, "_second_look", lambda *_: None)
    middle = np.s_[270:290, 180:220]
    tested, without = remover(tmp_path, **{"idsr.dry_threshold": "1"}), remover(tmp_path)
    for restore, removal, back in (
        (tested, Removal(), True),
        (tested, Removal(force=True), True),
        (tested, Removal(dry_threshold=0), False),
        (without, Removal(), False),
        (without, Removal(dry_threshold=1), True),
    ):
        result = restore(rainy, removal)
        assert result.rain_seen
        assert np.array_equal(result.rgb[middle], rainy[middle]) == back


def test_the_rain_floor_comes_with_the_weights(tmp_path: Path) -> None:
    image = photograph(64, 64)
    floored = remover(tmp_path, **{"idsr.rain_floor": "12"})
    assert floored.rain_floor == 12
    result = floored(image).rgb
    expected = run_padded(floored.network.runner, image)
    leave_dry_pixels(image, expected, 12)
    np.testing.assert_array_equal(result, expected.clip(0, 1))
    assert 0.02 < (result == image).all(2).mean() < 0.98
    assert remover(tmp_path).rain_floor == 0


@pytest.mark.parametrize(("precision", "hint"), [("fp32", "models verify"), ("fp16", "precision `fp32`")])
def test_numbers_that_overflow_are_not_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision, hint
) -> None:
    restore = remover(tmp_path, **{"idsr.dry_threshold": "1"})
    restore.network.runner.precision = precision
    monkeypatch.setattr(idsr_cli.inference, "run_padded", lambda runner, rgb: np.where(rgb > 0.5, np.nan, rgb))
    with pytest.raises(ItemError, match="not finite") as error:
        restore(photograph(64, 64))
    assert hint in str(error.value.hint)
    # The same holds for the rotated pass.
    broken = photograph(64, 96)
    monkeypatch.setattr(idsr_cli.inference, "run_padded", lambda runner, rgb: rgb if len(rgb) < 90 else rgb / 0)
    with np.errstate(all="ignore"), pytest.raises(ItemError, match="not finite"):
        restore(broken)


def test_what_is_seen_in_less_than_half_of_the_photograph_is_no_rain() -> None:
    scene = np.full((80, 120, 3), 0.5, np.float32)
    for parts, dry in ((3, True), (7, True), (8, False), (16, False)):
        restored = scene.copy()
        for i in range(parts):
            row, column = divmod(i, 4)
            restored[20 * row : 20 * row + 20, 30 * column : 30 * column + 30] -= 0.2
        assert rain_level(scene, restored) > 20
        assert seems_dry(part_levels(scene, restored), 2.5) is dry
        assert seems_dry(part_levels(scene, restored), 52)  # 51 grey levels
    assert seems_dry(part_levels(scene, scene - np.float32(0.009)), 2.5)


# --- how rain is taken out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"strength": 1.6}, "strength must be from 0 to 1.5, not 1.6"),
        ({"strength": -0.1}, "strength must be from 0 to 1.5"),
        ({"strength": float("nan")}, "strength must be from 0 to 1.5"),
        ({"strength": "1"}, "strength must be a number"),
        ({"force": 1}, "`force` is True or False"),
        ({"mirror": "yes"}, "`mirror` is True or False"),
        ({"scale": 3}, "scale is auto, 1, 1.5 or 2, not 3"),
        ({"scale": "2"}, "scale is auto, 1, 1.5 or 2, not '2'"),
        ({"scale": True}, "scale must be a number"),
        ({"dry_threshold": -1}, "dry_threshold must be from 0 to 255 grey levels, not -1"),
        ({"dry_threshold": float("nan")}, "dry_threshold must be from 0 to 255"),
        ({"dry_threshold": "3"}, "dry_threshold must be a number"),
    ],
)
def test_values_out_of_range(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        Removal(**wrong)


def test_removal_takes_numbers_of_numpy_and_says_what_is_not_the_default() -> None:
    removal = Removal(np.float32(0.5), np.False_, np.int64(2))  # type: ignore[arg-type]
    assert removal == Removal(0.5, False, 2.0)
    assert [type(value) for value in (removal.strength, removal.force, removal.scale)] == [float, bool, float]
    assert (removal.changed(), Removal().changed()) == ({"strength": 0.5, "scale": 2.0}, {})
    assert Removal(scale=1, force=True).changed() == {"force": True, "scale": 1.0}
    assert Removal(scale="auto") == Removal()
    assert Removal(dry_threshold=0).changed() == {"dry_threshold": 0.0}  # another thing than that of the weights
    assert Removal(mirror=np.True_).changed() == {"mirror": True}  # type: ignore[arg-type]


def test_strength_is_the_share_of_the_rain_that_goes(tmp_path: Path) -> None:
    image = photograph(300, 40)  # several bands
    remove = remover(tmp_path, **{"idsr.rain_floor": "12"})
    whole = remove(image)
    removed = image - whole.rgb
    assert 0.02 < (removed == 0).all(2).mean() < 0.98
    for strength in (0.25, 1.5):
        part = remove(image, Removal(strength=strength))
        np.testing.assert_allclose(part.rgb, np.clip(image - strength * removed, 0, 1), atol=1e-6)
        # What the network leaves alone stays as it is at any strength, and what it saw does not depend on it.
        np.testing.assert_array_equal(part.rgb[removed == 0], image[removed == 0])
        assert part.rain == whole.rain
    nothing = remove(image, Removal(strength=0.0))
    np.testing.assert_array_equal(nothing.rgb, image)
    assert nothing.rain_seen


def test_dry_photographs_are_changed_by_force(tmp_path: Path) -> None:
    image = photograph(64, 64)
    dry = remover(tmp_path, **{"idsr.dry_threshold": "60"})
    assert not dry(image).rain_seen
    forced = dry(image, Removal(force=True))
    assert forced.rain_seen
    np.testing.assert_array_equal(forced.rgb, remover(tmp_path)(image).rgb)


def test_another_dry_threshold_than_that_of_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It brings the test to weights without one, replaces theirs, and 0 switches the test and all looks off."""
    monkeypatch.setattr(RainRemover, "_rotated", lambda *_: None)  # it has its own tests
    image = photograph(64, 64)
    without = remover(tmp_path)
    changed = without(image).rgb
    removed = rain_level(image, changed)
    dry = without(image, Removal(dry_threshold=removed * 3))
    assert not dry.rain_seen
    np.testing.assert_array_equal(dry.rgb, image)
    assert without(image, Removal(dry_threshold=removed * 0.8)).rain_seen
    assert without(image, Removal(dry_threshold=removed * 3, force=True)).rain_seen
    own = remover(tmp_path, **{"idsr.dry_threshold": str(removed * 3)})
    assert not own(image).rain_seen
    assert own(image, Removal(dry_threshold=removed * 0.8)).rain_seen
    monkeypatch.setattr(RainRemover, "_second_look", lambda *_: pytest.fail("looked again"))
    np.testing.assert_array_equal(own(image, Removal(dry_threshold=0)).rgb, changed)
    assert not own(image, Removal(scale=1)).rain_seen  # the weights' own again


def test_with_mirror_the_mean_of_both_sides_is_taken_out(tmp_path: Path) -> None:
    image = photograph(33, 47)
    remove = remover(tmp_path, **{"idsr.rain_floor": "12"})
    seen = run_padded(remove.network.runner, image)
    mirrored = run_padded(remove.network.runner, np.ascontiguousarray(image[:, ::-1]))[:, ::-1]
    assert np.abs(seen - mirrored).max() > 0.01
    expected = (seen + mirrored) / 2
    rain = Rain.measured(image, expected)
    leave_dry_pixels(image, expected, 12)
    result = remove(image, Removal(mirror=True))
    np.testing.assert_allclose(result.rgb, expected.clip(0, 1), atol=1e-6)
    assert result.rain == rain
    half = remove(image, Removal(0.5, mirror=True)).rgb
    np.testing.assert_allclose(half, (image + result.rgb) / 2, atol=1e-6)
    assert ((result.rgb == image) == (half == image)).all()


def lighter_lines_only(rgb: np.ndarray) -> np.ndarray:
    """Stands for a network that removes upright lines at least 0.3 lighter than their surroundings."""
    around = cv2.blur(rgb, (41, 1))
    return np.where(rgb > around + 0.3, around, rgb).astype(np.float32)


def test_what_is_seen_mirrored_is_what_showed_the_rain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mirrored look comes after all others, so whether a photograph is dry does not depend on it."""
    looks: list[tuple[tuple[int, int], bool]] = []  # size, and whether the lighter corners were on the left

    def watched(network: Callable[[np.ndarray], np.ndarray]) -> Callable[..., np.ndarray]:
        def run(runner: object, rgb: np.ndarray, place: object = None) -> np.ndarray:
            looks.append((rgb.shape[:2], bool(rgb[0, 0, 0] > rgb[0, -1, 0])))
            return network(rgb)

        return run

    dry = np.full((300, 400, 3), 0.2, np.float32)
    dry[:4, :4], dry[:4, -4:], dry[-4:, :4], dry[-4:, -4:] = 0.22, 0.18, 0.22, 0.18
    upright, level, faint = dry.copy(), dry.copy(), dry.copy()
    upright[:, 5::10] = 0.9
    level[5::10] = 0.9
    faint[:, 5::20] += np.float32(0.25)
    restore = remover(tmp_path, tile=0, **{"idsr.dry_threshold": "1"})
    for rainy, network, more in (
        (upright, upright_lines_only, [(300, 400)]),
        (level, upright_lines_only, [(400, 300)]),
        (faint, lighter_lines_only, [(300, 400)]),
        (dry, upright_lines_only, []),
    ):
        monkeypatch.setattr(idsr_cli.inference, "run_padded", watched(network))
        looks.clear()
        once = restore(rainy)
        usual = looks.copy()
        looks.clear()
        twice = restore(rainy, Removal(mirror=True))
        assert looks[: len(usual)] == usual
        assert [size for size, _ in looks[len(usual) :]] == more
        assert twice.rain_seen == once.rain_seen == bool(more)
        np.testing.assert_allclose(twice.rgb[40:-40, 40:-40], once.rgb[40:-40, 40:-40], atol=1e-6)
    np.testing.assert_array_equal(twice.rgb, dry)
    assert restore(dry, Removal(force=True, mirror=True)).rain_seen
    assert (looks[0], looks[-1]) == (((300, 400), True), ((300, 400), False))


def test_a_look_at_another_size_subtracts_reduced_rain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def network(runner: object, rgb: np.ndarray) -> np.ndarray:
        sizes.append(rgb.shape[:2])
        assert rgb.min() >= 0  # Lanczos overshoots
        assert rgb.max() <= 1
        result = rgb.copy()
        result[:, : rgb.shape[1] // 2] -= np.float32(0.1)
        return result

    restore = remover(tmp_path, tile=0)
    monkeypatch.setattr(idsr_cli.inference, "run_padded", network)
    image = (np.random.default_rng(0).random((30, 41, 3)) > 0.5).astype(np.float32) * 0.8 + np.float32(0.2)
    for scale in (1, 1.5, 2):
        result = restore(image, Removal(scale=scale)).rgb
        np.testing.assert_array_equal(result[:, 22:], image[:, 22:])  # not enlarged and reduced
        np.testing.assert_allclose(result[:, :19], image[:, :19] - np.float32(0.1), atol=1e-6)
    assert sizes == [(30, 41), (45, 62), (60, 82)]


def test_rain_that_is_too_fine_is_seen_at_twice_the_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that removes upright bright lines of two pixels or more, as one does that knows no finer rain."""
    sizes = []

    def network(runner: object, rgb: np.ndarray) -> np.ndarray:
        sizes.append(rgb.shape[:2])
        wide = cv2.erode(cv2.erode(rgb, np.ones((21, 1))), np.ones((1, 2)))
        return np.where(cv2.dilate(wide, np.ones((21, 9))) > 0.6, np.float32(0.2), rgb).astype(np.float32)

    scene = np.full((300, 400, 3), 0.2, np.float32)
    rainy, coarse = scene.copy(), scene.copy()
    rainy[:, 5::10] = 0.9
    coarse[:, 5::10] = coarse[:, 6::10] = 0.9
    monkeypatch.setattr(idsr_cli.inference, "run_padded", network)
    restore = remover(tmp_path, tile=0, **{"idsr.dry_threshold": "2.5"})
    # Rain that is seen everywhere at the first look is not looked at again.
    sizes.clear()
    np.testing.assert_array_equal(restore(coarse).rgb, restore(coarse, Removal(scale=1)).rgb)
    assert sizes == [(300, 400)] * 2

    # Rain that is seen in half of the picture is, with more contrast and larger.
    partly = rainy.copy()
    partly[:, :200] = 0.2
    partly[:, 50:200:60] = partly[:, 51:200:60] = 0.7
    sizes.clear()
    result = restore(partly)
    assert sizes == [(300, 400), (256, 256), (300, 400), (150, 200), (512, 512), (600, 800)]
    assert result.rain is not None
    assert result.rain.direction == pytest.approx(0, abs=1)
    np.testing.assert_array_equal(result.rgb, restore(partly, Removal(scale=2)).rgb)
    assert rain_level(scene, result.rgb) < 0.6 * rain_level(scene, restore(partly, Removal(scale=1)).rgb)

    # What seems dry is not enlarged: at twice the size there is rain in the grain of many photographs.
    sizes.clear()
    np.testing.assert_array_equal(restore(rainy).rgb, rainy)
    assert sizes == [(300, 400), (256, 256), (256, 256), (150, 200), (100, 134)]
    assert restore(rainy, Removal(scale=2)).rain_seen

    # Weights without a dry test, of other people's networks perhaps, look once.
    sizes.clear()
    np.testing.assert_array_equal(remover(tmp_path, tile=0)(rainy).rgb, rainy)
    assert sizes == [(300, 400)]


def test_rain_that_is_too_faint_is_seen_with_twice_the_contrast(tmp_path: Path, monkeypatch) -> None:
    """A network that removes upright lines at least 0.3 lighter than their surroundings."""
    sizes = []

    def network(runner: object, rgb: np.ndarray) -> np.ndarray:
        sizes.append(rgb.shape[:2])
        assert rgb.min() >= 0
        assert rgb.max() <= 1
        around = cv2.blur(rgb, (41, 1))
        return np.where(rgb > around + 0.3, around, rgb).astype(np.float32)

    scene = np.full((300, 400, 3), 0.4, np.float32)
    scene[100:200, 100:200] = 0.5
    faint, lamp, aside = scene.copy(), scene.copy(), scene.copy()
    faint[:, 5::20] += np.float32(0.25)
    lamp[:80, 200:260:20] += np.float32(0.25)
    aside[:, 5:100:20] += np.float32(0.25)
    uneven = faint.copy()
    uneven[:75, 5::20] += np.float32(0.25)
    uneven[75:150, 5:300:20] += np.float32(0.25)
    monkeypatch.setattr(idsr_cli.inference, "run_padded", network)
    restore = remover(tmp_path, tile=0, **{"idsr.dry_threshold": "1"})
    result = restore(faint)
    # The centre, all; no clearer at other sizes.
    assert sizes[-5:] == [(256, 256), (300, 400), (150, 200), (512, 512), (384, 384)]
    assert rain_level(result.rgb, scene) < 0.3 * rain_level(faint, scene)
    between = np.s_[:, 15::20]
    np.testing.assert_allclose(result.rgb[between], faint[between], atol=1e-6)
    np.testing.assert_array_equal(restore(faint, Removal(scale=1)).rgb, faint)
    sizes.clear()
    np.testing.assert_array_equal(restore(lamp).rgb, lamp)
    assert sizes[-3:] == [(256, 256), (150, 200), (100, 134)]  # next to nothing in the centre
    # In a clip as well: when the rain has ended, what a grainy scene shows at its sides keeps no look going.
    sides = scene.copy()
    for part in (np.s_[:, 5:60:20], np.s_[:, 345:400:20], np.s_[:20, 5::20], np.s_[280:, 5::20]):
        sides[part] += np.float32(0.25)
    assert restore(sides, before="contrasted").look == "dry"
    sizes.clear()
    np.testing.assert_array_equal(restore(aside).rgb, aside)  # in a quarter of the picture only
    assert sizes[-4:] == [(256, 256), (300, 400), (150, 200), (100, 134)]
    # Rain in 7 of the 16 parts is not enough for the first look. The second sees it in all of them, though it takes out
    # less of it, because bright lines have less than twice the contrast there.
    first = restore(uneven, Removal(scale=1, force=True)).rgb
    second = restore(uneven)
    assert second.look == "contrasted"
    assert rain_level(uneven, second.rgb) < rain_level(uneven, first)


def test_a_frame_of_a_clip_keeps_the_look_of_the_one_before(tmp_path: Path, monkeypatch) -> None:
    """Between the limit of a photograph and a lower one the look stays as it was; below both it is given up."""

    def network(runner: object, rgb: np.ndarray) -> np.ndarray:
        around = cv2.blur(rgb, (41, 1))
        return np.where(rgb > around + 0.3, around, rgb).astype(np.float32)

    def lines(step: float, parts: int) -> np.ndarray:
        """Lines through the first of the 16 parts, row by row; those of 0.25 are seen with more contrast only."""
        image = np.full((256, 256, 3), 0.4, np.float32)
        for part in range(parts):
            top, left = 64 * (part // 4), 64 * (part % 4)
            image[top : top + 64, left + 10 : left + 64 : 20] += np.float32(step)
        return image

    monkeypatch.setattr(idsr_cli.inference, "run_padded", network)
    restore = remover(tmp_path, tile=0, **{"idsr.dry_threshold": "1"})
    one_look = Removal(scale=1)
    for step, removal, look in ((0.5, one_look, "upright"), (0.25, Removal(), "contrasted")):
        assert [restore(lines(step, parts), removal).look for parts in (9, 7, 3)] == [look, "dry", "dry"]
        kept = [restore(lines(step, parts), removal, look).look for parts in (9, 7, 3)]
        assert kept == [look, look, "dry"]
        assert restore(lines(step, 7), removal, "dry").look == "dry"
        # What is seen mirrored is seen in the look that was kept.
        once, twice = (restore(lines(step, 7), how, look) for how in (removal, replace(removal, mirror=True)))
        assert twice.look == look
        np.testing.assert_allclose(twice.rgb, once.rgb, atol=1e-6)

    # A clip: the look goes from frame to frame, and ends where the rain does. Photographs are on their own.
    pair = WeightsPair("pair", *(make_weights(tmp_path, **{"idsr.dry_threshold": "1"}),) * 2, splice="DD")
    restorer = RestorationOptions(pair, "D", "cpu", tile=0, removal=one_look).build()
    before: dict[str, Look] = {}
    frames = [restorer.restore(lines(0.5, parts), "D", before)[0] for parts in (7, 9, 7, 7, 3, 7)]
    assert [frame.rain_seen for frame in frames] == [False, True, True, True, False, False]
    assert not restorer.restore(lines(0.5, 7), "D")[0].rain_seen


def narrow_lines_only(runner: object, rgb: np.ndarray, place: object = None) -> np.ndarray:
    """Stands for a network that removes bright lines of less than 5 pixels."""
    return cv2.morphologyEx(rgb, cv2.MORPH_OPEN, np.ones((1, 5), np.uint8))


def wide_lines(parts: int, step: float, width: int = 8) -> np.ndarray:
    """(256, 256, 3): lines through the first of the 16 parts, row by row; those of 8 pixels are narrow at half size."""
    image = np.full((256, 256, 3), 0.4, np.float32)
    for part in range(parts):
        top, left = 64 * (part // 4), 64 * (part % 4)
        for line in (8, 40):
            image[top : top + 64, left + line : left + line + width] += np.float32(step)
    return image


def test_rain_that_is_too_wide_is_seen_at_half_the_size(tmp_path: Path, monkeypatch) -> None:
    sizes = []

    def network(runner: object, rgb: np.ndarray, place: object = None) -> np.ndarray:
        sizes.append(rgb.shape[:2])
        assert rgb.min() >= 0
        assert rgb.max() <= 1
        return narrow_lines_only(runner, rgb)

    monkeypatch.setattr(idsr_cli.inference, "run_padded", network)
    restore = remover(tmp_path, tile=0, **{"idsr.dry_threshold": "1"})
    faint = 0.02  # 2.6 grey levels root mean square in a part
    for parts, look in ((16, "reduced"), (3, "reduced"), (2, "reduced"), (1, "dry")):
        assert restore(wide_lines(parts, faint)).look == look
    sizes.clear()
    near = restore(wide_lines(16, faint))
    assert sizes[-2:] == [(128, 128), (256, 256)]  # without a try at the centre; and whether finer rain is left
    assert rain_level(near.rgb, wide_lines(0, faint)) < 0.2 * rain_level(wide_lines(16, faint), wide_lines(0, faint))
    assert restore(wide_lines(3, faint), Removal(scale=1)).look == "dry"
    # Rain as strong as this would have been seen before: it is something else.
    assert restore(wide_lines(16, 0.09)).look == "reduced"
    assert restore(wide_lines(16, 0.11)).look == "dry"
    # A frame of a clip goes on with less; and what is seen mirrored is seen in this look.
    assert [restore(wide_lines(parts, faint), before="reduced").look for parts in (1, 0)] == ["reduced", "dry"]
    mirrored = restore(wide_lines(16, faint), Removal(mirror=True))
    assert mirrored.look == "reduced"
    np.testing.assert_allclose(mirrored.rgb, near.rgb, atol=1e-6)


def test_rain_that_is_wider_still_is_seen_at_a_third_of_the_size(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(idsr_cli.inference, "run_padded", narrow_lines_only)
    restore = remover(tmp_path, tile=0, **{"idsr.dry_threshold": "1"})
    wide, bare = wide_lines(3, 0.025, width=10), wide_lines(0, 0.0)
    assert restore(wide).look == "third"
    everywhere = wide_lines(16, 0.025, width=10)
    rained = restore(everywhere)
    assert rained.look == "third"
    assert rain_level(rained.rgb, bare) < 0.5 * rain_level(everywhere, bare)
    assert restore(wide_lines(2, 0.025, width=10)).look == "dry"
    assert restore(wide_lines(2, 0.025, width=10), before="third").look == "third"
    assert restore(np.ascontiguousarray(wide.transpose(1, 0, 2))).look == "dry"  # no rain runs from left to right
    mirrored = restore(everywhere, Removal(mirror=True))
    assert mirrored.look == "third"
    assert rain_level(mirrored.rgb, bare) < 0.5 * rain_level(everywhere, bare)


def test_what_only_the_look_from_the_side_sees_must_not_fall(tmp_path: Path, monkeypatch) -> None:
    """Upright streaks would have been seen by the first look. High grass is seen from the side alone."""

    def level_lines_only(runner: object, rgb: np.ndarray, place: object = None) -> np.ndarray:
        return cv2.morphologyEx(rgb, cv2.MORPH_OPEN, np.ones((5, 1), np.uint8))

    stems = wide_lines(16, 0.05, width=4)
    for network, image, look in (
        (level_lines_only, stems, "dry"),
        (narrow_lines_only, np.ascontiguousarray(stems.transpose(1, 0, 2)), "rotated"),
        (narrow_lines_only, stems, "upright"),
    ):
        monkeypatch.setattr(idsr_cli.inference, "run_padded", network)
        assert remover(tmp_path, tile=0, **{"idsr.dry_threshold": "1"})(image).look == look


def test_a_few_near_drops_must_fall_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At half the size, with twice the contrast: drops in two of the 16 parts are rain if all of them are upright."""
    seen = []

    def network(runner: object, rgb: np.ndarray, place: object = None) -> np.ndarray:
        """Removes, at half the size, what is brighter than 0.4 by 2.6 grey levels or more."""
        seen.append(rgb.copy())
        return np.where(rgb > 0.4 + 2.6 / 255, np.float32(0.4), rgb) if len(rgb) == 128 else rgb.copy()

    monkeypatch.setattr(idsr_cli.inference, "run_padded", network)
    restore = remover(tmp_path, tile=0, **{"idsr.dry_threshold": "0.5"})
    one, two = wide_lines(1, 0.02), wide_lines(2, 0.02)
    level = np.ascontiguousarray(two.transpose(1, 0, 2))
    crossing = two.copy()
    for top in (8, 40):
        crossing[top : top + 8, :128] = 0.42
    slanting = np.full_like(two, 0.4)
    for left in (10, 50, 90):
        cv2.line(slanting, (left, 0), (left + 25, 50), (0.42,) * 3, 8)
    for image, look in ((two, "reduced"), (slanting, "reduced"), (one, "dry"), (level, "dry"), (crossing, "dry")):
        assert restore(image).look == look
    assert restore(np.maximum(two, level)).look == "reduced"  # in three parts any direction will do
    # Twice the contrast is tried where half the size sees a trace of rain, and only there.
    faint = wide_lines(3, 0.009)
    faint[:, 64:128] = np.where(faint[:, 64:128] > 0.401, np.float32(0.42), faint[:, 64:128])
    rained = restore(faint)
    assert rained.look == "reduced_contrasted"
    assert rain_level(rained.rgb, np.full_like(faint, 0.4)) < 0.3 * rain_level(faint, np.full_like(faint, 0.4))
    assert restore(faint, before="reduced_contrasted").look == "reduced_contrasted"
    mirrored = restore(faint, Removal(mirror=True))
    assert mirrored.look == "reduced_contrasted"
    np.testing.assert_allclose(mirrored.rgb, rained.rgb, atol=0.002)
    seen.clear()
    assert restore(wide_lines(16, 0.009)).look == "dry"
    assert sum(len(rgb) == 128 for rgb in seen) == 1


@pytest.mark.parametrize(("share", "look"), [(0.99, "reduced"), (0.96, "upright")])
def test_half_the_size_need_not_see_more_of_near_drops(tmp_path: Path, monkeypatch, share: float, look: Look) -> None:
    """Not if they run in two directions, or are in more than 12 of the 16 parts: checked cloth is."""

    def network(runner: object, rgb: np.ndarray, place: object = None) -> np.ndarray:
        part = np.float32(share if len(rgb) == 128 else 1.0)
        return rgb - part * np.maximum(rgb - np.float32(0.4), 0.0)

    monkeypatch.setattr(idsr_cli.inference, "run_padded", network)
    for larger in ("_contrasted", "_enlarged", "_magnified"):
        monkeypatch.setattr(RainRemover, larger, lambda self, rgb: rgb)
    monkeypatch.setattr(restoration, "_HALF", 0.1)  # three parts are seen by the first look
    restore = remover(tmp_path, tile=0, **{"idsr.dry_threshold": "1"})
    near = wide_lines(3, 0.02)
    assert restore(near).look == look
    assert restore(np.maximum(near, near.transpose(1, 0, 2))).look == "upright"
    few, many = wide_lines(12, 0.016), wide_lines(13, 0.016)  # 2.1 grey levels in a part
    assert [restore(image).look for image in (few, many)] == [look, "upright"]
    assert [restore(image, before="reduced").look for image in (few, many)] == ["reduced", "reduced"]


def test_finer_rain_is_taken_out_after_a_look_at_half_the_size(tmp_path: Path, monkeypatch) -> None:
    """If it is in half of the image; marks here and there stay, as that look leaves them."""

    def with_fine(parts: int) -> tuple[np.ndarray, np.ndarray]:
        """Wide lines everywhere, and fine ones in some parts; all of it, and the fine lines alone."""
        fine = wide_lines(parts, 0.1, width=1) - wide_lines(0, 0.0)
        return wide_lines(16, 0.036) + np.roll(fine, 20, 1), np.roll(fine, 20, 1)

    monkeypatch.setattr(idsr_cli.inference, "run_padded", narrow_lines_only)
    restore = remover(tmp_path, tile=0, **{"idsr.dry_threshold": "1"})
    for parts in (11, 8):
        rainy, fine = with_fine(parts)
        result = restore(rainy)
        assert result.look == "reduced"
        on_fine = fine[..., 0] > 0.05
        assert np.abs(result.rgb[on_fine] - 0.4).max() == pytest.approx(0.0, abs=0.02)
    rainy, fine = with_fine(7)
    monkeypatch.setattr(restoration, "_HALF", 0.4)  # seen by the first look
    result = restore(rainy)
    assert result.look == "reduced"
    assert (result.rgb[fine[..., 0] > 0.05] - 0.4).min() > 0.03


def test_a_reduced_look_must_see_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One and a fifth of the rain of the first look, in half of the parts."""

    def seen(first: float, reduced: float, columns: int = 64) -> Look:
        """The look at a flat image: `first` levels go from 32 of 64 columns, `reduced` from so many if it is half."""

        def network(runner: object, rgb: np.ndarray) -> np.ndarray:
            result = rgb.copy()
            width, level = (columns // 2, reduced) if rgb.shape[:2] == (32, 32) else (32, first)
            result[:, :width] -= np.float32(level / 255)
            return result

        monkeypatch.setattr(idsr_cli.inference, "run_padded", network)
        return restore(np.full((64, 64, 3), 0.5, np.float32)).look

    monkeypatch.setattr(RainRemover, "_contrasted", lambda self, rgb: rgb)
    monkeypatch.setattr(RainRemover, "_enlarged", lambda self, rgb: rgb)
    restore = remover(tmp_path, tile=0, **{"idsr.dry_threshold": "1"})
    least = 10.0 / 2**0.5 * 1.2  # root mean square of the whole image
    assert seen(10.0, least - 0.2) == "upright"
    assert seen(10.0, least + 0.2) == "reduced"
    assert seen(10.0, 30.0, columns=32) == "reduced"
    assert seen(10.0, 30.0, columns=16) == "upright"


def test_large_photographs_with_rain_everywhere_are_seen_at_half_the_size(tmp_path: Path, monkeypatch) -> None:
    """From 1025 pixels on, at the centre first; smaller ones only if rain is seen in a part of them."""
    sizes = []
    removed = {600: 10.0}  # grey levels, of the whole image

    def network(runner: object, rgb: np.ndarray) -> np.ndarray:
        sizes.append(rgb.shape[:2])
        return rgb - np.float32(removed.get(len(rgb), removed[0]) / 255)

    monkeypatch.setattr(idsr_cli.inference, "run_padded", network)
    restore = remover(tmp_path, tile=0, **{"idsr.dry_threshold": "1"})
    for width, coarse, look, seen in (
        (1024, 20, "upright", []),
        (1025, 20, "reduced", [(256, 256), (300, 513), (600, 1025)]),
        (1025, 11, "upright", [(256, 256), (300, 513)]),
        (1025, 10, "upright", [(256, 256)]),
    ):
        sizes.clear()
        removed[0] = coarse
        assert restore(np.full((600, width, 3), 0.5, np.float32)).look == look
        assert sizes == [(600, width), *seen]


@pytest.mark.parametrize(
    ("before", "upright", "lying", "look"),
    [(None, 1.0, 0.45, "upright"), ("rotated", 1.0, 0.45, "rotated"), ("rotated", 1.0, 0.2, "upright")],
)
def test_a_frame_goes_on_lying_down(tmp_path: Path, monkeypatch, before, upright, lying, look) -> None:
    """As for photographs, with a little less rain seen on the side."""
    scene, layer = slanting_rain(60)
    restore = remover(tmp_path, tile=0, **{"idsr.dry_threshold": "2.5"})
    monkeypatch.setattr(idsr_cli.inference, "run_padded", partly(scene, upright, lying))
    assert restore(scene + layer, Removal(scale=1), before).look == look


def test_a_larger_look_must_see_clearly_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One and a half times the rain of the first look, and 6 grey levels of it."""
    monkeypatch.setattr(RainRemover, "_coarse", lambda self, rgb: rgb)

    def seen(first: float, larger: float) -> Look:
        """The look at a flat image in half of which `first` grey levels are removed, `larger` in all of the larger."""

        def network(runner: object, rgb: np.ndarray) -> np.ndarray:
            result = rgb.copy()
            if len(rgb) == 80:
                result -= np.float32(larger / 255)
            else:
                result[:, :30] -= np.float32(first / 255)
            return result

        monkeypatch.setattr(idsr_cli.inference, "run_padded", network)
        return restore(np.full((40, 60, 3), 0.5, np.float32)).look

    restore = remover(tmp_path, tile=0, **{"idsr.dry_threshold": "2.5"})
    least = 10.0 / 2**0.5 * 1.5  # root mean square of the whole image
    assert seen(10.0, least - 0.2) != "enlarged"
    assert seen(10.0, least + 0.2) == "enlarged"
    assert seen(4.0, 5.8) != "enlarged"
    assert seen(4.0, 6.2) == "enlarged"


def test_a_magnified_look_must_see_most_of_the_rain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three times the rain of the look so far, 4 grey levels of it, in 13 of the 16 parts; not in large photographs."""
    sizes: list[tuple[int, ...]] = []

    def seen(
        first: float, magnified: float, parts: int = 16, size: tuple[int, int] = (64, 64), before: Look | None = None
    ) -> Look:
        """The look at a flat image: `first` levels go from its left half, `magnified` from so many parts."""
        larger = tuple(length * 3 // 2 for length in size)

        def network(runner: object, rgb: np.ndarray) -> np.ndarray:
            sizes.append(rgb.shape[:2])
            result = rgb.copy()
            height, width = rgb.shape[:2]
            if (height, width) == larger:
                for part in range(parts):
                    top, left = height // 4 * (part // 4), width // 4 * (part % 4)
                    result[top : top + height // 4, left : left + width // 4] -= np.float32(magnified / 255)
            elif (height, width) == size:
                result[:, : width // 2] -= np.float32(first / 255)
            return result

        monkeypatch.setattr(idsr_cli.inference, "run_padded", network)
        return restore(np.full((*size, 3), 0.5, np.float32), before=before).look

    # Without the tests of places, to which a network that removes levels of a flat image is a crowded place.
    monkeypatch.setattr(restoration, "_leave_the_scene", lambda rgb, restored: None)
    restore = remover(tmp_path, tile=0, **{"idsr.dry_threshold": "1"})
    least = 3.0 * 4.0 / 2**0.5  # root mean square of the whole image
    assert seen(4.0, least + 0.2) == "magnified"
    assert seen(4.0, least - 0.2) == "upright"
    assert seen(1.2, 4.2) == "magnified"
    assert seen(1.2, 3.8) == "upright"
    assert seen(1.2, 20.0, parts=13) == "magnified"
    assert seen(1.2, 20.0, parts=12) == "upright"
    # A frame of a clip goes on with two parts and a fifth of the rain less.
    assert seen(1.2, 20.0, parts=11, before="magnified") == "magnified"
    assert seen(1.2, 20.0, parts=10, before="magnified") == "upright"
    assert seen(4.0, 0.8 * least + 0.2, before="magnified") == "magnified"
    assert seen(4.0, 0.8 * least - 0.2, before="magnified") == "upright"
    # Enlarged as a whole, which would take too much memory in large photographs; nor does rain there need it.
    sizes.clear()
    assert seen(1.2, 20.0, size=(64, 1028)) == "upright"
    assert (96, 1542) not in sizes


def test_glints_are_no_reason_for_a_magnified_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left alone in the end counts in none of the looks that are compared."""
    flat = np.full((64, 64, 3), 0.5, np.float32)

    def network(runner: object, rgb: np.ndarray) -> np.ndarray:
        result = rgb - np.float32(8 / 255) if len(rgb) == 96 else rgb.copy()
        if len(rgb) in (64, 96):
            result[: len(rgb) // 2 + 1] -= np.float32(8 / 255)
        return result

    def leave_the_glints(rgb: np.ndarray, restored: np.ndarray) -> None:
        restored[: len(rgb) // 2 + 1] = rgb[: len(rgb) // 2 + 1]

    monkeypatch.setattr(idsr_cli.inference, "run_padded", network)
    restore = remover(tmp_path, tile=0, **{"idsr.dry_threshold": "1"})
    monkeypatch.setattr(restoration, "_leave_the_scene", lambda rgb, restored: None)
    assert restore(flat).look == "upright"
    monkeypatch.setattr(restoration, "_leave_the_scene", leave_the_glints)
    assert restore(flat).look == "magnified"


def test_of_several_networks_the_one_that_saw_most_rain_counts() -> None:
    image = photograph(4, 4)
    little, much = (Restored(image, True, Rain(level, 0.1, None)) for level in (1.0, 2.0))
    assert most_rain([little, much, Restored(image, False)]) == much.rain
    assert most_rain([Restored(image, False)]) is None


# --- the networks of a pair ------------------------------------------------------------------------------------------


def pair_of(tmp_path: Path, **metadata: str) -> WeightsPair:
    """DPRNet removes about 8 grey levels, GGIRNet about 16."""
    first = make_weights(tmp_path, role="dprnet", **metadata)
    return WeightsPair("pair", first, make_weights(tmp_path, role="ggirnet", strength=16.0, **metadata), "DG")


def test_options_can_be_sent_to_another_process(tmp_path: Path) -> None:
    options = RestorationOptions(pair_of(tmp_path), "DG", "cpu", "fp32", 64)
    options = replace(options, removal=Removal(strength=0.5, scale=1.5))
    again = pickle.loads(pickle.dumps(options))
    assert again == options
    image = photograph(40, 50)
    for one, other in zip(options.build().restore(image, "DG"), again.build().restore(image, "DG"), strict=True):
        np.testing.assert_array_equal(one.rgb, other.rgb)


@pytest.mark.parametrize("tile", [-64, True, 64.0, "64"])
def test_tiles_that_are_no_number_of_pixels(tmp_path: Path, tile: object) -> None:
    with pytest.raises(UsageError, match="tile must be a number of pixels, 0 or None, not"):
        RestorationOptions(pair_of(tmp_path), "D", tile=tile)  # type: ignore[arg-type]


@pytest.mark.parametrize("roles", ["", "X", "DX", None, 5])
def test_roles_that_no_network_has(tmp_path: Path, roles: object) -> None:
    with pytest.raises(UsageError, match="roles must be letters of D and G"):
        RestorationOptions(pair_of(tmp_path), roles)  # type: ignore[arg-type]


def test_a_result_is_finished_once_by_the_thread_that_asks() -> None:
    finished = []

    def finish() -> tuple[np.ndarray, Rain | None]:
        finished.append(threading.get_ident())
        time.sleep(0.01)
        return np.full((2, 3, 3), 0.5, np.float32), Rain(4.0, 0.5, None)

    later = Restored.later(True, finish)
    assert later.rain_seen
    assert not finished
    with ThreadPoolExecutor(4) as pool:
        asked = list(pool.map(lambda _: (later.rgb, later.rain), range(8)))
    assert len(finished) == 1
    assert finished[0] != threading.get_ident()
    assert all(rgb is later.rgb and rain is later.rain for rgb, rain in asked)
    copy = pickle.loads(pickle.dumps(Restored.later(True, finish)))
    assert (copy.rain_seen, copy.rain, copy.rgb.tobytes()) == (True, later.rain, later.rgb.tobytes())


def test_a_result_that_cannot_be_finished_says_so_each_time() -> None:
    def finish() -> tuple[np.ndarray, Rain | None]:
        raise MemoryError

    later = Restored.later(True, finish)
    for _ in range(2):
        with pytest.raises(MemoryError):
            _ = later.rgb


def test_options_take_numbers_of_numpy_and_devices_of_torch(tmp_path: Path) -> None:
    pair = pair_of(tmp_path)
    options = RestorationOptions(pair, "D", torch.device("cpu"), tile=np.int64(64))  # type: ignore[arg-type]
    assert options == RestorationOptions(pair, "D", "cpu", tile=64)
    assert len({options, replace(options)}) == 1
    assert type(options.tile) is int


@pytest.mark.parametrize("roles", ["G", "DG", "", "X", None])
def test_only_loaded_networks_run(tmp_path: Path, roles: Any) -> None:
    restorer = RestorationOptions(pair_of(tmp_path), "D", "cpu").build()
    for call in (restorer.restore, restorer.restore_photo):
        with pytest.raises(UsageError, match="roles must be letters of those loaded, D, not"):
            call(photograph(20, 30) if call == restorer.restore else Photo(photograph(20, 30)), roles)  # type: ignore[arg-type]


def test_only_images_are_restored(tmp_path: Path) -> None:
    restorer = RestorationOptions(pair_of(tmp_path), "D", "cpu").build()
    image = photograph(20, 30)
    for wrong, reason in (
        ((image * 255).astype(np.uint8), "not uint8"), (image.astype(np.float64), "not float64"),
        (image[:, :, 0], "not float32"), (image[:, :, :2], "not float32"), (image[:0], "not float32"),
        (torch.from_numpy(image), "not Tensor"), (image * 255, "outside"), (image * np.nan, "outside"),
    ):  # fmt: skip
        with pytest.raises(ItemError, match=reason):
            restorer.restore(wrong, "D")  # type: ignore[arg-type]


def test_networks_are_loaded_and_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads, runs = [], []

    def load(weights, *rest: object):
        loads.append(weights.arch)

        def network(rgb: np.ndarray, removal: Removal) -> Restored:
            runs.append(weights.arch)
            return Restored(rgb / 2, rain_seen=True)

        return network

    monkeypatch.setattr(restoration, "load_network", load)
    pair = pair_of(tmp_path)
    image = photograph(20, 30)
    views = RestorationOptions(pair, "GGDG", "cpu").build().restore(image, "GDG")
    assert (sorted(loads), sorted(runs), len(views)) == (["dprnet", "ggirnet"], ["dprnet", "ggirnet"], 3)
    assert views[0] is views[2]
    loads.clear()
    runs.clear()
    alone = replace(pair, ggirnet=pair.dprnet)  # one file for both roles
    first, second = RestorationOptions(alone, "DG", "cpu").build().restore(image, "DG")
    assert (first is second, loads, runs) == (True, ["dprnet"], ["dprnet"])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_seen_upright_and_come_back_on_the_stored_grid(tmp_path, monkeypatch, orientation) -> None:
    seen = []

    def network(rgb: np.ndarray, removal: Removal) -> Restored:
        seen.append(rgb)
        return Restored(rgb / 2, rain_seen=rain)

    monkeypatch.setattr(restoration, "load_network", lambda *_: network)
    restorer = RestorationOptions(pair_of(tmp_path), "D", "cpu").build()
    photo = Photo(photograph(20, 30), orientation=orientation)
    rain = True
    (view,) = restorer.restore_photo(photo, "D")
    assert view.rain_seen
    np.testing.assert_array_equal(view.rgb, photo.rgb / 2)
    assert view.rgb.flags.c_contiguous
    np.testing.assert_array_equal(seen[0], photo.oriented_rgb)
    rain = False
    (view,) = restorer.restore_photo(photo, "D")
    assert not view.rain_seen
    np.testing.assert_array_equal(view.rgb, photo.rgb)  # whatever the network gave


def test_hidden_colours_are_not_seen(tmp_path, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(restoration, "load_network", lambda *_: lambda rgb, _: seen.append(rgb) or Restored(rgb, False))
    alpha = np.full((4, 5), 255, np.uint8)
    alpha[2, 3] = 0
    rgb = np.full((4, 5, 3), 0.25, np.float32)
    rgb[2, 3] = 1.0
    (view,) = RestorationOptions(pair_of(tmp_path), "D", "cpu").build().restore_photo(Photo(rgb, alpha), "D")
    assert seen[0].max() == view.rgb.max() == 0.25


def test_progress_and_smaller_tiles_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    restorer = RestorationOptions(pair_of(tmp_path), "DG", "cpu", "fp32", 128).build()
    shares, sides = [], []
    restorer.on_progress, restorer.on_smaller = shares.append, sides.append
    restorer.restore(photograph(100, 200), "DG")
    assert shares == [0, 0.25, 0.5, 0.75]
    real = run_padded

    def limited(runner: object, rgb: np.ndarray, place: object = None) -> np.ndarray:
        if max(rgb.shape[:2]) > 420:
            raise MemoryError
        return real(runner, rgb)  # type: ignore[arg-type]

    restorer = RestorationOptions(pair_of(tmp_path), "DG", "cpu", "fp32", 0).build()
    restorer.on_smaller = sides.append
    monkeypatch.setattr(idsr_cli.inference, "run_padded", limited)
    restorer.restore(photograph(40, 600), "DG")
    assert sides == [160]  # the second network starts with the smaller tiles
