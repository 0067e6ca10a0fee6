"""What the commands over photographs share: the plan on show, the networks, the run and what is said of it."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from idsr_cli import __version__
from idsr_cli.cli import options
from idsr_cli.cli.console import console
from idsr_cli.errors import IdsrError, UsageError
from idsr_cli.files.stores import Location
from idsr_cli.runs.batch import Computed, Loaded, Result, Stages
from idsr_cli.runs.outputs import SomeOutputsFailed
from idsr_cli.runs.plan import PIPE, Item, Search, suffix_counts
from idsr_cli.runs.process import STDIN, Elsewhere, Outcome, has_work, process
from idsr_cli.runs.request import Request
from idsr_cli.runs.shards import Shard, parse_shard
from idsr_cli.runtime.allocator import keep_memory

if TYPE_CHECKING:
    from idsr_cli.rain_estimate import Rain
    from idsr_cli.restoration import Removal, RestorationOptions, Restorer
    from idsr_cli.runs.contact_sheet.sheet import ContactSheet
    from idsr_cli.runs.contact_sheet.thumbnails import Detail
    from idsr_cli.runs.ray_cluster import RayOptions
    from idsr_cli.runs.work import Work
    from idsr_cli.weights import WeightsPair


# Photographs without rain that the summary names.
NAMED = 10


@dataclass(frozen=True)
class RunDescription:
    """How a run is described to the user.

    Attributes:
        doing: on the progress bar, "deraining".
        done: in the summary, "derained".
        device: what it runs on, or None if nothing is computed by networks.
        precision: of the networks, "fp32", or None likewise.
        engine: what runs the networks, "torch" or "ncnn", or None likewise.
        weights: name of the weights, or None if none are used.
    """

    doing: str
    done: str
    device: str | None = None
    precision: str | None = None
    engine: str | None = None
    weights: str | None = None

    @classmethod
    def of(cls, doing: str, done: str, restorer: Restorer | None, pair: WeightsPair | None) -> RunDescription:
        """With what the networks run on; `restorer` is None if they do not run."""
        weights = pair.name if pair else None
        if restorer is None:
            return cls(doing, done, weights=weights)
        return cls(doing, done, restorer.device, restorer.precision, restorer.engine, weights)


def make_request(
    paths: options.Paths,
    selection: options.Selection,
    jobs: int,
    reporting: options.BatchReporting,
    unchanged: Path | None = None,
    shard: str | None = None,
) -> Request:
    """What the options ask for.

    Raises:
        UsageError: one file for two lists, or `-` for one, or no such shard.
    """
    part = None if shard is None else parse_shard(shard)
    for name, path in (("failures", reporting.failures), ("unchanged", unchanged)):
        if str(path) == PIPE:
            raise UsageError(f"`--{name}` writes a file, not standard output", hint="name a file")
    if unchanged is not None and reporting.failures is not None and unchanged.resolve() == reporting.failures.resolve():
        raise UsageError("`--unchanged` and `--failures` want the same file", path=unchanged)
    return Request(
        inputs=paths.inputs or (),
        output=paths.output,
        existing=selection.existing,
        from_list=selection.from_list,
        search=Search(not selection.no_recursive, tuple(selection.include or ()), tuple(selection.exclude or ())),
        jobs=jobs,
        fail_fast=reporting.fail_fast,
        failures=_of_shard(reporting.failures, part),
        unchanged=_of_shard(unchanged, part),
        shard=part,
    )


def _of_shard(path: Path | None, shard: Shard | None) -> Path | None:
    """The list or page that a shard writes: shards are given the same command line, and must not share a file."""
    return path if path is None or shard is None else shard.path(path)


# --- before the run --------------------------------------------------------------------------------------------------


def check_pipes(items: Sequence[Item], text: bool) -> None:
    """Refuse pipes that cannot work.

    Args:
        items: the plan.
        text: the output may be printed on a terminal.

    Raises:
        UsageError: standard input is a terminal, or standard output cannot take the data.
    """
    if any(item.source is None for item in items) and sys.stdin.isatty():
        raise UsageError("standard input is a terminal: nothing is piped into it", hint="use `idsr ... - < FILE`")
    piped = [one for item in items for one in item.each_output if one.target is None and not one.problem]
    if piped:
        if console.json:
            raise UsageError("`--json` and `-o -` both want standard output")
        if not text and console.data_is_terminal:
            raise UsageError("will not write a binary file to the terminal", hint="redirect it: `> FILE`")


def show_plan(items: Sequence[Item], request: Request | None = None) -> None:
    """`--dry-run`: each input and its output, on standard output."""
    if request is not None:
        _tell_shard(items, request)
    for item in items:
        if console.json:
            console.event("plan", input=item.path, **_inside(item), **_planned(item), **_several(item, _planned))
            continue
        for one in item.each_output:
            if one.problem:
                console.text(f"{one.name}: {one.problem}")
            else:
                console.text(f"{one.name} -> {one.output}{f'  ({_why_skipped(one)})' if one.done else ''}")
    _warn_of_stale(items)


def _planned(item: Item) -> dict[str, Any]:
    action = "fail" if item.problem else "skip" if item.done else "write"
    reason = item.problem or _why_skipped(item) or None
    return {"output": None if item.problem else item.output, "action": action, "reason": reason}


def _inside(item: Item) -> dict[str, Any]:
    """For an event: the photograph, if the input holds several."""
    return {"photo": item.inside} if item.inside else {}


def _several(item: Item, told: Callable[[Item], dict[str, Any]]) -> dict[str, Any]:
    """For an event: what is told of each output of an item; nothing if it has only one."""
    return {"outputs": [{"kind": one.kind, **told(one)} for one in item.outputs]} if item.outputs else {}


def chosen_networks(
    pair: WeightsPair, roles: str, performance: options.Performance, removal: Removal
) -> RestorationOptions:
    """The networks that play the roles ("DG"), as the options have them."""
    from idsr_cli.restoration import RestorationOptions

    tile = options.tile_side(performance.tile)
    return RestorationOptions(pair, roles, performance.device, performance.precision, tile, removal, performance.engine)


def load_networks(pair: WeightsPair, roles: str, performance: options.Performance, removal: Removal) -> Restorer:
    """`chosen_networks`, loaded."""
    return loaded(chosen_networks(pair, roles, performance, removal))


def loaded(networks: RestorationOptions) -> Restorer:
    """Networks that report to the console; errors as in `RestorationOptions.build`."""
    restorer = networks.build()
    pair = networks.pair
    if restorer.device == "cpu":
        keep_memory()
    for remark in pair.remarks:
        console.note(remark)
    for remark in restorer.remarks:
        console.detail(remark)
    restorer.on_progress = console.part
    restorer.on_smaller = _warn_of_smaller_tiles
    return restorer


def _warn_of_smaller_tiles(side: int) -> None:
    console.warn(f"out of memory; going on with tiles of {side} pixels", f"start with `--tile {side}` to avoid this")


def _warn_of_stale(items: Sequence[Item]) -> None:
    """Say once that kept outputs may differ from what would be written now, and why."""
    reasons = Counter(one.stale for item in items for one in item.each_output if one.stale)
    if reasons:
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        console.warn(f"kept outputs that may be stale: {why}", "`--existing overwrite` writes them again")


def _why_skipped(item: Item) -> str:
    return "" if not item.done else f"output exists, {item.stale}" if item.stale else "output exists"


def _tell_shard(items: Sequence[Item], request: Request) -> None:
    """Which part of the photographs this is, if it is not all of them."""
    if (shard := request.shard) is not None:
        total = len(items) + len(request.others)
        console.event("shard", shard=str(shard), photographs=len(items), of=total)
        console.note(f"shard {shard}: {len(items)} of {total} photographs")


def contact_sheet(path: Path | None, command: str, shard: str | None = None) -> ContactSheet | None:
    """The page that `--report` asks for, of a run of this command.

    Raises:
        UsageError: it could not be written there, or there is no such shard.
    """
    if path is None:
        return None
    path = path if shard is None else parse_shard(shard).path(path)
    from idsr_cli.runs.contact_sheet.sheet import ContactSheet, check_page

    check_page(path)
    return ContactSheet(path, f"idsr {command}")


def shown_detail(sheet: ContactSheet | None, items: Sequence[Item]) -> Detail | None:
    """How much of each photograph the contact sheet shows; None if there is none."""
    from idsr_cli.runs.contact_sheet.thumbnails import detail_for

    return None if sheet is None else detail_for(len(items))


# --- the run ---------------------------------------------------------------------------------------------------------


def write_output(target: Location | None, data: bytes) -> None:
    """Write an output: atomically to its file or object, or to standard output."""
    from idsr_cli.files.atomic import write_bytes

    if target is None:
        console.write_data(data)
    else:
        write_bytes(target, data)


class ConsoleListener:
    """Tells the user how a run goes; a `runs.listener.Listener`.

    Attributes:
        description: how the run is described; may be set until it begins.
    """

    def __init__(self, description: RunDescription | None = None) -> None:
        self.description = description or RunDescription("", "")

    def begin(self, items: Sequence[Item]) -> None:
        _warn_of_stale(items)
        run = self.description
        if run.device:
            with_weights = f", weights {run.weights}" if run.weights else ""
            console.detail(f"{run.doing} on {run.device}, {run.engine}, {run.precision}{with_weights}")
        console.begin(run.doing, sum(item.waits for item in items))

    def expect(self, more: int) -> None:
        console.expect(more)

    def started(self, item: Item) -> None:
        console.started(item.relative.name if item.source is not None else STDIN)

    def computed(self) -> None:
        console.computed()

    def advance(self) -> None:
        console.advance()

    def result(self, result: Result) -> None:
        _show_result(result)

    def error(self, error: IdsrError, cause: BaseException | None = None) -> None:
        console.error(error, cause)

    def note(self, text: str) -> None:
        console.note(text)

    def end(self) -> None:
        console.end()


def run_work(
    items: Sequence[Item],
    work: Work,
    listener: ConsoleListener,
    words: tuple[str, str],
    pair: WeightsPair | None,
    ray: RayOptions | None = None,
    sheet: ContactSheet | None = None,
) -> None:
    """Run some work, here or on a cluster; see `run`.

    Args:
        items: the plan.
        work: the work.
        listener: hears of everything.
        words: `RunDescription.doing` and `.done`.
        pair: the weights, or None.
        ray: the cluster; None = here.
        sheet: as for `run`.
    """
    finishes = work.outputs.finishes(items)
    if ray is None or not has_work(items):
        restorer = loaded(work.networks) if work.networks else None
        listener.description = RunDescription.of(*words, restorer, pair)
        run(items, work.stages(restorer, listener), work.request, listener, finishes, sheet)
        return
    from idsr_cli.runs.ray_cluster import RayCluster

    def describe(ran: Mapping[str, str]) -> None:
        listener.description = replace(listener.description, **ran)
        if sheet is not None:
            sheet.facts = _facts(listener.description)

    for remark in pair.remarks if pair is not None and work.networks else ():
        console.note(remark)
    listener.description = RunDescription.of(*words, None, pair)
    run(items, RayCluster(work, ray, listener, describe), work.request, listener, finishes, sheet)


def run(
    items: Sequence[Item],
    work: Stages[Loaded, Computed] | Elsewhere,
    request: Request,
    listener: ConsoleListener,
    finishes: Sequence[Callable[[], None]] = (),
    sheet: ContactSheet | None = None,
) -> None:
    """Run the batch (see `process`), sum up, and leave with the exit code.

    Raises:
        typer.Exit: always, unless everything went well.
        UsageError: the file for failures cannot be written.
    """
    for path in request.passed_over:
        console.detail(f"{path}: passed over, since its name is not that of a photograph")
    if sheet is not None:
        sheet.facts = _facts(listener.description)
    _tell_shard(items, request)
    outcome = process(items, work, request, listener, finishes, sheet)
    _sum_up(outcome, listener.description, items, request, sheet)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


def _facts(run: RunDescription) -> dict[str, str]:
    """What a run is made with, for its contact sheet."""
    facts = {
        "command": shlex.join(("idsr", *sys.argv[1:])),
        "begun": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %z"),
        "idsr": __version__,
        "weights": run.weights,
        "device": run.device,
        "precision": run.precision,
        "engine": run.engine,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _show_result(result: Result) -> None:
    """A line for one item, and its JSON event."""
    item, saved = result.item, result.saved
    if result.error is not None:
        console.error(result.error, result.error.__cause__)
    elif saved is None:
        console.detail(f"{_arrow(item)}  skipped: {_why_skipped(item)}")
    else:
        found = "" if saved.keypoints is None else f", {saved.keypoints} keypoints"
        if saved.frames is not None:
            found = f", {saved.frames} frames{found}"
        if saved.derained is False:
            # Only a photograph is left as it is: the frames of a dry clip are encoded again, and keypoints are new.
            seen = ", no rain seen" if saved.rain is None else f", {rain_words(saved.rain, derained=False)}"
            found += seen if found else f"{seen}, left as it is"
        elif saved.rain is not None:
            found += f", {rain_words(saved.rain)}"
        if saved.dropped:
            found += f", without {' and '.join(saved.dropped)}"
        size = f"{saved.width}x{saved.height}" if saved.width else "size not known"
        console.detail(f"{_arrow(item)}  {size}{found}, {result.seconds:.2f} s")
    dropped = {"dropped": list(saved.dropped)} if saved and saved.dropped else {}
    of_clip = {} if saved is None or saved.frames is None else {"frames": saved.frames, "lost": saved.lost}
    console.event(
        "item",
        input=item.path,
        **_inside(item),
        output=None if result.status == "failed" else item.output,
        status=result.status,
        reason=result.error.reason if result.error else _why_skipped(item) or None,
        seconds=round(result.seconds, 3),
        width=saved.width or None if saved else None,
        height=saved.height or None if saved else None,
        keypoints=saved.keypoints if saved else None,
        derained=saved.derained if saved else None,
        rain=saved.rain.record() if saved and saved.rain else None,
        **of_clip,
        **dropped,
        **_several(item, lambda one: _became(one, result.error)),
    )


def _arrow(item: Item) -> str:
    """The item and what is written of it; outputs that exist are left out, unless all do."""
    outputs = dict.fromkeys(one.output for one in item.each_output if item.done or not one.done)
    return f"{item.name} -> {', '.join(outputs)}"


def _became(one: Item, error: IdsrError | None) -> dict[str, Any]:
    """What became of one of the outputs of an item; `error` is that of the item."""
    reason: str | None = one.problem or None
    if one.done:
        return {"output": one.output, "status": "skipped", "reason": _why_skipped(one)}
    if error is not None and reason is None:
        reason = error.failures.get(one.kind) if isinstance(error, SomeOutputsFailed) else error.reason
    return {"output": None if reason else one.output, "status": "failed" if reason else "ok", "reason": reason}


def rain_words(rain: Rain, derained: bool = True) -> str:
    """How much rain was seen, for -v: level, share of the pixels, direction; the level if it does not count as rain."""
    if not derained:
        return f"no rain seen ({rain.level:.2f} grey levels)"
    direction = "" if rain.direction is None else f", direction {round(rain.direction)}"
    return f"rain of {rain.level:.1f} grey levels on {100 * rain.share:.0f} % of the pixels{direction}"


def _sum_up(
    outcome: Outcome, run: RunDescription, items: Sequence[Item], request: Request, sheet: ContactSheet | None
) -> None:
    passed_over = request.passed_over
    summary, stale = outcome.summary, sum(bool(item.stale) for item in items)
    console.event(
        "summary",
        ok=summary.ok,
        skipped=summary.skipped,
        failed=summary.failed,
        unchanged=len(outcome.unchanged),
        stale=stale,
        finished=outcome.finished,
        seconds=round(summary.seconds, 3),
        device=run.device,
        precision=run.precision,
        engine=run.engine,
        weights=run.weights,
        **({"shard": str(request.shard)} if request.shard else {}),
        **({"passed_over": len(passed_over)} if passed_over else {}),
        **({"dropped": dict(outcome.dropped)} if outcome.dropped else {}),
        **({"report": str(sheet.path) if outcome.shown else None} if sheet else {}),
    )
    ending = ""
    if left := len(items) - summary.ok - summary.skipped - summary.failed:
        ending = f", {'interrupted' if summary.interrupted else 'stopped'} with {left} to go"
    parts = _counts(outcome, run.done, stale)
    if passed_over:
        named = "named above" if console.verbose else "`-v` names them"
        parts.append(f"passed over {len(passed_over)} ({suffix_counts(passed_over)}; {named})")
    of_shard = f"shard {request.shard}: " if request.shard else ""
    console.note(f"{of_shard}{', '.join(parts)} in {summary.seconds:.1f} s{ending}")
    if outcome.unchanged and not console.verbose:
        console.note(f"no rain seen in {_names(outcome.unchanged, request.unchanged)}")
    if sheet is not None and outcome.shown:
        console.note(f"contact sheet: {sheet.path}")
    if outcome.dropped:
        kinds = [f"{kind} of {count}" for kind, count in outcome.dropped.most_common()]
        named = "" if console.verbose else "; `-v` names them"
        console.note(f"not kept in the outputs: {', '.join(kinds)} (docs/photographs.md{named})")


def _names(items: Sequence[Item], listed: Path | None) -> str:
    """Paths below the input folders, at most `NAMED` of them; `listed` is the file that has all of them."""
    if listed is not None and len(items) > NAMED:
        return f"the {len(items)} photographs listed in {listed}"
    names = ", ".join(str(item.relative) for item in items[:NAMED])
    more = len(items) - NAMED
    return f"{names} and {more} more (`--unchanged FILE` lists them)" if more > 0 else names


def _counts(outcome: Outcome, done: str, stale: int) -> list[str]:
    """The parts of the last line."""
    summary, counts, unchanged = outcome.summary, outcome.keypoints, len(outcome.unchanged)
    # Keypoints are taken from dry photographs too.
    parts = [f"{done} {summary.ok if counts else summary.ok - unchanged}"]
    if counts:
        empty = counts.count(0)
        without = f", none in {empty} of them" if empty and sum(counts) else ""
        parts[0] += f" ({sum(counts) or 'no'} keypoints{without})"
    if unchanged:
        as_is = "as it is" if unchanged == 1 else "as they are"
        parts.append(f"{unchanged} without rain seen" if counts else f"left {unchanged} {as_is} (no rain seen)")
    if summary.skipped:
        remark = f", {stale} may be stale, see above" if stale else "; `--existing overwrite` writes them again"
        parts.append(f"skipped {summary.skipped} (outputs exist{remark})")
    if summary.failed:
        parts.append(f"failed {summary.failed} (see above)")
    if outcome.lost:
        parts.append(f"lost {outcome.lost} {'frame' if outcome.lost == 1 else 'frames'} (see above)")
    if not outcome.finished:
        parts.append("their common file could not be written (see above)")
    if outcome.shown is False:
        parts.append("the contact sheet could not be written (see above)")
    return parts
