"""The options of `idsr derain` and `idsr sift` about video clips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

PANEL = "Video clips"

Every = Annotated[
    int,
    typer.Option(
        "--every", metavar="N", min=1, help="Take every N-th frame only, from the first.", rich_help_panel=PANEL
    ),
]
Fps = Annotated[
    float | None,
    typer.Option(
        "--fps",
        metavar="N",
        min=0.001,
        help="Take N frames a second, such as 2 or 0.5: the first at or after each 1/N s. [dim]\\[default: all][/dim]",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Crf = Annotated[
    int,
    typer.Option(
        "--crf",
        min=0,
        max=51,
        help="Quality of derained clips, 0 (best, huge) to 51. H.264, H.265 where the clip has more than 8 bits, VP9 "
        "in WebM; chroma subsampling as in the clip.",
        rich_help_panel=PANEL,
    ),
]


@dataclass(frozen=True)
class FrameOptions:
    """Which frames of a clip are taken."""

    every: Every = 1
    fps: Fps = None
