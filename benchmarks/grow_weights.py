"""Add blocks to a trained network; the new blocks have almost no effect until they are trained.

    python benchmarks/grow_weights.py weights/base grown --blocks 2 2 9 2 2

New blocks follow the trained ones of their level. Their channel attention starts almost at zero and their second
convolution at a tenth of its usual scale, so the network's output hardly changes (the idea of Chen et al., "Net2Net:
accelerating learning via knowledge transfer", ICLR 2016). Continue with `idsr train --init grown`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from command_line import plain_errors

from idsr_cli.networks import build
from idsr_cli.weights import ROLE_FILES, find_weights, save_weights, write_manifest


@plain_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="name, folder or file of trained weights")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--blocks", type=int, nargs="+", required=True, help="blocks per level, coarsest in the middle")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    pair = find_weights(options.weights)
    for role, file in ROLE_FILES.items():
        weights = getattr(pair, role)
        trained = weights.tensors()
        layout, config = weights.configuration(trained)
        config = {**config, "blocks": options.blocks}
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
        save_weights(options.folder / file, network, {**weights.metadata, "idsr.config": json.dumps(config)})
    write_manifest(options.folder)
    print(f"{options.folder}: {sum(p.numel() for p in network.parameters()) / 1e6:.2f} million parameters each")


if __name__ == "__main__":
    main()
