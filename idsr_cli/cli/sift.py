"""`idsr sift`: photographs in, keypoint files out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from idsr_cli.cli import batch, clip_options, options, sift_options
from idsr_cli.cli.console import console
from idsr_cli.cli.grouped import grouped
from idsr_cli.runs.frames import ClipWork
from idsr_cli.runs.keypoint_files import descriptor_kind, keypoint_sink
from idsr_cli.runs.masks import Masks
from idsr_cli.runs.plan import guard_folder
from idsr_cli.runs.process import has_work
from idsr_cli.runs.sift import SiftSettings, SiftWork, check_plan
from idsr_cli.runtime.threads import use_threads

if TYPE_CHECKING:
    from idsr_cli.weights import WeightsPair

HELP = """Extract SIFT keypoints and descriptors as if it were not raining.

\b
Examples:
  idsr sift photos -o keypoints                       a/x.jpg -> a/x.jpg.npz
  idsr sift photos -o database.db --format colmap-db  for COLMAP's matchers
  idsr sift photos -o features.h5 --format hloc       for hloc
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
    selection: options.Selection,
    frames: clip_options.FrameOptions,
    keypoints: sift_options.KeypointOptions,
    detector: sift_options.DetectorOptions,
    networks: sift_options.SpliceOptions,
    performance: options.Performance,
    jobs: options.Jobs = 0,
    reporting: options.BatchReporting,
) -> None:
    """Run the command."""
    console.configure(quiet=reporting.quiet, verbose=reporting.verbose, json=reporting.json)
    use_threads(performance.threads)
    if not keypoints.derain:
        options.refuse_idle(ctx, " with `--no-derain`")
    descriptors = descriptor_kind(files.format, keypoints.descriptors)
    masks = Masks(Path(keypoints.mask)) if keypoints.mask is not None else None
    if files.draw is not None:
        guard_folder(paths.inputs or [], files.draw)
    request, listener = batch.make_request(paths, selection, jobs, reporting), batch.ConsoleListener()
    sink = keypoint_sink(files.format, request, batch.write_output, listener)
    items = sink.plan()
    pair = find_pair(networks.weights) if keypoints.derain else None
    splice = networks.splice or (pair.splice if pair else "")
    settings = SiftSettings(
        format=files.format,
        descriptors=descriptors,
        numbers=sift_numbers(keypoints, detector),
        pair=pair,
        splice=splice,
        precision=performance.precision,
        masks=masks,
        every=frames.every,
        fps=frames.fps,
    )
    items = check_plan(items, sink, settings, files.draw)
    if reporting.dry_run:
        batch.show_plan(items)
        return
    batch.check_pipes(items, text=sink.kind.is_text)

    from idsr_cli.features import SiftOptions

    numbers = SiftOptions(**settings.numbers)
    restorer = batch.load_networks(pair, splice, performance) if pair and has_work(items) else None
    listener.description = batch.RunDescription.of("extracting", "extracted", restorer, pair)
    meta = settings.run_meta(restorer, options.tile_side(performance.tile))
    work = SiftWork(sink, numbers, splice, restorer, masks, files.draw, meta, batch.write_output)
    clip_work = ClipWork(
        suffix=sink.kind.suffix,
        request=request,
        stamps=sink.stamps,
        listener=listener,
        every=frames.every,
        fps=frames.fps,
        load_frame=work.with_mask,
        resumes=files.draw is None,
    )
    batch.run(items, clip_work.stages(work.stages), request, sink.stamps, listener, partial(sink.finish, items))


def find_pair(spec: str | None) -> WeightsPair:
    """The weights that `--weights` names."""
    from idsr_cli.weights import find_weights

    return find_weights(spec)


def sift_numbers(keypoints: sift_options.KeypointOptions, detector: sift_options.DetectorOptions) -> dict[str, Any]:
    """The options as fields of `SiftOptions`."""
    return {
        "max_keypoints": keypoints.max_keypoints,
        "n_layers": detector.layers,
        "contrast_threshold": detector.contrast_threshold,
        "edge_threshold": detector.edge_threshold,
        "sigma": detector.sigma,
    }
