"""Photographs side by side with their keypoints: found again, matched to a wrong one, or missed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from idsr_cli import pages
from idsr_cli.evaluation.evaluate import Attempt, Row
from idsr_cli.evaluation.metrics import Matches, match_keypoints
from idsr_cli.evaluation.summary import gains
from idsr_cli.features import sift
from idsr_cli.keypoints import Keypoints
from idsr_cli.scale_space import grey_image

# Number of best pairs shown, and of worst ones.
PICTURES = 3
# Limits on the size of the page: a picture's longer side in pixels, and the circles drawn on it.
LONG_SIDE = 1024
CIRCLES = 2000
# A circle's radius in sigmas, as in `idsr sift --draw`.
RADIUS = 2.0
QUALITY = 80


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes:
        title: "rainy", the method's name or "clean".
        rgb: (H, W, 3) in [0, 1].
        recovered: number of the clean image's keypoints that were found again; several of the method's may match one.
        true, false, missed: keypoints to draw: found again, matched to a wrong one, not found.
    """

    title: str
    rgb: np.ndarray
    recovered: int
    true: Keypoints
    false: Keypoints
    missed: Keypoints


@dataclass(frozen=True)
class Example:
    """The pictures of one pair.

    Attributes:
        pair: its name.
        gain: gain in `true` over the rainy image.
        panels: rainy, derained, clean.
    """

    pair: str
    gain: int
    panels: list[Panel]


def examples(
    rows: Sequence[Row], shown: str, read: Callable[[str], tuple[Attempt, Attempt, np.ndarray]]
) -> tuple[list[Example], list[Example]]:
    """The pairs on which the method `shown` gains most, and those on which it gains least.

    `read` computes the rainy, the method's and the clean image of a pair again: keeping the images of all pairs until
    the best are known would take too much memory.
    """
    gain = gains(rows, shown)

    def example(pair: str) -> Example:
        rainy, method, clean = read(pair)
        return Example(pair, gain[pair], panels(rainy, method, clean, sift(grey_image(clean))))

    best, worst = best_and_worst(rows, shown)
    return [example(pair) for pair in best], [example(pair) for pair in worst]


def best_and_worst(rows: Sequence[Row], method: str, count: int = PICTURES) -> tuple[list[str], list[str]]:
    """The pairs on which a method gains most and least over the rainy image; no pair is in both lists."""
    gain = gains(rows, method)
    order = sorted(gain, key=lambda pair: -gain[pair])
    best = order[: min(count, (len(order) + 1) // 2)]
    rest = order[len(best) :]
    return best, rest[::-1][:count]


def panels(rainy: Attempt, method: Attempt, clean: np.ndarray, reference: Keypoints) -> list[Panel]:
    """Rainy, derained, clean; `reference` are the clean image's SIFT keypoints."""
    shown = []
    matches = None
    for attempt in (rainy, method):
        # A reference of its own has the same keypoints, with descriptors of another kind.
        matches = match_keypoints(attempt.keypoints, reference if attempt.reference is None else attempt.reference)
        shown.append(_panel(attempt, matches, reference))
    assert matches is not None
    true, missed = matches.true, _others(len(reference), matches.true)
    nothing = Keypoints.empty(reference.image_size)
    shown.append(Panel("clean", clean, len(true), reference.select(true), nothing, reference.select(missed)))
    return shown


def _panel(attempt: Attempt, matches: Matches, reference: Keypoints) -> Panel:
    found = attempt.keypoints
    missed = reference.select(_others(len(reference), matches.true))
    true, false = (found.select(matches.passed & mask) for mask in (matches.close, ~matches.close))
    return Panel(attempt.method, attempt.detecting, len(matches.true), true, false, missed)


def _others(count: int, taken: np.ndarray) -> np.ndarray:
    return np.setdiff1d(np.arange(count), taken)


def panel_html(panel: Panel, caption: str) -> str:
    """A figure: the picture, with the circles as SVG over it, so that they can be hidden and stay sharp if enlarged."""
    height, width = panel.rgb.shape[:2]
    kinds = {"missed": panel.missed, "false": panel.false, "true": panel.true}
    total = sum(map(len, kinds.values()))
    share = min(1.0, CIRCLES / max(1, total))
    if share < 1:
        caption += f"; the strongest {share:.0%} of the keypoints are drawn"
    marks = "".join(
        f'<path class="{kind}" d="{circles(_strongest(keypoints, share))}"/>'
        for kind, keypoints in kinds.items()
        if len(keypoints)
    )
    title = escape(panel.title)
    return (
        f'<figure><button type="button" class="zoom" aria-label="enlarge {title}">'
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}: {escape(caption)}">'
        f'<image href="{data_address(panel.rgb)}" width="{width}" height="{height}"/><g class="marks">{marks}</g></svg>'
        f"</button><figcaption><b>{title}</b> {escape(caption)}</figcaption></figure>"
    )


def _strongest(keypoints: Keypoints, share: float) -> Keypoints:
    """The first `share` of the keypoints, which are ordered by falling response."""
    return keypoints.select(np.arange(round(share * len(keypoints))))


def circles(keypoints: Keypoints) -> str:
    """SVG path with a circle per keypoint; SVG's origin is the picture's corner, half a pixel from the keypoints'."""
    x, y = (keypoints.xy + 0.5).T
    # Radii are rounded to tenths, so that the two halves of a circle meet.
    # Files of other extractors may have no scale (NaN).
    tenths = np.rint(10 * np.fmax(RADIUS * keypoints.scale, 1.0))
    return "".join(
        f"M{a - r / 10:.1f} {b:.1f}a{r / 10:g} {r / 10:g} 0 1 0 {r / 5:g} 0a{r / 10:g} {r / 10:g} 0 1 0 {-r / 5:g} 0"
        for a, b, r in zip(x.tolist(), y.tolist(), tenths.tolist(), strict=True)
    )


def data_address(rgb: np.ndarray) -> str:
    """(H, W, 3) in [0, 1] -> the picture as a `data:` URL, WebP, at most LONG_SIDE pixels a side."""
    from PIL import Image

    picture = Image.fromarray(np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8))
    picture.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
    return pages.data_address(pages.webp(np.asarray(picture), QUALITY))
