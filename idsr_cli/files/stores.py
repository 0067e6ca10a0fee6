"""Object stores: photographs and results under URLs such as `s3://bucket/photos`, through fsspec.

A `StorePath` stands where a `Path` stands for a file of this machine. It lists, reads and writes whole objects, so a
photograph needs memory for its compressed bytes. An object is written by the store's own put, which replaces it
completely or not at all. Credentials, endpoints and the like come from the environment of the store's package and from
fsspec's configuration; a URL with a secret in it is refused, since URLs are printed and recorded.

Only stores whose put is atomic are in `STORES`. `file://` is a spelling of a local path, and is treated as one.
"""

from __future__ import annotations

import errno
import functools
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeAlias

from idsr_cli.errors import IdsrError, ItemError, UsageError
from idsr_cli.files.faults import is_out_of_memory, one_line

# Protocol -> what it is called in comparisons: two names of one store name the same object.
STORES = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gs",
    "gcs": "gs",
    "az": "az",
    "abfs": "az",
    "memory": "memory",
}
LOCAL = "file"
# Up to this many objects are asked for one by one; for more, their folder is listed.
_FEW = 16
# At least two letters: `C:` is a drive.
_URL = re.compile(r"(?P<protocol>[a-z][a-z0-9+.-]+)://(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
# `key:secret@bucket`
_SECRET = re.compile(r"\A[^/@]*:[^/@]*@")


class Status(NamedTuple):
    """What is known of an object, under the names of `os.stat_result`.

    Attributes:
        st_size: bytes; None if the store does not say.
        st_mtime: when it was written, seconds since 1970; 0 if the store does not say.
    """

    st_size: int | None
    st_mtime: float


@dataclass(frozen=True)
class StorePath:
    """An object of a store, or what looks like a folder of them. It can be pickled, and holds no connection.

    Attributes:
        protocol: a value of `STORES`.
        key: bucket and name, "bucket/a/x.jpg", as the store has it.
        spelled: the protocol as it was given, a key of `STORES`.
        status: what a listing said of it, so that it need not be asked for again.
    """

    protocol: str
    key: str
    spelled: str = field(compare=False)
    status: Status | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.spelled}://{self.key}"

    @property
    def identity(self) -> str:
        """The same text for all URLs of this object."""
        return f"{self.protocol}://{self.key}"

    @property
    def name(self) -> str:
        """The part after the last `/`."""
        return self.key.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """As that of a `Path`."""
        return PurePosixPath(self.name).suffix

    @property
    def parents(self) -> list[StorePath]:
        """The folders above it, innermost first; the bucket is the last."""
        parts = self.key.split("/")
        return [self._at("/".join(parts[:count])) for count in range(len(parts) - 1, 0, -1)]

    @property
    def parent(self) -> StorePath:
        """The folder above it; of a bucket itself."""
        return next(iter(self.parents), self)

    def __truediv__(self, below: object) -> StorePath:
        text = below.as_posix() if hasattr(below, "as_posix") else str(below)
        return self._at(f"{self.key}/{text}")

    def _at(self, key: str, status: Status | None = None) -> StorePath:
        return replace(self, key=key, status=status)

    def relative_to(self, folder: StorePath) -> PurePosixPath:
        """Its path below a folder; an empty path for the folder itself.

        Raises:
            ValueError: it is not below it.
        """
        start = f"{folder.identity}/"
        if not f"{self.identity}/".startswith(start):
            raise ValueError(f"{self} is not below {folder}")
        return PurePosixPath(self.identity[len(start) :].lstrip("/"))

    # --- asking the store: for plans, which nothing follows if the store does not answer

    def is_folder(self) -> bool:
        """True if there is no object of this name, and objects whose names go on with `/`.

        Raises:
            UsageError: the store does not answer or refuses.
        """
        return self._info(UsageError).get("type") == "directory"

    def find(self) -> Iterator[StorePath]:
        """The objects below it, in no order, each with its status.

        Raises:
            UsageError: the store does not answer or refuses.
        """
        system = _filesystem(self.protocol)
        start: str = system._strip_protocol(self.identity)
        with _telling(self, UsageError, "cannot be listed"):
            try:
                found: dict[str, dict[str, Any]] = system.find(start, detail=True)
            except FileNotFoundError:
                return
        for name, info in found.items():
            below = name[len(start) :].removeprefix("/")
            # Programs make empty objects that end in `/` to show an empty folder.
            if below and not below.endswith("/") and name.startswith(f"{start}/"):
                yield self._at(f"{self.key}/{below}", _status(info))

    # --- single objects: a failure is that of one photograph

    def stat(self) -> Status | None:
        """What is known of the object; None if there is none of this name.

        Raises:
            ItemError: the store does not answer or refuses.
        """
        if self.status is not None:
            return self.status
        info = self._info(ItemError)
        return _status(info) if info.get("type") == "file" else None

    def read_bytes(self) -> bytes:
        """The object.

        Raises:
            ItemError: there is none, or the store does not answer or refuses.
        """
        with _telling(self, ItemError, "cannot be read"):
            return bytes(_filesystem(self.protocol).cat_file(self.identity))

    def write_bytes(self, data: bytes) -> None:
        """Put the object, completely or not at all.

        Raises:
            ItemError: the store does not answer, refuses or is full.
        """
        with _telling(self, ItemError, "cannot be written"):
            _filesystem(self.protocol).pipe_file(self.identity, data)

    def create_bytes(self, data: bytes) -> None:
        """Put the object unless one of this name is there; of several that do so at the same time only one succeeds.

        The store decides that (S3: `If-None-Match`). A server that refuses such a put gets a plain one, and one that
        does not know the condition takes it for a plain one: the last object stays then.

        Raises:
            ItemError: one is there, or the store does not answer, refuses or is full.
        """
        system = _filesystem(self.protocol)
        with _telling(self, ItemError, "cannot be written"):
            try:
                system.pipe_file(self.identity, data, mode="create")
            except OSError as error:
                if error.errno != errno.ENOSYS:  # as s3fs says it
                    raise
                system.pipe_file(self.identity, data)

    def _info(self, kind: type[IdsrError]) -> dict[str, Any]:
        with _telling(self, kind, "cannot be looked up"):
            try:
                return dict(_filesystem(self.protocol).info(self.identity))
            except FileNotFoundError:
                return {}


Location: TypeAlias = Path | StorePath


def is_url(text: str) -> bool:
    """True for the URL of a store, and for `file://`; never for `C:/photos`."""
    found = _URL.match(text)
    return found is not None and (found["protocol"].lower() in STORES or found["protocol"].lower() == LOCAL)


def location(text: str) -> Location:
    """What a path or a URL on the command line, or in a list, stands for. The store is not asked.

    Raises:
        UsageError: the URL holds a secret or no bucket, its protocol is not known, or its package is not installed.
    """
    found = _URL.match(text)
    if found is None:
        return Path(text)
    protocol, rest = found["protocol"].lower(), found["rest"]
    if _SECRET.match(rest):
        raise UsageError(
            "this URL holds a secret, and URLs are printed and recorded",
            path=without_secret(text),
            hint="leave it out: the store's package finds credentials in the environment and in its own files",
        )
    if protocol == LOCAL:
        return Path(_local_name(text))
    if protocol not in STORES:
        if os.path.lexists(text):
            return Path(text)
        known = ", ".join(f"{name}://" for name in STORES if name != "memory")
        raise UsageError(f"`{protocol}://` is no store that is known here", path=text, hint=f"known: {known}, file://")
    key = rest.strip("/") if protocol == "memory" else rest.rstrip("/")
    if not key or key.startswith("/"):
        raise UsageError("the URL names no bucket", path=text, hint=f"{protocol}://BUCKET/FOLDER")
    _filesystem(STORES[protocol])
    return StorePath(STORES[protocol], key, protocol)


def without_secret(url: str) -> str:
    """The URL as it may be printed: `s3://...@bucket/x` for `s3://key:secret@bucket/x`."""
    found = _URL.match(url)
    return f"{found['protocol']}://{_SECRET.sub('...@', found['rest'], count=1)}" if found else url


def spelling(text: str) -> str:
    """What the path of a URL is shown with, if it is that of a local file: "file://"; else ""."""
    found = _URL.match(text)
    return f"{LOCAL}://" if found and found["protocol"].lower() == LOCAL else ""


def local(place: Location | None) -> Path:
    """The place as a local path, where the plan lets nothing else through."""
    assert isinstance(place, Path), place
    return place


def is_folder(text: str) -> bool:
    """True for a folder of this machine or of a store; False if the system or the store refuses to say.

    Raises:
        UsageError: as `location`.
    """
    place = location(text) if is_url(text) else None
    if not isinstance(place, StorePath):
        return os.path.isdir(place or text)
    if text.endswith("/"):
        return True
    try:
        return place.is_folder()
    except UsageError:
        return False


def existing_objects(paths: Sequence[StorePath]) -> dict[object, StorePath]:
    """Those of the objects, of one bucket, that are there: each path -> the same with its status.

    Raises:
        UsageError: the store does not answer or refuses.
    """
    if not paths:
        return {}
    wanted = dict.fromkeys(paths)
    try:
        if len(wanted) <= _FEW:
            found = [replace(path, status=status) for path in wanted if (status := path.stat()) is not None]
        else:
            columns = zip(*(path.parent.key.split("/") for path in wanted), strict=False)
            common = [parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, columns)]
            found = [path for path in replace(paths[0], key="/".join(common)).find() if path in wanted]
    except IdsrError as error:
        hint = "`--existing overwrite` does not look at what is there"
        raise UsageError(error.reason, path=error.path, hint=hint) from error
    return {path: path for path in found}


def _local_name(url: str) -> str:
    from fsspec.implementations.local import LocalFileSystem

    return str(LocalFileSystem._strip_protocol(url))


@functools.cache
def _filesystem(protocol: str) -> Any:
    """Access to a store. It forgets listings, so that every look is at what is there now.

    Raises:
        UsageError: its package is not installed, or cannot be set up.
    """
    import fsspec

    try:
        return fsspec.filesystem(protocol, use_listings_cache=False)
    except ImportError as error:
        from fsspec.registry import known_implementations

        package = known_implementations[protocol]["class"].partition(".")[0]
        raise UsageError(
            f"`{protocol}://` needs the package {package}: {one_line(error.__cause__ or error)}",
            hint=f"pip install {package}",
        ) from error
    except Exception as error:  # each package has errors of its own
        raise UsageError(f"`{protocol}://` cannot be used: {one_line(error)}") from error


@contextmanager
def _telling(path: StorePath, kind: type[IdsrError], what: str) -> Iterator[None]:
    """Turn the errors of a store's package into one line."""
    try:
        yield
    except IdsrError:
        raise
    except Exception as error:  # botocore, google-auth and aiohttp have errors of their own, which are no OSError
        if is_out_of_memory(error):
            raise
        raise kind(f"{what}: {_reason(error)}", path=path) from error


def _reason(error: Exception) -> str:
    told = one_line(error)
    if isinstance(error, FileNotFoundError):
        return "no such object or bucket"
    if isinstance(error, PermissionError):
        return "permission denied" if told == type(error).__name__ else f"permission denied ({told})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return told if told == type(error).__name__ else f"{type(error).__name__}: {told}"


def _status(info: dict[str, Any]) -> Status:
    return Status(info.get("size"), _seconds(info))


def _seconds(info: dict[str, Any]) -> float:
    """When an object was written. Each package has a name and a type for it."""
    names = ("LastModified", "last_modified", "updated", "mtime", "created")
    value = next((info[name] for name in names if info.get(name) is not None), 0.0)
    if isinstance(value, str):
        value = datetime.fromisoformat(value.replace("Z", "+00:00"))
    return value.timestamp() if isinstance(value, datetime) else float(value)
