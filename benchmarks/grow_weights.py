"""Add blocks or gradient attention to a trained network, with almost no effect until they are trained.

    python benchmarks/grow_weights.py weights/base grown --blocks 2 2 9 2 2
    python benchmarks/grow_weights.py weights/base grown --ggirnet-from-dprnet

New blocks follow the trained ones of their level. Their channel attention starts almost at zero and their second
convolution at a tenth of its usual scale, so the network's output hardly changes (the idea of Chen et al., "Net2Net:
accelerating learning via knowledge transfer", ICLR 2016).

A GGIRNet made from DPRNet has the gradient attention of the paper's CGARB before the spatial attention of CSARB. Its
map starts at a half everywhere, and the convolution before it at twice its scale, so the network starts as DPRNet, to
the bit. Continue with `idsr train --init grown`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from command_line import plain_errors

from idsr_cli.networks import build
from idsr_cli.weights import ROLE_FILES, Weights, find_weights, save_weights, write_manifest


def with_blocks(weights: Weights, blocks: list[int], target: Path) -> int:
    """Write `weights` with this many blocks per level; returns the number of parameters."""
    trained = weights.tensors()
    layout, config = weights.configuration(trained)
    config = {**config, "blocks": blocks}
    network = build(layout, config)
    grown = network.state_dict()
    if missing := trained.keys() - grown.keys():
        raise SystemExit(f"{weights.path}: has more blocks than asked for ({min(missing)})")
    for name, value in grown.items():
        if name in trained:
            value.copy_(trained[name])
        elif name.endswith("conv2.weight"):
            value.mul_(0.1)
        elif name.endswith("channel.excite.bias"):
            value.fill_(-2.0)
    network.load_state_dict(grown)
    save_weights(target, network, {**weights.metadata, "idsr.config": json.dumps(config)})
    return sum(p.numel() for p in network.parameters())


def with_gradient_attention(dprnet: Weights, target: Path) -> int:
    """Write a GGIRNet that starts as this DPRNet, of the layout of `base`; returns the number of parameters."""
    trained = dprnet.tensors()
    layout, config = dprnet.configuration(trained)
    if config.get("attention") != "spatial":
        raise SystemExit(f"{dprnet.path}: has no spatial attention to add to")
    config = {**config, "attention": "both"}
    network = build(layout, config)
    grown = network.state_dict()
    for name, value in grown.items():
        if name in trained:
            value.copy_(trained[name])
        elif ".gradient.merge." in name:
            value.zero_()  # the sigmoid of zero is a half
        # The channel attention sees the doubled convolution through halved weights, so it is what it was.
        if ".conv2." in name:
            value.mul_(2.0)
        elif name.endswith(".channel.squeeze.weight"):
            value.mul_(0.5)
    network.load_state_dict(grown)
    metadata = {**dprnet.metadata, "idsr.arch": "ggirnet", "idsr.config": json.dumps(config)}
    save_weights(target, network, metadata)
    return sum(p.numel() for p in network.parameters())


@plain_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="name, folder or file of trained weights")
    parser.add_argument("folder", type=Path)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--blocks", type=int, nargs="+", help="blocks per level, coarsest in the middle")
    how.add_argument("--ggirnet-from-dprnet", action="store_true", help="write a GGIRNet that starts as DPRNet")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    pair = find_weights(options.weights)
    if options.blocks:
        for role, file in ROLE_FILES.items():
            parameters = with_blocks(getattr(pair, role), options.blocks, options.folder / file)
    else:
        parameters = with_gradient_attention(pair.dprnet, options.folder / ROLE_FILES["ggirnet"])
    write_manifest(options.folder)
    print(f"{options.folder}: {parameters / 1e6:.2f} million parameters each")


if __name__ == "__main__":
    main()
