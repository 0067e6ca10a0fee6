"""Networks run by ncnn on a CPU: 3x3 convolutions by Winograd's method, with less arithmetic than torch's.

Results of the shipped networks are those of torch to 0.001 grey levels, and the same to the byte for any number of
threads.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from idsr_cli.place import Place
from idsr_cli.runtime.ncnn_store import INPUT, OUTPUT, Graph
from idsr_cli.runtime.threads import thread_count

if TYPE_CHECKING:
    import ncnn

# Memory that a run may take, bytes; what Python and the libraries take of it; what a pixel of the photograph takes, the
# restored one included. The rest is for a tile, but at least so much that tiles of photographs above 25 megapixels do
# not become small, which costs time.
_MEMORY, _LIBRARIES, _OF_A_PIXEL, _LEAST = 1.5e9, 0.2e9, 24, 0.7e9
# Patches from this many pixels on take so long that memory need not be kept for the next one.
_LARGE = 1 << 20
# A block of memory is used again for one that is at least this share of its size. With less, small blobs take up large
# blocks; with more, too many sizes are kept. With 0, 0.5 and 0.75, base would take 920, 690 and 930 bytes per pixel.
_SMALLEST_SHARE = 0.5
_OUT_OF_MEMORY = -100  # what `extract` returns


def is_installed() -> bool:
    """Whether the library is there; it is not imported."""
    return find_spec("ncnn") is not None


class NcnnRunner:
    """A `runtime.runner.Runner` for a network in float32.

    It uses as many threads as `runtime.threads.thread_count` says when it is made. Several Python threads may call it
    at once, and others go on while it runs.

    Args:
        graph: the network, as `ncnn_graph.convert` gives it.

    Raises:
        RuntimeError: ncnn does not take the network.
        OSError: the temporary folder cannot be written to.
    """

    engine = "ncnn"
    precision = "fp32"

    def __init__(self, graph: Graph) -> None:
        self.multiple, self.halo, self.bytes_per_pixel = graph.multiple, graph.halo, graph.bytes_per_pixel
        self.remark = ""
        self.on_progress: Callable[[float], object] = lambda share: None  # a patch is one call, and a small one
        self._pool, self._pixels = _pool(), 0
        self._network = loaded(graph, self._pool)

    def run(self, patch: np.ndarray, place: Place | None = None) -> np.ndarray:
        pixels = patch.shape[0] * patch.shape[1]
        if pixels != self._pixels:  # blocks of other sizes are of little use
            self.release()
        self._pixels = pixels
        result = self._run(patch)
        if pixels >= _LARGE:
            self.release()
        return result

    def _run(self, patch: np.ndarray) -> np.ndarray:
        import ncnn

        planes = np.ascontiguousarray(patch.transpose(2, 0, 1))
        extractor = self._network.create_extractor()
        # ncnn refers to the array's memory without keeping the array, and layers may write into their input: a copy.
        extractor.input(INPUT, ncnn.Mat(planes).clone())
        del planes
        status, result = extractor.extract(OUTPUT)
        if status == _OUT_OF_MEMORY:
            raise MemoryError("ncnn is out of memory")
        if status:
            raise RuntimeError(f"ncnn fails with status {status}")
        return np.ascontiguousarray(np.asarray(result).transpose(1, 2, 0))

    def memory(self, pixels: int) -> float:
        return max(_MEMORY - _LIBRARIES - _OF_A_PIXEL * pixels, _LEAST)

    def release(self) -> None:
        self._pool.clear()


def _pool() -> ncnn.PoolAllocator:
    """Memory for blobs and for layers' workspace alike: ncnn's default, a pool for each, keeps a third more."""
    import ncnn

    pool = ncnn.PoolAllocator()
    pool.set_size_compare_ratio(_SMALLEST_SHARE)
    return pool


def loaded(graph: Graph, pool: ncnn.PoolAllocator | None = None) -> Any:
    """The network in ncnn, an `ncnn.Net`; errors as for `NcnnRunner`.

    Args:
        graph: the network.
        pool: where its memory comes from; it must outlive the network, which does not keep it. None = ncnn's own pools.
    """
    import ncnn

    network: ncnn.Net = ncnn.Net()
    if pool is not None:
        network.opt.blob_allocator = network.opt.workspace_allocator = pool
    # It can only be set before the weights are loaded, which are arranged for this number.
    network.opt.num_threads = thread_count()
    for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(network.opt, f"use_{option}", False)
    network.opt.lightmode = True  # frees the result of a layer after its last use
    # `load_model_mem` would refer to a copy of the bytes that is gone after the call.
    with tempfile.TemporaryDirectory(prefix="idsr-") as folder:
        text, weights = Path(folder, "network.param"), graph.path or Path(folder, "network.bin")
        text.write_text(graph.text, encoding="ascii")
        if not graph.path:
            weights.write_bytes(graph.weights)
        if network.load_param(str(text)) or network.load_model(str(weights)):
            raise RuntimeError("ncnn does not take the network")
    return network
