"""`idsr --version`, and with `-v` what a bug report needs: libraries, device, weights."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from idsr_cli import __version__
from idsr_cli.errors import IdsrError

LIBRARIES = ("opencv-contrib-python", "numpy", "pillow", "safetensors", "typer", "rich")
EXTRAS = ("ncnn", "pycolmap", "h5py", "matplotlib")


def short() -> str:
    """Name and version."""
    return f"idsr {__version__}"


def detailed() -> list[str]:
    """Name, version and everything that results depend on, a line each."""
    import torch

    lines = [
        short(),
        f"python   {platform.python_version()}, {platform.platform()}",
        f"torch    {torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()} processors",
        f"device   {_devices()}",
        f"weights  {_weights()}",
        *(f"{name} {_installed(name)}" for name in (*LIBRARIES, *EXTRAS)),
    ]
    for names in ("IDSR_WEIGHTS", "IDSR_WEIGHTS_DIR", "IDSR_DEVICE", "IDSR_ENGINE"):
        if names in os.environ:
            lines.append(f"{names}={os.environ[names]}")
    return lines


def _devices() -> str:
    import torch

    from idsr_cli.runtime.devices import choose_device

    cards = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "torch built without CUDA"
    return f"{choose_device('auto')} ({', '.join([*cards, cuda])})"


def _weights() -> str:
    from idsr_cli.weights import find_weights

    try:
        pair = find_weights(os.environ.get("IDSR_WEIGHTS") or None)
    except IdsrError as error:
        return str(error)
    return f"{pair.name} {pair.sha256[:12]} in {pair.dprnet.path.parent}"


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
