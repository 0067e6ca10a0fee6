"""Running a network on images of any size: padding, tiles, memory. Arrays in, arrays out, no files."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from idsr_cli.errors import ItemError
from idsr_cli.files.faults import is_out_of_memory
from idsr_cli.place import Place
from idsr_cli.runtime.runner import Runner

# Tile cores sit on multiples of this, so that pooling cells fall on the same pixels in every tile.
GRID = 32
_SMALLEST_TILE = 128


class TiledNetwork:
    """One network for images of any size.

    The same input gives the same output in any order of calls and, for the U-shaped networks in float32 on a CPU, for
    any number of threads (tried with 1 to 4). Tiled and whole results of networks with channel attention differ by at
    most one grey level: it reaches beyond a tile's context, faintly.

    Args:
        runner: the network on its engine.
        tile: side of a tile's core in pixels (rounded up to a multiple of 32), 0 = never tile, None = from memory.

    Attributes:
        runner: as given.
        tile: side of a tile's core in pixels, 0 = none. It is halved when memory runs out, and stays so.
        on_progress: called with the share (0..1) of the image that is done, for images in several tiles.
        on_smaller: called with the new side after an image was completed in smaller tiles than requested.
    """

    def __init__(self, runner: Runner, tile: int | None = None) -> None:
        self.runner = runner
        self.tile = self._auto_tile() if tile is None else 0 if tile == 0 else -(-tile // GRID) * GRID
        self.on_progress: Callable[[float], object] = lambda share: None
        self.on_smaller: Callable[[int], object] = lambda side: None

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """(H, W, 3) float32 RGB in [0, 1] -> the network's result, a new array of that shape, float32, not clipped.

        Raises:
            ItemError: it does not fit in memory even in small tiles, or the network's numbers overflow.
        """
        result = self._in_memory(rgb)
        if not np.isfinite(result).all():  # they would be written as black pixels
            raise ItemError(
                "the network gives values that are not finite",
                hint="`idsr models verify` checks the weights" if self.runner.precision == "fp32"
                else "use the precision `fp32`",
            )  # fmt: skip
        return result

    def _in_memory(self, rgb: np.ndarray) -> np.ndarray:
        """Run the image whole or in tiles, which are made smaller until they fit in memory."""
        height, width = rgb.shape[:2]
        tile = self.tile if self.tile and max(height, width) > self.tile else 0
        fits = True
        while True:
            try:
                result = self._tiled(rgb, tile) if tile else run_padded(self.runner, rgb)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                smaller = -(-(tile or max(height, width)) // (2 * GRID)) * GRID
                if smaller < _SMALLEST_TILE or smaller == tile:
                    raise ItemError("out of memory", hint="use a smaller tile, or the device `cpu`") from error
            else:
                if not fits:
                    self.on_smaller(tile)
                return result
            # Outside the `except` block the error is gone, and with it the tensors that its traceback kept alive.
            fits, tile = False, smaller
            self.tile = smaller
            self.runner.release()

    def _tiled(self, rgb: np.ndarray, tile: int) -> np.ndarray:
        height, width = rgb.shape[:2]
        halo = self.runner.halo
        result = np.empty_like(rgb)
        corners = [(top, left) for top in range(0, height, tile) for left in range(0, width, tile)]
        for i, (top, left) in enumerate(corners):
            self.on_progress(i / len(corners))
            bottom, right = min(top + tile, height), min(left + tile, width)
            y, x = max(top - halo, 0), max(left - halo, 0)
            part = rgb[y : min(bottom + halo, height), x : min(right + halo, width)]
            patch = run_padded(self.runner, part, Place(y, x, height, width))
            result[top:bottom, left:right] = patch[top - y : bottom - y, left - x : right - x]
        return result

    def _auto_tile(self) -> int:
        side = int((self.runner.memory() / self.runner.bytes_per_pixel) ** 0.5) - 2 * self.runner.halo
        return max(_SMALLEST_TILE, side // GRID * GRID)


def run_padded(runner: Runner, rgb: np.ndarray, place: Place | None = None) -> np.ndarray:
    """Run the network on one (H, W, 3) array of any size; the result is not clipped.

    The array is extended to a multiple of `runner.multiple` by reflection at the right and bottom. `place` says where
    it lies in the whole image; None = it is the whole image.
    """
    height, width = rgb.shape[:2]
    below, right = -height % runner.multiple, -width % runner.multiple
    if not below and not right:
        return runner.run(rgb, place)
    extended = np.pad(rgb, ((0, below), (0, right), (0, 0)), mode="reflect")
    return np.ascontiguousarray(runner.run(extended, place)[:height, :width])
