"""What of a photograph stays although the network would change it: it is no rain by its place, brightness or direction.

A network sees some 100 pixels around each pixel. These tests look at all of a photograph, at what the network would
take out of it: rain covers all of it (`leave_crowded_places`), is darker than a white sky (`leave_the_sky`) and falls
one way (`leave_what_runs_across`). `leave_dry_pixels` brings back pixels in which the network saw next to no rain.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from idsr_cli.rain_estimate import bands, directions, rainy_pixels, removed_grey, removed_per_pixel

# Places are squares of this share of an image's longer side. One is crowded from this share of its pixels on that seem
# rainy, if it is also so many times the share in three quarters of all places; see `leave_crowded_places`. From so many
# grey levels on a pixel seems rainy here: a network may see a fainter, smooth veil before all of a wooded slope.
_PLACE, _CROWDED, _UNUSUAL, _PLAIN = 1 / 12, 0.35, 3.0, 4.0
# What is removed in a place has a direction from this coherence (0 to 1) and this share of rainy pixels on. The rain
# has one if it is that of so much of the image, within so many degrees. What lies so far from it, and so far from
# vertical, runs across. From the first of two numbers on the image begins to come back, and at the second it is back.
# Around such a place less coherence is enough, because glints and drops that fall before them are mixed there; holes
# that are narrower than so many blocks are closed.
# See `leave_what_runs_across`.
_COHERENT, _RAINY_PLACE, _MAIN, _NEAR = (0.35, 0.5), 0.03, 0.1, 15
_BESIDE, _HOLE = (0.1, 0.2), 5
_ACROSS, _LEVEL = (30.0, 45.0), (50.0, 65.0)
# A sky is white from this grey level on in a square of so many blocks of so many pixels, if there are squares in this
# share of an image; gaps in trees are looked for within this share of the longer side around it. What is up to so many
# levels darker is as bright as the sky; what the network would darken by so many levels there is left alone, with so
# many pixels around it. See `leave_the_sky`.
_WHITE, _SQUARE, _BLOCK, _SKY, _AROUND_SKY = 235, 3, 8, 0.02, 1 / 6
_AS_BRIGHT, _DARKENED, _MARGIN = 16, 6.0, 4


def leave_crowded_places(rainy: np.ndarray, restored: np.ndarray) -> None:
    """Restore, in place, the original values where too much seems to be rain for an image with so little of it.

    Rain falls on all of an image. Where it covers few pixels, a place in which it seems to cover most is a fence, waves
    or a wet road that the network takes for rain. Where rain covers a third of the pixels, in a quarter of the image
    at least, nothing is restored. The share of pixels that seem rainy (`rainy_pixels`, from 4 grey levels on) is
    measured in squares around each pixel. Up to the share from which a place is crowded the network's values stay, from
    one and a half times that on the original values return bit for bit, and in between the two are mixed linearly.

    Args:
        rainy: (H, W, 3) float32 in [0, 1].
        restored: the network's result, (H, W, 3) float32; changed in place.
    """
    import cv2

    height, width = rainy.shape[:2]
    covered = np.empty((height, width), np.uint8)
    for x, y, into in bands(rainy, restored, covered):  # to save the memory of a second copy
        into[:] = 255 * rainy_pixels(x, y, _PLAIN)
    side = max(1, round(_PLACE * max(height, width)))
    share = cv2.blur(covered, (side, side), borderType=cv2.BORDER_REFLECT)  # 255 = all pixels
    crowded = max(255.0 * _CROWDED, _UNUSUAL * float(np.percentile(share, 75)))
    if share.max() > crowded:
        first, span = np.float32(crowded), np.float32(0.5 * crowded)
        _keep(rainy, restored, share, lambda shares: np.clip((shares - first) / span, 0.0, 1.0))


def leave_the_sky(rainy: np.ndarray, restored: np.ndarray) -> None:
    """Restore, in place, the original values of what is as bright as a white sky near it: gaps in trees, not rain.

    A drop sends the light of all that is around it towards the camera, the dark ground too, so rain is darker than an
    overcast sky (Garg and Nayar, "Vision and rain", 2007). A bright dash in the crown of a tree before such a sky that
    is as bright as the sky is sky. So are the bright parts of a wet road that mirrors it.

    A sky is a part of the image, at least 24 pixels wide, in which all channels are at or near the upper end. The
    original values return bit for bit in pixels that the network would darken though they are as bright as that, and
    in the 4 pixels around them; the 2 pixels around these are mixed.

    Args:
        rainy: (H, W, 3) float32 in [0, 1].
        restored: the network's result, (H, W, 3) float32; changed in place.
    """
    import cv2

    height, width = rainy.shape[:2]
    least, darkened = np.empty((2, height, width), np.uint8)
    for x, into in bands(rainy, least):
        red, green, blue = np.moveaxis(x, 2, 0)
        into[:] = np.rint(np.minimum(np.minimum(red, green), blue) * 255.0)
    rows, columns = height // _BLOCK, width // _BLOCK
    if not rows * columns:
        return
    blocks = least[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK).min((1, 3))
    plain = cv2.erode(blocks, np.ones((_SQUARE, _SQUARE), np.uint8))
    if (plain >= _WHITE).mean() < _SKY:
        return
    reach = 2 * round(_AROUND_SKY * max(height, width) / _BLOCK) + 1
    sky = cv2.dilate(plain, np.ones((reach, reach), np.uint8))
    sky = cv2.resize(sky, (width, height), interpolation=cv2.INTER_NEAREST)
    for x, y, of_sky, of_least, into in bands(rainy, restored, sky, least, darkened):
        as_bright = (of_sky >= _WHITE) & (of_least >= of_sky - np.uint8(_AS_BRIGHT))
        into[:] = 255 * (as_bright & (removed_grey(x, y) * 255.0 >= _DARKENED))
    if not darkened.any():
        return
    share = cv2.dilate(darkened, np.ones((2 * _MARGIN + 5, 2 * _MARGIN + 5), np.uint8))
    share = cv2.blur(share, (5, 5), borderType=cv2.BORDER_REFLECT)
    _keep(rainy, restored, share, lambda shares: shares * np.float32(1 / 255))


def leave_what_runs_across(rainy: np.ndarray, restored: np.ndarray) -> None:
    """Restore, in place, the original values of places in which what seems to be rain runs across the rain elsewhere.

    Rain falls one way. On a wet road or on water the network takes glints for rain, which run from left to right. The
    direction of what it removed is measured in places around each pixel, with the structure tensor. That of most of the
    image is the direction of the rain; if fewer places than a tenth of the image agree, nothing is restored. Places
    that lie nearer to vertical than to level are not: perspective turns rain, too. Beside a place that runs across
    plainly, others are restored that do so less plainly, or a wet road would come back in patches.

    Args:
        rainy: (H, W, 3) float32 in [0, 1].
        restored: the network's result, (H, W, 3) float32; changed in place.
    """
    import cv2

    height, width = rainy.shape[:2]
    side = max(1, round(_PLACE * max(height, width) / _BLOCK))
    tensor = cv2.blur(_structure_of_blocks(rainy, restored), (side, side), borderType=cv2.BORDER_REFLECT)
    xx, yy, xy, share = np.moveaxis(tensor, 2, 0)
    angle, coherence = directions(xx, yy, xy)
    directed = (coherence >= _COHERENT[0]) & (share >= _RAINY_PLACE)
    votes = np.histogram(angle[directed], 180, (-90.0, 90.0))[0]
    around = np.sum([np.roll(votes, shift) for shift in range(-_NEAR, _NEAR + 1)], 0)
    if around.max() < _MAIN * angle.size:
        return
    away = np.abs((angle - (int(around.argmax()) - 89.5) + 90.0) % 180.0 - 90.0)
    across = (share >= _RAINY_PLACE).astype(np.float32)
    for values, limits in ((away, _ACROSS), (np.abs(angle), _LEVEL)):
        across *= _ramp(values, limits)
    kept = across * _ramp(coherence, _COHERENT)
    if kept.any():
        beside = across * _ramp(coherence, _BESIDE)
        _, group = cv2.connectedComponents((beside > 0.0).astype(np.uint8))
        kept = np.where(np.isin(group, group[kept == 1.0]), beside, kept)
        kept = cv2.morphologyEx(kept, cv2.MORPH_CLOSE, np.ones((_HOLE, _HOLE), np.uint8))
        kept = cv2.resize(kept, (width, height), interpolation=cv2.INTER_LINEAR)
        _keep(rainy, restored, kept, lambda shares: shares)


def _ramp(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """0 up to the first limit, 1 from the second on, linear in between; float32."""
    first, last = limits
    return np.clip((values - first) / (last - first), 0.0, 1.0).astype(np.float32)


def _structure_of_blocks(rainy: np.ndarray, restored: np.ndarray) -> np.ndarray:
    """Means over blocks of 8x8 pixels: the structure tensor xx, yy, xy of what was removed, the share of rainy pixels.

    Returns:
        (rows, columns, 4) float32; the last blocks may reach beyond the image.
    """
    import cv2

    parts = []
    for x, y in bands(rainy, restored):
        grey = removed_grey(x, y) * np.float32(255)
        across, down = cv2.Scharr(grey, cv2.CV_32F, 1, 0), cv2.Scharr(grey, cv2.CV_32F, 0, 1)
        pixels = np.stack([across * across, down * down, across * down, rainy_pixels(x, y)], 2, dtype=np.float32)
        blocks = (-(-pixels.shape[1] // _BLOCK), -(-pixels.shape[0] // _BLOCK))
        parts.append(cv2.resize(pixels, blocks, interpolation=cv2.INTER_AREA))
    return np.concatenate(parts)


def leave_dry_pixels(rainy: np.ndarray, restored: np.ndarray, floor: float) -> None:
    """Restore, in place, the original value of pixels in which the network saw next to no rain.

    Networks also change pixels between streaks a little, which harms descriptors and removes no rain. The rain of a
    pixel is the largest change of any channel of the pixel and its 8 neighbours. Below `floor` the original value
    returns bit for bit, from twice `floor` on the network's value stays, and in between the two are mixed linearly.

    Args:
        rainy: (H, W, 3) float32 in [0, 1].
        restored: the network's result, (H, W, 3) float32; changed in place.
        floor: grey levels (0..255), positive.
    """
    import cv2

    around = cv2.dilate(removed_per_pixel(rainy, restored), np.ones((3, 3), np.uint8))
    _keep(rainy, restored, around, lambda most: np.clip(2.0 - most * (255.0 / floor), 0.0, 1.0))


def _keep(
    rainy: np.ndarray, restored: np.ndarray, values: np.ndarray, share_of: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Put shares of the original values back into `restored`, in place; a share of 1 is bit for bit.

    `share_of` makes shares, 0 to 1, of rows of `values` (H, W).
    """
    for x, y, some in bands(rainy, restored, values):  # to save the memory of a second copy
        share = share_of(some)[..., None]
        mixed = y + share * (x - y)
        y[:] = np.where(share == 1.0, x, mixed)
