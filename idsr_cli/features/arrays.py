"""What numpy and torch call by different names, so that one code serves arrays on a CPU and tensors on CUDA.

torch is imported where tensors are; on a CPU SIFT needs numpy and OpenCV only.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

Array = Any  # numpy.ndarray, or torch.Tensor on CUDA


def on_cpu(array: Array) -> bool:
    """Whether it is numpy's."""
    return isinstance(array, np.ndarray)


def library(array: Array) -> Any:
    """The module, numpy or torch. Used for functions that both have: where, stack, amax, roll, ..."""
    return np if on_cpu(array) else sys.modules["torch"]


def beside(values: Any, array: Array) -> Array:
    """Numbers, as an array of the library and on the device of `array`."""
    return np.asarray(values) if on_cpu(array) else library(array).as_tensor(values, device=array.device)


def whole(array: Array) -> Array:
    """int64."""
    return array.astype(np.int64) if on_cpu(array) else array.long()


def single(array: Array) -> Array:
    """float32."""
    return array.astype(np.float32) if on_cpu(array) else array.float()


def host(array: Array) -> np.ndarray:
    """numpy's; a copy only if it is on another device."""
    found: np.ndarray = array if on_cpu(array) else array.cpu().numpy()
    return found


def stable_order(keys: Array) -> Array:
    """Indices that sort keys along the last axis; equal ones stay in their order."""
    return np.argsort(keys, kind="stable") if on_cpu(keys) else library(keys).argsort(keys, stable=True)


def run_ends(*columns: np.ndarray) -> np.ndarray:
    """(N,) the end of each place's run: the first place after it where one of the `columns`, (N,) each, changes."""
    changed = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    ends = np.append(np.flatnonzero(changed) + 1, len(columns[0]))
    return np.repeat(ends, np.diff(ends, prepend=0))
