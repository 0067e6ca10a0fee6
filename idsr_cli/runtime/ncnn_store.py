"""Networks as ncnn reads them, and the folder in which they are kept for later runs.

Writing a network down for ncnn takes torch (`ncnn_graph`), whose import takes longer than a small photograph. So what
was written is kept under the hash of the weights, and later runs with these weights do without torch. If the file was
written by another version of this package, or is damaged, or the folder cannot be written to, it is done again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from idsr_cli import __version__
from idsr_cli.errors import ItemError
from idsr_cli.files.atomic import write_bytes
from idsr_cli.files.cache import cache_folder

INPUT, OUTPUT = "in0", "out0"
# So many networks are kept, 15 MB each; the one that was not used for longest goes first.
KEPT = 8
_SUFFIX = ".graph"
_DIGEST = 64  # length of a sha256 in hexadecimal


@dataclass(frozen=True)
class Graph:
    """A network as ncnn reads it. Its input is the blob `INPUT`, its restored image the blob `OUTPUT`: (3, H, W).

    Attributes:
        text: the layers, the contents of a `.param` file.
        weights: float32, the contents of its `.bin` file.
        gains: most weights are those of 3x3 convolutions of stride 1, for which ncnn has Winograd's method.
        multiple, halo: as in the network's `Layout`.
        bytes_per_pixel: its `ncnn_bytes_per_pixel`.
        path: a file that begins with `weights`, if there is one.
    """

    text: str
    weights: bytes
    gains: bool
    multiple: int
    halo: int
    bytes_per_pixel: float
    path: Path | None = field(default=None, compare=False)


def kept(identity: str) -> Graph | None:
    """What was kept of the weights with this `Weights.identity`; None if nothing can be used."""
    path = _path(identity)
    if path is None:
        return None
    try:
        data = path.read_bytes()
        end = max(0, len(data) - _DIGEST)
        if data[end:] != _digest(memoryview(data)[:end]):
            return None
        text_to = data.rfind(b"\n")
        about = json.loads(data[text_to:end])
        weights_to = text_to - about.pop("text")
        graph = Graph(data[weights_to:text_to].decode("ascii"), data[:weights_to], path=path, **about)
    except OSError:
        return None
    with suppress(OSError):
        os.utime(path)
    return graph


def keep(identity: str, graph: Graph) -> None:
    """Keep it for later runs, where that is possible."""
    path = _path(identity)
    if path is None:
        return
    about = asdict(graph)
    text, weights = about.pop("text").encode("ascii"), about.pop("weights")
    del about["path"]
    # The weights come first, so that ncnn can read them from this file.
    data = weights + text + b"\n" + json.dumps({**about, "text": len(text)}).encode("ascii")
    with suppress(OSError, ItemError):
        write_bytes(path, data + _digest(data))
        _forget(path.parent)


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).hexdigest().encode("ascii")


def _forget(folder: Path) -> None:
    """Remove the networks that were not used for longest."""
    ages = sorted(folder.glob(f"*{_SUFFIX}"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in ages[KEPT:]:
        path.unlink(missing_ok=True)


def _path(identity: str) -> Path | None:
    """The file of these weights; None if this package cannot tell its own version apart."""
    code = _code()
    if not code:
        return None
    return cache_folder() / ".ncnn" / f"{hashlib.sha256(f'{identity} {code}'.encode()).hexdigest()[:32]}{_SUFFIX}"


@functools.cache
def _code() -> str:
    """Hash of the version and of the code that decides what a network becomes; "" where the code is not at hand."""
    here = Path(__file__).parent
    sources = [here / "ncnn_graph.py", *sorted((here.parent / "networks").glob("*.py"))]
    try:
        return hashlib.sha256(b"".join([__version__.encode(), *(path.read_bytes() for path in sources)])).hexdigest()
    except OSError:
        return ""
