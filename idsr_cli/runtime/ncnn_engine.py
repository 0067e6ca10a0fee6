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

# Working memory that one tile may take, bytes: as for torch.
_MEMORY = 1.5e9
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
        self._network = loaded(graph)

    def run(self, patch: np.ndarray, place: Place | None = None) -> np.ndarray:
        import ncnn

        planes = np.ascontiguousarray(patch.transpose(2, 0, 1))
        extractor = self._network.create_extractor()
        # ncnn refers to the array's memory without keeping the array, and layers may write into their input: a copy.
        extractor.input(INPUT, ncnn.Mat(planes).clone())
        status, result = extractor.extract(OUTPUT)
        if status == _OUT_OF_MEMORY:
            raise MemoryError("ncnn is out of memory")
        if status:
            raise RuntimeError(f"ncnn fails with status {status}")
        return np.ascontiguousarray(np.asarray(result).transpose(1, 2, 0))

    def memory(self) -> float:
        return _MEMORY

    def release(self) -> None:
        """Nothing is cached."""


def loaded(graph: Graph) -> Any:
    """The network in ncnn, an `ncnn.Net`; errors as for `NcnnRunner`."""
    import ncnn

    network: ncnn.Net = ncnn.Net()
    # It can only be set before the weights are loaded, which are arranged for this number.
    network.opt.num_threads = thread_count()
    for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(network.opt, f"use_{option}", False)
    network.opt.lightmode = True  # frees the result of a layer after its last use
    # `load_model_mem` would refer to a copy of the bytes that is gone after the call.
    with tempfile.TemporaryDirectory(prefix="idsr-") as folder:
        text, weights = Path(folder, "network.param"), Path(folder, "network.bin")
        text.write_text(graph.text, encoding="ascii")
        weights.write_bytes(graph.weights)
        if network.load_param(str(text)) or network.load_model(str(weights)):
            raise RuntimeError("ncnn does not take the network")
    return network
