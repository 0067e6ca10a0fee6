"""`idsr match`: two photographs in, what their keypoints agree on out."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from idsr_cli import __version__
from idsr_cli.cli import batch, options, sift_options
from idsr_cli.cli.console import console
from idsr_cli.errors import ItemError, UsageError
from idsr_cli.files.image import SUFFIX_FORMATS
from idsr_cli.files.plan import PIPE, Item
from idsr_cli.formats.matches import MATCH_FORMATS, MatchFile

if TYPE_CHECKING:
    import numpy as np

    from idsr_cli.files.image import Photo
    from idsr_cli.keypoints import Keypoints
    from idsr_cli.matching import Geometry, Matches

HELP = """Match two photographs: keypoints as if it were not raining, mutual nearest neighbours, and the homography or \
fundamental matrix that most of them follow.

\b
Examples:
  idsr match a.jpg b.jpg                          how many agree
  idsr match a.jpg b.jpg -o picture.png           and a picture of them
  idsr match a.jpg.npz b.jpg.npz --matches m.txt  of keypoint files
  idsr match a.jpg b.jpg --derain none            plain SIFT

A and B are photographs, or .npz files that `idsr sift` wrote; one of them may be `-`, a photograph on standard input. \
Coordinates are those of the pixels as stored (EXIF orientation is not applied). \
Exit code 0 however few agree (see --min-inliers), 1 if a file is damaged, 2 if nothing could run.
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")

MATCHING, GEOMETRY = "Matching", "Geometry"
# As many as COLMAP asks for before it believes a pair of photographs.
CONVINCING = 15


@dataclass(frozen=True)
class Side:
    """One of the two, ready to be matched.

    Attributes:
        name: as given.
        keypoints: with SIFT descriptors of the kind that is matched.
        derained: whether a network changed the photograph; None for a keypoint file.
        remark: the same in words.
        view: the photograph as SIFT saw it, or None for a keypoint file.
    """

    name: str
    keypoints: Keypoints
    derained: bool | None
    remark: str
    view: np.ndarray | None


def is_keypoint_file(name: str) -> bool:
    """By its name."""
    return name != PIPE and Path(name).suffix.lower() == ".npz"


@app.command(help=HELP, no_args_is_help=True)
def match(
    first: Annotated[str, typer.Argument(metavar="A", help="Photograph or keypoint file.", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="B", help="The other one.", show_default=False)],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PICTURE",
            help="Write a picture of the inliers, coloured by their error; its suffix decides the format, `-` is PNG "
            "on standard output. For keypoint files the photograph beside them is drawn, if there is one.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None,
    matches: Annotated[
        str | None,
        typer.Option(
            "--matches",
            metavar="FILE",
            help="Write all matches: indices, coordinates in pixels, error, inlier or not. A `.txt` table or an "
            "`.npz`; `-` is the table on standard output.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None,
    derain: Annotated[
        Literal["auto", "none", "A", "B", "both"],
        typer.Option(
            "--derain",
            help="Which photographs to restore first. `auto` leaves one alone in which the network sees no rain; "
            "`none` is plain SIFT.",
            rich_help_panel=sift_options.KEYPOINTS,
        ),
    ] = "auto",
    ratio: Annotated[
        float,
        typer.Option(
            "--ratio",
            metavar="R",
            min=0.01,
            max=1.0,
            help="Lowe's test: the nearest descriptor must be closer than this times the second nearest; 1 = no test.",
            rich_help_panel=MATCHING,
        ),
    ] = 0.8,
    mutual: Annotated[
        bool,
        typer.Option(
            "--mutual/--no-mutual",
            help="Keep only pairs that choose each other (and pass --ratio in both directions).",
            rich_help_panel=MATCHING,
        ),
    ] = True,
    rootsift: Annotated[
        bool,
        typer.Option(
            "--rootsift/--no-rootsift",
            help="Compare RootSIFT descriptors, which find more than SIFT's own.",
            rich_help_panel=MATCHING,
        ),
    ] = True,
    max_keypoints: Annotated[
        int | None,
        typer.Option(
            "--max-keypoints",
            metavar="N",
            min=1,
            help="Keep the N strongest of each. [dim]\\[default: all][/dim]",
            show_default=False,
            rich_help_panel=sift_options.KEYPOINTS,
        ),
    ] = None,
    model: Annotated[
        Literal["auto", "homography", "fundamental", "none"],
        typer.Option(
            "--model",
            metavar="MODEL",
            help="What the matches must follow: `homography`, `fundamental` (matrix), `none`, or `auto`: a homography "
            "where it explains nearly as many, as in flat scenes and with turning cameras.",
            rich_help_panel=GEOMETRY,
        ),
    ] = "auto",
    threshold: Annotated[
        float,
        typer.Option(
            "--threshold",
            metavar="PIXELS",
            min=0.01,
            max=1000.0,
            help="Largest error of an inlier, pixels.",
            rich_help_panel=GEOMETRY,
        ),
    ] = 3.0,
    min_inliers: Annotated[
        int,
        typer.Option(
            "--min-inliers", metavar="N", min=0, help="Exit code 1 if there are fewer.", rich_help_panel=GEOMETRY
        ),
    ] = 0,
    splice: sift_options.Splice = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    tile: options.Tile = "auto",  # type: ignore[assignment]  # parsed by its option
    json: Annotated[
        bool,
        typer.Option("--json", help="The result as one JSON object.", rich_help_panel=options.REPORT),
    ] = False,
    quiet: options.Quiet = False,
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            help="Say how long each step takes; -vv adds tracebacks to errors.",
            show_default=False,
            rich_help_panel=options.REPORT,
        ),
    ] = 0,
) -> None:
    """Run the command."""
    console.configure(quiet=quiet, verbose=verbose, json=json)
    names = (first, second)
    check_inputs(names, derain, splice)
    check_outputs(names, output, matches)
    if model == "none" and min_inliers:
        raise UsageError("`--min-inliers` counts the inliers of a model, and there is none with `--model none`")
    begun = time.monotonic()
    photos = [None if is_keypoint_file(name) else load(name) for name in names]
    chosen = [
        photo is not None and derain in ("auto", "both", letter) for photo, letter in zip(photos, "AB", strict=True)
    ]
    views = Views.loaded(weights, splice, device, precision, tile, forced=derain != "auto") if any(chosen) else None
    sides = [
        from_file(name, max_keypoints, rootsift) if photo is None
        else from_photo(name, photo, views if wanted else None, device, max_keypoints, rootsift)
        for name, photo, wanted in zip(names, photos, chosen, strict=True)
    ]  # fmt: skip
    for letter, side in zip("AB", sides, strict=True):
        console.detail(f"{letter}: {len(side.keypoints)} keypoints after {time.monotonic() - begun:.2f} s")

    from idsr_cli.matching import estimate, match_descriptors

    a, b = (side.keypoints for side in sides)
    found = match_descriptors(a.descriptors, b.descriptors, ratio, mutual, matching_device(views, device))
    console.detail(f"{len(found)} matches after {time.monotonic() - begun:.2f} s")
    points = (a.xy[found.index[:, 0]], b.xy[found.index[:, 1]])
    geometry = estimate(*points, model, threshold)
    settings = {
        "derain": derain, "ratio": ratio, "mutual": mutual, "descriptors": "rootsift" if rootsift else "sift",
        "max_keypoints": max_keypoints, "threshold": threshold,
        **(views.made_with if views else {"weights": None, "splice": None, "device": None, "precision": None}),
    }  # fmt: skip
    if matches is not None:
        kind = MATCH_FORMATS[".txt" if matches == PIPE else Path(matches).suffix.lower()]
        meta = {"tool": "idsr", "version": __version__, **settings}
        content = MatchFile((first, second), found, points, geometry, (a.image_size, b.image_size), meta)
        batch.emit(None if matches == PIPE else Path(matches), kind(content))
    if output is not None:
        batch.emit(None if output == PIPE else Path(output), picture(sides, found, geometry, threshold, output))
    report(sides, found, geometry, settings, time.monotonic() - begun, output, matches)
    if geometry.inliers.sum() < min_inliers:
        raise typer.Exit(1)


# --- before anything is computed -------------------------------------------------------------------------------------


def check_inputs(names: tuple[str, str], derain: str, splice: str | None) -> None:
    """Refuse what cannot be read or does not go together."""
    for name in names:
        if name == PIPE:
            if sys.stdin.isatty():
                raise UsageError(
                    "standard input is a terminal, not a photograph", hint="use `idsr match - b.jpg < a.jpg`"
                )
        elif Path(name).is_dir():
            raise UsageError("is a folder; two files are matched", path=name)
        elif not Path(name).exists():
            raise UsageError("no such file", path=name)
    if names == (PIPE, PIPE):
        raise UsageError("standard input holds one photograph, not two")
    for name, letter in zip(names, "AB", strict=True):
        if is_keypoint_file(name) and derain in (letter, "both"):
            raise UsageError(
                f"holds keypoints: `--derain {derain}` has nothing to restore", path=name, hint="give the photograph"
            )
    if splice and (derain == "none" or all(is_keypoint_file(name) for name in names)):
        raise UsageError("`--splice` chooses between networks, and none is used")


def check_outputs(names: tuple[str, str], output: str | None, matches: str | None) -> None:
    """Refuse outputs that cannot be written, would replace an input or each other; reserve standard output."""
    known: dict[str, tuple[str, ...]] = {"-o": tuple(SUFFIX_FORMATS), "--matches": tuple(MATCH_FORMATS)}
    taken = {Path(name).resolve() for name in names if name != PIPE}
    for option, name in (("-o", output), ("--matches", matches)):
        if name is None or name == PIPE:
            continue
        if Path(name).suffix.lower() not in known[option]:
            raise UsageError(f"the name does not say what to write with `{option}`", path=name,
                             hint=f"known: {' '.join(known[option])}")  # fmt: skip
        if Path(name).is_dir():
            raise UsageError(f"is a folder, and `{option}` writes a file", path=name)
        if Path(name).resolve() in taken:
            raise UsageError(f"`{option}` would replace another file of this command", path=name)
        taken.add(Path(name).resolve())
    pipes = [option for option, name in (("-o", output), ("--matches", matches)) if name == PIPE]
    if len(pipes) + console.json > 1:
        both = " and ".join(f"`{option} -`" for option in pipes)
        raise UsageError(f"{both}{' and `--json`' if console.json else ''} all want standard output")
    if output == PIPE and console.data_is_terminal:
        raise UsageError("will not write a binary file to the terminal", hint="redirect it: `> FILE`")


# --- from files to keypoints -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Views:
    """The networks, and which of them detects and describes."""

    networks: batch.Networks
    letters: str
    made_with: dict[str, Any]

    @staticmethod
    def loaded(weights: str | None, splice: str | None, device: str, precision: str, tile: int, forced: bool) -> Views:
        """Find and load the weights; `forced` restores photographs that look dry as well."""
        from idsr_cli.weights import find_weights

        pair = find_weights(weights)
        letters = splice or pair.splice
        networks = batch.Networks(
            pair.without_dry_test() if forced else pair, letters, device, precision, options.tile_side(tile)
        )
        console.detail(f"deraining on {networks.device}, {networks.precision}, weights {pair.name}")
        return Views(networks, letters, {
            "weights": {"name": pair.name, "sha256": pair.sha256}, "splice": letters,
            "device": str(networks.device), "precision": networks.precision,
        })  # fmt: skip


def load(name: str) -> Photo:
    """Read and decode a photograph."""
    source = None if name == PIPE else Path(name)
    return batch.load_photo(Item(source, None, Path(name)))


def from_photo(
    name: str, photo: Photo, views: Views | None, device: str, max_keypoints: int | None, rootsift: bool
) -> Side:
    """Restore if networks are given, detect and describe."""
    from idsr_cli.formats.descriptors import convert
    from idsr_cli.inference import choose_device
    from idsr_cli.scale_space import grey_image
    from idsr_cli.sift import SiftOptions, sift
    from idsr_cli.sift import splice as spliced

    if photo.pages > 1:
        raise ItemError(f"holds {photo.pages} pictures, and only single ones are matched", path=name)
    seen = photo.visible() if views else photo.rgb
    images = views.networks.restore(seen, views.letters) if views else [seen]
    where = views.networks.device if views else choose_device("cpu" if device == "auto" else device)
    settings = SiftOptions(max_keypoints=max_keypoints)
    detect = grey_image(images[0], where)
    if images[0] is images[-1]:
        keypoints = sift(detect, settings)
    else:
        keypoints = spliced(detect, grey_image(images[1], where), settings)
    # A network returns the very photograph if it sees no rain in it.
    derained = any(image is not seen for image in images)
    remark = "derained" if derained else "no rain seen, not derained" if views else "not derained"
    return Side(name, convert(keypoints, "rootsift_u8") if rootsift else keypoints, derained, remark, images[0])


def from_file(name: str, max_keypoints: int | None, rootsift: bool) -> Side:
    """Read keypoints, with the descriptors that are to be matched.

    Raises:
        ItemError: damaged, or of other descriptors.
    """
    from dataclasses import replace

    from idsr_cli.formats.descriptors import convert
    from idsr_cli.formats.npz import read_npz
    from idsr_cli.matching import strongest

    keypoints, meta = read_npz(Path(name))
    try:
        keypoints.check_finite()
    except ItemError as error:
        raise ItemError(error.reason, path=name) from error
    keypoints = strongest(keypoints, max_keypoints)
    kind = meta.get("descriptors", "sift_u8")
    if kind == "sift_u8":
        keypoints = convert(keypoints, "rootsift_u8") if rootsift else keypoints
    elif not rootsift:
        raise ItemError("holds RootSIFT descriptors, which `--no-rootsift` cannot compare", path=name)
    elif kind == "rootsift_f32":
        import numpy as np

        # The same numbers as rootsift_u8, which has both kinds matched alike.
        keypoints = replace(
            keypoints, descriptors=np.clip(np.rint(512 * keypoints.descriptors), 0, 255).astype(np.uint8)
        )
    made = meta.get("weights") or {}
    return Side(name, keypoints, None, f"from a file, {'weights ' + made['name'] if made else 'plain SIFT'}", None)


def matching_device(views: Views | None, device: str) -> str:
    """Where distances are computed: on a CUDA card if one is used, else on the CPU."""
    from idsr_cli.inference import choose_device

    where = views.networks.device if views else choose_device("cpu" if device == "auto" else device)
    return str(where) if where.type == "cuda" else "cpu"


# --- what came out ---------------------------------------------------------------------------------------------------


def picture(sides: list[Side], found: Matches, geometry: Geometry, threshold: float, output: str) -> bytes:
    """The picture, encoded as its name says."""
    import numpy as np

    from idsr_cli.drawing import draw_matches
    from idsr_cli.files.image import Photo, encode

    points = tuple(side.keypoints.xy[found.index[:, i]] for i, side in enumerate(sides))
    if geometry.model == "none":
        # Nothing to tell right from wrong: all are drawn, by how alike the descriptors are.
        shown, values, limit = np.ones(len(found), bool), found.distance, float(max(found.distance, default=1) or 1)
        words, scale = f"{len(found):,} matches", ("distance 0", f"{limit:.0f}")
    else:
        shown, values, limit = geometry.inliers, geometry.error, threshold
        words = f"{shown.sum():,} inliers of {len(found):,} matches, {TITLES[geometry.model]}"
        scale = ("error 0", f"{limit:g} px")
    photos = tuple(backdrop(side) for side in sides)
    drawn = draw_matches(photos, points, shown, values, limit, words, scale)  # type: ignore[arg-type]
    return encode(Photo(drawn), drawn, "PNG" if output == PIPE else SUFFIX_FORMATS[Path(output).suffix.lower()])


def backdrop(side: Side) -> np.ndarray:
    """What to draw on: the photograph, for a keypoint file the one beside it (x.jpg for x.jpg.npz), or grey."""
    import numpy as np

    from idsr_cli.files.image import read_photo

    if side.view is not None:
        return side.view
    width, height = side.keypoints.image_size
    beside = Path(side.name).with_suffix("")
    if beside.is_file():
        try:
            photo = read_photo(beside)
        except ItemError as error:
            console.note(f"{error}; drawn on grey instead")
        else:
            if (photo.width, photo.height) == (width, height):
                return photo.rgb
            console.note(f"{beside}: not the photograph of {side.name} (other size); drawn on grey instead")
    return np.full((max(1, height), max(1, width), 3), 0.25, np.float32)


TITLES = {"homography": "homography", "fundamental": "fundamental matrix"}


def report(
    sides: list[Side], found: Matches, geometry: Geometry, settings: dict[str, Any], seconds: float,
    output: str | None, matches: str | None,
) -> None:  # fmt: skip
    """The result, as JSON or as lines to read."""
    import numpy as np

    verified = geometry.model != "none"
    inliers = int(geometry.inliers.sum())
    median = float(np.median(geometry.error[geometry.inliers])) if inliers else None
    console.event(
        "match",
        inputs=[side.name for side in sides],
        keypoints=[len(side.keypoints) for side in sides],
        sizes=[list(side.keypoints.image_size) for side in sides],
        derained=[side.derained for side in sides],
        matches=len(found),
        inliers=inliers if verified else None,
        model=geometry.model if verified else None,
        matrix=None if geometry.matrix is None else geometry.matrix.tolist(),
        median_error=median,
        **settings,
        output=output,
        matches_file=matches,
        seconds=round(seconds, 3),
    )
    if console.json:
        return
    # Beside data on standard output, the words go the other way.
    say = console.note if PIPE in (output, matches) else console.text
    rows = [
        (letter, side.name, "{}x{}".format(*side.keypoints.image_size), f"{len(side.keypoints)} keypoints", side.remark)
        for letter, side in zip("AB", sides, strict=True)
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for letter, name, size, count, remark in rows:
        say(f"{letter}  {name:{widths[1]}}  {size:>{widths[2]}}  {count:>{widths[3]}}  {remark}")
    kind = "RootSIFT" if settings["descriptors"] == "rootsift" else "SIFT"
    how = ["mutual"] * settings["mutual"] + [f"ratio {settings['ratio']:g}"] * (settings["ratio"] < 1) + [kind]
    say(f"matches  {len(found)}  {', '.join(how)}")
    if not verified:
        return
    title = TITLES[geometry.model]
    if geometry.matrix is None:
        say(f"inliers  0  no {title} fits: too few matches, or all on one line")
        return
    share = f"{100 * inliers / len(found):.0f} % of the matches follow the {title} within {settings['threshold']:g} px"
    say(f"inliers  {inliers}  {share}" + (f", median {median:.2f} px" if median is not None else ""))
    cells = [[f"{value:.6g}" for value in row] for row in geometry.matrix]
    wide = [max(len(row[i]) for row in cells) for i in range(3)]
    for i, row in enumerate(cells):
        say(f"{geometry.model if i == 0 else '':11}  " + "  ".join(c.rjust(w) for c, w in zip(row, wide, strict=True)))
    if inliers < CONVINCING:
        console.note(f"fewer than {CONVINCING} inliers can be chance")
