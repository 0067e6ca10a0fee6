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

    from idsr_cli.images.photo import Photo
    from idsr_cli.keypoints import Keypoints


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
class Views:
    """The networks, and which of them detects and describes."""

    networks: batch.Networks
    letters: str
    made_with: dict[str, Any]

    @staticmethod
    def loaded(weights: str | None, splice: str | None, device: str, precision: str, tile: int, forced: bool) -> Views:
        """Find and load the weights; `forced` restores photographs that look dry as well."""
        from idsr_cli.weights import find_weights

        pair = find_weights(weights)
        letters = splice or pair.splice
        networks = batch.Networks(
            pair.without_dry_test() if forced else pair, letters, device, precision, options.tile_side(tile)
        )
        console.detail(f"deraining on {networks.device}, {networks.precision}, weights {pair.name}")
        return Views(networks, letters, {
            "weights": {"name": pair.name, "sha256": pair.sha256}, "splice": letters,
            "device": str(networks.device), "precision": networks.precision,
        })  # fmt: skip


def load(name: str) -> Photo:
    """Read and decode a photograph."""
    source = None if name == PIPE else Path(name)
    return batch.load_photo(Item(source, None, Path(name)))


def from_photo(
    name: str, photo: Photo, views: Views | None, device: str, max_keypoints: int | None, rootsift: bool
) -> Side:
    """Restore if networks are given, detect and describe."""
    from idsr_cli.features import SiftOptions, sift
    from idsr_cli.features import splice as spliced
    from idsr_cli.formats.descriptors import convert
    from idsr_cli.runtime.devices import choose_device
    from idsr_cli.scale_space import grey_image

    images = views.networks.restore_photo(photo, views.letters) if views else [photo.visible]
    where = views.networks.device if views else choose_device("cpu" if device == "auto" else device)
    settings = SiftOptions(max_keypoints=max_keypoints)
    detect = grey_image(images[0], where)
    if images[0] is images[-1]:
        keypoints = sift(detect, settings)
    else:
        keypoints = spliced(detect, grey_image(images[1], where), settings)
    # A network returns the very photograph if it sees no rain in it.
    derained = views is not None and any(image is not photo.visible for image in images)
    remark = "derained" if derained else "no rain seen, not derained" if views else "not derained"
    return Side(name, convert(keypoints, "rootsift_u8") if rootsift else keypoints, derained, remark, images[0])


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


def matching_device(views: Views | None, device: str) -> str:
    """Where distances are computed: on a CUDA card if one is used, else on the CPU."""
    from idsr_cli.runtime.devices import choose_device

    where = views.networks.device if views else choose_device("cpu" if device == "auto" else device)
    return str(where) if where.type == "cuda" else "cpu"
