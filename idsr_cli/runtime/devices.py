"""Which device a network runs on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from idsr_cli.errors import DeviceError, choices_hint

if TYPE_CHECKING:
    import torch

# Under Linux no GPU can be used without one of these in /dev: of NVIDIA's cards, its Jetson boards, Windows' cards
# under WSL, AMD's cards.
_NODES = ("nvidia*", "nvhost*", "nvmap", "dxg", "kfd")


def device_name(name: str) -> str:
    """The name of the device that `choose_device` gives, "cpu", "cuda", "cuda:1" or "mps"; the same errors.

    Does not import torch, which takes 1.8 s of processor time, where the answer can only be "cpu".
    """
    return "cpu" if name == "cpu" or (name == "auto" and not _may_have_gpu()) else str(choose_device(name))


def _may_have_gpu(nodes: Path = Path("/dev")) -> bool:
    """False only if torch certainly finds no GPU here."""
    return not sys.platform.startswith("linux") or any(next(nodes.glob(node), None) for node in _NODES)


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` takes CUDA if available, then Apple's MPS, then the CPU.

    Raises:
        DeviceError: unknown name, or not available here.
    """
    import torch

    kind, _, number = name.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (number and not (kind == "cuda" and number.isdigit())):
        raise DeviceError(f"unknown device `{name}`", hint=choices_hint(name, ("auto", "cpu", "cuda", "cuda:N", "mps")))
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    elif kind == "cuda" and not torch.cuda.is_available():
        built = torch.version.cuda is not None
        raise DeviceError(
            "no CUDA device here" if built else "this torch is built without CUDA",
            hint="use the device `cpu`" if built else "install a CUDA build of torch, or use the device `cpu`",
        )
    elif kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise DeviceError(f"no device `{name}`", hint=f"there are {torch.cuda.device_count()}, counted from 0")
    elif kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("no MPS device here", hint="use the device `cpu`")
    return torch.device(kind, int(number)) if number else torch.device(kind)
