"""The result of an evaluation, and its files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from idsr_cli.evaluation import records
from idsr_cli.evaluation.evaluate import RAINY, Row
from idsr_cli.evaluation.frames import FrameRow, FrameSummary, summarise_frames
from idsr_cli.evaluation.must_stay import MustStay, summarise_must_stay
from idsr_cli.evaluation.sequences import GeometryRow, GeometrySummary, summarise_geometry
from idsr_cli.evaluation.summary import Summary, summarise
from idsr_cli.evaluation.table import (
    frame_lines,
    geometry_lines,
    header_lines,
    must_stay_lines,
    short_header,
    summary_lines,
)


@dataclass
class Result:
    """The result of an evaluation.

    Attributes:
        header: everything the numbers depend on.
        rows: one per pair and method.
        summaries: one per method; empty until `close` is called.
        must_stay: the same for the pairs without rain.
        geometry_rows, geometry: the same for matching with known geometry.
        frame_rows, frames: the same for neighbouring frames.
        failed: number of pairs that could not be scored.
    """

    header: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)
    must_stay: list[MustStay] = field(default_factory=list)
    geometry_rows: list[GeometryRow] = field(default_factory=list)
    geometry: list[GeometrySummary] = field(default_factory=list)
    frame_rows: list[FrameRow] = field(default_factory=list)
    frames: list[FrameSummary] = field(default_factory=list)
    failed: int = 0

    @property
    def any_rows(self) -> bool:
        """Whether anything was scored."""
        return bool(self.rows or self.geometry_rows or self.frame_rows)

    def close(self, clean_of: dict[str, str]) -> None:
        """Make the summaries; `clean_of` names the clean photograph of each pair."""
        self.summaries = summarise(self.rows, clean_of) if self.rows else []
        self.must_stay = summarise_must_stay(self.rows)
        self.geometry = summarise_geometry(self.geometry_rows) if self.geometry_rows else []
        self.frames = summarise_frames(self.frame_rows) if self.frame_rows else []

    def shown(self, preferred: list[str]) -> str:
        """The method shown in the pictures: the first of `preferred` that was scored, else the best, else "".

        Methods that are not compared with SIFT of the clean image have no gain over the rainy one, and are not shown.
        """
        others = [summary for summary in self.summaries if summary.method != RAINY and not summary.compared_with]
        names = [summary.method for summary in sorted(others, key=lambda summary: -summary.true)]
        return next((name for name in preferred if name in names), names[0] if names else "")

    def text(self, width: int, whole: bool = True) -> Iterator[str]:
        """Tables for a terminal of `width` columns, followed by the header, the whole of it or in short."""
        if self.summaries:
            yield from summary_lines(self.summaries, width)
            yield ""
        if self.must_stay:
            yield from must_stay_lines(self.must_stay, width)
            yield ""
        if self.geometry:
            yield from geometry_lines(self.geometry, self.geometry_rows, width)
            yield ""
        if self.frames:
            yield from frame_lines(self.frames, width)
            yield ""
        if whole:
            yield "Made with"
            yield from header_lines(self.header, width)
        else:
            yield from short_header(self.header, width)

    def summary(self) -> dict[str, Any]:
        """The summary for JSON; parts that were not requested are left out."""
        parts: dict[str, Any] = {"header": self.header}
        if self.summaries:
            parts["methods"] = [asdict(summary) for summary in self.summaries]
        if self.must_stay:
            parts["must_stay"] = [asdict(summary) for summary in self.must_stay]
        if self.geometry:
            parts["geometry"] = [asdict(summary) for summary in self.geometry]
        if self.frames:
            parts["frames"] = [asdict(summary) for summary in self.frames]
        return {**records.plain(parts), "failed": self.failed}

    def files(self) -> dict[str, bytes]:
        """The files of the result: name -> content."""
        found = {"summary.json": records.json_document(self.summary())}
        lines = [("item", records.row_record(row)) for row in self.rows]
        lines += [("geometry", records.plain(asdict(row))) for row in self.geometry_rows]
        lines += [("frames", asdict(row)) for row in self.frame_rows]
        found["rows.jsonl"] = records.json_lines(lines)
        if self.rows:
            found["images.csv"] = records.csv_table([records.flat(row) for row in self.rows])
        if self.geometry_rows:
            found["geometry.csv"] = records.csv_table([asdict(row) for row in self.geometry_rows])
        if self.frame_rows:
            found["frames.csv"] = records.csv_table([asdict(row) for row in self.frame_rows])
        return found
