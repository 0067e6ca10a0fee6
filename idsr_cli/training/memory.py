"""Photographs, pairs and streak layers as uint8 tensors in memory, on the training device when they fit there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from idsr_cli.errors import ItemError, PairingError
from idsr_cli.images.pairs import Pair
from idsr_cli.images.photo import read_photo

# Share of the card's free memory that resident images may take; the rest is for the network and its gradients.
_SHARE = 0.4


def _bytes(image: np.ndarray) -> torch.Tensor:
    """(H, W, 3) float [0, 1] -> (3, H, W) uint8."""
    return torch.from_numpy(np.rint(image * 255.0).astype(np.uint8)).permute(2, 0, 1).contiguous()


def load_photos(paths: Iterable[Path], skipped: Callable[[ItemError], None]) -> list[torch.Tensor]:
    """Clean photographs, (3, H, W) uint8; unreadable ones are reported through `skipped` and left out."""
    photos = []
    for path in paths:
        try:
            photos.append(_bytes(read_photo(path).oriented_rgb))
        except ItemError as error:
            skipped(error)
    return photos


def load_pairs(pairs: Iterable[Pair], skipped: Callable[[ItemError], None]) -> list[torch.Tensor]:
    """Pairs, (6, H, W) uint8 (rainy, clean); unreadable ones are reported and left out.

    Raises:
        PairingError: the two photographs of a pair differ in size.
    """
    loaded = []
    for pair in pairs:
        try:
            rainy, clean = pair.read()
        except PairingError:
            raise
        except ItemError as error:
            skipped(error)
            continue
        loaded.append(torch.cat((_bytes(rainy), _bytes(clean))))
    return loaded


def load_layers(paths: Iterable[Path], skipped: Callable[[ItemError], None]) -> list[torch.Tensor]:
    """Measured streak layers as their mean over RGB, (H, W) uint8."""
    return [photo.float().mean(0).round().byte() for photo in load_photos(paths, skipped)]


def resident(groups: Sequence[list[torch.Tensor]], device: torch.device) -> bool:
    """Move all tensors of all lists to a CUDA device, in place, if they fit beside the network; False if they do not.

    For other devices the tensors stay in main memory, and the result is True.
    """
    if device.type != "cuda":
        return True
    size = sum(tensor.numel() for group in groups for tensor in group)
    if size > _SHARE * torch.cuda.mem_get_info(device)[0]:
        return False
    for group in groups:
        group[:] = [tensor.to(device) for tensor in group]
    return True
