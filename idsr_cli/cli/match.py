"""`idsr match`: two photographs in, what their keypoints agree on out."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from idsr_cli import __version__
from idsr_cli.cli import batch, options, removal_options, sift_options
from idsr_cli.cli.console import console
from idsr_cli.cli.grouped import grouped
from idsr_cli.cli.match_options import GeometryOptions, Matching, MatchKeypoints, MatchPaths, MatchReporting
from idsr_cli.cli.match_result import Matched, picture, report
from idsr_cli.errors import UsageError, choices_hint
from idsr_cli.files.volume import is_special
from idsr_cli.formats.matches import MATCH_FORMATS, MatchFile
from idsr_cli.images.folders import SUFFIX_FORMATS
from idsr_cli.runs.match import (
    MatchInput,
    MatchNetworks,
    from_file,
    from_photo,
    is_keypoint_file,
    named_photo,
    sift_device,
)
from idsr_cli.runs.plan import PIPE
from idsr_cli.runs.request import standard_output
from idsr_cli.runtime.threads import use_threads

if TYPE_CHECKING:
    from idsr_cli.restoration import Removal

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
The exit code is 0 even if few agree (see --min-inliers), 1 if a file is damaged, 2 if nothing could run.
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


@app.command(help=HELP, no_args_is_help=True)
@grouped
def match(
    *,
    ctx: typer.Context,
    paths: MatchPaths,
    keypoints: MatchKeypoints,
    matching: Matching,
    geometry: GeometryOptions,
    networks: sift_options.SpliceOptions,
    rain: removal_options.RainRemoval,
    performance: options.Performance,
    reporting: MatchReporting,
) -> None:
    """Run the command."""
    console.configure(quiet=reporting.quiet, verbose=reporting.verbose, json=reporting.json)
    use_threads(performance.threads)
    names = (paths.first, paths.second)
    paths = replace(paths, output=standard_output(paths.output), matches=standard_output(paths.matches))
    check_inputs(names, keypoints.derain)
    if keypoints.derain == "none" or all(is_keypoint_file(name) for name in names):
        options.refuse_idle(ctx, ": no network is used")
    check_outputs(names, paths.output, paths.matches)
    if geometry.model == "none" and geometry.min_inliers:
        raise UsageError("`--min-inliers` needs a model, and `--model none` fits none")
    begun = time.monotonic()
    inputs, loaded = read_inputs(names, keypoints, matching.rootsift, networks, rain, performance)
    for letter, side in zip("AB", inputs, strict=True):
        seen = "" if side.rain is None else f", {batch.rain_words(side.rain, derained=bool(side.derained))}"
        console.detail(f"{letter}: {len(side.keypoints)} keypoints after {time.monotonic() - begun:.2f} s{seen}")

    from idsr_cli.matching import estimate, match_descriptors

    a, b = (side.keypoints for side in inputs)
    device = sift_device(loaded, performance.device)
    found = match_descriptors(a.descriptors, b.descriptors, matching.ratio, matching.mutual, device)
    console.detail(f"{len(found)} matches after {time.monotonic() - begun:.2f} s")
    points = (a.xy[found.index[:, 0]], b.xy[found.index[:, 1]])
    fitted = estimate(*points, geometry.model, geometry.threshold)
    settings = {
        "derain": keypoints.derain,
        "ratio": matching.ratio,
        "mutual": matching.mutual,
        "descriptors": "rootsift" if matching.rootsift else "sift",
        "max_keypoints": keypoints.max_keypoints,
        "strength": rain.strength,
        "force": rain.force,
        "scale": rain.scale,
        "dry_threshold": rain.dry_threshold,
        "mirror": rain.mirror,
        "threshold": geometry.threshold,
        **(loaded.made_with if loaded else dict.fromkeys(("weights", "splice", "device", "precision", "engine"))),
    }
    matched = Matched(inputs, found, fitted, geometry.model, settings)
    write_outputs(matched, paths.output, paths.matches)
    report(matched, time.monotonic() - begun, paths.output, paths.matches)
    for path in (paths.output, paths.matches):
        if path is not None and path != PIPE:
            console.note(f"wrote {path}")
    if fitted.inliers.sum() < geometry.min_inliers:
        raise typer.Exit(1)


def read_inputs(
    names: tuple[str, str],
    keypoints: MatchKeypoints,
    rootsift: bool,
    networks: sift_options.SpliceOptions,
    rain: removal_options.RainRemoval,
    performance: options.Performance,
) -> tuple[list[MatchInput], MatchNetworks | None]:
    """Read both inputs, and restore, detect and describe where they are photographs.

    Returns:
        The inputs, and the networks if a photograph was to be restored.
    """
    photos = [None if is_keypoint_file(name) else named_photo(name) for name in names]
    derain = keypoints.derain
    chosen = [
        photo is not None and derain in ("auto", "both", letter) for photo, letter in zip(photos, "AB", strict=True)
    ]
    loaded = load_networks(networks, performance, rain.removal(force=derain != "auto")) if any(chosen) else None
    inputs = []
    console.begin("extracting", len(names))
    try:
        for name, photo, wanted in zip(names, photos, chosen, strict=True):
            console.started(Path(name).name)
            if photo is None:
                inputs.append(from_file(name, keypoints.max_keypoints, rootsift))
            else:
                used = loaded if wanted else None
                inputs.append(from_photo(name, photo, used, performance.device, keypoints.max_keypoints, rootsift))
            console.computed()
            console.advance()
    finally:
        console.end()
    return inputs, loaded


def load_networks(
    networks: sift_options.SpliceOptions, performance: options.Performance, removal: Removal
) -> MatchNetworks:
    """Find and load the weights."""
    from idsr_cli.weights import find_weights

    pair = find_weights(networks.weights)
    splice = networks.splice or pair.splice
    restorer = batch.load_networks(pair, splice, performance, removal)
    console.detail(f"deraining on {restorer.device}, {restorer.engine}, {restorer.precision}, weights {pair.name}")
    return MatchNetworks(restorer, splice, pair)


def write_outputs(matched: Matched, output: str | None, matches: str | None) -> None:
    """Write the file of matches and the picture, where they are asked for."""
    if matches is not None:
        kind = MATCH_FORMATS.get(Path(matches).suffix.lower(), MATCH_FORMATS[".txt"])
        meta = {"tool": "idsr", "version": __version__, **matched.settings}
        a, b = matched.inputs
        sizes = (a.keypoints.image_size, b.keypoints.image_size)
        content = MatchFile((a.name, b.name), matched.found, matched.points, matched.geometry, sizes, meta)
        batch.write_output(None if matches == PIPE else Path(matches), kind(content))
    if output is not None:
        batch.write_output(None if output == PIPE else Path(output), picture(matched, output))


# --- before anything is computed -------------------------------------------------------------------------------------


def check_inputs(names: tuple[str, str], derain: str) -> None:
    """Refuse what cannot be read or does not go together."""
    for name in names:
        if name == PIPE:
            if sys.stdin.isatty():
                raise UsageError(
                    "standard input is a terminal, not a photograph", hint="use `idsr match - b.jpg < a.jpg`"
                )
        elif Path(name).is_dir():
            raise UsageError("is a folder, not a file", path=name)
        elif not Path(name).exists():
            raise UsageError("no such file", path=name)
    if names == (PIPE, PIPE):
        raise UsageError("standard input holds one photograph, not two")
    for name, letter in zip(names, "AB", strict=True):
        if is_keypoint_file(name) and derain in (letter, "both"):
            raise UsageError(
                f"holds keypoints: `--derain {derain}` has nothing to restore", path=name, hint="give the photograph"
            )


def check_outputs(names: tuple[str, str], output: str | None, matches: str | None) -> None:
    """Refuse outputs that cannot be written, would replace an input or each other; reserve standard output."""
    known: dict[str, tuple[str, ...]] = {"-o": tuple(SUFFIX_FORMATS), "--matches": tuple(MATCH_FORMATS)}
    taken = {Path(name).resolve() for name in names if name != PIPE}
    for option, name in (("-o", output), ("--matches", matches)):
        if name is None or name == PIPE:
            continue
        if is_special(name):
            continue
        if Path(name).suffix.lower() not in known[option]:
            hint = choices_hint(Path(name).suffix, known[option], "known:")
            raise UsageError(f"unknown suffix for `{option}`", path=name, hint=hint)
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
