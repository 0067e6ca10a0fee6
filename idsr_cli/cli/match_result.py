"""What `idsr match` shows: a picture, JSON, or lines to read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idsr_cli.cli.console import console, shortened
from idsr_cli.errors import ItemError
from idsr_cli.images.folders import SUFFIX_FORMATS
from idsr_cli.runs.match import MatchInput
from idsr_cli.runs.plan import PIPE

if TYPE_CHECKING:
    import numpy as np

    from idsr_cli.matching import Geometry, Matches

# COLMAP's own minimum for a pair of photographs.
CONVINCING = 15
TITLES = {"homography": "homography", "fundamental": "fundamental matrix"}


@dataclass(frozen=True)
class Matched:
    """Two inputs and what they agree on.

    Attributes:
        inputs: A and B.
        found: the matches.
        geometry: the model that fits most of them.
        asked: the model that was asked for.
        settings: how it was found, as in the JSON event.
    """

    inputs: list[MatchInput]
    found: Matches
    geometry: Geometry
    asked: str
    settings: dict[str, Any]

    @property
    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates of the matches in A and in B, (N, 2) float32 pixels each."""
        a, b = (side.keypoints.xy[self.found.index[:, i]] for i, side in enumerate(self.inputs))
        return a, b


def picture(matched: Matched, output: str) -> bytes:
    """The picture, encoded as its name says; PNG for pipes and devices."""
    import numpy as np

    from idsr_cli.drawing import draw_matches
    from idsr_cli.images.photo import Photo, encode

    found, geometry, threshold = matched.found, matched.geometry, matched.settings["threshold"]
    if geometry.model == "none":
        # There are no inliers: all matches are drawn, coloured by the distance of their descriptors.
        shown, values, limit = np.ones(len(found), bool), found.distance, float(max(found.distance, default=1) or 1)
        words, scale = f"{len(found):,} matches", ("distance 0", f"{limit:.0f}")
    else:
        shown, values, limit = geometry.inliers, geometry.error, threshold
        what = TITLES[geometry.fits] if geometry.fits else "no model fits"
        words = f"{shown.sum():,} inliers of {len(found):,} matches, {what}"
        scale = ("error 0", f"{limit:g} px")
    alone = dict.fromkeys(side.name for side in matched.inputs if side.view is None and not beside(side).is_file())
    if alone:
        console.warn(f"no photograph beside {' and '.join(alone)}: drawn on grey",
                     "x.jpg is looked for beside x.jpg.npz")  # fmt: skip
    photos = tuple(backdrop(side) for side in matched.inputs)
    drawn = draw_matches(photos, matched.points, shown, values, limit, words, scale)  # type: ignore[arg-type]
    return encode(Photo(drawn), drawn, SUFFIX_FORMATS.get(Path(output).suffix.lower(), "PNG"))


def beside(side: MatchInput) -> Path:
    """Where the photograph of a keypoint file should be: x.jpg for x.jpg.npz."""
    return Path(side.name).with_suffix("")


def backdrop(side: MatchInput) -> np.ndarray:
    """What to draw on: the photograph, for a keypoint file the one beside it, or grey."""
    import numpy as np

    from idsr_cli.images.photo import read_photo

    if side.view is not None:
        return side.view
    width, height = side.keypoints.image_size
    path = beside(side)
    if path.is_file():
        try:
            photo = read_photo(path)
        except ItemError as error:
            console.note(f"{error}; drawn on grey instead")
        else:
            if (photo.width, photo.height) == (width, height):
                return photo.rgb
            console.note(f"{path}: not the photograph of {side.name} (other size); drawn on grey instead")
    return np.full((max(1, height), max(1, width), 3), 0.25, np.float32)


def report(matched: Matched, seconds: float, output: str | None, matches: str | None) -> None:
    """The result, as JSON or as lines to read.

    Args:
        matched: the result.
        seconds: time it took.
        output: name of the picture that was written, or None.
        matches: name of the file of matches that was written, or None.
    """
    import numpy as np

    geometry, inliers = matched.geometry, int(matched.geometry.inliers.sum())
    median = float(np.median(geometry.error[geometry.inliers])) if inliers else None
    console.event(
        "match",
        inputs=[side.name for side in matched.inputs],
        keypoints=[len(side.keypoints) for side in matched.inputs],
        sizes=[list(side.keypoints.image_size) for side in matched.inputs],
        derained=[side.derained for side in matched.inputs],
        rain=[None if side.rain is None else side.rain.record() for side in matched.inputs],
        matches=len(matched.found),
        inliers=inliers if geometry.model != "none" else None,
        model=geometry.fits,
        matrix=None if geometry.matrix is None else geometry.matrix.tolist(),
        median_error=median,
        **matched.settings,
        output=output,
        matches_file=matches,
        seconds=round(seconds, 3),
    )
    if console.json:
        return
    # If data goes to standard output, the words go to standard error.
    say = console.note if PIPE in (output, matches) else console.text
    for line in result_lines(matched, inliers, median, console.terminal_width()):
        say(line)
    if geometry.matrix is not None and inliers < CONVINCING:
        console.note(f"fewer than {CONVINCING} inliers can be chance")


def result_lines(matched: Matched, inliers: int, median: float | None, width: int | None = None) -> Iterator[str]:
    """The result in words.

    Args:
        matched: the result.
        inliers: how many there are.
        median: their median error, pixels.
        width: columns of the terminal, or None.
    """
    geometry, settings, found = matched.geometry, matched.settings, matched.found
    rows = [
        (letter, side.name, "{}x{}".format(*side.keypoints.image_size), f"{len(side.keypoints)} keypoints", side.remark)
        for letter, side in zip("AB", matched.inputs, strict=True)
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    # On a terminal a long path is cut in the middle, so that each photograph has one line; `--json` has it whole.
    room = (width or 10_000) - sum(widths) + widths[1] - 2 * (len(widths) - 1)
    widths[1] = min(widths[1], max(12, room))
    for letter, name, size, count, remark in rows:
        short = shortened(name, widths[1])
        yield f"{letter}  {short:{widths[1]}}  {size:>{widths[2]}}  {count:>{widths[3]}}  {remark}"
    kind = "RootSIFT" if settings["descriptors"] == "rootsift" else "SIFT"
    how = ["mutual"] * settings["mutual"] + [f"ratio {settings['ratio']:g}"] * (settings["ratio"] < 1) + [kind]
    yield f"matches  {len(found)}  {', '.join(how)}"
    if geometry.model == "none":
        return
    title = TITLES[geometry.model]
    if geometry.matrix is None:
        none = "neither a homography nor a fundamental matrix" if matched.asked == "auto" else f"no {title}"
        yield f"inliers  0  {none} fits: too few matches, or all on one line"
        return
    share = f"{100 * inliers / len(found):.0f} % follow the {title} within {settings['threshold']:g} px"
    yield f"inliers  {inliers}  {share}" + (f", median {median:.2f} px" if median is not None else "")
    cells = [[f"{value:.6g}" for value in row] for row in geometry.matrix]
    widest = [max(len(row[i]) for row in cells) for i in range(3)]
    for i, row in enumerate(cells):
        numbers = "  ".join(cell.rjust(width) for cell, width in zip(row, widest, strict=True))
        yield f"{geometry.model if i == 0 else '':11}  {numbers}"
