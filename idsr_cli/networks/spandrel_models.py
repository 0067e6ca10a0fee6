"""Image restoration networks of other projects, recognised, built and loaded by spandrel (the extra `spandrel`).

It knows the checkpoints of many published networks by their tensors. Those that map an RGB image to one of the same
size are used like a foreign checkpoint of idsr. Networks for super-resolution, inpainting or faces are refused, since
their output is not the photograph without rain. `spandrel_extra_arches`, whose networks have more restrictive licences,
is used if the user has installed it.

spandrel pads images to the size that a network requires. It says which networks may be run in tiles; their receptive
field is not known, so tiles overlap by `HALO` pixels.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from idsr_cli.errors import WeightsError
from idsr_cli.networks.layout import Layout

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

HALO = 64
# Activations that live at the same time, in units of the largest.
_LIVE = 6.0
_PROBE = 64  # side of the picture with which activations are counted, pixels


class Restorer(nn.Module):
    """A network of spandrel: (1, 3, H, W) RGB in [0, 1] -> the same, any size, in [0, 1].

    Attributes:
        name: of the architecture, for messages.
        record: what running it takes.
        precisions: the types of numbers that it works in.
    """

    def __init__(self, descriptor: ImageModelDescriptor[Any]) -> None:
        super().__init__()
        self.model = descriptor.model
        self._run = descriptor
        self.name: str = descriptor.architecture.name
        flags = {torch.float16: descriptor.supports_half, torch.bfloat16: descriptor.supports_bfloat16}
        self.precisions = {torch.float32, *(dtype for dtype, works in flags.items() if works)}
        self.record = _record(descriptor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._run(x)


def load(state: Mapping[Any, Any]) -> Restorer | None:
    """The network of a checkpoint, for use on the CPU; None if spandrel does not know it or is not installed.

    Raises:
        WeightsError: spandrel knows it, but it is no restorer of RGB images, or its tensors do not fit.
    """
    loader = _loader()
    if loader is None:
        return None
    from spandrel import ImageModelDescriptor, UnsupportedModelError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of architectures, about functions of torch that will change
            found = loader.load_from_state_dict(dict(state))
    except UnsupportedModelError:
        return None
    except Exception as error:  # whatever an architecture's own code raises
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"cannot be loaded by spandrel: {first[:120]}", hint="is the file complete?") from error
    channels = (found.input_channels, found.output_channels)
    if not isinstance(found, ImageModelDescriptor) or found.scale != 1 or channels != (3, 3):
        raise WeightsError(
            f"is no restorer of RGB images, but {found.architecture.name}: {found.purpose}, scale {found.scale}, "
            f"{channels[0]} to {channels[1]} channels",
            hint="use a network whose output has the size and colours of its input",
        )
    return Restorer(found).eval().requires_grad_(False)


def _loader() -> Any:
    """The loader, or None if spandrel is not installed.

    Raises:
        WeightsError: it is installed and cannot be imported.
    """
    if find_spec("spandrel") is None:
        return None
    try:
        found = imported()
    except Exception as error:  # whatever a library's import raises
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"spandrel cannot be imported: {first[:120]}", hint="reinstall it") from error
    return found.ModelLoader(device="cpu")


def imported() -> Any:
    """The module `spandrel`, with the networks of `spandrel_extra_arches` if that is installed.

    Raises:
        Exception: whatever an import raises; ModuleNotFoundError without spandrel.
    """
    ready = "spandrel" in sys.modules or _torchvision_works()
    with nullcontext() if ready else _stand_in_for_torchvision():
        import spandrel

        try:
            import spandrel_extra_arches
        except ModuleNotFoundError:
            pass
        else:
            spandrel_extra_arches.install(ignore_duplicates=True)
    return spandrel


def _torchvision_works() -> bool:
    """False if it is missing or built for another torch, such as one with CUDA beside a torch for CPUs."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about parts that do not load
            importlib.import_module("torchvision")
    except Exception:
        return False
    return True


@contextmanager
def _stand_in_for_torchvision() -> Iterator[None]:
    """A torchvision in which the names that spandrel imports exist, and nothing works.

    spandrel imports it for two networks, LaMa (inpainting) and RestoreFormer (faces), which are refused anyway.
    """
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    modules = {name: ModuleType(name) for name in names}
    for name in ("InterpolationMode", "rotate", "normalize"):
        setattr(modules[names[-1]], name, None)
    # A failed import leaves parts of torchvision behind.
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "torchvision"}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
        sys.modules.update(hidden)


def _record(descriptor: ImageModelDescriptor[Any]) -> Layout:
    from spandrel import ModelTiling

    size = descriptor.size_requirements
    multiple = max(1, size.multiple_of)
    whole = descriptor.tiling is not ModelTiling.SUPPORTED
    return Layout(
        build=lambda: Restorer(descriptor),
        recognise=lambda names: False,
        configure=lambda tensors, role: {},
        multiple=multiple,
        # Tiles begin where the network's own grid does.
        halo=-(-HALO // multiple) * multiple,
        # Networks that look at the whole image are run in tiles only if memory runs out or the user asks for it.
        bytes_per_pixel=1.0 if whole else _bytes_per_pixel(descriptor),
    )


def _bytes_per_pixel(descriptor: ImageModelDescriptor[Any]) -> float:
    """Working memory in float32 per pixel, estimated from the largest activation."""
    largest = 0

    def note(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, torch.Tensor):
            largest = max(largest, output.numel())

    hooks = [module.register_forward_hook(note) for module in descriptor.model.modules()]
    try:
        descriptor.model.eval()
        descriptor(torch.zeros(1, 3, _PROBE, _PROBE))
    finally:
        for hook in hooks:
            hook.remove()
    return _LIVE * 4 * max(largest, 3 * _PROBE**2) / _PROBE**2
