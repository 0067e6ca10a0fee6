"""Batches made by other processes are the same whatever their number, and a resumed training goes on with the next."""

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from idsr_cli.synthetic_rain import RainSynthesizer
from idsr_cli.training import workers
from idsr_cli.training.batches import BatchSource
from idsr_cli.training.loop import Trainer, TrainOptions, read_checkpoint
from idsr_cli.training.samples import SampleMaker
from idsr_cli.training.workers import StepBatches, default_workers, made_by_workers, step_generator

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _little_in_advance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that no test asks for are few."""
    monkeypatch.setattr(workers, "_READY", 1)


def source(real: bool = False) -> BatchSource:
    photos = list(torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(1), dtype=torch.uint8))
    return BatchSource(photos, (), SampleMaker(RainSynthesizer()), 32, real=photos if real else ())


def test_the_number_of_processes_changes_nothing() -> None:
    batches = StepBatches(source(real=True), 2, seed=3)
    here = [batches[step] for step in range(5, 8)]
    made = made_by_workers(batches, 5, 2, CPU)  # two take turns: the third batch is the first process's second
    for expected in here:
        batch = next(made)
        assert torch.equal(batch.rainy, expected.rainy)
        assert torch.equal(batch.clean, expected.clean)
        assert expected.real is not None
        assert batch.real is not None
        assert torch.equal(batch.real, expected.real)
    made.close()
    assert not torch.equal(here[0].clean, here[1].clean)


def test_every_step_and_process_draws_other_numbers() -> None:
    drawn = {
        float(torch.rand((), generator=step_generator(seed, rank, step)))
        for seed in (0, 1) for rank in (0, 1) for step in range(50)
    }  # fmt: skip
    assert len(drawn) == 200


def trainer(folder: Path, count: int) -> Trainer:
    options = TrainOptions(
        role="dprnet", layout="unet", config={"widths": (8,), "blocks": (1,), "unshuffle": 2, "attention": "spatial"},
        losses={"pixel": 1.0}, batch=1, patch=32, steps=3,
    )  # fmt: skip
    return Trainer(options, source(), CPU, folder, workers=count)


def test_a_training_with_workers_resumes_bit_exactly(tmp_path: Path) -> None:
    """With another number of them: one from begin to end, and one for the first step, two for the others."""
    whole = trainer(tmp_path / "whole", 1)
    assert whole.run()
    assert multiprocessing.active_children() == []
    part = trainer(tmp_path / "part", 1)
    part.run(listener=lambda progress: setattr(part, "stopping", True), report_every=1)
    assert part.step == 1
    again = trainer(tmp_path / "part", 2)
    again.load(read_checkpoint(tmp_path / "part" / "checkpoint.pt"))
    assert again.run()
    for a, b in zip(whole.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_card_gets_a_process_per_core_but_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    assert default_workers(CPU) == 0
    assert [default_workers(torch.device("cuda"), n) for n in (1, 2, 99)] == [15, 7, 1]
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda process: set(range(128)), raising=False)
    assert default_workers(torch.device("cuda")) == 24


AFTER_THREADS = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
import cv2, numpy as np, torch
from test_workers import CPU, source
from idsr_cli.training.workers import StepBatches, made_by_workers

cv2.setNumThreads(2)
torch.set_num_threads(2)
cv2.resize(np.zeros((2000, 2000, 3), np.uint8), (999, 999), interpolation=cv2.INTER_AREA)
torch.rand(300, 300) @ torch.rand(300, 300)
made = made_by_workers(StepBatches(source(), 8, 1), 0, 2, CPU)
print(len(next(made).rainy), cv2.getNumThreads())
made.close()
"""


def test_threads_that_are_there_before_do_not_stop_them() -> None:
    """A forked process has no threads of OpenCV's pool; it would wait for them for ever."""
    script = AFTER_THREADS.format(tests=str(Path(__file__).parent), root=str(Path(__file__).parents[2]))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert done.stdout.split() == ["8", "2"], done.stderr
