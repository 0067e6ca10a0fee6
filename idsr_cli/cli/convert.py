"""`idsr convert`: keypoint files in, the same keypoints in other formats out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from idsr_cli.cli import batch, options, sift_options
from idsr_cli.cli.console import console
from idsr_cli.cli.grouped import grouped
from idsr_cli.errors import UsageError
from idsr_cli.formats import FORMATS, FileFormat
from idsr_cli.runs.convert import ConvertedOutput, ConvertWork, find_keypoints, folder_request
from idsr_cli.runs.keypoint_files import check_out_of_several
from idsr_cli.runs.outputs import Outputs
from idsr_cli.runs.request import Request

HELP = """Write keypoints in other formats, without computing them again.

\b
Examples:
  idsr convert keypoints -o colmap --format colmap      a folder of .npz
  idsr convert x.jpg.npz -o x.key --format lowe         one file
  idsr convert features.h5 -o db.db --format colmap-db --photos photos
  idsr convert keypoints -o all --format hloc --format vlfeat
  idsr sift - < x.jpg | idsr convert - --format lowe    in a pipe

What a format has no place for is named, and a file that lacks what the other format needs is refused: of `colmap` \
text no .npz can be made, since it has no responses and no image size (docs/formats.md). hloc's RootSIFT and SIFT are \
turned into each other exactly; RootSIFT in bytes stays RootSIFT.
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


@dataclass(frozen=True)
class ConvertPaths:
    """What is read, and where results go."""

    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Keypoint files, folders of them, or `-` for one file on standard input.",
            show_default=False,
        ),
    ] = None
    output: options.LocalOutput = None


@dataclass(frozen=True)
class Conversion:
    """From what, to what."""

    formats: Annotated[
        list[sift_options.FormatName] | None,
        typer.Option(
            "--format",
            help="Format to write (docs/formats.md). Repeatable.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None
    source: Annotated[
        sift_options.FormatName | None,
        typer.Option(
            "--from",
            help="Format of the inputs. [dim]\\[default: that of the suffix; in folders and pipes npz][/dim]",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None
    photos: Annotated[
        Path | None,
        typer.Option(
            "--photos",
            metavar="DIR",
            help="Folder of the photographs: COLMAP's cameras are made from their EXIF data. Without it they have "
            "COLMAP's default focal length.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None
    descriptors: sift_options.Descriptors = None


@dataclass(frozen=True)
class ConvertReporting:
    """What is told, and when the command stops."""

    json: options.Json = False
    dry_run: options.DryRun = False
    fail_fast: options.FailFast = False
    quiet: options.Quiet = False
    verbose: options.Verbose = 0


@app.command(help=HELP, no_args_is_help=True)
@grouped
def convert(
    *,
    paths: ConvertPaths,
    conversion: Conversion,
    existing: options.ExistingOutputs = "skip",
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs",
            "-j",
            min=0,
            max=64,
            help="Threads; 0 chooses. Outputs do not depend on it.",
            rich_help_panel=options.SPEED,
        ),
    ] = 0,
    reporting: ConvertReporting,
) -> None:
    """Run the command."""
    console.configure(quiet=reporting.quiet, verbose=reporting.verbose, json=reporting.json)
    names = list(dict.fromkeys(name.value for name in conversion.formats or ()))
    if not names:
        raise UsageError("which format to write is missing", hint="add `--format NAME`")
    check_photos(conversion.photos, names)
    found, formats = find_keypoints(paths.inputs or (), conversion.source and conversion.source.value)
    request = Request(
        inputs=paths.inputs or (),
        output=paths.output,
        existing=existing,
        jobs=jobs,
        fail_fast=reporting.fail_fast,
        found=found,
    )
    check_out_of_several(names, request)
    listener = batch.ConsoleListener(batch.RunDescription("converting", "converted"))
    per_photo = [name for name in names if isinstance(FORMATS[name], FileFormat)]
    files = folder_request(request, formats) if per_photo else request
    outputs = Outputs([
        ConvertedOutput(
            name,
            files if name in per_photo else request,
            formats,
            batch.write_output,
            listener,
            conversion.descriptors,
            conversion.photos,
        )
        for name in names
    ])  # fmt: skip
    items = outputs.plan()
    if reporting.dry_run:
        batch.show_plan(items)
        return
    batch.check_pipes(items, text=names != ["npz"])
    batch.run(items, ConvertWork(outputs, formats).stages, request, listener, outputs.finishes(items))


def check_photos(photos: Path | None, names: list[str]) -> None:
    """Refuse a `--photos` that is no folder, or that no format looks at.

    Raises:
        UsageError: it is refused.
    """
    if photos is None:
        return
    if "colmap-db" not in names:
        raise UsageError("`--photos` is for `--format colmap-db`: the other formats do not look at photographs")
    if not photos.is_dir():
        raise UsageError("no such folder" if not photos.exists() else "is a file, not a folder", path=photos)
