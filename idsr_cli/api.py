"""The verbs for Python: `derain`, `sift` and `match`, with the same results as the commands of those names.

An image is a path (str or os.PathLike), a Pillow image, a numpy array or a `Photo` of `read_photo`. Arrays are (H, W)
grey, (H, W, 3) RGB or (H, W, 4) RGB and alpha, on the stored grid, of uint8, uint16 or float in [0, 1]; (H, W, 2) is
grey and alpha. The EXIF orientation of files and Pillow images only turns the photograph upright for the networks;
results keep the stored grid. A file or Pillow image holds one picture; `image.copy()` takes one frame out of several.
Pillow reduces 16-bit colour files to 8 bits, and turns a TIFF upright for good when it decodes it: pass paths instead.

Networks are loaded on first use, and the last few stay in memory. All verbs may be called from several threads; the
networks process one photograph at a time.

Errors that a caller can cause are `IdsrError`s with one line of reason: `ItemError` for an image that cannot be read or
processed, `UsageError` for arguments, `WeightsError` and `DeviceError`.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from idsr_cli.arguments import flag, number, one_of
from idsr_cli.errors import UsageError
from idsr_cli.extraction import LIKE, Like, extract, plain_device, sift_fields, unrestored
from idsr_cli.formats.descriptors import DescriptorKind, check_kind
from idsr_cli.images import photo as photos
from idsr_cli.images.masks import allowed_pixels
from idsr_cli.keypoints import Keypoints
from idsr_cli.rain_estimate import Rain
from idsr_cli.restoration import (
    RainRemover,
    Removal,
    RestorationOptions,
    Restored,
    Restorer,
    load_network,
    most_rain,
)
from idsr_cli.weights import SPLICES, Weights, WeightsPair, find_weights

if TYPE_CHECKING:
    from PIL import Image

    from idsr_cli.matching import Geometry, Matches

    ImageLike: TypeAlias = str | os.PathLike[str] | Image.Image | np.ndarray | photos.Photo

# True means "auto", False "none", so that `derain` of `sift` and of `match` agree.
Derain = bool | Literal["auto", "none", "A", "B", "both"]
Scale = float | Literal["auto"]
_DERAIN = ("auto", "none", "A", "B", "both")
Model = Literal["auto", "homography", "fundamental", "none"]
# How many networks stay in memory.
KEPT_NETWORKS = 4

_lock = threading.Lock()
_networks: OrderedDict[tuple[object, ...], RainRemover] = OrderedDict()


def derain(
    image: ImageLike,
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
    precision: str = "auto",
    engine: str = "auto",
    tile: int | None = None,
    strength: float = 1.0,
    force: bool = False,
    scale: Scale = "auto",
    dry_threshold: float | None = None,
    mirror: bool = False,
) -> np.ndarray:
    """Take the rain out of a photograph, as `idsr derain` does.

    Args:
        image: see the module.
        weights: a name, folder or file, see `find_weights`; None = the weights that come with idsr.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: "auto", "fp32", "bf16" or "fp16".
        engine: what runs the network: "torch", "ncnn" (the extra `fast`; CPUs only), or "auto", which is ncnn on
            CPUs without AVX-512, where it is faster for photographs of up to about 3 megapixels.
        tile: side of a tile in pixels, 0 = never tile, None = from memory.
        strength: share of the rain to take out, 0 to 1.5, see `restoration.Removal`.
        force: also change a photograph that seems dry.
        scale: 1, 1.5 or 2: the networks see the photograph enlarged by this factor, against fine rain. "auto": at 1,
            if rain is seen in places only, or nowhere, with more contrast, at 0.5, 1.5 and 2 as well, and if it is
            large, at 0.5 too.
        dry_threshold: leave the photograph as it is unless this much would be taken out of half of its parts, grey
            levels, 0 to 255; for networks of others, which have no such test. None = that of the weights, 0 = no test.
        mirror: also look at a photograph with rain mirrored, and take the mean of both: twice the time.

    Returns:
        A new array of the image's size and channels: (H, W), (H, W, 2), (H, W, 3) or (H, W, 4). An integer array, file
        or Pillow image gives uint8 or uint16, what the command writes to a PNG; a float array of any precision gives
        float32 in [0, 1]. Alpha, the colours under full transparency, and pixels in which the network sees no rain are
        those of the image, rounded to float32 if it is float64 and otherwise bit for bit.

    Raises:
        ItemError: the image cannot be read or does not fit in memory.
        UsageError, WeightsError, DeviceError: an argument is not valid, or weights or device are not available.
    """
    photo = _photo(image)
    removal = Removal(strength, force, scale, dry_threshold=dry_threshold, mirror=mirror)
    (view,) = _run(_restorer(find_weights(weights), "D", device, precision, tile, removal, engine), photo, "D")
    rgb = photos.keep_hidden(photo, view.rgb)
    if not isinstance(image, np.ndarray) or not np.issubdtype(image.dtype, np.floating):
        return photos.stored_pixels(photo, rgb, photo.bits == 16)
    result = image.astype(np.float32)  # a copy
    if not view.rain_seen:
        return result
    if result.ndim == 3 and result.shape[2] >= 3:
        result[:, :, :3] = rgb
    else:
        # The weights of the colours do not add up exactly, so a pixel that is left alone would change a little.
        changed = (rgb != photo.rgb).any(2)
        grey = result if result.ndim == 2 else result[:, :, 0]
        grey[changed] = photos.grey_of(rgb)[changed]
    return result


def sift(
    image: ImageLike,
    *,
    derain: bool = True,
    splice: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    mask: ImageLike | None = None,
    max_keypoints: int | None = None,
    descriptors: DescriptorKind = "sift_u8",
    like: Like = "opencv",
    n_layers: int | None = None,
    contrast_threshold: float | None = None,
    edge_threshold: float | None = None,
    sigma: float | None = None,
    first_octave: int | None = None,
    max_orientations: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    engine: str = "auto",
    tile: int | None = None,
    strength: float = 1.0,
    force: bool = False,
    scale: Scale = "auto",
    dry_threshold: float | None = None,
    mirror: bool = False,
) -> Keypoints:
    """SIFT keypoints and descriptors as if it were not raining, as `idsr sift` finds them.

    Plain SIFT of a grey image in memory is `idsr_cli.features.sift`.

    Args:
        image: see the module.
        derain: restore the photograph first, unless the network sees no rain in it; False is plain SIFT of the image
            as it is, on the CPU if `device` is "auto". Then `splice`, `weights`, `precision`, `engine`, `tile`,
            `strength`, `force`, `scale`, `dry_threshold` and `mirror` are refused.
        splice: which network detects and which describes: "DG", "DD" or "GG" (D = DPRNet, G = GGIRNet); None = what
            the weights were measured best with.
        weights: as for `derain`.
        mask: an image of the same size; no keypoints where it is black (0, or False in a bool array, (H, W) or
            (H, W, 1)).
        max_keypoints: keep at most this many of those that the mask allows, strongest by response; 0 = all, None = as
            `like`: all, or about 8192 of the largest scales.
        descriptors: "sift_u8", "rootsift_u8" (both uint8, norm about 512) or "rootsift_f32" (float32, norm 1).
        like: find keypoints as "opencv", "colmap" or "hloc" finds its own, see `idsr_cli.extraction.LIKE`. It decides
            the options that follow where they are None.
        n_layers: layers per octave, 1 to 16.
        contrast_threshold: drop keypoints of less contrast, in parts of the grey range.
        edge_threshold: drop keypoints whose principal curvatures differ by more than this factor.
        sigma: blur of the first image of an octave, pixels, above 1 and at most 3.2.
        first_octave: -1 starts with the doubled image, 0 with the image as it is.
        max_orientations: at most this many keypoints at one position, in its strongest directions.
        device: as for `derain`; SIFT runs where the networks run.
        precision: as for `derain`.
        engine: as for `derain`.
        tile: as for `derain`.
        strength: as for `derain`.
        force: as for `derain`.
        scale: as for `derain`.
        dry_threshold: as for `derain`.
        mirror: as for `derain`.

    Returns:
        N keypoints, strongest first, in pixels of the stored grid: (0, 0) is the centre of the top-left pixel, x to the
        right, y down; scale is sigma in pixels, angles are degrees clockwise; descriptors are (N, 128).

    Raises:
        ItemError: an image cannot be read, does not fit in memory, or the mask differs from it in size.
        UsageError, WeightsError, DeviceError: an argument is not valid, or weights or device are not available.
    """
    from idsr_cli.features import SiftOptions

    numbers = sift_fields(
        like,
        max_keypoints=max_keypoints,
        n_layers=n_layers,
        contrast_threshold=contrast_threshold,
        edge_threshold=edge_threshold,
        sigma=sigma,
        first_octave=first_octave,
        max_orientations=max_orientations,
    )
    settings = SiftOptions(**numbers)
    check_kind(descriptors)
    if splice is not None:
        one_of("splice", splice, SPLICES)
    removal = Removal(strength, force, scale, dry_threshold=dry_threshold, mirror=mirror)
    if not flag("derain", derain):
        _refuse_idle(derain, removal, splice=splice, weights=weights, precision=precision, engine=engine, tile=tile)
    photo = _photo(image)
    allowed = None if mask is None else _mask(mask, photo)
    if derain:
        pair = find_weights(weights)
        restorer = _restorer(pair, splice or pair.splice, device, precision, tile, removal, engine)
        views, where = _run(restorer, photo, splice or pair.splice), restorer.device
    else:
        views, where = [unrestored(photo.visible)], plain_device(str(device))
    return extract(views, settings, grey=LIKE[like].grey, mask=allowed, descriptors=descriptors, device=where)


@dataclass(frozen=True, eq=False, repr=False)
class MatchResult:
    """Keypoints, matches and geometry of two photographs.

    Attributes:
        keypoints: of the first and of the second, with the descriptors that were compared, (N, 128) uint8.
        matches: index pairs of matched keypoints.
        geometry: the homography or fundamental matrix estimated from the matches, and which matches are its inliers.
        derained: for each photograph, whether a network saw rain in it and changed it.
        rain: for each, how much rain a network saw; None if none ran.
    """

    keypoints: tuple[Keypoints, Keypoints]
    matches: Matches
    geometry: Geometry
    derained: tuple[bool, bool]
    rain: tuple[Rain | None, Rain | None] = (None, None)

    def __repr__(self) -> str:
        model, inliers = self.geometry.fits, int(self.geometry.inliers.sum())
        found = f"{inliers} follow the {model}" if model else "no model"
        return f"<{len(self.matches.index)} matches of {self.keypoints[0]} and {self.keypoints[1]}, {found}>"


def match(
    a: ImageLike,
    b: ImageLike,
    *,
    derain: Derain = "auto",
    ratio: float = 0.8,
    mutual: bool = True,
    rootsift: bool = True,
    max_keypoints: int | None = None,
    model: Model = "auto",
    threshold: float = 3.0,
    splice: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
    precision: str = "auto",
    engine: str = "auto",
    tile: int | None = None,
    strength: float = 1.0,
    force: bool = False,
    scale: Scale = "auto",
    dry_threshold: float | None = None,
    mirror: bool = False,
) -> MatchResult:
    """Match two photographs, as `idsr match` does.

    Args:
        a: the first image, see the module.
        b: the second.
        derain: which of them to restore first. "auto" or True tries both, and keeps a photograph unchanged if the
            network sees no rain in it; "A", "B" and "both" restore in any case; "none" or False is plain SIFT, and
            `splice`, `weights`, `precision`, `engine`, `tile`, `strength`, `force`, `scale`, `dry_threshold` and
            `mirror` are refused.
        ratio: Lowe's test, above 0: the nearest descriptor must be closer than this times the second nearest; 1 = no
            test.
        mutual: keep only pairs that are each other's nearest neighbour and pass the test in both directions.
        rootsift: compare RootSIFT descriptors instead of SIFT's own.
        max_keypoints: keep the strongest of each; None = all.
        model: geometry to verify the matches with: "homography", "fundamental", "none", or "auto", which chooses
            between the first two.
        threshold: largest error of an inlier, pixels.
        splice: as for `sift`.
        weights: as for `sift`.
        device: as for `sift`.
        precision: as for `sift`.
        engine: as for `sift`.
        tile: as for `sift`.
        strength: as for `sift`.
        force: as for `sift`.
        scale: as for `sift`.
        dry_threshold: as for `sift`.
        mirror: as for `sift`.

    Returns:
        Keypoints, matches and geometry, in pixels of the stored grids; the same in every run.

    Raises:
        ItemError: an image cannot be read or does not fit in memory.
        UsageError, WeightsError, DeviceError: an argument is not valid, or weights or device are not available.
    """
    from idsr_cli.features import SiftOptions
    from idsr_cli.matching import MODELS, estimate, match_descriptors

    if isinstance(derain, (bool, np.bool_)):
        derain = "auto" if derain else "none"
    one_of("derain", derain, _DERAIN)
    one_of("model", model, MODELS)
    ratio, threshold = number("ratio", ratio), number("threshold", threshold)
    mutual, rootsift = flag("mutual", mutual), flag("rootsift", rootsift)
    if not 0 < ratio <= 1:
        raise UsageError(f"ratio must be above 0 and at most 1, not {ratio}")
    if not 0 < threshold < float("inf"):
        raise UsageError(f"threshold must be above 0, not {threshold}")
    if splice is not None:
        one_of("splice", splice, SPLICES)
    removal = Removal(strength, force, scale, dry_threshold=dry_threshold, mirror=mirror)
    if derain == "none":
        _refuse_idle(derain, removal, splice=splice, weights=weights, precision=precision, engine=engine, tile=tile)
    settings = SiftOptions(max_keypoints)
    pair_of_photos = (_photo(a), _photo(b))
    restorer, roles = None, ""
    if derain != "none":
        pair = find_weights(weights)
        roles = splice or pair.splice
        forced = replace(removal, force=removal.force or derain != "auto")
        restorer = _restorer(pair, roles, device, precision, tile, forced, engine)
    plain = plain_device(str(device))
    kind: DescriptorKind = "rootsift_u8" if rootsift else "sift_u8"
    keypoints, derained, rain = [], [], []
    for photo, name in zip(pair_of_photos, "AB", strict=True):
        if restorer is not None and derain in ("auto", "both", name):
            views, where = _run(restorer, photo, roles), restorer.device
        else:
            views, where = [unrestored(photo.visible)], plain
        keypoints.append(extract(views, settings, descriptors=kind, device=where))
        derained.append(any(view.rain_seen for view in views))
        rain.append(most_rain(views))
    first, second = keypoints
    found = match_descriptors(
        first.descriptors, second.descriptors, ratio, mutual, restorer.device if restorer else plain
    )
    geometry = estimate(first.xy[found.index[:, 0]], second.xy[found.index[:, 1]], model, threshold)
    return MatchResult((first, second), found, geometry, (derained[0], derained[1]), (rain[0], rain[1]))


# --- images ----------------------------------------------------------------------------------------------------------


def _photo(image: ImageLike) -> photos.Photo:
    from PIL import Image

    if isinstance(image, np.ndarray):
        return photos.from_array(image)
    path = None
    if isinstance(image, photos.Photo):
        photo = image
    elif isinstance(image, Image.Image):
        photo = photos.from_pillow(image)
    elif isinstance(image, (str, os.PathLike)):
        photo, path = photos.read_photo(image), os.fspath(image)
    else:
        raise UsageError(f"an image is a path, a Pillow image or a numpy array, not {type(image).__name__}")
    photos.check_single(photo, path)
    return photo


def _mask(mask: ImageLike, photo: photos.Photo) -> np.ndarray:
    """(H, W) bool, True where keypoints may be."""
    pixels = mask if isinstance(mask, np.ndarray) and mask.dtype == np.bool_ else _photo(mask)
    return allowed_pixels(pixels, photo.width, photo.height)


# --- networks --------------------------------------------------------------------------------------------------------


def _restorer(
    pair: WeightsPair, roles: str, device: str, precision: str, tile: int | None, removal: Removal, engine: str
) -> Restorer:
    options = RestorationOptions(pair, roles, device, precision, tile, removal, engine)
    with _lock:
        return Restorer(options, _kept_network)


def _run(restorer: Restorer, photo: photos.Photo, roles: str) -> list[Restored]:
    with _lock:
        return restorer.restore_photo(photo, roles)


def _kept_network(weights: Weights, device: str, precision: str, tile: int | None, engine: str) -> RainRemover:
    """`load_network` with a cache of the networks used last. The caller must hold the lock."""
    # The file's hash alone is no key: a foreign checkpoint is built by its role.
    key = (weights.identity, device, precision, tile, engine)
    if key not in _networks:
        _networks[key] = load_network(weights, device, precision, tile, engine)
    _networks.move_to_end(key)
    while len(_networks) > KEPT_NETWORKS:
        _networks.popitem(last=False)
    return _networks[key]


def _refuse_idle(derain: bool | str, removal: Removal, **of_networks: Any) -> None:
    """Raises UsageError if an argument for the networks is given although none runs."""
    given = [name for name, value in of_networks.items() if value is not None and value != "auto"]
    for name in (*given, *removal.changed()):
        raise UsageError(f"`{name}` has no effect with derain={derain!r}")
