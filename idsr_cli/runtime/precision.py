"""The floating-point type that a network computes in."""

from __future__ import annotations

import torch

from idsr_cli.errors import DeviceError, choices_hint

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The type of that name; `auto` is float32 on a CPU and on MPS, bfloat16 on CUDA cards that have it, else float16.

    Raises:
        DeviceError: unknown name, or float16 on a CPU, where it is slow and inexact.
    """
    if name == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if not isinstance(name, str) or name not in PRECISIONS:
        raise DeviceError(f"unknown precision `{name}`", hint=choices_hint(str(name), ("auto", *PRECISIONS)))
    if name == "fp16" and device.type == "cpu":
        raise DeviceError("float16 is not for CPUs", hint="use the precision `fp32` or `bf16`")
    return PRECISIONS[name]


def precision_name(dtype: torch.dtype) -> str:
    """The name of a type: "fp32", "bf16" or "fp16"."""
    return next(name for name, kind in PRECISIONS.items() if kind == dtype)
