"""`idsr sift`: photographs in, keypoint files out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from idsr_cli.cli import batch, clip_options, cluster_options, options, removal_options, sift_options
from idsr_cli.cli.console import console
from idsr_cli.cli.grouped import grouped
from idsr_cli.cli.removal_options import layer_outputs
from idsr_cli.errors import UsageError
from idsr_cli.extraction import sift_fields
from idsr_cli.formats import FORMATS
from idsr_cli.runs.derain import DerainedOutput
from idsr_cli.runs.keypoint_files import check_cameras, check_out_of_several, descriptor_kind, keypoint_sink
from idsr_cli.runs.masks import Masks
from idsr_cli.runs.outputs import Output, Outputs, needed_roles
from idsr_cli.runs.plan import PIPE, guard_folder
from idsr_cli.runs.request import Request, standard_output
from idsr_cli.runs.sift import KeypointOutput, SiftSettings
from idsr_cli.runs.work import Work
from idsr_cli.runtime.threads import use_threads

if TYPE_CHECKING:
    from idsr_cli.runs.rain_layers import LayerOutput
    from idsr_cli.weights import WeightsPair

HELP = """Extract SIFT keypoints and descriptors as if it were not raining.

\b
Examples:
  idsr sift photos -o keypoints                       a/x.jpg -> a/x.jpg.npz
  idsr sift photos -o database.db --format colmap-db  for COLMAP's matchers
  idsr sift photos -o features.h5 --format hloc       for hloc
  idsr sift photos -o keypoints --derained dry        and derained photographs
  idsr sift photos -o keypoints --draw pictures       and pictures of them
  idsr sift photos -o keypoints --mask masks          none where black
  idsr sift dry -o keypoints --no-derain              plain SIFT
  idsr sift clip.mp4 -o keypoints --fps 2             clip.mp4/000000.npz, ...

The networks restore where keypoints are and what they look like. Coordinates are those of the pixels as stored \
(EXIF orientation is not applied).

Name a video clip to process it; clips in a folder are skipped. Each becomes a folder of one file a frame, \
with frames.json: their numbers and times. Numbered pictures in a folder are processed in order of their numbers.
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


@app.command(help=HELP, no_args_is_help=True)
@grouped
def sift(
    *,
    ctx: typer.Context,
    paths: options.Paths,
    files: sift_options.KeypointFiles,
    copy: sift_options.DerainedCopy,
    selection: options.Selection,
    shard: options.Sharding = None,
    frames: clip_options.FrameOptions,
    keypoints: sift_options.KeypointOptions,
    detector: sift_options.DetectorOptions,
    networks: sift_options.SpliceOptions,
    rain: removal_options.RainRemoval,
    layers: removal_options.RainLayers,
    performance: options.Performance,
    jobs: sift_options.Jobs = 0,
    cluster: cluster_options.Cluster,
    reporting: options.BatchReporting,
    unchanged: options.Unchanged = None,
    report: options.Report = None,
) -> None:
    """Run the command."""
    console.configure(quiet=reporting.quiet, verbose=reporting.verbose, json=reporting.json)
    use_threads(performance.threads)
    if not keypoints.derain:
        options.refuse_idle(ctx, " with `--no-derain`")
    copy.check(ctx)
    ray = cluster.ray(ctx, performance, networks=keypoints.derain)
    formats = list(dict.fromkeys(name.value for name in files.formats or [sift_options.FormatName.NPZ]))
    masks = Masks(Path(keypoints.mask)) if keypoints.mask is not None else None
    if files.draw == PIPE:
        raise UsageError("`--draw` writes pictures to a folder, not to standard output", hint="name a folder")
    if files.draw is not None:
        guard_folder(paths.inputs or [], files.draw)
    sheet = batch.contact_sheet(report, "sift", shard)
    request, listener = batch.make_request(paths, selection, jobs, reporting, unchanged, shard), batch.ConsoleListener()
    check_out_of_several(formats, request)
    check_cameras(formats, files.cameras)
    pair = find_pair(networks.weights) if keypoints.derain else None
    settings = SiftSettings(
        format="",
        descriptors="sift_u8",
        numbers={},
        pair=pair,
        splice=networks.splice or (pair.splice if pair else ""),
        computed=performance.computed(),
        removal=rain.removal().changed(),
        masks=masks,
        every=frames.every,
        fps=frames.fps,
    )
    points = [
        KeypointOutput(
            keypoint_sink(name, request, batch.write_output, listener, cameras=files.cameras),
            for_format(settings, name, files, keypoints, detector),
            batch.write_output,
            listener,
            files.draw if name == formats[0] else None,
        )
        for name in formats
    ]
    pictures: list[LayerOutput] = []
    if pair is not None:
        made_with = {**settings.computed, "removal": settings.removal}
        pictures = layer_outputs(ctx, layers, settings.splice, request, pair, made_with, frames)
    if masks is not None and layers.rain_mask is not None and masks.is_folder(layers.rain_mask):
        raise UsageError("`--rain-mask` would replace the masks of `--mask`", path=layers.rain_mask)
    outputs = Outputs[Output]([*points, *derained_output(copy, request, settings), *pictures])
    items = outputs.plan()
    if reporting.dry_run:
        batch.show_plan(items, request)
        return
    text = all(output.is_text for output in points) and standard_output(copy.derained) != PIPE
    batch.check_pipes(items, text=text)
    if ray is not None:
        cluster_options.check_reach(items)
    outputs.claim()

    from idsr_cli.features import SiftOptions

    for output in points:
        SiftOptions(**output.settings.numbers)  # checked before the networks are loaded
    roles = needed_roles(outputs, items)
    waiting = {output.kind for item in items for output, _ in outputs.waiting(item)}
    words = ("deraining", "derained") if waiting and waiting.isdisjoint(formats) else ("extracting", "extracted")
    work = Work(
        outputs,
        batch.chosen_networks(pair, roles, performance, rain.removal()) if pair and roles else None,
        request,
        options.tile_side(performance.tile),
        masks,
        batch.shown_detail(sheet, items),
        frames.every,
        frames.fps,
    )
    batch.run_work(items, work, listener, words, pair, ray, sheet)


def derained_output(
    copy: sift_options.DerainedCopy,
    request: Request,
    settings: SiftSettings,
) -> list[DerainedOutput]:
    """What `--derained` asks for: the same files as those of `idsr derain`."""
    if copy.derained is None or settings.pair is None:
        return []
    return [
        DerainedOutput(
            replace(request, output=copy.derained),
            settings.pair,
            settings.computed,
            batch.write_output,
            extension=copy.derained_format,
            quality=copy.quality,
            crf=copy.crf,
            every=settings.every,
            fps=settings.fps,
            removal=settings.removal,
        )
    ]


def find_pair(spec: str | None) -> WeightsPair:
    """The weights that `--weights` names."""
    from idsr_cli.weights import find_weights

    return find_weights(spec)


def for_format(
    settings: SiftSettings,
    name: str,
    files: sift_options.KeypointFiles,
    keypoints: sift_options.KeypointOptions,
    detector: sift_options.DetectorOptions,
) -> SiftSettings:
    """The settings with what depends on the format: its descriptors, its detection, its cameras."""
    form = FORMATS[name]
    like = detector.like or form.like
    numbers = sift_fields(
        like,
        max_keypoints=keypoints.max_keypoints,
        n_layers=detector.layers,
        contrast_threshold=detector.contrast_threshold,
        edge_threshold=detector.edge_threshold,
        sigma=detector.sigma,
        first_octave=detector.first_octave,
        max_orientations=detector.max_orientations,
    )
    return replace(
        settings,
        format=name,
        descriptors=descriptor_kind(name, keypoints.descriptors),
        numbers=numbers,
        like=like,
        cameras=files.cameras if getattr(form, "cameras", False) else None,
    )
