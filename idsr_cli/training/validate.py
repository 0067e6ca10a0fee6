"""Validation during training: recovered keypoints of the network alone (its image both detects and describes).

Large photographs are restored in tiles, as `idsr derain` does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


class Validation:
    """Mean `true` recovered keypoints on pairs that are kept in memory, in all and per group of pairs.

    Scores are {"true": mean over groups, "true:NAME": mean over the group, ...}; with one group only the first.

    Args:
        groups: named sets of pairs, for example light and heavy rain; read once.
        layout: the record of the networks to score.
        device: where they are.

    Attributes:
        rainy: scores of the rainy photographs as they are.
    """

    def __init__(self, groups: Mapping[str, Sequence[Pair]], layout: Layout, device: torch.device) -> None:
        self._groups, self._layout, self._device = groups, layout, device
        images = {name: [pair.read() for pair in pairs] for name, pairs in groups.items()}
        self._images = {name: [x for x, _ in read] for name, read in images.items()}
        self._clean = {name: [sift(grey_image(y)) for _, y in read] for name, read in images.items()}
        self.rainy = self._scores(self._images)

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """The scores of a network.

        Raises:
            UsageError: there is not enough memory even for small tiles, or a result is not finite.
        """
        tiled = TiledNetwork(TorchRunner(network, self._layout, self._device))
        return self._scores(
            {
                name: [_restored(tiled, pair, x) for pair, x in zip(self._groups[name], rainy, strict=True)]
                for name, rainy in self._images.items()
            }
        )

    def _scores(self, images: Mapping[str, Sequence[np.ndarray]]) -> dict[str, float]:
        scores = {}
        for name, clean in self._clean.items():
            found = [sift(grey_image(np.clip(y, 0, 1))) for y in images[name]]
            true = [recovered_keypoints(f, c).true for f, c in zip(found, clean, strict=True)]
            scores[f"true:{name}"] = float(np.mean(true))
        return {"true": float(np.mean(list(scores.values()))), **(scores if len(scores) > 1 else {})}


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
