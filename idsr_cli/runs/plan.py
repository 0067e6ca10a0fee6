"""Turn the inputs on the command line into a list of files to read and write, before anything is read or written.

Every mistake that can be found without opening a photograph is found here: a missing input, two photographs with the
same output, an output that would replace an input, outputs inside a folder that is being searched.
"""

from __future__ import annotations

import functools
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, Literal

from idsr_cli.clips.reader import CLIP_SUFFIXES, is_clip
from idsr_cli.errors import IdsrError, UsageError
from idsr_cli.files.spelling import check_spelling
from idsr_cli.files.stores import Location, StorePath, existing_objects, is_folder, is_url, location, spelling
from idsr_cli.files.volume import folded, is_special, same_names
from idsr_cli.images.folders import SUFFIX_FORMATS, Found, is_photo, looks_like_picture, search_folder, search_store
from idsr_cli.runs.shards import Shard

PIPE = "-"
Existing = Literal["skip", "overwrite", "error"]

# An OUT with one of these suffixes is meant as a file. Other suffixes are common in names of folders (`run.1`,
# `2026.11`).
_FILE_SUFFIXES = (
    frozenset(SUFFIX_FORMATS)
    | CLIP_SUFFIXES
    | frozenset(
        ".gif .jxl .svg .pdf .exr .hdr .dng .cr2 .cr3 .nef .arw .npz .npy .mat .pkl .pt .h5 .hdf5 .db .sqlite .sqlite3 "
        ".key .sift .oxford .txt .csv .tsv .json .jsonl .xml .yml .yaml .log .md .html .zip .tar .gz .tgz".split()
    )
)


@dataclass(frozen=True)
class Item:
    """One photograph to process.

    Attributes:
        source: file or object to read; None = standard input.
        target: file or object to write; None = standard output, or nothing if `problem` is set.
        relative: path of the photograph below its input folder; its bare name if the file itself was given.
        done: the target exists and is kept.
        stale: why a kept target may differ from what would be written now ("made with other weights"), or "".
        problem: why this input cannot be processed ("permission denied" for a folder), or "".
        gathered: the file that `target` is added to at the end of the run, as the user knows it, or None.
        kind: name of the output, if the photograph has several: "npz", "derained".
        outputs: the same photograph with each of its outputs, if it has several, see `runs.outputs.combine`.
        inside: the photograph's name in `source`, if that is a file with the keypoints of several, or "".
        spelled: "file://" if `source` was given as such a URL, or "".
        target_spelled: the same of `target`.
    """

    source: Location | None
    target: Location | None
    relative: PurePath
    done: bool = False
    stale: str = ""
    problem: str = ""
    gathered: Path | None = None
    kind: str = ""
    outputs: tuple[Item, ...] = ()
    inside: str = ""
    spelled: str = ""
    target_spelled: str = ""

    @property
    def path(self) -> str:
        """The source as the user gave it."""
        return PIPE if self.source is None else f"{self.spelled}{self.source}"

    @property
    def name(self) -> str:
        """The source as the user gave it, and which of its photographs if it holds several."""
        return f"{self.path}: {self.inside}" if self.inside else self.path

    @property
    def output(self) -> str:
        """Path of the result, for the user."""
        path = self.gathered or self.target
        return PIPE if path is None else f"{self.target_spelled}{path}"

    @property
    def each_output(self) -> tuple[Item, ...]:
        """One item for each output; itself, if it has only one."""
        return self.outputs or (self,)

    @property
    def waits(self) -> bool:
        """True if there is work to do: the output neither exists nor is known to fail."""
        return not self.done and not self.problem


@dataclass(frozen=True)
class Naming:
    """How a command names its outputs.

    Attributes:
        rename: relative path of the photograph -> relative path of its output.
        file_suffixes: a single OUT with one of these suffixes is a file. OUT with the suffix of another kind of file is
            refused; any other OUT is a folder.
        makes_photos: outputs are photographs, so OUT must not lie inside an input folder.
        options: suffixes that the command writes only with another option -> that option, and True if one such file
            takes many photographs.
    """

    rename: Callable[[PurePath], PurePath]
    file_suffixes: frozenset[str]
    makes_photos: bool
    options: Mapping[str, tuple[str, bool]] = field(default_factory=dict)


@dataclass(frozen=True)
class Search:
    """Which files of a folder are taken. Files named on the command line or in a list are always taken.

    Attributes:
        recursive: subfolders are searched too.
        include: glob patterns; if there are any, a file must match one.
        exclude: glob patterns; matching files and folders are skipped, even if included.
        passed_over: called with each file that is a picture, but of a kind that is not searched for (`.gif`).

    A pattern without `/` is compared with the bare name, one with `/` with the path below the input folder; `*` stays
    within one folder, `**` does not. Case does not matter.
    """

    recursive: bool = True
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    passed_over: Callable[[Location], object] = lambda path: None

    def takes_folder(self, relative: PurePath) -> bool:
        """True if the folder at this path below the input is searched."""
        return self.recursive and not _matches(relative, self.exclude)

    def takes_file(self, relative: PurePath) -> bool:
        """True if the file at this path below the input is a photograph to process."""
        return is_photo(relative) and self.allows(relative)

    def allows(self, relative: PurePath) -> bool:
        """True if the patterns do not rule out the file at this path below the input, whatever its kind."""
        if _matches(relative, self.exclude):
            return False
        return not self.include or _matches(relative, self.include)


def make_plan(
    inputs: Sequence[str],
    output: str,
    naming: Naming,
    existing: Existing = "skip",
    search: Search | None = None,
    listed: Sequence[str] | None = None,
) -> list[Item]:
    """Expand `inputs` and give each photograph its output.

    Args:
        inputs: files, folders and URLs of either, or "-" alone. With `listed`, the folders that contain the list's
            paths, or none.
        output: a folder, a file if there is one input file, a URL of either, or "-" (standard output).
        naming: names the outputs.
        existing: what to do with outputs that exist: keep them, replace them, or refuse to start.
        search: which files of a folder are taken; None = all photographs, recursively. Hidden ones never are.
        listed: paths to process instead of everything in `inputs`. With input folders, a path is relative to the
            working directory or to such a folder, and its output has the same path below OUT. Without input folders, a
            relative path is kept below OUT; of an absolute one, or one that goes up (`..`), only the name is kept.

    Returns:
        Items in natural order within each input ("2.jpg" before "10.jpg"), inputs and lists in the order given.

    Raises:
        UsageError: nothing can be started; the message says what to change.
    """
    search = search or Search()
    return assign_outputs(
        find_photographs(inputs, search, listed), inputs, output, naming, existing, listed=listed is not None
    )


def find_photographs(
    inputs: Sequence[str],
    search: Search,
    listed: Sequence[str] | None = None,
    shard: Shard | None = None,
    others: set[str] | None = None,
) -> list[Item]:
    """The photographs of inputs and lists, without outputs; arguments, order and errors as for `make_plan`.

    With a `shard` only those that it takes; absolute paths or URLs of the rest are added to `others`.
    """
    if not inputs and listed is None:
        raise UsageError("no input given", hint="name photographs or folders, or use `--from-list`")
    if PIPE in inputs:
        if len(inputs) > 1 or listed is not None:
            raise UsageError("`-` (standard input) stands alone: it is one photograph")
        if shard is not None:
            raise UsageError("`--shard` divides a collection, and standard input is one photograph")
        return [Item(None, None, PurePath("stdin"))]
    others = set() if others is None else others
    expanded = _expand(inputs, search) if listed is None else _expand_list(listed, inputs, search)
    found = _unique(expanded, shard, others)
    if not found and not others:
        raise _nothing_found(inputs, search, listed)
    return found


def assign_outputs(
    found: Sequence[Item],
    inputs: Sequence[str],
    output: str,
    naming: Naming,
    existing: Existing = "skip",
    listed: bool = False,
    others: Set[str] = frozenset(),
) -> list[Item]:
    """The photographs of `find_photographs`, each with its output; see `make_plan`.

    `listed`: a list is given too. `others`: absolute paths or URLs of the photographs that other shards take.
    """
    if found and found[0].source is None:
        return [_pipe_item(found[0], output, naming, existing)]
    if output == PIPE:
        if len(found) + len(others) > 1 or listed or is_folder(inputs[0]):
            raise UsageError("`-o -` writes one photograph, and the input is more than one file")
        return [Item(item.source, None, item.relative, problem=item.problem) for item in found]
    folder = output_folder(inputs, output, naming, listed)
    if folder is not None:
        _check_folder_name(inputs, output, naming, listed)
    items = [replace(i, target_spelled=spelling(output)) for i in _assign_targets(found, output, folder, naming)]
    _check_inside(inputs, output, naming)
    _check_targets(items, others)
    return _apply_existing(items, existing)


def output_folder(inputs: Sequence[str], output: str, naming: Naming, listed: bool = False) -> Location | None:
    """The folder that OUT names, or None if it names a file or standard output.

    `inputs`, `output` and `naming` are those of `make_plan`; `listed` is True if a list is given too.
    """
    single = len(inputs) == 1 and not listed and not is_folder(inputs[0])
    if output == PIPE or PIPE in inputs or (single and not _is_folder_name(output, naming)):
        return None
    return location(output)


def suffix_counts(paths: Sequence[Location]) -> str:
    """How many files of each kind there are, in words: "2 .gif, 1 without a suffix"."""
    kinds = Counter(path.suffix.lower() or "without a suffix" for path in paths)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())


def _nothing_found(inputs: Sequence[str], search: Search, listed: Sequence[str] | None) -> UsageError:
    if listed is not None and not listed:
        return UsageError("the list is empty")
    looked = f"looked for {' '.join(sorted(SUFFIX_FORMATS))}"
    if search.include or search.exclude or not search.recursive:
        looked += ", as `--include`, `--exclude` and `--no-recursive` allow"
    folders = [location(text) for text in inputs if is_folder(text)]
    clips = [f for f in folders if isinstance(f, Path) and any(is_clip(Path(name)) for name in os.listdir(f))]
    if clips:
        looked = f"video clips must be named: {clips[0]}/*.mp4"
    passed_over: list[Location] = []
    for folder in folders:
        list(_folder_items(folder, PurePath(), replace(search, passed_over=passed_over.append)))
    if passed_over:
        looked += f"; passed over {suffix_counts(passed_over)}"
    return UsageError("no photographs found", path=", ".join(inputs or listed or ()), hint=looked)


def _pipe_item(item: Item, output: str, naming: Naming, existing: Existing) -> Item:
    if output == PIPE:
        return item
    if _is_folder_name(output, naming):
        raise UsageError(
            "standard input has no name, so OUT must be a file or `-`",
            path=output,
            hint=f"give it a suffix: {' '.join(sorted(naming.file_suffixes))}",
        )
    target = location(output)
    if not is_special(target):
        check_writable(target.parent)
    return _apply_existing([replace(item, target=target, target_spelled=spelling(output))], existing)[0]


def _is_folder_name(output: str, naming: Naming) -> bool:
    if is_special(location(output)):
        return False
    if output.endswith(("/", os.sep)) or is_folder(output):
        return True
    return PurePath(output).suffix.lower() not in naming.file_suffixes


# --- inputs ----------------------------------------------------------------------------------------------------------
#
# `os.path.isdir` and the like return False if the system refuses (a name too long, a folder that may not be entered).
# The methods of `Path` raise, so one bad line of a list would end the run.


def _expand(inputs: Sequence[str], search: Search) -> Iterator[Item]:
    for text in inputs:
        spelled = spelling(text)
        yield from (replace(item, spelled=spelled) for item in _input_items(text, search))


def _input_items(text: str, search: Search) -> Iterator[Item]:
    path = location(text)
    if isinstance(path, StorePath):
        yield from _store_items(path, text, search)
        return
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise UsageError("no such file or folder", path=text) from None
    except OSError as error:
        raise UsageError((error.strerror or str(error)).lower(), path=text) from None
    if stat.S_ISDIR(mode):
        yield from _folder_items(path, PurePath(), search)
    else:
        yield _file_item(path, PurePath(path.name))


def _store_items(path: StorePath, text: str, search: Search) -> Iterator[Item]:
    """The photographs of an input in a store; `text` is the input as it was given."""
    if text.endswith("/") or path.is_folder():
        yield from _folder_items(path, PurePath(), search)
        return
    try:
        status = path.stat()
    except IdsrError as error:
        raise UsageError(error.reason, path=text) from error
    if status is None:
        raise UsageError("no such object or folder", path=text)
    yield _file_item(replace(path, status=status), PurePath(path.name))


def _expand_list(listed: Sequence[str], inputs: Sequence[str], search: Search) -> Iterator[Item]:
    """The items of a list. A missing file is a failed item, which does not stop the run: lists may be out of date."""
    folders = []
    for text in inputs:
        place = location(text)
        if isinstance(place, Path) and not os.path.exists(place):
            raise UsageError("no such file or folder", path=text)
        if is_folder(text):
            folders.append(place)
    for text in listed:
        path, relative = _locate(text, inputs, folders)
        if _is_listed_folder(path):
            yield from _folder_items(path, relative, search)
        else:
            # If it is missing or unreadable, that is reported when it is read.
            yield replace(_file_item(path, relative), spelled=spelling(text))


def _is_listed_folder(path: Location) -> bool:
    """True if a line of a list is a folder. A store is not asked about lines that end as photographs do."""
    if isinstance(path, StorePath):
        return not is_photo(PurePath(path.name)) and is_folder(str(path))
    return os.path.isdir(path)


def _locate(text: str, inputs: Sequence[str], folders: Sequence[Location]) -> tuple[Location, PurePath]:
    """The file of a listed path, and its path below its input folder; `folders` are the inputs that are folders."""
    path = location(text)
    for folder in inputs:
        inside = _relative_to_input(path, folder)
        if inside is not None:
            return path, inside
    if isinstance(path, StorePath):
        if inputs:
            raise _not_in_inputs(inputs, text)
        return path, PurePath(path.name)
    relative = PurePath(os.path.normpath(path))
    if relative.is_absolute() or relative.parts[:1] == (os.pardir,):
        if inputs:
            raise _not_in_inputs(inputs, text)
        return path, PurePath(os.path.abspath(path)).relative_to(os.path.abspath(path.parent))
    for parent in folders:
        if len(folders) == 1 and isinstance(parent, StorePath):  # reading it will tell whether it is there
            return parent / relative, relative
        if _is_there(parent / relative):
            return parent / relative, relative
    if inputs and os.path.exists(path):
        raise _not_in_inputs(inputs, text)
    return (folders[0] / relative if folders else path), relative


def _is_there(path: Location) -> bool:
    return path.stat() is not None if isinstance(path, StorePath) else os.path.lexists(path)


def _relative_to_input(path: Location, folder: str) -> PurePath | None:
    """Path of `path` below an input folder; its name if it is the input itself; None if it is not below it."""
    place = location(folder)
    try:
        if isinstance(path, StorePath) and isinstance(place, StorePath):
            inside = PurePath(path.relative_to(place))
        elif isinstance(path, StorePath) or isinstance(place, StorePath):
            return None
        else:
            inside = PurePath(os.path.abspath(path)).relative_to(os.path.abspath(place))
    except ValueError:
        return None
    return inside if inside.parts or _is_listed_folder(path) else PurePath(path.name)


def _not_in_inputs(inputs: Sequence[str], text: str) -> UsageError:
    return UsageError(f"is in the list, but not in {' or '.join(f'`{folder}`' for folder in inputs)}", path=text)


def _unique(found: Iterator[Item], shard: Shard | None, others: set[str]) -> list[Item]:
    """The items without duplicates: a file may be given twice (`a.jpg a.jpg`, or `photos photos/a.jpg`).

    With a shard only its own; absolute paths or URLs of the rest are added to `others`.
    """
    items: dict[str, Item] = {}
    for item in found:
        assert item.source is not None
        name = absolute(item.source)
        if name in items or name in others:
            continue
        if shard is None or shard.takes(item.relative):
            items[name] = item
        else:
            others.add(name)
    return list(items.values())


def _file_item(path: Location, relative: PurePath) -> Item:
    if isinstance(path, StorePath):
        return Item(path, None, relative, problem=_why_not_read(path, relative))
    denied = os.path.exists(path) and not os.access(path, os.R_OK)
    return Item(path, None, relative, problem="permission denied" if denied else "")


def _why_not_read(path: StorePath, relative: PurePath) -> str:
    """Why an object is not taken, or ""."""
    # Names of objects are any text. Joined to OUT, such a name would be a file elsewhere.
    if ".." in relative.parts or relative.is_absolute():
        return "its name leads out of its folder"
    if is_clip(path):
        return "a clip is read from a local file: copy it here first"
    return ""


def _folder_items(folder: Location, relative: PurePath, search: Search) -> Iterator[Item]:
    def pass_over(path: Location, below: PurePath) -> None:
        if search.allows(below) and looks_like_picture(path):
            search.passed_over(path)

    rules: Any = {
        "takes_folder": search.takes_folder, "takes_file": search.takes_file, "passed_over": pass_over,
    }  # fmt: skip
    everything: Iterable[Found[Path] | Found[StorePath]]
    if isinstance(folder, StorePath):
        everything = search_store(folder, relative, **rules)
    else:
        everything = search_folder(folder, relative, **rules)
    for found in everything:
        if found.problem:
            yield Item(found.path, None, found.relative, problem=found.problem)
        else:
            yield _file_item(found.path, found.relative)


def _matches(relative: PurePath, patterns: tuple[str, ...]) -> bool:
    whole = relative.as_posix()
    return any(_glob(pattern).fullmatch(whole if "/" in pattern.rstrip("/") else relative.name) for pattern in patterns)


_GLOB_PARTS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


@functools.cache
def _glob(pattern: str) -> re.Pattern[str]:
    """A glob pattern as a regular expression: `*` of `fnmatch` crosses folders, and `PurePath.match` has no `**`."""
    regex = ""
    for part in re.findall(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|.", pattern.strip("/"), re.DOTALL):
        if part in _GLOB_PARTS:
            regex += _GLOB_PARTS[part]
        elif len(part) > 1:  # a set of characters, [a-z] or [!a-z]
            inner = re.sub(r"([^a-zA-Z0-9-])", r"\\\1", part[1:-1].removeprefix("!"))
            regex += f"[{'^' if part[1] == '!' else ''}{inner}]"
        else:
            regex += re.escape(part)
    try:
        return re.compile(regex, re.IGNORECASE)
    except re.error:
        hint = "a set of characters is `[abc]` or `[a-z]`, the character `[` itself `[[]`"
        raise UsageError("not a valid pattern", path=pattern, hint=hint) from None


# --- outputs ---------------------------------------------------------------------------------------------------------


def _assign_targets(found: Sequence[Item], output: str, root: Location | None, naming: Naming) -> list[Item]:
    if root is None:
        target = location(output)
        if isinstance(target, Path) and is_special(target):
            if not os.access(target, os.W_OK):
                raise UsageError("permission denied: cannot write there", path=output)
        else:
            check_writable(target.parent)
        return [replace(item, target=None if item.problem else target) for item in found]
    if isinstance(root, Path) and os.path.exists(root) and not os.path.isdir(root):
        kind = "a device or a pipe" if is_special(root) else "a file"
        raise UsageError(f"OUT is {kind}, but the input needs a folder", path=output)
    items = [i if i.problem else replace(i, target=root / naming.rename(i.relative)) for i in found]
    for folder in dict.fromkeys([root, *(item.target.parent for item in items if item.target is not None)]):
        check_writable(folder)
    return items


def is_file_name(output: str) -> bool:
    """True if OUT looks like a file name, whether or not the command can write that kind, and is not a folder."""
    if output.endswith(("/", os.sep)) or is_folder(output):
        return False
    return PurePath(output).suffix.lower() in _FILE_SUFFIXES


def _check_folder_name(inputs: Sequence[str], output: str, naming: Naming, listed: bool) -> None:
    """Refuse an OUT that looks like a file name but would become a folder."""
    single = not listed and len(inputs) == 1 and not is_folder(inputs[0])
    clip = is_clip(Path(inputs[0])) if single else False
    written = sorted(known for known in naming.file_suffixes if (known in CLIP_SUFFIXES) == clip)
    if not is_file_name(output):
        if single:
            common = [suffix for suffix in SUFFIX_FORMATS if suffix in written]  # `.jpg` comes before `.jp2`
            check_spelling(output, [*common, *written, *naming.options])
        return
    suffix = PurePath(output).suffix.lower()
    option, takes_many = naming.options.get(suffix, ("", False))
    ways = [f"`{option}` writes it"] if option else []
    as_folder = f"`{output}/` is a folder"
    if not single:
        if _is_there(location(output)):
            raise UsageError("OUT is a file, but the input needs a folder", path=output)
        given = "a list" if listed else "a folder" if len(inputs) == 1 else f"{len(inputs)} paths"
        ways = ways if takes_many else ["name a folder"]
        raise UsageError(
            f"is the name of one file, and the input is {given}", path=output, hint="; ".join([*ways, as_folder])
        )
    if written and not option:
        ways = [f"choose from {' '.join(written)}"]
    raise UsageError(f"cannot write a file of kind {suffix}", path=output, hint="; ".join([*ways, as_folder]))


def check_writable(folder: Location) -> None:
    """Refuse a folder that cannot be created or written, before work starts; of a store only its puts tell."""
    if isinstance(folder, StorePath):
        return
    nearest = _nearest_folder(Path(folder) / "file")
    if not os.path.isdir(nearest):
        raise UsageError("is a file, so no folder can be made there", path=nearest)
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError("permission denied: cannot write there", path=nearest)


def _check_inside(inputs: Sequence[str], output: str, naming: Naming) -> None:
    if naming.makes_photos:
        guard_folder(inputs, output)


def guard_folder(inputs: Sequence[str], output: str) -> None:
    """Refuse an output folder that is an input folder or lies inside one.

    A second run would take the first run's outputs for inputs.

    Raises:
        UsageError: the folder is refused.
    """
    target = _real(location(output))
    for text in inputs:
        source = _real(location(text))
        # By path components, not by text: `in/outdoor` is not inside `in/out`.
        if (target == source or source in target.parents) and is_folder(text):
            reason = "is the input folder" if target == source else f"lies inside the input folder `{text}`"
            raise UsageError(f"OUT {reason}", path=output, hint="choose a folder outside it")


def _real(place: Location) -> Location:
    """The place without links."""
    return Path(os.path.realpath(place)) if isinstance(place, Path) else place


def absolute(place: Location) -> str:
    """The same text for all spellings of the path of a file, or of the URL of an object; links are not followed."""
    return os.path.abspath(place) if isinstance(place, Path) else place.identity


def _check_targets(items: list[Item], others: Set[str]) -> None:
    key_of = _Keys()
    sources = {key_of(item.source): item.name for item in items if item.source and not item.problem}
    folded_sources = {folded(path): path for path in sources}
    taken: dict[str, str] = {}
    for item in items:
        if item.target is None:
            continue
        key = key_of(item.target)
        same = key in sources or (bool(others) and absolute(item.target) in others)
        if same or _is_same_file(key, folded_sources.get(folded(key))):
            raise UsageError("the output would replace an input", path=item.target, hint="choose another OUT")
        if key in taken:
            raise UsageError(
                f"two photographs want this output: `{taken[key]}` and `{item.name}`",
                path=item.target,
                hint="process them into separate folders, or from the folder that holds both",
            )
        taken[key] = item.name
    check_volume(taken)


class _Keys:
    """The same text for all names of one file, through links too, or of one object.

    Each folder is asked about only once: a plan may have a million paths.
    """

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def __call__(self, place: Location) -> str:
        if not isinstance(place, Path):
            return place.identity
        folder, name = os.path.split(place)
        if name in ("", os.curdir, os.pardir) or os.path.islink(place):
            return os.path.normcase(os.path.realpath(place))
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return os.path.normcase(os.path.join(self._folders[folder], name))


def check_apart(plans: Sequence[Sequence[Item]]) -> None:
    """Refuse outputs of several kinds that get in each other's way: one file for two, or for one that needs a folder.

    Args:
        plans: for each kind of output, its items.

    Raises:
        UsageError: two do.
    """
    key_of = _Keys()
    taken: dict[str, Item] = {}
    pipes = {item.kind for items in plans for item in items if item.target is None and not item.problem}
    if len(pipes) > 1:
        raise UsageError(f"{' and '.join(sorted(pipes))} both want standard output")
    for item in (item for items in plans for item in items):
        path = item.gathered or item.target
        if path is not None and not is_special(path):
            other = taken.setdefault(key_of(path), item)
            if other.kind != item.kind:
                raise UsageError(f"two outputs want this file: {other.kind} and {item.kind}", path=path, hint=_APART)
    for key, item in taken.items():
        folders = map(str, Path(key).parents)
        if (folder := next((folder for folder in folders if folder in taken), None)) is not None:
            reason = f"is a file of {taken[folder].kind}, and {item.kind} needs a folder there"
            raise UsageError(reason, path=taken[folder].output, hint=_APART)
    check_volume({key: item.name for key, item in taken.items()})


_APART = "write them to separate folders"


def _is_same_file(target: str, source: str | None) -> bool:
    """True if two paths are one file of a volume that does not tell their names apart."""
    try:
        return source is not None and os.path.samefile(target, source)
    except OSError:
        return False


def check_volume(outputs: Mapping[str, str]) -> None:
    """Refuse outputs whose names are different to us and the same to the volume they go to.

    Args:
        outputs: path of an output -> the photograph it is made from, for the message.

    Raises:
        UsageError: two photographs want one output.
    """
    alike: dict[tuple[str, ...], list[str]] = {}
    for path in outputs:
        if is_url(path):  # a store tells all names apart
            continue
        alike.setdefault(tuple(map(folded, PurePath(path).parts)), []).append(path)
    # Components that are equal when folded, and still spelled in several ways: folder -> the ways of one component.
    asked: dict[Path, dict[str, dict[str, None]]] = {}
    groups = [paths for paths in alike.values() if len(paths) > 1]
    for paths in groups:
        for spelled in zip(*(PurePath(path).parts for path in paths), strict=True):
            if len(set(spelled)) > 1:
                names = asked.setdefault(_nearest_folder(paths[0]), {}).setdefault(folded(spelled[0]), {})
                names.update(dict.fromkeys(spelled))
    first = {
        (folder, later): name
        for folder, by_folded in asked.items()
        for name, later in same_names(folder, [name for names in by_folded.values() for name in names])
    }
    for paths in groups:
        folder = _nearest_folder(paths[0])
        seen: dict[tuple[str, ...], str] = {}
        for path in paths:
            key = tuple(first.get((folder, part), part) for part in PurePath(path).parts)
            if key in seen:
                raise UsageError(
                    f"two photographs want this output: `{outputs[seen[key]]}` and `{outputs[path]}`",
                    path=path,
                    hint="this volume takes their names for one: process them into separate folders, or write to "
                    "another volume",
                )
            seen[key] = path


def _nearest_folder(path: str | Path) -> Path:
    """The innermost folder above a path that exists (or a file, if there is one in the way)."""
    nearest = Path(os.path.abspath(path)).parent
    while not os.path.exists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    return nearest


def _apply_existing(items: list[Item], existing: Existing) -> list[Item]:
    in_stores = [item.target for item in items if isinstance(item.target, StorePath)]
    stored = existing_objects(in_stores) if existing != "overwrite" else {}

    def is_there(target: Location | None) -> bool:
        if isinstance(target, Path):
            return os.path.lexists(target) and not is_special(target)
        return target in stored

    there = [item for item in items if is_there(item.target)]
    for item in there:
        if isinstance(item.target, Path) and os.path.isdir(item.target):
            raise UsageError("is a folder, but the output must be a file", path=item.target)
    if existing == "error" and there:
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise UsageError(
            f"exists already{more}", path=there[0].target, hint="use `--existing skip` or `--existing overwrite`"
        )
    if existing != "skip":
        return items
    keep = {id(item) for item in there}
    return [replace(i, done=True, target=stored.get(i.target, i.target)) if id(i) in keep else i for i in items]
