"""Validation restores large photographs in tiles; memory that runs out is told in the words of `train`."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from idsr_cli.errors import UsageError
from idsr_cli.images.pairs import Pair
from idsr_cli.networks import RainUNet
from idsr_cli.networks.layouts import LAYOUTS
from idsr_cli.runtime.torch_engine import TorchRunner
from idsr_cli.training.validate import Validation

CPU = torch.device("cpu")


@pytest.fixture
def groups(tmp_path: Path) -> dict[str, list[Pair]]:
    import cv2

    noise = np.random.default_rng(0).uniform(0, 255, (300, 420, 3)).astype(np.float32)
    clean = np.clip((cv2.GaussianBlur(noise, (0, 0), 3) - 127) * 9 + 127, 0, 255).astype(np.uint8)
    Image.fromarray(clean).save(tmp_path / "clean.png")
    Image.fromarray(clean // 2 + 60).save(tmp_path / "rainy.png")
    return {"one": [Pair(tmp_path / "rainy.png", tmp_path / "clean.png")]}


def network() -> RainUNet:
    torch.manual_seed(0)
    return RainUNet(widths=[4, 8], blocks=[1, 1, 1], unshuffle=2, attention="spatial").eval()


def test_large_photographs_are_restored_in_tiles(groups, monkeypatch) -> None:
    layout = replace(LAYOUTS["unet"], halo=16)  # with its own, these photographs are too small to be cut
    whole = Validation(groups, layout, CPU)(network())
    sizes = []
    run = TorchRunner.run

    def watched(self: TorchRunner, patch: np.ndarray, place: object = None) -> np.ndarray:
        sizes.append(patch.shape[:2])
        return run(self, patch)

    monkeypatch.setattr(TorchRunner, "memory", lambda self, pixels: 0.0)
    monkeypatch.setattr(TorchRunner, "run", watched)
    tiled = Validation(groups, layout, CPU)(network())
    assert len(sizes) > 4
    assert max(height * width for height, width in sizes) < 300 * 420
    assert tiled["true"] == pytest.approx(whole["true"], rel=0.05)
    assert whole["true"] > 10


def test_memory_that_runs_out(groups, monkeypatch) -> None:
    def full(self: TorchRunner, patch: np.ndarray, place: object = None) -> np.ndarray:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(TorchRunner, "run", full)
    validate = Validation(groups, LAYOUTS["unet"], CPU)
    with pytest.raises(UsageError, match="out of memory in validation") as caught:
        validate(network())
    assert caught.value.path == str(groups["one"][0].rainy)
    assert "--tile" not in str(caught.value)
    assert "--batch" in caught.value.hint
