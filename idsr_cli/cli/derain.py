"""`idsr derain`: photographs in, derained photographs out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from idsr_cli.cli import batch, clip_options, cluster_options, options, removal_options
from idsr_cli.cli.console import console
from idsr_cli.cli.grouped import grouped
from idsr_cli.cli.removal_options import layer_outputs
from idsr_cli.clips.reader import CRF
from idsr_cli.images.encoders import JPEG_QUALITY
from idsr_cli.runs.derain import DerainedOutput
from idsr_cli.runs.outputs import Output, Outputs, needed_roles
from idsr_cli.runs.work import Work
from idsr_cli.runtime.threads import use_threads

HELP = """Remove rain from photographs, so that SIFT finds in them what it would find on a dry day.

\b
Examples:
  idsr derain photos -o derained          a folder tree, mirrored
  idsr derain a.jpg -o dry.png            one photograph
  cat a.jpg | idsr derain - > dry.jpg     a pipe
  idsr derain clip.mp4 -o dry.mp4         a video clip, its sound copied

Size, bit depth, transparency, EXIF (orientation tag included), XMP, IPTC and colour profile stay as they are. \
JPEG comes back as JPEG of quality 95 without colour subsampling (4:4:4); for SIFT afterwards, `--format png` loses \
nothing. Photographs taken with the camera on its side are looked at upright and stored as they were. \
A photograph in which no rain is seen is copied byte for byte.

Name a video clip to process it; clips in a folder are skipped. Each frame keeps its time, rotation stays a \
tag, sound and subtitles are copied. Encoding a clip again costs more keypoints than JPEG does: for keypoints use \
`idsr sift clip.mp4`, or write numbered pictures with `--format png`. Numbered pictures in a folder are processed in \
order of their numbers.
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


@dataclass(frozen=True)
class WrittenFormat:
    """What is written."""

    format: Annotated[
        options.Extension | None,
        typer.Option(
            "--format",
            help="Format to write; a clip becomes numbered pictures. [dim]\\[default: that of the input][/dim]",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None
    quality: options.Quality = JPEG_QUALITY


@app.command(help=HELP, no_args_is_help=True)
@grouped
def derain(
    *,
    ctx: typer.Context,
    paths: options.Paths,
    written: WrittenFormat,
    selection: options.Selection,
    shard: options.Sharding = None,
    crf: clip_options.Crf = CRF,
    frames: clip_options.FrameOptions,
    weights: options.Weights = None,
    rain: removal_options.RainRemoval,
    layers: removal_options.RainLayers,
    performance: options.Performance,
    jobs: options.Jobs = 0,
    cluster: cluster_options.Cluster,
    reporting: options.BatchReporting,
    unchanged: options.Unchanged = None,
    report: options.Report = None,
) -> None:
    """Run the command."""
    console.configure(quiet=reporting.quiet, verbose=reporting.verbose, json=reporting.json)
    use_threads(performance.threads)
    ray = cluster.ray(ctx, performance, networks=True)
    sheet = batch.contact_sheet(report, "derain", shard)
    request = batch.make_request(paths, selection, jobs, reporting, unchanged, shard)

    from idsr_cli.weights import find_weights

    pair = find_weights(weights)
    computed = performance.computed()
    made_with = {**computed, "removal": rain.removal().changed()}
    derained = DerainedOutput(
        request,
        pair,
        computed,
        batch.write_output,
        extension=written.format,
        quality=written.quality,
        crf=crf,
        every=frames.every,
        fps=frames.fps,
        removal=rain.removal().changed(),
    )
    outputs = Outputs[Output]([derained, *layer_outputs(ctx, layers, "D", request, pair, made_with, frames)])
    items = outputs.plan()
    if reporting.dry_run:
        batch.show_plan(items, request)
        return
    batch.check_pipes(items, text=False)
    if ray is not None:
        cluster_options.check_reach(items)
    outputs.claim()
    roles = needed_roles(outputs, items)
    work = Work(
        outputs,
        batch.chosen_networks(pair, roles, performance, rain.removal()) if roles else None,
        request,
        detail=batch.shown_detail(sheet, items),
        every=frames.every,
        fps=frames.fps,
    )
    batch.run_work(items, work, batch.ConsoleListener(), ("deraining", "derained"), pair, ray, sheet)
