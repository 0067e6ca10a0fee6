"""`idsr models`: list, show and verify weights, and convert foreign checkpoints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from idsr_cli.cli import options
from idsr_cli.cli.console import console
from idsr_cli.cli.grouped import grouped
from idsr_cli.cli.model_card import (
    decoded_metadata,
    distinct_files,
    facts_as_markdown,
    file_facts,
    fit_tables,
    read_card,
    summary_line,
)
from idsr_cli.errors import UsageError, WeightsError

HELP = """Look at, check and convert the networks' weights.

\b
Examples:
  idsr models list                      what is here, and where; which networks there are
  idsr models show base                 its model card and training
  idsr models verify                    every file against its sha256
  idsr models convert DPRNet.pth mine/dprnet.safetensors

`--weights NAME` of the other commands takes the names listed here. They are looked up in $IDSR_WEIGHTS_DIR, in what \
comes with idsr, and in $XDG_CACHE_HOME/idsr (~/.cache/idsr): a folder NAME with dprnet.safetensors, \
ggirnet.safetensors, or one of them.
"""

app = typer.Typer(
    help=HELP,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Spec = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME|FOLDER|FILE", help="As for --weights. [dim]\\[default: base][/dim]", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="JSON lines on standard output.", rich_help_panel=options.REPORT)]


@dataclass(frozen=True)
class ModelsReporting:
    """What is told."""

    json: Json = False
    quiet: options.Quiet = False
    verbose: options.Tracebacks = 0


# --- list ------------------------------------------------------------------------------------------------------------


LIST_HELP = """All weights with a name on this machine, with size, hash and splice; and the kinds of network that can
be trained and loaded. Exit code 1 if some weights are damaged.

\b
Example:
  idsr models list
"""


@app.command("list", help=LIST_HELP)
@grouped
def list_command(
    *,
    reporting: ModelsReporting,
) -> None:
    """Run the command."""
    console.configure(quiet=reporting.quiet, verbose=reporting.verbose, json=reporting.json)
    from idsr_cli.weights import DEFAULT, find_weights, named_weights, weights_folders

    seen: set[str] = set()
    failed = 0
    for name, folder in named_weights():
        hidden, default = name in seen, name == DEFAULT and name not in seen
        seen.add(name)
        try:
            pair = find_weights(str(folder))
            files = [file_facts(weights) for weights in distinct_files(pair)]
        except WeightsError as error:
            failed += 1
            console.error(error, error.__cause__)
            console.event("model", name=name, folder=str(folder), status="failed", reason=str(error))
            continue
        console.event(
            "model", name=name, folder=str(folder), status="ok", default=default, hidden=hidden, splice=pair.splice,
            sha256=pair.sha256, files=files,
        )  # fmt: skip
        if not reporting.json:
            remark = "  (default)" if default else "  (hidden by the one above)" if hidden else ""
            console.text(f"{name}  splice {pair.splice}{remark}  {folder}")
            for file in files:
                console.text(f"  {summary_line(file)}")
    if not seen:
        places = ", ".join(str(folder) for folder in weights_folders())
        raise WeightsError("no weights here", hint=f"looked in {places}")
    list_kinds(reporting.json)
    if failed:
        raise typer.Exit(1)


def list_kinds(json: bool) -> None:
    """The kinds of network, with their papers."""
    from idsr_cli.kinds import KINDS

    if not json:
        console.text("\nNetworks: `idsr train NAME` trains one, `--weights FILE` takes its checkpoints.")
    for name, kind in KINDS.items():
        console.event("network", name=name, does=kind.does, paper=kind.paper, presets=list(kind.presets))
        if not json:
            console.text(f"  {name:8} {kind.does} (presets {', '.join(kind.presets)})\n           {kind.paper}")


# --- show ------------------------------------------------------------------------------------------------------------


SHOW_HELP = """The model card and what is stored with the weights.

\b
Examples:
  idsr models show base              laid out for the terminal
  idsr models show base > card.md    Markdown as it is
"""


@app.command("show", help=SHOW_HELP)
@grouped
def show_command(
    *,
    spec: Spec = None,
    reporting: ModelsReporting,
) -> None:
    """Run the command."""
    console.configure(quiet=reporting.quiet, verbose=reporting.verbose, json=reporting.json)
    from idsr_cli.weights import find_weights

    pair = find_weights(spec)
    folder = pair.dprnet.path.parent
    for remark in pair.remarks:
        console.note(remark)
    card = read_card(pair)
    files = [{**file_facts(weights), "metadata": decoded_metadata(weights)} for weights in distinct_files(pair)]
    if reporting.json:
        console.event(
            "model", name=pair.name, folder=str(folder), splice=pair.splice, sha256=pair.sha256, files=files, card=card
        )
        return
    if card is None:
        console.note(f"{pair.name} has no model card")
    text = (card or f"# `{pair.name}`").rstrip() + "\n\n" + facts_as_markdown(pair, files)
    width = console.terminal_width()
    if width is None:
        console.text(text.rstrip())
    else:
        console.markdown(fit_tables(text, width))


# --- verify ----------------------------------------------------------------------------------------------------------


VERIFY_HELP = """Check files: sha256, that networks load and run, and that numbers are finite. Exit code 1 if one
is damaged.

\b
Examples:
  idsr models verify
  idsr models verify base mine/dprnet.safetensors
"""


@app.command("verify", help=VERIFY_HELP)
@grouped
def verify_command(
    *,
    specs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME|FOLDER|FILE",
            help="As for --weights. [dim]\\[default: all with a name][/dim]",
            show_default=False,
        ),
    ] = None,
    reporting: ModelsReporting,
) -> None:
    """Run the command."""
    console.configure(quiet=reporting.quiet, verbose=reporting.verbose, json=reporting.json)
    targets = [path for spec in specs or () for path in find_targets(spec)] or all_folders()
    failed = 0
    for target in targets:
        for path, checked, error in check_target(target):
            if error is None:
                if not reporting.json:
                    console.text(f"{path}: ok ({checked})")
            else:
                failed += 1
                console.error(error, error.__cause__)
            console.event(
                "item", input=str(path), status="failed" if error else "ok", reason=error.reason if error else None,
                checked=checked,
            )  # fmt: skip
    if failed:
        raise typer.Exit(1)


def find_targets(spec: str) -> list[Path]:
    """The folder or file that a name stands for, damaged or not; for "FILE,FILE" both files.

    Raises:
        WeightsError: nothing of that name.
    """
    from idsr_cli.weights import find_weights, named_weights

    if Path(spec).exists():
        return [Path(spec)]
    for name, folder in named_weights():
        if name == spec:
            return [folder]
    pair = find_weights(spec)  # if there is none, its error lists the known names
    return [pair.dprnet.path, pair.ggirnet.path]


def all_folders() -> list[Path]:
    """All folders with a name."""
    from idsr_cli.weights import named_weights, weights_folders

    if found := [folder for _, folder in named_weights()]:
        return found
    raise WeightsError("no weights here", hint=f"looked in {', '.join(str(folder) for folder in weights_folders())}")


def check_target(target: Path) -> Iterator[tuple[Path, str, WeightsError | None]]:
    """Check a file, or each file of a folder.

    Yields:
        Path of the file, what was checked, and what is wrong, or None.
    """
    from idsr_cli.weights import MANIFEST, ROLE_FILES, check_folder, check_network, find_weights

    if target.is_dir():
        results = list(check_folder(target))
        yield from results
        if not results:  # the folder of a training run; if not, `find_weights` says what is missing
            yield from check_target(find_weights(str(target)).dprnet.path)
    elif target.name in ROLE_FILES.values() and (target.parent / MANIFEST).is_file():
        yield from (result for result in check_folder(target.parent) if result[0].name in (target.name, MANIFEST))
    else:
        try:
            check_network(find_weights(str(target)).dprnet)
            yield target, "no sha256 on record, loads, finite", None
        except WeightsError as error:
            yield target, "no sha256 on record", error


# --- convert ---------------------------------------------------------------------------------------------------------


CONVERT_HELP = """Convert a checkpoint, of other code or of `idsr train`, into a weights file of idsr. Only tensors are
read; one with code in it is refused.

\b
Examples:
  idsr models convert DPRNet.pth authors/dprnet.safetensors --half
  idsr models convert GGIRNet.pth authors/ggirnet.safetensors --half
  idsr models convert run-d/checkpoint.pt mine/dprnet.safetensors
  idsr derain photos -o dry --weights authors
  idsr models convert rain100l.pth sian.safetensors --dry-threshold 5
"""


@app.command("convert", help=CONVERT_HELP, no_args_is_help=True)
def convert_command(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SRC", help="A checkpoint: .pth .pt .ckpt .tar .bin or .safetensors.", show_default=False
        ),
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="DST",
            help="The .safetensors file to write. Named dprnet.safetensors or ggirnet.safetensors, it gets a manifest "
            "beside it, and its folder can be given to --weights.",
            show_default=False,
        ),
    ],
    role: Annotated[
        Literal["dprnet", "ggirnet"] | None,
        typer.Option(
            help="Which network it is. [dim]\\[default: what the file says; else by `ggir` in its name][/dim]",
            show_default=False,
        ),
    ] = None,
    half: Annotated[
        bool, typer.Option("--half/--full", help="Store 16-bit numbers, half the size, or 32-bit ones.")
    ] = False,
    dry_threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="LEVELS",
            help="Leave photographs as they are unless this much would be removed from half of their parts (root mean "
            "square, grey levels). [dim]\\[default: what the file says, else 0 = none][/dim]",
            show_default=False,
        ),
    ] = None,
    note: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=TEXT",
            help="Where it comes from, for its metadata: `--note licence=MIT`. Repeatable.",
            show_default=False,
        ),
    ] = None,
    existing: Annotated[
        Literal["error", "overwrite"], typer.Option(help="If DST exists: refuse, or replace it.")
    ] = "error",
    quiet: options.Quiet = False,
    verbose: options.Tracebacks = 0,
) -> None:
    """Run the command."""
    console.configure(quiet=quiet, verbose=verbose)
    if target.suffix != ".safetensors":
        raise UsageError("weights files end in .safetensors", path=target)
    if target.exists() and existing == "error":
        raise UsageError("exists", path=target, hint="replace it with `--existing overwrite`")
    if target.exists() and target.samefile(source):
        raise UsageError("is the source itself", path=target)
    notes = dict(parse_note(text) for text in note or ())
    if dry_threshold is not None:
        notes["idsr.dry_threshold"] = f"{dry_threshold:g}"
    from idsr_cli.conversion import convert
    from idsr_cli.weights import find_weights

    for remark in find_weights(str(source)).remarks if source.is_file() else []:
        console.note(remark)
    console.text(f"{target}: {summary_line(file_facts(convert(source, target, role, half, notes)))}")


def parse_note(text: str) -> tuple[str, str]:
    """`KEY=TEXT` -> the metadata's key and value."""
    from idsr_cli.conversion import RESERVED

    key, _, value = text.partition("=")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", key) or not value:
        raise UsageError(f"`--note {text}` is not KEY=TEXT", hint="keys are lower case: `--note licence=MIT`")
    if key in RESERVED:
        raise UsageError(f"`{key}` is not for notes", hint=f"reserved: {', '.join(RESERVED)}")
    return f"idsr.{key}", value
