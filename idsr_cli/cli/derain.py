"""`idsr derain`: photographs in, derained photographs out."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from idsr_cli.cli import batch, options, video
from idsr_cli.cli.console import console
from idsr_cli.clips.reader import CRF
from idsr_cli.errors import UsageError
from idsr_cli.images.encoders import JPEG_QUALITY
from idsr_cli.images.folders import SUFFIX_FORMATS
from idsr_cli.runs.batch import Saved, Stages
from idsr_cli.runs.plan import Item, Naming
from idsr_cli.runtime.threads import use_threads

if TYPE_CHECKING:
    from idsr_cli.images.photo import Photo
    from idsr_cli.restoration import Restored

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
A photograph without rain comes back as the very bytes of its file.

Video clips are taken where they are named, not where a folder holds them. Each frame keeps its time, rotation stays a \
tag, sound and subtitles are copied. Encoding again costs keypoints, more than JPEG does: take them from the clip with \
`idsr sift clip.mp4`, or write numbered pictures with `--format png`. A folder of numbered pictures is a folder of \
photographs, in order of number.
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")

Extension = Literal["jpg", "png", "tif", "webp", "bmp", "ppm", "jp2", "avif"]


def naming(extension: str | None) -> Naming:
    """Outputs have the name of their input; with `--format` its suffix is changed where it means another format."""

    def rename(relative: PurePath) -> PurePath:
        suffix = relative.suffix.lower()
        if extension is None or SUFFIX_FORMATS.get(suffix) == SUFFIX_FORMATS[f".{extension}"]:
            return relative
        if suffix in SUFFIX_FORMATS:
            return relative.with_suffix(f".{extension}")
        return relative.with_name(f"{relative.name}.{extension}")

    photos = Naming(rename, frozenset(SUFFIX_FORMATS), makes_photos=True)
    return video.clips_naming(photos) if extension is None else video.frames_naming(photos)


def _check_format(items: list[Item], extension: str | None) -> None:
    for item in items:
        if extension is None or item.target is None or video.of_clip(item):
            continue
        implied = SUFFIX_FORMATS.get(item.target.suffix.lower())
        if implied != SUFFIX_FORMATS[f".{extension}"]:
            raise UsageError(f"the name contradicts `--format {extension}`", path=item.target)


@app.command(help=HELP, no_args_is_help=True)
def derain(
    inputs: options.Inputs = None,
    output: options.Output = None,
    format: Annotated[
        Extension | None,
        typer.Option(
            "--format",
            help="Write this format; of a clip, numbered pictures. [dim]\\[default: that of the input][/dim]",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None,
    quality: Annotated[
        int,
        typer.Option(
            "--quality",
            min=1,
            max=100,
            help="Quality of JPEG, lossy WebP, AVIF and HEIC; colours are not subsampled in JPEG, AVIF and HEIC.",
            rich_help_panel=options.IN_OUT,
        ),
    ] = JPEG_QUALITY,
    from_list: options.FromList = None,
    include: options.Include = None,
    exclude: options.Exclude = None,
    no_recursive: options.NoRecursive = False,
    existing: options.ExistingOutputs = "skip",
    crf: video.Crf = CRF,
    every: video.Every = 1,
    fps: video.Fps = None,
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
    request = batch.Request(
        inputs, output, existing, from_list, not no_recursive, include, exclude, jobs, fail_fast, failures
    )
    items = request.plan(naming(format))
    _check_format(items, format)
    clips = video.settings(items, every, fps, crf if format is None else None)

    from idsr_cli.weights import find_weights

    pair = find_weights(weights)
    settings = {"weights": pair.dprnet.sha256, "precision": precision, "format": format, "quality": quality}
    stamps = request.stamps(naming(format), "derain", settings, lambda item: clips if video.of_clip(item) else {})
    items = stamps.check(items)
    if dry_run:
        batch.show_plan(items)
        return
    batch.check_pipes(items, text=False)
    restorer = None
    if batch.has_work(items):
        restorer = batch.load_networks(pair, "D", device, precision, options.tile_side(tile))

    def load(item: Item) -> Photo:
        from idsr_cli.images.photo import encoder_for

        photo = batch.load_photo(item)
        written = _encoder(item, format)
        # Not after the networks' work. In its own format a dry photograph needs no encoder.
        if written is not None and written != photo.format:
            encoder_for(photo, written)
        return photo

    def compute(item: Item, photo: Photo) -> tuple[Photo, Restored]:
        assert restorer is not None
        return photo, restorer.restore_photo(photo, "D")[0]

    def save(item: Item, computed: tuple[Photo, Restored]) -> Saved:
        from idsr_cli.images.photo import encode

        photo, restored = computed
        batch.emit(item.target, encode(photo, restored.rgb, _encoder(item, format), quality))
        return Saved(photo.width, photo.height, derained=restored.rain_seen)

    account = batch.Account("deraining", "derained", *batch.place(restorer), pair.name)
    stages = Stages(load, compute, save, pixels=lambda photo: photo.width * photo.height)
    work = video.Clips(f".{format}", request, stamps, every, fps, crf, restored=lambda computed: computed[1])
    batch.run(items, work.stages(stages), account, request, stamps)


def _encoder(item: Item, extension: str | None) -> str | None:
    """Format to write: the name of the output decides; without one, or with a strange one, that of the input."""
    if extension is not None:
        return SUFFIX_FORMATS[f".{extension}"]
    return SUFFIX_FORMATS.get(item.target.suffix.lower()) if item.target is not None else None
