"""CUDA graphs of a training step: its kernels are recorded once, then started all together.

A step of a small network is some thousand short kernels. Python starts them more slowly than a large card runs them.
See "CUDA graphs" in torch's documentation; everything recorded must have fixed shapes and never wait for the card.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from idsr_cli.scale_space import kept_operators
from idsr_cli.training.batches import Batch

# Computed so many times before it is recorded: libraries choose their kernels, and constants reach the card.
_RUNS_BEFORE = 3

# What else a step depends on.
_Variant = TypeVar("_Variant", bound=Hashable)


@dataclass(frozen=True)
class _Recorded:
    """One graph, with the memory it reads from and writes to.

    Attributes:
        graph: the kernels.
        batch: where it reads the samples.
        values: where it writes the values.
        kept: constants it reads, which may be dropped from their cache.
    """

    graph: torch.cuda.CUDAGraph
    batch: Batch
    values: dict[str, torch.Tensor]
    kept: list[torch.Tensor]


class StepGraphs(Generic[_Variant]):
    """Calls of a function on a card, as one graph for each shape of batch and variant of the step.

    Args:
        compute: batch and variant -> values by name, scalars on the card. It adds to the gradients that are in memory.
            It must not depend on anything but its arguments and tensors that are changed in place.
        device: the card.
        note: called with a message for the user if a recording fails.

    Attributes:
        failure: why a recording has failed, for example because a network waits for the card in its forward pass; None
            if none has. After a failure `compute` is called as it is.
    """

    def __init__(
        self,
        compute: Callable[[Batch, _Variant], dict[str, torch.Tensor]],
        device: torch.device,
        note: Callable[[str], object] = lambda text: None,
    ) -> None:
        self.compute, self.device, self.note = compute, device, note
        self.failure: str | None = None
        # Graphs run one after the other and values are read before the next, so they may share their memory.
        self._memory = torch.cuda.graph_pool_handle()
        self._runs: Counter[Hashable] = Counter()
        self._recorded: dict[Hashable, _Recorded] = {}
        self._stream = torch.cuda.Stream(device)

    def __call__(self, batch: Batch, variant: _Variant) -> dict[str, torch.Tensor]:
        """`compute(batch, variant)`. The values are overwritten by the next call."""
        key = (*(None if part is None else part.shape for part in batch.parts), variant)
        recorded = self._recorded.get(key) or self._record(key, batch, variant)
        if recorded is None:
            return self._computed(batch, variant)
        for into, part in zip(recorded.batch.parts, batch.parts, strict=True):
            if into is not None and part is not None:
                into.copy_(part, non_blocking=True)
        recorded.graph.replay()
        return recorded.values

    def _computed(self, batch: Batch, variant: _Variant) -> dict[str, torch.Tensor]:
        """As it is, in a stream of its own, as is prescribed before a recording."""
        current = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            values = self.compute(batch, variant)
        current.wait_stream(self._stream)
        return values

    def _record(self, key: Hashable, batch: Batch, variant: _Variant) -> _Recorded | None:
        """The new graph of `key`; None if it is too early for one, or a recording has failed."""
        self._runs[key] += 1
        if self.failure is not None or self._runs[key] <= _RUNS_BEFORE:
            return None
        own = Batch(*(None if part is None else part.clone() for part in batch.parts))  # type: ignore[arg-type]
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may go on: those that load batches take page-locked memory.
            with torch.cuda.graph(graph, pool=self._memory, stream=self._stream, capture_error_mode="thread_local"):
                values = self.compute(own, variant)
        except RuntimeError as error:
            self.failure = str(error) or type(error).__name__
            torch.cuda.synchronize(self.device)
            self._recorded.clear()  # their memory may be what was missing
            self.note(f"steps are not recorded as CUDA graphs, and take longer: {self.failure.splitlines()[0]}")
            return None
        self._recorded[key] = _Recorded(graph, own, values, kept_operators())
        return self._recorded[key]
