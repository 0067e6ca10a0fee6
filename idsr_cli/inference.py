"""Running a network on images of any size: padding, tiles, memory. Arrays in, arrays out, no files."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product

import numpy as np

from idsr_cli.errors import ItemError
from idsr_cli.files.faults import is_out_of_memory
from idsr_cli.place import Place
from idsr_cli.runtime.runner import Runner
from idsr_cli.scale_space import fold
from idsr_cli.views import View

# Tile cores sit on multiples of this, so that pooling cells fall on the same pixels in every tile.
GRID = 32
_SMALLEST_TILE = 128
# Tiles, with their context, may have this many times the pixels of the image before memory is preferred to time.
_LITTLE_WASTE = 1.08

# A runner whose tiles would have more than this many times the pixels of the image leaves it to the other one.
_MUCH_WASTE = 1.2

# First row or column of a tile's core, and the end.
_Span = tuple[int, int]


class TiledNetwork:
    """One network for images of any size.

    The same input gives the same output in any order of calls and, for the U-shaped networks in float32 on a CPU, for
    any number of threads (tried with 1 to 4). Tiled and whole results of networks with channel attention differ by at
    most one grey level: it reaches beyond a tile's context, faintly.

    Args:
        runner: the network on its engine.
        tile: side of a tile's core in pixels (rounded up to a multiple of 32), 0 = never tile, None = from memory: the
            smallest tiles whose context adds next to nothing, or else those within the runner's memory whose context
            adds least. They need not be square.
        large: makes the runner of images of which `runner` would compute more than a fifth twice, for the context of
            its tiles. It is called for the first of them, and not at all with `tile`. None = `runner` does all.

    Attributes:
        runner: as given.
        engine: "torch" or "ncnn", or "ncnn,torch" if another one runs large images.
        tile: as given, rounded. When memory runs out it becomes half the side of a tile, and stays so.
        on_progress: called with the share (0..1) of the image that is done, for large images.
        on_smaller: called with the new side after an image was completed in smaller tiles than requested.
    """

    def __init__(self, runner: Runner, tile: int | None = None, large: Callable[[], Runner] | None = None) -> None:
        self.runner = runner
        self._large = large if tile is None else None
        self._of_large: TiledNetwork | None = None
        self.engine = f"{runner.engine},torch" if self._large else runner.engine
        self.tile = -(-tile // GRID) * GRID if tile else tile
        self.on_progress: Callable[[float], object] = lambda share: None
        self.on_smaller: Callable[[int], object] = lambda side: None

    def __call__(self, rgb: np.ndarray, shown: Callable[[np.ndarray], View] = View) -> np.ndarray:
        """(H, W, 3) float32 RGB in [0, 1] -> the network's result, a new array of that shape, float32, not clipped.

        `shown`: makes the view in which the network sees the image.

        Raises:
            ItemError: it does not fit in memory even in small tiles, or the network's numbers overflow.
        """
        view = shown(rgb)
        result = self._for(*view.size)._in_memory(view)
        if not np.isfinite(result).all():  # they would be written as black pixels
            raise ItemError(
                "the network gives values that are not finite",
                hint="`idsr models verify` checks the weights" if self.runner.precision == "fp32"
                else "use the precision `fp32`",
            )  # fmt: skip
        return result

    def _for(self, height: int, width: int) -> TiledNetwork:
        """The network that runs an image: this one, or that of large images."""
        if self._large is None or self.tile is not None:
            return self
        down, across = (
            _sides(cores, length, self.runner.halo)
            for cores, length in zip(self._cut(height, width), (height, width), strict=True)
        )
        if sum(down) * sum(across) <= _MUCH_WASTE * height * width:
            return self
        self.runner.release()  # the memory that it keeps for the next image
        if self._of_large is None:
            self._of_large = TiledNetwork(self._large())
            self._of_large.on_progress = lambda share: self.on_progress(share)
            self._of_large.on_smaller = self._limited
        return self._of_large

    def _limited(self, side: int) -> None:
        """The network of large images ran out of memory: from now on this one runs all, in tiles of that side."""
        self.tile = side
        self.on_smaller(side)

    def _in_memory(self, view: View) -> np.ndarray:
        """Run the image whole or in tiles, which are made smaller until they fit in memory."""
        rows, columns = self._cut(*view.size)
        fits = True
        while True:
            try:
                result = self._tiled(view, rows, columns)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                side = max(end - start for start, end in (*rows, *columns))
                smaller = -(-side // (2 * GRID)) * GRID
                if smaller < _SMALLEST_TILE or smaller == side:
                    raise ItemError("out of memory", hint="use a smaller tile, or the device `cpu`") from error
            else:
                if not fits:
                    self.on_smaller(smaller)
                return result
            # Outside the `except` block the error is gone, and with it the tensors that its traceback kept alive.
            fits, self.tile = False, smaller
            rows, columns = self._cut(*view.size)
            self.runner.release()

    def _tiled(self, view: View, rows: list[_Span], columns: list[_Span]) -> np.ndarray:
        cores = [(slice(*down), slice(*across)) for down, across in product(rows, columns)]
        if len(cores) == 1:
            self._tell(0, 1)
            seen = view.seen(*cores[0])
            return view.result(*cores[0], seen, run_padded(self.runner, seen))
        result = np.empty_like(view.rgb)
        for i, core in enumerate(cores):
            self.on_progress(i / len(cores))
            self._tell(i, len(cores))
            # No name for what it returns: it would be kept while the next tile is computed.
            result[view.place(*core)] = self._tile(view, *core)
        return result

    def _tile(self, view: View, rows: slice, columns: slice) -> np.ndarray:
        """What `view.result` gives for a tile's core."""
        (height, width), halo = view.size, self.runner.halo
        y, x = max(rows.start - halo, 0), max(columns.start - halo, 0)
        seen = view.seen(slice(y, min(rows.stop + halo, height)), slice(x, min(columns.stop + halo, width)))
        restored = run_padded(self.runner, seen, Place(y, x, height, width))
        core = np.s_[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
        return view.result(rows, columns, seen[core], restored[core])

    def _tell(self, tile: int, tiles: int) -> None:
        """Let the runner tell how far it is with a tile."""
        self.runner.on_progress = lambda share: self.on_progress((tile + share) / tiles)

    def _cut(self, height: int, width: int) -> tuple[list[_Span], list[_Span]]:
        """Rows and columns of the cores of an image's tiles; one of each = the image is not cut."""
        if self.tile is None:
            pixels = self.runner.memory(height * width) / self.runner.bytes_per_pixel
            counts = cut_into(height, width, self.runner.halo, pixels)
            rows, columns = (
                _even(length, count, self.runner.halo) for length, count in zip((height, width), counts, strict=True)
            )
            return rows, columns
        side = self.tile or max(height, width)
        rows, columns = ([(i, min(i + side, length)) for i in range(0, length, side)] for length in (height, width))
        return rows, columns


def cut_into(height: int, width: int, halo: int, pixels: float) -> tuple[int, int]:
    """Into how many tiles an image is cut: (in a column, in a row).

    Args:
        height: of the image, pixels.
        width: of the image, pixels.
        halo: context on each side of a tile that is not the image's border, pixels.
        pixels: the most that a tile may have, context included. If even small tiles have more, they are small.

    Returns:
        The numbers with which the largest tile is smallest, among those with which all tiles, context included, have
        at most 1.08 times the pixels of the image. If there are none, those with which they have fewest.
    """

    def tiles(length: int) -> list[tuple[int, int]]:
        """(Length of a tile, of all tiles together) for 1, 2, ... tiles."""
        most = 1
        while (length + 2 * halo * most) / (most + 1) - 2 * halo >= _SMALLEST_TILE:
            most += 1
        spans = [_even(length, count, halo) for count in range(1, most + 1)]
        sides = (_sides(cores, length, halo) for cores in spans)
        return [(max(each), sum(each)) for each in sides]

    found = []
    for i, (tall, total_height) in enumerate(tiles(height), 1):
        for j, (wide, total_width) in enumerate(tiles(width), 1):
            area, total = tall * wide, total_height * total_width
            little = total <= _LITTLE_WASTE * height * width
            # First those that fit, then those with little waste; of these the smallest tiles, else the least waste.
            order = (False, not little, area if little else total, area) if area <= pixels else (True, area)
            found.append((order, (i, j)))
    return min(found)[1]


def _even(length: int, count: int, halo: int) -> list[_Span]:
    """`count` cores side by side; all about as long with their context, of which the first and the last have half."""
    side = (length + 2 * halo * (count - 1)) / count
    inner = [round((i * side - (2 * i - 1) * halo) / GRID) * GRID for i in range(1, count)]
    return list(pairwise([0, *inner, length]))


def _sides(cores: list[_Span], length: int, halo: int) -> list[int]:
    """How long tiles are with their context, along a side of the image that is `length` long."""
    return [min(end + halo, length) - max(start - halo, 0) for start, end in cores]


def run_padded(runner: Runner, rgb: np.ndarray, place: Place | None = None) -> np.ndarray:
    """Run the network on one (H, W, 3) array of any size; the result is not clipped.

    The array is extended to a multiple of `runner.multiple` by reflection at the right and bottom. `place` says where
    it lies in the whole image; None = it is the whole image.
    """
    height, width = rgb.shape[:2]
    rows, columns = (
        fold(np.arange(-(-length // runner.multiple) * runner.multiple), length) for length in (height, width)
    )
    patch = np.empty((len(rows), len(columns), 3), np.float32)  # one copy, which the runner may use up
    patch[:height, :width] = rgb
    patch[height:, :width] = rgb[rows[height:]]
    patch[:, width:] = patch[:, columns[width:]]
    return np.ascontiguousarray(runner.run(patch, place)[:height, :width])
