"""The networks: built by name, and recognised by the tensors of a checkpoint.

`layouts.LAYOUTS` maps a layout's name, as stored in a weights file, to its record (`layout.Layout`). Roles are separate
from layouts: "dprnet" and "ggirnet" are the same layout with spatial or gradient attention, or two files of a network
without role-specific attention.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn

from idsr_cli.errors import WeightsError, choices_hint
from idsr_cli.networks.layout import ROLES, Layout
from idsr_cli.networks.layouts import LAYOUTS
from idsr_cli.networks.released import ReleasedNet
from idsr_cli.networks.unet import BASE, RainUNet

__all__ = [
    "BASE",
    "LAYOUTS",
    "ROLES",
    "Layout",
    "RainUNet",
    "ReleasedNet",
    "build",
    "canonical",
    "infer",
    "layout_of",
    "opened",
    "preset",
    "recognised",
]


def layout_of(name: str) -> Layout:
    """The record of a layout.

    Raises:
        WeightsError: an unknown layout.
    """
    if name not in LAYOUTS:
        raise WeightsError(f"unknown network layout `{name}`", hint=choices_hint(name, LAYOUTS, "known:"))
    return LAYOUTS[name]


def build(layout: str, config: Mapping[str, Any]) -> nn.Module:
    """A new network of the layout.

    Raises:
        WeightsError: an unknown layout, or a configuration the layout does not take.
    """
    record = layout_of(layout)
    try:
        return record.build(**config)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"configuration does not fit layout `{layout}`: {error}") from error


def preset(name: str, role: str) -> tuple[str, dict[str, Any]]:
    """(layout, configuration) of a preset in a role.

    Raises:
        KeyError: no layout has such a preset.
    """
    for layout, record in LAYOUTS.items():
        if name in record.presets:
            return layout, record.role_config(record.presets[name], role)
    raise KeyError(name)


def canonical(state: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    """The tensors of `opened`, with the same errors."""
    return opened(state)[0]


def opened(state: Mapping[Any, Any]) -> tuple[dict[str, torch.Tensor], str]:
    """A plain name -> tensor dict from a checkpoint, its wrappers opened and prefixes stripped, and a remark.

    If no layout recognises the tensors, they are unwrapped as those of the first layout. The remark names the averaged
    copy that was taken although there is another one, or is "".

    Raises:
        WeightsError: there are no tensors in it.
    """
    found = {layout: record.unwrapped(state) for layout, record in LAYOUTS.items()}
    matching = (both for layout, both in found.items() if LAYOUTS[layout].recognise(both[0]))
    tensors, average = next(matching, next(iter(found.values())))
    if not tensors:
        raise WeightsError("holds no tensors", hint="expected a state dict, plain or under `state_dict`")
    return tensors, f"the averaged copy `{average}` is used, not the other one in the file" if average else ""


def recognised(names: Collection[str]) -> str | None:
    """Name of the layout that tensors of these names belong to; None if no layout known here has such tensors."""
    for layout, record in LAYOUTS.items():
        if record.recognise(names) or record.recognise({record.bare_name(name) for name in names}):
            return layout
    return None


def infer(tensors: Mapping[str, torch.Tensor], role: str) -> tuple[str, dict[str, Any]]:
    """Layout and configuration, derived from tensor names and shapes.

    Args:
        tensors: canonical state.
        role: "dprnet" or "ggirnet": files of the released layout hold both attentions, and the role selects one.

    Raises:
        WeightsError: no known layout has these tensors, or a tensor needed for the configuration is missing.
    """
    layout = recognised(tensors)
    if layout is None:
        known = f"known layouts: {', '.join(LAYOUTS)}; with the extra `spandrel`, other projects' restorers"
        raise WeightsError("has the tensors of no network known here", hint=known)
    return layout, LAYOUTS[layout].configure(tensors, role)
