"""The evaluation as one HTML file that needs no library, no network and no other file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from idsr_cli import pages
from idsr_cli.evaluation import charts, report_tables
from idsr_cli.evaluation.curves import TrainingLog
from idsr_cli.evaluation.evaluate import RAINY
from idsr_cli.evaluation.metrics import SCALE_EDGES
from idsr_cli.evaluation.pictures import Example, Panel, panel_html
from idsr_cli.evaluation.result import Result
from idsr_cli.evaluation.summary import Summary, gains
from idsr_cli.evaluation.table import counted, fact, signed

COLOURS = 8


@dataclass(frozen=True)
class Report:
    """The content of the page; empty parts are left out.

    Attributes:
        result: header, rows and summaries.
        shown: the method shown in the pictures.
        best, worst: pictures of its best and worst pairs.
        logs: logs of training runs.
    """

    result: Result
    shown: str = ""
    best: Sequence[Example] = ()
    worst: Sequence[Example] = ()
    logs: Sequence[TrainingLog] = ()


def html_page(report: Report) -> str:
    """The whole page."""
    here = Path(__file__)
    body = "\n".join(_body(report))
    head = pages.opening(_title(report), [here.with_name("report.css")])
    return f"{head}<main>\n{body}\n</main>\n<dialog></dialog>\n{pages.closing(here.with_name('report.js'))}"


def _title(report: Report) -> str:
    result = report.result
    counts = [counted(summary.pairs, "pair") for summary in result.summaries[:1]]
    counts += [counted(summary.pairs, "image pair") for summary in result.geometry[:1]]
    counts += [f"{counted(summary.pairs, 'pair')} of frames" for summary in result.frames[:1]]
    return f"idsr evaluation, {' and '.join(counts)}"


def _body(report: Report) -> Iterator[str]:
    result = report.result
    yield f"<h1>{escape(_title(report))}</h1>"
    sources = ("rainy", "clean", "sequences", "frames")
    folders = [f"{name}: {result.header[name]}" for name in sources if name in result.header]
    yield f'<p class="soft path">{"<br>".join(map(escape, folders))}</p>'
    if result.summaries:
        yield from _headline(report)
        yield "<h2>Recovered keypoints</h2>"
        yield from report_tables.keypoint_table(result.summaries)
        if len(result.summaries) > 2:
            yield from report_tables.difference_table(result.summaries)
        yield "<h2>Images</h2>"
        yield from report_tables.image_table(result.summaries)
        yield from report_tables.pyramid_table(result.summaries)
        if result.must_stay:
            yield from report_tables.must_stay_table(result.must_stay)
        yield from _plots(result)
        yield from _pictures(report)
        yield from report_tables.every_image(result.rows, result.summaries)
    if result.geometry:
        yield "<h2>Matching with known geometry</h2>"
        yield from report_tables.geometry_tables(result.geometry, result.geometry_rows)
        yield from _sequences(result)
    if result.frames:
        yield "<h2>Matching of neighbouring frames</h2>"
        yield from report_tables.frame_tables(result.frames)
    yield from _training(report.logs)
    yield from _header(result.header)


def _headline(report: Report) -> Iterator[str]:
    """Four numbers about the method that the pictures show."""
    for s in report.result.summaries:
        if s.method != report.shown:
            continue
        gain, quality = s.difference[RAINY]["true"], s.difference[RAINY]["psnr_rgb"]
        better = f"; {quality.mean:+.2f} against the rainy image" if math.isfinite(quality.mean) else ""
        cards = (
            (f"{s.true:.1f}", f"recovered keypoints an image with {s.method}, of {s.clean:.1f} in the clean one"),
            (signed(gain.mean), f"against the rainy image; 95 % interval {signed(gain.low)} to {signed(gain.high)}"),
            (f"{100 * s.lost:.0f} %", "of the images lost keypoints against the rainy image"),
            *[(report_tables.decibels(s.psnr_rgb), f"dB PSNR on RGB{better}")] * s.has_images,
        )
        boxes = "".join(f"<div><b>{escape(big)}</b><span>{escape(small)}</span></div>" for big, small in cards)
        yield f'<div class="cards">{boxes}</div>'


def colour(index: int) -> int:
    """Number of the colour class of a method: 0 = rainy, then 1 .. 8 in a cycle."""
    return 0 if index == 0 else (index - 1) % COLOURS + 1


def legend(lines: Sequence[charts.Line]) -> str:
    """A list of the lines' names in their colours."""
    items = "".join(f'<li class="c{line.colour}">{escape(line.label)}</li>' for line in lines)
    return f'<ul class="legend">{items}</ul>'


def _plots(result: Result) -> Iterator[str]:
    yield "<h2>Gain on each image, and recall by keypoint scale</h2>"
    yield '<div class="charts">'
    gained = {
        s.method: list(gains(result.rows, s.method).values())
        for s in result.summaries
        if s.method != RAINY and not s.compared_with
    }
    everything = [value for values in gained.values() for value in values]
    for index, s in enumerate(result.summaries):
        if s.compared_with:  # there is no gain over another extractor
            recall = [row.recovered.recall for row in result.rows if row.method == s.method]
            chart = charts.histogram(
                [share for share in recall if math.isfinite(share)], (0, 1), "recall", colour(index)
            )
            yield f"<div><h3>{escape(s.method)}</h3>{chart}</div>"
        if s.method in gained:
            limits = (min(0, *everything), max(1, *everything))
            what = "gain in true keypoints over the rainy image"
            chart = charts.histogram(gained[s.method], limits, what, colour(index))
            yield f"<div><h3>{escape(s.method)}</h3>{chart}</div>"
    if any(result.summaries[0].clean_by_scale):
        yield from _recall(result.summaries)
    yield "</div>"


def _recall(summaries: Sequence[Summary]) -> Iterator[str]:
    clean = summaries[0].clean_by_scale
    edges = [f"{edge:.2g}" for edge in SCALE_EDGES]
    names = [f"<{edges[0]}", *edges]
    lines = []
    for index, s in enumerate(summaries):
        if not any(s.clean_by_scale):  # an extractor without scales
            continue
        recall = [t / c if c else math.nan for t, c in zip(s.true_by_scale, s.clean_by_scale, strict=True)]
        lines.append(charts.Line(s.method, range(len(names)), recall, colour(index)))
    bars = [count / max(clean) for count in clean]
    title = "scale of the keypoint, sigma in px from"
    chart = charts.line_chart(lines, title, "recall", names=names, bars=bars, top=1.0)
    yield f"<div><h3>Recall by scale</h3>{chart}{legend(lines)}"
    yield '<p class="soft">Grey: how the clean image’s keypoints are spread over the scales.</p></div>'


def _sequences(result: Result) -> Iterator[str]:
    """One chart per sequence: inliers against the number of the second image."""
    table: dict[str, dict[str, dict[str, int]]] = {}
    for row in result.geometry_rows:
        sequence, _, numbers = row.pair.rpartition(" ")
        table.setdefault(sequence, {}).setdefault(numbers, {})[row.method] = row.inliers
    yield '<div class="charts">'
    for sequence, pairs in table.items():
        lines = [
            charts.Line(s.method, range(len(pairs)), [counts[s.method] for counts in pairs.values()], colour(index))
            for index, s in enumerate(result.geometry)
        ]
        chart = charts.line_chart(lines, "images", "inliers", names=list(pairs))
        yield f"<div><h3>{escape(sequence)}</h3>{chart}{legend(lines)}</div>"
    yield "</div>"


def _pictures(report: Report) -> Iterator[str]:
    if not report.best:
        return
    yield f"<h2>Best and worst images of {escape(report.shown)}</h2>"
    yield (
        '<ul class="legend keys"><li class="true">found again</li><li class="false">matched to a wrong place</li>'
        '<li class="missed">missed</li></ul>'
        '<label><input type="checkbox" id="marks" checked> show keypoints</label>'
    )
    for title, examples in (("Best", report.best), ("Worst", report.worst)):
        for place, example in enumerate(examples, 1):
            yield f"<h3>{title} {place}: {escape(example.pair)}, {example.gain:+d}</h3>"
            shown = [panel_html(panel, _caption(panel)) for panel in example.panels]
            yield f'<div class="panels">{"".join(shown)}</div>'


def _caption(panel: Panel) -> str:
    if panel.title == "clean":
        return f"{panel.recovered} of {panel.recovered + len(panel.missed)} keypoints found again"
    return f"{panel.recovered} found again, {len(panel.false)} false, {len(panel.missed)} missed"


def _training(logs: Sequence[TrainingLog]) -> Iterator[str]:
    if logs:
        yield "<h2>Training</h2>"
    for log in logs:
        yield f'<h3>{escape(log.name)}</h3><div class="charts">'
        for chart, lines in log.charts():
            yield f"<div>{chart}{legend(lines)}</div>"
        yield "</div>"


def _header(header: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>What the numbers depend on</h2>"
    entries = "".join(f"<dt>{escape(name)}</dt><dd>{escape(fact(value))}</dd>" for name, value in header.items())
    yield f"<dl>{entries}</dl>"
