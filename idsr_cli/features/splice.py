"""The splice: positions from one image's DoG pyramid, directions and descriptors from another's Gaussian images.

This is the last step of IDSR ("See SIFT in a Rain"): DPRNet's image preserves the extrema of the DoG pyramid,
GGIRNet's the gradients. OpenCV cannot do it, since none of its public functions stops between the refinement of a point
and its orientation histogram.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from idsr_cli.errors import ItemError
from idsr_cli.features.descriptor import descriptors
from idsr_cli.features.detection import Points, find_points
from idsr_cli.features.gradients import Anchors, anchors
from idsr_cli.features.options import SiftOptions
from idsr_cli.features.orientation import orientations
from idsr_cli.features.workers import Workers
from idsr_cli.keypoints import Keypoints
from idsr_cli.scale_space import OctaveGroup, is_one_group, sift_pyramid

_DEFAULTS = SiftOptions()
_LAYERS = 32  # more than an octave can have


def sift(grey: torch.Tensor, options: SiftOptions = _DEFAULTS, mask: np.ndarray | None = None) -> Keypoints:
    """SIFT of one image: `splice(grey, grey, options, mask)`, with one pyramid."""
    return splice(grey, grey, options, mask)


def splice(
    detect: torch.Tensor,
    describe: torch.Tensor,
    options: SiftOptions = _DEFAULTS,
    mask: np.ndarray | None = None,
) -> Keypoints:
    """Keypoints found in `detect` and described in `describe`.

    Position, scale and response come from the DoG pyramid of `detect` (IDSR's y_D). Angle and descriptor come from the
    Gaussian image of `describe` (y_G) at the same octave, layer and integer pixel. If `describe` has several strong
    directions there, each gives a keypoint; if it is flat there, none.

    With one 8-bit image as both, the result is that of `cv2.SIFT_create(enable_precise_upscale=True)` up to rounding,
    apart from the order.

    Args:
        detect: (H, W) float32 grey, 0..255, on a CPU or a CUDA device.
        describe: the same shape and device; pass the same object to build one pyramid only.
        options: thresholds, the number of keypoints to keep, whose rules.
        mask: (H, W) bool; keypoints whose nearest pixel is False are dropped, before the limits apply. Only the
            keypoint's position counts, so descriptors near the mask may still include pixels under it.

    Returns:
        Keypoints without duplicates, ordered by falling response, then y, x, falling scale, angle. On a CPU the result
        is the same to the byte for any number of threads.

    Raises:
        ValueError: not two-dimensional float32 images of one shape and device, or a mask of another shape.
        ItemError: a value is NaN or infinite.
    """
    same = detect is describe
    if mask is not None and (mask.shape != tuple(detect.shape) or mask.dtype != np.bool_):
        raise ValueError(f"need a bool mask of shape {tuple(detect.shape)}, not {mask.dtype} {mask.shape}")
    device = detect.device if detect.device.type in ("cpu", "cuda") else torch.device("cpu")
    # `no_grad` instead of inference mode, since `scale_space` caches tensors that training uses too. Everything runs
    # within `Workers`: otherwise OpenMP's idle threads would spin and slow the workers down.
    with torch.no_grad(), Workers(device) as workers:
        _check(detect, describe)
        places = detect.detach().to(device).contiguous()
        gradients = places if same else describe.detach().to(device).contiguous()
        parts = list(_groups(places, gradients, options, mask, workers))
    if not any(map(len, parts)):
        return Keypoints.empty((detect.shape[1], detect.shape[0]))
    keypoints = _concatenate(parts)
    return keypoints.select(_limited(keypoints, _order(keypoints), options))


def _check(detect: torch.Tensor, describe: torch.Tensor) -> None:
    for image in (detect,) if detect is describe else (detect, describe):
        if image.ndim != 2 or image.numel() == 0 or image.dtype != torch.float32:
            raise ValueError(f"need a (height, width) float32 image, not {tuple(image.shape)} {image.dtype}")
        if not torch.isfinite(torch.stack(torch.aminmax(image.detach()))).all():
            raise ItemError("the image has values that are NaN or infinite")
    if detect.shape != describe.shape or detect.device != describe.device:
        raise ValueError(
            f"images differ: {tuple(detect.shape)} on {detect.device}, {tuple(describe.shape)} on {describe.device}"
        )


def _groups(
    detect: torch.Tensor, describe: torch.Tensor, options: SiftOptions, mask: np.ndarray | None, workers: Workers
) -> Iterator[Keypoints]:
    """The keypoints of each group of octaves.

    Large images have several groups, and only one group of one pyramid is in memory at a time. If there is only one
    group, the two pyramids are built in parallel.
    """
    n_layers, octaves = options.n_layers, (options.n_layers, options.sigma, options.first_octave, options.n_octaves)
    found = sift_pyramid(detect, n_layers + 3, *octaves)
    # Gradients are read from layers 1..n_layers only.
    described = None if describe is detect else sift_pyramid(describe, n_layers + 1, *octaves)
    following: Callable[[], OctaveGroup] | None = None if described is None else partial(next, described)
    height, width = detect.shape
    if following is not None and is_one_group(height, width, options.first_octave):
        following = workers.start(following)
    for group in found:
        points = find_points(group, options, workers)
        if following is not None:
            group.release()
            del group
            group = following()
        keypoints = _describe(group, points, (width, height), options, mask, workers)
        group.release()
        del group
        yield keypoints


def _describe(
    group: OctaveGroup,
    points: Points,
    size: tuple[int, int],
    options: SiftOptions,
    mask: np.ndarray | None,
    workers: Workers,
) -> Keypoints:
    """Keypoints at `points` within the mask and the limits, from the gradients of `group`, in final order."""
    anchor = anchors(group, points, options.n_layers, options.sigma)
    index, angle = orientations(group, anchor, options, workers)
    points, anchor = points.select(index), anchor.select(index)
    keypoints = _keypoints(group, points, anchor, angle, size)
    # Descriptors are expensive, so keypoints that the mask or the limit drops are removed first.
    order = _order(keypoints)
    if mask is not None:
        order = order[keypoints.on(mask)[order]]
    order = _limited(keypoints, order, options)
    kept = torch.from_numpy(order).to(angle.device)
    described = descriptors(group, anchor.select(kept), angle[kept], workers)
    keypoints = keypoints.select(order)
    keypoints.descriptors[:] = described.cpu().numpy()
    return keypoints


def _keypoints(
    group: OctaveGroup, points: Points, anchor: Anchors, angle: torch.Tensor, size: tuple[int, int]
) -> Keypoints:
    """`points` in pixels of the image, with zeros for descriptors."""
    octave = points.slot + group.first
    pixel = torch.pow(2.0, octave.float())
    place = torch.stack([points.column, points.row], 1) + points.offset[:, :2]
    return Keypoints(
        xy=(place * pixel[:, None]).cpu().numpy(),
        scale=(anchor.scale * pixel).cpu().numpy(),
        angle=angle.cpu().numpy(),
        response=points.response.cpu().numpy(),
        octave=octave.int().cpu().numpy(),
        layer=points.layer.int().cpu().numpy(),
        descriptors=np.zeros((len(points), 128), np.uint8),
        image_size=size,
    )


def _order(keypoints: Keypoints) -> np.ndarray:
    """The order of the result, as indices: (-response, y, x, -scale, angle)."""
    x, y = keypoints.xy.T
    return np.lexsort((keypoints.angle, -keypoints.scale, x, y, -keypoints.response))


def _limited(keypoints: Keypoints, order: np.ndarray, options: SiftOptions) -> np.ndarray:
    """What the limits leave of `order`, indices in final order."""
    if options.soft_limit is not None:
        kept = keypoints.select(order)
        order = order[_in_coarse_layers(kept, options.soft_limit)]
    return order[: options.max_keypoints]


def _in_coarse_layers(keypoints: Keypoints, limit: int) -> np.ndarray:
    """(N,) bool: see `SiftOptions.soft_limit`. Keypoints of one position must be adjacent, as in the final order."""
    # A position is counted once, however many directions it has.
    place = np.column_stack([keypoints.xy, keypoints.scale])
    first = np.ones(len(place), np.bool_)
    first[1:] = (place[1:] != place[:-1]).any(1)
    layer = keypoints.octave.astype(np.int64) * _LAYERS + keypoints.layer
    layers, counts = np.unique(layer[first], return_counts=True)
    held = np.cumsum(counts[::-1])[::-1]  # from this layer to the coarsest
    over = layers[held > limit]
    return layer >= over[-1] if len(over) else np.ones(len(layer), np.bool_)


def _concatenate(parts: list[Keypoints]) -> Keypoints:
    if len(parts) == 1:
        return parts[0]
    names = ("xy", "scale", "angle", "response", "octave", "layer", "descriptors")
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Keypoints(image_size=parts[0].image_size, **arrays)
