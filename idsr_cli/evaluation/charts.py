"""Small charts as inline SVG: lines and histograms, drawn without any library, coloured by the page's style sheet.

At a width of some 400 px a chart's text is as large as the page's, so it is legible on a phone. Colours are CSS classes
(`c0` is the rainy image, `c1` .. `c8` the methods), so that they follow the page's light or dark theme.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH, HEIGHT = 400, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 18, 12, 40


@dataclass(frozen=True)
class Line:
    """One line of a chart; points whose y is not finite are left out.

    Attributes:
        label: text in the legend.
        x, y: the points.
        colour: number of its colour class.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int


@dataclass(frozen=True)
class _Axis:
    """Maps values to positions along one side of a chart; `low` is drawn at `start`, `high` at `end`."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high = (math.log10(v) if self.logarithmic else v for v in (self.low, self.high))
        value = math.log10(value) if self.logarithmic else value
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        if not self.logarithmic:
            return nice_ticks(self.low, self.high)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        steps = (1, 2, 5) if math.log10(self.high / self.low) < 2 else (1,)
        return [k * 10.0**p for p in powers for k in steps if self.low <= k * 10.0**p <= self.high]


def nice_step(span: float, parts: int = 5) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that divides `span` into at most `parts`."""
    rough = span / parts
    power = 10.0 ** math.floor(math.log10(rough))
    return next(k * power for k in (1, 2, 2.5, 5, 10) if k * power >= rough * (1 - 1e-9))


def nice_ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`."""
    step = nice_step(high - low)
    return [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """A number in short form: 0.25, 12, 1200, 45k."""
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.4g}".replace("-", "−")


def line_chart(
    lines: Sequence[Line],
    x_title: str,
    y_title: str,
    *,
    names: Sequence[str] | None = None,
    bars: Sequence[float] | None = None,
    logarithmic: bool = False,
    top: float | None = None,
) -> str:
    """Lines with markers.

    Args:
        lines: the lines, with at least one finite point altogether.
        x_title: title of the x axis.
        y_title: title of the y axis.
        names: labels of x = 0, 1, 2, ... instead of numbers.
        bars: heights of faint bars behind the lines at x = 0, 1, 2, ..., as shares of the chart's height.
        logarithmic: the y axis is logarithmic; values of y up to 0 are left out.
        top: upper end of the y axis; None = from the data.
    """
    values = [v for line in lines for v in line.y if math.isfinite(v) and (v > 0 or not logarithmic)]
    along = [v for line in lines for v in line.x]
    low, high = (min(values), max(values)) if logarithmic else (0.0, top or max(*values, 1e-9))
    low, high = (low * 0.9, high * 1.1) if logarithmic else (low, high if top else high * 1.05)
    ends = (-0.5, len(names) - 0.5) if names else (min(along), max(max(along), min(along) + 1e-9))
    x = _Axis(*ends, _LEFT, WIDTH - _RIGHT)
    y = _Axis(low, high, HEIGHT - _BOTTOM, _TOP, logarithmic)
    parts = _frame(x, y, x_title, y_title, names)
    for k, share in enumerate(bars or ()):
        place = y.start - share * (y.start - y.end)
        parts.append(f'<rect class="faint" x="{x(k - 0.4)}" y="{place:.1f}" width="{x(k + 0.4) - x(k - 0.4):.1f}" '
                     f'height="{y.start - place:.1f}"/>')  # fmt: skip
    for line in lines:
        points = [(x(a), y(b), a, b) for a, b in zip(line.x, line.y, strict=True)
                  if math.isfinite(b) and (b > 0 or not logarithmic)]  # fmt: skip
        path = " ".join(f"{a},{b}" for a, b, *_ in points)
        parts.append(f'<polyline class="line c{line.colour}" points="{path}"/>')
        for a, b, at, value in points if len(points) <= 40 else ():
            where = f"{line.label}, {names[int(at)] if names else number(at)}: {number(value)}"
            parts.append(f'<circle class="dot c{line.colour}" cx="{a}" cy="{b}" r="3">'
                         f"<title>{escape(where)}</title></circle>")  # fmt: skip
    return _svg(parts, f"{y_title} against {x_title}")


def histogram(values: Sequence[float], limits: tuple[float, float], x_title: str, colour: int) -> str:
    """Histogram of gains. A bin ends at 0, and those below it have the colour of losses.

    Args:
        values: the gains.
        limits: the range of x, the same for charts that are compared.
        x_title: title of the x axis.
        colour: number of the colour class of gains.
    """
    low, high = limits
    step = nice_step(high - low, 24)
    edges = step * np.arange(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)
    counts, _ = np.histogram(values, edges)
    x = _Axis(float(edges[0]), float(edges[-1]), _LEFT, WIDTH - _RIGHT)
    y = _Axis(0, 1.1 * max(1, counts.max()), HEIGHT - _BOTTOM, _TOP)
    parts = _frame(x, y, x_title, "images", None, whole=True)
    for count, start, end in zip(counts.tolist(), edges.tolist(), edges[1:].tolist(), strict=False):
        if count:
            kind = "loss" if end <= 1e-9 else f"c{colour}"
            parts.append(f'<rect class="bar {kind}" x="{x(start) + 0.5}" y="{y(count)}" '
                         f'width="{x(end) - x(start) - 1:.1f}" height="{y.start - y(count):.1f}">'
                         f"<title>{number(start)} to {number(end)}: {count}</title></rect>")  # fmt: skip
    if edges[0] < 0 < edges[-1]:
        parts.append(f'<line class="zero" x1="{x(0)}" x2="{x(0)}" y1="{y.start}" y2="{y.end}"/>')
    return _svg(parts, f"histogram of {x_title}")


def _frame(
    x: _Axis, y: _Axis, x_title: str, y_title: str, names: Sequence[str] | None, *, whole: bool = False
) -> list[str]:
    """Grid, numbers and titles of the axes."""
    parts = []
    for value in y.ticks():
        if whole and value % 1:
            continue
        parts.append(f'<line class="grid" x1="{x.start}" x2="{x.end}" y1="{y(value)}" y2="{y(value)}"/>')
        parts.append(f'<text x="{x.start - 5}" y="{y(value) + 4}" text-anchor="end">{number(value)}</text>')
    ticks = list(enumerate(names)) if names else [(value, number(value)) for value in x.ticks()]
    for value, text in ticks:
        parts.append(f'<text x="{x(value)}" y="{y.start + 15}" text-anchor="middle">{escape(text)}</text>')
    parts.append(f'<line class="axis" x1="{x.start}" x2="{x.end}" y1="{y.start}" y2="{y.start}"/>')
    middle = (x.start + x.end) / 2
    parts.append(f'<text class="title" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_title)}</text>')
    across = (y.start + y.end) / 2
    parts.append(f'<text class="title" transform="translate(11 {across}) rotate(-90)" text-anchor="middle">'
                 f"{escape(y_title)}</text>")  # fmt: skip
    return parts


def _svg(parts: Sequence[str], description: str) -> str:
    return (f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(description)}">'
            f"{''.join(parts)}</svg>")  # fmt: skip
