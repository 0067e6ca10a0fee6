"""`idsr rain`: synthetic rain on clean photographs, seeded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from idsr_cli.cli import batch, options
from idsr_cli.cli.console import console
from idsr_cli.cli.derain import naming
from idsr_cli.errors import UsageError
from idsr_cli.images.folders import SUFFIX_FORMATS
from idsr_cli.images.photo import undo_orientation
from idsr_cli.runs.batch import Saved, Stages
from idsr_cli.runs.plan import Item

if TYPE_CHECKING:
    import numpy as np
    import torch

    from idsr_cli.images.photo import Photo
    from idsr_cli.synthetic_rain import AskedRain

HELP = """Rain on clean photographs: test data with a known dry version.

\b
Examples:
  idsr rain photos -o rainy --seed 1               random rain on each
  idsr rain photos -o rainy --length 40 --angle 10 --density 0.001
  idsr rain photos -o rainy --width 0.6 --density 0.02 --light 0.7
  idsr rain photos -o rainy --streaks layers --veil 0.6

The same seed gives the same rain on a photograph of the same name, whatever else is in the batch.
"""
STREAKS = "Streaks"
LIGHT = "How they meet the photograph"

Composite = Literal["add", "screen", "occlude"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


@app.command(help=HELP, no_args_is_help=True)
def rain(
    inputs: options.Inputs = None,
    output: options.Output = None,
    seed: Annotated[int, typer.Option(min=0, help="Another number, other rain.", rich_help_panel=STREAKS)] = 0,
    length: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=1000,
            help="Mean streak length, pixels (speed x exposure).",
            show_default="random",
            rich_help_panel=STREAKS,
        ),
    ] = None,
    width: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=100,
            help="Streak width at half maximum, pixels (drop size). Under 0.8 it is dimmed instead.",
            show_default="random",
            rich_help_panel=STREAKS,
        ),
    ] = None,
    angle: Annotated[
        float | None,
        typer.Option(
            min=-90,
            max=90,
            help="Degrees from vertical; positive falls to the right.",
            show_default="random",
            rich_help_panel=STREAKS,
        ),
    ] = None,
    jitter: Annotated[
        float | None,
        typer.Option(
            min=0, max=45, help="Spread of the direction, degrees.", show_default="random", rich_help_panel=STREAKS
        ),
    ] = None,
    density: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Drops per pixel (rain rate).", show_default="random", rich_help_panel=STREAKS),
    ] = None,
    brightness: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Peak of the brightest streak, share of white.",
            show_default="random",
            rich_help_panel=STREAKS,
        ),
    ] = None,
    blur: Annotated[
        float | None,
        typer.Option(
            min=0, max=50, help="Camera defocus, sigma in pixels.", show_default="random", rich_help_panel=STREAKS
        ),
    ] = None,
    layers: Annotated[
        int,
        typer.Option(
            min=1,
            max=8,
            help="Layers, each further away, when one of the options above is given.",
            rich_help_panel=STREAKS,
        ),
    ] = 1,
    streaks: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Measured streak layers (rain on black) instead of procedural ones.",
            show_default=False,
            rich_help_panel=STREAKS,
        ),
    ] = None,
    fan: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=45,
            help="Turn of the direction from the middle to the sides, degrees (perspective).",
            show_default="random",
            rich_help_panel=STREAKS,
        ),
    ] = None,
    patchy: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="How much density and brightness change across the image.",
            show_default="random",
            rich_help_panel=STREAKS,
        ),
    ] = None,
    composite: Annotated[
        Composite | None,
        typer.Option(
            help="add: light is added. screen: bright places gain less. occlude: a drop hides what is behind it and "
            "shows --light, so that streaks are darker than the sky. [dim]\\[default: random; with options of streaks, "
            "add][/dim]",
            show_default=False,
            rich_help_panel=LIGHT,
        ),
    ] = None,
    light: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Light that occluding drops and the veil show, share of white. [dim]\\[default: random, or 0.8][/dim]",
            show_default=False,
            rich_help_panel=LIGHT,
        ),
    ] = None,
    veil: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Haze under the streaks: least share of the scene's light that comes through, varying smoothly. "
            "[dim]\\[default: random, or none][/dim]",
            show_default=False,
            rich_help_panel=LIGHT,
        ),
    ] = None,
    from_list: options.FromList = None,
    include: options.Include = None,
    exclude: options.Exclude = None,
    no_recursive: options.NoRecursive = False,
    existing: options.ExistingOutputs = "skip",
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
    given = {
        name: value
        for name, value in {
            "length": length, "width": width, "angle": angle, "jitter": jitter, "density": density,
            "brightness": brightness, "blur": blur, "fan": fan, "patchy": patchy,
        }.items()
        if value is not None
    }  # fmt: skip
    if streaks is not None and given:
        raise UsageError(f"--streaks and --{next(iter(given))} exclude each other")
    if light is not None and composite in ("add", "screen") and veil is None:
        raise UsageError(
            f"--light has no meaning with --composite {composite}", hint="use --composite occlude or --veil"
        )
    request = batch.Request(
        inputs, output, existing, from_list, not no_recursive, include, exclude, jobs, fail_fast, failures
    )
    items = request.plan(naming(None))
    recipe = {
        "seed": seed, "layers": layers, "composite": composite, "light": light, "veil": veil,
        "streaks": None if streaks is None else str(streaks), **given,
    }  # fmt: skip
    stamps = request.stamps(naming(None), "rain", recipe)
    items = stamps.check(items)
    if dry_run:
        batch.show_plan(items)
        return
    batch.check_pipes(items, text=False)
    asked = asked_rain(given, layers, composite, light, veil)
    measured = load_measured(streaks) if streaks is not None and batch.has_work(items) else []

    def compute(item: Item, photo: Photo) -> tuple[Photo, np.ndarray]:
        import numpy as np

        from idsr_cli.synthetic_rain import rain_photo

        # Rain falls down in the photograph as it is looked at, whichever way its pixels are stored.
        rainy = rain_photo(photo.oriented_rgb, seed, item.relative.as_posix(), asked, measured)
        return photo, np.ascontiguousarray(undo_orientation(rainy, photo.orientation))

    def save(item: Item, computed: tuple[Photo, np.ndarray]) -> Saved:
        from idsr_cli.images.photo import encode

        photo, rainy = computed
        suffix = item.target.suffix.lower() if item.target is not None else ""
        batch.emit(item.target, encode(photo, rainy, SUFFIX_FORMATS.get(suffix)))
        return Saved(photo.width, photo.height)

    stages = Stages(batch.load_photo, compute, save, pixels=lambda photo: photo.width * photo.height)
    batch.run(items, stages, batch.Account("raining", "rained on"), request, stamps)


def load_measured(folder: Path) -> list[torch.Tensor]:
    """The streak layers of a folder.

    Raises:
        UsageError: none can be read.
    """
    from idsr_cli.images.folders import photos_in
    from idsr_cli.training.memory import load_layers

    found = load_layers(photos_in(folder), console.error)
    if not found:
        raise UsageError("no streak layer could be read", path=folder)
    return found


def asked_rain(
    given: dict[str, float], layers: int, how: Composite | None, light: float | None, veil: float | None
) -> AskedRain:
    """The rain that the options describe; what they leave open is random, or plain once streaks are described."""
    from idsr_cli.synthetic_rain import AskedRain, StreakOptions, VeilOptions, depth_layers

    streaks = depth_layers(StreakOptions(**given), layers) if given else None
    level = light if light is not None else 0.8 if given else None
    if how is None and (light is not None and veil is None):
        how = "occlude"
    haze = None if veil is None else VeilOptions(veil, 0.8 if level is None else level)
    return AskedRain(streaks, how or ("add" if given else None), level, haze)
