"""`Layout`: everything that the rest of idsr has to know about one network file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

# The attention that each role of the paper uses (section III: CSARB and CGARB).
ROLES = {"dprnet": "spatial", "ggirnet": "gradient"}
# Keys under which training code puts an averaged copy of the weights (EMA) into a checkpoint. It is what is to be used.
AVERAGES = (
    *("params_ema", "ema_state_dict", "state_dict_ema", "model_ema", "network_ema", "net_ema", "netG_ema"),
    *("generator_ema", "g_ema", "ema_model", "ema", "average"),
)
# Keys under which it puts the state dict itself; the first one found counts.
WRAPPERS = (
    *("state_dict", "params", "model_state_dict", "model", "net", "network", "weights", "generator", "netG"),
    *("generator_state_dict", "net_state_dict", "network_state_dict", "model_weights"),
)
# What the names of tensors begin with where the network was part of something else: parallel, compiled, a member.
PREFIXES = ("module.", "_orig_mod.", "model.", "netG.", "net.", "network.", "generator.")
# The same for an averaged copy, beside the other one in one state dict.
AVERAGE_PREFIXES = tuple(f"{name}." for name in AVERAGES)
_DEEPEST = 4  # wrappers within wrappers


def _holds_tensors(value: object, depth: int = _DEEPEST) -> bool:
    """True if this is a state dict, or holds one."""
    if not isinstance(value, Mapping) or not depth:
        return False
    return any(isinstance(inner, torch.Tensor) or _holds_tensors(inner, depth - 1) for inner in value.values())


def unchanged(network: nn.Module) -> nn.Module:
    """The `finish` of a network that needs no change between training and use."""
    return network


@dataclass(frozen=True)
class Layout:
    """One network file: how its checkpoints are read, how it is built, and what running it takes.

    Attributes:
        build: makes the network; takes the configuration as keyword arguments. The network maps (B, 3, H, W) RGB in
            [0, 1] to an image of that shape, or to several tensors (see `outputs`). Raises TypeError or ValueError if
            the configuration does not fit.
        recognise: whether tensors with these names (wrappers and prefixes removed) belong to this network.
        configure: (tensors, role) -> the configuration, derived from names and shapes of the tensors; the role matters
            only if a file holds more attentions than one role uses. Raises WeightsError if a tensor is missing.
        multiple: height and width of the input must be multiples of this, pixels.
        halo: context that a tile needs on each side so that its result is that of the whole image, pixels.
        bytes_per_pixel: working memory of torch in float32 per input pixel.
        ncnn_bytes_per_pixel: working memory of ncnn; None = that of torch.
        wrappers: keys of a checkpoint under which the state dict may lie; the first one found counts. Averaged copies
            come first.
        prefixes: removed from the beginning of tensor names, as often and in any order as they come. If only some
            names have one, the others belong to another network and are left out. Names that are recognised as they are
            stay so.
        presets: name of `idsr train --preset` -> configuration, without the attention.
        attentions: role -> the configuration's `attention`. Empty: the network is the same in both roles, and one file
            plays both.
        holds_all_attentions: its files hold the attentions of both roles, so either role can start from any file.
        finish: makes a trained network ready for use: folds branches, removes heads that only training needs. It may
            change the network it is given, and changes nothing if called again.
        finished: what `finish` changes in the configuration.
        placed: what the network makes of a pixel depends on where the pixel lies in the whole image. It then takes the
            `Place` of a tile as a second argument, and tiles begin at multiples of 4 pixels.
        uses_all_parameters: every parameter affects the output. If False, training in several processes has to search
            for unused parameters at each step.
        outputs: number of tensors that the network returns in training; 1 = the image itself, not a sequence.
        image: which of several outputs is the restored image; -1 = the last.
        objective: how training compares the outputs with the clean image, a name of `training.objectives.OBJECTIVES`.
        losses: weight per loss name of the network's own paper; empty for IDSR's pair, whose losses depend on the role.
        recipe: the recipe of the network's own paper, a name of `training.loop.RECIPES`.
        matching: weight of the loss "matching" in the network's own paper, where there are real photographs.
        shallow: (network, x) -> its first features, (B, C, h, w), on which training can match real and synthetic rain;
            None if it has none to offer.
    """

    build: Callable[..., nn.Module]
    recognise: Callable[[Collection[str]], bool]
    configure: Callable[[Mapping[str, torch.Tensor], str], dict[str, Any]]
    multiple: int
    halo: int
    bytes_per_pixel: float
    ncnn_bytes_per_pixel: float | None = None
    wrappers: tuple[str, ...] = (*AVERAGES, *WRAPPERS)
    prefixes: tuple[str, ...] = PREFIXES
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    attentions: Mapping[str, str] = field(default_factory=dict)
    holds_all_attentions: bool = False
    finish: Callable[[nn.Module], nn.Module] = unchanged
    finished: Mapping[str, Any] = field(default_factory=dict)
    placed: bool = False
    uses_all_parameters: bool = True
    outputs: int = 1
    image: int = -1
    objective: str = "result"
    losses: Mapping[str, float] = field(default_factory=dict)
    recipe: str = "paper"
    matching: float = 0.0
    shallow: Callable[[Any, torch.Tensor], torch.Tensor] | None = None

    def image_of(self, result: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
        """The restored image among what the network returned; a finished network may return the image alone."""
        return result if isinstance(result, torch.Tensor) else result[self.image]

    def bare_name(self, name: str) -> str:
        """A tensor's name without the prefixes."""
        while prefix := next(filter(name.startswith, self.prefixes), None):
            name = name.removeprefix(prefix)
        return name

    def unwrapped(self, checkpoint: Mapping[Any, Any]) -> tuple[dict[str, torch.Tensor], str]:
        """The tensors of a checkpoint with or without wrappers, by bare name, and a remark.

        Returns:
            Name -> tensor, {} if there are no tensors; and the name of the averaged copy that was taken in place of
            another one in the checkpoint, or "".
        """
        taken = ""
        for _ in range(_DEEPEST):
            inside = [key for key in self.wrappers if _holds_tensors(checkpoint.get(key))]
            if not inside:
                break
            if inside[0] in AVERAGES and len(inside) > 1:
                taken = inside[0]
            checkpoint = checkpoint[inside[0]]
        found = {str(name): value for name, value in checkpoint.items() if isinstance(value, torch.Tensor)}
        if self.recognise(found):
            return found, taken
        for prefix in AVERAGE_PREFIXES:
            copy = {self.bare_name(n.removeprefix(prefix)): v for n, v in found.items() if n.startswith(prefix)}
            if self.recognise(copy):
                return copy, taken or (prefix.removesuffix(".") if len(copy) < len(found) else "")
        own = {self.bare_name(name): value for name, value in found.items() if self.bare_name(name) != name}
        if self.recognise(own):
            return own, taken
        return {self.bare_name(name): value for name, value in found.items()}, taken

    def role_config(self, config: Mapping[str, Any], role: str) -> dict[str, Any]:
        """A preset's configuration with the attention of a role, if the network knows attentions."""
        return {"attention": self.attentions[role], **config} if self.attentions else dict(config)

    def fits_role(self, config: Mapping[str, Any], role: str) -> bool:
        """Whether training of a role can start from tensors of this configuration."""
        if not self.attentions or self.holds_all_attentions:
            return True
        return bool(config.get("attention", self.attentions["dprnet"]) == self.attentions[role])
