"""Batches made by other processes, so that a fast card need not wait for rain to be drawn.

Drawing the rain of one sample of 128x128 pixels takes a CPU core some 6 ms, which is longer than a large card takes to
train on it.
"""

from __future__ import annotations

import itertools
import os
import signal
import warnings
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from idsr_cli.runtime.threads import use_threads
from idsr_cli.training.batches import Batch, BatchSource

# Batches that each process keeps ready.
_READY = 4
# More processes than this are no faster with any card that we know.
_MOST_WORKERS = 24


def default_workers(device: torch.device, processes: int = 1) -> int:
    """On CUDA one process per core, but one, divided among the `processes` of the training; 0 on other devices."""
    if device.type != "cuda":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MOST_WORKERS, max(1, (cores - 1) // processes))


def step_generator(seed: int, rank: int, step: int) -> torch.Generator:
    """The CPU generator of one step's batch; different for each step and each process of the training."""
    state = np.random.SeedSequence((seed, rank, step)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)


@dataclass
class StepBatches(Dataset[Batch]):
    """Number of a step -> its batch on the CPU, whichever process makes it.

    Attributes:
        source: where samples come from, on the CPU.
        count: samples per batch.
        seed, rank: of the training, and of its process under `torchrun`.
    """

    source: BatchSource
    count: int
    seed: int
    rank: int = 0

    def __getitem__(self, step: int) -> Batch:
        generator = step_generator(self.seed, self.rank, step)
        return self.source(self.count, generator, generator)


def made_by_workers(batches: StepBatches, first: int, workers: int, device: torch.device) -> Generator[Batch]:
    """The batches of step `first`, `first` + 1, and so on without end, made by `workers` processes, on `device`.

    They do not depend on the number of processes. Close the iterator to end these.
    """
    cuda = device.type == "cuda"
    # Forked processes share the photographs in memory with this one. Where that is not possible each has a copy.
    context = "fork" if hasattr(os, "fork") and os.uname().sysname == "Linux" else "spawn"
    loader = DataLoader(
        batches, batch_size=None, sampler=itertools.count(first), num_workers=workers, prefetch_factor=_READY,
        pin_memory=cuda, multiprocessing_context=context, worker_init_fn=_begin,
    )  # fmt: skip
    with warnings.catch_warnings():
        # A forked process uses none of this one's threads: torch and OpenCV compute with one thread there.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        made = iter(loader)
    try:
        for batch in made:
            yield batch.to(device)
    finally:
        del made


def _begin(number: int) -> None:
    """In a new process: one thread, and the training's own process alone answers Ctrl-C."""
    use_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
