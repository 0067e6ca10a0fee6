"""Objectives: how a network's outputs become one loss, so that the training loop does not depend on the network.

A network in training mode gives one image, (B, 3, H, W), or a sequence of images whose last one is the result: the
stages of a recurrent network, or auxiliary heads, which may be smaller. An objective compares them with the batch.
Distillation, a loss on real photographs without a clean version, is here too; the teacher is the network's own
average, or another network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from idsr_cli.scale_space import blur
from idsr_cli.training.batches import Batch, raised
from idsr_cli.training.losses import LOSSES, dry_errors_times, gradient_loss, pixel_l2_loss, pixel_loss, total_loss
from idsr_cli.training.scenery import behind_drops
from idsr_cli.views import CONTRAST, SURROUNDINGS

Outputs = torch.Tensor | Sequence[torch.Tensor]
# A loss to minimise, and its parts by name, unweighted and detached.
Loss = tuple[torch.Tensor, dict[str, torch.Tensor]]

# Losses that do not compare the result with the clean image, beside those of `losses.LOSSES`. Only the objective
# "auxiliary" has use for the first; the others are on real photographs.
AUXILIARY, DISTIL, MATCHING = "auxiliary", "distil", "matching"
ON_REAL = (DISTIL, MATCHING)
ALL_LOSSES = (*LOSSES, AUXILIARY, *ON_REAL)


# What a teacher looks at, see `teacher_result`; steps alternate between them. A network's average sees no more than the
# network itself in the photograph as it is; another network may.
TeacherView = Literal["plain", "enlarged", "contrasted", "reduced"]
AVERAGE_VIEWS: tuple[TeacherView, ...] = ("enlarged", "contrasted", "reduced")
TEACHER_VIEWS: tuple[TeacherView, ...] = ("plain", *AVERAGE_VIEWS)


# So many times the errors in drawn pixels of real photographs count: most drawings are thin.
_DRAWN_TIMES = 4.0
# Side of the squares whose mean colour is to be the teacher's, px, and how many times that counts.
_TONE, _TONE_TIMES = 32, 4.0


@dataclass(frozen=True)
class Compare:
    """`total_loss` with its settings.

    Attributes:
        weights: weight per name of `ALL_LOSSES`; calls use those of `LOSSES`.
        octaves, balance: see `total_loss`.
        dry_errors: how many times errors in pixels without rain count, see `dry_errors_times`.
    """

    weights: Mapping[str, float]
    octaves: Sequence[int] = (-1, 0)
    balance: float = 0.0
    dry_errors: float = 1.0

    def __call__(self, restored: torch.Tensor, batch: Batch) -> Loss:
        """Loss and terms of one output of full size."""
        weights = {name: weight for name, weight in self.weights.items() if name in LOSSES}
        restored = dry_errors_times(self.dry_errors, restored, batch.clean, batch.rainy)
        return total_loss(restored, batch.clean, weights, self.octaves, self.balance, batch.rainy)


Objective = Callable[[Outputs, Batch, Compare], Loss]


def images_of(outputs: Outputs) -> list[torch.Tensor]:
    """The outputs as a list; the last one is the result."""
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


def result(outputs: Outputs) -> torch.Tensor:
    """The restored image, (B, 3, H, W)."""
    return images_of(outputs)[-1]


def split(outputs: Outputs, count: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Outputs of the first `count` samples, and of the others."""
    images = images_of(outputs)
    return [image[:count] for image in images], [image[count:] for image in images]


def compare_result(outputs: Outputs, batch: Batch, compare: Compare) -> Loss:
    """The result alone is compared with the clean image."""
    return compare(result(outputs), batch)


def compare_stages(outputs: Outputs, batch: Batch, compare: Compare) -> Loss:
    """Sum over all stages, each compared with the clean image; the terms are the last stage's."""
    losses = [compare(image, batch) for image in images_of(outputs)]
    return torch.stack([loss for loss, _ in losses]).sum(), losses[-1][1]


def compare_auxiliary(outputs: Outputs, batch: Batch, compare: Compare) -> Loss:
    """The result's loss plus that of the auxiliary outputs: their mean squared error, with the weight "auxiliary".

    An output of another size is compared with the clean image reduced to it.
    """
    *others, image = images_of(outputs)
    loss, terms = compare(image, batch)
    if others:
        errors = [pixel_l2_loss(other, _resized(batch.clean, other.shape[-2:])).mean() for other in others]
        auxiliary = torch.stack(errors).mean()
        # Also with weight 0: several processes wait for the gradients of all parameters.
        loss = loss + compare.weights.get(AUXILIARY, 0.0) * auxiliary
        terms = {**terms, AUXILIARY: auxiliary.detach()}
    return loss, terms


OBJECTIVES: dict[str, Objective] = {
    "result": compare_result,
    "stages": compare_stages,
    "auxiliary": compare_auxiliary,
}


def _resized(image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    if image.shape[-2:] == tuple(size):
        return image
    return F.interpolate(image, tuple(size), mode="bilinear", antialias=True)


@torch.no_grad()
def teacher_result(teacher: nn.Module, real: torch.Tensor, view: TeacherView = "enlarged") -> torch.Tensor:
    """A network's result for real photographs, as they are or in a view that makes some rain easier to see.

    Only what it removes from the view is taken back to the photograph and subtracted, so the scene stays as it is.

    Args:
        teacher: the network, in evaluation mode.
        real: (B, 3, H, W) in [0, 1]; H and W, and twice as much, must be sizes that the network accepts.
        view: "plain": the photograph as it is. "enlarged": twice the size, where streaks are coarser. "contrasted":
            with twice the local contrast, as in `restoration.RainRemover`, where they are brighter. "reduced": half
            the size, where wide streaks are narrower, and then at full size what is left of fine ones.

    Returns:
        (B, 3, H, W) in [0, 1], float32.
    """
    if view == "enlarged":
        height, width = real.shape[-2:]
        seen = F.interpolate(real, (2 * height, 2 * width), mode="bicubic").clamp(0.0, 1.0)
        change = _resized(_change(teacher, seen), (height, width))
    elif view == "reduced":
        height, width = real.shape[-2:]
        small = _resized(real, (height // 2, width // 2))
        # With its mirror images it has the photograph's size: half of that may be none that the network accepts.
        mirrored = torch.cat((small, small.flip(3)), 3)
        change = _change(teacher, torch.cat((mirrored, mirrored.flip(2)), 2))[..., : height // 2, : width // 2]
        coarse = (real + F.interpolate(change, (height, width), mode="bicubic")).clamp(0.0, 1.0)
        return (coarse + _change(teacher, coarse)).clamp(0.0, 1.0)
    elif view == "plain":
        change = _change(teacher, real)
    else:
        change = _change(teacher, raised(real, blur(real, SURROUNDINGS))) / CONTRAST
    return (real + change).clamp(0.0, 1.0)


def _change(teacher: nn.Module, seen: torch.Tensor) -> torch.Tensor:
    return result(teacher(seen.contiguous(memory_format=torch.channels_last))).float() - seen


@dataclass(frozen=True)
class Lesson:
    """Real photographs and what a network should make of them.

    Attributes:
        real: rainy, (B, 3, H, W) in [0, 1], with what is drawn.
        target: the same without the rain that the teacher sees.
        drawn: (B, 1, H, W) bool: pixels that are drawn over or have drops drawn before them, so that the target is
            right there, or None for nowhere.
    """

    real: torch.Tensor
    target: torch.Tensor
    drawn: torch.Tensor | None = None


@torch.no_grad()
def draw_lesson(real: torch.Tensor, target: torch.Tensor, drawings: torch.Tensor | None) -> Lesson:
    """Draw umbrella shafts, straps and other rain lookalikes into real photographs, behind their rain.

    A teacher that takes such things for rain passes that on. What is drawn is known to be none. And draw near drops
    before all of it, which are known to be rain.

    Args:
        real: rainy, (B, 3, H, W) in [0, 1].
        target: `teacher_result`.
        drawings: (B, 10, H, W), see `scenery.drawing_for_real` and `scenery.near_drops`; None = draw nothing.
    """
    if drawings is None:
        return Lesson(real, target)
    gain, colour, drops = drawings.split((3, 3, 4), 1)
    behind = target * gain + colour
    drawn = ((gain < 1.0 - 1.0 / 255.0) | (colour > 1.0 / 255.0)).any(1, keepdim=True)
    # Where nothing is drawn, this is the photograph, but for rounding.
    rainy = torch.where(drawn, (behind + real - target).clamp(0.0, 1.0), real)
    dropped = drops[:, :1] > 1.0 / 255.0
    return Lesson(torch.where(dropped, behind_drops(rainy, drops), rainy), behind, drawn | dropped)


def distillation(restored: torch.Tensor, lesson: Lesson, octaves: Sequence[int]) -> torch.Tensor:
    """Pixel plus gradient loss against the teacher's result, where the teacher removes more rain than the network.

    Two things count in any case: pixels that are drawn over, four times, and the tone, the mean colour of squares of
    32 pixels, where too dark is as wrong as too bright.

    Args:
        restored: the trained network's result for `lesson.real`, (B, 3, H, W).
        lesson: the photographs and the teacher's result.
        octaves: of the gradient loss.

    Returns:
        Mean over the batch, a scalar.
    """
    real, target, drawn = lesson.real, lesson.target, lesson.drawn
    removed, removed_by_teacher = (
        (real - image.detach().float()).square().mean(1, keepdim=True) for image in (restored, target)
    )
    more = removed_by_teacher - removed
    more = more if drawn is None else more.masked_fill(drawn, 0.0)
    counts = (more.mean((1, 2, 3), keepdim=True) > 0.0).to(more.dtype)
    if drawn is not None:
        counts = torch.where(drawn, _DRAWN_TIMES, counts)
    # Without this a network darkens photographs more with each run: nothing else here says that it removes too much.
    tone = F.avg_pool2d(restored - target, _TONE, ceil_mode=True).abs().mean((1, 2, 3))
    restored = target + counts * (restored - target)
    cost = pixel_loss(restored, target) + gradient_loss(restored, target, octaves)
    return (cost + _TONE_TIMES * tone).mean()
