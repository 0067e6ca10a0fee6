"""`idsr train`: one network, from scratch or fine-tuned, on own pairs or on clean photographs with synthetic rain."""

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from idsr_cli.cli import options
from idsr_cli.cli.console import console
from idsr_cli.cli.grouped import grouped
from idsr_cli.cli.train_options import (
    DataOptions,
    LossOptions,
    NetworkOptions,
    RunOptions,
    ScheduleOptions,
    TrainPerformance,
    TrainReporting,
)
from idsr_cli.errors import UsageError, extra_hint
from idsr_cli.files.faults import is_out_of_memory, item_error
from idsr_cli.files.interruption import on_interruption
from idsr_cli.runtime.threads import use_threads

if TYPE_CHECKING:
    from idsr_cli.training.loop import Progress, Trainer

HELP = """Train a network: DPRNet (where keypoints are), GGIRNet (what they look like), or one of another paper that \
does both, which has its paper's loss and recipe by default: SIAN, QSNet, MDN.

\b
Examples:
  idsr train dprnet --photos clean --streaks layers -o run-d --recipe fast --time-limit 3600
  idsr train ggirnet --rainy rain --clean dry -o run-g --init base
  idsr train ggirnet --photos clean -o run-g --init base --trunk run-d --rate 5e-4 --recipe fast --time-limit 3600
  idsr train dprnet --photos clean --streaks layers -o run-d --recipe fast --duration 7200 --resume
  idsr train dprnet --photos clean --init base --real own-rain --loss distil=0.8 --teacher base -o run-d --steps 9000
  idsr train dprnet --photos clean -o run-d --steps 90000 --resume auto
  idsr train sian --rainy rain --clean dry -o run-s --time-limit 3600
  idsr train qsnet --preset qsnet-half --rainy rain --clean dry -o run-q --time-limit 3600
  idsr train mdn --rainy rain --clean dry --real own-rain -o run-m --time-limit 3600
  torchrun --nproc-per-node 2 -m idsr_cli train dprnet --photos clean -o run-d

Writes into OUT: checkpoint.pt (for --resume), last.safetensors, best.safetensors (by recovered keypoints, with \
--val-rainy and --val-clean), log.jsonl, and loss.png if matplotlib is installed. In other commands `--weights OUT` \
takes the best weights, else the last; `--weights run-d,run-g` takes two runs together.
"""


class TrainCommand(TyperCommand):
    """A command whose option `--resume` may stand alone or have the value `auto`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Write `--resume` alone as `--resume always`: an option cannot have a value now and then."""
        written = []
        for i, word in enumerate(args):
            alone = word == "--resume" and args[i + 1 : i + 2] not in (["auto"], ["always"])
            written.append("--resume=always" if alone else word)
        return super().parse_args(ctx, written)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


@app.command(cls=TrainCommand, help=HELP, no_args_is_help=True)
@grouped
def train(
    *,
    run: RunOptions,
    data: DataOptions,
    network: NetworkOptions,
    schedule: ScheduleOptions,
    loss_options: LossOptions,
    validate_every: Annotated[
        float,
        typer.Option(
            min=0.01, max=1, help="Share of the schedule between validations.", rich_help_panel=options.REPORT
        ),
    ] = 0.1,
    performance: TrainPerformance,
    reporting: TrainReporting,
) -> None:
    """Run the command."""
    console.configure(quiet=reporting.quiet, verbose=reporting.verbose, json=reporting.json)
    use_threads(performance.threads)
    from idsr_cli.training.setup import TrainingSetup, join_processes, leave_processes, prepare, summary_line

    setup = TrainingSetup(
        role=run.role,
        output=run.output,
        data=data.training_data(),
        val_rainy=data.val_rainy or [],
        val_clean=data.val_clean,
        val_count=data.val_count,
        **{**vars(network), "resume": {None: False, "always": True, "auto": "auto"}[network.resume]},
        **vars(schedule),
        losses=dict(loss_options.loss or ()),
        octaves=loss_options.octaves,
        balance=loss_options.balance,
        dry_errors=loss_options.dry_errors,
        teacher=loss_options.teacher,
        precision=performance.precision,
        workers=performance.workers,
    )
    device, rank = join_processes(performance.device)
    console.quiet = reporting.quiet or rank > 0
    try:
        trainer = prepare(setup, device, console.error, console.note)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UsageError("out of memory before the first step", hint="give fewer or smaller photographs") from error
    console.note(summary_line(trainer))
    complete = train_with_progress(trainer, schedule.time_limit or float("inf"), validate_every)
    leave_processes()
    if rank == 0:
        report_end(trainer, complete)


def train_with_progress(trainer: Trainer, time_limit: float, validate_every: float) -> bool:
    """Train with a progress bar; Ctrl-C and its like end it after the current step, with a checkpoint.

    Returns:
        Whether the schedule is complete.

    Raises:
        KeyboardInterrupt: after the checkpoint is written; at once if asked a second time.
    """

    def listen(progress: Progress) -> None:
        if progress.validation:
            console.note(f"step {progress.step}: recovered keypoints {scores_in_words(progress)}")
        if progress.terms:
            console.track(progress.share, f"training {trainer.options.name}",
                          f"loss {progress.loss:.4f}, {progress.steps_per_second:.2f} steps/s")  # fmt: skip
        console.event("train", **{k: v for k, v in vars(progress).items() if v == v})

    def stop(number: int, frame: object) -> None:
        # Under torchrun one Ctrl-C arrives twice, from the terminal and from torchrun, so the second is ignored there.
        if trainer.stopping and trainer.world == 1:
            raise KeyboardInterrupt
        trainer.stopping = True

    try:
        with on_interruption(stop):
            complete = trainer.run(time_limit, validate_every=validate_every, listener=listen)
    finally:
        console.end()
    if trainer.stopping:
        console.note(f"wrote {trainer.folder / 'checkpoint.pt'}; go on with --resume")
        raise KeyboardInterrupt
    return complete


def scores_in_words(progress: Progress) -> str:
    """`true 446.2 (rainy 302.0, initial 444.1)`, for each score of a validation."""
    words = []
    for name, value in progress.validation.items():
        known = {kind: scores[name] for kind, scores in progress.baselines.items() if name in scores}
        if not progress.step:
            known.pop("initial", None)  # it is this score
        beside = ", ".join(f"{kind} {score:.1f}" for kind, score in known.items())
        words.append(f"{name} {value:.1f}{f' ({beside})' if beside else ''}")
    return ", ".join(words)


def report_end(trainer: Trainer, complete: bool) -> None:
    """Draw the curves, and say where things are."""
    from idsr_cli.evaluation.curves import draw_log
    from idsr_cli.weights import run_weights

    output = trainer.folder
    curves = None
    try:
        curves = draw_log(output)
    except (UsageError, OSError) as error:  # the training itself is done, and saved
        console.warn(f"no curves: {item_error(error, output / 'loss.png').reason}", "the weights are not affected")
    ended = "done" if complete else "stopped; go on with --resume"
    advice = f"; for curves {extra_hint('plots')}" if (output / "log.jsonl").exists() else ""
    seen = f", curves in {curves}" if curves else advice
    console.note(f"{ended} at step {trainer.step} after {trainer.seconds:.0f} s{seen}")
    if trainer.step and trainer.best_step == 0 and "initial" in trainer.baselines:
        console.warn(f"no step scored better than the start, true {trainer.best:.1f}",
                     "best.safetensors are the weights of the start; try a lower --rate or a longer run")  # fmt: skip
    elif trainer.best > -math.inf and trainer.best_step >= 0:
        console.note(f"best: true {trainer.best:.1f} at step {trainer.best_step}")
    weights = run_weights(output)
    if weights:
        console.note(f"weights in {weights}; use them with --weights {shlex.quote(str(weights))}")
