"""Validation during training: recovered keypoints of the network alone (its image both detects and describes).

Large photographs are restored in tiles, as `idsr derain` does it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from idsr_cli.errors import ItemError, UsageError
from idsr_cli.evaluation.metrics import recovered_keypoints
from idsr_cli.features import sift
from idsr_cli.files.faults import is_out_of_memory
from idsr_cli.images.pairs import Pair
from idsr_cli.inference import TiledNetwork
from idsr_cli.networks.layout import Layout
from idsr_cli.runtime.torch_engine import TorchRunner
from idsr_cli.scale_space import grey_image


def make_validator(
    groups: Mapping[str, Sequence[Pair]], layout: Layout, device: torch.device
) -> Callable[[nn.Module], dict[str, float]]:
    """A function that computes a network's mean `true` recovered keypoints, in all and per group of pairs.

    Args:
        groups: named sets of pairs, for example light and heavy rain. Read once and kept in memory.
        layout: the network's record.
        device: where the network is.

    Returns:
        validate(network) -> {"true": mean over groups, "true:NAME": mean over the group, ...}.
    """
    loaded = {name: [pair.read() for pair in pairs] for name, pairs in groups.items()}
    clean = {name: [sift(grey_image(y)) for _, y in images] for name, images in loaded.items()}

    def validate(network: nn.Module) -> dict[str, float]:
        scores = {}
        tiled = TiledNetwork(TorchRunner(network, layout, device))
        for name, images in loaded.items():
            restored = [_restored(tiled, pair, x) for pair, (x, _) in zip(groups[name], images, strict=True)]
            found = [sift(grey_image(np.clip(y, 0, 1))) for y in restored]
            true = [recovered_keypoints(f, c).true for f, c in zip(found, clean[name], strict=True)]
            scores[f"true:{name}"] = float(np.mean(true))
        return {"true": float(np.mean(list(scores.values()))), **(scores if len(scores) > 1 else {})}

    return validate


def _restored(network: TiledNetwork, pair: Pair, rainy: np.ndarray) -> np.ndarray:
    """The network's result, (H, W, 3) float32.

    Raises:
        UsageError: there is not enough memory even for small tiles, or the result is not finite.
    """
    try:
        return network(rainy)
    except ItemError as error:
        if error.__cause__ is None or not is_out_of_memory(error.__cause__):
            raise UsageError(f"in validation {error.reason}", path=pair.rainy, hint="try a lower --rate") from error
        hint = "a smaller --batch or --patch leaves more for it; or validate on smaller photographs, or none"
        raise UsageError("out of memory in validation", path=pair.rainy, hint=hint) from error
