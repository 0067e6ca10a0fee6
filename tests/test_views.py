"""How a network is shown an image: windows fit together, and what comes back is where it belongs."""

from itertools import product

import cv2
import numpy as np
import pytest

from idsr_cli.inference import TiledNetwork
from idsr_cli.place import Place
from idsr_cli.views import Contrasted, Enlarged, OnItsSide, View, reduced, without_resized
from tests.conftest import photograph

VIEWS = (View, OnItsSide, Contrasted, Enlarged)
SIZE = (203, 331)


def spans(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


@pytest.mark.parametrize("kind", VIEWS)
def test_windows_are_parts_of_the_whole(kind) -> None:
    view = kind(photograph(*SIZE))
    height, width = view.size
    whole = view.seen(slice(0, height), slice(0, width))
    assert (whole.shape, whole.dtype) == ((height, width, 3), np.float32)
    assert (whole.min() >= 0, whole.max() <= 1) == (True, True)
    for rows, columns in product(spans(height, 64), spans(width, 96)):
        np.testing.assert_array_equal(view.seen(rows, columns), whole[rows, columns])


def test_what_is_seen() -> None:
    image = photograph(*SIZE)
    side = OnItsSide(image)
    np.testing.assert_array_equal(side.seen(slice(0, 331), slice(0, 203)), np.rot90(image))
    large = Enlarged(image).seen(slice(0, 406), slice(0, 662))
    np.testing.assert_allclose(cv2.resize(large, SIZE[::-1], interpolation=cv2.INTER_AREA), image, atol=0.1)
    assert large[100:300, 100:300].std() > image[50:150, 50:150].std() * 0.9
    faint = np.full((160, 160, 3), 0.5, np.float32)
    faint[:, 80] += 0.04
    seen = Contrasted(faint).seen(slice(0, 160), slice(0, 160))
    assert seen[80, 80, 1] - 0.5 == pytest.approx(0.08, rel=0.05)  # less what the blur has of the line


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (1, 1), (1, 3)])
def test_half_the_size_and_back(size) -> None:
    """What is taken out of the smaller image goes where it was, of odd sizes too; the rest keeps its values."""
    height, width = size
    image = photograph(80, 100)[:height, :width]
    small = reduced(image, 2)
    assert (small.shape, small.dtype) == (((height + 1) // 2, (width + 1) // 2, 3), np.float32)
    assert small.mean() == pytest.approx(image.mean(), abs=0.02)
    np.testing.assert_array_equal(without_resized(image, np.zeros_like(small)), image)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    drop = 0.2 * np.exp(-((x - width * 0.5 + 0.5) ** 2 + (y - height * 0.5 + 0.5) ** 2) / 50)[..., None]
    np.testing.assert_allclose(without_resized(image, reduced(drop.repeat(3, 2), 2)), image - drop, atol=0.004)


class Striped:
    """An engine that takes out what is above 0.5, and a little of every pixel's neighbour on the left."""

    multiple, halo, bytes_per_pixel, precision, engine, remark = 32, 32, 100.0, "fp32", "striped", ""

    def __init__(self) -> None:
        self.places: list[Place | None] = []

    def run(self, patch: np.ndarray, place: Place | None = None) -> np.ndarray:
        self.places.append(place)
        result = np.minimum(patch, np.float32(0.5))
        result[:, 1:] -= np.float32(0.1) * patch[:, :-1]
        return result

    def memory(self, pixels: int) -> float:
        return 1e9

    def release(self) -> None: ...


@pytest.mark.parametrize("kind", VIEWS)
def test_tiles_of_a_view_are_the_whole(kind) -> None:
    image, runner = photograph(*SIZE), Striped()
    whole = TiledNetwork(runner, 0)(image, kind)
    assert (whole.shape, whole.dtype, whole.flags.c_contiguous) == (image.shape, np.float32, True)
    assert runner.places == [None]
    tiled = TiledNetwork(runner, 96)(image, kind)
    assert len(runner.places) > 6
    assert runner.places[1] == Place(0, 0, *kind(image).size)  # in the image as it is seen
    # 96 pixels of an enlarged image are 48 of the image, so its rows are not cut at multiples of 8.
    np.testing.assert_allclose(tiled, whole, atol=1e-6)


def test_what_comes_back() -> None:
    image, network = photograph(*SIZE), TiledNetwork(Striped(), 0)
    turned = network(np.ascontiguousarray(np.rot90(image)))
    np.testing.assert_array_equal(network(image, OnItsSide), np.rot90(turned, -1))
    everything = slice(0, SIZE[0]), slice(0, SIZE[1])
    seen = Contrasted(image).seen(*everything)
    np.testing.assert_allclose(network(image, Contrasted), image - (seen - network(seen)) / 2, atol=1e-6)
    seen = Enlarged(image).seen(slice(0, 406), slice(0, 662))
    rain = cv2.resize(seen - network(seen), SIZE[::-1], interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(network(image, Enlarged), image - rain, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (70, 1), (3, 2)])
@pytest.mark.parametrize("kind", VIEWS)
def test_tiny_images(kind, size) -> None:
    image = photograph(80, 80)[: size[0], : size[1]]
    assert TiledNetwork(Striped(), 32)(image, kind).shape == image.shape
