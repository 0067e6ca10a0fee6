"""Tables of the HTML report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise

from idsr_cli.evaluation.bootstrap import Interval
from idsr_cli.evaluation.evaluate import RAINY, Row
from idsr_cli.evaluation.frames import FrameSummary
from idsr_cli.evaluation.must_stay import MustStay
from idsr_cli.evaluation.sequences import GeometryRow, GeometrySummary
from idsr_cli.evaluation.summary import Summary, gains, groups, quantity
from idsr_cli.evaluation.table import MUST_STAY, MUST_STAY_RULE, SEVERAL_REFERENCES, must_stay_cells, signed
from idsr_cli.scale_space import STACK_SIGMAS

# The table of images is usable up to about this many rows; images.csv has all.
MOST_ROWS = 3000
_HELP = """<p class="soft"><b>true</b>: keypoints of the clean image found again, matched by descriptor and within 3 px;
means over the pairs. <b>lost</b>: share of pairs with fewer than the rainy image has; <b>worst 5 %</b>: mean gain on
the worst 5 % of pairs; <b>median</b>: of <i>true</i>. |R|, |C|: keypoints of the method and of the clean image.</p>"""


def html_table(titles: Sequence[str], rows: Sequence[Sequence[str]], best: Mapping[int, set[int]] | None = None) -> str:
    """A table that scrolls sideways if it is too wide.

    Args:
        titles: titles of the columns, as HTML.
        rows: cells, as HTML.
        best: column -> rows to highlight.
    """
    head = "".join(f"<th>{title}</th>" for title in titles)
    stressed = best or {}
    lines = [
        "".join(f"<td{' class=best' * (i in stressed.get(k, ()))}>{cell}</td>" for k, cell in enumerate(row))
        for i, row in enumerate(rows)
    ]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def best_rows(columns: Mapping[int, Sequence[float]], lowest: bool = False) -> dict[int, set[int]]:
    """Column -> the rows of its best finite value; columns whose values are all the same are left out."""
    found = {}
    for column, values in columns.items():
        finite = [value for value in values if math.isfinite(value)]
        if len(set(finite)) > 1:
            wanted = min(finite) if lowest else max(finite)
            found[column] = {i for i, value in enumerate(values) if value == wanted}
    return found


def decibels(value: float) -> str:
    """A mean PSNR; a dash if all images are equal."""
    return f"{value:.2f}" if math.isfinite(value) else "–"


def difference(value: Interval, digits: int = 1) -> str:
    """A mean with its interval; coloured if the interval does not contain 0."""
    if not math.isfinite(value.mean):
        return "–"
    kind = "gain" if value.low > 0 else "lossy" if value.high < 0 else ""
    mean, low, high = (signed(number, digits) for number in (value.mean, value.low, value.high))
    return f'<span class="{kind}">{mean}</span> <small>[{low}, {high}]</small>'


def keypoint_table(summaries: Sequence[Summary]) -> Iterator[str]:
    """Recovered keypoints: one row per method."""
    rows = []
    for s in summaries:
        gained = ("", "", "")
        if s.method != RAINY and not s.compared_with:
            gained = (difference(s.difference[RAINY]["true"]), f"{100 * s.lost:.0f} %", signed(s.worst))
        counts = (
            f"{s.median['true']:.1f}",
            f"{s.ratio:.1f}",
            f"{s.mutual:.1f}",
            f"{s.recall:.3f}",
            f"{s.precision:.3f}",
        )
        rows.append((escape(s.method), f"{s.true:.1f}", *gained, *counts, f"{s.found:.0f}", f"{s.clean:.0f}"))
    measures = {1: "true", 6: "ratio", 7: "mutual", 8: "recall", 9: "precision"}
    several = len(groups(summaries)) > 1
    # Counts can be compared only if all are compared with the same keypoints.
    measures = {k: name for k, name in measures.items() if not several or name in ("recall", "precision")}
    best = best_rows({k: [getattr(s, name) for s in summaries] for k, name in measures.items()})
    if not several:
        best |= best_rows({5: [s.median["true"] for s in summaries]})
    titles = ("method", "true", "to rainy [95 %]", "lost", "worst 5 %", "median", "ratio", "mutual", "recall")
    yield html_table((*titles, "precision", "|R|", "|C|"), rows, best)
    yield _HELP
    if several:
        yield f'<p class="soft">{escape(SEVERAL_REFERENCES)}</p>'
        references = (f"{s.method}: {s.compared_with}" for s in summaries if s.compared_with)
        yield f'<p class="soft path">{"<br>".join(map(escape, references))}</p>'


def difference_table(summaries: Sequence[Summary]) -> Iterator[str]:
    """Every method against every other."""
    yield "<h3>Every method against every other: difference in <i>true</i>, row less column</h3>"
    names = [escape(s.method) for s in summaries]
    rows = []
    for s, name in zip(summaries, names, strict=True):
        cells = (
            difference(s.difference[other.method]["true"])
            if s is not other and s.compared_with == other.compared_with
            else ""
            for other in summaries
        )
        rows.append((name, *cells))
    yield html_table(("", *names), rows)
    yield '<p class="soft">Coloured where the 95 % interval leaves 0 out.</p>'


def image_table(summaries: Sequence[Summary]) -> Iterator[str]:
    """PSNR and SSIM: one row per method that gives images."""
    summaries = [s for s in summaries if s.has_images]
    rows = []
    for s in summaries:
        gained = "" if s.method == RAINY else difference(s.difference[RAINY]["psnr_rgb"], 2)
        scores = (decibels(s.psnr_rgb), f"{s.ssim_rgb:.4f}", decibels(s.psnr_y), f"{s.ssim_y:.4f}")
        rows.append((escape(s.method), *scores, gained))
    names = ("psnr_rgb", "ssim_rgb", "psnr_y", "ssim_y")
    best = best_rows({k + 1: [getattr(s, name) for s in summaries] for k, name in enumerate(names)})
    yield html_table(("method", "PSNR RGB", "SSIM RGB", "PSNR Y", "SSIM Y", "PSNR RGB to rainy [95 %]"), rows, best)


def pyramid_table(summaries: Sequence[Summary]) -> Iterator[str]:
    """Squared errors of the Gaussian and DoG images: one row per method that gives images."""
    summaries = [s for s in summaries if s.has_images]
    sigmas = [f"{sigma:.2g}" for sigma in STACK_SIGMAS]
    titles = ("method", *(f"G {s}" for s in sigmas), *(f"DoG {a}–{b}" for a, b in pairwise(sigmas)))
    rows = [(escape(s.method), *(f"{v:.2f}" for v in s.gaussian), *(f"{v:.3f}" for v in s.dog)) for s in summaries]
    columns = zip(*((*s.gaussian, *s.dog) for s in summaries), strict=True)
    yield "<h3>Pyramid errors</h3>"
    yield html_table(titles, rows, best_rows({k + 1: values for k, values in enumerate(columns)}, lowest=True))
    yield '<p class="soft">Mean squared error by sigma in pixels, grey levels squared: lower is better.</p>'


def must_stay_table(summaries: Sequence[MustStay]) -> Iterator[str]:
    """What was done to the photographs without rain: one row per method that gives images."""
    rows = [(escape(s.method), f"{s.unchanged} of {s.photographs}", *must_stay_cells(s)) for s in summaries]
    yield f"<h3>{escape(MUST_STAY)}</h3>"
    yield html_table(("method", "unchanged", "removed", "most", "pixels"), rows)
    yield f'<p class="soft">{escape(MUST_STAY_RULE)}</p>'


def geometry_tables(summaries: Sequence[GeometrySummary], rows: Sequence[GeometryRow]) -> Iterator[str]:
    """Matching with known geometry: one row per method, then the inliers of each pair."""
    lines = []
    for s in summaries:
        gained = "" if s.method == RAINY else difference(s.difference[RAINY])
        counts = (f"{s.inliers:.1f}", gained, f"{s.matches:.1f}", f"{s.precision:.3f}", f"{s.ransac:.1f}")
        lines.append((escape(s.method), *counts, f"{s.found:.3f}", f"{100 * s.solved:.0f} %", f"{s.keypoints:.0f}"))
    titles = ("method", "inliers", "to rainy [95 %]", "matches", "precision", "ransac", "found", "solved", "keypoints")
    yield html_table(titles, lines)
    yield """<p class="soft">Means over the image pairs. <b>inliers</b>: matches that the known homography confirms;
<b>ransac</b>: matches that MAGSAC keeps without knowing it, <b>found</b>: share of the inliers among them;
<b>solved</b>: share of pairs whose homography it gets right; <b>dry</b>: the second image without rain.</p>"""
    table: dict[str, list[int]] = {}
    for row in rows:
        table.setdefault(row.pair, []).append(row.inliers)
    names = (escape(s.method) for s in summaries)
    yield "<h3>Inliers of each pair</h3>"
    yield html_table(("pair", *names), [(escape(pair), *map(str, counts)) for pair, counts in table.items()])


def frame_tables(summaries: Sequence[FrameSummary]) -> Iterator[str]:
    """Matching between neighbouring frames: one row per method."""
    lines = []
    for s in summaries:
        gained = ("", "") if s.method == RAINY else (difference(s.difference[RAINY]), f"{100 * s.lost:.0f} %")
        precision = f"{s.precision:.3f}" if math.isfinite(s.precision) else "–"
        counts = (f"{s.inliers:.1f}", *gained, f"{s.matches:.1f}", precision, f"{s.keypoints:.0f}")
        lines.append((escape(s.method), *counts))
    titles = ("method", "inliers", "to rainy [95 %]", "lost", "matches", "precision", "keypoints")
    yield html_table(titles, lines, best_rows({1: [s.inliers for s in summaries]}))
    yield f"""<p class="soft">Means over {summaries[0].pairs} pairs of neighbouring frames. <b>inliers</b>: matches that
follow one geometry, found by MAGSAC; <b>lost</b>: share of pairs with fewer than the rainy frames have.</p>"""


def every_image(rows: Sequence[Row], summaries: Sequence[Summary]) -> Iterator[str]:
    """One row per pair; can be sorted by any column."""
    methods = [s.method for s in summaries]
    others = [s.method for s in summaries if s.method != RAINY and not s.compared_with]
    pictured = [s.method for s in summaries if s.has_images]
    table: dict[str, dict[str, Row]] = {}
    for row in rows:
        table.setdefault(row.pair, {})[row.method] = row
    gained = {method: gains(rows, method) for method in others}
    lines = []
    for pair, mine in list(table.items())[:MOST_ROWS]:
        cells = [f'<td title="{escape(pair)}">{escape(pair)}</td>', _cell(mine[RAINY].recovered.clean, "d")]
        cells += [_cell(mine[method].recovered.true, "d") for method in methods]
        for method in others:
            gain = gained[method][pair]
            cells.append(_cell(gain, "+d", "gain" if gain > 0 else "lossy" if gain < 0 else ""))
        cells += [_cell(quantity(mine[method], "psnr_rgb"), ".2f") for method in pictured]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    groups = (("", 2), ("true", len(methods)), ("gain over rainy", len(others)), ("PSNR RGB", len(pictured)))
    spans = "".join(f'<th colspan="{span}">{title}</th>' for title, span in groups if span)
    heads = _head("image", "ascending") + "".join(map(_head, ("|C|", *methods, *others, *pictured)))
    yield "<h2>Every image</h2>"
    if len(table) > MOST_ROWS:
        yield f'<p class="soft">The first {MOST_ROWS} of {len(table)}.</p>'
    yield (
        f'<div class="table tall"><table class="sorts"><thead><tr class="groups">{spans}</tr><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )
    yield '<p class="soft">Click a column’s title to sort.</p>'


def _head(title: str, first: str = "descending") -> str:
    return f'<th aria-sort="none" data-first="{first}"><button type="button">{escape(title)}</button></th>'


def _cell(value: float, form: str, kind: str = "") -> str:
    if not math.isfinite(value):  # the PSNR of equal images is infinite
        return '<td data-v="1e99">equal</td>' if value > 0 else '<td data-v="">–</td>'
    return f'<td data-v="{value:.10g}"{f" class={kind}" if kind else ""}>{value:{form}}</td>'
