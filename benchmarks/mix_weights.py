"""The weighted mean of several trained networks of one shape that began at the same weights.

    python benchmarks/mix_weights.py mean.safetensors base/dprnet.safetensors=0.35 run/last.safetensors=0.65

A mean of the weights before and after a training on new rain keeps most of what both can do (Wortsman et al., "Robust
fine-tuning of zero-shot models", CVPR 2022). Metadata are those of the last one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from command_line import plain_errors

from idsr_cli.weights import find_weights, save_weights


@plain_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("weights", nargs="+", metavar="FILE=SHARE")
    parser.add_argument("--role", choices=("dprnet", "ggirnet"), default="dprnet")
    options = parser.parse_args()
    parts = [(getattr(find_weights(text.rpartition("=")[0]), options.role), float(text.rpartition("=")[2]))
             for text in options.weights]  # fmt: skip
    total = sum(share for _, share in parts)
    network = parts[-1][0].build()
    mean: dict[str, torch.Tensor] = {}
    for weights, share in parts:
        for name, value in weights.build().state_dict().items():
            mean[name] = mean.get(name, 0.0) + share / total * value.double()
    network.load_state_dict({name: value.float() for name, value in mean.items()})
    made_of = ", ".join(f"{share / total:.3g} of {weights.sha256[:12]}" for weights, share in parts)
    save_weights(options.output, network, {**parts[-1][0].metadata, "idsr.mean_of": made_of})
    print(f"{options.output}: {made_of}")


if __name__ == "__main__":
    main()
