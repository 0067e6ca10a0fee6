"""The options of `idsr evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from idsr_cli.cli import options

DEFAULT_SPLICES = "DD,GG,DG"
SPLICES = ("DD", "GG", "DG", "GD")


def parse_method(text: str) -> tuple[str, Path]:
    """`NAME=DIR`."""
    name, _, folder = text.partition("=")
    if not name or not folder:
        raise typer.BadParameter(f"`{text}` is not NAME=DIR")
    return name, Path(folder)


def parse_splices(text: str) -> tuple[str, ...]:
    """`DD,GG,DG`, or `none`."""
    names = () if text == "none" else tuple(dict.fromkeys(text.split(",")))
    if not set(names) <= set(SPLICES):
        raise typer.BadParameter(f"`{text}` is not a list of DD, GG, DG, GD, nor `none`")
    return names


@dataclass(frozen=True)
class PairOptions:
    """Where pairs with a known clean version are."""

    rainy: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Rainy photographs.", show_default=False, rich_help_panel=options.IN_OUT),
    ] = None
    clean: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Their clean versions.", show_default=False, rich_help_panel=options.IN_OUT),
    ] = None
    side_by_side: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Instead: pairs side by side in one file each.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None
    clean_side: Annotated[
        Literal["left", "right"], typer.Option(help="Which half of them is clean.", rich_help_panel=options.IN_OUT)
    ] = "left"
    pair_list: Annotated[
        Path | None,
        typer.Option(
            "--list",
            metavar="FILE",
            help="Instead: pairs, a line each: rainy TAB clean.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None


@dataclass(frozen=True)
class ScoringOptions:
    """What else is scored, and where results go."""

    matching: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Image sequences with homographies (img1 .. imgN, H1to2p .. H1toNp): it rains on image N, which is "
            "matched with image 1.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None
    pairs_of_frames: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR|CLIP",
            help="Real rain: a clip, or a folder of frames, of folders of frames, or of clips. Each frame is matched "
            "with the next. Needs no clean version.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the rain on --matching.", rich_help_panel=options.IN_OUT)
    ] = 0
    method: Annotated[
        list[Any] | None,
        typer.Option(
            metavar="NAME=DIR",
            parser=parse_method,
            help="Another method's derained photographs. Repeatable.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None
    keypoints: Annotated[
        list[Any] | None,
        typer.Option(
            metavar="NAME=DIR",
            parser=parse_method,
            help="Keypoint files of any extractor: a folder of .npz files, or hloc's .h5. Repeatable.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None
    clean_keypoints: Annotated[
        list[Any] | None,
        typer.Option(
            metavar="NAME=DIR",
            parser=parse_method,
            help="Its keypoints of the clean photographs. Needed for each --keypoints but those of idsr.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Folder for report.html, summary.json, rows.jsonl and CSV; or a single page, x.html.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None
    log: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="log.jsonl of a training run, for its curves in the report. Repeatable.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None
    count: Annotated[
        int,
        typer.Option(min=0, help="Use only the first N rainy/clean pairs; 0 = all.", rich_help_panel=options.IN_OUT),
    ] = 0
    matching_count: Annotated[
        int,
        typer.Option(
            min=0, help="Use only the first N image pairs of --matching; 0 = all.", rich_help_panel=options.IN_OUT
        ),
    ] = 0
    frames_count: Annotated[
        int,
        typer.Option(
            min=0,
            help="Use only the first N pairs of each clip or folder of --pairs-of-frames; 0 = all.",
            rich_help_panel=options.IN_OUT,
        ),
    ] = 0


@dataclass(frozen=True)
class NetworkOptions:
    """Which of our networks are scored."""

    splices: Annotated[
        Any,
        typer.Option(
            "--splice",
            metavar=DEFAULT_SPLICES,
            parser=parse_splices,
            show_default=False,
            rich_help_panel=options.MODEL,
            help="Splices to score: which network detects, which describes; `none` = only the other methods. "
            f"[dim]\\[default: {DEFAULT_SPLICES}][/dim]",
        ),
    ] = DEFAULT_SPLICES
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            metavar="NAME|FOLDER|FILE",
            show_default=False,
            rich_help_panel=options.MODEL,
            help="Trained networks to score. Repeatable. "
            "[dim]\\[default: $IDSR_WEIGHTS, or the ones that come with idsr][/dim]",
        ),
    ] = None


@dataclass(frozen=True)
class EvaluateReporting:
    """What is told."""

    json: Annotated[
        bool,
        typer.Option(
            "--json", help="One JSON object per pair and method on standard output.", rich_help_panel=options.REPORT
        ),
    ] = False
    quiet: options.Quiet = False
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            help="A line per pair, and everything that the numbers depend on; -vv adds tracebacks to errors.",
            show_default=False,
            rich_help_panel=options.REPORT,
        ),
    ] = 0
