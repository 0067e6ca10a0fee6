"""One photograph on the contact sheet, as HTML."""

from __future__ import annotations

from collections.abc import Iterator

from idsr_cli.pages import data_address, text
from idsr_cli.runs.batch import Result
from idsr_cli.runs.contact_sheet.thumbnails import AMPLIFICATION, RADII, Points, Thumbnails

# State of a photograph -> what the page calls it.
STATES = {
    "derained": "derained",
    "unchanged": "left as it is",
    "plain": "not derained",
    "failed": "failed",
    "skipped": "skipped, done before",
}
# The pictures' longer side on the page, CSS pixels.
_SHOWN = 400


def state(result: Result) -> str:
    """What became of a photograph: a key of `STATES`."""
    if result.saved is None:
        return "failed" if result.status == "failed" else "skipped"
    return {True: "derained", False: "unchanged", None: "plain"}[result.saved.derained]


def entry_html(number: int, result: Result) -> str:
    """The list item of a photograph.

    Args:
        number: its place in the run, to restore that order.
        result: what became of it.
    """
    name, kind = text(result.item.name), state(result)
    reason = result.error.reason if result.error else result.item.stale
    lines = [
        f'<li class="entry" data-state="{kind}" {_sort_keys(number, result)}>',
        f'<h3 title="{name}"><bdi>{name}</bdi></h3>',
        f'<dl class="facts">{"".join(_facts(kind, result))}</dl>',
    ]
    if reason:
        lines.append(f'<p class="reason">{text(reason)}</p>')
    if (thumbnails := result.thumbnails) is not None:
        lines.append(f'<div class="pictures">{"".join(_figures(name, thumbnails))}</div>')
    return "\n".join([*lines, "</li>\n"])


def _sort_keys(number: int, result: Result) -> str:
    """Attributes that the page sorts by; a photograph without a number has no attribute and comes last."""
    keys = {"order": f"{number}"}
    if result.status != "skipped":
        keys["seconds"] = f"{result.seconds:.3f}"
    if (level := _rain_level(result)) is not None:
        keys["rain"] = f"{level:.4g}"
    if (after := _count(result)) is not None:
        keys["keypoints"] = str(after)
        if (before := _count_before(result)) is not None:
            keys["change"] = str(after - before)
    return " ".join(f'data-{key}="{value}"' for key, value in keys.items())


def _rain_level(result: Result) -> float | None:
    """How much rain was seen, grey levels; of a photograph that was skipped, what its two versions differ by."""
    if result.saved is not None:
        return result.saved.rain.level if result.saved.rain else None
    return result.thumbnails.difference if result.thumbnails else None


def _count(result: Result) -> int | None:
    return result.saved.keypoints if result.saved else None


def _count_before(result: Result) -> int | None:
    """Number of keypoints of the photograph as it is. Of a clip only the first frame's are known."""
    saved, thumbnails = result.saved, result.thumbnails
    if saved is None or saved.frames is not None or saved.keypoints is None:
        return None
    if saved.derained is False:
        return saved.keypoints
    return thumbnails.points_before.count if thumbnails and thumbnails.points_before else None


def _facts(kind: str, result: Result) -> Iterator[str]:
    def fact(name: str, value: str) -> str:
        return f"<div><dt>{name}</dt><dd>{value}</dd></div>"

    saved, level = result.saved, _rain_level(result)
    yield f'<div class="state {kind}"><dt>state</dt><dd>{STATES[kind]}</dd></div>'
    if level is not None:
        yield fact("rain", f"{level:.1f} <small>grey levels</small>" if level else "none")
    if saved and saved.rain and kind == "derained":
        yield fact("rainy", f"{100 * saved.rain.share:.0f} % <small>of the pixels</small>")
        if saved.rain.direction is not None:
            yield fact("direction", f"{saved.rain.direction:.0f}°")
    if (after := _count(result)) is not None:
        before = _count_before(result) if kind == "derained" else None
        yield fact("keypoints", str(after) if before is None else f"{before} → {after}")
    if result.status != "skipped":
        yield fact("time", f"{result.seconds:.2f} s")
    if saved:
        yield fact("size", f"{saved.width} × {saved.height}")
        if saved.frames is not None:
            yield fact("frames", f"{saved.frames}, the first is shown")


def _figures(name: str, thumbnails: Thumbnails) -> Iterator[str]:
    """The photograph with the slider to its derained version, and what was removed; `name` is escaped."""
    style = _style(thumbnails.size)
    before, after = thumbnails.points_before, thumbnails.points_after
    image = _image(thumbnails, thumbnails.before, f"{name}, the photograph")
    drawn = next((points for points in (before, after) if points is not None and points.share < 1), None)
    note = f" <small>strongest {drawn.share:.0%} of the keypoints drawn</small>" if drawn else ""
    if thumbnails.after is None:
        yield (
            f'<figure style="{style}"><div class="picture">{image}{_marks(thumbnails.size, after, "a")}</div>'
            f"<figcaption><span>the photograph</span>{note}</figcaption></figure>"
        )
        return
    second = _image(thumbnails, thumbnails.after, f"{name}, derained")
    yield (
        f'<figure style="{style}"><div class="picture compare">{image}{_marks(thumbnails.size, before, "b")}'
        f'<div class="after">{second}{_marks(thumbnails.size, after, "a")}</div>'
        f'<input type="range" min="0" max="100" value="50" aria-label="{name}: from derained to the photograph" '
        'aria-valuetext="left half the photograph, right half derained"></div>'
        f"<figcaption><span>the photograph</span><span>derained</span>{note}</figcaption></figure>"
    )
    if thumbnails.removed is not None:
        removed = _image(thumbnails, thumbnails.removed, f"{name}, the removed rain, {AMPLIFICATION} times as strong")
        yield (
            f'<figure style="{style}"><div class="picture">{removed}</div>'
            f"<figcaption><span>removed rain, {AMPLIFICATION} times as strong</span></figcaption></figure>"
        )


def _style(size: tuple[int, int]) -> str:
    """The shape of a picture: its longer side has `_SHOWN` CSS pixels where there is room."""
    width, height = size
    return f"--w:{max(48, round(_SHOWN * width / max(size)))}px;--r:{width}/{height}"


def _image(thumbnails: Thumbnails, data: bytes, alt: str) -> str:
    width, height = thumbnails.size
    return (
        f'<img src="{data_address(data)}" alt="{alt}" width="{width}" height="{height}" loading="lazy" '
        'decoding="async">'
    )


def _marks(size: tuple[int, int], points: Points | None, version: str) -> str:
    if points is None:
        return ""
    paths = "".join(f'<path class="{version}{kind}" d="{path}"/>' for kind, path in enumerate(points.paths) if path)
    return f'<svg class="marks" viewBox="0 0 {size[0]} {size[1]}" aria-hidden="true">{paths}</svg>'


def markers() -> str:
    """The circles that the paths of keypoints put at their vertices: "b" before and "a" after, one of each radius."""
    circles = []
    for version in "ba":
        for kind, radius in enumerate(RADII):
            side = 2 * radius + 4
            circles.append(
                f'<marker id="{version}{kind}" class="{version}" markerUnits="userSpaceOnUse" markerWidth="{side:g}" '
                f'markerHeight="{side:g}" viewBox="{-side / 2:g} {-side / 2:g} {side:g} {side:g}">'
                f'<circle class="rim" r="{radius:g}"/><circle r="{radius:g}"/></marker>'
            )
    rules = "".join(
        f".{version}{kind}{{marker:url(#{version}{kind})}}" for version in "ba" for kind in range(len(RADII))
    )
    return (
        f'<style>{rules}</style><svg class="markers" width="0" height="0" aria-hidden="true"><defs>'
        f"{''.join(circles)}</defs></svg>\n"
    )
