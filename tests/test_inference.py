"""Networks run on images of any size; tiles leave no visible seams, and the number of threads changes nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch

import idsr_cli.inference
from idsr_cli.errors import ItemError
from idsr_cli.inference import TiledNetwork, cut_into, run_padded
from idsr_cli.networks import ROLES, layout_of
from idsr_cli.place import Place
from idsr_cli.rain_estimate import rain_level
from idsr_cli.restoration import load_network
from idsr_cli.runtime import engines, ncnn_engine, torch_engine
from idsr_cli.runtime.torch_engine import TorchRunner
from tests.conftest import make_weights, photograph

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
needs_ncnn = pytest.mark.skipif(not ncnn_engine.is_installed(), reason="ncnn is not installed")


def network_of(
    folder: Path,
    tile: int | None = None,
    precision: str = "fp32",
    engine: str = "torch",
    **settings: object,
) -> TiledNetwork:
    return load_network(make_weights(folder, **settings), "cpu", precision, tile, engine).network  # type: ignore[arg-type]


class Doubling:
    """An engine without torch: doubles, on patches of 8 by 8 pixels or multiples of it."""

    multiple, halo, bytes_per_pixel, precision, engine, remark = 8, 16, 100.0, "fp32", "doubling", ""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []
        self.places: list[Place | None] = []
        self.released = 0

    def run(self, patch: np.ndarray, place: Place | None = None) -> np.ndarray:
        self.sizes.append(patch.shape)
        self.places.append(place)
        if max(patch.shape) > 300:
            raise MemoryError
        return patch * np.float32(2)

    def memory(self, pixels: int) -> float:
        return 100.0 * 400**2

    def release(self) -> None:
        self.released += 1


def test_another_engine() -> None:
    runner, image = Doubling(), photograph(30, 500)
    sizes, places = [(32, 272, 3), (32, 264, 3)], [Place(0, left, 30, 500) for left in (0, 240)]
    network = TiledNetwork(runner)
    np.testing.assert_array_equal(network(image), image * 2)
    assert (network.tile, runner.released) == (None, 0)
    # Two strips have little waste. Where they lie in the image is told, their context included.
    assert (runner.sizes, runner.places) == (sizes, places)
    network = TiledNetwork(runner, 0)
    np.testing.assert_array_equal(network(image), image * 2)
    assert (network.tile, runner.released) == (256, 1)  # half of 500 pixels, which were too many
    assert (runner.sizes[2:], runner.places[2:]) == ([(32, 504, 3), *sizes], [None, *places])


class Tripling(Doubling):
    bytes_per_pixel = 10.0

    def run(self, patch: np.ndarray, place: Place | None = None) -> np.ndarray:
        self.sizes.append(patch.shape)
        return patch * np.float32(3)


def test_large_images_are_left_to_another_engine() -> None:
    """Where tiles of the first one would have more than 1.2 times the pixels of the image."""
    runner, other, made = Doubling(), Tripling(), []
    runner.halo = other.halo = 64

    def large() -> Tripling:
        made.append(other)
        return other

    network, small, big = TiledNetwork(runner, None, large), photograph(30, 200), photograph(600, 600)
    assert network.engine == "doubling,torch"
    np.testing.assert_array_equal(network(small), small * 2)
    assert (made, runner.released) == ([], 0)
    seen: list[float] = []
    network.on_progress = seen.append
    for _ in range(2):
        np.testing.assert_array_equal(network(big), big * np.float32(3))
    other.on_progress(0.5)
    assert (made, other.sizes, runner.released, seen) == ([other], [(600, 600, 3)] * 2, 2, [0.5])
    np.testing.assert_array_equal(network(small), small * 2)
    with_tiles = TiledNetwork(runner, 128, large)
    np.testing.assert_array_equal(with_tiles(big), big * 2)
    assert (with_tiles.engine, len(made)) == ("doubling", 1)


@needs_ncnn
def test_only_the_engine_auto_leaves_large_images_to_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "torch_is_as_fast", lambda: False)
    assert [network_of(tmp_path, engine=name).engine for name in ("auto", "ncnn", "torch")] == [
        "ncnn,torch",
        "ncnn",
        "torch",
    ]
    network, image = network_of(tmp_path, engine="auto"), photograph(160, 560)
    by_ncnn = network(image)
    monkeypatch.setattr(network.runner, "memory", lambda pixels: 0)
    by_torch = network(image)
    np.testing.assert_array_equal(by_torch, network_of(tmp_path, engine="torch")(image))
    assert np.abs(by_torch - by_ncnn).max() * 255 < 0.05


@pytest.mark.parametrize(
    ("size", "bytes_per_pixel", "counts", "share"),
    [
        ((3000, 4000), 140.0, (1, 2), 1.064),  # two strips with little waste; the whole would fit too
        ((4000, 3000), 140.0, (2, 1), 1.064),
        ((3264, 2448), 140.0, (2, 1), 1.0784),  # of 8 megapixels
        ((1632, 2448), 140.0, (1, 1), 1.0),
        ((4000, 6000), 140.0, (1, 3), 1.0853),  # the least waste that fits
        ((3000, 4000), 700.0, (2, 4), 1.2937),
        ((300, 40000), 3000.0, (1, 29), 1.1792),
        ((600, 560), 1e6, (2, 2), 2.0789),  # nothing fits: the smallest tiles
        ((1, 1), 140.0, (1, 1), 1.0),
    ],
)
def test_how_an_image_is_cut(
    size: tuple[int, int], bytes_per_pixel: float, counts: tuple[int, int], share: float
) -> None:
    runner = Doubling()
    runner.halo, runner.bytes_per_pixel, runner.memory = 128, bytes_per_pixel, lambda pixels: 1.5e9  # type: ignore[method-assign]
    assert cut_into(*size, 128, 1.5e9 / bytes_per_pixel) == counts
    cut = TiledNetwork(runner)._cut(*size)
    assert tuple(map(len, cut)) == counts
    total = 1
    for cores, length in zip(cut, size, strict=True):
        assert [cores[0][0], *(end for _, end in cores)] == [*(start for start, _ in cores), length]
        assert all(start % 32 == 0 for start, _ in cores)
        sides = [min(end + 128, length) - max(start - 128, 0) for start, end in cores]
        assert max(sides) - min(sides) < 64  # about equal
        total *= sum(sides)
    assert total / (size[0] * size[1]) == pytest.approx(share, abs=1e-3)


@pytest.mark.parametrize("role", list(ROLES))
def test_tiles_from_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    """Strips do not show either."""
    image, network = photograph(160, 560), network_of(tmp_path, role=role)
    whole = network(image)
    monkeypatch.setattr(network.runner, "memory", lambda pixels: network.runner.bytes_per_pixel * 160 * 440)
    assert tuple(map(len, network._cut(160, 560))) == (1, 2)
    assert np.abs(network(image) - whole).max() * 255 <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 3), (31, 32), (33, 47), (96, 64)])
def test_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    image = photograph(*size)
    before = image.copy()
    result = network_of(tmp_path)(image)
    assert (result.shape, result.dtype) == ((*size, 3), np.float32)
    assert result.flags.c_contiguous
    assert not np.array_equal(result, image)
    np.testing.assert_array_equal(image, before)


def test_padding_does_not_change_what_is_inside(tmp_path: Path) -> None:
    """An image of a valid size is not padded: the result is that of the network called directly."""
    network, image = network_of(tmp_path).runner.network, photograph(64, 96)
    with torch.no_grad():
        by_hand = network(torch.from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(run_padded(TorchRunner(network, layout_of("unet"), CPU), image), by_hand, atol=1e-6)


@pytest.mark.parametrize("role", list(ROLES))
@pytest.mark.parametrize("size", [(300, 420), (129, 200)])
@pytest.mark.parametrize("engine", ["torch", pytest.param("ncnn", marks=needs_ncnn)])
def test_tiles_do_not_show(tmp_path: Path, engine: str, role: str, size: tuple[int, int]) -> None:
    image = photograph(*size)
    whole = network_of(tmp_path, tile=0, engine=engine, role=role)(image)
    tiled = network_of(tmp_path, tile=128, engine=engine, role=role)(image)
    assert rain_level(image, whole) > 3  # the network changes the image, so the tiles could differ
    assert np.abs(whole - tiled).max() * 255 <= 1
    assert np.abs(np.rint(whole * 255) - np.rint(tiled * 255)).max() <= 1


def test_tile_sides(tmp_path: Path) -> None:
    tiles = (0, 1, 32, 100, 128, None)
    assert [network_of(tmp_path, tile=tile).tile for tile in tiles] == [0, 32, 32, 128, 128, None]


def test_one_tile_is_the_whole(tmp_path: Path) -> None:
    image = photograph(100, 128)
    np.testing.assert_array_equal(network_of(tmp_path, tile=0)(image), network_of(tmp_path, tile=128)(image))


def test_untrained_network_returns_its_input(tmp_path: Path) -> None:
    image = photograph(150, 170)
    for tile in (0, 64):
        np.testing.assert_array_equal(network_of(tmp_path, tile=tile, strength=0.0)(image), image)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_tiles_shrink_until_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    real, sides = run_padded, []

    def limited(runner: object, rgb: np.ndarray, place: object = None) -> np.ndarray:
        sides.append(max(rgb.shape[:2]))
        if sides[-1] > 360:
            raise error("too big")
        return real(runner, rgb)  # type: ignore[arg-type]

    image = photograph(400, 330)
    expected = network_of(tmp_path, tile=0)(image)
    restore = network_of(tmp_path, tile=0)
    monkeypatch.setattr(idsr_cli.inference, "run_padded", limited)
    np.testing.assert_allclose(restore(image), expected, atol=1 / 255)
    assert sides[0] == 400
    assert restore.tile == 224  # 400 whole is too big; 224 with its context is 352
    sides.clear()
    restore(image)
    assert max(sides) <= 360  # later images start with smaller tiles


@pytest.mark.parametrize("tile", [0, 128, 512])
def test_out_of_memory_in_the_smallest_tile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tile: int) -> None:
    calls = []

    def full(runner: object, rgb: np.ndarray, place: object = None) -> np.ndarray:
        calls.append(rgb.shape)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmany lines")

    restore = network_of(tmp_path, tile=tile)
    monkeypatch.setattr(idsr_cli.inference, "run_padded", full)
    for size in ((700, 300), (20, 30)):
        with pytest.raises(ItemError, match=r"out of memory \(use a smaller tile") as caught:
            restore(photograph(*size))
        assert caught.value.exit_code == 1
    assert len(calls) < 10


@pytest.mark.parametrize("size", [(30, 40), (64, 100), (260, 300)])
def test_same_bytes_again_and_for_any_number_of_threads(tmp_path: Path, size: tuple[int, int]) -> None:
    restore, image, other = network_of(tmp_path, tile=192), photograph(*size), photograph(40, 30)
    first = restore(image)
    restore(other)
    np.testing.assert_array_equal(restore(image), first)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        np.testing.assert_array_equal(restore(image), first)


def test_bf16_is_close(tmp_path: Path) -> None:
    image = photograph(96, 80)
    exact, fast = network_of(tmp_path)(image), network_of(tmp_path, precision="bf16")(image)
    assert fast.dtype == np.float32
    difference = np.abs(exact - fast) * 255
    assert 0 < difference.mean() < 0.25
    assert difference.max() < 2


def test_progress_through_the_tiles(tmp_path: Path) -> None:
    restore, shares = network_of(tmp_path, tile=128), []
    restore.on_progress = shares.append
    restore(photograph(200, 300))
    assert shares == [i / 6 for i in range(6)]
    shares.clear()
    restore(photograph(100, 100))
    assert shares == []


def test_progress_within_a_tile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_engine, "_LARGE", 100 * 100)
    restore, shares = network_of(tmp_path, tile=128), []
    restore.on_progress = shares.append
    restore(photograph(128, 256))
    assert shares == sorted(shares)
    first, second = [[share for share in shares if part <= share < part + 0.5] for part in (0, 0.5)]
    assert min(len(first), len(second)) > 10
    assert (first[0], second[0]) == (0, 0.5)
    assert 0.4 < first[-1] < 0.5
    assert 0.95 < shares[-1] <= 1
    whole = network_of(tmp_path, tile=0)
    shares.clear()
    whole.on_progress = shares.append
    whole(photograph(128, 128))
    assert shares == sorted(shares)
    assert 0.95 < shares[-1] <= 1
    assert not any(module._forward_hooks for module in whole.runner.network.modules())


def test_out_of_memory_as_torch_says_it_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = run_padded

    def limited(runner: object, rgb: np.ndarray, place: object = None) -> np.ndarray:
        if max(rgb.shape[:2]) > 420:
            torch.empty(2**60, dtype=torch.uint8)
        return real(runner, rgb)  # type: ignore[arg-type]

    restore, told = network_of(tmp_path, tile=0), []
    restore.on_smaller = told.append
    monkeypatch.setattr(idsr_cli.inference, "run_padded", limited)
    restore(photograph(40, 600))
    assert told == [160]  # 600, 320 and its context are too big
    restore(photograph(40, 600))
    assert told == [160]


def test_other_runtime_errors_are_not_taken_for_lack_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> np.ndarray:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    restore = network_of(tmp_path)
    monkeypatch.setattr(idsr_cli.inference, "run_padded", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        restore(photograph(40, 60))
