"""Gaussian scale space. Every sigma in this module's public functions is ABSOLUTE, in pixels of the input image.

Input images are assumed to have a blur of `ASSUMED_BLUR` = 0.5 px already (Lowe 2004), so "the Gaussian image of sigma
s" is the input blurred by sqrt(s^2 - 0.5^2). Octave o is the image sampled every 2^o pixels; octave -1 is the doubled
image, whose sample 2x lies exactly on sample x. The losses and SIFT share this module, so that networks are trained on
the same pyramid that SIFT uses.

Conventions: torch images are (B, C, H, W); numpy images, and both kinds in SIFT's pyramid, (H, W). Grey values are
0..255, not rounded. Borders are reflect-101 (the edge pixel is not repeated), reflected repeatedly if a kernel is
larger than the image.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

# torch is imported by the functions that use it: SIFT on a CPU starts faster without.
if TYPE_CHECKING:
    import torch

Luma = Literal["bt601", "bt709"]
# Shares of red, green and blue in grey. OpenCV's is BT.601; COLMAP's is BT.709.
_LUMA: dict[Luma, tuple[float, float, float]] = {"bt601": (0.299, 0.587, 0.114), "bt709": (0.2126, 0.7152, 0.0722)}
ASSUMED_BLUR = 0.5
SIFT_SIGMA = 1.6
SIFT_LAYERS = 3
# The paper's five Gaussian images (section IV.B): 1.6 * 2^(k/2), k = 0..4, input pixels.
STACK_SIGMAS = tuple(SIFT_SIGMA * 2 ** (k / 2) for k in range(5))
# Up to this side a blur is a product with a dense matrix: torch's one-channel convolution is some 25 times slower on a
# CPU, and a matrix folds the border for nothing.
_DENSE_SIDE = 512
# SIFT finds no extrema nearer than this to the border of an octave, so octaves under 11 px have none.
SIFT_BORDER = 5
# Octaves are grouped up to this many pixels: few passes for ordinary photographs, bounded memory for large ones.
_GROUP_PIXELS = 2**23
# The operating system allocates large blocks page by page, which takes as long as the blurs themselves. So up to two
# buffers of at most this many samples (128 MB) are kept for the next photograph's two pyramids.
_SPARE_SAMPLES = 2**25
_spare: list[np.ndarray] = []
_spare_lock = threading.Lock()
# A thread blurs at least about so many pixels of an image. Fewer take less time than handing them over.
_PART_PIXELS = 2**16
# Operators of the dense products, least recently used first. All together they take at most this many bytes: those of a
# photograph of 1000x1000 px take 20 MB, those of all steps of a training run some 10 MB.
_OPERATOR_BYTES = 2**26
_operators: OrderedDict[tuple[object, ...], torch.Tensor] = OrderedDict()
_operators_lock = threading.Lock()


def luminance(rgb: torch.Tensor, luma: Luma = "bt601") -> torch.Tensor:
    """SIFT's grey image: (B, 3, H, W) RGB in [0, 1] -> (B, 1, H, W) in 0..255, full range, not rounded."""
    red, green, blue = _LUMA[luma]
    r, g, b = rgb.unbind(1)
    return (255.0 * (red * r + green * g + blue * b)).unsqueeze(1)


def grey_image(rgb: np.ndarray, device: torch.device | str = "cpu", luma: Luma = "bt601") -> Any:
    """`luminance` of one photograph, for SIFT.

    Args:
        rgb: (H, W, 3) float32 RGB in [0, 1].
        device: where SIFT runs.
        luma: see `luminance`.

    Returns:
        (H, W) float32 in 0..255: an array for the CPU, for other devices a tensor on them.
    """
    if str(device) == "cpu":
        red, green, blue = (np.float32(share) for share in _LUMA[luma])
        grey = rgb[..., 0] * red
        grey += rgb[..., 1] * green
        grey += rgb[..., 2] * blue
        grey *= np.float32(255)
        return grey
    import torch

    # Always a copy: torch warns about read-only arrays.
    pixels = torch.from_numpy(rgb.transpose(2, 0, 1).copy())[None]
    return luminance(pixels.to(device), luma)[0, 0]


def added_blur(sigma: float, present: float = ASSUMED_BLUR) -> float:
    """The sigma that blurs an image of blur `present` to blur `sigma` (Gaussians add in variance).

    Raises:
        ValueError: `sigma` is below `present`; a blur cannot be undone.
    """
    if sigma < present:
        raise ValueError(f"sigma {sigma} is below the blur {present} that the image already has")
    return math.sqrt(sigma * sigma - present * present)


@lru_cache(maxsize=256)
def gaussian_taps(sigma: float) -> np.ndarray:
    """Sampled Gaussian of odd length round(8 sigma + 1) | 1, float64, sum 1: OpenCV's automatic size for floats."""
    size = int(np.rint(8.0 * sigma + 1.0)) | 1
    x = np.arange(size) - size // 2
    taps = np.exp(-0.5 * (x / sigma) ** 2)
    taps /= taps.sum()
    taps.setflags(write=False)
    return taps


def fold(index: np.ndarray, n: int) -> np.ndarray:
    """Reflect-101 of any indices into 0..n-1, by as many reflections as needed."""
    if n == 1:
        return np.zeros_like(index)
    index = np.abs(index) % (2 * n - 2)
    return np.where(index >= n, 2 * n - 2 - index, index)


def _blur_matrix(n: int, sigma: float) -> np.ndarray:
    """(n, n) float64 matrix of the 1-D blur with folded borders; rows sum to 1."""
    if sigma == 0:
        return np.eye(n)
    taps = gaussian_taps(sigma)
    radius = len(taps) // 2
    rows = np.repeat(np.arange(n), len(taps))
    columns = fold(rows + np.tile(np.arange(-radius, radius + 1), n), n)
    matrix = np.zeros((n, n))
    np.add.at(matrix, (rows, columns), np.tile(taps, n))
    return matrix


def _double_matrix(n: int) -> np.ndarray:
    """(2n, n): even samples copy, odd ones are the mean of their neighbours, the last one is repeated."""
    matrix = np.zeros((2 * n, n))
    i = np.arange(n)
    matrix[2 * i, i] = 1.0
    matrix[2 * i + 1, i] += 0.5
    matrix[2 * i + 1, np.minimum(i + 1, n - 1)] += 0.5
    return matrix


def _build_operator(n: int, sigmas: tuple[float, ...], octave: int, present: float, dtype: torch.dtype) -> torch.Tensor:
    """(S, m, n): for each sigma, one axis of "to the octave's grid, at that absolute sigma"; computed in float64."""
    import torch

    doubling, grid, step = np.eye(n), 2 ** max(0, -octave), 2 ** max(0, octave)
    for _ in range(-octave):
        doubling = _double_matrix(len(doubling)) @ doubling
    operator = torch.empty((len(sigmas), n * grid // step, n), dtype=dtype)
    for sigma, part in zip(sigmas, operator, strict=True):
        if octave < 0:
            matrix = _blur_matrix(len(doubling), grid * added_blur(sigma, present)) @ doubling
        else:
            matrix = _blur_matrix(n, added_blur(sigma, present))[: n // step * step : step]
        part.copy_(torch.from_numpy(matrix))
    return operator


def _operator(
    n: int, sigmas: tuple[float, ...], octave: int, present: float, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """`_build_operator` on a device, from the operators kept if it is among them. Not to be written to."""
    import torch

    key = (n, sigmas, octave, present, dtype, device)
    with _operators_lock:
        if key in _operators:
            _operators.move_to_end(key)
            return _operators[key]
    # Made in inference mode it could not take part in training later.
    with torch.inference_mode(False):
        operator = _build_operator(n, sigmas, octave, present, dtype).to(device)
    if operator.nbytes <= _OPERATOR_BYTES:
        with _operators_lock:
            _operators[key] = operator
            held = sum(kept.nbytes for kept in _operators.values())
            while held > _OPERATOR_BYTES:
                _, oldest = _operators.popitem(last=False)
                held -= oldest.nbytes
    return operator


def kept_operators() -> list[torch.Tensor]:
    """The operators kept at present. They stay in memory for as long as they are referred to."""
    with _operators_lock:
        return list(_operators.values())


def blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Differentiable Gaussian blur by exactly `sigma` pixels of this image's grid: (B, C, H, W) -> the same shape."""
    import torch
    from torch.nn import functional as F

    if sigma == 0:
        return image
    height, width = image.shape[-2:]
    if max(height, width) <= _DENSE_SIDE:
        rows, columns = (_operator(n, (sigma,), 0, 0.0, image.dtype, image.device)[0] for n in (height, width))
        return rows @ image @ columns.T
    taps = torch.as_tensor(gaussian_taps(sigma).copy(), dtype=image.dtype, device=image.device)
    radius = len(taps) // 2
    x = image.reshape(-1, 1, height, width)
    for axis, kernel in ((-1, taps.view(1, 1, 1, -1)), (-2, taps.view(1, 1, -1, 1))):
        n = x.shape[axis]
        index = torch.from_numpy(fold(np.arange(-radius, n + radius), n)).to(image.device)
        x = F.conv2d(x.index_select(axis % 4, index), kernel)
    return x.reshape(image.shape)


def double(image: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) -> (B, C, 2H, 2W): output sample 2x is input sample x ("precise upscale"), bilinear between."""
    import torch

    for axis in (-1, -2):
        n = image.shape[axis]
        following = torch.arange(1, n + 1, device=image.device).clamp_(max=n - 1)
        between = 0.5 * (image + image.index_select(axis % 4, following))
        image = torch.stack((image, between), dim=axis % 4 + 1).flatten(axis % 4, axis % 4 + 1)
    return image


def gaussian_stack(
    image: torch.Tensor, sigmas: tuple[float, ...] = STACK_SIGMAS, octave: int = 0, present: float = ASSUMED_BLUR
) -> torch.Tensor:
    """Gaussian images of the given absolute sigmas, sampled on the grid of `octave`. Differentiable.

    Args:
        image: (B, 1, H, W), grey.
        sigmas: S absolute sigmas in INPUT pixels, each at least `present`.
        octave: -1 = doubled grid (2H, 2W), 0 = input grid, 1 = every second pixel (H // 2, W // 2), ...
        present: the blur the image is assumed to have already, input pixels.

    Returns:
        (B, S, H', W').

    Raises:
        ValueError: a sigma is below `present`, the image is not one-channel, or it is too small for the octave.
    """
    import torch

    if image.ndim != 4 or image.shape[1] != 1:
        raise ValueError(f"need one grey channel, (B, 1, H, W), not {tuple(image.shape)}")
    height, width = image.shape[-2:]
    if octave > 0 and min(height, width) < 2**octave:
        raise ValueError(f"{width}x{height} has no pixel left at octave {octave}")
    if max(height, width) * 2 ** max(0, -octave) <= 2 * _DENSE_SIDE:
        rows, columns = (
            _operator(n, tuple(sigmas), octave, present, image.dtype, image.device) for n in (height, width)
        )
        return rows @ (image @ columns.transpose(-1, -2))
    for _ in range(-octave):
        image = double(image)
    grid, step = 2 ** max(0, -octave), 2 ** max(0, octave)
    planes = [blur(image, grid * added_blur(s, present)) for s in sigmas]
    stack = torch.cat(planes, dim=1)
    return stack[..., : height * grid // step * step : step, : width * grid // step * step : step]


def difference_stack(stack: torch.Tensor) -> torch.Tensor:
    """DoG images: (B, S, H, W) Gaussian images -> (B, S-1, H, W), each next one minus the one before."""
    return stack[:, 1:] - stack[:, :-1]


class Threads(Protocol):
    """What does pieces of work at once: `features.workers.Workers`."""

    threads: int

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]: ...


@dataclass(frozen=True)
class OctaveGroup:
    """Consecutive octaves of a SIFT pyramid in one flat buffer, so that one gather reads from all of them.

    Attributes:
        samples: flat float32, grey 0..255, an array or a tensor; the octaves one after the other, each (levels, height,
            width) in C order. The buffer may be longer.
        first: number of the first octave, -1 = the doubled image.
        shapes: (height, width) of each octave.
        starts: index into `samples` of each octave.
        levels: Gaussian images per octave, level i of absolute sigma `sigma * 2^(octave + i / n_layers)`.
    """

    samples: Any
    first: int
    shapes: tuple[tuple[int, int], ...]
    starts: tuple[int, ...]
    levels: int

    def octave(self, slot: int) -> Any:
        """The `slot`-th octave of the group: a (levels, height, width) view."""
        (height, width), start = self.shapes[slot], self.starts[slot]
        return self.samples[start : start + self.levels * height * width].reshape(self.levels, height, width)

    def release(self) -> None:
        """Give the buffer back for the next pyramid; the group must not be used afterwards."""
        if isinstance(self.samples, np.ndarray) and self.samples.size <= _SPARE_SAMPLES:
            with _spare_lock:
                if len(_spare) < 2:
                    _spare.append(self.samples)


def _buffer(samples: int, like: Any) -> Any:
    """An uninitialised flat float32 buffer of at least this many samples, of the kind and on the device of `like`."""
    if not isinstance(like, np.ndarray):
        return like.new_empty(samples)
    with _spare_lock:
        _spare.sort(key=len)
        for i, spare in enumerate(_spare):
            if len(spare) >= samples:
                return _spare.pop(i)
        _spare.clear()  # they are too small for the current photographs
    return np.empty(samples, np.float32)


def sift_octave_shapes(
    height: int, width: int, first_octave: int = -1, n_octaves: int | None = None
) -> list[tuple[int, int]]:
    """(height, width) of the octaves of an image's SIFT pyramid, from `first_octave` (-1, doubled, or 0) on.

    They are at most `n_octaves`. OpenCV's pyramid also has octaves under 11 px; they are left out, since no extrema are
    searched in them.
    """
    shapes = []
    height, width = height * 2**-first_octave, width * 2**-first_octave
    while min(height, width) > 2 * SIFT_BORDER:
        shapes.append((height, width))
        height, width = height // 2, width // 2
    return shapes[:n_octaves]


def is_one_group(height: int, width: int, first_octave: int = -1) -> bool:
    """True if `sift_pyramid` yields all octaves in one group: up to some 1.5 megapixels if the first is doubled."""
    return sum(math.prod(shape) for shape in sift_octave_shapes(height, width, first_octave)) <= _GROUP_PIXELS


def double_array(image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """`double` on a CPU: (H, W) float32 -> (2H, 2W), the same values; in `out` if it is given."""
    height, width = image.shape
    doubled = np.empty((2 * height, 2 * width), np.float32) if out is None else out
    half = np.float32(0.5)
    even = doubled[::2]
    even[:, ::2] = image
    between = even[:, 1:-1:2]
    np.add(image[:, 1:], image[:, :-1], out=between)
    between *= half
    even[:, -1] = image[:, -1]
    between = doubled[1:-1:2]
    np.add(even[1:], even[:-1], out=between)
    between *= half
    doubled[-1] = doubled[-2]
    return doubled


def sift_pyramid(
    grey: Any,
    levels: int,
    n_layers: int = SIFT_LAYERS,
    sigma: float = SIFT_SIGMA,
    first_octave: int = -1,
    n_octaves: int | None = None,
    workers: Threads | None = None,
) -> Iterator[OctaveGroup]:
    """OpenCV's Gaussian pyramid, with the same sequence of blurs.

    Octave -1 is the image doubled ("precise upscale"). The first octave is blurred to `sigma` of its own pixels; level
    i is level i - 1 blurred further; the next octave starts from every second pixel of level `n_layers`. Groups are
    built one at a time: a caller that drops each group before taking the next never has two in memory. The grouping
    depends on the image's size only, so the groups of two images of one size correspond.

    The blur of arrays is `cv2.GaussianBlur`, which uses one thread for float images; that of tensors is `blur`.

    Args:
        grey: (H, W) float32, 0..255, an array or a tensor.
        levels: Gaussian images per octave, at least `n_layers` + 1; `n_layers` + 3 to find extrema.
        n_layers: layers per octave.
        sigma: sigma of level 0 of an octave, pixels of that octave, above 1.
        first_octave: -1, or 0 to start with the image as it is.
        n_octaves: at most so many octaves; None = down to the last of 11 px.
        workers: threads that blur large arrays, each a part of their rows; None = one. The result is the same.

    Yields:
        Groups of octaves, of `grey`'s kind; nothing if the image has no octave of 11 px.
    """
    shapes = sift_octave_shapes(grey.shape[0], grey.shape[1], first_octave, n_octaves)
    if not shapes:
        return
    steps = [0.0] + [
        math.sqrt((sigma * 2 ** (i / n_layers)) ** 2 - (sigma * 2 ** ((i - 1) / n_layers)) ** 2)
        for i in range(1, levels)
    ]
    first_blur = math.sqrt(max(sigma * sigma - (ASSUMED_BLUR * 2**-first_octave) ** 2, 0.01))
    base: Any = None
    slot = 0
    while slot < len(shapes):
        end, pixels = slot, 0
        while end < len(shapes) and (end == slot or pixels + math.prod(shapes[end]) <= _GROUP_PIXELS):
            pixels += math.prod(shapes[end])
            end += 1
        group_shapes = tuple(shapes[slot:end])
        starts = tuple(levels * sum(math.prod(s) for s in group_shapes[:i]) for i in range(len(group_shapes)))
        samples = _buffer(levels * pixels, grey)
        built = [OctaveGroup(samples, slot + first_octave, group_shapes, starts, levels)]
        for i in range(end - slot):
            stack = built[0].octave(i)
            if base is None:
                # The last level's memory is not needed yet.
                _blur_into(_doubled(grey, stack[-1]) if first_octave < 0 else grey, first_blur, stack[0], workers)
            else:
                stack[0][...] = base
            for level in range(1, levels):
                _blur_into(stack[level - 1], steps[level], stack[level], workers)
            height, width = (side // 2 for side in group_shapes[i])
            base = stack[n_layers, : 2 * height : 2, : 2 * width : 2]
        # A view would keep the group's buffer alive after the caller has dropped it.
        base = base.copy() if isinstance(base, np.ndarray) else base.clone()
        slot = end
        del stack, samples
        yield built.pop()


def _doubled(grey: Any, out: Any) -> Any:
    """`double` of (H, W), for arrays in `out`."""
    return double_array(grey, out) if isinstance(grey, np.ndarray) else double(grey[None, None])[0, 0]


def _blur_into(image: Any, sigma: float, out: Any, workers: Threads | None = None) -> None:
    """`out` = `image` blurred by `sigma`, both (H, W)."""
    if isinstance(image, np.ndarray):
        parts = 1 if workers is None else min(workers.threads, image.size // _PART_PIXELS)
        _blur_array(image, sigma, out, parts, workers)
        return
    import torch

    # Without this cuDNN may compute in TF32, which is 0.1 grey levels off.
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        out.copy_(blur(image[None, None], sigma)[0, 0])


def _blur_array(image: np.ndarray, sigma: float, out: np.ndarray, parts: int, workers: Threads | None) -> None:
    """`_blur_into` in up to `parts` parts of the rows; the result is the same to the byte.

    OpenCV reflects at both ends of each part. Where that is not the border of the image, the rows within the kernel's
    reach are blurred again, with the rows around them.
    """
    height, reach = len(image), len(gaussian_taps(sigma)) // 2
    parts = min(parts, height // (2 * reach))
    if parts < 2 or workers is None:
        _opencv_blur(image, sigma, out)
        return
    edges = [height * i // parts for i in range(parts + 1)]
    seams = np.empty((parts - 1, 4 * reach, image.shape[1]), np.float32)
    pieces = [(image[top:bottom], out[top:bottom]) for top, bottom in pairwise(edges)]
    pieces += [(image[y - 2 * reach : y + 2 * reach], seam) for y, seam in zip(edges[1:-1], seams, strict=True)]
    workers.map(lambda piece: _opencv_blur(piece[0], sigma, piece[1]), pieces)
    for y, seam in zip(edges[1:-1], seams, strict=True):
        out[y - reach : y + reach] = seam[reach : 3 * reach]


def _opencv_blur(image: np.ndarray, sigma: float, out: np.ndarray) -> None:
    """`out` = `image` blurred."""
    import cv2

    blurred = cv2.GaussianBlur(image, (0, 0), sigma, dst=out, sigmaY=sigma, borderType=cv2.BORDER_REFLECT_101)
    if not np.shares_memory(blurred, out):  # cv2 has allocated a new array
        np.copyto(out, blurred)
