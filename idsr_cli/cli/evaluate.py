"""`idsr evaluate`: how many keypoints come back, and how good the pictures are, on pairs with a known clean version."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from idsr_cli.cli import batch, options, removal_options
from idsr_cli.cli.console import console
from idsr_cli.cli.evaluate_options import EvaluateReporting, NetworkOptions, PairOptions, ScoringOptions
from idsr_cli.cli.grouped import grouped
from idsr_cli.errors import IdsrError
from idsr_cli.runtime.threads import use_threads

if TYPE_CHECKING:
    from idsr_cli.evaluation.evaluate import Row
    from idsr_cli.evaluation.frames import FrameRow
    from idsr_cli.evaluation.sequences import GeometryRow
    from idsr_cli.restoration import Restorer
    from idsr_cli.weights import WeightsPair

HELP = """Score idsr, the rainy photograph itself and other methods on rainy/clean pairs.

\b
Examples:
  idsr evaluate --rainy rain --clean dry
  idsr evaluate --rainy rain --clean dry --method PReNet=prenet-out -o report
  idsr evaluate --rainy rain --clean dry --weights base --weights mine
  idsr evaluate --rainy rain --clean dry --keypoints mine=keypoints
  idsr evaluate --matching oxford -o report       matching with known geometry
  idsr evaluate --pairs-of-frames rain.mp4        inliers between neighbouring frames of real rain

The tables go to standard output. `-o FOLDER` writes report.html (pictures, plots, tables; one file that opens \
offline), summary.json, rows.jsonl and images.csv, geometry.csv or frames.csv; `-o x.html` writes the page alone. \
A method's folder holds its images under the rainy photographs' names (the suffix may differ). \
Keypoint files go by these names too: x.jpg.npz or x.npz (docs/features.md). \
Give a dry photograph as both versions of a pair to see how much is removed where nothing should be.
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


@app.command(help=HELP, no_args_is_help=True)
@grouped
def evaluate(
    *,
    pairs: PairOptions,
    scoring: ScoringOptions,
    networks: NetworkOptions,
    rain: removal_options.RainRemoval,
    performance: options.Performance,
    reporting: EvaluateReporting,
) -> None:
    """Run the command."""
    console.configure(quiet=reporting.quiet, verbose=reporting.verbose, json=reporting.json)
    use_threads(performance.threads)
    from idsr_cli.evaluation.provenance import command_line
    from idsr_cli.evaluation.run import EvaluationSettings, prepare

    settings = EvaluationSettings(
        rainy=pairs.rainy,
        clean=pairs.clean,
        side_by_side=pairs.side_by_side,
        clean_side=pairs.clean_side,
        pair_list=pairs.pair_list,
        matching=scoring.matching,
        seed=scoring.seed,
        frames=scoring.pairs_of_frames,
        frames_count=scoring.frames_count,
        methods=scoring.method or (),
        keypoints=scoring.keypoints or (),
        clean_keypoints=scoring.clean_keypoints or (),
        output=scoring.output,
        logs=scoring.log or (),
        count=scoring.count,
        matching_count=scoring.matching_count,
        splices=networks.splices,
        weights=networks.weights or [os.environ.get("IDSR_WEIGHTS") or None],
        tile=performance.tile,
        removal=rain.removal().changed(),
        command=command_line(sys.argv[1:]),
    )

    def build(pair: WeightsPair, roles: str) -> Restorer:
        return batch.load_networks(pair, roles, performance, rain.removal())

    evaluation = prepare(settings, build)
    result = evaluation.run(ConsoleListener())
    console.event("summary", **result.summary())
    if not reporting.json:
        for line in result.text(console.table_width(), whole=reporting.verbose > 0):
            console.text(line)
    if scoring.output is not None:
        console.note(f"wrote {evaluation.report(scoring.output, console.warn)}")
    if evaluation.interrupted:
        console.note(f"interrupted with {evaluation.left} pairs to go")
        raise typer.Exit(130)
    if result.failed:
        raise typer.Exit(1)


class ConsoleListener:
    """Tells the user how an evaluation goes; an `evaluation.run.Listener`."""

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

    def followed(self, rows: Sequence[FrameRow]) -> None:
        for row in rows:
            console.event("frames", **asdict(row))
        console.detail(f"{rows[0].pair}: inliers {', '.join(f'{row.method} {row.inliers}' for row in rows)}")

    def failed(self, error: IdsrError, cause: Exception) -> None:
        console.error(error, cause)

    def started(self, path: Path) -> None:
        console.started(path.name)

    def advance(self) -> None:
        console.computed()
        console.advance()

    def end(self) -> None:
        console.end()
