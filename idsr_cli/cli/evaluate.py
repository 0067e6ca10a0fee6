"""`idsr evaluate`: how many keypoints come back, and how good the pictures are, on pairs with a known clean version."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from idsr_cli.cli import batch, options
from idsr_cli.cli.console import console
from idsr_cli.errors import IdsrError, UsageError

if TYPE_CHECKING:
    from idsr_cli.evaluation.evaluate import Row, Summary
    from idsr_cli.files.pairs import Pair

HELP = """Score idsr, the rainy photograph itself and other methods on rainy/clean pairs.

\b
Examples:
  idsr evaluate --rainy rain --clean dry
  idsr evaluate --rainy rain --clean dry --method PReNet=prenet-out -o report

The table goes to standard output; -o writes summary.json and images.csv. A method's folder holds its images under
the rainy photographs' names (the suffix may differ).
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


def parse_method(text: str) -> tuple[str, Path]:
    """`NAME=DIR`."""
    name, _, folder = text.partition("=")
    if not name or not folder:
        raise typer.BadParameter(f"`{text}` is not NAME=DIR")
    return name, Path(folder)


def parse_splices(text: str) -> tuple[str, ...]:
    """`DD,GG,DG`, or `none`."""
    names = () if text == "none" else tuple(text.split(","))
    if not set(names) <= {"DD", "GG", "DG", "GD"}:
        raise typer.BadParameter(f"`{text}` is not a list of DD, GG, DG, GD, nor `none`")
    return names


@app.command(help=HELP, no_args_is_help=True)
def evaluate(
    rainy: Annotated[
        Path, typer.Option(metavar="DIR", help="Rainy photographs.", show_default=False, rich_help_panel=options.IN_OUT)
    ],
    clean: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Their clean versions.", show_default=False, rich_help_panel=options.IN_OUT),
    ],
    method: Annotated[
        list[Any] | None,
        typer.Option(
            metavar="NAME=DIR",
            parser=parse_method,
            help="Another method's derained photographs. Repeatable.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Folder for summary.json and images.csv.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None,
    count: Annotated[
        int, typer.Option(min=0, help="Use the first so many pairs; 0 = all.", rich_help_panel=options.IN_OUT)
    ] = 0,
    splices: Annotated[
        Any,
        typer.Option(
            "--splice",
            metavar="DD,GG,DG",
            parser=parse_splices,
            show_default=False,
            rich_help_panel=options.MODEL,
            help="Which network detects, which describes; `none` leaves ours out. [dim]\\[default: DD,GG,DG][/dim]",
        ),
    ] = "DD,GG,DG",
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    tile: options.Tile = "auto",  # type: ignore[assignment]  # parsed by its option
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Run the command."""
    console.configure(quiet=quiet, verbose=verbose, json=json)
    from idsr_cli.files.pairs import pairs_in_folders
    from idsr_cli.weights import find_weights

    pairs = pairs_in_folders(rainy, clean)
    pairs = pairs[:count] if count else pairs
    methods = {name: images_of(folder, pairs, rainy) for name, folder in method or ()}
    found = find_weights(weights) if splices else None
    networks = batch.Networks(found, "".join(splices), device, precision, options.tile_side(tile)) if found else None
    from idsr_cli.evaluation.evaluate import MATCHING_RULE, SIFT_SETTINGS, evaluate_pair, summarise

    where, number = batch.place(networks)
    header = {
        "rainy": str(rainy), "clean": str(clean), "pairs": len(pairs), "matching": MATCHING_RULE, "sift": SIFT_SETTINGS,
        "weights": f"{found.name} {found.sha256[:12]}, trained to run as {found.splice}" if found else "none",
        "device": where or "cpu", "precision": number or "fp32",
    }  # fmt: skip
    rows: list[Row] = []
    failed = 0
    console.begin("evaluating", len(pairs))
    try:
        for i, pair in enumerate(pairs):
            try:
                others = {name: images[i] for name, images in methods.items()}
                # All of a pair or nothing, so that every method is averaged over the same pairs.
                rows += list(evaluate_pair(pair, networks.restore if networks else no_networks, splices, others))
            except IdsrError as error:
                failed += 1
                console.error(error if error.path else type(error)(error.reason, path=pair.rainy, hint=error.hint))
            console.advance()
    finally:
        console.end()
    if not rows:
        raise UsageError("no pair could be evaluated")
    summaries = summarise(rows)
    for row in rows:
        console.event("item", **plain(asdict(row)))
    console.event("summary", header=header, methods=plain([asdict(s) for s in summaries]), failed=failed)
    if not json:
        for line in table(header, summaries):
            console.text(line)
    if output is not None:
        write_report(output, header, rows, summaries)
    if failed:
        raise typer.Exit(1)


def plain(value: Any) -> Any:
    """The same with null for what JSON cannot say: the PSNR of equal images, the precision of no matches."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def no_networks(image: Any, letters: str) -> list[Any]:
    """Stands in when only other methods are scored."""
    return []


def images_of(folder: Path, pairs: list[Pair], rainy: Path) -> list[Path]:
    """A method's image for each pair, found by name like a clean version.

    Raises:
        PairingError: one is missing.
    """
    from idsr_cli.errors import PairingError
    from idsr_cli.files.pairs import photos_in

    known = {path.relative_to(folder).with_suffix("").as_posix(): path for path in photos_in(folder)}
    found = []
    for pair in pairs:
        name = pair.rainy.relative_to(rainy).with_suffix("").as_posix()
        if name not in known:
            raise PairingError(f"no image for {pair.rainy}", path=folder, hint="name it like the rainy photograph")
        found.append(known[name])
    return found


def table(header: dict[str, Any], summaries: list[Summary]) -> list[str]:
    """The summary as plain text: what it depends on, then a line a method."""
    lines = [f"{name:>9}  {value}" for name, value in header.items()]
    columns = ("method", "true", "ratio", "mutual", "recall", "prec.", "|R|", "|C|", "lost", "worst 5 %",
               "PSNR rgb", "SSIM rgb", "PSNR y", "SSIM y")  # fmt: skip
    cells = [
        (s.method, f"{s.true:.1f}", f"{s.ratio:.1f}", f"{s.mutual:.1f}", f"{s.recall:.3f}", f"{s.precision:.3f}",
         f"{s.found:.0f}", f"{s.clean:.0f}", f"{100 * s.lost:.0f} %", f"{s.worst:+.1f}", f"{s.psnr_rgb:.2f}",
         f"{s.ssim_rgb:.4f}", f"{s.psnr_y:.2f}", f"{s.ssim_y:.4f}")
        for s in summaries
    ]  # fmt: skip
    widths = [max(len(row[i]) for row in (columns, *cells)) for i in range(len(columns))]
    lines.append("")
    for row in (columns, *cells):
        first, *rest = row
        lines.append("  ".join((first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(rest, widths[1:], strict=True)))))
    return lines


def write_report(folder: Path, header: dict[str, Any], rows: list[Row], summaries: list[Summary]) -> None:
    """`summary.json` and `images.csv`, whole or not at all."""
    import csv
    import io
    import json

    from idsr_cli.files.atomic import write_bytes

    summary = {"schema": 1, **header, "methods": plain([asdict(s) for s in summaries])}
    write_bytes(folder / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for i, row in enumerate(rows):
        flat = asdict(row)
        counts = flat.pop("recovered")
        errors = {f"{kind}_{k}": value for kind in ("gaussian", "dog") for k, value in enumerate(flat.pop(kind))}
        record = {**flat, **counts, **errors}
        if i == 0:
            writer.writerow(record)
        writer.writerow(record.values())
    write_bytes(folder / "images.csv", text.getvalue().encode())
