"""`idsr rain`: synthetic rain on clean photographs, seeded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from idsr_cli.cli import batch, options
from idsr_cli.cli.console import console
from idsr_cli.cli.derain import naming
from idsr_cli.errors import UsageError
from idsr_cli.images.folders import SUFFIX_FORMATS
from idsr_cli.images.photo import as_stored
from idsr_cli.runs.batch import Saved, Stages
from idsr_cli.runs.plan import Item

if TYPE_CHECKING:
    import numpy as np
    import torch

    from idsr_cli.images.photo import Photo
    from idsr_cli.training.rain import StreakOptions

HELP = """Rain on clean photographs: test data with a known dry version.

\b
Examples:
  idsr rain photos -o rainy --seed 1               random rain on each
  idsr rain photos -o rainy --length 40 --angle 10 --density 0.001
  idsr rain photos -o rainy --streaks layers       measured streaks

The same seed gives the same rain on a photograph of the same name, whatever else is in the batch.
"""
STREAKS = "Streaks"
# Rain further away: smaller, denser and a little dimmer than the layer before it.
_DEPTH = {"length": 0.6, "width": 0.7, "density": 2.5, "brightness": 0.8}

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
            min=0.8,
            max=100,
            help="Streak width at half maximum, pixels (drop size).",
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
    screen: Annotated[
        bool,
        typer.Option(
            "--screen/--add", help="Bright places gain less, or the same as dark ones.", rich_help_panel=STREAKS
        ),
    ] = False,
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
            "brightness": brightness, "blur": blur,
        }.items()
        if value is not None
    }  # fmt: skip
    if streaks is not None and given:
        raise UsageError(f"--streaks and --{next(iter(given))} exclude each other")
    request = batch.Request(
        inputs, output, existing, from_list, not no_recursive, include, exclude, jobs, fail_fast, failures
    )
    items = request.plan(naming(None))
    look = {
        "seed": seed, "layers": layers, "screen": screen, "streaks": None if streaks is None else str(streaks), **given,
    }  # fmt: skip
    stamps = request.stamps(naming(None), "rain", look)
    items = stamps.check(items)
    if dry_run:
        batch.show_plan(items)
        return
    batch.check_pipes(items, text=False)
    measured = load_measured(streaks) if streaks is not None and batch.has_work(items) else []

    def compute(item: Item, photo: Photo) -> tuple[Photo, np.ndarray]:
        import numpy as np

        # Rain falls down in the photograph as it is looked at, whichever way its pixels are stored.
        rainy = rain_on(photo.upright, seed, item.relative.as_posix(), given, layers, measured, screen)
        return photo, np.ascontiguousarray(as_stored(rainy, photo.orientation))

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


def rain_on(
    rgb: np.ndarray,
    seed: int,
    name: str,
    given: dict[str, float],
    layers: int,
    measured: list[torch.Tensor],
    screen: bool,
) -> np.ndarray:
    """(H, W, 3) in [0, 1] -> the same with rain; `seed` and `name` alone decide which."""
    import hashlib

    import numpy as np
    import torch

    from idsr_cli.training.rain import RainSynthesizer, blend, random_streaks, streak_layer

    digest = hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogatepass")).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    image = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))
    if measured:
        image = blend(image, RainSynthesizer([measured]).measured(image, generator), screen)
    else:
        for streak in depth_layers(given, layers) if given else random_streaks(generator):
            image = blend(image, streak_layer((image.shape[1], image.shape[2]), streak, generator), screen)
    return np.ascontiguousarray(image.numpy().transpose(1, 2, 0))


def depth_layers(given: dict[str, float], count: int) -> list[StreakOptions]:
    """`count` layers from near to far, the nearest as asked for."""
    from idsr_cli.training.rain import StreakOptions

    nearest = StreakOptions(**given)
    return [
        replace(
            nearest,
            **{
                name: min(1.0, getattr(nearest, name) * factor**i)
                if name in ("density", "brightness")
                else getattr(nearest, name) * factor**i
                for name, factor in _DEPTH.items()
            },
        )
        for i in range(count)
    ]
