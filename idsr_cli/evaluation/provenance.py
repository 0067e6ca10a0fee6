"""Everything that the numbers of an evaluation depend on; it is shown with every table."""

from __future__ import annotations

import hashlib
import platform
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from idsr_cli import __version__
from idsr_cli.evaluation import metrics
from idsr_cli.evaluation.bootstrap import INTERVAL_RULE
from idsr_cli.features import SiftOptions
from idsr_cli.weights import WeightsPair

SIFT_RULE = "OpenCV's SIFT with precise upscale, on unrounded luminance 0.299 R + 0.587 G + 0.114 B"


def versions() -> dict[str, str]:
    """Versions of idsr and of the libraries that its numbers depend on."""
    import cv2
    import PIL
    import torch

    return {
        "idsr": __version__, "python": platform.python_version(), "torch": torch.__version__,
        "opencv": cv2.__version__, "numpy": np.__version__, "pillow": PIL.__version__,
    }  # fmt: skip


def describe_weights(pair: WeightsPair) -> dict[str, str]:
    """Name, hash of the two files, and the splice that scored best with them."""
    return {"name": pair.name, "sha256": pair.sha256, "splice": pair.splice}


def conventions() -> dict[str, Any]:
    """Definitions of the columns."""
    return {
        "matching": metrics.MATCHING_RULE, "psnr": metrics.PSNR_RULE, "ssim": metrics.SSIM_RULE,
        "pyramid": metrics.PYRAMID_RULE, **shared_conventions(),
    }  # fmt: skip


def shared_conventions() -> dict[str, Any]:
    """Definitions that apply to matching with known geometry too."""
    settings = {name: value for name, value in asdict(SiftOptions()).items() if value is not None}
    return {"intervals": INTERVAL_RULE, "sift": {"rule": SIFT_RULE, **settings}}


def command_line(arguments: Sequence[str]) -> str:
    """The command as typed, quoted for a shell."""
    return shlex.join(("idsr", *arguments))


class Fingerprint:
    """One hash over the pixels of a data set: reports with equal fingerprints scored the same pictures."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, *images: np.ndarray) -> None:
        """Add images, (H, W, 3) float32 each; the order matters."""
        for image in images:
            self._digest.update(str(image.shape).encode())
            self._digest.update(np.ascontiguousarray(image).data)

    @property
    def hexadecimal(self) -> str:
        return self._digest.hexdigest()
