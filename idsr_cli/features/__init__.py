"""SIFT on float images, on CPU and CUDA, equal to OpenCV's; can detect in one image and describe in another."""

from __future__ import annotations

from idsr_cli.features.options import SiftOptions
from idsr_cli.features.splice import sift, splice

__all__ = ["SiftOptions", "sift", "splice"]
