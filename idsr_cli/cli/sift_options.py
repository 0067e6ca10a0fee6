"""The options of `idsr sift` about keypoints and their files."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

import typer

from idsr_cli.cli import options

KEYPOINTS = "Keypoints"
SIFT = "SIFT (defaults are OpenCV's)"


class FormatName(StrEnum):
    """The keys of `FORMATS`, which is not loaded for `--help`. Typer takes no list of a Literal."""

    NPZ = "npz"
    COLMAP = "colmap"
    COLMAP_DB = "colmap-db"
    HLOC = "hloc"
    OPENCV = "opencv"
    LOWE = "lowe"
    VLFEAT = "vlfeat"
    OXFORD = "oxford"


Format = Annotated[
    list[FormatName] | None,
    typer.Option(
        "--format",
        help="Format of the keypoint files (docs/formats.md); colmap-db and hloc write one file for all photographs. "
        "Repeatable: the networks run once for all. [dim]\\[default: npz][/dim]",
        show_default=False,
        rich_help_panel=options.IN_OUT,
    ),
]
Descriptors = Annotated[
    Literal["sift_u8", "rootsift_u8", "rootsift_f32"] | None,
    typer.Option(
        "--descriptors",
        help="SIFT or RootSIFT, bytes or floats of unit length. "
        "[dim]\\[default: colmap, colmap-db rootsift_u8; hloc rootsift_f32; else sift_u8][/dim]",
        show_default=False,
        rich_help_panel=KEYPOINTS,
    ),
]
Draw = Annotated[
    str | None,
    typer.Option(
        "--draw",
        metavar="DIR",
        help="Also write pictures of the keypoints there, as PNG.",
        show_default=False,
        rich_help_panel=options.IN_OUT,
    ),
]
Derained = Annotated[
    str | None,
    typer.Option(
        "--derained",
        metavar="DIR",
        help="Also write the derained photographs there, as `idsr derain -o DIR` does; a file for one photograph.",
        show_default=False,
        rich_help_panel=options.IN_OUT,
    ),
]
Mask = Annotated[
    str | None,
    typer.Option(
        "--mask",
        metavar="DIR",
        help="Masks, a/x.jpg.png or a/x.png for a/x.jpg, of the same size: no keypoints where they are black (0).",
        show_default=False,
        rich_help_panel=KEYPOINTS,
    ),
]
MaxKeypoints = Annotated[
    int | None,
    typer.Option(
        "--max-keypoints",
        metavar="N",
        min=1,
        help="Keep the N strongest, exactly, of those the mask allows. [dim]\\[default: all][/dim]",
        show_default=False,
        rich_help_panel=KEYPOINTS,
    ),
]
Derain = Annotated[
    bool,
    typer.Option(
        "--derain/--no-derain",
        help="Restore the photograph first, or take it as it is (plain SIFT).",
        rich_help_panel=KEYPOINTS,
    ),
]
Jobs = Annotated[
    int,
    typer.Option(
        "--jobs",
        "-j",
        min=0,
        max=64,
        help="Threads that read, run SIFT and write beside the networks; 0 chooses. Outputs do not depend on it.",
        rich_help_panel=options.SPEED,
    ),
]
Splice = Annotated[
    Literal["DG", "DD", "GG"] | None,
    typer.Option(
        "--splice",
        help="Which network (D = DPRNet, G = GGIRNet) detects, and which describes. "
        "[dim]\\[default: what the weights were measured best with; DD for base][/dim]",
        show_default=False,
        rich_help_panel=options.MODEL,
    ),
]
Layers = Annotated[
    int,
    typer.Option("--layers", min=1, max=16, help="Layers per octave (nOctaveLayers).", rich_help_panel=SIFT),
]
ContrastThreshold = Annotated[
    float,
    typer.Option(
        "--contrast-threshold",
        min=0,
        help="Drop keypoints of less contrast, in parts of the grey range; lower finds more.",
        rich_help_panel=SIFT,
    ),
]
EdgeThreshold = Annotated[
    float,
    typer.Option(
        "--edge-threshold",
        min=0,
        help="Drop keypoints whose curvatures differ by more than this factor, on edges; higher finds more.",
        rich_help_panel=SIFT,
    ),
]
Sigma = Annotated[
    float,
    typer.Option(
        "--sigma",
        help="Blur of the first image of an octave, pixels, above 1 to 3.2; higher ignores fine detail.",
        rich_help_panel=SIFT,
    ),
]


@dataclass(frozen=True)
class KeypointFiles:
    """What is written."""

    formats: Format = None
    derained: Derained = None
    draw: Draw = None


@dataclass(frozen=True)
class KeypointOptions:
    """Which keypoints are taken, and how they are described."""

    descriptors: Descriptors = None
    max_keypoints: MaxKeypoints = None
    mask: Mask = None
    derain: Derain = True


@dataclass(frozen=True)
class DetectorOptions:
    """The numbers of SIFT."""

    layers: Layers = 3
    contrast_threshold: ContrastThreshold = 0.04
    edge_threshold: EdgeThreshold = 10.0
    sigma: Sigma = 1.6


@dataclass(frozen=True)
class SpliceOptions:
    """Which networks detect and describe."""

    splice: Splice = None
    weights: options.Weights = None
