"""Running a network on photographs of any size: padding, tiles, memory. Arrays in, arrays out, no files."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import nn

from idsr_cli.errors import ItemError
from idsr_cli.files.faults import is_out_of_memory
from idsr_cli.scale_space import fold
from idsr_cli.weights import Weights

# Context around a tile's core, pixels. The U-shaped networks reach about 60 px through convolutions, and further
# through the local pooling of channel attention, fading: measured on the base weights, single pixels differ from the
# whole picture's by up to 2 grey levels with 96 px and by 0.5 with 128.
HALO = 128
# Tile cores sit on multiples of this, so that pooling cells fall on the same pixels in every tile.
GRID = 32
# Working memory one tile may take, and what the base preset needs per pixel in float32 (540 measured, rounded up).
_MEMORY = {"cpu": 1.5e9, "cuda": 8.0e9, "mps": 2.0e9}
_BYTES_PER_PIXEL = 700.0
_SMALLEST_TILE = 128
# Side of the middle that is looked at before a photograph is taken to be rained on from the side, pixels, and the share
# of its parts (and of the photograph's) in which there must be rain.
_MIDDLE = 256
_MOST = 0.75
# Rain falls everywhere: what is seen in fewer than four of the 16 parts of a photograph is surf, a fence, a fountain.
_SOME = 0.2
# Rows that are worked on at once where a whole photograph would take too much memory.
_ROWS = 256


class Restorer:
    """One network on one device.

    The same input gives the same output in any order of calls and, for the U-shaped networks in float32 on a CPU, for
    any number of threads (tried with 1 to 4). Tiled and whole results differ by at most one grey level: channel
    attention reaches beyond a tile's context, faintly.

    Args:
        weights: which network.
        device: from `runtime.devices.choose_device`.
        dtype: from `runtime.precision.choose_precision`; other than float32 runs under autocast, the result is float32.
        tile: side of a tile's core in pixels (rounded up to a multiple of 32), 0 = never tile, None = from memory.

    Attributes:
        dry_threshold: estimated rain under which an image is returned unchanged, see `seems_dry`. Not 0, it also has
            images looked at lying on their side, if they seem dry or their streaks nearer to level than upright.
        rain_floor: estimated rain under which a pixel is, see `leave_dry_pixels`.
        tile: side of a tile's core in pixels, 0 = none. It is halved when memory runs out, and stays so.
        on_progress: called with the share (0..1) of the image that is done, for images in several tiles.
        on_smaller: called with the new side after an image has come through with smaller tiles than asked for.
    """

    def __init__(self, weights: Weights, device: torch.device, dtype: torch.dtype, tile: int | None = None) -> None:
        self.network = weights.build().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device, self.dtype = device, dtype
        self.dry_threshold, self.rain_floor = weights.dry_threshold, weights.rain_floor
        self.tile = self._auto_tile() if tile is None else 0 if tile == 0 else -(-tile // GRID) * GRID
        self.on_progress: Callable[[float], object] = lambda share: None
        self.on_smaller: Callable[[int], object] = lambda side: None

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """(H, W, 3) float32 RGB in [0, 1] -> the derained image, same shape, float32, clipped to [0, 1].

        Raises:
            ItemError: it does not fit in memory even in small tiles, or the network's numbers overflow.
        """
        restored = self._run(rgb)
        if self.dry_threshold:
            dry = seems_dry(rgb, restored, self.dry_threshold)
            sideways = self._sideways(rgb, restored) if dry or abs(streak_angle(rgb, restored)) > 45.0 else None
            if sideways is not None:
                restored = sideways
            elif dry:
                return rgb
        if self.rain_floor:
            leave_dry_pixels(rgb, restored, self.rain_floor)
        return np.clip(restored, 0.0, 1.0, out=restored)

    def _sideways(self, rgb: np.ndarray, upright: np.ndarray) -> np.ndarray | None:
        """The result for a photograph lying on its side; None if that shows no rain, or far less than the upright one.

        Less by a little says nothing: looked at upright, level lines of the scene may have gone with the rain.

        Networks learn from rain that falls, and leave streaks in that run nearly level: a storm, or a camera that was
        turned and did not say so. But pavement and water show level lines as well, seen at a slant. Rain is where they
        are not, too: it has to be in most parts of the picture, of its middle first, which costs little time.
        """
        longest = max(rgb.shape[:2])
        for side in dict.fromkeys((min(_MIDDLE, longest), longest)):  # of a small photograph the middle is all of it
            top, left = (max(0, length - side) // 2 for length in rgb.shape[:2])
            part = slice(top, top + side), slice(left, left + side)
            rainy = rgb[part]
            restored = np.ascontiguousarray(np.rot90(self._run(np.ascontiguousarray(np.rot90(rainy))), -1))
            if (
                rainy_share(rainy, restored, self.dry_threshold) < _MOST
                or rain_level(rainy, restored) < 0.5 * rain_level(rainy, upright[part])
            ):  # fmt: skip
                return None
        return restored

    def _run(self, rgb: np.ndarray) -> np.ndarray:
        """The network's result, not clipped, all finite."""
        result = self._in_memory(rgb)
        if not np.isfinite(result).all():  # written to a file they would be black
            raise ItemError(
                "the network gives values that are not finite",
                hint="`idsr models verify` looks at the weights" if self.dtype == torch.float32
                else "use --precision fp32",
            )  # fmt: skip
        return result

    def _in_memory(self, rgb: np.ndarray) -> np.ndarray:
        """Whole or in tiles, which shrink until they fit."""
        height, width = rgb.shape[:2]
        tile = self.tile if self.tile and max(height, width) > self.tile else 0
        fits = True
        while True:
            try:
                result = self._tiled(rgb, tile) if tile else self._patch(rgb)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                smaller = -(-(tile or max(height, width)) // (2 * GRID)) * GRID
                if smaller < _SMALLEST_TILE or smaller == tile:
                    raise ItemError("out of memory", hint="use a smaller --tile or --device cpu") from error
            else:
                if not fits:
                    self.on_smaller(tile)
                return result
            # Out here the error is forgotten, and with it what its frames kept of the failed attempt.
            fits, tile = False, smaller
            self.tile = smaller
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _tiled(self, rgb: np.ndarray, tile: int) -> np.ndarray:
        height, width = rgb.shape[:2]
        result = np.empty_like(rgb)
        corners = [(top, left) for top in range(0, height, tile) for left in range(0, width, tile)]
        for i, (top, left) in enumerate(corners):
            self.on_progress(i / len(corners))
            bottom, right = min(top + tile, height), min(left + tile, width)
            y, x = max(top - HALO, 0), max(left - HALO, 0)
            patch = self._patch(rgb[y : min(bottom + HALO, height), x : min(right + HALO, width)])
            result[top:bottom, left:right] = patch[top - y : bottom - y, left - x : right - x]
        return result

    def _patch(self, rgb: np.ndarray) -> np.ndarray:
        return run_network(self.network, rgb, self.device, self.dtype)

    def _auto_tile(self) -> int:
        budget = _MEMORY[self.device.type]
        if self.device.type == "cuda":
            budget = max(budget / 8, min(budget, 0.5 * torch.cuda.mem_get_info(self.device)[0]))
        # The released layout keeps up to 256 channels at full resolution.
        per_pixel = _BYTES_PER_PIXEL * (1 if self.network.multiple != 1 else 20)
        side = int((budget / per_pixel) ** 0.5) - 2 * HALO
        return max(_SMALLEST_TILE, side // GRID * GRID)


def run_network(
    network: nn.Module, rgb: np.ndarray, device: torch.device, dtype: torch.dtype = torch.float32
) -> np.ndarray:
    """One network on one (H, W, 3) array of any size, not clipped; mirrored to legal size at the right and bottom."""
    multiple: int = network.multiple  # type: ignore[assignment]
    height, width = rgb.shape[:2]
    rows = fold(np.arange(-(-height // multiple) * multiple), height)
    columns = fold(np.arange(-(-width // multiple) * multiple), width)
    padded = rgb if len(rows) == height and len(columns) == width else rgb[rows][:, columns]
    x = torch.from_numpy(np.ascontiguousarray(padded.transpose(2, 0, 1)))[None].to(device)
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        y = network(x)[0, :, :height, :width].float()
    return np.ascontiguousarray(y.permute(1, 2, 0).cpu().numpy())


def rain_level(rainy: np.ndarray, restored: np.ndarray) -> float:
    """How much rain a network saw: root mean square of what it removed, in grey levels (0..255)."""
    squares = (  # in bands, so that a large photograph needs no copy of twice its size
        np.sum((rainy[top : top + _ROWS].astype(np.float64) - restored[top : top + _ROWS]) ** 2)
        for top in range(0, len(rainy), _ROWS)
    )
    return 255.0 * math.sqrt(math.fsum(squares) / rainy.size)


def seems_dry(rainy: np.ndarray, restored: np.ndarray, threshold: float) -> bool:
    """Whether a network saw too little rain to be one: under `threshold` grey levels in all, or in a corner only."""
    return rain_level(rainy, restored) < threshold or rainy_share(rainy, restored, threshold) < _SOME


def streak_angle(rainy: np.ndarray, restored: np.ndarray) -> float:
    """Direction of what was removed, degrees from vertical (-90..90), positive = to the right at the bottom.

    As in `idsr rain`. By the structure tensor of the whole image; of streaks in several directions the strongest win.
    """
    grey = (rainy - restored).mean(2, dtype=np.float32)
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    # Gradients run across the streaks.
    xx, yy, xy = (float(np.mean(a * b)) for a, b in ((across, across), (down, down), (across, down)))
    return -math.degrees(0.5 * math.atan2(2.0 * xy, xx - yy))


def rainy_share(rainy: np.ndarray, restored: np.ndarray, level: float) -> float:
    """In which share (0..1) of 4x4 parts of an image `rain_level` reaches `level`; fewer parts if it is smaller."""
    found = [
        rain_level(part, restored_part) >= level
        for rows, restored_rows in zip(*(_split(a, 0) for a in (rainy, restored)), strict=True)
        for part, restored_part in zip(*(_split(a, 1) for a in (rows, restored_rows)), strict=True)
    ]
    return sum(found) / len(found)


def _split(array: np.ndarray, axis: int) -> list[np.ndarray]:
    return np.array_split(array, min(4, array.shape[axis]), axis)


def leave_dry_pixels(rainy: np.ndarray, restored: np.ndarray, floor: float) -> None:
    """Put back, in place, what a network changed where it saw next to no rain.

    Between streaks a network still moves each pixel a little, which costs descriptors and mends nothing: such pixels
    come back bit for bit. Rain of a pixel is the most that was removed from a channel of it or of its 8 neighbours;
    under `floor` it stays, from twice that on all of it goes, and between them a share that grows evenly.

    Args:
        rainy: (H, W, 3) float32 in [0, 1].
        restored: what a network made of it, (H, W, 3) float32; changed.
        floor: grey levels (0..255), positive.
    """
    height = len(rainy)
    removed = np.empty(rainy.shape[:2], np.float32)
    for top in range(0, height, _ROWS):  # in bands, so that a large photograph needs no second copy
        rows = slice(top, top + _ROWS)
        removed[rows] = np.abs(rainy[rows] - restored[rows]).max(2)
    around = cv2.dilate(removed, np.ones((3, 3), np.uint8))
    for top in range(0, height, _ROWS):
        rows = slice(top, top + _ROWS)
        kept = np.clip(2.0 - around[rows] * (255.0 / floor), 0.0, 1.0)[..., None]
        mixed = restored[rows] + kept * (rainy[rows] - restored[rows])
        restored[rows] = np.where(kept == 1.0, rainy[rows], mixed)
