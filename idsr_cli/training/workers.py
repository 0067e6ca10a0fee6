"""Batches made by other processes, so that a fast card need not wait for rain to be drawn.

Drawing the rain of one sample of 128x128 pixels takes a CPU core some 6 ms, which is longer than a large card takes to
train on it.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import warnings
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

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
    # Forked processes share the photographs in memory with this one. Where that is not possible each has a copy.
    context = "fork" if sys.platform.startswith("linux") else "spawn"
    loader = DataLoader(
        batches, batch_size=None, sampler=itertools.count(first), num_workers=workers, prefetch_factor=_READY,
        pin_memory=device.type == "cuda", multiprocessing_context=context, worker_init_fn=_begin,
    )  # fmt: skip
    for batch in _started(loader):
        yield batch.to(device)


def _started(loader: DataLoader[Batch]) -> Iterator[Batch]:
    """The batches of a loader whose processes have begun."""
    import cv2

    # A forked process has none of this one's threads. torch computes with one thread there; OpenCV would wait for ever
    # for the threads of its pool, so the pool is ended first.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            return iter(loader)
    finally:
        cv2.setNumThreads(threads)


def _begin(number: int) -> None:
    """In a new process: the training's own process alone answers Ctrl-C."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if cv2.getNumThreads() != 1:  # not forked
        cv2.setNumThreads(1)
