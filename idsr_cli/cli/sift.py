"""`idsr sift`: photographs in, keypoint files out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from idsr_cli import __version__
from idsr_cli.cli import batch, options
from idsr_cli.cli.console import console
from idsr_cli.errors import UsageError
from idsr_cli.files.batch import Saved, Stages
from idsr_cli.files.plan import Item, Naming, guard_folder
from idsr_cli.formats import FORMATS, KeypointFormat

if TYPE_CHECKING:
    import numpy as np
    import torch

    from idsr_cli.files.image import Photo
    from idsr_cli.keypoints import Keypoints
    from idsr_cli.weights import WeightsPair

HELP = """Extract SIFT keypoints and descriptors as if it were not raining.

\b
Examples:
  idsr sift photos -o keypoints                   a/x.jpg -> a/x.jpg.npz
  idsr sift photos -o keypoints --format colmap   for feature_importer
  idsr sift photos -o keypoints --draw pictures   and pictures of them
  idsr sift dry -o keypoints --no-derain          plain SIFT

The networks restore where keypoints are and how they look. Coordinates are those of the pixels as stored \
(EXIF orientation is not applied).
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


def naming(kind: KeypointFormat) -> Naming:
    """The format's suffix is appended to the whole name, so x.jpg and x.png never meet."""
    return Naming(
        lambda relative: relative.with_name(relative.name + kind.suffix), frozenset({kind.suffix}), makes_photos=False
    )


def picture_path(folder: str, item: Item) -> Path:
    """Where the picture of an item's keypoints goes."""
    return Path(folder) / item.relative.with_name(f"{item.relative.name}.png")


@dataclass(frozen=True)
class Job:
    """What every photograph of a run has in common.

    Attributes:
        kind: format of the keypoint files.
        max_keypoints: None = all.
        letters: the splice, "DG", "DD" or "GG"; "" = the photograph as it is.
        networks: those that `letters` names, or None.
        draw: folder for pictures, or None.
        made_with: weights and options of the networks, for the file.
    """

    kind: KeypointFormat
    max_keypoints: int | None
    letters: str
    networks: batch.Networks | None
    draw: str | None
    made_with: dict[str, Any]

    def compute(self, item: Item, photo: Photo) -> list[np.ndarray]:
        """The restored views of the photograph, one for each letter."""
        return self.networks.restore(photo.rgb, self.letters) if self.networks else [photo.rgb]

    def save(self, item: Item, views: list[np.ndarray]) -> Saved:
        """Detect, describe, write."""
        from idsr_cli.sift import SiftOptions, sift, splice

        settings = SiftOptions(max_keypoints=self.max_keypoints)
        if len(views) == 1 or views[0] is views[1]:
            keypoints = sift(self._grey(views[0]), settings)
        else:
            keypoints = splice(self._grey(views[0]), self._grey(views[1]), settings)
        data = self.kind.encode(
            keypoints, {"tool": "idsr", "version": __version__, **self.made_with, "sift": asdict(settings)}
        )
        # The picture first: an item whose keypoint file is there is complete.
        if self.draw is not None:
            self._draw(item, views[0], keypoints)
        batch.emit(item.target, data)
        height, width = views[0].shape[:2]
        return Saved(width, height, len(keypoints))

    def _grey(self, rgb: np.ndarray) -> torch.Tensor:
        from idsr_cli.scale_space import grey_image

        return grey_image(rgb, self.networks.device if self.networks else "cpu")

    def _draw(self, item: Item, rgb: np.ndarray, keypoints: Keypoints) -> None:
        from idsr_cli.drawing import draw_keypoints
        from idsr_cli.files.image import Photo, encode

        assert self.draw is not None
        picture = draw_keypoints(rgb, keypoints)
        batch.emit(picture_path(self.draw, item), encode(Photo(picture), picture, "PNG"))


def networks_used(pair: WeightsPair | None, letters: str) -> list[str] | None:
    """The hashes of the weights that a splice runs, for the record of settings."""
    roles = {} if pair is None else {"D": pair.dprnet.sha256, "G": pair.ggirnet.sha256}
    return [roles[letter] for letter in letters] or None


@app.command(help=HELP, no_args_is_help=True)
def sift(
    inputs: options.Inputs = None,
    output: options.Output = None,
    format: Annotated[
        Literal["npz", "colmap"],
        typer.Option("--format", help="Of the keypoint files.", rich_help_panel=options.IN_OUT),
    ] = "npz",
    draw: Annotated[
        str | None,
        typer.Option(
            "--draw",
            metavar="DIR",
            help="Also write pictures of the keypoints there, as PNG.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None,
    from_list: options.FromList = None,
    include: options.Include = None,
    exclude: options.Exclude = None,
    no_recursive: options.NoRecursive = False,
    existing: options.ExistingOutputs = "skip",
    max_keypoints: Annotated[
        int | None,
        typer.Option(
            "--max-keypoints",
            metavar="N",
            min=0,
            help="Keep the N strongest, exactly. [dim]\\[default: all][/dim]",
            show_default=False,
            rich_help_panel="Keypoints",
        ),
    ] = None,
    derain: Annotated[
        bool,
        typer.Option(
            "--derain/--no-derain",
            help="Restore the photograph first, or take it as it is (plain SIFT).",
            rich_help_panel="Keypoints",
        ),
    ] = True,
    splice: Annotated[
        Literal["DG", "DD", "GG"] | None,
        typer.Option(
            "--splice",
            help="Which network (D = DPRNet, G = GGIRNet) detects, and which describes. "
            "[dim]\\[default: what the weights were measured best with; DD for base][/dim]",
            show_default=False,
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    tile: options.Tile = "auto",  # type: ignore[assignment]  # parsed by its option
    jobs: options.Jobs = 0,
    json: options.Json = False,
    dry_run: options.DryRun = False,
    fail_fast: options.FailFast = False,
    failures: options.Failures = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Run the command."""
    console.configure(quiet=quiet, verbose=verbose, json=json)
    if splice and not derain:
        raise UsageError("`--splice` chooses between networks, and `--no-derain` uses none")
    kind = FORMATS[format]
    request = batch.Request(
        inputs, output, existing, from_list, not no_recursive, include, exclude, jobs, fail_fast, failures
    )
    items = request.plan(naming(kind))
    if draw is not None:
        guard_folder(inputs or [], draw)
        # Keypoints that are there without their picture are not complete.
        items = [replace(i, done=i.done and picture_path(draw, i).exists()) for i in items]
    pair = None
    if derain:
        from idsr_cli.weights import find_weights

        pair = find_weights(weights)
    letters = splice or (pair.splice if pair else "")
    stamps = request.stamps(
        naming(kind), "sift", weights=networks_used(pair, letters), splice=letters, format=format,
        precision=precision if derain else None, max_keypoints=max_keypoints,
    )  # fmt: skip
    items = stamps.check(items)
    if dry_run:
        batch.show_plan(items)
        return
    batch.check_pipes(items, text=kind.is_text)
    networks = None
    if pair and batch.has_work(items):
        networks = batch.Networks(pair, letters, device, precision, options.tile_side(tile))
    # Everything that decides the numbers, and nothing else: the same photographs give the same bytes.
    made_with: dict[str, Any] = {"weights": None, "splice": None}
    if pair and networks:
        made_with = {
            "weights": {"name": pair.name, "sha256": pair.sha256},
            "splice": letters,
            "precision": networks.precision,
            "device": networks.device.type,
            "tile": "auto" if tile < 0 else tile,
        }
    account = batch.Account("extracting", "extracted", *batch.place(networks), pair.name if pair else None)
    job = Job(kind, max_keypoints, letters, networks, draw, made_with)
    stages = Stages(batch.load_photo, job.compute, job.save, pixels=lambda photo: photo.width * photo.height)
    batch.run(items, stages, account, request, stamps)
