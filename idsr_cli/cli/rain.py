"""`idsr rain`: synthetic rain on clean photographs, seeded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from idsr_cli.cli import batch, options
from idsr_cli.cli.console import console
from idsr_cli.cli.grouped import grouped
from idsr_cli.errors import UsageError
from idsr_cli.runs.derain import photo_naming
from idsr_cli.runs.process import has_work
from idsr_cli.runs.rain import RainWork, load_measured

if TYPE_CHECKING:
    from idsr_cli.synthetic_rain import AskedRain

HELP = """Add synthetic rain to clean photographs: test data with a known dry version.

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


@dataclass(frozen=True)
class StreakSettings:
    """Which streaks fall; what is left out is random."""

    seed: Annotated[int, typer.Option(min=0, help="Of the random rain.", rich_help_panel=STREAKS)] = 0
    length: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=1000,
            help="Mean streak length, pixels (speed x exposure).",
            show_default="random",
            rich_help_panel=STREAKS,
        ),
    ] = None
    width: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=100,
            help="Streak width at half maximum, pixels (drop size). Under 0.8 it is dimmed instead.",
            show_default="random",
            rich_help_panel=STREAKS,
        ),
    ] = None
    angle: Annotated[
        float | None,
        typer.Option(
            min=-90,
            max=90,
            help="Degrees from vertical; positive falls to the right.",
            show_default="random",
            rich_help_panel=STREAKS,
        ),
    ] = None
    jitter: Annotated[
        float | None,
        typer.Option(
            min=0, max=45, help="Spread of the direction, degrees.", show_default="random", rich_help_panel=STREAKS
        ),
    ] = None
    density: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Drops per pixel (rain rate).", show_default="random", rich_help_panel=STREAKS),
    ] = None
    brightness: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Peak of the brightest streak, share of white.",
            show_default="random",
            rich_help_panel=STREAKS,
        ),
    ] = None
    blur: Annotated[
        float | None,
        typer.Option(
            min=0, max=50, help="Camera defocus, sigma in pixels.", show_default="random", rich_help_panel=STREAKS
        ),
    ] = None
    layers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=8,
            help="Layers, each further away; goes with --length, --width, --angle, --jitter, --density, --brightness, "
            "--blur, --fan or --patchy.",
            show_default="1",
            rich_help_panel=STREAKS,
        ),
    ] = None
    streaks: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Measured streak layers (rain on black) instead of procedural ones.",
            show_default=False,
            rich_help_panel=STREAKS,
        ),
    ] = None
    fan: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=45,
            help="How far the direction turns from the middle to the sides, degrees (perspective).",
            show_default="random",
            rich_help_panel=STREAKS,
        ),
    ] = None
    patchy: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="How much density and brightness change across the image.",
            show_default="random",
            rich_help_panel=STREAKS,
        ),
    ] = None

    @property
    def given(self) -> dict[str, float]:
        """The options that describe streaks, if they are given."""
        names = ("length", "width", "angle", "jitter", "density", "brightness", "blur", "fan", "patchy")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@dataclass(frozen=True)
class LightSettings:
    """How streaks and photograph are mixed."""

    composite: Annotated[
        Composite | None,
        typer.Option(
            help="add: light is added. screen: bright places gain less. occlude: a drop hides what is behind it and "
            "shows --light, so that streaks are darker than the sky. [dim]\\[default: random; with options of streaks, "
            "add][/dim]",
            show_default=False,
            rich_help_panel=LIGHT,
        ),
    ] = None
    light: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Light that occluding drops and the veil show, share of white. [dim]\\[default: random, or 0.8][/dim]",
            show_default=False,
            rich_help_panel=LIGHT,
        ),
    ] = None
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
    ] = None


@app.command(help=HELP, no_args_is_help=True)
@grouped
def rain(
    *,
    paths: options.Paths,
    streak: StreakSettings,
    lighting: LightSettings,
    selection: options.Selection,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs",
            "-j",
            min=0,
            max=64,
            help="Threads that read and write photographs; 0 chooses. Outputs do not depend on it.",
            rich_help_panel=options.SPEED,
        ),
    ] = 0,
    reporting: options.BatchReporting,
) -> None:
    """Run the command."""
    console.configure(quiet=reporting.quiet, verbose=reporting.verbose, json=reporting.json)
    check_rain(streak, lighting)
    request = batch.make_request(paths, selection, jobs, reporting)
    naming = photo_naming(None)
    items = request.plan(naming)
    stamps = request.stamps(naming, "rain", recorded(streak, lighting))
    items = stamps.check(items)
    if reporting.dry_run:
        batch.show_plan(items)
        return
    batch.check_pipes(items, text=False)
    asked = asked_rain(streak, lighting)
    measured = []
    if streak.streaks is not None and has_work(items):
        measured = load_measured(streak.streaks, console.error)
    work = RainWork(streak.seed, asked, measured, stamps, batch.write_output)
    listener = batch.ConsoleListener(batch.RunDescription("raining", "rained on"))
    batch.run(items, work.stages, request, listener, [stamps.flush])


def check_rain(streak: StreakSettings, lighting: LightSettings) -> None:
    """Refuse options that contradict each other.

    Raises:
        UsageError: two do.
    """
    if streak.streaks is not None and streak.given:
        raise UsageError(f"--streaks and --{next(iter(streak.given))} exclude each other")
    if streak.layers is not None and streak.streaks is not None:
        raise UsageError("--streaks and --layers exclude each other")
    if streak.layers is not None and not streak.given:
        raise UsageError("--layers has no effect on random streaks", hint="describe them, such as by --length")
    if lighting.light is not None and lighting.composite in ("add", "screen") and lighting.veil is None:
        raise UsageError(
            f"--light has no meaning with --composite {lighting.composite}", hint="use --composite occlude or --veil"
        )


def recorded(streak: StreakSettings, lighting: LightSettings) -> dict[str, Any]:
    """The settings that decide the rain, for the record of the output folder."""
    return {
        "seed": streak.seed,
        "layers": streak.layers or 1,
        "composite": lighting.composite,
        "light": lighting.light,
        "veil": lighting.veil,
        "streaks": None if streak.streaks is None else str(streak.streaks),
        **streak.given,
    }


def asked_rain(streak: StreakSettings, lighting: LightSettings) -> AskedRain:
    """The rain that the options describe.

    What they leave open is random, unless a streak is described: then there is one kind of light and no veil.
    """
    from idsr_cli.synthetic_rain import AskedRain, StreakOptions, VeilOptions, depth_layers

    given, light, veil = streak.given, lighting.light, lighting.veil
    streaks = depth_layers(StreakOptions(**given), streak.layers or 1) if given else None
    level = light if light is not None else 0.8 if given else None
    composite = lighting.composite
    if composite is None and light is not None and veil is None:
        composite = "occlude"
    haze = None if veil is None else VeilOptions(veil, 0.8 if level is None else level)
    return AskedRain(streaks, composite or ("add" if given else None), level, haze)
