"""The options of `idsr train`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from idsr_cli.cli import options
from idsr_cli.errors import UsageError
from idsr_cli.kinds import KINDS

if TYPE_CHECKING:
    from idsr_cli.training.setup import TrainingData

DATA = "Data"
NETWORK = "Network"
SCHEDULE = "Schedule"
LOSS = "Losses"
PRESETS = tuple(dict.fromkeys(preset for kind in KINDS.values() for preset in kind.presets))
PRESETS_IN_WORDS = "; ".join(f"{name}: {', '.join(kind.presets)}" for name, kind in KINDS.items())
if TYPE_CHECKING:
    Network: TypeAlias = str
    Preset: TypeAlias = str
else:
    Network, Preset = Literal[tuple(KINDS)], Literal[PRESETS]


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


@dataclass(frozen=True)
class RunOptions:
    """Which network is trained, and where the run is kept."""

    role: Annotated[
        Network,
        typer.Argument(
            metavar="|".join(KINDS),
            help="Which network; `idsr models list` has their papers.",
            show_default=False,
        ),
    ]
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="Folder for this run.", show_default=False)
    ]


@dataclass(frozen=True)
class DataOptions:
    """What to train and validate on."""

    photos: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR", help="Clean photographs to rain on. Repeatable.", show_default=False, rich_help_panel=DATA
        ),
    ] = None
    streaks: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Measured streak layers (rain on black). Repeatable; folders are drawn evenly.",
            show_default=False,
            rich_help_panel=DATA,
        ),
    ] = None
    rainy: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Rainy photographs of own pairs.", show_default=False, rich_help_panel=DATA),
    ] = None
    clean: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Their clean versions.", show_default=False, rich_help_panel=DATA)
    ] = None
    side_by_side: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Pairs side by side in one file each.", show_default=False, rich_help_panel=DATA
        ),
    ] = None
    clean_side: Annotated[
        Literal["left", "right"], typer.Option(help="Which half of them is clean.", rich_help_panel=DATA)
    ] = "left"
    pair_list: Annotated[
        Path | None,
        typer.Option(
            "--list",
            metavar="FILE",
            help="Pairs, a line each: rainy TAB clean.",
            show_default=False,
            rich_help_panel=DATA,
        ),
    ] = None
    real: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Rainy photographs without clean versions, for `--loss matching=WEIGHT` or `distil=WEIGHT`; mdn has "
            "matching=1 by itself. Repeatable.",
            show_default=False,
            rich_help_panel=DATA,
        ),
    ] = None
    val_rainy: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Rainy photographs for validation, which begins before the first step. Repeatable.",
            show_default=False,
            rich_help_panel=DATA,
        ),
    ] = None
    val_clean: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Their clean versions.", show_default=False, rich_help_panel=DATA)
    ] = None
    val_count: Annotated[int, typer.Option(min=1, help="Pairs used per folder.", rich_help_panel=DATA)] = 10
    patch: Annotated[
        int,
        typer.Option(
            min=0,
            help="Side of a training patch, pixels, a multiple of 32 for DPRNet and GGIRNet; 0 = the recipe's.",
            rich_help_panel=DATA,
        ),
    ] = 0
    large: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Share of batches of patches half as large again, with fewer samples (wider view).",
            rich_help_panel=DATA,
        ),
    ] = 0.0
    dry: Annotated[float, typer.Option(min=0, max=1, help="Share of samples without rain.", rich_help_panel=DATA)] = (
        0.12
    )
    procedural: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of procedural streaks where there are measured ones.", rich_help_panel=DATA
        ),
    ] = 0.55
    pair_share: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of samples from own pairs where there are photographs too.", rich_help_panel=DATA
        ),
    ] = 0.1

    def training_data(self) -> TrainingData:
        """The folders and shares, with pairs found.

        Raises:
            PairingError: a folder is missing or a pair does not match.
            UsageError: there is nothing to train on.
        """
        from idsr_cli.errors import PairingError
        from idsr_cli.images.pairs import find_pairs
        from idsr_cli.training.setup import TrainingData

        try:
            pairs = find_pairs(self.rainy, self.clean, self.side_by_side, self.clean_side, self.pair_list)
        except PairingError as error:
            if self.rainy and self.clean and (option := self._swapped(self.rainy, self.clean)):
                raise UsageError(
                    f"{error.path or self.rainy}: {error.reason}; but --real has what fits",
                    hint=f"swap --real and {option}",
                ) from error
            raise
        return TrainingData(
            photos=self.photos or [],
            streaks=self.streaks or [],
            pairs=pairs,
            real=self.real or [],
            patch=self.patch,
            dry=self.dry,
            procedural=self.procedural,
            pair_share=self.pair_share,
            large=self.large,
        )

    def _swapped(self, rainy: Path, clean: Path) -> str:
        """The option that a folder of --real could replace so that there are pairs, or ""."""
        from idsr_cli.errors import PairingError
        from idsr_cli.images.pairs import pairs_in_folders

        for real in self.real or []:
            for option, folders in (("--rainy", (real, clean)), ("--clean", (rainy, real))):
                try:
                    pairs_in_folders(*folders)
                except PairingError:
                    continue
                return option
        return ""


@dataclass(frozen=True)
class NetworkOptions:
    """Which network, and what it starts from."""

    preset: Annotated[
        Preset | None,
        typer.Option(
            metavar="NAME",
            help=f"Shape of the network: {PRESETS_IN_WORDS}. [dim]\\[default: the first][/dim]",
            show_default=False,
            rich_help_panel=NETWORK,
        ),
    ] = None
    init: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FOLDER|FILE",
            help="Start from these weights; the shape is theirs.",
            show_default=False,
            rich_help_panel=NETWORK,
        ),
    ] = None
    trunk: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FOLDER|FILE",
            help="With --init: all but the attention maps from the other network, found here.",
            show_default=False,
            rich_help_panel=NETWORK,
        ),
    ] = None
    resume: Annotated[
        Literal["always", "auto"] | None,
        typer.Option(
            "--resume",
            metavar="[auto]",
            help="Go on from OUT/checkpoint.pt. With `auto`, begin if there is none yet.",
            show_default=False,
            rich_help_panel=NETWORK,
        ),
    ] = None


@dataclass(frozen=True)
class ScheduleOptions:
    """How long, how fast, and in which steps."""

    recipe: Annotated[
        Literal["paper", "fast", "constant", "decay"],
        typer.Option(
            help="paper: the network's own; of DPRNet and GGIRNet Adam, 1e-4, batch 16, halved late. "
            "fast: AdamW, 1.5e-3, batch 8, cosine. constant: AdamW, "
            "5e-4, for a run that goes on. decay: from its weights (--init) down to 0, for a release.",
            rich_help_panel=SCHEDULE,
        ),
    ] = "paper"
    steps: Annotated[
        int,
        typer.Option(
            min=0,
            help="Length in steps; 0 = the recipe's epochs, or what --duration says.",
            rich_help_panel=SCHEDULE,
        ),
    ] = 0
    duration: Annotated[
        float,
        typer.Option(
            min=0, help="Length in seconds over all resumed runs, instead of steps.", rich_help_panel=SCHEDULE
        ),
    ] = 0.0
    time_limit: Annotated[
        float,
        typer.Option(
            min=0,
            help="Stop this run after so many seconds (0 = never). Alone, it is the length as well.",
            rich_help_panel=SCHEDULE,
        ),
    ] = 0.0
    batch: Annotated[
        int, typer.Option(min=0, help="Samples per step and process; 0 = the recipe's.", rich_help_panel=SCHEDULE)
    ] = 0
    rate: Annotated[
        float,
        typer.Option(
            min=0,
            help="Peak learning rate; 0 = the recipe's, or with --init a tenth of it (decay: all).",
            rich_help_panel=SCHEDULE,
        ),
    ] = 0.0
    ema: Annotated[
        float, typer.Option(min=0, max=0.99999, help="Decay of the averaged weights.", rich_help_panel=SCHEDULE)
    ] = 0.999
    seed: Annotated[
        int, typer.Option(min=0, help="Of the initial weights, crops and rain.", rich_help_panel=SCHEDULE)
    ] = 0


@dataclass(frozen=True)
class LossOptions:
    """What is minimised."""

    loss: Annotated[
        list[Any] | None,
        typer.Option(
            metavar="NAME=WEIGHT",
            parser=parse_loss,
            show_default=False,
            rich_help_panel=LOSS,
            help="pixel, pixel-l2, gradient, alp, alp-derivative, descriptor, extremum, ssim, quasi-sparsity, "
            "low-value, and for qsnet auxiliary. Repeatable; replaces the network's default mixture. On --real, and "
            "added to it: matching (mean and covariance of first features like those of synthetic rain), distil (the "
            "target is what the averaged network, or --teacher, makes of them at twice the size or contrast).",
        ),
    ] = None
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FOLDER|FILE",
            show_default=False,
            rich_help_panel=LOSS,
            help="With distil: these weights give the target, from the photographs as they are too, and stay as they "
            "are. What they can do is not forgotten.",
        ),
    ] = None
    octaves: Annotated[
        Any,
        typer.Option(
            metavar="-1,0",
            parser=parse_octaves,
            show_default=False,
            rich_help_panel=LOSS,
            help="Octaves the pyramid losses act on. [dim]\\[default: -1,0][/dim]",
        ),
    ] = "-1,0"
    balance: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.95,
            help="How much samples of light and heavy rain are balanced: 0 = not at all, 0.5 = by the roots of losses.",
            rich_help_panel=LOSS,
        ),
    ] = 0.0
    dry_errors: Annotated[
        float,
        typer.Option(
            metavar="TIMES",
            min=1,
            max=10,
            help="Errors in pixels without rain count this many times, so that less of the scene is taken for rain. 3 "
            "helps in faint rain.",
            rich_help_panel=LOSS,
        ),
    ] = 1.0


@dataclass(frozen=True)
class TrainPerformance:
    """Where the network is trained."""

    device: options.Device = "auto"
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        typer.Option(help="bf16 = autocast; auto takes it on CUDA.", rich_help_panel=options.SPEED),
    ] = "auto"
    threads: options.Threads = 0
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Processes that draw the samples; 0 = none, the training does it itself. "
            "[dim]\\[default: on CUDA one per core but one, else 0][/dim]",
            show_default=False,
            rich_help_panel=options.SPEED,
        ),
    ] = None


@dataclass(frozen=True)
class TrainReporting:
    """What is told."""

    json: Annotated[
        bool,
        typer.Option("--json", help="One JSON object per report on standard output.", rich_help_panel=options.REPORT),
    ] = False
    quiet: options.Quiet = False
    verbose: options.Tracebacks = 0
