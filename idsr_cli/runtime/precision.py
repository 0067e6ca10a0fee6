"""The floating-point type that a network computes in, by its name. torch's types are in `torch_engine`."""

from __future__ import annotations

from idsr_cli.errors import DeviceError, choices_hint

PRECISIONS = ("fp32", "bf16", "fp16")


def choose_precision(name: str, device: str) -> str:
    """One of `PRECISIONS`; `auto` is fp32 on a CPU and on MPS, bf16 on CUDA cards that have it, else fp16.

    On a CPU with AVX-512's bf16 instructions, bf16 took 1.6 times as long as fp32 (docs/speed.md).

    Args:
        name: as the user gave it.
        device: from `runtime.devices.device_name`.

    Raises:
        DeviceError: unknown name, or fp16 on a CPU, where it is slow and inexact.
    """
    if name == "auto":
        if not device.startswith("cuda"):
            return "fp32"
        import torch

        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if not isinstance(name, str) or name not in PRECISIONS:
        raise DeviceError(f"unknown precision `{name}`", hint=choices_hint(str(name), ("auto", *PRECISIONS)))
    if name == "fp16" and device == "cpu":
        raise DeviceError("float16 is not for CPUs", hint="use the precision `fp32` or `bf16`")
    return name
