"""The two inputs of `idsr match`: from photographs and keypoint files to keypoints that can be matched."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idsr_cli.cli import batch, options
from idsr_cli.cli.console import console
from idsr_cli.errors import ItemError
from idsr_cli.runs.plan import PIPE, Item

if TYPE_CHECKING:
    import numpy as np
    import torch

    from idsr_cli.images.photo import Photo
    from idsr_cli.keypoints import Keypoints
    from idsr_cli.restoration import Restorer


@dataclass(frozen=True)
class Side:
    """One of the two, ready to be matched.

    Attributes:
        name: as given.
        keypoints: with SIFT descriptors of the kind that is matched.
        derained: whether a network changed the photograph; None for a keypoint file.
        remark: the same in words.
        view: the photograph as SIFT saw it, or None for a keypoint file.
    """

    name: str
    keypoints: Keypoints
    derained: bool | None
    remark: str
    view: np.ndarray | None


def is_keypoint_file(name: str) -> bool:
    """By its name."""
    return name != PIPE and Path(name).suffix.lower() == ".npz"


@dataclass(frozen=True)
class Networks:
    """The networks, which of them detects and describes, and what the result says of them."""

    restorer: Restorer
    letters: str
    made_with: dict[str, Any]

    @staticmethod
    def loaded(
        weights: str | None, splice: str | None, device: str, precision: str, tile: int, forced: bool
    ) -> Networks:
        """Find and load the weights; `forced` restores photographs that look dry as well."""
        from idsr_cli.weights import find_weights

        pair = find_weights(weights)
        letters = splice or pair.splice
        restorer = batch.load_networks(
            pair.without_dry_test() if forced else pair, letters, device, precision, options.tile_side(tile)
        )
        console.detail(f"deraining on {restorer.device}, {restorer.precision}, weights {pair.name}")
        return Networks(restorer, letters, {
            "weights": {"name": pair.name, "sha256": pair.sha256}, "splice": letters,
            "device": str(restorer.device), "precision": restorer.precision,
        })  # fmt: skip


def load(name: str) -> Photo:
    """Read and decode a photograph."""
    source = None if name == PIPE else Path(name)
    return batch.load_photo(Item(source, None, Path(name)))


def from_photo(
    name: str, photo: Photo, networks: Networks | None, device: str, max_keypoints: int | None, rootsift: bool
) -> Side:
    """Restore if networks are given, detect and describe."""
    from idsr_cli.extraction import extract, unrestored
    from idsr_cli.features import SiftOptions

    if networks is None:
        views, remark = [unrestored(photo.visible)], "not derained"
    else:
        views = networks.restorer.restore_photo(photo, networks.letters)
        remark = "derained" if any(view.rain_seen for view in views) else "no rain seen, not derained"
    keypoints = extract(
        views,
        SiftOptions(max_keypoints=max_keypoints),
        descriptors="rootsift_u8" if rootsift else "sift_u8",
        device=sift_device(networks, device),
    )
    return Side(name, keypoints, any(view.rain_seen for view in views), remark, views[0].rgb)


def sift_device(networks: Networks | None, device: str) -> torch.device:
    """Where SIFT and the matching run: beside the networks, or without them on the device asked for."""
    from idsr_cli.extraction import plain_device

    return networks.restorer.device if networks else plain_device(device)


def from_file(name: str, max_keypoints: int | None, rootsift: bool) -> Side:
    """Read keypoints, with the descriptors that are to be matched.

    Raises:
        ItemError: damaged, or of other descriptors.
    """
    from idsr_cli.formats.descriptors import convert
    from idsr_cli.formats.npz import read_npz
    from idsr_cli.matching import strongest

    keypoints, meta = read_npz(Path(name))
    try:
        keypoints.check_finite()
    except ItemError as error:
        raise ItemError(error.reason, path=name) from error
    keypoints = strongest(keypoints, max_keypoints)
    kind = meta.get("descriptors", "sift_u8")
    if kind == "sift_u8":
        keypoints = convert(keypoints, "rootsift_u8") if rootsift else keypoints
    elif not rootsift:
        raise ItemError("holds RootSIFT descriptors, which `--no-rootsift` cannot compare", path=name)
    elif kind == "rootsift_f32":
        import numpy as np

        # The same numbers as rootsift_u8, which has both kinds matched alike.
        keypoints = replace(
            keypoints, descriptors=np.clip(np.rint(512 * keypoints.descriptors), 0, 255).astype(np.uint8)
        )
    made = meta.get("weights") or {}
    return Side(name, keypoints, None, f"from a file, {'weights ' + made['name'] if made else 'plain SIFT'}", None)
