"""Photographs, keypoints and results to show on a contact sheet."""

from collections.abc import Callable
from pathlib import PurePath
from typing import Any

import numpy as np
import pytest

from idsr_cli.errors import ItemError
from idsr_cli.images.photo import Photo
from idsr_cli.keypoints import Keypoints
from idsr_cli.runs.batch import Result, Saved
from idsr_cli.runs.contact_sheet.thumbnails import LARGE, Thumbnails, make
from idsr_cli.runs.plan import Item


def keypoints(xy: np.ndarray, size: tuple[int, int], scale: float | np.ndarray = 2.0) -> Keypoints:
    n = len(xy)
    f, i = np.ones(n, np.float32), np.zeros(n, np.int32)
    scales = np.broadcast_to(np.float32(scale), n)
    return Keypoints(np.float32(xy).reshape(n, 2), scales, f, f, i, i, np.zeros((n, 128), np.uint8), size)


@pytest.fixture
def points() -> Callable[..., Keypoints]:
    return keypoints


@pytest.fixture
def thumbnails() -> Thumbnails:
    """Of a photograph with rain in it, derained, with keypoints."""
    rainy = np.random.default_rng(0).random((48, 64, 3), np.float32)
    before, after = (keypoints(np.random.default_rng(1).random((n, 2)) * (63, 47), (64, 48)) for n in (7, 12))
    return make(Photo(rainy), LARGE, rainy * np.float32(0.5), before, after)


def result(name: str = "a.jpg", *, status: Any = "ok", stale: str = "", seconds: float = 1.5, **saved: Any) -> Result:
    item = Item(None if name == "-" else PurePath(name), None, PurePath(name), stale=stale)  # type: ignore[arg-type]
    if status == "failed":
        return Result(item, "failed", seconds, error=ItemError("it is <b>torn</b>", path=name))
    if status == "skipped":
        return Result(item, "skipped", seen=saved.get("thumbnails"))
    return Result(item, "ok", seconds, Saved(64, 48, **saved))


@pytest.fixture
def a_result() -> Callable[..., Result]:
    return result
