"""`idsr train`: one network, from scratch or fine-tuned, on own pairs or on clean photographs with synthetic rain."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from idsr_cli.cli import options
from idsr_cli.cli.console import console
from idsr_cli.errors import UsageError, extra_hint
from idsr_cli.files.faults import item_error
from idsr_cli.files.interruption import on_interruption
from idsr_cli.runtime.threads import use_threads

if TYPE_CHECKING:
    from idsr_cli.training.loop import Progress, Trainer

HELP = """Train DPRNet (where keypoints are) or GGIRNet (what they look like).

\b
Examples:
  idsr train dprnet --photos clean --streaks layers -o run-d --recipe fast --time-limit 3600
  idsr train ggirnet --rainy rain --clean dry -o run-g --init base
  idsr train ggirnet --photos clean -o run-g --init base --trunk run-d --rate 5e-4 --recipe fast --time-limit 3600
  idsr train dprnet --photos clean --streaks layers -o run-d --recipe fast --duration 7200 --resume
  torchrun --nproc-per-node 2 -m idsr_cli train dprnet --photos clean -o run-d

Writes into OUT: checkpoint.pt (to --resume), last.safetensors, best.safetensors (by recovered keypoints, if there are
--val pairs), log.jsonl, and loss.png if matplotlib is installed. `--weights OUT` of other commands takes the best, \
else the last; `--weights run-d,run-g` two runs together.
"""

DATA = "Data"
NETWORK = "Network"
SCHEDULE = "Schedule"
LOSS = "Losses"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


def parse_loss(text: str) -> tuple[str, float]:
    """`NAME=WEIGHT`."""
    name, _, weight = text.partition("=")
    try:
        number = float(weight)
    except ValueError as error:
        raise typer.BadParameter(f"`{text}` is not NAME=WEIGHT") from error
    if not 0.0 <= number < float("inf"):
        raise typer.BadParameter(f"the weight of `{text}` is not a positive number")
    return name, number


def parse_octaves(text: str) -> tuple[int, ...]:
    """`-1,0,1` -> (-1, 0, 1)."""
    try:
        octaves = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"`{text}` is not a list like -1,0") from error
    if not all(-1 <= o <= 2 for o in octaves):
        raise typer.BadParameter("octaves are -1, 0, 1 or 2")
    return octaves


@app.command(help=HELP, no_args_is_help=True)
def train(
    role: Annotated[
        Literal["dprnet", "ggirnet"],
        typer.Argument(metavar="dprnet|ggirnet", help="Which network.", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="Folder for this run.", show_default=False)
    ],
    photos: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR", help="Clean photographs to rain on. Repeatable.", show_default=False, rich_help_panel=DATA
        ),
    ] = None,
    streaks: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Measured streak layers (rain on black). Repeatable; folders are drawn evenly.",
            show_default=False,
            rich_help_panel=DATA,
        ),
    ] = None,
    rainy: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Rainy photographs of own pairs.", show_default=False, rich_help_panel=DATA),
    ] = None,
    clean: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Their clean versions.", show_default=False, rich_help_panel=DATA)
    ] = None,
    side_by_side: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Pairs side by side in one file each.", show_default=False, rich_help_panel=DATA
        ),
    ] = None,
    clean_side: Annotated[
        Literal["left", "right"], typer.Option(help="Which half of them is clean.", rich_help_panel=DATA)
    ] = "left",
    pair_list: Annotated[
        Path | None,
        typer.Option(
            "--list",
            metavar="FILE",
            help="Pairs, a line each: rainy TAB clean.",
            show_default=False,
            rich_help_panel=DATA,
        ),
    ] = None,
    real: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Rainy photographs without clean versions, for `--loss distil=WEIGHT`. Repeatable.",
            show_default=False,
            rich_help_panel=DATA,
        ),
    ] = None,
    val_rainy: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Rainy photographs for validation. Repeatable.",
            show_default=False,
            rich_help_panel=DATA,
        ),
    ] = None,
    val_clean: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Their clean versions.", show_default=False, rich_help_panel=DATA)
    ] = None,
    val_count: Annotated[int, typer.Option(min=1, help="Pairs used per folder.", rich_help_panel=DATA)] = 10,
    patch: Annotated[
        int, typer.Option(min=32, help="Side of a training patch, pixels, a multiple of 32.", rich_help_panel=DATA)
    ] = 128,
    large: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Share of batches of patches half as large again, with fewer samples (wider view).",
            rich_help_panel=DATA,
        ),
    ] = 0.0,
    dry: Annotated[
        float, typer.Option(min=0, max=1, help="Share of samples without rain.", rich_help_panel=DATA)
    ] = 0.14,
    procedural: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of procedural streaks where there are measured ones.", rich_help_panel=DATA
        ),
    ] = 0.55,
    pair_share: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of samples from own pairs where there are photographs too.", rich_help_panel=DATA
        ),
    ] = 0.1,
    preset: Annotated[
        Literal["base", "released"], typer.Option(help="Shape of the network.", rich_help_panel=NETWORK)
    ] = "base",
    init: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FOLDER|FILE",
            help="Start from these weights; the shape is theirs.",
            show_default=False,
            rich_help_panel=NETWORK,
        ),
    ] = None,
    trunk: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FOLDER|FILE",
            help="With --init: all but the attention maps from the other network, found here.",
            show_default=False,
            rich_help_panel=NETWORK,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from OUT/checkpoint.pt.", rich_help_panel=NETWORK)
    ] = False,
    recipe: Annotated[
        Literal["paper", "fast", "constant", "decay"],
        typer.Option(
            help="paper: Adam, 1e-4, batch 16, halved late. fast: AdamW, 1.5e-3, batch 8, cosine. constant: AdamW, "
            "5e-4, for a run that goes on. decay: from its weights (--init) down to 0, for a release.",
            rich_help_panel=SCHEDULE,
        ),
    ] = "paper",
    steps: Annotated[
        int,
        typer.Option(min=0, help="Length in steps; 0 = 160 epochs, or what --duration says.", rich_help_panel=SCHEDULE),
    ] = 0,
    duration: Annotated[
        float,
        typer.Option(
            min=0, help="Length in seconds over all resumed runs, instead of steps.", rich_help_panel=SCHEDULE
        ),
    ] = 0.0,
    time_limit: Annotated[
        float,
        typer.Option(
            min=0,
            help="Stop this run after so many seconds (0 = never). Alone, it is the length as well.",
            rich_help_panel=SCHEDULE,
        ),
    ] = 0.0,
    batch: Annotated[
        int, typer.Option(min=0, help="Samples per step and process; 0 = the recipe's.", rich_help_panel=SCHEDULE)
    ] = 0,
    rate: Annotated[
        float, typer.Option(min=0, help="Peak learning rate; 0 = the recipe's.", rich_help_panel=SCHEDULE)
    ] = 0.0,
    ema: Annotated[
        float, typer.Option(min=0, max=0.99999, help="Decay of the averaged weights.", rich_help_panel=SCHEDULE)
    ] = 0.999,
    seed: Annotated[int, typer.Option(min=0, help="Of initial weights, cuts and rain.", rich_help_panel=SCHEDULE)] = 0,
    loss: Annotated[
        list[Any] | None,
        typer.Option(
            metavar="NAME=WEIGHT",
            parser=parse_loss,
            show_default=False,
            rich_help_panel=LOSS,
            help="pixel, pixel-l2, gradient, alp, alp-derivative, descriptor, extremum. Repeatable; replaces the "
            "network's default mixture. distil is added to it: on --real, the averaged network's result at twice the "
            "size is the target.",
        ),
    ] = None,
    octaves: Annotated[
        Any,
        typer.Option(
            metavar="-1,0",
            parser=parse_octaves,
            show_default=False,
            rich_help_panel=LOSS,
            help="Octaves the pyramid losses act on. [dim]\\[default: -1,0][/dim]",
        ),
    ] = "-1,0",
    balance: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.95,
            help="How far drizzle and cloudbursts are evened out: 0 = not, 0.5 = roots of losses.",
            rich_help_panel=LOSS,
        ),
    ] = 0.0,
    validate_every: Annotated[
        float,
        typer.Option(
            min=0.01, max=1, help="Share of the schedule between validations.", rich_help_panel=options.REPORT
        ),
    ] = 0.1,
    device: options.Device = "auto",
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        typer.Option(help="bf16 = autocast; auto takes it on CUDA.", rich_help_panel=options.SPEED),
    ] = "auto",
    threads: options.Threads = 0,
    json: Annotated[
        bool,
        typer.Option("--json", help="One JSON object per report on standard output.", rich_help_panel=options.REPORT),
    ] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Run the command."""
    console.configure(quiet=quiet, verbose=verbose, json=json)
    use_threads(threads)
    from idsr_cli.images.pairs import find_pairs
    from idsr_cli.training.setup import (
        TrainingData,
        TrainingSetup,
        join_processes,
        leave_processes,
        prepare,
        summary_line,
    )

    data = TrainingData(
        photos=photos or [],
        streaks=streaks or [],
        pairs=find_pairs(rainy, clean, side_by_side, clean_side, pair_list),
        real=real or [],
        patch=patch,
        dry=dry,
        procedural=procedural,
        pair_share=pair_share,
        large=large,
    )
    setup = TrainingSetup(
        role=role,
        output=output,
        data=data,
        val_rainy=val_rainy or [],
        val_clean=val_clean,
        val_count=val_count,
        preset=preset,
        init=init,
        trunk=trunk,
        resume=resume,
        recipe=recipe,
        steps=steps,
        duration=duration,
        time_limit=time_limit,
        batch=batch,
        rate=rate,
        ema=ema,
        seed=seed,
        losses=dict(loss or ()),
        octaves=octaves,
        balance=balance,
        precision=precision,
    )
    where, rank = join_processes(device)
    console.quiet = quiet or rank > 0
    trainer = prepare(setup, where, console.error, console.note)
    console.note(summary_line(trainer))
    complete = train_with_progress(trainer, time_limit or float("inf"), validate_every)
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
        scores = ", ".join(f"{name} {value:.1f}" for name, value in progress.validation.items())
        if scores:
            console.note(f"step {progress.step}: recovered keypoints {scores}")
        if progress.terms:
            console.track(progress.share, f"training {trainer.options.role}",
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
    weights = run_weights(output)
    if weights:
        console.note(f"weights in {weights}; use them with --weights {shlex.quote(str(weights))}")
