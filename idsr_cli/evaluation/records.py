"""Rows and summaries as JSON, JSON lines and CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from idsr_cli.evaluation.evaluate import Row

SCHEMA = 1


def plain(value: Any) -> Any:
    """The value with None for numbers that JSON does not have: inf and nan (PSNR of equal images, ...)."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def row_record(row: Row) -> dict[str, Any]:
    """A row for JSON, with recall and precision added to the counts in `recovered`."""
    record = plain(asdict(row))
    record["recovered"] |= plain({"recall": row.recovered.recall, "precision": row.recovered.precision})
    return record


def json_lines(records: Iterable[tuple[str, dict[str, Any]]]) -> bytes:
    """One JSON object per line, from (event, values)."""
    return b"".join(json.dumps({"schema": SCHEMA, "event": event, **values}).encode() + b"\n"
                    for event, values in records)  # fmt: skip


def json_document(values: dict[str, Any]) -> bytes:
    """One indented object."""
    return (json.dumps({"schema": SCHEMA, **values}, indent=2) + "\n").encode()


def csv_table(records: Sequence[dict[str, Any]]) -> bytes:
    """Records of scalars with the same keys; UTF-8. Bytes of file names that are not Unicode are written as escapes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(records[0])
    writer.writerows(record.values() for record in records)
    return text.getvalue().encode("utf-8", "backslashreplace")


def flat(row: Row) -> dict[str, Any]:
    """A row as one line of CSV."""
    values = asdict(row)
    counts = values.pop("recovered")
    lists = {f"{kind}_{k}": value for kind in ("gaussian", "dog", "clean_by_scale", "true_by_scale")
             for k, value in enumerate(values.pop(kind))}  # fmt: skip
    return {
        "pair": values.pop("pair"), "method": values.pop("method"),
        **counts, "recall": row.recovered.recall, "precision": row.recovered.precision,
        **values, **lists,
    }  # fmt: skip
