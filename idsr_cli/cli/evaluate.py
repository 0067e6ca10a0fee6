"""`idsr evaluate`: how many keypoints come back, and how good the pictures are, on pairs with a known clean version."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from idsr_cli.cli import batch, options
from idsr_cli.cli.console import console
from idsr_cli.errors import IdsrError
from idsr_cli.runtime.threads import use_threads

if TYPE_CHECKING:
    from idsr_cli.evaluation.evaluate import Row
    from idsr_cli.evaluation.sequences import GeometryRow
    from idsr_cli.restoration import Restorer
    from idsr_cli.weights import WeightsPair

HELP = """Score idsr, the rainy photograph itself and other methods on rainy/clean pairs.

\b
Examples:
  idsr evaluate --rainy rain --clean dry
  idsr evaluate --rainy rain --clean dry --method PReNet=prenet-out -o report
  idsr evaluate --rainy rain --clean dry --weights base --weights mine
  idsr evaluate --matching oxford -o report       matching with known geometry

The tables go to standard output. `-o FOLDER` writes report.html (pictures, plots, tables; one file that opens \
offline), summary.json, rows.jsonl and images.csv or geometry.csv; `-o x.html` writes the page alone. \
A method's folder holds its images under the rainy photographs' names (the suffix may differ).
"""
DEFAULT_SPLICES = "DD,GG,DG"
SPLICES = ("DD", "GG", "DG", "GD")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


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


@app.command(help=HELP, no_args_is_help=True)
def evaluate(
    rainy: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Rainy photographs.", show_default=False, rich_help_panel=options.IN_OUT),
    ] = None,
    clean: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Their clean versions.", show_default=False, rich_help_panel=options.IN_OUT),
    ] = None,
    side_by_side: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Instead: pairs side by side in one file each.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None,
    clean_side: Annotated[
        Literal["left", "right"], typer.Option(help="Which half of them is clean.", rich_help_panel=options.IN_OUT)
    ] = "left",
    pair_list: Annotated[
        Path | None,
        typer.Option(
            "--list",
            metavar="FILE",
            help="Instead: pairs, a line each: rainy TAB clean.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None,
    matching: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Image sequences with homographies (img1 .. imgN, H1to2p .. H1toNp): it rains on image N, which is "
            "matched with image 1.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the rain on --matching.", rich_help_panel=options.IN_OUT)] = 0,
    method: Annotated[
        list[Any] | None,
        typer.Option(
            metavar="NAME=DIR",
            parser=parse_method,
            help="Another method's derained photographs. Repeatable.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None,
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
    ] = None,
    log: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="log.jsonl of a training run, for its curves in the report. Repeatable.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None,
    count: Annotated[
        int, typer.Option(min=0, help="Use the first so many pairs; 0 = all.", rich_help_panel=options.IN_OUT)
    ] = 0,
    splices: Annotated[
        Any,
        typer.Option(
            "--splice",
            metavar=DEFAULT_SPLICES,
            parser=parse_splices,
            show_default=False,
            rich_help_panel=options.MODEL,
            help="Which network detects, which describes; `none` leaves ours out. "
            f"[dim]\\[default: {DEFAULT_SPLICES}][/dim]",
        ),
    ] = DEFAULT_SPLICES,
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
    ] = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    tile: options.Tile = "auto",  # type: ignore[assignment]  # parsed by its option
    threads: options.Threads = 0,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Run the command."""
    console.configure(quiet=quiet, verbose=verbose, json=json)
    use_threads(threads)
    from idsr_cli.evaluation.provenance import command_line
    from idsr_cli.evaluation.run import EvaluationSettings, prepare

    settings = EvaluationSettings(
        rainy=rainy,
        clean=clean,
        side_by_side=side_by_side,
        clean_side=clean_side,
        pair_list=pair_list,
        matching=matching,
        seed=seed,
        methods=method or (),
        output=output,
        logs=log or (),
        count=count,
        splices=splices,
        weights=weights or [os.environ.get("IDSR_WEIGHTS") or None],
        tile=tile,
        command=command_line(sys.argv[1:]),
    )

    def build(pair: WeightsPair, letters: str) -> Restorer:
        return batch.load_networks(pair, letters, device, precision, options.tile_side(tile))

    evaluation = prepare(settings, build)
    result = evaluation.run(Narrator())
    console.event("summary", **result.summary())
    if not json:
        for line in result.text(console.table_width()):
            console.text(line)
    if output is not None:
        console.note(f"wrote {evaluation.report(output, console.warn)}")
    if evaluation.interrupted:
        console.note(f"interrupted with {evaluation.left} pairs to go")
        raise typer.Exit(130)
    if result.failed:
        raise typer.Exit(1)


class Narrator:
    """Tells the user how an evaluation goes."""

    def begin(self, doing: str, total: int) -> None:
        console.begin(doing, total)

    def scored(self, rows: Sequence[Row]) -> None:
        from idsr_cli.evaluation.records import row_record

        for row in rows:
            console.event("item", **row_record(row))
        console.detail(f"{rows[0].pair}: true {', '.join(f'{row.method} {row.recovered.true}' for row in rows)}")

    def matched(self, rows: Sequence[GeometryRow]) -> None:
        from idsr_cli.evaluation.records import plain

        for row in rows:
            console.event("geometry", **plain(asdict(row)))
        console.detail(f"{rows[0].pair}: inliers {', '.join(f'{row.method} {row.inliers}' for row in rows)}")

    def failed(self, error: IdsrError, cause: Exception) -> None:
        console.error(error, cause)

    def advance(self) -> None:
        console.advance()

    def end(self) -> None:
        console.end()
