"""Training batches from photographs held in memory: random crops, augmentation, rain."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from idsr_cli.scale_space import blur
from idsr_cli.training.samples import SampleMaker
from idsr_cli.training.scenery import behind_drops, drawing_for_real, near_drops
from idsr_cli.views import CONTRAST, SURROUNDINGS

# Real photographs per sample of a batch; each takes more than twice the time of a sample.
_REAL_SHARE = 0.25
# Shares of the real photographs that get a drawing, and near drops.
_DRAWN_SHARE, _DROPS_SHARE = 0.8, 0.5
# Among the samples in other views: below the first with more contrast, below the second at half the size, else a third.
# Of those at half the size, half have more contrast, too.
_CONTRASTED, _HALF = 0.4, 0.9
# Share of the reduced samples that get near drops, which are found in reduced photographs only, and their least width,
# px. At full size with more contrast they would teach a network to see rain in film grain.
_DROPS_IN_VIEWS, _WIDE_DROPS = 0.5, 5.0


def large_side(patch: int) -> int:
    """Side of the patches of a large batch, see `BatchSource`."""
    return patch * 3 // 2


@dataclass(frozen=True)
class Batch:
    """The images of one training step; float32 in [0, 1].

    Attributes:
        rainy, clean: (B, 3, H, W) each, pair by pair.
        real: (R, 3, H, W) crops of real rainy photographs without a clean version, or None.
        drawings: (R, 10, H, W), one for each of `real`: what `scenery.drawing_for_real` and `scenery.near_drops` give.
            A fifth of the former and half of the latter draw nothing. None without `real`.
    """

    rainy: torch.Tensor
    clean: torch.Tensor
    real: torch.Tensor | None = None
    drawings: torch.Tensor | None = None

    @property
    def parts(self) -> tuple[torch.Tensor | None, ...]:
        """`rainy`, `clean`, `real` and `drawings`."""
        return self.rainy, self.clean, self.real, self.drawings

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return self._each(lambda part: part.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same in memory from which a card copies by itself; `torch.utils.data` calls it."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, moved: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        return Batch(*(None if part is None else moved(part) for part in self.parts))  # type: ignore[arg-type]


@dataclass
class BatchSource:
    """Draws batches; a pure function of its generators.

    Attributes:
        photos: clean photographs, (3, H, W) uint8 each, on any device; crops are moved to the generator's device, where
            rain is drawn onto them.
        pairs: real pairs, (6, H, W) uint8 each: rainy then clean.
        make: turns a clean crop into a sample.
        pair_share: share of samples taken from `pairs` if there are both.
        patch: side of the square crop, pixels.
        zoom: share of crops taken larger (up to 2.6 times) and reduced to the patch, as photographs often are.
        views: share of samples seen with twice the local contrast, or at half or a third of the size, as
            `restoration.RainRemover` looks at photographs; what looks like rain has to be known in these views too.
            Near drops, which are found in reduced views only, fall in half of these.
        large: share of batches with patches of 1.5 times the side and fewer samples, about as many pixels in all: a
            wider view makes rain easier to recognise.
        real: rainy photographs without a clean version, (3, H, W) uint8 each; a batch has one crop of them per four
            samples, at least one.
    """

    photos: Sequence[torch.Tensor]
    pairs: Sequence[torch.Tensor]
    make: SampleMaker
    patch: int = 128
    pair_share: float = 0.1
    zoom: float = 0.45
    views: float = 0.25
    large: float = 0.0
    real: Sequence[torch.Tensor] = ()

    def __post_init__(self) -> None:
        if not self.photos and not self.pairs:
            raise ValueError("no photographs and no pairs to train on")

    def __call__(self, count: int, generator: torch.Generator, device_generator: torch.Generator) -> Batch:
        """A batch of `count` samples of side `patch`; a large batch has sides of 1.5 x `patch`, and fewer samples."""
        patch = self.patch
        if self.large and torch.rand((), generator=generator).item() < self.large:
            patch, count = large_side(patch), max(1, round(count / 2.25))
        samples = [self._sample(patch, generator, device_generator) for _ in range(count)]
        rainy, clean = (torch.stack(column) for column in zip(*samples, strict=True))
        if not self.real:
            return Batch(rainy, clean)
        device, real = device_generator.device, range(max(1, round(_REAL_SHARE * count)))
        cuts = torch.stack([self._real_cut(patch, generator) for _ in real])
        drawings = torch.stack([_drawing(patch, generator) for _ in real])
        return Batch(rainy, clean, cuts.to(device), drawings.to(device))

    def _real_cut(self, patch: int, generator: torch.Generator) -> torch.Tensor:
        """A crop of a random real photograph, not turned or zoomed: that would change the rain's direction or width."""
        which, flip = torch.rand(2, generator=generator).tolist()
        cut = self._cut(self.real[int(which * len(self.real))], patch, generator)
        return cut.flip(-1) if flip < 0.5 else cut

    def _sample(
        self, patch: int, generator: torch.Generator, device_generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        which, kind, flip, turn, larger, side, seen, view, drops, raises = torch.rand(10, generator=generator).tolist()
        if self.pairs and (not self.photos or kind < self.pair_share):
            source = self.pairs[int(which * len(self.pairs))]
            # Not turned or zoomed: that would change the rain's direction or width.
            cut = self._cut(source, patch, generator).to(device_generator.device)
            cut = cut.flip(-1) if flip < 0.5 else cut
            return cut[:3], cut[3:]
        source = self.photos[int(which * len(self.photos))]
        other = seen < self.views
        times = 1 if not other or view < _CONTRASTED else 2 if view < _HALF else 3
        side_made = times * patch
        size = round(side_made * 2.6**side) if larger < self.zoom and times == 1 else side_made
        cut = self._cut(source, size, generator).to(device_generator.device)
        cut = _reduced(cut, side_made).rot90(int(turn * 4), (-2, -1))
        cut = cut.flip(-1) if flip < 0.5 else cut
        rainy, clean = self.make(cut, generator, device_generator)
        if times > 1 and drops < _DROPS_IN_VIEWS:
            before = near_drops((side_made, side_made), generator, _WIDE_DROPS)
            rainy = behind_drops(rainy, before.to(rainy.device))
        rainy, clean = _reduced(rainy, patch), _reduced(clean, patch)
        return contrasted(rainy, clean) if other and (times == 1 or (times == 2 and raises < 0.5)) else (rainy, clean)

    def _cut(self, image: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
        """A random (C, size, size) crop in [0, 1]; smaller images are enlarged by mirroring first."""
        height, width = image.shape[-2:]
        if min(height, width) < size:
            repeat = (1, math.ceil(size / height), math.ceil(size / width))
            mirrored = torch.cat((image, image.flip(-1)), -1)
            mirrored = torch.cat((mirrored, mirrored.flip(-2)), -2)
            image = mirrored.repeat(repeat)
            height, width = max(height, size), max(width, size)
        top, left = (int(v * (n - size + 1)) for v, n in zip(torch.rand(2, generator=generator).tolist(),
                                                             (height, width), strict=True))  # fmt: skip
        return image[:, top : top + size, left : left + size].float() / 255.0


def _reduced(image: torch.Tensor, side: int) -> torch.Tensor:
    """(C, N, N), N at least `side` -> (C, side, side), antialiased."""
    if image.shape[-1] == side:
        return image
    return F.interpolate(image[None], (side, side), mode="bilinear", antialias=True)[0].clamp(0.0, 1.0)


def contrasted(rainy: torch.Tensor, clean: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A sample, (3, H, W) in [0, 1] each, as `views.Contrasted` shows it.

    The surroundings are those of the rainy image for both: no others are known when rain is removed.
    """
    around = blur(rainy[None], SURROUNDINGS)[0]
    return raised(rainy, around), raised(clean, around)


def raised(image: torch.Tensor, around: torch.Tensor) -> torch.Tensor:
    """An image in [0, 1] with twice the contrast to its surroundings, as `views.Contrasted` has it."""
    return (around + CONTRAST * (image - around)).clamp(0.0, 1.0)


def _drawing(patch: int, generator: torch.Generator) -> torch.Tensor:
    """(10, patch, patch): a drawing and near drops for a real photograph; either may change nothing."""
    size = (patch, patch)
    draws, drops = torch.rand(2, generator=generator).tolist()
    nothing = torch.cat((torch.ones(3, *size), torch.zeros(3, *size)))
    drawing = drawing_for_real(size, generator) if draws < _DRAWN_SHARE else nothing
    before = near_drops(size, generator) if drops < _DROPS_SHARE else torch.zeros(4, *size)
    return torch.cat((drawing, before))
