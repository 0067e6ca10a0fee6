"""Errors in plain words, and all forms of out-of-memory errors."""

import pytest

from idsr_cli.errors import ItemError
from idsr_cli.files.faults import is_full_disk, is_out_of_memory, item_error


def test_real_ones() -> None:
    import cv2
    import numpy as np
    import torch

    with pytest.raises(RuntimeError) as on_cpu:
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(MemoryError) as in_numpy:
        np.empty(2**60, np.uint8)
    insufficient = cv2.error("OpenCV(5.0.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 9 bytes")
    for error in (on_cpu.value, in_numpy.value, torch.OutOfMemoryError("CUDA out of memory."), insufficient):
        assert is_out_of_memory(error)
        assert item_error(error, "x.jpg").reason == "out of memory"
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"))


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("out of memory"), KeyError("memory")])
def test_others(error) -> None:
    assert not is_out_of_memory(error)
    assert item_error(error, "x.jpg").reason.startswith("unexpected ")


def test_expected_errors_stay_as_they_are() -> None:
    error = ItemError("the file is empty")
    assert item_error(error) is error
    assert str(item_error(OSError(28, "No space left on device"), "x")) == "x: no space left on device"


def test_full_disks() -> None:
    full = OSError(28, "No space left on device")
    said = item_error(full)
    said.__cause__ = full
    assert is_full_disk(full)
    assert is_full_disk(said)
    for other in (None, ItemError("no space left on device"), OSError(2, "gone"), ValueError(28)):
        assert not is_full_disk(other)
