"""Networks run on photographs of any size, in tiles that do not show, the same for any number of threads."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import idsr_cli.inference
from idsr_cli.errors import ItemError
from idsr_cli.inference import Restorer, leave_dry_pixels, rain_level, rainy_share, run_network, seems_dry, streak_angle
from idsr_cli.networks import ROLES, RainUNet
from idsr_cli.synthetic_rain import StreakOptions, streak_layer
from idsr_cli.weights import Weights, find_weights, save_weights

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SHAPE = {"widths": [8, 16, 16], "blocks": [1, 1, 1, 1, 1], "unshuffle": 2}


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth shapes with bright streaks: what a network sees."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    rgb = np.stack([0.5 + 0.3 * np.sin(x / (17 + 9 * i)) * np.cos(y / (23 + 5 * i)) for i in range(3)], -1)
    rgb += 0.3 * (generator.random((1, width, 1)) > 0.95)
    return np.clip(rgb + 0.03 * generator.standard_normal(rgb.shape), 0, 1).astype(np.float32)


def make_weights(folder: Path, role: str = "ggirnet", strength: float = 8.0, **metadata: str) -> Weights:
    """Random weights whose rain estimate is about `strength` grey levels strong; 0 = untrained."""
    torch.manual_seed(11)
    network = RainUNet(**SHAPE, attention=ROLES[role])  # type: ignore[arg-type]
    if strength:
        torch.nn.init.normal_(network.tail.weight)
        image = photograph(128, 128)
        removed = rain_level(image, run_network(network, image, CPU))
        with torch.no_grad():
            network.tail.weight *= strength / removed
    config = json.dumps({**SHAPE, "attention": ROLES[role]})
    path = folder / f"{role}.safetensors"
    save_weights(path, network, {"idsr.arch": role, "idsr.layout": "unet", "idsr.config": config, **metadata})
    return find_weights(str(path)).dprnet


def restorer(folder: Path, tile: int | None = None, dtype: torch.dtype = torch.float32, **settings: object) -> Restorer:
    return Restorer(make_weights(folder, **settings), CPU, dtype, tile)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 3), (31, 32), (33, 47), (96, 64)])
def test_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    image = photograph(*size)
    before = image.copy()
    result = restorer(tmp_path)(image)
    assert (result.shape, result.dtype) == ((*size, 3), np.float32)
    assert result.min() >= 0
    assert result.max() <= 1
    assert result.flags.c_contiguous
    assert not np.array_equal(result, image)
    np.testing.assert_array_equal(image, before)


def test_padding_does_not_change_what_is_inside(tmp_path: Path) -> None:
    """A legal size is run as it is: the same as the network called by hand."""
    network, image = restorer(tmp_path).network, photograph(64, 96)
    with torch.no_grad():
        by_hand = network(torch.from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(run_network(network, image, CPU), by_hand, atol=1e-6)


@pytest.mark.parametrize("role", list(ROLES))
@pytest.mark.parametrize("size", [(300, 420), (129, 200)])
def test_tiles_do_not_show(tmp_path: Path, role: str, size: tuple[int, int]) -> None:
    image = photograph(*size)
    whole = restorer(tmp_path, tile=0, role=role)(image)
    tiled = restorer(tmp_path, tile=128, role=role)(image)
    assert rain_level(image, whole) > 3  # there is something to differ in
    assert np.abs(whole - tiled).max() * 255 <= 1
    assert np.abs(np.rint(whole * 255) - np.rint(tiled * 255)).max() <= 1


def test_tile_sides(tmp_path: Path) -> None:
    assert [restorer(tmp_path, tile=tile).tile for tile in (0, 1, 32, 100, 128)] == [0, 32, 32, 128, 128]
    automatic = restorer(tmp_path).tile
    assert automatic >= 128
    assert automatic % 32 == 0


def test_one_tile_is_the_whole(tmp_path: Path) -> None:
    image = photograph(100, 128)
    np.testing.assert_array_equal(restorer(tmp_path, tile=0)(image), restorer(tmp_path, tile=128)(image))


def test_untrained_network_returns_its_input(tmp_path: Path) -> None:
    image = photograph(150, 170)
    for tile in (0, 64):
        np.testing.assert_array_equal(restorer(tmp_path, tile=tile, strength=0.0)(image), image)


def test_dry_photographs_come_back_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Restorer, "_sideways", lambda *_: None)  # that has tests of its own
    image = photograph(64, 64)
    removed = rain_level(image, restorer(tmp_path)(image))
    dry = restorer(tmp_path, **{"idsr.dry_threshold": str(removed * 3)})
    assert dry.dry_threshold == pytest.approx(removed * 3)
    assert dry(image) is image
    wet = restorer(tmp_path, **{"idsr.dry_threshold": str(removed * 0.8)})(image)
    np.testing.assert_array_equal(wet, restorer(tmp_path)(image))


def upright_lines_only(network: object, rgb: np.ndarray, *rest: object) -> np.ndarray:
    """What a network does that takes bright upright lines for rain, and leaves level ones."""
    means = cv2.blur(rgb, (1, 21), borderType=cv2.BORDER_REPLICATE)
    return np.where(means > 0.5, np.float32(0.2), rgb).astype(np.float32)


def test_rain_from_the_side_is_seen_when_the_photograph_lies_on_it(tmp_path: Path, monkeypatch) -> None:
    sizes = []

    def network(network: object, rgb: np.ndarray, *rest: object) -> np.ndarray:
        sizes.append(rgb.shape[:2])
        return upright_lines_only(network, rgb)

    restore = restorer(tmp_path, tile=0, **{"idsr.dry_threshold": "2.5"})
    monkeypatch.setattr(idsr_cli.inference, "run_network", network)
    scene = np.full((300, 400, 3), 0.2, np.float32)
    level = scene.copy()
    level[5::10] = 0.9
    result = restore(level)
    assert (result.shape, result.flags.c_contiguous) == (level.shape, True)
    np.testing.assert_array_equal(result[40:-40, 40:-40], scene[40:-40, 40:-40])
    assert sizes == [(300, 400), (256, 256), (400, 300)]
    sizes.clear()
    upright = scene.copy()
    upright[:, 5::10] = 0.9
    restore(upright)
    assert sizes == [(300, 400)]  # seen at once
    sizes.clear()
    pavement = scene.copy()
    pavement[185::10] = 0.9  # not in most parts of the picture
    assert restore(pavement) is pavement
    assert sizes == [(300, 400), (256, 256)]
    for size in ((1, 1), (2, 50), (50, 3)):
        tiny = np.full((*size, 3), 0.2, np.float32)
        assert restore(tiny) is tiny


@pytest.mark.parametrize("angle", [-80, -45, -20, 0, 10, 50, 85])
def test_streak_angle(angle: float) -> None:
    streaks = StreakOptions(angle=angle, jitter=2, length=30, density=0.003)
    layer = streak_layer((160, 200), streaks, torch.Generator().manual_seed(3)).numpy()
    scene = photograph(160, 200)
    assert streak_angle(scene + layer[..., None], scene) == pytest.approx(angle, abs=4)
    assert streak_angle(scene, scene) == 0


@pytest.mark.parametrize(
    ("angle", "upright", "lying", "kept"),
    [(60, 0.3, 1.0, 1.0), (60, 1.0, 0.8, 0.8), (60, 1.0, 0.3, 1.0), (30, 1.0, 0.8, 1.0)],
    ids=["more", "little less", "far less", "upright rain"],
)
def test_slanting_rain_is_looked_at_lying_down(tmp_path: Path, monkeypatch, angle, upright, lying, kept) -> None:
    """A network that takes out one share of the rain from a photograph held upright, another if it lies on its side."""
    scene = np.full((300, 400, 3), 0.3, np.float32)
    streaks = StreakOptions(angle=angle, density=0.005)
    layer = streak_layer((300, 400), streaks, torch.Generator().manual_seed(1)).numpy()[..., None]

    def network(network: object, rgb: np.ndarray, *rest: object) -> np.ndarray:
        share = upright if rgb.shape == scene.shape else lying
        return rgb + np.float32(share) * (np.float32(0.3) - rgb)

    restore = restorer(tmp_path, tile=0, **{"idsr.dry_threshold": "2.5"})
    monkeypatch.setattr(idsr_cli.inference, "run_network", network)
    np.testing.assert_allclose(restore(scene + layer), scene + np.float32(1 - kept) * layer, atol=1e-6)


def test_rainy_share() -> None:
    a = np.zeros((8, 12, 3), np.float32)
    b = a.copy()
    b[:2] = b[:, :3] = 0.1
    assert rainy_share(a, b, 25) == 7 / 16
    assert rainy_share(a, b, 26) == 0
    assert rainy_share(a[:1, :1], b[:1, :1], 1) == 1


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
    beside[254:259, 1:5] = True  # it goes whole, as all that touches it does
    np.testing.assert_array_equal(restored[beside], before[beside])
    half = np.zeros((600, 40), bool)
    half[300:, 30:] = True
    np.testing.assert_allclose(restored[half], (0.5 * (rainy + before))[half], atol=1e-6)
    half[299:, 29:] = True  # what touches it
    elsewhere = ~(beside | half)
    np.testing.assert_array_equal(restored[elsewhere], rainy[elsewhere])


def test_the_rain_floor_comes_with_the_weights(tmp_path: Path) -> None:
    image = photograph(64, 64)
    floored = restorer(tmp_path, **{"idsr.rain_floor": "12"})
    assert floored.rain_floor == 12
    result = floored(image)
    expected = run_network(floored.network, image, CPU)
    leave_dry_pixels(image, expected, 12)
    np.testing.assert_array_equal(result, expected.clip(0, 1))
    assert 0.02 < (result == image).all(2).mean() < 0.98
    assert restorer(tmp_path).rain_floor == 0


@pytest.mark.parametrize(("dtype", "hint"), [(torch.float32, "models verify"), (torch.float16, "--precision fp32")])
def test_numbers_that_overflow_are_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype, hint) -> None:
    restore = restorer(tmp_path, **{"idsr.dry_threshold": "1"})
    restore.dtype = dtype
    monkeypatch.setattr(idsr_cli.inference, "run_network", lambda network, rgb, *rest: np.where(rgb > 0.5, np.nan, rgb))
    with pytest.raises(ItemError, match="not finite") as error:
        restore(photograph(64, 64))
    assert hint in str(error.value.hint)
    # Nor where they turn up when it lies on its side.
    broken = photograph(64, 96)
    monkeypatch.setattr(
        idsr_cli.inference, "run_network", lambda network, rgb, *rest: rgb if len(rgb) < 90 else rgb / 0
    )
    with np.errstate(all="ignore"), pytest.raises(ItemError, match="not finite"):
        restore(broken)


def test_rain_level() -> None:
    a = np.full((4, 5, 3), 0.5, np.float32)
    assert rain_level(a, a) == 0
    assert rain_level(a, a - np.float32(0.1)) == pytest.approx(25.5, rel=1e-5)


def test_what_is_seen_in_a_corner_only_is_no_rain() -> None:
    scene = np.full((80, 120, 3), 0.5, np.float32)
    for parts, dry in ((3, True), (4, False), (16, False)):
        restored = scene.copy()
        for i in range(parts):
            row, column = divmod(i, 4)
            restored[20 * row : 20 * row + 20, 30 * column : 30 * column + 30] -= 0.2
        assert rain_level(scene, restored) > 20
        assert seems_dry(scene, restored, 2.5) is dry
    assert seems_dry(scene, scene - np.float32(0.009), 2.5)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_tiles_shrink_until_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    real, sides = run_network, []

    def limited(network: object, rgb: np.ndarray, *rest: object) -> np.ndarray:
        sides.append(max(rgb.shape[:2]))
        if sides[-1] > 360:
            raise error("too big")
        return real(network, rgb, *rest)  # type: ignore[arg-type]

    image = photograph(400, 330)
    expected = restorer(tmp_path, tile=0)(image)
    restore = restorer(tmp_path, tile=0)
    monkeypatch.setattr(idsr_cli.inference, "run_network", limited)
    np.testing.assert_allclose(restore(image), expected, atol=1 / 255)
    assert sides[0] == 400
    assert restore.tile == 224  # 400 whole is too big; 224 with its context is 352
    sides.clear()
    restore(image)
    assert max(sides) <= 360  # it has learnt


@pytest.mark.parametrize("tile", [0, 128, 512])
def test_out_of_memory_in_the_smallest_tile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tile: int) -> None:
    calls = []

    def full(network: object, rgb: np.ndarray, *rest: object) -> np.ndarray:
        calls.append(rgb.shape)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmany lines")

    restore = restorer(tmp_path, tile=tile)
    monkeypatch.setattr(idsr_cli.inference, "run_network", full)
    for size in ((700, 300), (20, 30)):
        with pytest.raises(ItemError, match=r"out of memory \(use a smaller --tile") as caught:
            restore(photograph(*size))
        assert caught.value.exit_code == 1
    assert len(calls) < 10


@pytest.mark.parametrize("size", [(30, 40), (64, 100), (260, 300)])
def test_same_bytes_again_and_for_any_number_of_threads(tmp_path: Path, size: tuple[int, int]) -> None:
    restore, image, other = restorer(tmp_path, tile=192), photograph(*size), photograph(40, 30)
    first = restore(image)
    restore(other)
    np.testing.assert_array_equal(restore(image), first)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        np.testing.assert_array_equal(restore(image), first)


def test_bf16_is_close(tmp_path: Path) -> None:
    image = photograph(96, 80)
    exact, fast = restorer(tmp_path)(image), restorer(tmp_path, dtype=torch.bfloat16)(image)
    assert fast.dtype == np.float32
    difference = np.abs(exact - fast) * 255
    assert 0 < difference.mean() < 0.25
    assert difference.max() < 2


def test_progress_through_the_tiles(tmp_path: Path) -> None:
    restore, shares = restorer(tmp_path, tile=128), []
    restore.on_progress = shares.append
    restore(photograph(200, 300))
    assert shares == [i / 6 for i in range(6)]
    shares.clear()
    restore(photograph(100, 100))
    assert shares == []


def test_out_of_memory_as_torch_says_it_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = run_network

    def limited(network: object, rgb: np.ndarray, *rest: object) -> np.ndarray:
        if max(rgb.shape[:2]) > 420:
            torch.empty(2**60, dtype=torch.uint8)
        return real(network, rgb, *rest)  # type: ignore[arg-type]

    restore, told = restorer(tmp_path, tile=0), []
    restore.on_smaller = told.append
    monkeypatch.setattr(idsr_cli.inference, "run_network", limited)
    restore(photograph(40, 600))
    assert told == [160]  # 600, 320 and its context are too big
    restore(photograph(40, 600))
    assert told == [160]


def test_other_runtime_errors_are_not_taken_for_lack_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> np.ndarray:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    restore = restorer(tmp_path)
    monkeypatch.setattr(idsr_cli.inference, "run_network", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        restore(photograph(40, 60))
