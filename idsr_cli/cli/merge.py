"""`idsr merge`: the parts that shards wrote in, one file out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

import typer

from idsr_cli.cli import options
from idsr_cli.cli.batch import NAMED
from idsr_cli.cli.console import console
from idsr_cli.cli.grouped import grouped
from idsr_cli.runs.merge import Merge, plan_merge

HELP = """Join the databases or feature files that `idsr sift --shard I/N` wrote into one.

\b
Examples:
  idsr merge database.shard-*.db -o database.db    of `--format colmap-db`
  idsr merge features.shard-*.h5 -o features.h5    of `--format hloc`

Photographs that share a camera in a whole run share one here. Parts that were made with different settings are \
refused, and so is a photograph that has different keypoints in two parts. The parts stay as they are. If OUT exists, \
its photographs, ids and matches are kept and the new ones added.
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


@dataclass(frozen=True)
class MergePaths:
    """What is read, and where the result goes."""

    parts: Annotated[
        list[str] | None,
        typer.Argument(metavar="PART", help="Files that shards wrote: all .db, or all .h5.", show_default=False),
    ] = None
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write, of the kind of the parts.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None


@dataclass(frozen=True)
class MergeReporting:
    """What is told."""

    json: Annotated[
        bool,
        typer.Option("--json", help="One JSON object per part on standard output.", rich_help_panel=options.REPORT),
    ] = False
    dry_run: options.DryRun = False
    quiet: options.Quiet = False
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            help="A line per part; -vv adds tracebacks to errors.",
            show_default=False,
            rich_help_panel=options.REPORT,
        ),
    ] = 0


@app.command(help=HELP, no_args_is_help=True)
@grouped
def merge(
    *,
    paths: MergePaths,
    existing: Annotated[
        options.Existing,
        typer.Option(
            "--existing",
            help="If the output exists: keep its photographs and add new ones, replace it, or refuse to start.",
            rich_help_panel=options.IN_OUT,
        ),
    ] = "skip",
    reporting: MergeReporting,
) -> None:
    """Run the command."""
    console.configure(quiet=reporting.quiet, verbose=reporting.verbose, json=reporting.json)
    begun = time.monotonic()
    plan = plan_merge(paths.parts or (), paths.output, existing)
    _show(plan, lines=reporting.dry_run)
    if reporting.dry_run:
        return
    added = plan.run()
    total = sum(plan.parts.values())
    seconds = time.monotonic() - begun
    console.event(
        "summary",
        output=str(plan.path),
        parts=len(plan.parts),
        added=added,
        skipped=total - added,
        seconds=round(seconds, 3),
    )
    there = f", {total - added} were there already" if total > added else ""
    parts = "1 part" if len(plan.parts) == 1 else f"{len(plan.parts)} parts"
    console.note(f"merged {parts} into {plan.path}: {added} photographs{there}, in {seconds:.1f} s")


def _show(plan: Merge, lines: bool) -> None:
    """The parts, with `lines` on standard output, and which shards are not among them."""
    for part, count in plan.parts.items():
        console.event("part", input=str(part), output=str(plan.path), photographs=count)
        if lines and not console.json:
            console.text(f"{part} ({count} photographs) -> {plan.path}")
        else:
            console.detail(f"{part}: {count} photographs")
    if plan.missing:
        named = ", ".join(map(str, plan.missing[:NAMED]))
        more = f" and {len(plan.missing) - NAMED} more" if len(plan.missing) > NAMED else ""
        console.warn(f"no part of shard {named}{more}", "a shard without photographs writes none")
