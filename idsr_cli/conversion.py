"""Foreign checkpoints -> weights files of idsr."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from idsr_cli import __version__
from idsr_cli.errors import UsageError, WeightsError
from idsr_cli.networks.spandrel_models import Restorer as Foreign
from idsr_cli.weights import (
    BOTH_ROLES,
    ROLE_FILES,
    Weights,
    check_network,
    find_weights,
    save_weights,
    write_manifest,
)

# The largest number that 16 bits hold.
_LARGEST_HALF = 65504
# Keys of the metadata that the conversion writes itself, without "idsr.".
RESERVED = (
    "arch",
    "layout",
    "config",
    "splice",
    "dry_threshold",
    "rain_floor",
    "source",
    "source_sha256",
    "converted_by",
)


def convert(
    source: Path, target: Path, role: str | None = None, half: bool = False, notes: Mapping[str, str] | None = None
) -> Weights:
    """Read a checkpoint, check that it is a network that runs, and write it as `.safetensors`.

    Args:
        source: the checkpoint; only tensors are read.
        target: the file to write. If it has the name of a role's file, a manifest is written beside it.
        role: "dprnet" or "ggirnet"; None = what the file says, or else its name.
        half: store 16-bit numbers.
        notes: further metadata, keys with "idsr.".

    Returns:
        The weights as written.

    Raises:
        WeightsError: the source is missing, damaged, holds code, fits no network, or has numbers too large for 16 bits.
        UsageError: the role contradicts the file, or the network is not one of ours.
    """
    weights = _read(source, role)
    check_network(weights)
    network = weights.build()
    if isinstance(network, Foreign):
        raise UsageError(
            f"is {network.name}, a network of another project, which is used as it is", path=source,
            hint="give it to --weights, with --dry-threshold if dry photographs are to stay",
        )  # fmt: skip
    tensors = weights.tensors()
    layout, config = weights.configuration(tensors)
    if half and (large := [name for name, value in tensors.items() if value.abs().max() > _LARGEST_HALF]):
        raise WeightsError(f"tensor `{large[0]}` is too large for 16 bits", path=source, hint="leave `--half` out")
    metadata = {
        **weights.metadata,
        "idsr.arch": weights.arch,
        "idsr.layout": layout,
        "idsr.config": json.dumps(config),
        "idsr.source": source.name,
        "idsr.source_sha256": weights.sha256,
        "idsr.converted_by": f"idsr {__version__}",
        **(notes or {}),
    }
    save_weights(target, network, metadata, half)
    if target.name in ROLE_FILES.values():
        write_manifest(target.parent, target.name)
    return find_weights(str(target)).dprnet


def _read(source: Path, role: str | None) -> Weights:
    if not source.is_file():
        raise WeightsError("no such file", path=source)
    weights = find_weights(str(source)).dprnet
    if role is not None and weights.arch == BOTH_ROLES:
        raise UsageError("a network of this kind plays both roles", path=source, hint="leave `--role` out")
    if role is not None and role != weights.arch:
        if weights.metadata:
            raise UsageError(f"is a {weights.arch} by its own metadata", path=source)
        weights = replace(weights, arch=role)
    return weights
