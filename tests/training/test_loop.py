"""Training resumes bit-exactly wherever it was stopped; two processes train one network; another one may teach it."""

import itertools
import json
import math
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from idsr_cli import networks
from idsr_cli.errors import UsageError, WeightsError
from idsr_cli.evaluation.curves import draw_log
from idsr_cli.networks.layout import Layout
from idsr_cli.networks.layouts import LAYOUTS
from idsr_cli.synthetic_rain import RainOptions, RainSynthesizer
from idsr_cli.training.batches import BatchSource
from idsr_cli.training.loop import Trainer, TrainOptions, fast_rate, make_optimizer, paper_rate, read_checkpoint
from idsr_cli.training.losses import total_loss
from idsr_cli.training.objectives import TeacherView, teacher_result
from idsr_cli.training.samples import SampleMaker, SampleOptions
from idsr_cli.weights import find_weights

CONFIG = {"widths": (8, 12), "blocks": (1, 1, 1), "unshuffle": 2, "attention": "gradient"}


def photos(count: int = 3, size: int = 80) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    small = torch.randint(0, 256, (count, 3, 10, 10), generator=generator, dtype=torch.uint8)
    return list(torch.nn.functional.interpolate(small.float(), (size, size), mode="bilinear").byte())


def trainer(folder: Path, teacher: torch.nn.Module | None = None, **changes: object) -> Trainer:
    settings = {
        "role": "ggirnet", "layout": "unet", "config": CONFIG, "losses": {"pixel": 0.2, "gradient": 1.0}, "batch": 2,
        "patch": 64, "steps": 12, "teacher": None if teacher is None else "1" * 64, **changes,
    }  # fmt: skip
    options = TrainOptions(**settings)  # type: ignore[arg-type]
    real = photos(2) if {"distil", "matching"} & set(options.losses) else ()
    source = BatchSource(photos(), (), SampleMaker(RainSynthesizer()), 64, real=real)
    return Trainer(options, source, torch.device("cpu"), folder, teacher=teacher)


class Dimmer(torch.nn.Module):
    """Takes a twentieth off every pixel, where a new network takes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.share = torch.nn.Parameter(torch.tensor(0.05))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - self.share * x


DISTIL = {"losses": {"pixel": 0.2, "gradient": 1.0, "distil": 0.5}}
QSNET = {
    "role": "both", "layout": "qsnet", "config": {"width": 3, "units": 1}, "objective": "auxiliary", "recipe": "qsnet",
    "losses": {**networks.LAYOUTS["qsnet"].losses, "matching": 1.0}, "epoch": 2, "rate": 1e-3, "clip": 0.0,
}  # fmt: skip


TAUGHT = {**DISTIL, "teacher": Dimmer().requires_grad_(False)}


@pytest.mark.parametrize("changes", [{"precision": "fp32"}, {"precision": "bf16"}, DISTIL, TAUGHT, QSNET])
def test_resume_is_bit_exact(tmp_path: Path, changes: dict[str, Any]) -> None:
    whole = trainer(tmp_path / "whole", **changes)
    assert whole.run()
    part = trainer(tmp_path / "part", **changes)
    for _ in range(5):
        part._one_step()
    part.save()
    again = trainer(tmp_path / "part", **changes)
    again.load(read_checkpoint(tmp_path / "part" / "checkpoint.pt"))
    assert again.step == 5
    assert again.run()
    for name in ("network", "average"):
        a, b = getattr(whole, name).state_dict(), getattr(again, name).state_dict()
        assert all(torch.equal(a[key], b[key]) for key in a)
    last = whole.network.decoder[-1] if whole.options.layout == "qsnet" else whole.network.tail
    assert not torch.equal(last.weight, torch.zeros_like(last.weight))


def test_a_validation_that_fails_costs_nothing(tmp_path: Path) -> None:
    run = trainer(tmp_path, steps=4)
    run.validate = lambda network: {"true": 1.0 // (2 - run.step)}
    with pytest.raises(ZeroDivisionError):
        run.run(validate_every=0.5)
    assert read_checkpoint(tmp_path / "checkpoint.pt")["counters"]["step"] == 2
    scores = iter((3.0, 2.0))
    again = trainer(tmp_path, steps=4)
    again.load(read_checkpoint(tmp_path / "checkpoint.pt"))
    again.validate = lambda network: {"true": next(scores)}
    assert again.run(validate_every=0.25)
    assert read_checkpoint(tmp_path / "checkpoint.pt")["counters"]["best"] == 3.0


def test_the_best_weights_are_never_worse_than_the_start(tmp_path: Path) -> None:
    """The start is scored before the first step, told beside every later score, and remembered by a resumed run."""
    rainy, scores, heard = {"true": 2.0}, iter((9.0, 4.0, 7.0, 8.0, 3.0)), []

    def run(steps: int, rainy: dict[str, float]) -> Trainer:
        made = trainer(tmp_path, steps=steps)
        made.validate, made.baselines = lambda network: {"true": next(scores)}, {"rainy": rainy}
        if steps > 4:
            made.load(read_checkpoint(tmp_path / "checkpoint.pt"))
        assert made.run(validate_every=0.5, listener=heard.append)
        return made

    before = trainer(tmp_path).average.state_dict()
    first = run(4, rainy)
    best = find_weights(str(tmp_path / "best.safetensors")).ggirnet.tensors()
    assert all(torch.equal(best[name], value) for name, value in before.items())
    assert (first.best, first.best_step) == (9.0, 0)
    second = run(5, rainy)
    assert (second.best, second.best_step) == (9.0, 0)
    told = [(p.step, p.validation["true"], p.baselines) for p in heard if p.validation]
    beside = {"rainy": rainy, "initial": {"true": 9.0}}
    assert told == [(0, 9.0, beside), (2, 4.0, beside), (4, 7.0, beside), (5, 8.0, beside)]
    third = run(6, {"true": 1.0})  # scores on other pairs cannot be compared
    assert (third.best, third.best_step, third.baselines) == (3.0, 6, {"rainy": {"true": 1.0}})


def test_no_score_is_told_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose time ends during a validation does not score the same weights again."""
    now = [0.0]
    monkeypatch.setattr("idsr_cli.training.loop.time", SimpleNamespace(monotonic=lambda: now[0]))

    def validate(network: torch.nn.Module) -> dict[str, float]:
        now[0] += 10.0
        return {"true": now[0]}

    run, heard = trainer(tmp_path, steps=4), []
    run.validate = validate
    assert not run.run(time_limit=15.0, validate_every=0.5, listener=heard.append)
    assert [(p.step, p.validation) for p in heard] == [(0, {"true": 10.0}), (2, {"true": 20.0})]
    assert read_checkpoint(tmp_path / "checkpoint.pt")["counters"] == {
        "step": 2, "seconds": 20.0, "best": 20.0, "best_step": 2,
    }  # fmt: skip


def test_an_overflow_is_passed_over_and_many_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from idsr_cli.training import objectives

    right, bad = objectives.total_loss, {1, 2}
    calls = itertools.count()

    def sometimes(*arguments: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss, terms = right(*arguments)
        return (loss * math.nan if next(calls) in bad else loss), terms

    monkeypatch.setattr(objectives, "total_loss", sometimes)
    run = trainer(tmp_path, steps=4)
    assert run.run()
    assert next(calls) == 6
    assert all(torch.isfinite(p).all() for p in run.network.parameters())
    bad.update(range(8, 100))
    on = trainer(tmp_path, steps=9)
    on.load(read_checkpoint(tmp_path / "checkpoint.pt"))
    with pytest.raises(UsageError, match="not finite, 20 steps in a row from step 5 on"):
        on.run()
    left = read_checkpoint(tmp_path / "checkpoint.pt")["network"]
    assert all(torch.isfinite(value).all() for value in left.values())


def test_checkpoints_come_between_validations_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("idsr_cli.training.loop.SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    run = trainer(tmp_path, steps=3)
    saved = []
    monkeypatch.setattr(run, "save", lambda: saved.append(run.step))
    run.run(validate_every=1.0)
    assert saved == [1, 2, 3]


def test_matching_begins_after_a_warm_up_and_draws_the_same_samples(tmp_path: Path) -> None:
    """With weight 0 everything is the same up to a tenth of the schedule, so that weights can be compared."""
    with_it, without = (
        trainer(tmp_path / str(w), steps=20, losses={"pixel": 1.0, "matching": w}) for w in (1.0, 0.0)
    )  # fmt: skip
    for step in range(4):
        terms, others = with_it._one_step(), without._one_step()
        assert ("matching" in terms, "matching" in others) == (step >= 2, False)
        equal = torch.equal(with_it.network.tail.bias, without.network.tail.bias)
        first = with_it.network.head.weight, without.network.head.weight
        assert (equal and torch.equal(*first)) == (step < 2)
        assert terms["pixel"] == pytest.approx(others["pixel"], rel=0.0 if step < 2 else 0.2)
    assert terms["matching-spread"] > 0.0
    assert torch.equal(with_it.generator.get_state(), without.generator.get_state())


def test_matching_brings_the_features_together(tmp_path: Path) -> None:
    run = trainer(tmp_path, steps=90, rate=3e-3, recipe="constant", losses={"pixel": 1e-3, "matching": 1.0}, batch=4)
    batch = run.source(4, *[torch.Generator().manual_seed(0)] * 2)
    run.source = lambda *_: batch  # type: ignore[assignment]  # some samples are harder to match than others
    steps = [run._one_step() for _ in range(90)]
    found = [terms for terms in steps if "matching" in terms]
    first, last = (sum(terms["matching"] for terms in part) for part in (found[:10], found[-10:]))
    assert last < 0.4 * first
    assert found[-1]["matching-spread"] > 0.3 * found[0]["matching-spread"]  # not by shrinking them


def test_a_plateau_lowers_the_rate(tmp_path: Path) -> None:
    """After an epoch that is best, six that are not: the sixth is one more than the patience of five."""
    run = trainer(tmp_path, **{**QSNET, "rate": 0.0, "steps": 40})
    run.optimizer.param_groups[0]["lr"] = 1e-3
    losses = iter([0.5, 0.5, *[0.9, 0.2] * 6, 0.1, 0.1])
    rates = []
    for step, loss in enumerate(losses, 1):
        run.step = step
        run._watch(loss)
        rates.append(run.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-3] * 13 + [1e-4] * 3)


def test_the_average_has_the_statistics_of_batches(tmp_path: Path) -> None:
    run = trainer(tmp_path, **QSNET)
    for _ in range(3):
        run._one_step()
    for name, mean in run.average.named_buffers():
        value = run.network.get_buffer(name)
        assert not torch.equal(mean, torch.zeros_like(mean) if "mean" in name else torch.ones_like(mean))
        assert torch.equal(mean, value) if "num_batches" in name else (mean - value).abs().max() < 0.5


def test_time_limit_stops_and_the_rest_follows(tmp_path: Path) -> None:
    first = trainer(tmp_path, steps=3)
    assert not first.run(time_limit=0.0)
    assert read_checkpoint(tmp_path / "checkpoint.pt")["counters"]["step"] == 0
    second = trainer(tmp_path, steps=3)
    second.load(read_checkpoint(tmp_path / "checkpoint.pt"))
    assert second.run()


def test_loss_goes_down_and_the_log_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("idsr_cli.training.loop.SECONDS_BETWEEN_REPORTS", math.inf)  # however busy the machine is
    scores = iter(range(100))
    run = trainer(tmp_path, steps=60, rate=3e-3)
    run.validate = lambda network: {"true": float(next(scores))}
    # Rain that can be learnt in 60 steps: the same light everywhere. It is scored on the same samples before and after.
    light = [[torch.full((90, 90), 60, dtype=torch.uint8)]]
    even = RainOptions(procedural=0, second=0, turn=0, reduced=0, occlude=0, screen=0, measured_added=0, veil=0)
    nothing_else = SampleOptions(**dict.fromkeys(SampleOptions.__dataclass_fields__, 0.0))
    run.source = BatchSource(photos(), (), SampleMaker(RainSynthesizer(light, even), nothing_else), 64)
    batch = run.source(24, *[torch.Generator().manual_seed(5)] * 2)

    def loss() -> float:
        with torch.no_grad():
            return total_loss(run.network(batch.rainy), batch.clean, run.options.losses, run.options.octaves)[0].item()

    before = loss()
    heard = []
    run.run(report_every=10, validate_every=0.5, listener=heard.append)
    assert [p.step for p in heard if not math.isnan(p.loss)] == [10, 20, 30, 40, 50, 60]
    assert loss() < 0.6 * before
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [r["validation"] for r in records if "validation" in r] == [{"true": 0.0}, {"true": 1.0}, {"true": 2.0}]
    assert (tmp_path / "best.safetensors").is_file()
    curves = draw_log(tmp_path)
    assert curves is not None
    assert curves.read_bytes().startswith(b"\x89PNG")


def test_weights_know_how_they_were_made(tmp_path: Path) -> None:
    trainer(tmp_path, steps=2).run()
    weights = find_weights(str(tmp_path / "last.safetensors")).ggirnet
    made = json.loads(weights.metadata["idsr.training"])
    assert (weights.arch, made["steps_done"], made["losses"]["gradient"]) == ("ggirnet", 2, 1.0)
    assert weights.build().decoder[0][0].gradient is not None  # type: ignore[union-attr, index]


def test_real_photographs_enter_the_loss_and_change_nothing_else(tmp_path: Path) -> None:
    plain, distilled = trainer(tmp_path / "a", steps=2), trainer(tmp_path / "b", steps=2, **DISTIL)
    a, b = plain._one_step(), distilled._one_step()
    # A new network removes next to nothing, and so does its average.
    distil = b.pop("distil")
    assert distil == pytest.approx(0.0, abs=3e-4)
    b["loss"] -= distilled.options.losses["distil"] * distil
    assert a == pytest.approx(b, rel=1e-5)  # the same pairs were drawn
    assert distilled.run()


def test_a_fixed_teacher_shows_photographs_as_they_are_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[torch.nn.Module, str]] = []

    def recorded(teacher: torch.nn.Module, real: torch.Tensor, view: TeacherView) -> torch.Tensor:
        seen.append((teacher, view))
        return teacher_result(teacher, real, view)

    monkeypatch.setattr("idsr_cli.training.loop.teacher_result", recorded)
    teacher = Dimmer()  # a copy that the optimizer or the average knew would be changed
    taught, alone = trainer(tmp_path / "taught", teacher, **DISTIL), trainer(tmp_path / "alone", **DISTIL)
    first, other = taught._one_step(), alone._one_step()
    assert first["distil"] > 1e-3
    assert other["distil"] == pytest.approx(0.0, abs=3e-4)
    for run in (taught, alone):
        for _ in range(4):
            run._one_step()
    views = {run: [view for network, view in seen if network is run.teacher] for run in (taught, alone)}
    assert views == {taught: ["plain", "enlarged", "contrasted", "reduced", "plain"],
                     alone: ["enlarged", "contrasted", "reduced", "enlarged", "contrasted"]}  # fmt: skip
    assert alone.teacher is alone.average
    assert taught.teacher is teacher
    assert teacher.share.grad is None
    assert teacher.share.item() == pytest.approx(0.05)
    for run in (taught, alone):
        run.save()
    with_it, without = (read_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("taught", "alone"))
    assert with_it.keys() == without.keys()
    assert all(with_it[part].keys() == without[part].keys() for part in ("network", "average", "optimizer"))


def test_a_training_goes_on_with_its_teacher_alone(tmp_path: Path) -> None:
    taught = trainer(tmp_path, **TAUGHT)
    taught.save()
    state = read_checkpoint(tmp_path / "checkpoint.pt")
    for changes, now in ((DISTIL, "none"), ({**DISTIL, "teacher": Dimmer()}, "2" * 64)):
        another = trainer(tmp_path, **changes)
        if now != "none":
            another.options = replace(another.options, teacher=now)
        with pytest.raises(UsageError, match=f"made with teacher {'1' * 64}, not {now}"):
            another.load(state)
    trainer(tmp_path / "alone", **DISTIL).save()
    with pytest.raises(UsageError, match=f"made with teacher none, not {'1' * 64}"):
        taught.load(read_checkpoint(tmp_path / "alone" / "checkpoint.pt"))
    with pytest.raises(ValueError, match="both are given or neither"):
        Trainer(taught.options, taught.source, taught.device, tmp_path)


class Stages(torch.nn.Module):
    """A network of two stages; in training mode it returns the image after each."""

    multiple = 1

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (torch.nn.Conv2d(3, 3, 3, padding=1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> Any:
        first = x + self.first(x)
        second = first + self.second(first)
        return [first, second] if self.training else second


@pytest.mark.parametrize("objective", ["result", "stages", "auxiliary"])
def test_a_network_of_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str) -> None:
    staged = Layout(Stages, lambda names: False, lambda tensors, role: {}, multiple=1, halo=4, bytes_per_pixel=100.0)
    monkeypatch.setitem(LAYOUTS, "staged", staged)
    run = trainer(tmp_path, steps=3, objective=objective, layout="staged", config={}, **DISTIL)
    before = run.network.first.weight.clone()
    assert run.run()
    assert not torch.equal(run.network.first.weight, before)


def test_a_checkpoint_from_before_an_option_existed(tmp_path: Path) -> None:
    trainer(tmp_path, steps=2).run()
    state = read_checkpoint(tmp_path / "checkpoint.pt")
    options = json.loads(state["options"])
    assert options.pop("objective") == "result"
    state["options"] = json.dumps(options)
    trainer(tmp_path, steps=2).load(state)
    with pytest.raises(UsageError, match="made with objective result, not stages"):
        trainer(tmp_path, steps=2, objective="stages").load(state)


def test_a_checkpoint_of_another_device_goes_on_as_this_one_computes(tmp_path: Path) -> None:
    """A card's optimizer is fused; on a CPU its checkpoint goes on exactly like one of a CPU."""
    made = [make_optimizer(recipe, torch.nn.Conv2d(1, 1, 1), 1e-3, torch.device(device)).defaults["fused"]
            for device, recipe in (("cpu", "fast"), ("cuda", "fast"), ("cuda", "paper"))]  # fmt: skip
    assert made == [None, True, None]
    run = trainer(tmp_path, steps=4, recipe="constant")
    for _ in range(2):
        run._one_step()
    run.save()
    state = read_checkpoint(tmp_path / "checkpoint.pt")
    state["optimizer"]["param_groups"][0]["fused"] = True
    again = trainer(tmp_path, steps=4, recipe="constant")
    again.load(state)
    assert again.optimizer.param_groups[0]["fused"] is None
    assert run._one_step() == again._one_step()
    assert all(map(torch.equal, run.network.parameters(), again.network.parameters()))


def test_checkpoints_of_other_runs_are_refused(tmp_path: Path) -> None:
    trainer(tmp_path, steps=2).run()
    state = read_checkpoint(tmp_path / "checkpoint.pt")
    with pytest.raises(UsageError, match="made with seed 0, not 7"):
        trainer(tmp_path, steps=2, seed=7).load(state)
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        read_checkpoint(tmp_path / "checkpoint.pt")
    with pytest.raises(WeightsError, match="no checkpoint there"):
        read_checkpoint(tmp_path / "nothing.pt")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="no training checkpoint"):
        read_checkpoint(tmp_path / "other.pt")


def test_schedules() -> None:
    epochs = (0, 79, 80, 99, 100, 120, 140, 159)
    assert [paper_rate(e / 160) for e in epochs] == [1, 1, 1, 1, 0.5, 0.25, 0.125, 0.125]
    assert fast_rate(0.0) < 0.01
    assert fast_rate(0.04) == pytest.approx(1.0, abs=0.01)
    assert fast_rate(1.0) == pytest.approx(0.001)
    for wrong in ({"steps": 0}, {"patch": 100}, {"recipe": "slow"}, {"batch": 0}, {"objective": "all"}):
        with pytest.raises(UsageError):
            trainer(Path("unused"), **wrong)


_WORKER = """
import sys, torch
sys.path[:0] = [sys.argv[1], sys.argv[2]]
torch.set_num_threads(1)
from pathlib import Path
import test_loop
from idsr_cli.training import loop
from idsr_cli.training.samples import SampleMaker, SampleOptions
from idsr_cli.training.losses import total_loss
assert loop.start_processes(torch.device("cpu"))
run = test_loop.trainer(Path(sys.argv[3]), steps=4)
run.run()
mine = torch.cat([p.flatten() for p in run.network.parameters()])
other = mine.clone()
torch.distributed.broadcast(other, 0)
assert torch.equal(mine, other), "the processes have drifted apart"
again = test_loop.trainer(Path(sys.argv[3]) / "again", steps=4)
again.stopping = again.rank == 1
assert not again.run() and again.stopping and again.step == 0, "asked to stop"
torch.distributed.destroy_process_group()
"""


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    here = Path(__file__).resolve().parent
    command = [sys.executable, "-c", _WORKER, str(here), str(here.parents[1]), str(tmp_path)]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **group, "RANK": str(rank)})
        for rank in (0, 1)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    state = read_checkpoint(tmp_path / "checkpoint.pt")
    assert len(state["generators"]) == 2
    assert not torch.equal(*(g[0] for g in state["generators"]))
    with pytest.raises(UsageError, match="2 processes, not 1"):
        trainer(tmp_path, steps=4).load(state)


# --- the log of runs that died ---------------------------------------------------------------------------------------


def logged(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_resumed_run_forgets_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    run = trainer(tmp_path, steps=4)
    run.run(report_every=1)
    state = read_checkpoint(tmp_path / "checkpoint.pt")
    reports = (tmp_path / "log.jsonl").read_text()
    with open(tmp_path / "log.jsonl", "a") as log:  # the process went on for three steps and was killed
        log.write("".join(json.dumps({"step": step, "loss": 9.0}) + "\n" for step in (5, 6, 7)) + '{"step": 8, "lo')
    again = trainer(tmp_path, steps=6)
    again.load(state)
    assert again.run(report_every=1)
    assert (tmp_path / "log.jsonl").read_text().startswith(reports)
    assert logged(tmp_path) == [1, 2, 3, 4, 5, 6]


def test_a_new_run_begins_a_new_log(tmp_path: Path) -> None:
    tmp_path.joinpath("log.jsonl").write_text('{"step": 1, "loss": 9.0}\n{"step": 70, "loss": 9.0}\n')
    trainer(tmp_path, steps=2).run(report_every=1)
    assert logged(tmp_path) == [1, 2]
    tmp_path.joinpath("log.jsonl").write_text('{"step": 70, "loss": 9.0}\n')
    trainer(tmp_path, steps=2).run(time_limit=0.0)
    assert not (tmp_path / "log.jsonl").exists()
