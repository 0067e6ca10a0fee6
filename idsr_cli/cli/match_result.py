"""What `idsr match` tells: a picture, JSON, or lines to read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from idsr_cli.cli.console import console
from idsr_cli.cli.match_input import Side
from idsr_cli.errors import ItemError
from idsr_cli.images.folders import SUFFIX_FORMATS
from idsr_cli.runs.plan import PIPE

if TYPE_CHECKING:
    import numpy as np

    from idsr_cli.matching import Geometry, Matches

# As many as COLMAP asks for before it believes a pair of photographs.
CONVINCING = 15
TITLES = {"homography": "homography", "fundamental": "fundamental matrix"}


def picture(sides: list[Side], found: Matches, geometry: Geometry, threshold: float, output: str) -> bytes:
    """The picture, encoded as its name says."""
    import numpy as np

    from idsr_cli.drawing import draw_matches
    from idsr_cli.images.photo import Photo, encode

    points = tuple(side.keypoints.xy[found.index[:, i]] for i, side in enumerate(sides))
    if geometry.model == "none":
        # Nothing to tell right from wrong: all are drawn, by how alike the descriptors are.
        shown, values, limit = np.ones(len(found), bool), found.distance, float(max(found.distance, default=1) or 1)
        words, scale = f"{len(found):,} matches", ("distance 0", f"{limit:.0f}")
    else:
        shown, values, limit = geometry.inliers, geometry.error, threshold
        what = TITLES[geometry.fits] if geometry.fits else "no model fits"
        words = f"{shown.sum():,} inliers of {len(found):,} matches, {what}"
        scale = ("error 0", f"{limit:g} px")
    alone = dict.fromkeys(side.name for side in sides if side.view is None and not beside(side).is_file())
    if alone:
        console.warn(f"no photograph beside {' and '.join(alone)}: drawn on grey",
                     "x.jpg is looked for beside x.jpg.npz")  # fmt: skip
    photos = tuple(backdrop(side) for side in sides)
    drawn = draw_matches(photos, points, shown, values, limit, words, scale)  # type: ignore[arg-type]
    return encode(Photo(drawn), drawn, "PNG" if output == PIPE else SUFFIX_FORMATS[Path(output).suffix.lower()])


def beside(side: Side) -> Path:
    """Where the photograph of a keypoint file should be: x.jpg for x.jpg.npz."""
    return Path(side.name).with_suffix("")


def backdrop(side: Side) -> np.ndarray:
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


def report(
    sides: list[Side], found: Matches, geometry: Geometry, asked: str, settings: dict[str, Any], seconds: float,
    output: str | None, matches: str | None,
) -> None:  # fmt: skip
    """The result, as JSON or as lines to read; `asked` is the model asked for."""
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
        model=geometry.fits,
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
        none = "neither a homography nor a fundamental matrix" if asked == "auto" else f"no {title}"
        say(f"inliers  0  {none} fits: too few matches, or all on one line")
        return
    share = f"{100 * inliers / len(found):.0f} % follow the {title} within {settings['threshold']:g} px"
    say(f"inliers  {inliers}  {share}" + (f", median {median:.2f} px" if median is not None else ""))
    cells = [[f"{value:.6g}" for value in row] for row in geometry.matrix]
    wide = [max(len(row[i]) for row in cells) for i in range(3)]
    for i, row in enumerate(cells):
        say(f"{geometry.model if i == 0 else '':11}  " + "  ".join(c.rjust(w) for c, w in zip(row, wide, strict=True)))
    if inliers < CONVINCING:
        console.note(f"fewer than {CONVINCING} inliers can be chance")
