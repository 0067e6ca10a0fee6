"""How many operations SIFT starts on CUDA, counted without a card: its code for tensors runs on a CPU.

    python benchmarks/splice_operations.py photograph.png

On a card a photograph of a megapixel takes about as long as a small one: starting an operation takes longer than most
of them, and the card runs dry while the processor waits for a number, such as that of the keypoints. Prints how many
operations and waits there are with one pyramid (`--splice DD`), and where they come from. Operations that only look at
memory in another way are not counted, since they start nothing.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from command_line import plain_errors
from torch.utils._python_dispatch import TorchDispatchMode

from idsr_cli.features import sift
from idsr_cli.images.photo import read_photo
from idsr_cli.scale_space import grey_image

# Beginnings of the names of operations that start nothing on a card, and of those that make the processor wait for it.
_NOTHING = (
    "alias", "as_strided", "detach", "empty", "expand", "lift", "permute", "select", "slice", "split", "squeeze", "t.",
    "transpose", "unbind", "unsqueeze", "view", "_unsafe_view",
)  # fmt: skip
_WAITS = ("_local_scalar", "equal.", "is_nonzero", "masked_select", "nonzero", "unique")


class Counting(TorchDispatchMode):
    """Counts operations by the function of idsr that starts them, and those that wait."""

    def __init__(self) -> None:
        super().__init__()
        self.started: Counter[str] = Counter()
        self.waits = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).removeprefix("aten.")
        if not name.startswith(_NOTHING):
            frames = [f for f in traceback.extract_stack(limit=16) if "idsr_cli" in f.filename]
            self.started[f"{Path(frames[-1].filename).name}: {frames[-1].name}" if frames else "elsewhere"] += 1
            self.waits += name.startswith(_WAITS)
        return func(*args, **(kwargs or {}))


@contextmanager
def code_for_cuda() -> Iterator[Counting]:
    """Within it, tensors on the CPU stay tensors, as they do on CUDA."""
    with (
        patch.object(import_module("idsr_cli.features.splice"), "_checked", lambda image: image),
        Counting() as counting,
    ):
        yield counting


def count(grey: np.ndarray) -> tuple[int, Counting]:
    """Keypoints and operations of SIFT; (H, W) float32, 0..255."""
    with code_for_cuda() as counting:
        found = len(sift(torch.from_numpy(grey)))
    return found, counting


@plain_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    options = parser.parse_args()
    keypoints, counting = count(grey_image(read_photo(options.photo).oriented_rgb))
    print(f"{keypoints} keypoints, {counting.started.total()} operations, {counting.waits} waits")
    for place, times in counting.started.most_common(12):
        print(f"{times:6} {place}")


if __name__ == "__main__":
    sys.exit(main())
