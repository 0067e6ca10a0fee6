"""Pairs whose rainy and clean versions are the same: dry photographs, of which a method should remove nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from idsr_cli.evaluation.evaluate import RAINY, Row


@dataclass(frozen=True)
class MustStay:
    """What one method did to the photographs that must stay as they are.

    Attributes:
        photographs: their number.
        unchanged: number of those that came back bit for bit.
        removed: mean of the others, as `Row.removed`, grey levels; NaN without any.
        most: the largest of them.
        changed: mean of the others, as `Row.changed`, 0..1.
    """

    method: str
    photographs: int
    unchanged: int
    removed: float
    most: float
    changed: float


def summarise_must_stay(rows: Sequence[Row]) -> list[MustStay]:
    """One per method that gives images, without the rainy photograph itself; empty if all pairs have rain."""
    by_method: dict[str, list[Row]] = {}
    for row in rows:
        if row.must_stay and row.method != RAINY and np.isfinite(row.changed):
            by_method.setdefault(row.method, []).append(row)
    found = []
    for method, mine in by_method.items():
        others = [row for row in mine if row.changed > 0]
        removed = np.array([row.removed for row in others] or [np.nan])
        changed = float(np.mean([row.changed for row in others] or [np.nan]))
        kept = len(mine) - len(others)
        found.append(MustStay(method, len(mine), kept, float(removed.mean()), float(removed.max()), changed))
    return found
