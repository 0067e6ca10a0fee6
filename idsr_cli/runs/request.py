"""What a command over photographs was asked for, whatever it does with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from idsr_cli import __version__
from idsr_cli.errors import UsageError
from idsr_cli.files.stores import Location
from idsr_cli.runs.lists import read_list
from idsr_cli.runs.plan import PIPE, Existing, Item, Naming, Search, assign_outputs, find_photographs, output_folder
from idsr_cli.runs.shards import Shard, claim_path
from idsr_cli.runs.stamps import Stamps

# Other names for standard output. Opened by name they would be something else: see `cli.console`.
_STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


@dataclass(frozen=True)
class Request:
    """Inputs, output and how to go through them.

    Attributes:
        inputs: files and folders, or "-".
        output: `-o`.
        existing: "skip", "overwrite" or "error".
        from_list: file with paths, or "-", or None.
        search: which files of folders are taken.
        jobs: number of worker threads, 0 = as many as help.
        fail_fast: stop after the first failure.
        failures: file for the paths that failed, or None.
        unchanged: file for the paths of photographs in which no rain was seen, or None.
        shard: the part of the photographs that is processed; None = all of them.
        passed_over: filled by `plan`: the pictures in the folders that are of a kind that is not searched for.
        found: filled by the first `plan`: the photographs. Further plans, of other outputs, are of the same ones.
        others: filled with it: absolute paths or URLs of the photographs that other shards take.
    """

    inputs: Sequence[str]
    output: str | None
    existing: Existing = "skip"
    from_list: str | None = None
    search: Search = field(default_factory=Search)
    jobs: int = 0
    fail_fast: bool = False
    failures: Path | None = None
    unchanged: Path | None = None
    shard: Shard | None = None
    passed_over: list[Location] = field(default_factory=list)
    found: list[Item] = field(default_factory=list)
    others: set[str] = field(default_factory=set)

    def __getstate__(self) -> dict[str, Any]:
        # The process that gets it plans nothing, and the lists may be a million photographs long.
        return {**self.__dict__, "found": [], "others": set(), "passed_over": []}

    @property
    def out(self) -> str:
        """`-o`, or standard output for standard input.

        Raises:
            UsageError: it is missing.
        """
        output = standard_output(self.output)
        if output is not None:
            return output
        if self.from_list is None and list(self.inputs) == [PIPE]:
            return PIPE
        raise UsageError("where to write is missing", hint="add `-o FOLDER`")

    def plan(self, naming: Naming) -> list[Item]:
        """Each photograph and its output.

        Raises:
            UsageError: nothing can be started.
        """
        out = self.out
        if not self.found and not self.others:
            listed = None if self.from_list is None else read_list(self.from_list)
            search = replace(self.search, passed_over=self.passed_over.append)
            self.found.extend(find_photographs(self.inputs, search, listed, self.shard, self.others))
        listed_too = self.from_list is not None
        return assign_outputs(self.found, self.inputs, out, naming, self.existing, listed_too, self.others)

    def stamps(
        self,
        naming: Naming,
        command: str,
        settings: Mapping[str, Any],
        own: Callable[[Item], Mapping[str, Any]] = lambda item: {},
        kind: str = "",
    ) -> Stamps:
        """The record of the output folder.

        Args:
            naming: as for `plan`.
            command: name of the command.
            settings: everything that decides what is in an output beside the photograph itself, as JSON values.
            own: see `Stamps`.
            kind: of output, if a command has several that may share a folder.
        """
        folder = output_folder(self.inputs, self.out, naming, self.from_list is not None)
        claim = None if self.shard is None or folder is None else claim_path(folder, kind or command)
        return Stamps(folder, {"command": command, "version": __version__, **settings}, own, self.shard, claim)


def standard_output(output: str | None) -> str | None:
    """`output`, or "-" for the other names of standard output."""
    return PIPE if output in _STDOUT else output


def worker_count(jobs: int, items: Sequence[Item] | None = None) -> int:
    """The number of worker threads: `jobs`, or for 0 up to 4, and no more than there are items.

    Few are enough: reading and writing are much faster than the networks.
    """
    most = jobs or min(4, os.cpu_count() or 1)
    return most if items is None else min(most, max(1, len(items)))
