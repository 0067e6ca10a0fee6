"""Options about the rain: how it is taken out, and what is written of it. The same in every command with networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from idsr_cli.cli import clip_options
from idsr_cli.cli.batch import write_output
from idsr_cli.cli.options import IN_OUT, was_given
from idsr_cli.errors import UsageError

if TYPE_CHECKING:
    from idsr_cli.restoration import Removal
    from idsr_cli.runs.rain_layers import LayerOutput, Picture
    from idsr_cli.runs.request import Request
    from idsr_cli.weights import WeightsPair

RAIN = "Rain removal"
# Fewer than two thirds of the keypoints where more was taken out are keypoints of the dry photograph too.
RAIN_MASK_ABOVE = 20.0

Strength = Annotated[
    float,
    typer.Option(
        "--strength",
        min=0.0,
        max=1.5,
        help="Share of the rain to take out; 0 only measures it. A little less than 1 is gentler on the scene.",
        rich_help_panel=RAIN,
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Take rain out of photographs that seem dry, too.",
        rich_help_panel=RAIN,
    ),
]
Scale = Annotated[
    Literal["auto", "1", "1.5", "2"],
    typer.Option(
        "--scale",
        help="Look at the photograph enlarged by this factor, for rain finer than a pixel; 2 takes four times as long. "
        "`auto`: at 1; if rain is seen in places only, or nowhere, with more contrast, at 0.5, 1.5 and 2 as well; "
        "large ones at 0.5 too.",
        rich_help_panel=RAIN,
    ),
]
DryThreshold = Annotated[
    float | None,
    typer.Option(
        "--dry-threshold",
        metavar="LEVELS",
        min=0.0,
        max=255.0,
        help="Leave photographs as they are unless this much would be taken out of half of their parts (root mean "
        "square, grey levels); 0 = no such test. For networks of others, which have none. "
        "[dim]\\[default: the weights'][/dim]",
        show_default=False,
        rich_help_panel=RAIN,
    ),
]
Mirror = Annotated[
    bool,
    typer.Option(
        "--mirror",
        help="Also look at photographs with rain mirrored, and take the mean of both: in twice the time, more of the "
        "keypoints of two rainy photographs match.",
        rich_help_panel=RAIN,
    ),
]
Removed = Annotated[
    str | None,
    typer.Option(
        "--removed",
        metavar="DIR",
        help="Also write the rain that was taken out there, as a/x.jpg.png: light on black.",
        show_default=False,
        rich_help_panel=IN_OUT,
    ),
]
RainMask = Annotated[
    str | None,
    typer.Option(
        "--rain-mask",
        metavar="DIR",
        help="Also write masks there, a/x.jpg.png for a/x.jpg, black where rain was taken out, for COLMAP's "
        "`ImageReader.mask_path` and for `idsr sift --mask`.",
        show_default=False,
        rich_help_panel=IN_OUT,
    ),
]
RainMaskAbove = Annotated[
    float,
    typer.Option(
        "--rain-mask-above",
        metavar="LEVELS",
        min=0.5,
        max=255.0,
        help="Change of a channel, grey levels of 255, from which a pixel is black in --rain-mask.",
        rich_help_panel=IN_OUT,
    ),
]


@dataclass(frozen=True)
class RainRemoval:
    """How rain is taken out."""

    strength: Strength = 1.0
    force: Force = False
    scale: Scale = "auto"
    dry_threshold: DryThreshold = None
    mirror: Mirror = False

    def removal(self, force: bool = False) -> Removal:
        """What `RestorationOptions` takes; `force` = in any case also from photographs that seem dry."""
        from idsr_cli.restoration import Removal

        scale: float | Literal["auto"] = "auto" if self.scale == "auto" else float(self.scale)
        return Removal(self.strength, self.force or force, scale, dry_threshold=self.dry_threshold, mirror=self.mirror)


@dataclass(frozen=True)
class RainLayers:
    """What is written of the rain itself."""

    removed: Removed = None
    rain_mask: RainMask = None
    rain_mask_above: RainMaskAbove = RAIN_MASK_ABOVE


def layer_outputs(
    ctx: typer.Context,
    layers: RainLayers,
    roles: str,
    request: Request,
    pair: WeightsPair,
    made_with: Mapping[str, Any],
    frames: clip_options.FrameOptions,
) -> list[LayerOutput]:
    """What `--removed` and `--rain-mask` ask for.

    Args:
        ctx: of the command.
        layers: the options.
        roles: the networks of the run: the rain of the first one is written, and masks are of all of them.
        request: what the command was asked for.
        pair: the weights.
        made_with: what else decides the results of the networks, for the record.
        frames: which frames of clips.

    Raises:
        UsageError: options that contradict each other.
    """
    from idsr_cli.runs.rain_layers import LayerOutput, dry_mask, removed_rain

    above = layers.rain_mask_above
    if layers.rain_mask is None and was_given(ctx, "rain_mask_above"):
        raise UsageError("`--rain-mask-above` has no effect without `--rain-mask DIR`")
    made: list[LayerOutput] = []

    def add(kind: str, folder: str, networks: str, picture: Picture, settings: Mapping[str, Any]) -> None:
        there = replace(request, output=folder)
        made.append(
            LayerOutput(
                kind, networks, there, pair, write_output, picture, settings, every=frames.every, fps=frames.fps
            )
        )

    if layers.removed is not None:
        add("removed", layers.removed, roles[0], removed_rain, made_with)
    if layers.rain_mask is not None:
        add("rain-mask", layers.rain_mask, roles, dry_mask(above), {**made_with, "rain_mask_above": above})
    return made
