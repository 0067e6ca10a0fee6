"""`idsr train`: one network, from scratch or fine-tuned, on own pairs or on clean photographs with synthetic rain."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from idsr_cli.cli import options
from idsr_cli.cli.console import console
from idsr_cli.errors import ItemError, UsageError, extra_hint
from idsr_cli.files.faults import item_error
from idsr_cli.files.interruption import on_interruption
from idsr_cli.runtime.allocator import keep_memory
from idsr_cli.runtime.threads import use_threads

if TYPE_CHECKING:
    import torch

    from idsr_cli.images.pairs import Pair
    from idsr_cli.training.batches import BatchSource
    from idsr_cli.training.loop import Progress, TrainOptions

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

# Per recipe: batch, peak rate. The paper's are its section IV.A.
RECIPE_DEFAULTS = {"paper": (16, 1e-4), "fast": (8, 1.5e-3), "constant": (8, 5e-4), "decay": (8, 5e-4)}
PAPER_EPOCHS = 160
INHERITED = ("idsr.dry_threshold", "idsr.rain_floor")
ROLE_LOSSES = {
    "dprnet": {"pixel": 0.2, "gradient": 1.0, "alp-derivative": 2.0},
    "ggirnet": {"pixel": 0.2, "gradient": 1.0},
}

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
            "network's default mixture.",
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

    pairs = find_pairs(rainy, clean, side_by_side, clean_side, pair_list)
    if not photos and not pairs:
        raise UsageError(
            "nothing to train on", hint="give --photos, or pairs by --rainy and --clean, --side-by-side or --list"
        )
    if trunk and not init:
        raise UsageError("--trunk goes with --init")
    if bool(val_rainy) != bool(val_clean):
        raise UsageError("--val-rainy and --val-clean go together")

    import torch

    from idsr_cli import networks
    from idsr_cli.evaluation.curves import draw_log
    from idsr_cli.runtime.devices import choose_device
    from idsr_cli.training import loop
    from idsr_cli.weights import run_weights

    where = choose_device(device)
    if where.type == "cpu":
        keep_memory()
    parallel = loop.start_processes(where)
    if parallel:
        where = this_process(where)
        if torch.distributed.get_rank():
            console.quiet = True
    source = load_source(photos or [], streaks or [], pairs, where, patch, dry, procedural, pair_share, large)
    default_batch, default_rate = RECIPE_DEFAULTS[recipe]
    batch = batch or default_batch
    checkpoint = loop.read_checkpoint(output / "checkpoint.pt") if resume else None
    if checkpoint is not None and not steps and not duration:
        steps, duration = loop.length(checkpoint)
    if not steps and not duration:
        duration = time_limit
    if not steps and not duration:
        processes = torch.distributed.get_world_size() if parallel else 1
        steps = PAPER_EPOCHS * -(-(len(source.photos) + len(source.pairs)) // (batch * processes))
    layout, config = networks.preset(preset, role)
    start: dict[str, torch.Tensor] | None = None
    inherited: dict[str, str] = {}
    if init:
        layout, config, start, inherited = initial(init, role)
        if trunk:
            start = with_trunk(start, trunk, role)
    half = precision == "bf16" or (precision == "auto" and where.type == "cuda")
    opts = loop.TrainOptions(
        role=role,
        layout=layout,
        config=config,
        losses=dict(loss) if loss else ROLE_LOSSES[role],
        octaves=octaves,
        balance=balance,
        recipe=recipe,
        rate=rate or default_rate,
        batch=batch,
        patch=patch,
        steps=steps,
        duration=duration,
        ema=ema,
        precision="bf16" if half else "fp32",
        seed=seed,
    )
    check_losses(opts)
    if not resume and (output / "checkpoint.pt").exists():
        raise UsageError("there is a checkpoint already", path=output, hint="add --resume, or choose another folder")
    validate = None
    if val_rainy and val_clean:
        validate = make_validation(val_rainy, val_clean, val_count, where)
    provenance = {
        "idsr.data": data_line(source, photos, streaks, pairs),
        "idsr.rain": dumps(
            {**asdict(source.make.rain.options), **asdict(source.make.options), "pair_share": pair_share}
        ),
        **({"idsr.init": Path(init).name, **inherited} if init else {}),
        **({"idsr.trunk": Path(trunk).name} if trunk else {}),
    }
    trainer = loop.Trainer(opts, source, where, output, validate, start, provenance)
    if checkpoint is not None:
        trainer.load(checkpoint)
        if trainer.share >= 1.0:
            console.note("this run is complete; give a larger --steps or --duration to train longer")
    size = sum(p.numel() for p in trainer.network.parameters())
    console.note(
        f"{role}: {size / 1e6:.2f} million parameters on {where}, {opts.precision}; {len(source.photos)} photographs, "
        f"{len(source.pairs)} pairs, {sum(map(len, source.make.rain.layers))} layers"
    )
    complete = run_told(trainer, time_limit or float("inf"), validate_every)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    if trainer.rank:
        return
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


def load_source(
    photos: list[Path], streaks: list[Path], pairs: list[Pair], device: torch.device, patch: int, dry: float,
    procedural: float, pair_share: float, large: float = 0.0,
) -> BatchSource:  # fmt: skip
    """Everything to train on, in memory; unreadable files are told and left out."""
    from idsr_cli.images.folders import photos_in
    from idsr_cli.synthetic_rain import RainOptions, RainSynthesizer
    from idsr_cli.training import memory
    from idsr_cli.training.batches import BatchSource
    from idsr_cli.training.samples import SampleMaker, SampleOptions

    def skipped(error: ItemError) -> None:
        console.error(error)

    clean = memory.load_photos([path for folder in photos for path in photos_in(folder)], skipped)
    layers = [memory.load_layers(photos_in(folder), skipped) for folder in streaks]
    for folder, found in zip(streaks, layers, strict=True):
        if not found:
            raise UsageError("no streak layer could be read", path=folder)
    loaded = memory.load_pairs(pairs, skipped)
    if not clean and not loaded:
        raise UsageError("no photograph could be read")
    if not memory.resident([clean, loaded, *layers], device):
        console.note("the photographs do not fit on the device beside the network; they stay in main memory")
    rain = RainSynthesizer(layers, RainOptions(procedural=procedural))
    return BatchSource(clean, loaded, SampleMaker(rain, SampleOptions(dry=dry)), patch, pair_share, large=large)


def initial(spec: str, role: str) -> tuple[str, dict[str, Any], dict[str, torch.Tensor], dict[str, str]]:
    """Layout, configuration and tensors of the weights to start from, and what they pass on beside them."""
    from idsr_cli import networks
    from idsr_cli.weights import find_weights

    pair = find_weights(spec)
    weights = pair.dprnet if role == "dprnet" else pair.ggirnet
    tensors = weights.tensors()
    layout, config = weights.configuration(tensors)
    if weights.arch != role and not networks.layout_of(layout).fits_role(config, role):
        raise UsageError(f"these are weights of {weights.arch}, not of {role}", path=weights.path)
    # Whoever fine-tunes weights that leave dry photographs alone expects that of the result.
    inherited = {key: value for key, value in weights.metadata.items() if key in INHERITED}
    return layout, config, tensors, inherited


def with_trunk(tensors: dict[str, torch.Tensor], spec: str, role: str) -> dict[str, torch.Tensor]:
    """`tensors` of `role`'s network, with those that the other role's has too, all but the attention maps, from there.

    Raises:
        UsageError: the weights found are not the other role's, or another shape.
    """
    from idsr_cli.weights import find_weights

    pair = find_weights(spec)
    weights = pair.ggirnet if role == "dprnet" else pair.dprnet
    if weights.arch == role:
        raise UsageError(f"these are weights of {role} itself", path=weights.path, hint="use --init for them")
    other = {name: value for name, value in weights.tensors().items() if name in tensors}
    if not other or any(value.shape != tensors[name].shape for name, value in other.items()):
        raise UsageError("its layers are not those of --init", path=weights.path)
    return {**tensors, **other}


def check_losses(opts: TrainOptions) -> None:
    """Raises UsageError for an unknown loss, or if none counts."""
    from idsr_cli.training.losses import LOSSES

    for name in opts.losses:
        if name not in LOSSES:
            raise UsageError(f"unknown loss `{name}`", hint=f"use {', '.join(LOSSES)}")
    if not any(opts.losses.values()):
        raise UsageError("no loss has any weight", hint="give one of them more than 0")


def make_validation(val_rainy: list[Path], val_clean: Path, count: int, device: torch.device) -> Any:
    """The validator over all folders, `count` pairs of each."""
    from idsr_cli.images.pairs import pairs_in_folders
    from idsr_cli.training.validate import make_validator

    groups: dict[str, list[Pair]] = {}
    for folder in val_rainy:
        name = folder.name if folder.name not in groups else str(folder)
        groups[name] = pairs_in_folders(folder, val_clean)[:count]
    return make_validator(groups, device)


def this_process(device: torch.device) -> torch.device:
    """The card of this process under torchrun."""
    import os

    import torch

    if device.type != "cuda":
        return device
    card = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(card)
    return card


def data_line(source: BatchSource, photos: list[Path] | None, streaks: list[Path] | None, pairs: list[Pair]) -> str:
    """What the weights were trained on, for their metadata."""
    parts = [f"{len(source.photos)} photographs ({', '.join(p.name for p in photos)})"] if photos else []
    parts += [f"{len(source.pairs)} pairs"] if pairs else []
    for folder, layers in zip(streaks or [], source.make.rain.layers, strict=False):
        parts.append(f"{len(layers)} streak layers ({folder.name})")
    parts.append("procedural streaks")
    return "; ".join(parts)


def run_told(trainer: Any, time_limit: float, validate_every: float) -> bool:
    """Train with a progress bar; Ctrl-C and its like end it after the step it is in, with a checkpoint.

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
        # torchrun passes on what the terminal has sent already: among several processes twice means nothing.
        if trainer.stopping and trainer.world == 1:
            raise KeyboardInterrupt
        trainer.stopping = True

    try:
        with on_interruption(stop):
            complete: bool = trainer.run(time_limit, validate_every=validate_every, listener=listen)
    finally:
        console.end()
    if trainer.stopping:
        console.note(f"wrote {trainer.folder / 'checkpoint.pt'}; go on with --resume")
        raise KeyboardInterrupt
    return complete
