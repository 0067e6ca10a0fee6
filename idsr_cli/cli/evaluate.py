"""`idsr evaluate`: how many keypoints come back, and how good the pictures are, on pairs with a known clean version."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from idsr_cli.cli import batch, options
from idsr_cli.cli.console import console
from idsr_cli.errors import UsageError
from idsr_cli.files.faults import failure, item_error
from idsr_cli.runtime.threads import use_threads

if TYPE_CHECKING:
    import numpy as np

    from idsr_cli.evaluation.curves import TrainingLog
    from idsr_cli.evaluation.evaluate import Attempt, Ours
    from idsr_cli.evaluation.pictures import Example
    from idsr_cli.evaluation.provenance import Fingerprint
    from idsr_cli.evaluation.result import Result
    from idsr_cli.evaluation.sequences import PlanePair
    from idsr_cli.images.pairs import Pair
    from idsr_cli.weights import WeightsPair

Thing = TypeVar("Thing")

HELP = """Score idsr, the rainy photograph itself and other methods on rainy/clean pairs.

\b
Examples:
  idsr evaluate --rainy rain --clean dry
  idsr evaluate --rainy rain --clean dry --method PReNet=prenet-out -o report
  idsr evaluate --rainy rain --clean dry --weights base --weights mine
  idsr evaluate --matching oxford -o report       matching with known geometry

The tables go to standard output. `-o FOLDER` writes report.html (pictures, plots, tables; one file that opens \
offline), summary.json, rows.jsonl and images.csv or geometry.csv; `-o x.html` writes the page alone. \
A method's folder holds its images under the rainy photographs' names (the suffix may differ).
"""
DEFAULT_SPLICES = "DD,GG,DG"
SPLICE_WORDS = {
    "DD": "plain SIFT of DPRNet's image", "GG": "plain SIFT of GGIRNet's image",
    "DG": "found in DPRNet's, described in GGIRNet's", "GD": "found in GGIRNet's, described in DPRNet's",
}  # fmt: skip

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


def parse_method(text: str) -> tuple[str, Path]:
    """`NAME=DIR`."""
    name, _, folder = text.partition("=")
    if not name or not folder:
        raise typer.BadParameter(f"`{text}` is not NAME=DIR")
    return name, Path(folder)


def parse_splices(text: str) -> tuple[str, ...]:
    """`DD,GG,DG`, or `none`."""
    names = () if text == "none" else tuple(dict.fromkeys(text.split(",")))
    if not set(names) <= set(SPLICE_WORDS):
        raise typer.BadParameter(f"`{text}` is not a list of DD, GG, DG, GD, nor `none`")
    return names


@app.command(help=HELP, no_args_is_help=True)
def evaluate(
    rainy: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Rainy photographs.", show_default=False, rich_help_panel=options.IN_OUT),
    ] = None,
    clean: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Their clean versions.", show_default=False, rich_help_panel=options.IN_OUT),
    ] = None,
    side_by_side: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Instead: pairs side by side in one file each.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None,
    clean_side: Annotated[
        Literal["left", "right"], typer.Option(help="Which half of them is clean.", rich_help_panel=options.IN_OUT)
    ] = "left",
    pair_list: Annotated[
        Path | None,
        typer.Option(
            "--list",
            metavar="FILE",
            help="Instead: pairs, a line each: rainy TAB clean.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None,
    matching: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Image sequences with homographies (img1 .. imgN, H1to2p .. H1toNp): it rains on image N, which is "
            "matched with image 1.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the rain on --matching.", rich_help_panel=options.IN_OUT)] = 0,
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
            help="Folder for report.html, summary.json, rows.jsonl and CSV; or a single page, x.html.",
            show_default=False,
            rich_help_panel=options.IN_OUT,
        ),
    ] = None,
    log: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="log.jsonl of a training run, for its curves in the report. Repeatable.",
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
            metavar=DEFAULT_SPLICES,
            parser=parse_splices,
            show_default=False,
            rich_help_panel=options.MODEL,
            help="Which network detects, which describes; `none` leaves ours out. "
            f"[dim]\\[default: {DEFAULT_SPLICES}][/dim]",
        ),
    ] = DEFAULT_SPLICES,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            metavar="NAME|FOLDER|FILE",
            show_default=False,
            rich_help_panel=options.MODEL,
            help="Trained networks to score. Repeatable. "
            "[dim]\\[default: $IDSR_WEIGHTS, or the ones that come with idsr][/dim]",
        ),
    ] = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    tile: options.Tile = "auto",  # type: ignore[assignment]  # parsed by its option
    threads: options.Threads = 0,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Run the command."""
    console.configure(quiet=quiet, verbose=verbose, json=json)
    use_threads(threads)
    from idsr_cli.images.pairs import find_pairs, images_for

    if log and output is None:
        raise UsageError("`--log` is for the report", hint="add `-o REPORT`")
    if output is not None:
        check_output(output)
    logs = read_logs(log or ())
    pairs = find_pairs(rainy, clean, side_by_side, clean_side, pair_list)
    planes = find_planes(matching) if matching is not None else []
    if not pairs and not planes:
        raise UsageError("nothing to score", hint="give --rainy and --clean, --side-by-side, --list or --matching")
    if method and not pairs:
        raise UsageError("`--method` has no pairs to be scored on", hint="give --rainy and --clean")
    check_names([pair.name for pair in pairs], "pairs are", "score them one folder at a time")
    check_names([plane.name for plane in planes], "image pairs are", "give each sequence its own folder")
    if count:
        pairs, planes = pairs[:count], planes[:count]
    others = {name: images_for(pairs, folder) for name, folder in method or ()}
    ours = load_networks(weights or [os.environ.get("IDSR_WEIGHTS") or None], splices, device, precision, tile)

    from idsr_cli.evaluation import provenance
    from idsr_cli.evaluation.evaluate import RAINY, method_name
    from idsr_cli.evaluation.result import Result
    from idsr_cli.evaluation.sequences import DRY, GEOMETRY_RULE

    own = [method_name(prefix, name) for prefix, mine in ours.weights.items() for name in mine.splices]
    check_names([RAINY, *([DRY] if planes else []), *own, *(name for name, _ in method or ())], "methods are",
                "give each another name")  # fmt: skip
    header: dict[str, Any] = {"command": provenance.command_line(sys.argv[1:])}
    if pairs:
        source = rainy or side_by_side or pair_list
        header |= {
            "rainy": str(source), "clean": str(clean or source), "pairs": len(pairs),
            "scenes": len({pair.clean for pair in pairs}), "pixels": {},
            "methods": {name: str(folder) for name, folder in method or ()},
        }  # fmt: skip
    if planes:
        header |= {"sequences": str(matching), "rain": {"of": "`idsr rain`, random streaks", "seed": seed}}
    header |= {**ours.header, "versions": provenance.versions()}
    header |= {"geometry": GEOMETRY_RULE} if planes else {}
    header |= provenance.conventions() if pairs else provenance.shared_conventions()
    result = Result(header)
    fingerprint = provenance.Fingerprint()
    interrupted = False
    try:
        score_pairs(result, pairs, ours, others, fingerprint)
        score_planes(result, planes, ours, seed)
    except KeyboardInterrupt:
        interrupted = True
        if not result.rows and not result.geometry_rows:
            raise
    if not result.rows and not result.geometry_rows:
        raise UsageError("no pair could be evaluated")
    if result.rows:
        header |= {"pairs": len({row.pair for row in result.rows}), "pixels": {"sha256": fingerprint.hexadecimal}}
    result.close({pair.name: pair.name if pair.clean_side else str(pair.clean) for pair in pairs})
    console.event("summary", **result.summary())
    if not json:
        for line in result.text(console.table_width()):
            console.text(line)
    if output is not None:
        from idsr_cli.evaluation.report import Report, html_page

        shown = result.shown([method_name(prefix, own) for prefix, own in ours.splice.items()])
        best: list[Example] = []
        worst: list[Example] = []
        if shown and not interrupted:
            try:
                best, worst = pictures(result, shown, pairs, ours, others)
            except Exception as error:  # the numbers are worth more than the pictures
                console.warn(f"no pictures in the report: {item_error(error).reason}", "the numbers are complete")
        page = write_report(output, result, html_page(Report(result, shown, best, worst, logs)))
        console.note(f"wrote {page}")
    if interrupted:
        scored = len({row.pair for row in result.rows}) + len({row.pair for row in result.geometry_rows})
        console.note(f"interrupted with {len(pairs) + len(planes) - scored - result.failed} pairs to go")
        raise typer.Exit(130)
    if result.failed:
        raise typer.Exit(1)


def find_planes(folder: Path) -> list[PlanePair]:
    """The image pairs of all sequences in a folder."""
    from idsr_cli.evaluation.sequences import find_pairs

    return find_pairs(folder)


def read_logs(paths: Sequence[Path]) -> list[TrainingLog]:
    """Training logs, before the long work begins.

    Raises:
        UsageError: one is none.
    """
    from idsr_cli.evaluation.curves import read_log

    return [read_log(path) for path in paths]


def check_names(names: Sequence[str], what: str, hint: str) -> None:
    """Raises UsageError if a name stands for two things."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UsageError(f"two {what} called `{name}`", hint=hint)
        seen.add(name)


@dataclass(frozen=True)
class AllOurs:
    """Our networks, and what the header says of them.

    Attributes:
        weights: name of the weights, "" if there is but one set -> its networks and splices.
        splice: the same -> the splice they were measured best with.
        header: weights, device, precision and tile.
    """

    weights: dict[str, Ours]
    splice: dict[str, str]
    header: dict[str, Any]


def load_networks(
    specs: Sequence[str | None], splices: Sequence[str], device: str, precision: str, tile: int
) -> AllOurs:
    """The networks of each set of weights; none without splices.

    Raises:
        WeightsError: one is not there.
        UsageError: two have one name.
        DeviceError: the device or precision is not available.
    """
    if not splices:
        return AllOurs({}, {}, {"weights": [], "device": "cpu", "precision": "fp32"})
    from idsr_cli.evaluation.evaluate import Ours
    from idsr_cli.evaluation.provenance import describe_weights
    from idsr_cli.weights import find_weights

    found: list[WeightsPair] = [find_weights(spec) for spec in specs]
    # A folder of a training run is often called like others: then the name is what was typed.
    names = [pair.name for pair in found]
    if len(set(names)) < len(names):
        names = [str(spec) for spec in specs]
    check_names(names, "sets of weights are", "give each once")
    prefixes = names if len(names) > 1 else [""]
    wanted = [distinct(pair, splices) for pair in found]
    networks = [
        batch.load_networks(pair, "".join(names), device, precision, options.tile_side(tile))
        for pair, names in zip(found, wanted, strict=True)
    ]
    where, number = batch.place(networks[0])
    header = {
        "weights": [
            {**describe_weights(pair), "name": name} for name, pair in zip(names, found, strict=True)
        ],
        "splices": {name: SPLICE_WORDS[name] for name in splices if any(name in names for names in wanted)},
        "device": where, "precision": number, "tile": "auto" if tile < 0 else tile,
    }  # fmt: skip
    return AllOurs(
        {prefix: Ours(n.restore, names) for prefix, n, names in zip(prefixes, networks, wanted, strict=True)},
        {prefix: pair.splice for prefix, pair in zip(prefixes, found, strict=True)},
        header,
    )


def distinct(pair: WeightsPair, splices: Sequence[str]) -> Sequence[str]:
    """The splices that differ: of a network that plays both roles all are one, called by its own role if asked for."""
    if pair.dprnet.sha256 != pair.ggirnet.sha256:
        return splices
    own = "DD" if pair.dprnet.arch == "dprnet" else "GG"
    return (own,) if own in splices else splices[:1]


def score_pairs(
    result: Result, pairs: Sequence[Pair], ours: AllOurs, others: dict[str, list[Path]], fingerprint: Fingerprint,
) -> None:  # fmt: skip
    """Score all pairs, and tell of each."""
    from idsr_cli.evaluation.evaluate import evaluate_pair
    from idsr_cli.evaluation.records import row_record

    def score(i: int, pair: Pair) -> None:
        images = {name: paths[i] for name, paths in others.items()}
        # All of a pair or nothing, so that every method is averaged over the same pairs.
        rows = evaluate_pair(pair, ours.weights, images, fingerprint)
        result.rows += rows
        for row in rows:
            console.event("item", **row_record(row))
        console.detail(f"{pair.name}: true {', '.join(f'{row.method} {row.recovered.true}' for row in rows)}")

    for_each(result, pairs, "evaluating", score, lambda pair: pair.rainy)


def score_planes(result: Result, planes: Sequence[PlanePair], ours: AllOurs, seed: int) -> None:
    """Match the images of all sequences, and tell of each pair."""
    from idsr_cli.evaluation.records import plain
    from idsr_cli.evaluation.sequences import evaluate_plane_pair
    from idsr_cli.synthetic_rain import rain_photo

    def rain(rgb: np.ndarray, name: str) -> np.ndarray:
        return rain_photo(rgb, seed, name)

    def score(i: int, pair: PlanePair) -> None:
        rows = evaluate_plane_pair(pair, rain, ours.weights)
        result.geometry_rows += rows
        for row in rows:
            console.event("geometry", **plain(asdict(row)))
        console.detail(f"{pair.name}: inliers {', '.join(f'{row.method} {row.inliers}' for row in rows)}")

    for_each(result, planes, "matching", score, lambda pair: pair.second)


def for_each(
    result: Result, things: Sequence[Thing], doing: str, work: Callable[[int, Thing], None],
    path: Callable[[Thing], Path],
) -> None:  # fmt: skip
    """Work on each; one that fails, for whatever reason, is told of, and counted, and the others go on."""
    console.begin(doing, len(things))
    try:
        for i, thing in enumerate(things):
            try:
                work(i, thing)
            except Exception as error:
                result.failed += 1
                console.error(failure(error, path(thing)), error)
            console.advance()
    finally:
        console.end()


def pictures(
    result: Result, shown: str, pairs: Sequence[Pair], ours: AllOurs, others: dict[str, list[Path]],
) -> tuple[list[Example], list[Example]]:  # fmt: skip
    """The pairs on which the method `shown` gains most and least; only its own network runs again."""
    from idsr_cli.evaluation.evaluate import RAINY, Ours, attempts, method_name
    from idsr_cli.evaluation.pictures import examples

    index = {pair.name: i for i, pair in enumerate(pairs)}
    networks = {
        prefix: Ours(mine.restore, [name])
        for prefix, mine in ours.weights.items()
        for name in mine.splices
        if method_name(prefix, name) == shown
    }

    def read(pair: str) -> tuple[Attempt, Attempt, np.ndarray]:
        i = index[pair]
        rainy, clean = pairs[i].read()
        images = {shown: others[shown][i]} if shown in others else {}
        found = {a.method: a for a in attempts(pairs[i], rainy, networks, images)}
        return found[RAINY], found[shown], clean

    return examples(result.rows, shown, read)


def write_report(output: Path, result: Result, page: str) -> Path:
    """A page alone if `output` is named like one, else a folder with the data beside it; each file whole or absent.

    Returns:
        The page.

    Raises:
        UsageError: a file cannot be written.
    """
    from idsr_cli.files.atomic import write_bytes

    html = page.encode("utf-8", "backslashreplace")
    files = {output: html}
    if not is_page(output):
        files = {output / name: data for name, data in {**result.files(), "report.html": html}.items()}
    for path, data in files.items():
        try:
            write_bytes(path, data)
        except OSError as error:
            raise UsageError(f"cannot be written: {(error.strerror or str(error)).lower()}", path=path) from error
    return output if is_page(output) else output / "report.html"


def check_output(output: Path) -> None:
    """Before the work: raises UsageError if the report could not be written there."""
    hint = "`-o` takes a folder, or a page, x.html"
    folder = output.absolute()
    if is_page(output):
        if output.is_dir():
            raise UsageError("is a folder", path=output, hint=hint)
        folder = folder.parent
    above = next(place for place in (folder, *folder.parents) if place.exists())
    if not above.is_dir():
        raise UsageError("is a file", path=above, hint=hint)
    if not os.access(above, os.W_OK):
        raise UsageError("may not be written to", path=above, hint="give another `-o`")


def is_page(output: Path) -> bool:
    """Whether `-o` names a single page."""
    return output.suffix.lower() in (".html", ".htm")
