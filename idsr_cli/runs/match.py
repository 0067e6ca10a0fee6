"""The two inputs of `idsr match`: from photographs and keypoint files to keypoints that can be matched."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idsr_cli.errors import ItemError
from idsr_cli.runs.plan import PIPE, Item
from idsr_cli.runs.process import load_photo

if TYPE_CHECKING:
    import numpy as np

    from idsr_cli.images.photo import Photo
    from idsr_cli.keypoints import Keypoints
    from idsr_cli.rain_estimate import Rain
    from idsr_cli.restoration import Restorer
    from idsr_cli.weights import WeightsPair


@dataclass(frozen=True)
class MatchInput:
    """One of the two inputs, ready to be matched.

    Attributes:
        name: as given.
        keypoints: with SIFT descriptors of the kind that is matched, uint8.
        derained: True if a network saw rain in the photograph; None for a keypoint file.
        remark: how the keypoints were made, in words.
        rain: how much rain was seen; None if no network ran.
        view: the photograph as SIFT saw it, (H, W, 3) float32 RGB in [0, 1]; None for a keypoint file.
    """

    name: str
    keypoints: Keypoints
    derained: bool | None
    remark: str
    rain: Rain | None
    view: np.ndarray | None


@dataclass(frozen=True)
class MatchNetworks:
    """The networks that restore the photographs.

    Attributes:
        restorer: the networks.
        splice: which of them detects and describes, "DG".
        pair: their weights.
    """

    restorer: Restorer
    splice: str
    pair: WeightsPair

    @property
    def made_with(self) -> dict[str, Any]:
        """What the result says of them."""
        return {
            "weights": {"name": self.pair.name, "sha256": self.pair.sha256},
            "splice": self.splice,
            "device": self.restorer.device,
            "precision": self.restorer.precision,
            "engine": self.restorer.engine,
        }


def is_keypoint_file(name: str) -> bool:
    """True if the name is that of a keypoint file, not of a photograph."""
    return name != PIPE and Path(name).suffix.lower() == ".npz"


def named_photo(name: str) -> Photo:
    """Read and decode a photograph; "-" is standard input.

    Raises:
        ItemError: it cannot be read.
    """
    return load_photo(Item(None if name == PIPE else Path(name), None, Path(name)))


def sift_device(networks: MatchNetworks | None, device: str) -> str:
    """Where SIFT and the matching run: where the networks run, or without them on the device that was asked for.

    Raises:
        DeviceError: unknown name, or not available here.
    """
    from idsr_cli.extraction import plain_device

    return networks.restorer.device if networks else plain_device(device)


def from_photo(
    name: str,
    photo: Photo,
    networks: MatchNetworks | None,
    device: str,
    max_keypoints: int | None,
    rootsift: bool,
) -> MatchInput:
    """Restore if networks are given, detect and describe; `device` is as for `sift_device`."""
    from idsr_cli.extraction import extract, unrestored
    from idsr_cli.features import SiftOptions
    from idsr_cli.restoration import most_rain

    if networks is None:
        views, remark = [unrestored(photo.visible)], "not derained"
    else:
        views = networks.restorer.restore_photo(photo, networks.splice)
        remark = "derained" if any(view.rain_seen for view in views) else "no rain seen, not derained"
    keypoints = extract(
        views,
        SiftOptions(max_keypoints=max_keypoints),
        descriptors="rootsift_u8" if rootsift else "sift_u8",
        device=sift_device(networks, device),
    )
    seen = any(view.rain_seen for view in views)
    return MatchInput(name, keypoints, seen, remark, most_rain(views), views[0].rgb)


def from_file(name: str, max_keypoints: int | None, rootsift: bool) -> MatchInput:
    """Read a keypoint file, with the descriptors that are to be matched.

    Raises:
        ItemError: it is damaged, or has other descriptors.
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

        # The same numbers as rootsift_u8, so that both kinds match alike.
        keypoints = replace(
            keypoints, descriptors=np.clip(np.rint(512 * keypoints.descriptors), 0, 255).astype(np.uint8)
        )
    weights = meta.get("weights") or {}
    return MatchInput(
        name, keypoints, None, f"from a file, {'weights ' + weights['name'] if weights else 'plain SIFT'}", None, None
    )
