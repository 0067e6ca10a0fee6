"""Networks run by torch: the reference engine."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from idsr_cli.runtime.precision import precision_name

# Context around a tile's core, pixels. The U-shaped networks reach about 60 px through convolutions, and further
# through the local pooling of channel attention, fading: measured on the base weights, single pixels differ from the
# whole picture's by up to 2 grey levels with 96 px and by 0.5 with 128.
_HALO = 128
# Working memory one tile may take, and what the base preset needs per pixel in float32 (540 measured, rounded up).
_MEMORY = {"cpu": 1.5e9, "cuda": 8.0e9, "mps": 2.0e9}
_BYTES_PER_PIXEL = 700.0


class TorchRunner:
    """A `runtime.runner.Runner`. The network stays where it is and as it is, see `load` for one that is moved.

    Args:
        network: (B, 3, H, W) float32 -> the same, in evaluation mode, on `device`.
        device: where its weights are.
        dtype: other than float32 runs under autocast; the result is float32.
    """

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.network, self.device, self.dtype = network, device, dtype
        self.multiple: int = network.multiple  # type: ignore[assignment]
        self.halo = _HALO
        # The released layout keeps up to 256 channels at full resolution.
        self.bytes_per_pixel = _BYTES_PER_PIXEL * (1 if self.multiple != 1 else 20)
        self.precision = precision_name(dtype)

    def run(self, patch: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(np.ascontiguousarray(patch.transpose(2, 0, 1)))[None].to(self.device)
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            y = self.network(x)[0].float()
        return np.ascontiguousarray(y.permute(1, 2, 0).cpu().numpy())

    def memory(self) -> float:
        budget = _MEMORY[self.device.type]
        if self.device.type == "cuda":
            budget = max(budget / 8, min(budget, 0.5 * torch.cuda.mem_get_info(self.device)[0]))
        return budget

    def release(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def load(network: nn.Module, device: torch.device, dtype: torch.dtype) -> TorchRunner:
    """The network moved to the device, in the memory order that convolutions are quickest in."""
    moved = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return TorchRunner(moved, device, dtype)
