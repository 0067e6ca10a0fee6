"""The count of operations that SIFT starts on CUDA."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from idsr_cli.features import sift


def test_more_keypoints_take_no_more_operations(script: Callable[[str], ModuleType]) -> None:
    """On a card the start of an operation is what costs time, so their number must not grow with the keypoints."""
    benchmark = script("splice_operations")
    rng = np.random.default_rng(0)
    few, many = np.full((2, 240, 320), 128, np.float32)
    noise = rng.normal(0, 60, many.shape).astype(np.float32)
    few[100:130, 100:130] += noise[100:130, 100:130]
    many += noise
    found = {}
    for name, image in (("few", few), ("many", many)):
        keypoints, counting = benchmark.count(image)
        assert keypoints == pytest.approx(len(sift(image)), rel=0.01)
        assert counting.waits >= 3
        found[name] = keypoints, counting.started.total()
    assert found["many"][0] > 10 * found["few"][0] > 0
    assert 300 < found["few"][1] <= found["many"][1] < 1500
    assert found["many"][1] < 1.5 * found["few"][1]
