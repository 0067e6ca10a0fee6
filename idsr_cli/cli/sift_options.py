"""The options of `idsr sift` about keypoints and their files."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from idsr_cli.cli import clip_options, options
from idsr_cli.clips.reader import CRF
from idsr_cli.errors import UsageError
from idsr_cli.images.encoders import JPEG_QUALITY

if TYPE_CHECKING:
    from idsr_cli.formats.colmap_db import Cameras

KEYPOINTS = "Keypoints"
SIFT = "SIFT"


class FormatName(str, Enum):
    """The keys of `FORMATS`, which is not loaded for `--help`. Typer takes no list of a Literal."""

    NPZ = "npz"
    COLMAP = "colmap"
    COLMAP_DB = "colmap-db"
    HLOC = "hloc"
    OPENCV = "opencv"
    LOWE = "lowe"
    VLFEAT = "vlfeat"
    OXFORD = "oxford"

    __str__ = str.__str__  # as in StrEnum, which Python 3.10 does not have


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
CameraMode = Annotated[
    Literal["auto", "single", "per-folder"] | None,
    typer.Option(
        "--camera-mode",
        help="Which photographs share a camera in colmap-db: those with equal EXIF, all of one size, or those of one "
        "size in a folder (frames have no EXIF). [dim]\\[default: auto][/dim]",
        show_default=False,
        rich_help_panel=options.IN_OUT,
    ),
]
CameraModel = Annotated[
    Literal[
        "SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE", "FULL_OPENCV", "FOV",
        "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "THIN_PRISM_FISHEYE",
    ] | None,
    typer.Option(
        "--camera-model",
        metavar="MODEL",
        case_sensitive=False,
        help="COLMAP's model of new cameras in colmap-db: PINHOLE, OPENCV, OPENCV_FISHEYE, ... "
        "[dim]\\[default: SIMPLE_RADIAL][/dim]",
        show_default=False,
        rich_help_panel=options.IN_OUT,
    ),
]  # fmt: skip
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
DerainedFormat = Annotated[
    options.Extension | None,
    typer.Option(
        "--derained-format",
        metavar="FORMAT",
        help="Format of --derained, as `idsr derain --format`; a clip becomes numbered pictures. "
        "[dim]\\[default: that of the input][/dim]",
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
        min=0,
        help="Keep the N strongest, exactly, of those the mask allows; 0 = all. "
        "[dim]\\[default: as --like: all, or about 8192 of the largest scales][/dim]",
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
LikeProgram = Annotated[
    Literal["opencv", "colmap", "hloc"] | None,
    typer.Option(
        "--like",
        help="Find keypoints as this program finds its own: its thresholds, limits and grey (docs/formats.md). "
        "[dim]\\[default: colmap for colmap, colmap-db; hloc for hloc; else opencv][/dim]",
        show_default=False,
        rich_help_panel=SIFT,
    ),
]
Layers = Annotated[
    int | None,
    typer.Option(
        "--layers",
        min=1,
        max=16,
        help="Layers per octave (nOctaveLayers). [dim]\\[default: 3][/dim]",
        show_default=False,
        rich_help_panel=SIFT,
    ),
]
ContrastThreshold = Annotated[
    float | None,
    typer.Option(
        "--contrast-threshold",
        min=0,
        help="Drop keypoints of less contrast, in parts of the grey range; lower finds more. COLMAP's peak_threshold "
        "is this divided by --layers. [dim]\\[default: opencv 0.04, colmap 0.02, hloc 0.03][/dim]",
        show_default=False,
        rich_help_panel=SIFT,
    ),
]
EdgeThreshold = Annotated[
    float | None,
    typer.Option(
        "--edge-threshold",
        min=0,
        help="Drop keypoints whose curvatures differ by more than this factor, on edges; higher finds more. "
        "[dim]\\[default: 10][/dim]",
        show_default=False,
        rich_help_panel=SIFT,
    ),
]
Sigma = Annotated[
    float | None,
    typer.Option(
        "--sigma",
        help="Blur of the first image of an octave, pixels, above 1 to 3.2; higher ignores fine detail. "
        "[dim]\\[default: 1.6][/dim]",
        show_default=False,
        rich_help_panel=SIFT,
    ),
]
FirstOctave = Annotated[
    int | None,
    typer.Option(
        "--first-octave",
        min=-1,
        max=0,
        help="-1 starts with the photograph doubled, 0 with it as it is: fewer keypoints, faster. "
        "[dim]\\[default: hloc 0, else -1][/dim]",
        show_default=False,
        rich_help_panel=SIFT,
    ),
]
MaxOrientations = Annotated[
    int | None,
    typer.Option(
        "--max-orientations",
        min=1,
        help="At most this many keypoints at one position, in its strongest directions. "
        "[dim]\\[default: colmap, hloc 2; opencv all][/dim]",
        show_default=False,
        rich_help_panel=SIFT,
    ),
]


@dataclass(frozen=True)
class KeypointFiles:
    """What is written."""

    formats: Format = None
    camera_mode: CameraMode = None
    camera_model: CameraModel = None
    draw: Draw = None

    @property
    def cameras(self) -> Cameras | None:
        """What the options say about cameras; None if they say nothing."""
        from idsr_cli.formats.colmap_db import Cameras

        if self.camera_mode is None and self.camera_model is None:
            return None
        return Cameras(self.camera_mode or "auto", self.camera_model or "SIMPLE_RADIAL")


@dataclass(frozen=True)
class DerainedCopy:
    """The derained photographs beside the keypoints: where, and how they are written."""

    derained: Derained = None
    derained_format: DerainedFormat = None
    quality: options.Quality = JPEG_QUALITY
    crf: clip_options.Crf = CRF

    def check(self, ctx: typer.Context) -> None:
        """Refuse options of the copy where there is none.

        Raises:
            UsageError: there is one.
        """
        for name in ("derained_format", "quality", "crf"):
            if self.derained is None and options.was_given(ctx, name):
                raise UsageError(f"`--{name.replace('_', '-')}` has no effect without `--derained DIR`")


@dataclass(frozen=True)
class KeypointOptions:
    """Which keypoints are taken, and how they are described."""

    descriptors: Descriptors = None
    max_keypoints: MaxKeypoints = None
    mask: Mask = None
    derain: Derain = True


@dataclass(frozen=True)
class DetectorOptions:
    """The numbers of SIFT; None = those of `like`, and `like` None = that of the format."""

    like: LikeProgram = None
    layers: Layers = None
    contrast_threshold: ContrastThreshold = None
    edge_threshold: EdgeThreshold = None
    sigma: Sigma = None
    first_octave: FirstOctave = None
    max_orientations: MaxOrientations = None


@dataclass(frozen=True)
class SpliceOptions:
    """Which networks detect and describe."""

    splice: Splice = None
    weights: options.Weights = None
