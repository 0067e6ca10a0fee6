"""The networks, and how a checkpoint's tensors tell which one they belong to.

`NETWORKS` maps a layout's name, as stored in a weights file, to its class. Roles are separate from layouts: "dprnet"
and "ggirnet" are the same layout with spatial or gradient attention.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from idsr_cli.errors import WeightsError
from idsr_cli.networks.released import ReleasedNet
from idsr_cli.networks.unet import RainUNet

__all__ = ["BASE", "NETWORKS", "PRESETS", "ROLES", "RainUNet", "ReleasedNet", "build", "canonical", "infer"]

NETWORKS: dict[str, type[nn.Module]] = {"unet": RainUNet, "released": ReleasedNet}
# What each role is made of unless the file says otherwise (paper, section III: CSARB and CGARB).
ROLES = {"dprnet": "spatial", "ggirnet": "gradient"}
# The shipped preset's shape; docs/base_preset.md has the comparison it was chosen by.
BASE: dict[str, Any] = {"widths": (48, 96, 128), "blocks": (2, 2, 9, 2, 2), "unshuffle": 2}
PRESETS: dict[str, tuple[str, dict[str, Any]]] = {"base": ("unet", BASE), "released": ("released", {})}


def build(layout: str, config: Mapping[str, Any]) -> nn.Module:
    """A new network of the layout.

    Raises:
        WeightsError: an unknown layout, or a configuration the layout does not take.
    """
    if layout not in NETWORKS:
        raise WeightsError(f"unknown network layout `{layout}`", hint=f"known: {', '.join(NETWORKS)}")
    try:
        return NETWORKS[layout](**config)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"configuration does not fit layout `{layout}`: {error}") from error


def canonical(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """A plain name -> tensor dict from a checkpoint: usual wrappers opened, `module.` prefixes stripped.

    Raises:
        WeightsError: there are no tensors in it.
    """
    for wrapper in ("state_dict", "params_ema", "params", "model_state_dict", "model", "net"):
        inner = state.get(wrapper)
        if isinstance(inner, Mapping):
            state = inner
            break
    tensors = {
        str(name).removeprefix("module."): value for name, value in state.items() if isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise WeightsError("holds no tensors", hint="expected a state dict, plain or under `state_dict`")
    return tensors


def infer(tensors: Mapping[str, torch.Tensor], role: str) -> tuple[str, dict[str, Any]]:
    """(layout, configuration) read off tensor names and shapes.

    Args:
        tensors: canonical state.
        role: "dprnet" or "ggirnet": the released layout carries both attentions, so only the role tells which is used.

    Raises:
        WeightsError: no known layout has these tensors.
    """
    if "head.0.weight" in tensors and "body.0.shortcut.weight" in tensors and "tail.0.weight" in tensors:
        count = 1 + max(int(m[1]) for n in tensors if (m := re.match(r"body\.(\d+)\.shortcut\.weight", n)))
        names = [f"body.{i}.shortcut.weight" for i in range(count)]
        if all(name in tensors for name in names):
            return "released", {"attention": ROLES[role], "widths": tuple(tensors[n].shape[0] for n in names)}
    if "head.weight" in tensors and "tail.weight" in tensors and "encoder.0.0.channel.squeeze.weight" in tensors:
        levels = 1 + max(int(m[1]) for n in tensors if (m := re.match(r"encoder\.(\d+)\.", n)))

        def depth(part: str, level: int) -> int:
            pattern = re.compile(rf"{part}\.{level}\.(\d+)\.")
            return 1 + max((int(m[1]) for n in tensors if (m := pattern.match(n))), default=-1)

        first = "encoder.0.0"
        attention = [kind for kind in ("gradient", "spatial") if f"{first}.{kind}.reduce.weight" in tensors]
        down = [f"down.{i}.weight" for i in range(levels - 1)]
        if missing := [name for name in down if name not in tensors]:
            raise WeightsError(f"tensor `{missing[0]}` is missing", hint="the file is damaged")
        widths = [tensors[name].shape[0] for name in ("head.weight", *down)]
        return "unet", {
            "widths": tuple(widths),
            "blocks": tuple(depth("encoder", i) for i in range(levels))
            + tuple(depth("decoder", i) for i in reversed(range(levels - 1))),
            "attention": "both" if len(attention) == 2 else attention[0] if attention else "none",
            "unshuffle": round((tensors["head.weight"].shape[1] / 3) ** 0.5),
            "edge_branches": f"{first}.conv1.plain.weight" in tensors,
        }
    raise WeightsError("has the tensors of no network known here", hint=f"known layouts: {', '.join(NETWORKS)}")
