"""`idsr sift`: photographs in, keypoint files out."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from idsr_cli import __version__
from idsr_cli.cli import batch, options, sift_options, video
from idsr_cli.cli.console import console
from idsr_cli.cli.run_file import PART, RunFile, check_library, run_path
from idsr_cli.cli.sift_run import SiftRun, is_drawn, picture_path
from idsr_cli.errors import UsageError
from idsr_cli.formats import FORMATS, FileFormat, RunFormat
from idsr_cli.formats.descriptors import DescriptorKind
from idsr_cli.runs.batch import Stages
from idsr_cli.runs.masks import Masks
from idsr_cli.runs.plan import Item, Naming, guard_folder
from idsr_cli.runs.stamps import Stamps
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

The networks restore where keypoints are and how they look. Coordinates are those of the pixels as stored \
(EXIF orientation is not applied).

Video clips are taken where they are named, not where a folder holds them. Each becomes a folder of one file a frame, \
with frames.json: their numbers and times. A folder of numbered pictures is a folder of photographs, in order of number.
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


def naming(kind: FileFormat) -> Naming:
    """The format's suffix is appended to the whole name, so x.jpg and x.png never meet."""
    return video.frames_naming(
        Naming(
            lambda relative: relative.with_name(relative.name + kind.suffix),
            frozenset({kind.suffix}),
            makes_photos=False,
            options=_format_options(),
        )
    )


def _format_options() -> dict[str, tuple[str, bool]]:
    options: dict[str, tuple[str, bool]] = {}
    for name, kind in FORMATS.items():
        if isinstance(kind, RunFormat):
            options |= dict.fromkeys(kind.suffixes, (f"--format {name}", True))
        else:
            options[kind.suffix] = (f"--format {name}", False)
    return options


def descriptor_kind(name: str, wanted: DescriptorKind | None) -> DescriptorKind:
    """The descriptors that a format gets."""
    kinds = FORMATS[name].kinds
    if wanted is not None and wanted not in kinds:
        raise UsageError(
            f"`--format {name}` cannot hold `--descriptors {wanted}`", hint=f"it takes {' or '.join(kinds)}"
        )
    return wanted or kinds[0]


def check_masks(items: list[Item], masks: Masks) -> list[Item]:
    """The items; those that have no mask are known to fail, and if none has one, nothing is started."""
    if any(item.source is None for item in items):
        raise UsageError("`--mask` finds masks by the names of photographs, and standard input has none")
    without = {id(item) for item in items if not item.done and masks.find(item.relative) is None}
    if without and len(without) == len(items):
        raise UsageError(masks.missing(items[0].relative), path=items[0].name)
    return [
        replace(i, target=None, problem=i.problem or masks.missing(i.relative)) if id(i) in without else i
        for i in items
    ]


def check_pictures(items: list[Item], folder: str, masks: Masks | None) -> None:
    """Refuse pictures of keypoints that would replace a photograph or a mask of this run."""
    read = {os.path.realpath(item.source): "photograph" for item in items if item.source is not None}
    if masks is not None:
        found = (masks.find(item.relative) for item in items)
        read |= {os.path.realpath(path): "mask" for path in found if path is not None}
    for item in items:
        path = picture_path(folder, item)
        if (kind := read.get(os.path.realpath(path))) is not None:
            raise UsageError(
                f"a picture of keypoints would replace this {kind}", path=path, hint="give `--draw` a folder of its own"
            )


def networks_used(pair: WeightsPair | None, letters: str) -> list[str] | None:
    """The hashes of the weights that a splice runs, for the record of settings."""
    roles = {} if pair is None else {"D": pair.dprnet.sha256, "G": pair.ggirnet.sha256}
    return [roles[letter] for letter in letters] or None


@app.command(help=HELP, no_args_is_help=True)
def sift(
    inputs: options.Inputs = None,
    output: options.Output = None,
    format: sift_options.Format = "npz",
    draw: sift_options.Draw = None,
    from_list: options.FromList = None,
    include: options.Include = None,
    exclude: options.Exclude = None,
    no_recursive: options.NoRecursive = False,
    existing: options.ExistingOutputs = "skip",
    every: video.Every = 1,
    fps: video.Fps = None,
    descriptors: sift_options.Descriptors = None,
    max_keypoints: sift_options.MaxKeypoints = None,
    mask: sift_options.Mask = None,
    derain: sift_options.Derain = True,
    layers: sift_options.Layers = 3,
    contrast_threshold: sift_options.ContrastThreshold = 0.04,
    edge_threshold: sift_options.EdgeThreshold = 10.0,
    sigma: sift_options.Sigma = 1.6,
    splice: sift_options.Splice = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    tile: options.Tile = "auto",  # type: ignore[assignment]  # parsed by its option
    threads: options.Threads = 0,
    jobs: options.Jobs = 0,
    json: options.Json = False,
    dry_run: options.DryRun = False,
    fail_fast: options.FailFast = False,
    failures: options.Failures = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Run the command."""
    console.configure(quiet=quiet, verbose=verbose, json=json)
    use_threads(threads)
    if splice and not derain:
        raise UsageError("`--splice` chooses between networks, and `--no-derain` uses none")
    descriptor = descriptor_kind(format, descriptors)
    masks = Masks(Path(mask)) if mask is not None else None
    if draw is not None:
        guard_folder(inputs or [], draw)
    request = batch.Request(
        inputs, output, existing, from_list, not no_recursive, include, exclude, jobs, fail_fast, failures
    )
    kind, run_file = FORMATS[format], None
    if isinstance(kind, RunFormat):
        check_library(format, kind)
        run_file, kind = RunFile(kind, run_path(request.out, kind)), PART
    items = run_file.plan(request) if run_file else request.plan(naming(kind))
    if run_file is not None and any(map(video.of_clip, items)):
        raise UsageError(
            f"`--format {format}` is a file about pictures, and the frames of a clip are none",
            hint="make them with `idsr derain --format png`, then take keypoints with `--no-derain`",
        )
    clips = video.settings(items, every, fps)
    pair = None
    if derain:
        from idsr_cli.weights import find_weights

        pair = find_weights(weights)
    letters = splice or (pair.splice if pair else "")
    numbers: dict[str, Any] = {
        "max_keypoints": max_keypoints,
        "n_layers": layers,
        "contrast_threshold": contrast_threshold,
        "edge_threshold": edge_threshold,
        "sigma": sigma,
    }
    # Everything that decides what is in a file, and nothing else: the same photographs give the same bytes.
    made_with: dict[str, Any] = {
        "splice": letters or None,
        "precision": precision if derain else None,
        "sift": numbers,
        "descriptors": descriptor,
        "mask": masks is not None,
    }
    settings = {"weights": networks_used(pair, letters), "format": format, **made_with}

    def own(item: Item) -> dict[str, Any]:
        of_mask = {} if masks is None else {"mask": masks.size(item.relative)}
        return {**of_mask, **(clips if video.of_clip(item) else {})}

    if run_file is not None:
        settings |= {"command": "sift", "version": __version__}
        items, stamps = run_file.check(items, settings, own), Stamps(None, {})
    else:
        stamps = request.stamps(naming(kind), "sift", settings, own)
        items = stamps.check(items)
    if draw is not None:
        check_pictures(items, draw, masks)
        # Keypoints that are there without their picture are not complete.
        bare = {id(item) for item in items if item.done and not is_drawn(draw, item)}
        items = [replace(item, done=False, stale="") if id(item) in bare else item for item in items]
    if masks is not None:
        items = check_masks(items, masks)
    if dry_run:
        batch.show_plan(items)
        return
    batch.check_pipes(items, text=kind.is_text)

    from idsr_cli.features import SiftOptions

    sift_settings = SiftOptions(**numbers)
    restorer = None
    made_with["weights"] = None
    if pair and batch.has_work(items):
        restorer = batch.load_networks(pair, letters, device, precision, options.tile_side(tile))
        made_with |= {
            "weights": {"name": pair.name, "sha256": pair.sha256},
            "precision": restorer.precision,
            "device": restorer.device.type,
            "tile": "auto" if tile < 0 else tile,
        }
    account = batch.Account("extracting", "extracted", *batch.place(restorer), pair.name if pair else None)
    work = SiftRun(kind, sift_settings, letters, restorer, masks, draw, made_with, run_file)
    stages = Stages(work.load, work.compute, work.save, pixels=lambda loaded: loaded.pixels)
    frames = video.Clips(kind.suffix, request, stamps, every, fps, take=work.with_mask, goes_on=draw is None)
    finish = None if run_file is None else partial(run_file.gather, items)
    batch.run(items, frames.stages(stages), account, request, stamps, finish)
