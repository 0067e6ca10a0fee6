"""One image, stages or auxiliary heads become one loss; self-distillation compares with the teacher's result."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from idsr_cli import networks
from idsr_cli.training import objectives
from idsr_cli.training.batches import Batch

CONFIG = {"widths": (8, 12), "blocks": (1, 1, 1), "unshuffle": 2, "attention": "spatial"}


def images(seed: int, count: int = 2, size: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


compare = objectives.Compare({"pixel": 1.0, "auxiliary": 0.4})


class Fainter(nn.Module):
    """Removes the same share of every pixel, whatever the image's size."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (1.0 - self.share) * x


@pytest.mark.parametrize("name", list(objectives.OBJECTIVES))
def test_one_image_is_compared_as_it_is(name: str) -> None:
    batch = Batch(images(1), images(2))
    loss, terms = objectives.OBJECTIVES[name](images(3), batch, compare)
    assert loss.item() == pytest.approx((images(3) - batch.clean).abs().mean().item())
    assert set(terms) == {"pixel"}


def test_stages_and_heads() -> None:
    batch = Batch(images(1), images(2))
    stages = [batch.clean + 0.3, batch.clean + 0.1]
    loss = {name: f(stages, batch, compare)[0].item() for name, f in objectives.OBJECTIVES.items()}
    assert loss == pytest.approx({"result": 0.1, "stages": 0.3 + 0.1, "auxiliary": 0.1 + 0.4 * 0.3**2})
    assert objectives.compare_stages(stages, batch, compare)[1]["pixel"].item() == pytest.approx(0.1)
    small = nn.functional.interpolate(batch.clean, (16, 16), mode="bilinear", antialias=True)
    heads = [small + 0.5, batch.clean + 0.1]
    loss, terms = objectives.compare_auxiliary(heads, batch, compare)
    assert loss.item() == pytest.approx(0.1 + 0.4 * 0.5**2)
    assert {name: value.item() for name, value in terms.items()} == pytest.approx({"pixel": 0.1, "auxiliary": 0.25})
    heads[0].requires_grad_()
    objectives.compare_auxiliary(heads, batch, objectives.Compare({"pixel": 1.0}))[0].backward()
    assert (heads[0].grad == 0).all()  # without weight: a gradient, for training in several processes, of zeros


def test_outputs_are_split_by_sample() -> None:
    first, rest = objectives.split([images(1, 5), images(2, 5)], 3)
    assert [len(image) for image in (*first, *rest)] == [3, 3, 2, 2]
    assert torch.equal(objectives.result(rest), images(2, 5)[3:])


@pytest.mark.parametrize("view", objectives.TEACHER_VIEWS)
def test_a_teacher_that_sees_no_rain_leaves_the_photograph_as_it_is(view: objectives.TeacherView) -> None:
    assert torch.equal(objectives.teacher_result(nn.Identity(), images(4), view), images(4))


def test_in_the_plain_view_the_teachers_result_is_the_target() -> None:
    target = objectives.teacher_result(Fainter(0.5), images(5), "plain")
    torch.testing.assert_close(target, 0.5 * images(5), rtol=0, atol=1e-6)


def test_what_the_teacher_removes_is_reduced_and_taken_off() -> None:
    real = 0.5 + 0.2 * images(5)
    target = objectives.teacher_result(Fainter(0.5), real)
    assert target.shape == real.shape
    assert target.mean().item() == pytest.approx(0.5 * real.mean().item(), rel=1e-2)
    assert not target.requires_grad


def test_a_teacher_sees_twice_the_contrast_and_its_result_has_the_photographs_own() -> None:
    class Brighter(nn.Module):
        """Takes bright lines out that are at least 0.15 above their surroundings."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return torch.where(x > 0.55, 0.4, x)

    seen: list[torch.Tensor] = []
    real = torch.full((1, 3, 64, 64), 0.4)
    real[..., 5::16] = 0.5  # too faint
    assert torch.equal(Brighter()(real), real)
    restored = objectives.teacher_result(Brighter(), real, "contrasted")
    assert seen[-1].amax() - seen[-1].amin() == pytest.approx(0.2, abs=0.01)
    lines, between = restored[..., 5::16], restored[..., 12::16]
    assert lines.max() < 0.42
    torch.testing.assert_close(between, real[..., 12::16], rtol=0, atol=1e-6)


def test_a_teacher_sees_wide_rain_at_half_the_size_and_then_what_is_left() -> None:
    class Narrow(nn.Module):
        """Takes out bright lines of less than 5 pixels."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            least = -functional.max_pool2d(-x, (1, 5), 1, (0, 2))
            return functional.max_pool2d(least, (1, 5), 1, (0, 2))

    seen: list[torch.Tensor] = []
    scene = torch.full((2, 3, 64, 64), 0.4)
    wide, both = scene.clone(), scene.clone()
    wide[..., 20:28] = both[..., 20:28] = 0.6
    both[..., 45] = 0.6
    assert torch.equal(Narrow()(wide), wide)
    seen.clear()
    restored = objectives.teacher_result(Narrow(), both, "reduced")
    assert [x.shape for x in seen] == [both.shape, both.shape]  # so a size that fits the network fits here, too
    assert (restored - scene).square().mean() < 0.05 * (both - scene).square().mean()
    assert not restored.requires_grad


def test_only_photographs_from_which_the_teacher_removes_more_count() -> None:
    streaks = images(6) - 0.5
    streaks -= streaks.mean((2, 3), keepdim=True)  # without them the tone is the same
    real = 0.5 + 0.4 * streaks
    target = torch.stack((real[0] - 0.3 * streaks[0], real[1] - 0.1 * streaks[1]))
    cost = partial(objectives.distillation, lesson=objectives.Lesson(real, target), octaves=(0,))
    only_first = cost(real - 0.2 * streaks)
    first = objectives.Lesson(real[:1], target[:1])
    by_hand = objectives.distillation(real[:1] - 0.2 * streaks[:1], first, (0,)) / 2
    assert only_first.item() == pytest.approx(by_hand.item(), rel=1e-4)
    assert only_first.item() > 1e-3
    assert cost(real - 0.4 * streaks).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("darker", [-0.05, 0.05])
def test_the_tone_counts_in_any_case(darker: float) -> None:
    real = 0.5 + 0.2 * images(6, size=70)  # not a multiple of the squares' side
    lesson = objectives.Lesson(real, 0.9 * real)
    cost = objectives.distillation(0.7 * real - darker, lesson, (0,))
    tone = (0.2 * real + darker).mean().item()
    assert cost.item() == pytest.approx(objectives._TONE_TIMES * tone, rel=0.02)


def test_drawings_are_put_behind_the_rain_of_real_photographs() -> None:
    scene = 0.2 + 0.3 * images(8)
    real = scene + 0.1  # the rain that the teacher takes away
    drawings = torch.cat((torch.ones_like(real), torch.zeros(len(real), 7, *real.shape[-2:])), 1)
    assert torch.equal(objectives.draw_lesson(real, scene, drawings).real, real)
    assert objectives.draw_lesson(real, scene, None) == objectives.Lesson(real, scene)
    drawings[:, :, :, 4:8] = 0.0
    drawings[:, 3:6, :, 4:8] = 0.6  # an opaque pole
    lesson = objectives.draw_lesson(real, scene, drawings)
    assert torch.allclose(lesson.target[..., 4:8], torch.tensor(0.6))
    assert torch.allclose(lesson.real[..., 4:8], torch.tensor(0.7))
    assert lesson.drawn is not None
    assert lesson.drawn[..., 4:8].all()
    assert lesson.drawn.sum() == lesson.drawn[..., 4:8].numel()
    beside = ~lesson.drawn.expand_as(real)
    assert torch.equal(lesson.real[beside], real[beside])
    assert torch.equal(lesson.target[beside], scene[beside])


def test_drops_are_drawn_before_real_photographs_and_their_drawings() -> None:
    scene = 0.2 + 0.3 * images(8)
    real = scene + 0.1
    drawings = torch.cat((torch.ones_like(real), torch.zeros(len(real), 7, *real.shape[-2:])), 1)
    drawings[:, :6, :, 4:8] = 0.0
    drawings[:, 3:6, :, 4:8] = 0.6
    bare = objectives.draw_lesson(real, scene, drawings)
    drawings[:, 6, 2:4] = 0.25
    drawings[:, 7:, 2:4] = 0.25 * 0.8
    lesson = objectives.draw_lesson(real, scene, drawings)
    assert torch.equal(lesson.target, bare.target)
    assert torch.allclose(lesson.real[..., 2:4, :], 0.75 * bare.real[..., 2:4, :] + 0.2)
    assert torch.equal(lesson.real[..., 4:, :], bare.real[..., 4:, :])
    assert lesson.drawn is not None
    assert lesson.drawn[..., 2:4, :].all()
    assert not lesson.drawn[..., 4:, :4].any()


def test_a_network_that_removes_too_much_is_corrected_where_something_is_drawn() -> None:
    real = 0.5 + 0.2 * images(6)
    target = 0.9 * real
    drawn = torch.zeros_like(real[:, :1], dtype=torch.bool)
    drawn[..., 4:8] = True
    restored = (0.5 * real).requires_grad_()
    objectives.distillation(restored, objectives.Lesson(real, target, drawn), (0,)).backward()
    assert restored.grad is not None
    assert restored.grad[..., 4:8].abs().min() > 0
    untouched = objectives.distillation(target, objectives.Lesson(real, target, drawn), (0,))
    assert untouched.item() == 0.0


def test_distillation_brings_a_network_nearer_to_its_teacher() -> None:
    torch.manual_seed(0)
    real = 0.5 + 0.2 * images(7)
    target = objectives.teacher_result(Fainter(0.2), real)
    student = networks.build("unet", CONFIG)
    optimizer = torch.optim.Adam(student.parameters(), 3e-4)
    distances = []
    for _ in range(15):
        restored = student(real)
        distances.append((restored - target).abs().mean().item())
        optimizer.zero_grad()
        objectives.distillation(restored, objectives.Lesson(real, target), (-1, 0)).backward()
        optimizer.step()
    assert distances[-1] < 0.7 * distances[0]
