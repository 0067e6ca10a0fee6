"""`idsr match`: two photographs in, what their keypoints agree on out."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from idsr_cli import __version__
from idsr_cli.cli import batch, options, sift_options
from idsr_cli.cli.console import console
from idsr_cli.cli.match_input import Networks, from_file, from_photo, is_keypoint_file, load, sift_device
from idsr_cli.cli.match_result import picture, report
from idsr_cli.errors import UsageError
from idsr_cli.formats.matches import MATCH_FORMATS, MatchFile
from idsr_cli.images.folders import SUFFIX_FORMATS
from idsr_cli.runs.plan import PIPE
from idsr_cli.runtime.threads import use_threads

HELP = """Match two photographs: keypoints as if it were not raining, mutual nearest neighbours, and the homography or \
fundamental matrix that most of them follow.

\b
Examples:
  idsr match a.jpg b.jpg                          how many agree
  idsr match a.jpg b.jpg -o picture.png           and a picture of them
  idsr match a.jpg.npz b.jpg.npz --matches m.txt  of keypoint files
  idsr match a.jpg b.jpg --derain none            plain SIFT

A and B are photographs, or .npz files that `idsr sift` wrote; one of them may be `-`, a photograph on standard input. \
Coordinates are those of the pixels as stored (EXIF orientation is not applied). \
Exit code 0 however few agree (see --min-inliers), 1 if a file is damaged, 2 if nothing could run.
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")

MATCHING, GEOMETRY = "Matching", "Geometry"


@app.command(help=HELP, no_args_is_help=True)
def match(
    first: Annotated[str, typer.Argument(metavar="A", help="Photograph or keypoint file.", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="B", help="The other one.", show_default=False)],
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
    ] = None,
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
    ] = None,
    derain: Annotated[
        Literal["auto", "none", "A", "B", "both"],
        typer.Option(
            "--derain",
            help="Which photographs to restore first. `auto` leaves one alone in which the network sees no rain; "
            "`none` is plain SIFT.",
            rich_help_panel=sift_options.KEYPOINTS,
        ),
    ] = "auto",
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
    ] = 0.8,
    mutual: Annotated[
        bool,
        typer.Option(
            "--mutual/--no-mutual",
            help="Keep only pairs that choose each other (and pass --ratio in both directions).",
            rich_help_panel=MATCHING,
        ),
    ] = True,
    rootsift: Annotated[
        bool,
        typer.Option(
            "--rootsift/--no-rootsift",
            help="Compare RootSIFT descriptors, which find more than SIFT's own.",
            rich_help_panel=MATCHING,
        ),
    ] = True,
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
    ] = None,
    model: Annotated[
        Literal["auto", "homography", "fundamental", "none"],
        typer.Option(
            "--model",
            metavar="MODEL",
            help="What the matches must follow: `homography`, `fundamental` (matrix), `none`, or `auto`: a homography "
            "where it explains nearly as many, as in flat scenes and with turning cameras.",
            rich_help_panel=GEOMETRY,
        ),
    ] = "auto",
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
    ] = 3.0,
    min_inliers: Annotated[
        int,
        typer.Option(
            "--min-inliers", metavar="N", min=0, help="Exit code 1 if there are fewer.", rich_help_panel=GEOMETRY
        ),
    ] = 0,
    splice: sift_options.Splice = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    tile: options.Tile = "auto",  # type: ignore[assignment]  # parsed by its option
    threads: options.Threads = 0,
    json: Annotated[
        bool,
        typer.Option("--json", help="The result as one JSON object.", rich_help_panel=options.REPORT),
    ] = False,
    quiet: options.Quiet = False,
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
    ] = 0,
) -> None:
    """Run the command."""
    console.configure(quiet=quiet, verbose=verbose, json=json)
    use_threads(threads)
    names = (first, second)
    check_inputs(names, derain, splice)
    check_outputs(names, output, matches)
    if model == "none" and min_inliers:
        raise UsageError("`--min-inliers` counts the inliers of a model, and there is none with `--model none`")
    begun = time.monotonic()
    photos = [None if is_keypoint_file(name) else load(name) for name in names]
    chosen = [
        photo is not None and derain in ("auto", "both", letter) for photo, letter in zip(photos, "AB", strict=True)
    ]
    networks = None
    if any(chosen):
        networks = Networks.loaded(weights, splice, device, precision, tile, forced=derain != "auto")
    sides = [
        from_file(name, max_keypoints, rootsift) if photo is None
        else from_photo(name, photo, networks if wanted else None, device, max_keypoints, rootsift)
        for name, photo, wanted in zip(names, photos, chosen, strict=True)
    ]  # fmt: skip
    for letter, side in zip("AB", sides, strict=True):
        console.detail(f"{letter}: {len(side.keypoints)} keypoints after {time.monotonic() - begun:.2f} s")

    from idsr_cli.matching import estimate, match_descriptors

    a, b = (side.keypoints for side in sides)
    found = match_descriptors(a.descriptors, b.descriptors, ratio, mutual, sift_device(networks, device))
    console.detail(f"{len(found)} matches after {time.monotonic() - begun:.2f} s")
    points = (a.xy[found.index[:, 0]], b.xy[found.index[:, 1]])
    geometry = estimate(*points, model, threshold)
    settings = {
        "derain": derain, "ratio": ratio, "mutual": mutual, "descriptors": "rootsift" if rootsift else "sift",
        "max_keypoints": max_keypoints, "threshold": threshold,
        **(networks.made_with if networks else {"weights": None, "splice": None, "device": None, "precision": None}),
    }  # fmt: skip
    if matches is not None:
        kind = MATCH_FORMATS[".txt" if matches == PIPE else Path(matches).suffix.lower()]
        meta = {"tool": "idsr", "version": __version__, **settings}
        content = MatchFile((first, second), found, points, geometry, (a.image_size, b.image_size), meta)
        batch.emit(None if matches == PIPE else Path(matches), kind(content))
    if output is not None:
        batch.emit(None if output == PIPE else Path(output), picture(sides, found, geometry, threshold, output))
    report(sides, found, geometry, model, settings, time.monotonic() - begun, output, matches)
    for path in (output, matches):
        if path is not None and path != PIPE:
            console.note(f"wrote {path}")
    if geometry.inliers.sum() < min_inliers:
        raise typer.Exit(1)


# --- before anything is computed -------------------------------------------------------------------------------------


def check_inputs(names: tuple[str, str], derain: str, splice: str | None) -> None:
    """Refuse what cannot be read or does not go together."""
    for name in names:
        if name == PIPE:
            if sys.stdin.isatty():
                raise UsageError(
                    "standard input is a terminal, not a photograph", hint="use `idsr match - b.jpg < a.jpg`"
                )
        elif Path(name).is_dir():
            raise UsageError("is a folder; two files are matched", path=name)
        elif not Path(name).exists():
            raise UsageError("no such file", path=name)
    if names == (PIPE, PIPE):
        raise UsageError("standard input holds one photograph, not two")
    for name, letter in zip(names, "AB", strict=True):
        if is_keypoint_file(name) and derain in (letter, "both"):
            raise UsageError(
                f"holds keypoints: `--derain {derain}` has nothing to restore", path=name, hint="give the photograph"
            )
    if splice and (derain == "none" or all(is_keypoint_file(name) for name in names)):
        raise UsageError("`--splice` chooses between networks, and none is used")


def check_outputs(names: tuple[str, str], output: str | None, matches: str | None) -> None:
    """Refuse outputs that cannot be written, would replace an input or each other; reserve standard output."""
    known: dict[str, tuple[str, ...]] = {"-o": tuple(SUFFIX_FORMATS), "--matches": tuple(MATCH_FORMATS)}
    taken = {Path(name).resolve() for name in names if name != PIPE}
    for option, name in (("-o", output), ("--matches", matches)):
        if name is None or name == PIPE:
            continue
        if Path(name).suffix.lower() not in known[option]:
            raise UsageError(f"the name does not say what to write with `{option}`", path=name,
                             hint=f"known: {' '.join(known[option])}")  # fmt: skip
        if Path(name).is_dir():
            raise UsageError(f"is a folder, and `{option}` writes a file", path=name)
        if Path(name).resolve() in taken:
            raise UsageError(f"`{option}` would replace another file of this command", path=name)
        taken.add(Path(name).resolve())
    pipes = [option for option, name in (("-o", output), ("--matches", matches)) if name == PIPE]
    if len(pipes) + console.json > 1:
        both = " and ".join(f"`{option} -`" for option in pipes)
        raise UsageError(f"{both}{' and `--json`' if console.json else ''} all want standard output")
    if output == PIPE and console.data_is_terminal:
        raise UsageError("will not write a binary file to the terminal", hint="redirect it: `> FILE`")
