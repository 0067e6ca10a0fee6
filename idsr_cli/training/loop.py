"""The training loop of one network: options, schedules, the `Trainer`, checkpoints.

It writes into its folder, atomically, `checkpoint.pt` (everything needed to resume), `last.safetensors` and
`best.safetensors`: EMA weights, best by recovered keypoints in validation, those it began with included. Reports are
appended to `log.jsonl`, from which a resumed run first removes those after its checkpoint.
"""

from __future__ import annotations

import copy
import functools
import json
import math
import os
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from idsr_cli import __version__, networks
from idsr_cli.errors import UsageError, WeightsError, choices_hint
from idsr_cli.files.atomic import atomic_path, write_bytes
from idsr_cli.files.faults import is_out_of_memory
from idsr_cli.training.batches import Batch, BatchSource
from idsr_cli.training.graphs import StepGraphs
from idsr_cli.training.matching_loss import matching_loss
from idsr_cli.training.objectives import (
    AVERAGE_VIEWS,
    DISTIL,
    MATCHING,
    OBJECTIVES,
    TEACHER_VIEWS,
    Compare,
    Lesson,
    Loss,
    Outputs,
    TeacherView,
    distillation,
    draw_lesson,
    result,
    split,
    teacher_result,
)
from idsr_cli.training.workers import StepBatches, made_by_workers
from idsr_cli.weights import BOTH_ROLES, save_weights

# Report at least this often, so that a slow run does not look hung.
SECONDS_BETWEEN_REPORTS = 10.0
# Time between checkpoints: the most that is lost if the process is killed.
SECONDS_BETWEEN_CHECKPOINTS = 600.0
# Share of the schedule before the loss "matching" begins: features of the first steps say little about rain.
MATCHING_FROM = 0.1
# A step whose gradients are not finite is skipped. After this many in a row the run ends with an error.
_MOST_SKIPPED_STEPS = 20


@dataclass(frozen=True)
class TrainOptions:
    """Everything that decides what is trained; stored in every checkpoint and, as text, in the weights.

    Attributes:
        role: "dprnet", "ggirnet", or "both" for a network that plays both roles.
        layout, config: the network, see `idsr_cli.networks`.
        losses: weight per loss name, see `idsr_cli.training.losses` and `idsr_cli.training.objectives`.
        octaves: octaves the pyramid losses act on, -1 = doubled image.
        balance: 0..1, how strongly the influence of easy and hard samples is equalised, see `total_loss`.
        dry_errors: how many times errors in pixels without rain count, see `losses.dry_errors_times`.
        recipe: "paper" (Adam, rate halved every 20 of 160 epochs from the 80th), or AdamW with a rate that warms up and
            then follows a cosine ("fast"), stays constant ("constant") or falls at once ("decay"). Those named after a
            network are of its paper: "sian" (Adam without momentum, constant rate), "qsnet" (Adam, a tenth of the rate
            whenever the loss has not fallen for five epochs), "mdn" (Adam, a tenth of the rate at 3/5 and at 4/5).
        rate: peak learning rate.
        batch: samples per process and step.
        patch: side of a training patch, pixels, at least 32, a multiple of what the network needs.
        steps: length of the schedule in steps; 0 = it is `duration` seconds long instead.
        duration: length of the schedule in seconds of training, over all resumed runs; used when `steps` is 0.
        ema: decay of the averaged weights per step.
        clip: the gradient's norm is clipped to this; 0 = not at all.
        precision: "fp32" or "bf16" autocast.
        seed: of initial weights, crops and rain.
        objective: which of the network's outputs are compared with the clean image, a name of `OBJECTIVES`.
        epoch: length of an epoch in steps, for recipes that watch the loss (`PATIENCE`); 0 = they do not.
        teacher: `Weights.identity` of the network that teaches in the loss "distil"; None = the averaged network does.
    """

    role: str
    layout: str
    config: Mapping[str, Any]
    losses: Mapping[str, float]
    octaves: tuple[int, ...] = (-1, 0)
    balance: float = 0.0
    dry_errors: float = 1.0
    recipe: str = "fast"
    rate: float = 1.5e-3
    batch: int = 8
    patch: int = 128
    steps: int = 0
    duration: float = 0.0
    ema: float = 0.999
    clip: float = 1.0
    precision: str = "fp32"
    seed: int = 0
    objective: str = "result"
    epoch: int = 0
    teacher: str | None = None

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise UsageError(f"unknown recipe `{self.recipe}`", hint=choices_hint(self.recipe, RECIPES))
        if self.objective not in OBJECTIVES:
            raise UsageError(f"unknown objective `{self.objective}`", hint=choices_hint(self.objective, OBJECTIVES))
        if self.steps <= 0 and self.duration <= 0:
            raise UsageError("no length of training given", hint="use --steps or --time-limit")
        multiple = networks.layout_of(self.layout).multiple
        if self.patch % multiple:
            raise UsageError(f"patch {self.patch} is not a multiple of {multiple}")
        if self.patch < 32:
            raise UsageError(f"patch {self.patch} is too small", hint="use 32 or more")
        if self.batch < 1:
            raise UsageError(f"batch {self.batch} is not positive")

    @property
    def name(self) -> str:
        """Of the network, as users know it: the role, or the layout of a network that plays both."""
        return self.layout if self.role == BOTH_ROLES else self.role


def paper_rate(progress: float) -> float:
    """Section IV.A: constant to epoch 80 of 160, then halved every 20 epochs."""
    epoch = 160.0 * progress
    return 0.5 ** max(0, int((epoch - 80.0) // 20.0))


def fast_rate(progress: float) -> float:
    """Linear warm-up over the first 4 %, then half a cosine down to 0.1 %."""
    return min(1.0, progress / 0.04 + 1e-3) * (0.5 * (1.0 + math.cos(math.pi * progress)) + 1e-3)


def constant_rate(progress: float) -> float:
    """Linear warm-up over the first 1 %, then constant, for runs without a fixed end.

    Weights to release are trained on from such a run with `decay_rate` (warm-up, stable, decay: Hu et al., "MiniCPM",
    2024).
    """
    return min(1.0, progress / 0.01 + 1e-3)


def decay_rate(progress: float) -> float:
    """Linear warm-up over the first 3 %, while the new optimizer's averages settle; then 1 - sqrt(progress)."""
    return min(1.0, progress / 0.03 + 1e-3) * (1.0 - math.sqrt(min(1.0, progress)) + 1e-3)


def same_rate(progress: float) -> float:
    """No warm-up, no decay."""
    return 1.0


def late_steps_rate(progress: float) -> float:
    """JDNet's: a tenth from 3/5, a hundredth from 4/5."""
    return 0.1 ** ((progress >= 0.6) + (progress >= 0.8))


RECIPES: dict[str, Callable[[float], float]] = {
    "paper": paper_rate, "fast": fast_rate, "constant": constant_rate, "decay": decay_rate, "sian": same_rate,
    "qsnet": same_rate, "mdn": late_steps_rate,
}  # fmt: skip
# Recipes that divide the rate by 10 when the mean loss of an epoch has been no new best so many times in a row.
PATIENCE = {"qsnet": 5}
# Those of papers; all others use AdamW.
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "paper": torch.optim.Adam,
    "sian": functools.partial(torch.optim.Adam, betas=(0.0, 0.999)),
    "qsnet": torch.optim.Adam,
    "mdn": torch.optim.Adam,
}
ADAMW = functools.partial(torch.optim.AdamW, weight_decay=1e-4, betas=(0.9, 0.99))


def make_optimizer(recipe: str, network: nn.Module, rate: float, device: torch.device) -> torch.optim.Optimizer:
    """The recipe's optimizer for the weights of `network`, which is on `device`; on CUDA, AdamW in one kernel."""
    fused = {"fused": True} if device.type == "cuda" and recipe not in OPTIMIZERS else {}
    return OPTIMIZERS.get(recipe, ADAMW)(network.parameters(), lr=rate, **fused)


@dataclass
class Progress:
    """What a listener receives at each report.

    Attributes:
        step: steps done.
        share: how much of the schedule is done, 0..1.
        seconds: time spent, over all resumed runs.
        rate: learning rate.
        loss, terms: means since the last report; NaN and {} without a step.
        steps_per_second: since the last report; NaN without a step.
        validation: recovered keypoints, if this report follows a validation.
        baselines: with a validation, the same scores of "rainy" (the photographs as they are) and "initial" (the
            weights of step 0), as far as known.
    """

    step: int
    share: float
    seconds: float
    rate: float
    loss: float
    terms: dict[str, float]
    steps_per_second: float
    validation: dict[str, float] = field(default_factory=dict)
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)


# What the teacher looks at in a step, and whether the loss "matching" has a part in it.
Variant = tuple[TeacherView, bool]
Listener = Callable[[Progress], None]
Validator = Callable[[nn.Module], dict[str, float]]


class Trainer:
    """One network's training; `run` may be called again after `load`.

    Under `torchrun` (WORLD_SIZE > 1) each process draws its own samples, gradients are averaged by
    DistributedDataParallel, and the first process alone validates and writes.

    Args:
        options: what to train.
        source: where batches come from; on `device`, or on the CPU if there are `workers`.
        device: where the network lives.
        folder: where files go.
        validate: maps the averaged network to scores; "true" decides which weights are best. It is called before the
            first step too, so that the best weights are never worse than those of the start.
        init: start from these weights (canonical tensors) instead of random ones.
        provenance: extra metadata for the weights files.
        rainy: scores of the rainy photographs of `validate`, to be reported beside those of the network.
        workers: processes that make the batches; 0 = the training makes them itself, between its steps. The samples
            are others with workers than without, but the same for any number of them.
        teacher: the network that `options.teacher` names, finished, in evaluation mode, on `device`; it is not trained,
            and no file has it. None = the averaged network teaches.
        note: called with messages for the user, one line each.

    Attributes:
        stopping: set it to True, in any process, to end `run` after its current step with a checkpoint.
        best, best_step: highest "true" in validation (-inf before the first), and its step.
        baselines: scores of "rainy" and "initial", see `Progress`.
        clock: what the schedule's and the limit's seconds are counted with; `time.process_time` counts those of the
            processor, so that other work on the machine takes no share of the training.
    """

    def __init__(
        self,
        options: TrainOptions,
        source: BatchSource,
        device: torch.device,
        folder: Path,
        validate: Validator | None = None,
        init: Mapping[str, torch.Tensor] | None = None,
        provenance: Mapping[str, str] | None = None,
        rainy: Mapping[str, float] | None = None,
        workers: int = 0,
        teacher: nn.Module | None = None,
        note: Callable[[str], object] = lambda text: None,
    ) -> None:
        if (teacher is None) != (options.teacher is None):
            raise ValueError("`options.teacher` names the network given as `teacher`, so both are given or neither")
        self.options, self.source, self.device, self.folder = options, source, device, folder
        self.validate = validate
        self.provenance = dict(provenance or {})
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        torch.manual_seed(options.seed)
        network = networks.build(options.layout, options.config)
        if init is not None:
            try:
                network.load_state_dict(dict(init))
            except RuntimeError as error:
                raise WeightsError("the initial weights do not fit this network", hint="check --preset") from error
        network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network: nn.Module = network.train()
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.teacher: nn.Module = self.average if teacher is None else teacher
        self.views = AVERAGE_VIEWS if teacher is None else TEACHER_VIEWS
        self.parallel: nn.Module = self.network
        if self.world > 1:
            partial = not networks.layout_of(options.layout).uses_all_parameters
            self.parallel = DistributedDataParallel(self.network, find_unused_parameters=partial)
        self.optimizer = make_optimizer(options.recipe, self.network, options.rate, device)
        self.graphs: StepGraphs[Variant] | None = None
        if device.type == "cuda" and self.world == 1 and networks.layout_of(options.layout).uses_all_parameters:
            self.graphs = StepGraphs(self._gradients, device, note)
            for parameter in self.network.parameters():
                if parameter.requires_grad:
                    parameter.grad = torch.zeros_like(parameter)
        self.plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        if options.epoch and options.recipe in PATIENCE:
            patience = PATIENCE[options.recipe]
            self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, factor=0.1, patience=patience)
        self._epoch_loss = 0.0  # sum over the steps of this epoch
        seed = options.seed * 1009 + self.rank
        self.generator = torch.Generator().manual_seed(seed)
        on_cpu = device.type == "cpu"
        self.device_generator = self.generator if on_cpu else torch.Generator(device).manual_seed(seed)
        self.step, self.seconds = 0, 0.0
        self.best, self.best_step = -math.inf, 0
        self.baselines: dict[str, dict[str, float]] = {"rainy": dict(rainy)} if rainy else {}
        self.stopping = False
        self.clock: Callable[[], float] = time.monotonic
        self.workers = workers
        self._batches: Generator[Batch] | None = None
        self._validated_step = -1
        self._skipped_steps = 0  # in a row

    @property
    def share(self) -> float:
        """How much of the schedule is done, 0..1."""
        o = self.options
        return min(1.0, self.step / o.steps if o.steps else self.seconds / o.duration)

    def run(self, time_limit: float = math.inf, report_every: int = 50, validate_every: float = 0.1,
            listener: Listener = lambda progress: None) -> bool:  # fmt: skip
        """Train until the schedule ends or `time_limit` seconds of this call have passed; then write everything.

        Args:
            time_limit: seconds, for this call alone.
            report_every: steps between log lines.
            validate_every: share of the schedule between validations (0.1 = ten times in all).
            listener: receives the progress at every report.

        Returns:
            Whether the schedule is complete.

        Raises:
            UsageError: gradients were not finite in 20 steps in a row, or memory ran out; files stay as they were at
                the last checkpoint.
        """
        try:
            return self._run(time_limit, report_every, validate_every, listener)
        finally:
            if self._batches is not None:
                self._batches.close()  # ends its processes
                self._batches = None

    def _run(self, time_limit: float, report_every: int, validate_every: float, listener: Listener) -> bool:
        started, before = self.clock(), self.seconds
        self._cut_log()
        mean: dict[str, float] = {}
        reported, clock = self.step, time.monotonic()
        next_validation = math.floor(self.share / validate_every + 1) * validate_every
        saved = before
        if self.validate is not None and not self.step:
            self.baselines["initial"] = self._validated()
            self._report(self._progress({}, 0, 0.0, self.baselines["initial"]), listener)
            clock = time.monotonic()
        while True:
            self.seconds, stop = self._synchronised(before + self.clock() - started, self.stopping)
            if stop or self.share >= 1.0 or self.seconds - before >= time_limit:
                break
            for name, value in self._step_in_memory().items():
                mean[name] = mean.get(name, 0.0) + value
            count = self.step - reported
            validation: dict[str, float] = {}
            if self.share >= next_validation and self.share < 1.0:
                next_validation = math.floor(self.share / validate_every + 1) * validate_every
                validation, saved = self._save_and_validate(), self.seconds
            elif self.seconds - saved > SECONDS_BETWEEN_CHECKPOINTS and self.share < 1.0:
                self.save()
                saved = self.seconds
            if count >= report_every or validation or time.monotonic() - clock > SECONDS_BETWEEN_REPORTS:
                self._report(self._progress(mean, count, time.monotonic() - clock, validation), listener)
                mean, reported, clock = {}, self.step, time.monotonic()
        self.stopping = stop or self.stopping  # another process may have been asked to stop
        complete = self.share >= 1.0
        count = self.step - reported
        spent = time.monotonic() - clock
        if stop or self._validated_step == self.step:
            self.save()
            validation = {}
        else:
            validation = self._save_and_validate()
        if count or validation:
            self._report(self._progress(mean, count, spent, validation), listener)
        return complete

    def _progress(self, sums: dict[str, float], count: int, spent: float, validation: dict[str, float]) -> Progress:
        terms = {name: value / count for name, value in sums.items()}
        rate, speed = self.optimizer.param_groups[0]["lr"], count / spent if count else math.nan
        loss = terms.pop("loss", math.nan)
        baselines = self.baselines if validation else {}
        return Progress(self.step, self.share, self.seconds, rate, loss, terms, speed, validation, baselines)

    def _step_in_memory(self) -> dict[str, float]:
        """One step; if memory runs out, the error says what to change in a training."""
        try:
            return self._one_step()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            where = f"out of memory in step {self.step + 1}"
            hint = "use a smaller --batch or --patch, --precision bf16, or --device cpu"
            raise UsageError(where, path=self.folder, hint=hint) from error

    def _one_step(self) -> dict[str, float]:
        o = self.options
        if self.plateau is None:
            for group in self.optimizer.param_groups:
                group["lr"] = o.rate * RECIPES[o.recipe](self.share)
        batch = self._batch()
        values = (self._gradients if self.graphs is None else self.graphs)(batch, self._variant)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), o.clip or math.inf)
        # Read together: a card is waited for once.
        names = ("norm", *values)
        found = torch.stack([value.float() for value in (norm, *values.values())]).tolist()
        read = dict(zip(names, found, strict=True))
        if not math.isfinite(read.pop("norm")):  # the same in all processes, because their gradients are averaged
            self._skipped_steps += 1
            if self._skipped_steps >= _MOST_SKIPPED_STEPS:
                reason = f"the gradients are not finite, {_MOST_SKIPPED_STEPS} steps in a row from step {self.step} on"
                raise UsageError(reason, path=self.folder, hint="try a lower --rate, or --precision fp32")
            return {}
        self._skipped_steps = 0
        self.optimizer.step()
        self.step += 1
        # A smaller decay in the first steps, so that the average soon contains little of the random initial weights.
        decay = min(o.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1.0 - decay)
            for mean, value in zip(self.average.buffers(), self.network.buffers(), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(value, 1.0 - decay)
                else:
                    mean.copy_(value)
        self._watch(read["loss"])
        return read

    @property
    def _variant(self) -> Variant:
        """Of the next step."""
        losses = self.options.losses
        view = self.views[self.step % len(self.views) if DISTIL in losses else 0]
        return view, bool(losses.get(MATCHING)) and self.share >= MATCHING_FROM

    def _gradients(self, batch: Batch, variant: Variant) -> dict[str, torch.Tensor]:
        """Compute the gradients of one step; returns its loss and the terms, scalars."""
        o = self.options
        view, matches = variant
        inputs, lesson = batch.rainy, None
        with torch.autocast(self.device.type, torch.bfloat16, enabled=o.precision == "bf16"):
            if batch.real is not None and DISTIL in o.losses:
                lesson = draw_lesson(batch.real, teacher_result(self.teacher, batch.real, view), batch.drawings)
                inputs = torch.cat((inputs, lesson.real))
            outputs = self.parallel(inputs.contiguous(memory_format=torch.channels_last))
            features = self._shallow_features(batch) if matches else None
        loss, terms = self._loss(outputs, batch, lesson)
        if features is not None:
            matching, spread = matching_loss(*features)
            loss = loss + o.losses[MATCHING] * matching
            terms = {**terms, MATCHING: matching.detach(), f"{MATCHING}-spread": spread}
        # A graph adds to the gradients that were in memory when it was recorded.
        self.optimizer.zero_grad(set_to_none=self.graphs is None)
        loss.backward()
        return {"loss": loss.detach(), **terms}

    def _batch(self) -> Batch:
        """The next step's samples."""
        o = self.options
        if not self.workers:
            return self.source(o.batch, self.generator, self.device_generator)
        if self._batches is None:
            batches = StepBatches(self.source, o.batch, o.seed, self.rank)
            self._batches = made_by_workers(batches, self.step, self.workers, self.device)
        return next(self._batches)

    def _shallow_features(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Those of the synthetic and of the real photographs, for the loss "matching"."""
        shallow = networks.layout_of(self.options.layout).shallow
        if batch.real is None or shallow is None:
            return None
        both = torch.cat((batch.rainy, batch.real)).contiguous(memory_format=torch.channels_last)
        features = shallow(self.network, both)
        return features[: len(batch.rainy)], features[len(batch.rainy) :]

    def _watch(self, loss: float) -> None:
        """At the end of an epoch, lower the rate if the recipe watches the loss and it does not fall any more."""
        if self.plateau is None:
            return
        self._epoch_loss += loss
        if self.step % self.options.epoch:
            return
        total = torch.tensor(self._epoch_loss, dtype=torch.float64, device=self.device)
        if self.world > 1:
            dist.all_reduce(total)
        self.plateau.step(total.item() / (self.options.epoch * self.world))
        self._epoch_loss = 0.0

    def _loss(self, outputs: Outputs, batch: Batch, lesson: Lesson | None) -> Loss:
        """Loss and terms; `lesson`: the real photographs and the teacher's result, if that is asked for."""
        o = self.options
        compare = Compare(o.losses, o.octaves, o.balance, o.dry_errors)
        if lesson is None:
            return OBJECTIVES[o.objective](outputs, batch, compare)
        paired, unpaired = split(outputs, len(batch.rainy))
        loss, terms = OBJECTIVES[o.objective](paired, batch, compare)
        distil = distillation(result(unpaired), lesson, o.octaves)
        return loss + o.losses.get(DISTIL, 0.0) * distil, {**terms, DISTIL: distil.detach()}

    def _synchronised(self, seconds: float, stopping: bool) -> tuple[float, bool]:
        """The first process's `seconds`, and whether any is `stopping`: the same in all, so that they stop together."""
        if self.world == 1:
            return seconds, stopping
        own = [-math.inf if self.rank else seconds, float(stopping)]
        shared = torch.tensor(own, dtype=torch.float64, device=self.device)
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return float(shared[0].item()), bool(shared[1].item())

    def _save_and_validate(self) -> dict[str, float]:
        """Save first, so that nothing is lost if validation fails; returns the validation's scores."""
        self.save()
        best = self.best
        scores = self._validated()
        if self.best != best:
            self.save()
        return scores

    def _validated(self) -> dict[str, float]:
        """The scores of the averaged network, in the first process; the best weights are written."""
        scores = {}
        self._validated_step = self.step
        if self.rank == 0 and self.validate is not None:
            scores = self.validate(self.average)
            if scores["true"] > self.best:
                self.best, self.best_step = scores["true"], self.step
                self._write_weights("best.safetensors")
        if self.world > 1:
            shared = torch.tensor([self.best, self.best_step], dtype=torch.float64, device=self.device)
            dist.broadcast(shared, 0)
            self.best, self.best_step = float(shared[0].item()), int(shared[1].item())
        return scores

    def _report(self, progress: Progress, listener: Listener) -> None:
        if self.rank:
            return
        record = {key: value for key, value in asdict(progress).items() if value == value and value != {}}
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "log.jsonl", "a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")
        listener(progress)

    def _cut_log(self) -> None:
        """Remove what a run that ended without a checkpoint has reported after this step: it never happened here.

        Without a checkpoint the log begins anew. Lines that are no reports, such as one cut off by a full disk, go too.
        """
        path = self.folder / "log.jsonl"
        if self.rank or not path.exists():
            return
        lines = path.read_bytes().splitlines(keepends=True)
        kept = (
            [line for line in lines if line.endswith(b"\n") and 0 <= _step_of(line) <= self.step] if self.step else []
        )
        if not kept:
            path.unlink()
        elif kept != lines:
            write_bytes(path, b"".join(kept))

    def _metadata(self) -> dict[str, str]:
        o = self.options
        return {
            "idsr.version": __version__,
            "idsr.arch": o.role,
            "idsr.layout": o.layout,
            "idsr.config": json.dumps(o.config),
            "idsr.training": json.dumps({**asdict(o), "world": self.world, "steps_done": self.step,
                                         "seconds": round(self.seconds), "device": str(self.device),
                                         "torch": torch.__version__}),
            **self.provenance,
        }  # fmt: skip

    def _write_weights(self, name: str) -> None:
        save_weights(self.folder / name, self.average, self._metadata())

    def save(self) -> None:
        """Write the checkpoint and the last weights."""
        generators = [(self.generator.get_state(), self.device_generator.get_state())]
        if self.world > 1:
            everyone: list[Any] = [None] * self.world
            dist.all_gather_object(everyone, generators[0])
            generators = everyone
        if self.rank == 0:
            state = {
                "network": self.network.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "generators": generators,
                "options": json.dumps(asdict(self.options)),
                "metadata": self._metadata(),
                "counters": {
                    "step": self.step,
                    "seconds": self.seconds,
                    "best": self.best,
                    "best_step": self.best_step,
                },
                "baselines": self.baselines,
            }
            if self.plateau is not None:
                state["plateau"] = {"scheduler": self.plateau.state_dict(), "loss": self._epoch_loss}
            with atomic_path(self.folder / "checkpoint.pt") as temporary:
                torch.save(state, temporary)
            self._write_weights("last.safetensors")
        if self.world > 1:
            dist.barrier()

    def load(self, checkpoint: Mapping[str, Any]) -> None:
        """Continue from `checkpoint` (see `read_checkpoint`); bit-exact on a CPU.

        Raises:
            UsageError: it was made with other options (the schedule's length excepted), or by another number of
                processes.
        """
        # The schedule may become longer or shorter.
        changed = [change for change in changes(self.options, checkpoint) if change[0] not in ("steps", "duration")]
        if changed:
            name, *values = changed[0]
            before, now = ("none" if value is None else value for value in values)
            raise UsageError(
                f"the checkpoint was made with {name} {before}, not {now}",
                hint="resume with the same options, or start anew with --init in another folder",
            )
        if len(checkpoint["generators"]) != self.world:
            raise UsageError(f"the checkpoint was made by {len(checkpoint['generators'])} processes, not {self.world}")
        self.network.load_state_dict(checkpoint["network"])
        self.average.load_state_dict(checkpoint["average"])
        stored, own = checkpoint["optimizer"], self.optimizer.param_groups[0]
        # How it is computed depends on the device of this run, not on that of the checkpoint.
        groups = [{**group, "fused": own["fused"]} for group in stored["param_groups"]]
        self.optimizer.load_state_dict({**stored, "param_groups": groups})
        if self.plateau is not None:
            self.plateau.load_state_dict(checkpoint["plateau"]["scheduler"])
            self._epoch_loss = checkpoint["plateau"]["loss"]
        generator, device_generator = checkpoint["generators"][self.rank]
        self.generator.set_state(generator)
        if self.device_generator is not self.generator:
            mine = self.device_generator.get_state()
            # The state of another kind of device does not fit; then this generator starts from its seed.
            self.device_generator.set_state(device_generator if device_generator.shape == mine.shape else mine)
        counters = checkpoint["counters"]
        self.step, self.seconds, self.best = int(counters["step"]), counters["seconds"], counters["best"]
        self.best_step = int(counters.get("best_step", -1))  # checkpoints of version 0.2.0 have neither
        stored = checkpoint.get("baselines", {})
        if stored.get("rainy") == self.baselines.get("rainy"):
            self.baselines = dict(stored)
        elif stored:  # the pairs of the validation have changed, so that its scores cannot be compared
            self.best = -math.inf


def _step_of(line: bytes) -> float:
    """The step of a report; -1 if it is none."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return -1.0


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A training checkpoint.

    Raises:
        WeightsError: missing, damaged, or not a training checkpoint.
    """
    import pickle

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError("no checkpoint there", path=path, hint="start without --resume") from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise WeightsError("cannot be loaded", path=path, hint="the file is damaged or no checkpoint") from error
    if not isinstance(state, dict) or not {"network", "average", "optimizer", "generators", "options"} <= set(state):
        raise WeightsError("is no training checkpoint", path=path, hint="for plain weights use --init")
    return state


def changes(options: TrainOptions, checkpoint: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(name, value in the checkpoint, value in `options`) of each option that differs, as JSON values.

    An option that did not exist yet when the checkpoint was written counts as its default.
    """
    defaults = {f.name: f.default for f in fields(TrainOptions) if f.default is not MISSING}
    stored = {**json.loads(json.dumps(defaults)), **json.loads(checkpoint["options"])}
    mine = json.loads(json.dumps(asdict(options)))
    return [(name, stored.get(name), mine[name]) for name in mine if mine[name] != stored.get(name)]


def length(checkpoint: Mapping[str, Any]) -> tuple[int, float]:
    """Steps and seconds of the schedule that a checkpoint was made with; one of them is 0."""
    stored = json.loads(checkpoint["options"])
    return stored["steps"], stored["duration"]


def peak_rate(checkpoint: Mapping[str, Any]) -> float:
    """Peak learning rate of the run that a checkpoint is of."""
    return float(json.loads(checkpoint["options"])["rate"])


def start_processes(device: torch.device) -> bool:
    """Join the process group that `torchrun` describes in the environment; False if there is none."""
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        return False
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return True
