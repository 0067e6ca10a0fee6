"""The options of `idsr match`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from idsr_cli.cli import options, sift_options

MATCHING, GEOMETRY = "Matching", "Geometry"


@dataclass(frozen=True)
class MatchPaths:
    """The two inputs, and what is written."""

    first: Annotated[str, typer.Argument(metavar="A", help="Photograph or keypoint file.", show_default=False)]
    second: Annotated[str, typer.Argument(metavar="B", help="The other one.", show_default=False)]
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PICTURE",
            help="Write a picture of the inliers, coloured by their error; its suffix decides the format, `-` is PNG "
            "on standard output. For keypoint files the photograph beside them is drawn, if there is one.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None
    matches: Annotated[
        str | None,
        typer.Option(
            "--matches",
            metavar="FILE",
            help="Write all matches: indices, coordinates in pixels, error, inlier or not. A `.txt` table or an "
            "`.npz`; `-` is the table on standard output.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None


@dataclass(frozen=True)
class MatchKeypoints:
    """Which keypoints are matched."""

    derain: Annotated[
        Literal["auto", "none", "A", "B", "both"],
        typer.Option(
            "--derain",
            help="Which photographs to restore first. `auto` leaves one alone in which the network sees no rain; "
            "`none` is plain SIFT.",
            rich_help_panel=sift_options.KEYPOINTS,
        ),
    ] = "auto"
    max_keypoints: Annotated[
        int | None,
        typer.Option(
            "--max-keypoints",
            metavar="N",
            min=1,
            help="Keep the N strongest of each. [dim]\\[default: all][/dim]",
            show_default=False,
            rich_help_panel=sift_options.KEYPOINTS,
        ),
    ] = None


@dataclass(frozen=True)
class Matching:
    """Which descriptors match."""

    ratio: Annotated[
        float,
        typer.Option(
            "--ratio",
            metavar="R",
            min=0.01,
            max=1.0,
            help="Lowe's test: the nearest descriptor must be closer than this times the second nearest; 1 = no test.",
            rich_help_panel=MATCHING,
        ),
    ] = 0.8
    mutual: Annotated[
        bool,
        typer.Option(
            "--mutual/--no-mutual",
            help="Keep only mutual nearest neighbours (which pass --ratio in both directions).",
            rich_help_panel=MATCHING,
        ),
    ] = True
    rootsift: Annotated[
        bool,
        typer.Option(
            "--rootsift/--no-rootsift",
            help="Compare RootSIFT descriptors, which find more than SIFT's own.",
            rich_help_panel=MATCHING,
        ),
    ] = True


@dataclass(frozen=True)
class GeometryOptions:
    """What the matches must agree on."""

    model: Annotated[
        Literal["auto", "homography", "fundamental", "none"],
        typer.Option(
            "--model",
            metavar="MODEL",
            help="What the matches must follow: `homography`, `fundamental` (matrix), `none`, or `auto`: a homography "
            "where it explains nearly as many, as in flat scenes and with turning cameras.",
            rich_help_panel=GEOMETRY,
        ),
    ] = "auto"
    threshold: Annotated[
        float,
        typer.Option(
            "--threshold",
            metavar="PIXELS",
            min=0.01,
            max=1000.0,
            help="Largest error of an inlier, pixels.",
            rich_help_panel=GEOMETRY,
        ),
    ] = 3.0
    min_inliers: Annotated[
        int,
        typer.Option(
            "--min-inliers", metavar="N", min=0, help="Exit code 1 if there are fewer.", rich_help_panel=GEOMETRY
        ),
    ] = 0


@dataclass(frozen=True)
class MatchReporting:
    """What is told."""

    json: Annotated[
        bool,
        typer.Option("--json", help="The result as one JSON object.", rich_help_panel=options.REPORT),
    ] = False
    quiet: options.Quiet = False
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            help="Say how long each step takes; -vv adds tracebacks to errors.",
            show_default=False,
            rich_help_panel=options.REPORT,
        ),
    ] = 0
