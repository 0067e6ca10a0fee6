"""Networks run by torch: the reference engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from torch import nn

from idsr_cli.networks.layout import Layout
from idsr_cli.place import Place
from idsr_cli.runtime.allocator import return_memory

# Name of a precision -> torch's type.
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Working memory that one tile may take, bytes.
_MEMORY = {"cpu": 1.5e9, "cuda": 8.0e9, "mps": 2.0e9}
# Patches from this many pixels on take long enough to tell how far they are, and memory that is worth saving.
_LARGE = 1 << 20
# Side of the patch that shows how much work a pixel is, and the share of the work after which progress is told again.
_PROBE, _STEP = 64, 0.01


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
        self.on_progress: Callable[[float], object] = lambda share: None
        self._work_per_pixel = 0.0

    def run(self, patch: np.ndarray, place: Place | None = None) -> np.ndarray:
        if self.device.type == "cpu" and patch.shape[0] * patch.shape[1] >= _LARGE:
            return_memory()
        x = torch.from_numpy(np.ascontiguousarray(patch))[None].permute(0, 3, 1, 2).to(self.device)
        progress = self._progress_told(patch.shape[0] * patch.shape[1])
        autocast = torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
        with torch.inference_mode(), autocast, progress:
            y = self._image_of(self.network(x, place) if self._placed else self.network(x))[0].float()
        return np.ascontiguousarray(y.permute(1, 2, 0).cpu().numpy())

    def _progress_told(self, pixels: int) -> AbstractContextManager[None]:
        """A context in which `on_progress` hears of a patch of so many pixels."""
        if pixels < _LARGE:
            return nullcontext()
        if not self._work_per_pixel:
            side = -(-_PROBE // self.multiple) * self.multiple
            work: list[float] = []
            with _work_told(self.network, work.append):
                self.run(np.zeros((side, side, 3), np.float32))
            self._work_per_pixel = max(work, default=1.0) / side**2
        told = 0.0

        def tell(work: float) -> None:
            nonlocal told
            share = min(1.0, work / (self._work_per_pixel * pixels))
            if share >= told + _STEP:
                told = share
                self.on_progress(share)

        return _work_told(self.network, tell)

    def memory(self, pixels: int) -> float:
        budget = _MEMORY[self.device.type]
        if self.device.type == "cuda":
            budget = max(budget / 8, min(budget, 0.5 * torch.cuda.mem_get_info(self.device)[0]))
        return budget

    def release(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


@contextmanager
def _work_told(network: nn.Module, tell: Callable[[float], object]) -> Iterator[None]:
    """`tell` hears the multiplications of all convolutions so far, after each."""
    done = 0.0

    def count(module: nn.Conv2d, inputs: object, output: torch.Tensor) -> None:
        nonlocal done
        done += output.numel() * module.weight[0].numel()
        tell(done)

    hooks = [part.register_forward_hook(count) for part in network.modules() if isinstance(part, nn.Conv2d)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def load(network: nn.Module, layout: Layout, device: torch.device, dtype: torch.dtype) -> TorchRunner:
    """Move the network to the device, in channels-last memory order, in which convolutions are fastest."""
    moved = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return TorchRunner(moved, layout, device, dtype)
