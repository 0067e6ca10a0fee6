"""Networks run by torch: the reference engine."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from idsr_cli.networks.layout import Layout
from idsr_cli.place import Place

# Name of a precision -> torch's type.
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Working memory that one tile may take, bytes.
_MEMORY = {"cpu": 1.5e9, "cuda": 8.0e9, "mps": 2.0e9}


class TorchRunner:
    """A `runtime.runner.Runner` for a network that already is on its device; `load` moves it there.

    Args:
        network: in evaluation mode, on `device`: (B, 3, H, W) float32, and the place if the layout is `placed` -> the
            image of that shape, or several outputs.
        layout: the network's record.
        device: where the network's weights are.
        dtype: other than float32 runs under autocast; the result is float32.
    """

    engine = "torch"

    def __init__(
        self, network: nn.Module, layout: Layout, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        self.network, self.device, self.dtype = network, device, dtype
        self.multiple, self.halo, self.bytes_per_pixel = layout.multiple, layout.halo, layout.bytes_per_pixel
        self._image_of, self._placed = layout.image_of, layout.placed
        self.precision = next(name for name, kind in DTYPES.items() if kind == dtype)
        self.remark = ""

    def run(self, patch: np.ndarray, place: Place | None = None) -> np.ndarray:
        x = torch.from_numpy(np.ascontiguousarray(patch.transpose(2, 0, 1)))[None].to(self.device)
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            y = self._image_of(self.network(x, place) if self._placed else self.network(x))[0].float()
        return np.ascontiguousarray(y.permute(1, 2, 0).cpu().numpy())

    def memory(self) -> float:
        budget = _MEMORY[self.device.type]
        if self.device.type == "cuda":
            budget = max(budget / 8, min(budget, 0.5 * torch.cuda.mem_get_info(self.device)[0]))
        return budget

    def release(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def load(network: nn.Module, layout: Layout, device: torch.device, dtype: torch.dtype) -> TorchRunner:
    """Move the network to the device, in channels-last memory order, in which convolutions are fastest."""
    moved = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return TorchRunner(moved, layout, device, dtype)
