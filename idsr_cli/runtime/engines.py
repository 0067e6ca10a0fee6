"""Which library runs a network: torch, which runs every network on every device, or ncnn, the faster one on CPUs."""

from __future__ import annotations

import torch
from torch import nn

from idsr_cli.errors import DeviceError, choices_hint, extra_hint
from idsr_cli.networks.layout import Layout
from idsr_cli.runtime import ncnn_engine, torch_engine
from idsr_cli.runtime.ncnn_graph import NotConvertibleError, convert
from idsr_cli.runtime.runner import Runner

ENGINES = ("auto", "torch", "ncnn")
_USE_TORCH = "use the engine `torch`"
# There torch computes a convolution so fast that Winograd's method, which has fewer operations but moves more memory,
# gains nothing (docs/speed.md).
_TORCH_IS_AS_FAST = ("AVX512",)


def check_engine(name: str) -> None:
    """Refuse other names than `ENGINES`.

    Raises:
        DeviceError: an unknown name.
    """
    if name not in ENGINES:
        raise DeviceError(f"unknown engine `{name}`", hint=choices_hint(str(name), ENGINES))


def load(network: nn.Module, layout: Layout, device: torch.device, dtype: torch.dtype, engine: str = "auto") -> Runner:
    """The network on its device and engine, ready to run.

    Args:
        network: in evaluation mode, on the CPU.
        layout: its record.
        device: from `runtime.devices.choose_device`.
        dtype: from `runtime.precision.choose_precision`.
        engine: one of `ENGINES`; "auto" is ncnn if the device is a CPU without AVX-512, the type is float32, ncnn is
            installed and the network is made of 3x3 convolutions, and otherwise torch. The runner's `remark` then says
            why, on a CPU.

    Raises:
        DeviceError: the engine "ncnn" cannot run it, or is not installed.
    """
    check_engine(engine)
    reason, hint = "", _USE_TORCH
    if device.type != "cpu" or dtype != torch.float32:
        if engine == "ncnn":
            raise DeviceError("ncnn runs networks on the device `cpu`, in the precision `fp32`", hint=hint)
    elif engine == "auto" and torch.backends.cpu.get_cpu_capability() in _TORCH_IS_AS_FAST:
        reason = "torch is as fast as ncnn on this processor"
    elif engine != "torch":
        if not ncnn_engine.is_installed():
            reason, hint = "ncnn is not installed", extra_hint("fast")
        else:
            try:
                graph = convert(network, layout)
                if engine == "ncnn" or graph.gains:
                    return ncnn_engine.NcnnRunner(graph, layout)
                reason = "ncnn is faster only with 3x3 convolutions"
            except NotConvertibleError as error:
                reason = f"ncnn cannot run this network: {error}"
            except (OSError, RuntimeError, ImportError) as error:
                reason = f"ncnn cannot be used: {error}"
        if engine == "ncnn":
            raise DeviceError(reason, hint=hint)
    runner = torch_engine.load(network, layout, device, dtype)
    runner.remark = reason
    return runner
