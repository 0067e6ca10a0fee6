"""Rain is a function of its seed, falls where it is told, and its options mean what they say."""

from dataclasses import replace

import pytest
import torch

from idsr_cli.training.batches import BatchSource
from idsr_cli.training.rain import (
    RainOptions,
    RainSynthesizer,
    StreakOptions,
    blend,
    draw_lattice,
    random_streaks,
    streak_layer,
)

PLAIN = StreakOptions(length=30, width=2, density=0.001, brightness=0.8)
OFF = RainOptions(dry=0, procedural=0, second=0, turn=0, screen=0, veil=0, jpeg=0, noise=0, gamma=0, lattice=0)


def layer(options: StreakOptions, seed: int = 1, size: tuple[int, int] = (160, 200)) -> torch.Tensor:
    return streak_layer(size, options, torch.Generator().manual_seed(seed))


def direction(image: torch.Tensor) -> float:
    """Dominant streak angle in degrees from vertical, positive falling to the right, by the structure tensor."""
    y, x = torch.gradient(image)
    angle = 0.5 * torch.atan2(2 * (x * y).sum(), (x * x - y * y).sum())  # of the gradient, across the streaks
    return -torch.rad2deg(angle).item()


def test_seed_decides() -> None:
    assert torch.equal(layer(PLAIN, 3), layer(PLAIN, 3))
    assert not torch.equal(layer(PLAIN, 3), layer(PLAIN, 4))
    assert layer(PLAIN).shape == (160, 200)


@pytest.mark.parametrize("angle", [-60.0, -20.0, 0.0, 15.0, 45.0])
def test_angle_is_from_vertical_and_positive_to_the_right(angle: float) -> None:
    assert direction(layer(replace(PLAIN, width=5, angle=angle, jitter=0))) == pytest.approx(angle, abs=3)


def test_one_drop_has_the_length_and_width_asked_for() -> None:
    image = torch.zeros(1)
    for seed in range(60):  # a seed with a single drop well inside
        image = layer(replace(PLAIN, length=40, width=3, density=2e-5, jitter=0, brightness=1.0), seed, (140, 140))
        bright = image > 0.5 * image.max()
        rows, columns = bright.any(1).nonzero(), bright.any(0).nonzero()
        if len(rows) and rows.min() > 2 and rows.max() < 137 and columns.max() - columns.min() < 8:
            break
    else:
        pytest.fail("no single drop in 60 seeds")
    assert 0.65 * 40 <= len(rows) <= 1.35 * 40
    assert len(columns) == pytest.approx(3, abs=1)


def test_density_brightness_and_defocus() -> None:
    light = layer(PLAIN).mean()
    assert layer(replace(PLAIN, density=0.003)).mean().item() == pytest.approx(3 * light.item(), rel=0.35)
    assert layer(replace(PLAIN, brightness=0.4)).mean().item() == pytest.approx(0.5 * light.item(), rel=0.05)
    sharp, soft = layer(PLAIN), layer(replace(PLAIN, blur=3.0))
    assert soft.max() < 0.6 * sharp.max()
    assert soft.mean().item() == pytest.approx(
        sharp.mean().item(), rel=0.3
    )  # defocus moves light, it does not remove it


def test_blending() -> None:
    clean = torch.tensor([0.0, 0.5, 0.9]).view(3, 1, 1).expand(3, 4, 4)
    rain = torch.full((4, 4), 0.2)
    assert torch.allclose(blend(clean, rain)[:, 0, 0], torch.tensor([0.2, 0.7, 1.0]))
    assert torch.allclose(blend(clean, rain, screen=True)[:, 0, 0], torch.tensor([0.2, 0.6, 0.92]))


def test_random_rain_is_varied_and_legal() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [streaks for _ in range(200) for streaks in random_streaks(generator)]
    assert all(6 <= s.length <= 70 and 0.8 <= s.width <= 5 and 0 < s.density < 0.2 for s in drawn)
    assert min(s.angle for s in drawn) < -45
    assert max(s.angle for s in drawn) > 45
    assert 0.1 < sum(s.blur > 0 for s in drawn) / len(drawn) < 0.4


def synthesise(
    options: RainOptions, layers: list[list[torch.Tensor]], seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    clean = torch.full((3, 64, 64), 0.25)
    return RainSynthesizer(layers, options)(clean, generator, generator)


def test_dry_samples_are_untouched() -> None:
    rainy, clean = synthesise(replace(OFF, dry=1.0), [])
    assert torch.equal(rainy, clean)


def test_measured_layers_come_from_every_folder() -> None:
    folders = [[torch.full((90, 90), value, dtype=torch.uint8)] for value in (40, 80)]
    gains = set()
    for seed in range(12):
        rainy, clean = synthesise(OFF, folders, seed)
        gains.add(round((rainy - clean).mean().item(), 3))
    assert min(gains) == pytest.approx(40 / 255, rel=0.35)
    assert max(gains) == pytest.approx(80 / 255, rel=0.35)
    assert len(gains) > 6


def test_degradations_act_where_they_should() -> None:
    layers = [[torch.full((90, 90), 50, dtype=torch.uint8)]]
    noisy = synthesise(replace(OFF, noise=1.0), layers, 2)
    assert noisy[1].std() > 1e-4  # the noise is the photograph's: the clean side has it too
    exposed = synthesise(replace(OFF, gamma=1.0), layers, 1)
    assert exposed[1].mean().item() != pytest.approx(0.25, abs=1e-3)
    rainy = synthesise(OFF, layers)[0] * 255
    assert torch.equal(rainy, rainy.round())
    generator = torch.Generator().manual_seed(3)
    textured = torch.rand(3, 64, 64, generator=generator)
    coded, target = RainSynthesizer(layers, replace(OFF, jpeg=1.0))(textured, generator, generator)
    assert torch.equal(target, textured)
    assert (coded - (textured + 50 / 255).clamp(0, 1)).abs().mean() > 0.01


def test_batches_mix_photographs_and_pairs_of_any_size() -> None:
    photos = [torch.full((3, 20, 300), 100, dtype=torch.uint8)]  # smaller than the patch: mirrored up
    pair = torch.cat((torch.full((3, 70, 70), 200, dtype=torch.uint8), torch.full((3, 70, 70), 20, dtype=torch.uint8)))
    source = BatchSource(photos, [pair], RainSynthesizer(options=replace(OFF, dry=1.0)), patch=64, pair_share=0.5)
    generator = torch.Generator().manual_seed(0)
    rainy, clean = source(40, generator, generator)
    assert rainy.shape == clean.shape == (40, 3, 64, 64)
    from_pairs = (clean.mean((1, 2, 3)) * 255).round() == 20
    assert 10 <= int(from_pairs.sum()) <= 30
    assert ((rainy[from_pairs] * 255).round() == 200).all()
    assert torch.equal(rainy[~from_pairs], clean[~from_pairs])
    with pytest.raises(ValueError, match="no photographs"):
        BatchSource([], [], RainSynthesizer())


def test_measured_layers_are_turned_for_other_winds() -> None:
    upright = (layer(replace(PLAIN, width=4, jitter=0), size=(200, 200)) * 255).byte()
    angles = []
    for seed in range(24):
        rainy, clean = synthesise(replace(OFF, turn=1.0), [[upright]], seed)
        angles.append(direction((rainy - clean)[0]))
    assert max(angles) > 8
    assert min(angles) < -8
    assert abs(direction((synthesise(OFF, [[upright]])[0] - 0.25)[0])) < 4


def test_several_layers_make_heavier_rain() -> None:
    thin = [[torch.full((90, 90), 6, dtype=torch.uint8)]]
    single = [(synthesise(OFF, thin, seed)[0] - 0.25).mean().item() for seed in range(6)]
    several = [(synthesise(replace(OFF, second=1.0), thin, seed)[0] - 0.25).mean().item() for seed in range(6)]
    assert sum(several) == pytest.approx(5 * sum(single), rel=0.25)
    # A layer that hides most of the scene by itself gets no other on top.
    thick = [[torch.full((90, 90), 80, dtype=torch.uint8)]]
    for seed in range(6):
        once, again = (synthesise(replace(OFF, second=second), thick, seed)[0] for second in (0.0, 1.0))
        assert torch.equal(once, again)


def test_a_lattice_is_regular_and_belongs_to_the_clean_photograph() -> None:
    rainy, clean = synthesise(replace(OFF, lattice=1.0, dry=1.0), [])
    assert torch.equal(rainy, clean)
    rained = [not torch.equal(*synthesise(replace(OFF, lattice=1.0), [], seed)) for seed in range(40)]
    assert 14 <= sum(rained) <= 34  # 60 % of them
    bare = torch.full((3, 128, 128), 0.5)
    drawn = [draw_lattice(bare, torch.Generator().manual_seed(seed)) for seed in range(8)]
    kept = [(image == bare).all(0).any().item() for image in drawn]
    assert set(kept) == {False, True}  # what lies between the bars stays, or becomes one colour
    for image in drawn:
        assert image.min() >= 0.0
        assert image.max() <= 1.0
        between = image[0].flatten().mode().values
        assert 0.02 < (image[0] != between).double().mean() < 0.95
        # One strong line in the spectrum, away from its middle: a period.
        spectrum = torch.fft.rfft2((image - image.mean()).sum(0)).abs()
        assert spectrum.max() > 20 * spectrum.median()
