"""The evaluation as plain text: narrow tables, one below the other, that fit a terminal of 80 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from idsr_cli.evaluation.bootstrap import Interval
from idsr_cli.evaluation.evaluate import RAINY
from idsr_cli.evaluation.frames import FrameSummary
from idsr_cli.evaluation.must_stay import MustStay
from idsr_cli.evaluation.sequences import GeometryRow, GeometrySummary
from idsr_cli.evaluation.summary import Summary, groups
from idsr_cli.scale_space import STACK_SIGMAS

SEVERAL_REFERENCES = (
    "|C|: keypoints of the clean image. Methods with another |C| than `rainy` are compared with other keypoints of it, "
    "those of their own extractor or settings: read their recall, and compare their `true` with each other only."
)
MUST_STAY = "Photographs that must stay: rainy and clean are the same"
MUST_STAY_RULE = (
    "unchanged: bit for bit. removed: mean change of a pixel of the others, grey levels of 255; most: the largest of a "
    "photograph. pixels: share of their pixels that is changed."
)
# Longer names of methods are cut in the middle.
_NAME = 24


def header_lines(header: Mapping[str, Any], width: int) -> Iterator[str]:
    """One line per entry; continuation lines are indented to its first word."""
    facts = {name: fact(value) for name, value in header.items()}
    indent = max(map(len, facts)) + 2
    for name, value in facts.items():
        yield from textwrap.wrap(
            value, max(width, indent + 30), initial_indent=f"{name:>{indent - 2}}  ", subsequent_indent=" " * indent,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip


def short_header(header: Mapping[str, Any], width: int) -> Iterator[str]:
    """What the numbers depend on most: version, weights, device, and which pictures."""
    weights = [f"weights {one['name']} {one['sha256'][:12]}" for one in header["weights"]]
    ran = [f"{header['precision']} on {header['device']}"] if weights else []
    pixels = [f"pixels {header['pixels']['sha256'][:12]}"] if header.get("pixels") else []
    made = ", ".join([f"idsr {header['versions']['idsr']}", *weights, *ran, *pixels])
    yield from textwrap.wrap(f"Made with {made}; -v, -o and --json tell all that the numbers depend on.", width)


def fact(value: Any) -> str:
    """One entry of the header in words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {fact(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list):
        return "; ".join(fact(item) for item in value) or "none"
    return str(value)


def summary_lines(summaries: Sequence[Summary], width: int) -> Iterator[str]:
    """The tables, each with a title, and a blank line between them."""
    by_reference = groups(summaries)
    of = f"means of {counted(summaries[0].pairs, 'pair')}"
    yield f"Recovered keypoints, {of}; |C| = {summaries[0].clean:.1f} keypoints in the clean image"
    several = len(by_reference) > 1
    yield from columns(
        ("method", "true", "median", "ratio", "mutual", "recall", "prec.", "|R|", *["|C|"] * several),
        [
            (s.method, f"{s.true:.1f}", f"{s.median['true']:g}", f"{s.ratio:.1f}", f"{s.mutual:.1f}", f"{s.recall:.3f}",
             f"{s.precision:.3f}", f"{s.found:.0f}", *[f"{s.clean:.0f}"] * several)
            for s in summaries
        ],
    )  # fmt: skip
    yield from textwrap.wrap("median: of `true`. |R|: keypoints of the method.", width)
    if several:
        yield from textwrap.wrap(SEVERAL_REFERENCES, width)
    gained = [s for s in by_reference[0] if s.method != RAINY]
    if gained:
        yield ""
        yield "Gain in `true` over the rainy image"
        yield from columns(
            ("method", "mean [95 % interval]", "lost", "worst 5 %"),
            [
                (s.method, interval(s.difference[RAINY]["true"]), f"{100 * s.lost:.0f} %", signed(s.worst))
                for s in gained
            ],
        )
        yield from textwrap.wrap(
            "lost: share of pairs with a loss. worst 5 %: mean gain on the worst 5 % of pairs.", width
        )
    for group in (gained, *by_reference[1:]):
        if len(group) > 1:
            best = max(group, key=lambda s: s.true)
            among = f" of those compared with {best.compared_with}" if best.compared_with else ""
            yield ""
            yield from textwrap.wrap(f"Difference in `true` to {best.method}, the best{among}", width)
            yield from columns(
                ("method", "mean [95 % interval]"),
                [(s.method, interval(s.difference[best.method]["true"])) for s in group if s is not best],
            )
    summaries = [s for s in summaries if s.has_images]
    yield ""
    yield "Images, means; PSNR in dB"
    yield from columns(
        ("method", "PSNR rgb", "SSIM rgb", "PSNR y", "SSIM y"),
        [
            (s.method, _decibels(s.psnr_rgb), f"{s.ssim_rgb:.4f}", _decibels(s.psnr_y), f"{s.ssim_y:.4f}")
            for s in summaries
        ],
    )
    yield ""
    sigmas = [f"{sigma:.2g}" for sigma in STACK_SIGMAS]
    yield "Squared error of the Gaussian images, by sigma in pixels"
    yield from columns(("method", *sigmas), [(s.method, *(f"{value:.2f}" for value in s.gaussian)) for s in summaries])
    yield ""
    yield "Squared error of the DoG images between two sigmas"
    yield from columns(
        ("method", *("-".join(ends) for ends in pairwise(sigmas))),
        [(s.method, *(f"{value:.3f}" for value in s.dog)) for s in summaries],
    )


def must_stay_lines(summaries: Sequence[MustStay], width: int) -> Iterator[str]:
    """What was done to the photographs without rain."""
    yield f"{MUST_STAY}, {counted(summaries[0].photographs, 'pair')}"
    yield from columns(
        ("method", "unchanged", "removed", "most", "pixels"),
        [(s.method, f"{s.unchanged} of {s.photographs}", *must_stay_cells(s)) for s in summaries],
    )
    yield from textwrap.wrap(MUST_STAY_RULE, width)


def must_stay_cells(s: MustStay) -> tuple[str, str, str]:
    """Removed, most and pixels; empty if everything stayed."""
    if s.unchanged == s.photographs:
        return "", "", ""
    return f"{s.removed:.2f}", f"{s.most:.2f}", f"{100 * s.changed:.1f} %"


def geometry_lines(summaries: Sequence[GeometrySummary], rows: Sequence[GeometryRow], width: int) -> Iterator[str]:
    """Matching with known geometry: means, then the inliers of each pair."""
    yield f"Matching with known geometry, means of {counted(summaries[0].pairs, 'image pair')}"
    yield from columns(
        ("method", "|R|", "matches", "inliers", "prec.", "ransac", "found", "solved"),
        [
            (s.method, f"{s.keypoints:.0f}", f"{s.matches:.1f}", f"{s.inliers:.1f}", f"{s.precision:.3f}",
             f"{s.ransac:.1f}", f"{s.found:.3f}", f"{100 * s.solved:.0f} %")
            for s in summaries
        ],
    )  # fmt: skip
    yield from textwrap.wrap(
        "|R|: keypoints of image N. inliers: matches that the known homography confirms. prec.: their share of the "
        "matches. ransac: matches that MAGSAC keeps without knowing it. found: share of the inliers among them. "
        "solved: share of pairs with a right homography.",
        width,
    )
    yield ""
    yield "Gain in inliers over the rainy image"
    yield from columns(
        ("method", "mean [95 % interval]"),
        [(s.method, interval(s.difference[RAINY])) for s in summaries if s.method != RAINY],
    )
    yield ""
    yield "Inliers of each pair"
    table: dict[str, dict[str, str]] = {}
    for row in rows:
        table.setdefault(row.pair, {})[row.method] = str(row.inliers)
    # As many methods side by side as fit the terminal's width.
    methods = [s.method for s in summaries]
    room = max(1, (width - min(_NAME, max(map(len, table)))) // (2 + max(len(_short(method)) for method in methods)))
    for start in range(0, len(methods), room):
        part = methods[start : start + room]
        yield from columns(
            ("pair", *map(_short, part)), [(pair, *(row[method] for method in part)) for pair, row in table.items()]
        )


def frame_lines(summaries: Sequence[FrameSummary], width: int) -> Iterator[str]:
    """Matching between neighbouring frames: means, then gains."""
    yield f"Matching of neighbouring frames, means of {counted(summaries[0].pairs, 'pair')}"
    yield from columns(
        ("method", "|R|", "matches", "inliers", "prec."),
        [
            (s.method, f"{s.keypoints:.0f}", f"{s.matches:.1f}", f"{s.inliers:.1f}", f"{s.precision:.3f}")
            for s in summaries
        ],
    )  # fmt: skip
    yield from textwrap.wrap(
        "|R|: keypoints of the second frame. inliers: matches that follow one geometry, found by MAGSAC. prec.: their "
        "share of the matches.",
        width,
    )
    gained = [s for s in summaries if s.method != RAINY]
    if gained:
        yield ""
        yield "Gain in inliers over the rainy frames"
        yield from columns(
            ("method", "mean [95 % interval]", "lost"),
            [(s.method, interval(s.difference[RAINY]), f"{100 * s.lost:.0f} %") for s in gained],
        )


def _decibels(value: float) -> str:
    """A mean PSNR of the pairs where it is finite; "equal" if it is finite for none."""
    return f"{value:.2f}" if math.isfinite(value) else "equal"


def counted(number: int, what: str) -> str:
    """`1 pair`, `2 pairs`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def interval(value: Interval, digits: int = 1) -> str:
    """`+84.7 [+70.1, +99.3]`."""
    return f"{signed(value.mean, digits)} [{signed(value.low, digits)}, {signed(value.high, digits)}]"


def signed(value: float, digits: int = 1) -> str:
    """`+84.7`; negative numbers that round to zero become `+0.0`."""
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def columns(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Aligned text: the first column to the left, the others to the right."""
    table = [tuple(titles), *((_short(row[0]), *row[1:]) for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(titles))]
    for first, *rest in table:
        cells = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        yield "  ".join((first.ljust(widths[0]), *cells)).rstrip()


def _short(name: str) -> str:
    half = (_NAME - 1) // 2
    return name if len(name) <= _NAME else f"{name[: _NAME - 1 - half]}…{name[-half:]}"
