"""Weights in words: a line for `idsr models list`; model card and the files' metadata for `idsr models show`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from idsr_cli.weights import Weights, WeightsPair

CARD = "README.md"


def distinct_files(pair: WeightsPair) -> list[Weights]:
    """The distinct files of a pair."""
    return [pair.dprnet] if pair.dprnet is pair.ggirnet else [pair.dprnet, pair.ggirnet]


def file_facts(weights: Weights) -> dict[str, Any]:
    """Facts about one file, for lists and JSON."""
    import math

    contents = weights.contents().values()
    return {
        "file": weights.path.name,
        "role": weights.arch,
        "layout": weights.metadata.get("idsr.layout"),
        "parameters": sum(math.prod(shape) for _, shape in contents),
        "type": ", ".join(sorted({kind for kind, _ in contents})),
        "bytes": weights.path.stat().st_size,
        "sha256": weights.sha256,
    }


def summary_line(file: dict[str, Any]) -> str:
    """One line of `file_facts`."""
    millions, megabytes = file["parameters"] / 1e6, file["bytes"] / 1e6
    return (
        f"{file['role']:8} {file['layout'] or 'foreign':9} {millions:6.2f} M parameters {file['type']:4} "
        f"{megabytes:6.1f} MB  sha256 {file['sha256'][:12]}"
    )


def read_card(pair: WeightsPair) -> str | None:
    """The model card beside the weights. None if there is none, or if the pair is a single file in any folder."""
    from idsr_cli.weights import ROLE_FILES

    if pair.dprnet.path.name not in ROLE_FILES.values():
        return None
    try:
        return (pair.dprnet.path.parent / CARD).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def decoded_metadata(weights: Weights) -> dict[str, Any]:
    """The file's metadata without the prefix "idsr.", with JSON values decoded."""
    values: dict[str, Any] = {}
    for key, text in sorted(weights.metadata.items()):
        try:
            value = json.loads(text) if text[:1] in "{[" else text
        except ValueError:
            value = text
        values[key.removeprefix("idsr.")] = value
    return values


def facts_as_markdown(pair: WeightsPair, files: list[dict[str, Any]]) -> str:
    """The facts and metadata of the files, as Markdown."""
    lines = [f"## Files of `{pair.name}`", "", f"Splice {pair.splice}; sha256 of the pair `{pair.sha256}`.", ""]
    for file, weights in zip(files, distinct_files(pair), strict=True):
        lines += [
            f"### `{weights.path}`",
            "",
            f"- {file['parameters']:,} parameters, {file['type']}, {file['bytes']:,} bytes",
            f"- sha256: `{file['sha256']}`",
        ]
        for key, value in file["metadata"].items():
            flat = value if isinstance(value, dict) else {"": value}
            parts = ", ".join(f"{name} {plain_text(part)}".strip() for name, part in flat.items())
            lines.append(f"- {key}: {parts}")
        lines.append("")
    return "\n".join(lines)


def plain_text(value: Any) -> str:
    """A metadata value without JSON's punctuation."""
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {plain_text(part)}" for name, part in value.items()) + ")"
    if isinstance(value, list):
        return "/".join(plain_text(part) for part in value)
    return str(value)


def fit_tables(markdown: str, width: int) -> str:
    """The same Markdown, with each table that is wider than `width` characters made a list, so that no cell is cut."""
    lines, result, at = markdown.splitlines(), [], 0
    while at < len(lines):
        end = at
        while end < len(lines) and lines[end].startswith("|"):
            end += 1
        if end - at < 3:
            result += lines[at : end + 1]
            at = end + 1
            continue
        rows = [_cells(line) for line in lines[at:end]]
        columns = [max(len(_bare(row[i])) for row in rows if i < len(row)) for i in range(len(rows[0]))]
        fits = sum(columns) + 2 * len(columns) + 1 <= width
        result += lines[at:end] if fits else ["", *_as_list(rows[0], rows[2:])]
        at = end
    return "\n".join(result)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))]


def _bare(cell: str) -> str:
    return re.sub(r"[*`]", "", cell)


def _as_list(header: list[str], rows: list[list[str]]) -> Iterator[str]:
    for row in rows:
        values = [f"{name} {value}".strip() for name, value in zip(header[1:], row[1:], strict=False) if value]
        yield f"- **{row[0].replace('**', '')}**: {'; '.join(values)}"
