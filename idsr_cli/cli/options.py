"""Options that mean the same in every command: each defined once, and grouped by theme for `cli.grouped`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from idsr_cli.errors import UsageError

IN_OUT = "Input and output"
MODEL = "Model"
SPEED = "Performance"
REPORT = "Reporting"


def parse_tile(text: str) -> int:
    """`auto` -> -1, `0` -> 0 (never tile), else the side of a tile in pixels."""
    if text == "auto":
        return -1
    if text.isascii() and text.isdigit():
        return int(text)
    raise typer.BadParameter(f"`{text}` is neither `auto` nor a number of pixels")


def tile_side(tile: int) -> int | None:
    """What `RestorationOptions` takes: None = from memory."""
    return None if tile < 0 else tile


# Parameters of options that mean nothing without networks.
OF_NETWORKS = (
    "splice", "weights", "precision", "engine", "tile", "derained", "derained_format", "quality", "crf", "strength",
    "force", "scale", "dry_threshold", "mirror", "unchanged", "removed", "rain_mask", "rain_mask_above",
)  # fmt: skip


def refuse_idle(ctx: typer.Context, why: str) -> None:
    """Refuse options of the networks in a run without networks, if they are on the command line.

    Weights that the environment names are for other runs, and are not looked at.

    Raises:
        UsageError: there is one; `why` is the end of its sentence.
    """
    for name in OF_NETWORKS:
        if was_given(ctx, name):
            raise UsageError(f"`--{name.replace('_', '-')}` has no effect{why}")


def was_given(ctx: typer.Context, name: str) -> bool:
    """True if the option of this parameter is on the command line."""
    source: Any = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def complete_device(incomplete: str) -> list[str]:
    """For the shell's completion."""
    return [name for name in ("auto", "cpu", "cuda", "mps") if name.startswith(incomplete)]


def complete_weights(incomplete: str) -> list[str]:
    """For the shell's completion: the names of weights that are here; the shell itself completes files."""
    from idsr_cli.weights import named_weights

    return sorted({name for name, _ in named_weights() if name.startswith(incomplete)})


Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT",
        help="Photographs and folders (searched recursively), URLs of them (s3://bucket/photos), or `-` for one "
        "photograph on standard input.",
        show_default=False,
    ),
]
FromList = Annotated[
    str | None,
    typer.Option(
        "--from-list",
        metavar="FILE|-",
        help="Process only the paths in this file, one per line (or NUL-separated). Outputs mirror them "
        "from the folders named by INPUT, or without INPUT as they are written.",
        show_default=False,
        rich_help_panel=IN_OUT,
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        "--include",
        metavar="GLOB",
        help="In folders, take only photographs whose name matches; a pattern with `/` is compared with the path below "
        "the folder: `cam0_*.png`, `night/**`. Repeatable.",
        show_default=False,
        rich_help_panel=IN_OUT,
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="GLOB",
        help="Skip photographs and folders whose name matches: `*_mask.png`, `thumbs`. Repeatable.",
        show_default=False,
        rich_help_panel=IN_OUT,
    ),
]
Sharding = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N|auto",
        help="Process part I of N of the photographs, chosen by their paths: `1/4` to `4/4`. `auto` asks SLURM, "
        "torchrun or, as `auto/N`, Kubernetes (docs/scale.md).",
        show_default=False,
        rich_help_panel=IN_OUT,
    ),
]
NoRecursive = Annotated[
    bool,
    typer.Option("--no-recursive", help="Do not search folders in folders.", rich_help_panel=IN_OUT),
]


def _output(takes: str) -> Any:
    """`-o`, for a command whose output may be what `takes` says."""
    return typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help=f"Folder to write to; a file for one photograph; {takes}.",
        show_default=False,
        rich_help_panel=IN_OUT,
    )


Output = Annotated[str | None, _output("a URL of either; `-` for standard output")]
LocalOutput = Annotated[str | None, _output("`-` for standard output")]
Extension = Literal["jpg", "png", "tif", "webp", "bmp", "ppm", "jp2", "avif"]
Quality = Annotated[
    int,
    typer.Option(
        "--quality",
        min=1,
        max=100,
        help="Quality of derained JPEG, lossy WebP, AVIF and HEIC; colours are not subsampled in JPEG, AVIF and HEIC.",
        rich_help_panel=IN_OUT,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda[:N]|mps",
        envvar="IDSR_DEVICE",
        autocompletion=complete_device,
        help="Where the networks run. `auto` takes a GPU if there is one.",
        rich_help_panel=SPEED,
    ),
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"],
    typer.Option(
        "--precision", help="Numbers the networks compute in; `auto` is fp32 on a CPU.", rich_help_panel=SPEED
    ),
]
Engine = Annotated[
    Literal["auto", "torch", "ncnn"],
    typer.Option(
        "--engine",
        envvar="IDSR_ENGINE",
        help="What runs the networks; `auto` is ncnn on CPUs without AVX-512 if it is installed (extra `fast`), and "
        "torch for photographs above some 3 megapixels.",
        rich_help_panel=SPEED,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="NAME|FOLDER|FILE",
        envvar="IDSR_WEIGHTS",
        autocompletion=complete_weights,
        help="Trained networks to use.  [dim]\\[default: the ones that come with idsr][/dim]",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
Tile = Annotated[
    int,
    typer.Option(
        "--tile",
        metavar="auto|N|0",
        parser=parse_tile,
        help="Side of a tile in pixels; `auto` chooses from memory, 0 never tiles. [dim]\\[default: auto][/dim]",
        show_default=False,
        rich_help_panel=SPEED,
    ),
]
Existing = Literal["skip", "overwrite", "error"]
ExistingOutputs = Annotated[
    Existing,
    typer.Option(
        "--existing",
        help="Outputs that exist: keep and skip, replace, or refuse to start.",
        rich_help_panel=IN_OUT,
    ),
]
FailFast = Annotated[
    bool,
    typer.Option("--fail-fast", help="Stop after the first photograph that fails.", rich_help_panel=REPORT),
]
Failures = Annotated[
    Path | None,
    typer.Option(
        "--failures",
        metavar="FILE",
        help="Write the paths that failed to this file, one per line; the same command with `--from-list FILE` tries "
        "them again.",
        show_default=False,
        rich_help_panel=REPORT,
    ),
]
Unchanged = Annotated[
    Path | None,
    typer.Option(
        "--unchanged",
        metavar="FILE",
        help="Write the paths of photographs in which no rain was seen to this file, one per line.",
        show_default=False,
        rich_help_panel=REPORT,
    ),
]
Report = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE.html",
        help="Also write a contact sheet: each photograph before and after, what was removed, keypoints, rain, time; "
        "one page that opens offline.",
        show_default=False,
        rich_help_panel=REPORT,
    ),
]
Jobs = Annotated[
    int,
    typer.Option(
        "--jobs",
        "-j",
        min=0,
        max=64,
        help="Threads that read and write beside the networks; 0 chooses. Outputs do not depend on it.",
        rich_help_panel=SPEED,
    ),
]
Threads = Annotated[
    int,
    typer.Option(
        "--threads",
        metavar="N",
        envvar="IDSR_THREADS",
        min=0,
        max=1024,
        help="Processor threads of networks and SIFT; 0 = one per processor. Fewer on a machine shared with others.",
        rich_help_panel=SPEED,
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="One JSON object per photograph on standard output.", rich_help_panel=REPORT),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", "-n", help="Print what would be written, and stop.", rich_help_panel=REPORT),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Errors only.", rich_help_panel=REPORT),
]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        help="A line per photograph; -vv adds tracebacks to errors.",
        show_default=False,
        rich_help_panel=REPORT,
    ),
]

Tracebacks = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        help="-vv adds tracebacks to errors.",
        show_default=False,
        rich_help_panel=REPORT,
    ),
]


# The default of `--tile`, before its parser.
AUTO_TILE: int = "auto"  # type: ignore[assignment]


@dataclass(frozen=True)
class Paths:
    """What is read, and where results go."""

    inputs: Inputs = None
    output: Output = None


@dataclass(frozen=True)
class Selection:
    """Which inputs are taken, and what becomes of outputs that exist."""

    from_list: FromList = None
    include: Include = None
    exclude: Exclude = None
    no_recursive: NoRecursive = False
    existing: ExistingOutputs = "skip"


@dataclass(frozen=True)
class Performance:
    """Where the networks run, and how fast."""

    device: Device = "auto"
    precision: Precision = "auto"
    engine: Engine = "auto"
    tile: Tile = AUTO_TILE
    threads: Threads = 0

    def computed(self) -> dict[str, str | None]:
        """Precision and engine as asked for, for the settings of outputs.

        The engine is None if it was left to idsr: results of engines differ by rounding only, and records from before
        there were several do not name one.
        """
        return {"precision": self.precision, "engine": None if self.engine == "auto" else self.engine}


@dataclass(frozen=True)
class BatchReporting:
    """What a command over many photographs tells, and when it stops."""

    json: Json = False
    dry_run: DryRun = False
    fail_fast: FailFast = False
    failures: Failures = None
    quiet: Quiet = False
    verbose: Verbose = 0
