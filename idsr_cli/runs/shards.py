"""Shards: the parts of a collection that machines process apart from each other, without talking to each other.

A photograph belongs to a shard by a hash of its path below the input folder, so every machine finds the same division,
and photographs that are added later move none. The hash is BLAKE2b (8 bytes, big-endian, modulo the number of shards)
of the UTF-8 text of the path with `/` between its parts, without the suffixes of photographs and clips, each part
spelled as `files.volume.folded` does. Photographs that may want one output (`x.jpg` and `x.png` with `--format png`,
`IMG.jpg` and `img.jpg` on exFAT) are therefore in one shard, whose plan refuses them as that of the whole collection
does.

Shards of one output folder have a hidden folder `.idsr.shards` there, with a record of settings for each shard
(`runs.stamps`), so that no file has two writers, and a claim for each kind of output, the file `settings-KIND.json`.
The first shard that begins makes the claim; the others compare their settings with it. It is written beside its name
and hard-linked to it, which fails if the name is taken, on network file systems too. In a store it is an object that is
put under the condition that there is none. Other runs on several machines have their records in that folder too.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path, PurePath
from typing import Any

from idsr_cli.clips.reader import CLIP_SUFFIXES
from idsr_cli.errors import ItemError, UsageError
from idsr_cli.files.stores import Location, StorePath
from idsr_cli.files.volume import folded
from idsr_cli.images.folders import SUFFIX_FORMATS

FOLDER = ".idsr.shards"
_SCHEMA = 1
_SUFFIXES = frozenset(SUFFIX_FORMATS) | CLIP_SUFFIXES
_PART = re.compile(r"(?P<stem>.+)\.shard-(?P<number>[0-9]+)-of-(?P<count>[0-9]+)", re.DOTALL)


@dataclass(frozen=True)
class Shard:
    """One of the parts of a collection.

    Attributes:
        number: which, 1..`count`.
        count: how many there are.
    """

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def takes(self, relative: PurePath) -> bool:
        """True if the photograph with this path below its input folder is in the shard."""
        return shard_number(relative, self.count) == self.number

    @property
    def label(self) -> str:
        """For names of files; numbers have equal width, so that the names sort: "shard-03-of-16"."""
        return f"shard-{self.number:0{len(str(self.count))}}-of-{self.count}"

    def path(self, path: Path) -> Path:
        """The file that this shard writes where a whole run writes `path`: database.shard-1-of-4.db."""
        return path.with_name(f"{path.stem}.{self.label}{path.suffix}")


def shard_number(relative: PurePath, count: int) -> int:
    """The shard, 1..`count`, of a photograph, by its path below its input folder."""
    bare = relative
    while bare.suffix.lower() in _SUFFIXES:
        bare = bare.with_suffix("")
    key = "/".join(map(folded, bare.parts)).encode("utf-8", "surrogateescape")
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "big") % count + 1


def shard_of_name(path: Path) -> tuple[str, Shard] | None:
    """Of a file that a shard wrote, the name that a whole run gives it, and the shard; None for other names."""
    found = _PART.fullmatch(path.stem)
    if found is None:
        return None
    return found["stem"] + path.suffix, Shard(int(found["number"]), int(found["count"]))


# --- which shard -----------------------------------------------------------------------------------------------------


def parse_shard(text: str, environment: Mapping[str, str] = os.environ) -> Shard:
    """The shard that `--shard` names.

    Args:
        text: "I/N", I counted from 1; "auto" or "auto/N" = as the scheduler says that started this process.
        environment: variables of the scheduler.

    Raises:
        UsageError: there is no such shard, or the scheduler does not say which.
    """
    found = re.fullmatch(r"(?P<number>[0-9]{1,9}|auto)(?:/(?P<count>[0-9]{1,9}))?", text, re.ASCII)
    if found is None or (found["number"] != "auto" and found["count"] is None):
        raise UsageError(f"`--shard {text}` is no shard", hint="`1/4` to `4/4`, `auto`, or `auto/4`")
    count = None if found["count"] is None else int(found["count"])
    if count == 0:
        raise UsageError(f"`--shard {text}`: there must be at least one shard", hint="`1/4` is the first of four")
    if found["number"] == "auto":
        return _scheduled(environment, count)
    assert count is not None
    number = int(found["number"])
    if not 1 <= number <= count:
        raise UsageError(f"`--shard {text}`: shards are 1/{count} to {count}/{count}")
    return Shard(number, count)


def _scheduled(environment: Mapping[str, str], count: int | None) -> Shard:
    """The shard of a process that a scheduler started as one of several; `count` is the number that the user named."""
    found = {
        name: place
        for name, place in (
            ("SLURM_ARRAY_TASK_ID", _slurm(environment)),
            ("JOB_COMPLETION_INDEX", _kubernetes(environment, count)),
            ("RANK", _ranks(environment)),
        )
        if place is not None
    }
    if not found:
        raise UsageError(
            "`--shard auto`: none of SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX, RANK is set",
            hint="`--shard I/N` says which shard",
        )
    if len(set(found.values())) > 1:
        told = ", ".join(f"{name} means {shard}" for name, shard in found.items())
        raise UsageError(f"`--shard auto`: {told}", hint="`--shard I/N` says which shard")
    (name, shard), *_ = found.items()
    if count is not None and shard.count != count:
        raise UsageError(f"`--shard auto/{count}`: {name} means shard {shard}", hint="`--shard I/N` says which shard")
    if not 1 <= shard.number <= shard.count:
        raise UsageError(f"`--shard auto`: {name}={environment[name]} is none of {shard.count} shards")
    return shard


def _slurm(environment: Mapping[str, str]) -> Shard | None:
    """Tasks of an array may begin at any number and go in steps: `--array=0-15`, `1-16`, `0-30:2`."""
    task = _number(environment, "SLURM_ARRAY_TASK_ID")
    if task is None:
        return None
    count, first, last = (_number(environment, f"SLURM_ARRAY_TASK_{name}") for name in ("COUNT", "MIN", "MAX"))
    if count is None or first is None:
        raise UsageError("`--shard auto`: SLURM_ARRAY_TASK_ID is set, but not SLURM_ARRAY_TASK_COUNT and _MIN")
    step = 1 if count < 2 or last is None else (last - first) // (count - 1)
    last = first + step * (count - 1) if last is None else last
    if step < 1 or (task - first) % step or first + step * (count - 1) != last:
        raise UsageError(
            "`--shard auto`: the numbers of the array's tasks have gaps",
            hint="`--array=1-N` and `--shard $SLURM_ARRAY_TASK_ID/N` allow single tasks to run again",
        )
    return Shard((task - first) // step + 1, count)


def _kubernetes(environment: Mapping[str, str], count: int | None) -> Shard | None:
    """Indexed Jobs count from 0, and tell a pod its index only."""
    index = _number(environment, "JOB_COMPLETION_INDEX")
    if index is None:
        return None
    if count is None:
        raise UsageError(
            "`--shard auto`: Kubernetes does not tell a pod how many there are",
            hint="`--shard auto/N`, N being the `completions` of the Job",
        )
    return Shard(index + 1, count)


def _ranks(environment: Mapping[str, str]) -> Shard | None:
    rank, size = (_number(environment, name) for name in ("RANK", "WORLD_SIZE"))
    if rank is None:
        return None
    if not size:
        raise UsageError("`--shard auto`: RANK is set, but not WORLD_SIZE")
    return Shard(rank + 1, size)


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"`--shard auto`: {name}={text} is no number", hint="`--shard I/N` says which shard")
    return int(text)


# --- equal settings --------------------------------------------------------------------------------------------------


def claim_path(folder: Location, kind: str) -> Location:
    """Where the settings are that the shards of an output folder share, for one kind of output."""
    return folder / FOLDER / f"settings-{kind}.json"


def claimed(path: Location) -> dict[str, Any] | None:
    """The settings of a claim; None if there is none, it is damaged, or this account may not read it.

    Raises:
        UsageError: it is in a store, which does not answer.
    """
    try:
        claim = json.loads(path.read_bytes())
        if claim["schema"] == _SCHEMA and isinstance(claim["settings"], dict):
            return dict(claim["settings"])
    except ItemError as error:
        if not isinstance(error.__cause__, (FileNotFoundError, PermissionError)):
            raise UsageError(error.reason, path=path) from error
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def claim(path: Location, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Claim an output folder for settings, unless another shard has.

    Returns:
        The settings of the claim: those given, or those of the shard that came first.

    Raises:
        UsageError: the folder cannot be written, or the store does not answer.
    """
    data = json.dumps({"schema": _SCHEMA, "settings": settings}, sort_keys=True).encode("ascii")
    try:
        if (there := claimed(path)) is not None:
            return there
        if isinstance(path, StorePath):
            _put(path, data)
        else:
            _link(path, data)
        return claimed(path) or dict(settings)
    except ItemError as error:
        raise UsageError(error.reason, path=path) from error
    except OSError as error:
        raise UsageError((error.strerror or str(error)).lower(), path=path) from error


def _put(path: StorePath, data: bytes) -> None:
    """Make a claim in a store."""
    try:
        path.create_bytes(data)
    except ItemError as error:
        # Another shard was faster. Not every version of every package says so with a FileExistsError.
        if not isinstance(error.__cause__, FileExistsError) and claimed(path) is None:
            raise


def _link(path: Path, data: bytes) -> None:
    """Make a claim on a file system."""
    draft = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        draft.write_bytes(data)
        try:
            os.link(draft, path)
        except FileExistsError:
            if claimed(path) is None:  # a damaged one
                os.replace(draft, path)
        except OSError:  # a volume without hard links
            os.replace(draft, path)
    finally:
        with suppress(OSError):
            draft.unlink()
