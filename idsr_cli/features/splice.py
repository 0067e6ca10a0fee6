"""The splice: positions from one image's DoG pyramid, directions and descriptors from another's Gaussian images.

This is the last step of IDSR ("See SIFT in a Rain"): DPRNet's image preserves the extrema of the DoG pyramid,
GGIRNet's the gradients. OpenCV cannot do it, since none of its public functions stops between the refinement of a point
and its orientation histogram.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from idsr_cli.errors import ItemError
from idsr_cli.features.arrays import Array, beside, host, library, on_cpu, single
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


def sift(grey: Array, options: SiftOptions = _DEFAULTS, mask: np.ndarray | None = None) -> Keypoints:
    """SIFT of one image: `splice(grey, grey, options, mask)`, with one pyramid."""
    return splice(grey, grey, options, mask)


def splice(
    detect: Array,
    describe: Array,
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
        detect: (H, W) float32 grey, 0..255: an array of numpy, or a tensor of torch. SIFT runs on CUDA for a tensor
            that is there, else on the CPU, without torch.
        describe: the same shape, type and device; pass the same object to build one pyramid only.
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
    places = _checked(detect)
    gradients = places if same else _checked(describe)
    if not same and _kind(detect) != _kind(describe):
        raise ValueError(f"images differ: {_kind(detect)}, {_kind(describe)}")
    if mask is not None and (mask.shape != tuple(detect.shape) or mask.dtype != np.bool_):
        raise ValueError(f"need a bool mask of shape {tuple(detect.shape)}, not {mask.dtype} {mask.shape}")
    with Workers(None if on_cpu(places) else 1) as workers:
        parts = list(_groups(places, gradients, options, mask, workers))
    if not any(map(len, parts)):
        return Keypoints.empty((detect.shape[1], detect.shape[0]))
    keypoints = _concatenate(parts)
    return keypoints.select(_limited(keypoints, _order(keypoints), options))


def _checked(image: Array) -> Array:
    """The image in C order; numpy's unless it is a CUDA tensor."""
    if image.ndim != 2 or 0 in image.shape or str(image.dtype).removeprefix("torch.") != "float32":
        raise ValueError(f"need a (height, width) float32 image, not {tuple(image.shape)} {image.dtype}")
    if not on_cpu(image):
        image = image.detach()
        image = image.contiguous() if image.is_cuda else image.cpu().numpy()
    if on_cpu(image):
        image = np.ascontiguousarray(image)
    # The least and the largest value show it, without an array of the image's size.
    if not all(math.isfinite(float(value)) for value in (image.min(), image.max())):
        raise ItemError("the image has values that are NaN or infinite")
    return image


def _kind(image: Array) -> str:
    """What two images must have in common, in words."""
    return f"{tuple(image.shape)} " + ("of numpy" if on_cpu(image) else f"on {image.device}")


def _groups(
    detect: Array, describe: Array, options: SiftOptions, mask: np.ndarray | None, workers: Workers
) -> Iterator[Keypoints]:
    """The keypoints of each group of octaves.

    Large images have several groups, and only one group of one pyramid is in memory at a time. If there is only one
    group, the two pyramids are built in parallel.
    """
    n_layers, octaves = options.n_layers, (options.n_layers, options.sigma, options.first_octave, options.n_octaves)
    found = sift_pyramid(detect, n_layers + 3, *octaves, workers)
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
        keypoints = _describe(group, points, (width, height), options, mask)
        group.release()
        del group
        yield keypoints


def _describe(
    group: OctaveGroup,
    points: Points,
    size: tuple[int, int],
    options: SiftOptions,
    mask: np.ndarray | None,
) -> Keypoints:
    """Keypoints at `points` within the mask and the limits, from the gradients of `group`, in final order."""
    anchor = anchors(group, points, options.n_layers, options.sigma)
    index, angle = orientations(group, anchor, options)
    points, anchor = points.select(index), anchor.select(index)
    keypoints = _keypoints(group, points, anchor, angle, size)
    # Descriptors are expensive, so keypoints that the mask or the limit drops are removed first.
    order = _order(keypoints)
    if mask is not None:
        order = order[keypoints.on(mask)[order]]
    order = _limited(keypoints, order, options)
    kept = beside(order, angle)
    described = descriptors(group, anchor.select(kept), angle[kept])
    return replace(keypoints.select(order), descriptors=host(described))


def _keypoints(group: OctaveGroup, points: Points, anchor: Anchors, angle: Array, size: tuple[int, int]) -> Keypoints:
    """`points` in pixels of the image, without descriptors."""
    octave = points.slot + group.first
    pixel = 2.0 ** single(octave)
    place = single(library(octave).stack([points.column, points.row], 1)) + points.offset[:, :2]
    return Keypoints(
        xy=host(place * pixel[:, None]),
        scale=host(anchor.scale * pixel),
        angle=host(angle),
        response=host(points.response),
        octave=host(octave).astype(np.int32),
        layer=host(points.layer).astype(np.int32),
        descriptors=np.zeros((len(points), 0), np.uint8),
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
