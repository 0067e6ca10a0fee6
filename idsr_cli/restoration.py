"""Photograph -> the same without rain, or word that there is none.

`RestorationOptions` says which networks are wanted and where; it pickles, and `build` loads them. The `Restorer` that
it builds turns photographs upright, runs the networks, tells dry photographs from rainy ones, and puts back the pixels
in which next to no rain was seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from idsr_cli.images.photo import Photo
    from idsr_cli.inference import TiledNetwork
    from idsr_cli.weights import Weights, WeightsPair

# Side of the centre crop that the rotated pass tries first, pixels, and the share of its parts (and of the
# photograph's) in which it must see rain.
_CENTRE = 256
_RAINY_PARTS = 0.75
# Rain falls everywhere: what is seen in fewer than 4 of the 16 parts of a photograph is surf, a fence, a fountain.
_FEWEST_PARTS = 0.2
# Rows that are worked on at once where a whole photograph would take too much memory.
_ROWS = 256


@dataclass(frozen=True, eq=False)
class Restored:
    """What one network made of a photograph.

    Attributes:
        rgb: (H, W, 3) float32 RGB in [0, 1]; the photograph's own pixels, bit for bit, if no rain was seen.
        rain_seen: whether the network saw rain and changed the photograph.
    """

    rgb: np.ndarray
    rain_seen: bool


@dataclass(frozen=True)
class RestorationOptions:
    """Which networks are wanted, and where they run. Can be pickled and sent to another process.

    Attributes:
        pair: the weights.
        roles: letters of the networks that will be asked for: "D" (DPRNet), "G" (GGIRNet) or "DG"; repeats are allowed.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: "auto", "fp32", "bf16" or "fp16".
        tile: side of a tile in pixels, 0 = never tile, None = from memory.
    """

    pair: WeightsPair
    roles: str
    device: str = "auto"
    precision: str = "auto"
    tile: int | None = None

    def build(self) -> Restorer:
        """Load the networks.

        Raises:
            WeightsError: a file is damaged or of an unknown layout.
            DeviceError: the device or precision is not available.
        """
        return Restorer(self)


class Restorer:
    """The networks that some options ask for, loaded. A network that plays both roles is loaded once and runs once.

    Args:
        options: which networks.
        load: makes one network of (weights, device, dtype, tile), as `load_network` does.

    Attributes:
        device: where the networks run.
        dtype: the numbers that they compute in.
        on_progress: called with the share (0..1) of a photograph that is done, for photographs in several tiles.
        on_smaller: called with the new side, pixels, when tiles had to be made smaller because memory ran out.
    """

    def __init__(
        self,
        options: RestorationOptions,
        load: Callable[[Weights, torch.device, torch.dtype, int | None], RainRemover] | None = None,
    ) -> None:
        from idsr_cli.runtime.devices import choose_device
        from idsr_cli.runtime.precision import choose_precision

        self.device: torch.device = choose_device(options.device)
        self.dtype: torch.dtype = choose_precision(options.precision, self.device)
        self.on_progress: Callable[[float], object] = lambda share: None
        self.on_smaller: Callable[[int], object] = lambda side: None
        members = {"D": options.pair.dprnet, "G": options.pair.ggirnet}
        # Each role, and the role whose network plays it.
        self._player: dict[str, str] = {}
        for role in dict.fromkeys(options.roles):
            same = (other for other in self._player if members[other].sha256 == members[role].sha256)
            self._player[role] = next(same, role)
        self._networks = {
            role: (load or load_network)(members[role], self.device, self.dtype, options.tile)
            for role in dict.fromkeys(self._player.values())
        }

    @property
    def precision(self) -> str:
        """Name of the numbers the networks compute in: "fp32", "bf16" or "fp16"."""
        from idsr_cli.runtime.precision import precision_name

        return precision_name(self.dtype)

    def restore(self, rgb: np.ndarray, roles: str) -> list[Restored]:
        """What the networks make of an image that is upright.

        Args:
            rgb: (H, W, 3) float32 RGB in [0, 1].
            roles: letters among those of the options, such as "D" or "DG".

        Returns:
            One result for each letter; letters of one network share one result.

        Raises:
            ItemError: out of memory, or a network gives numbers that are not finite.
        """
        players = self._players(roles)
        results = {}
        for i, player in enumerate(players):
            network = self._networks[player]
            network.on_progress = partial(self._tell, i, len(players))
            network.on_smaller = self._smaller
            results[player] = network(rgb)
        return [results[self._player[role]] for role in roles]

    def restore_photo(self, photo: Photo, roles: str) -> list[Restored]:
        """The same for a photograph, with results on its stored grid.

        The networks see it upright: rain falls down, and in the stored grid of a photograph taken with the camera on
        its side it runs across, which they were not trained on. Colours under full transparency are replaced by the
        nearest visible ones (`Photo.visible`).
        """
        from idsr_cli.images.photo import apply_orientation, undo_orientation

        players = self._players(roles)
        turned = np.ascontiguousarray(apply_orientation(photo.visible, photo.orientation))
        stored = {
            player: Restored(np.ascontiguousarray(undo_orientation(result.rgb, photo.orientation)), rain_seen=True)
            if result.rain_seen
            else Restored(photo.visible, rain_seen=False)
            for player, result in zip(players, self.restore(turned, "".join(players)), strict=True)
        }
        return [stored[self._player[role]] for role in roles]

    def _tell(self, network: int, networks: int, share: float) -> None:
        self.on_progress((network + share) / networks)

    def _players(self, roles: str) -> list[str]:
        """The networks that play these roles, each once."""
        return list(dict.fromkeys(self._player[role] for role in roles))

    def _smaller(self, side: int) -> None:
        """Memory has run out in one network: the others start with the smaller tiles too."""
        for network in self._networks.values():
            network.limit_tile(side)
        self.on_smaller(side)


def load_network(weights: Weights, device: torch.device, dtype: torch.dtype, tile: int | None = None) -> RainRemover:
    """One network of weights, on torch.

    Args:
        weights: which.
        device: from `runtime.devices.choose_device`.
        dtype: from `runtime.precision.choose_precision`.
        tile: side of a tile in pixels, 0 = never tile, None = from memory.

    Raises:
        WeightsError: the file is damaged or of an unknown layout.
    """
    from idsr_cli.inference import TiledNetwork
    from idsr_cli.runtime import torch_engine

    runner = torch_engine.load(weights.build(), weights.layout(), device, dtype)
    return RainRemover(TiledNetwork(runner, tile), weights.dry_threshold, weights.rain_floor)


class RainRemover:
    """One network, with what decides whether its result is taken.

    Args:
        network: runs on images of any size.
        dry_threshold: estimated rain, grey levels, below which an image counts as dry, see `seems_dry`. If above 0,
            images that seem dry, or whose streaks are nearer to level than to upright, are also tried rotated by
            90 degrees. 0 switches both off.
        rain_floor: estimated rain, grey levels, below which a pixel is left as it is, see `leave_dry_pixels`; 0 = none.
    """

    def __init__(self, network: TiledNetwork, dry_threshold: float = 0.0, rain_floor: float = 0.0) -> None:
        self.network = network
        self.dry_threshold, self.rain_floor = dry_threshold, rain_floor
        self.on_progress: Callable[[float], object] = lambda share: None
        self.on_smaller: Callable[[int], object] = lambda side: None
        # Looked up when called, so that whoever runs the network may set its listeners for each run.
        network.on_progress = lambda share: self.on_progress(share)
        network.on_smaller = lambda side: self.on_smaller(side)

    def __call__(self, rgb: np.ndarray) -> Restored:
        """(H, W, 3) float32 RGB in [0, 1], upright -> the derained image, same shape, float32, clipped to [0, 1].

        Raises:
            ItemError: it does not fit in memory even in small tiles, or the network's numbers overflow.
        """
        restored = self.network(rgb)
        if self.dry_threshold:
            dry = seems_dry(rgb, restored, self.dry_threshold)
            rotated = self._rotated(rgb, restored) if dry or abs(streak_angle(rgb, restored)) > 45.0 else None
            if rotated is not None:
                restored = rotated
            elif dry:
                return Restored(rgb, rain_seen=False)
        if self.rain_floor:
            leave_dry_pixels(rgb, restored, self.rain_floor)
        return Restored(np.clip(restored, 0.0, 1.0, out=restored), rain_seen=True)

    def limit_tile(self, side: int) -> None:
        """Use tiles of at most `side` pixels from now on."""
        self.network.tile = min(self.network.tile or side, side)

    def _rotated(self, rgb: np.ndarray, upright: np.ndarray) -> np.ndarray | None:
        """The network's result for the image rotated by 90 degrees; None if it is not taken.

        It is taken if the network sees rain in most parts of the rotated image, and at least half as much in all as in
        the upright one. A little less than upright says nothing: level lines of the scene may have gone with the rain.

        Networks learn from rain that falls, and leave streaks that run nearly level: a storm, or a camera that was
        turned and did not say so. Pavement and water seen at a slant show level lines as well, but not in most parts
        of a photograph. The centre is tried first, because it costs little time.
        """
        longest = max(rgb.shape[:2])
        for side in dict.fromkeys((min(_CENTRE, longest), longest)):  # the centre of a small photograph is all of it
            top, left = (max(0, length - side) // 2 for length in rgb.shape[:2])
            part = slice(top, top + side), slice(left, left + side)
            rainy = rgb[part]
            restored = np.ascontiguousarray(np.rot90(self.network(np.ascontiguousarray(np.rot90(rainy))), -1))
            if (
                rainy_share(rainy, restored, self.dry_threshold) < _RAINY_PARTS
                or rain_level(rainy, restored) < 0.5 * rain_level(rainy, upright[part])
            ):  # fmt: skip
                return None
        return restored


def rain_level(rainy: np.ndarray, restored: np.ndarray) -> float:
    """How much rain a network saw: root mean square of what it removed, in grey levels (0..255)."""
    squares = (  # in bands, so that a large photograph needs no copy of twice its size
        np.sum((rainy[top : top + _ROWS].astype(np.float64) - restored[top : top + _ROWS]) ** 2)
        for top in range(0, len(rainy), _ROWS)
    )
    return 255.0 * math.sqrt(math.fsum(squares) / rainy.size)


def seems_dry(rainy: np.ndarray, restored: np.ndarray, threshold: float) -> bool:
    """True if the image counts as dry.

    Its RMS change is below `threshold` grey levels, or reaches that in fewer than 4 of its 16 parts.
    """
    return rain_level(rainy, restored) < threshold or rainy_share(rainy, restored, threshold) < _FEWEST_PARTS


def streak_angle(rainy: np.ndarray, restored: np.ndarray) -> float:
    """Direction of what was removed, degrees from vertical (-90..90), positive = to the right at the bottom.

    As in `idsr rain`. By the structure tensor of the whole image; of streaks in several directions the strongest win.
    """
    import cv2

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
    below `floor` the pixel is put back whole, from twice that on not at all, and between them by a share that falls
    evenly.

    Args:
        rainy: (H, W, 3) float32 in [0, 1].
        restored: what a network made of it, (H, W, 3) float32; changed.
        floor: grey levels (0..255), positive.
    """
    import cv2

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
