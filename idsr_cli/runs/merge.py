"""The parts of one file, written by shards, joined into that file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from idsr_cli.errors import ItemError, UsageError
from idsr_cli.files.faults import item_error
from idsr_cli.formats import FORMATS, RunFormat
from idsr_cli.runs.convert import format_of
from idsr_cli.runs.one_file import check_library, run_path
from idsr_cli.runs.plan import PIPE, Existing, check_writable
from idsr_cli.runs.shards import Shard, shard_of_name
from idsr_cli.runs.stamps import differences, other_settings


@dataclass(frozen=True)
class Merge:
    """What is to be merged; made by `plan_merge`.

    Attributes:
        form: the format of all files.
        parts: each part and the number of photographs in it.
        path: the file to write.
        base: that file, if it is there and its photographs are kept.
        missing: shards that other parts are named like, and that are not among them.
    """

    form: RunFormat
    parts: Mapping[Path, int]
    path: Path
    base: Path | None
    missing: Sequence[Shard]

    def run(self) -> int:
        """Write the file; returns the number of photographs that are new in it.

        Raises:
            UsageError: the parts cannot be joined, see `RunFormat.merge`.
            ItemError: the file cannot be written; the old one stays.
        """
        try:
            return self.form.merge(self.path, list(self.parts), self.base)
        except (OSError, ItemError) as error:
            raise ItemError(item_error(error).reason, path=self.path) from error


def plan_merge(inputs: Sequence[str], output: str | None, existing: Existing = "skip") -> Merge:
    """Check parts and output, before anything is written.

    Args:
        inputs: the parts.
        output: the file to write, or its folder.
        existing: if it exists, "skip": its photographs are kept and those of the parts added; "overwrite": it is
            replaced; "error": refuse.

    Raises:
        UsageError: a part is missing, of another format or made with other settings, or the output cannot be written.
    """
    if not inputs:
        raise UsageError("no parts given", hint="name the files that the shards wrote")
    if output is None or output == PIPE:
        raise UsageError("where to write is missing", hint="add `-o FILE`")
    paths = list(dict.fromkeys(Path(text) for text in inputs))
    name, form = _format(paths)
    check_library(name, form)
    path = run_path(output, form)
    check_writable(path.parent)
    if path.exists() and existing == "error":
        raise UsageError("exists already", path=path, hint="use `--existing skip` or `--existing overwrite`")
    base = path if path.exists() and existing == "skip" else None
    paths = [part for part in paths if base is None or not part.samefile(base)]
    if not paths:
        raise UsageError("OUT is the only part", path=path)
    return Merge(form, _counted(form, paths, base), path, base, _missing(paths))


def _format(paths: Sequence[Path]) -> tuple[str, RunFormat]:
    """The format of all parts, by their suffixes."""
    names: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise UsageError("no such file", path=path)
        if path.is_dir():
            raise UsageError("is a folder, and parts are files", path=path, hint=f"name them: {path}/*.db")
        names.setdefault(format_of(path), path)
    (name, first), *others = names.items()
    form = FORMATS[name]
    if not isinstance(form, RunFormat):
        hint = "shards write such files into one folder, which is complete as it is"
        raise UsageError(f"`{name}` is a file per photograph, so there is nothing to merge", path=first, hint=hint)
    if others:
        raise UsageError(f"is of another format than {first}", path=others[0][1], hint="merge them separately")
    return name, form


def _counted(form: RunFormat, parts: Sequence[Path], base: Path | None) -> dict[Path, int]:
    """Each part and its number of photographs, if all were made with the same settings."""
    counts: dict[Path, int] = {}
    first: tuple[Path, Mapping[str, Any]] | None = None
    for path in ([] if base is None else [base]) + list(parts):
        if not os.access(path, os.R_OK):
            raise UsageError("permission denied", path=path)
        inside = form.contents(path)
        if path != base and (lacking := form.incomplete(path)):
            name, reason = next(iter(lacking.items()))
            raise UsageError(f"`{name}` has {reason}", path=path, hint="complete this part first")
        counts[path] = len(inside)
        for settings in _settings(path, inside):
            first = first or (path, settings)
            if why := other_settings(differences(first[1], settings)):
                hint = "`--existing overwrite` replaces it" if first[0] == base else "merge parts of one run"
                raise UsageError(f"{why} than {first[0]}", path=path, hint=hint)
    return {path: counts[path] for path in parts}


def _settings(path: Path, inside: Mapping[str, Mapping[str, Any] | None]) -> list[Mapping[str, Any]]:
    """The different settings of the photographs in a file, without what belongs to one alone: the size of its mask."""
    found: dict[str, Mapping[str, Any]] = {}
    for name, meta in inside.items():
        if meta is None or "settings" not in meta:
            reason = f"there is no record of how the keypoints of `{name}` were made"
            raise UsageError(reason, path=path, hint="`idsr sift` records it")
        settings = {**meta["settings"], "mask": meta["settings"].get("mask") is not False}
        found.setdefault(json.dumps(settings, sort_keys=True), settings)
    return list(found.values())


def _missing(parts: Sequence[Path]) -> list[Shard]:
    named = [found for part in parts if (found := shard_of_name(part)) is not None]
    shards = {shard for _, shard in named}
    wanted = {Shard(number, shard.count) for shard in shards for number in range(1, shard.count + 1)}
    return sorted(wanted - shards, key=lambda shard: (shard.count, shard.number))
