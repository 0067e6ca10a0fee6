"""Which library runs a network: torch, which runs every network on every device, or ncnn, the faster one on CPUs.

torch is imported by `load` only. A run with networks that are `kept` does without it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from idsr_cli.errors import DeviceError, choices_hint, extra_hint
from idsr_cli.runtime import ncnn_engine, ncnn_store

if TYPE_CHECKING:
    import torch
    from torch import nn

    from idsr_cli.networks.layout import Layout
    from idsr_cli.runtime.runner import Runner

ENGINES = ("auto", "torch", "ncnn")
_USE_TORCH = "use the engine `torch`"
# `cv::CPU_AVX512_SKX`, which torch's own kernels for AVX-512 need. OpenCV's Python module lacks the name.
_AVX512 = 256


def check_engine(name: str) -> None:
    """Refuse other names than `ENGINES`.

    Raises:
        DeviceError: an unknown name.
    """
    if name not in ENGINES:
        raise DeviceError(f"unknown engine `{name}`", hint=choices_hint(str(name), ENGINES))


def together(names: Iterable[str]) -> str:
    """One name of what runs several networks: "ncnn,torch" of ["ncnn,torch", "torch"]."""
    return ",".join(sorted(set(",".join(names).split(","))))


def torch_is_as_fast() -> bool:
    """Whether torch is as fast as ncnn on this processor: where it has AVX-512.

    There torch computes a convolution so fast that Winograd's method, which has fewer operations but moves more memory,
    gains nothing (docs/speed.md). OpenCV knows the instructions too, and is imported in a tenth of torch's time.
    """
    import cv2

    return cv2.checkHardwareSupport(_AVX512)


def kept(identity: str, device: str, precision: str, engine: str = "auto") -> Runner | None:
    """The runner of a network that an earlier run wrote down for ncnn, ready to run; None if `load` has to make it.

    Does not import torch.

    Args:
        identity: of the weights, `Weights.identity`.
        device: from `runtime.devices.device_name`.
        precision: from `runtime.precision.choose_precision`.
        engine: as for `load`.

    Raises:
        DeviceError: an unknown engine.
    """
    check_engine(engine)
    if engine == "torch" or (device, precision) != ("cpu", "fp32") or not ncnn_engine.is_installed():
        return None
    if engine == "auto" and torch_is_as_fast():
        return None
    graph = ncnn_store.kept(identity)
    if graph is None or not (engine == "ncnn" or graph.gains):
        return None
    try:
        return ncnn_engine.NcnnRunner(graph)
    except (OSError, RuntimeError, ImportError):  # `load` meets it too, and says what it is
        return None


def load(
    network: nn.Module,
    layout: Layout,
    device: torch.device,
    dtype: torch.dtype,
    engine: str = "auto",
    identity: str | None = None,
) -> Runner:
    """The network on its device and engine, ready to run.

    Args:
        network: in evaluation mode, on the CPU.
        layout: its record.
        device: from `runtime.devices.choose_device`.
        dtype: one of `runtime.torch_engine.DTYPES`.
        engine: one of `ENGINES`; "auto" is ncnn if the device is a CPU without AVX-512, the type is float32, ncnn is
            installed and the network is made of 3x3 convolutions, and otherwise torch. The runner's `remark` then says
            why, on a CPU.
        identity: of the weights, `Weights.identity`: what is written down for ncnn is `kept` for later runs. None =
            it is not.

    Raises:
        DeviceError: the engine "ncnn" cannot run it, or is not installed.
    """
    import torch

    from idsr_cli.runtime import torch_engine
    from idsr_cli.runtime.ncnn_graph import NotConvertibleError, convert

    check_engine(engine)
    reason, hint = "", _USE_TORCH
    if device.type != "cpu" or dtype != torch.float32:
        if engine == "ncnn":
            raise DeviceError("ncnn runs networks on the device `cpu`, in the precision `fp32`", hint=hint)
    elif engine == "auto" and torch_is_as_fast():
        reason = "torch is as fast as ncnn on this processor"
    elif engine != "torch":
        if not ncnn_engine.is_installed():
            reason, hint = "ncnn is not installed", extra_hint("fast")
        else:
            try:
                graph = convert(network, layout)
                if engine == "ncnn" or graph.gains:
                    runner = ncnn_engine.NcnnRunner(graph)
                    if identity is not None:
                        ncnn_store.keep(identity, graph)
                    return runner
                reason = "ncnn is faster only with 3x3 convolutions"
            except NotConvertibleError as error:
                reason = f"ncnn cannot run this network: {error}"
            except (OSError, RuntimeError, ImportError) as error:
                reason = f"ncnn cannot be used: {error}"
        if engine == "ncnn":
            raise DeviceError(reason, hint=hint)
    by_torch = torch_engine.load(network, layout, device, dtype)
    by_torch.remark = reason
    return by_torch
