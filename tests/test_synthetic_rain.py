"""Synthetic rain: a function of its seed, in the direction asked for; each option has its stated effect."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from idsr_cli import synthetic_rain
from idsr_cli.synthetic_rain import (
    AskedRain,
    Rain,
    RainOptions,
    RainSynthesizer,
    StreakOptions,
    VeilOptions,
    add_veil,
    composite,
    depth_layers,
    rain_photo,
    random_light,
    random_rain,
    random_streaks,
    reduced,
    streak_layer,
    streak_layers,
)

PLAIN = StreakOptions(length=30, width=2, density=0.001, brightness=0.8)
OFF = RainOptions(procedural=0, second=0, turn=0, reduced=0, occlude=0, screen=0, measured_added=0, veil=0)


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


def test_a_streak_thinner_than_a_pixel_is_what_reduction_makes_of_a_wider_one() -> None:
    streaks = replace(PLAIN, length=24, width=1.6, jitter=0, angle=30)
    small = torch.nn.functional.avg_pool2d(layer(streaks, size=(480, 480))[None], 4)[0]
    thin = layer(reduced(streaks, 4), size=(120, 120))
    assert thin.mean().item() == pytest.approx(small.mean().item(), rel=0.15)
    assert thin.std().item() == pytest.approx(small.std().item(), rel=0.25)
    assert thin.max() < 0.7 * layer(replace(PLAIN, length=6, width=0.8, density=0.016), size=(120, 120)).max()


def test_a_fan_turns_from_left_to_right_and_keeps_the_density() -> None:
    fan = layer(replace(PLAIN, width=3, jitter=0, fan=20.0, density=0.003), size=(160, 480))
    left, right = direction(fan[:, :120]), direction(fan[:, -120:])
    assert (left, right) == (pytest.approx(-16, abs=7), pytest.approx(16, abs=7))
    straight = layer(replace(PLAIN, width=3, jitter=0, density=0.003), size=(160, 480))
    assert fan.mean().item() == pytest.approx(straight.mean().item(), rel=0.2)


def test_patchy_rain_leaves_places_out() -> None:
    even, patchy = (
        torch.stack([
            layer(replace(PLAIN, density=0.004, patchy=patchy), seed, (256, 256)).view(4, 64, 4, 64).mean((1, 3))
            for seed in range(6)
        ])
        for patchy in (0.0, 1.0)
    )  # fmt: skip
    assert patchy.std() > 2 * even.std()
    assert patchy.min() < 0.2 * patchy.mean()


def test_compositing() -> None:
    clean = torch.tensor([0.0, 0.5, 0.9]).view(3, 1, 1).expand(3, 4, 4)
    rain = torch.full((4, 4), 0.2)
    assert torch.allclose(composite(clean, rain)[:, 0, 0], torch.tensor([0.2, 0.7, 1.0]))
    assert torch.allclose(composite(clean, rain, "screen")[:, 0, 0], torch.tensor([0.2, 0.6, 0.92]))
    # I = (1 - a) B + a E: darker than the sky, lighter than asphalt.
    occluded = composite(clean, rain, "occlude", (0.6, 0.6, 0.6))[:, 0, 0]
    assert torch.allclose(occluded, torch.tensor([0.12, 0.52, 0.84]))
    # Something of the scene is always left.
    assert torch.allclose(composite(clean, torch.ones(4, 4), "occlude", (0, 0, 0))[2], torch.tensor(0.9 * 0.05))


def test_layers_in_front_of_each_other_cover_no_more_than_everything() -> None:
    streaks = (replace(PLAIN, density=0.02),) * 2
    both = streak_layers((80, 80), streaks, torch.Generator().manual_seed(1))
    assert both.max() <= 1.0
    generator = torch.Generator().manual_seed(1)
    first, second = (streak_layer((80, 80), s, generator) for s in streaks)
    assert torch.allclose(both, first + second - first * second, atol=1e-6)


def test_a_veil_keeps_its_share_of_the_scene_and_is_smooth() -> None:
    clean = torch.rand(3, 200, 300, generator=torch.Generator().manual_seed(0))
    veiled = add_veil(clean, VeilOptions(0.5, 0.9, 150.0), torch.Generator().manual_seed(1))
    transmission = (veiled - 0.9) / (clean - 0.9)
    transmission = transmission[:, ((clean - 0.9).abs() > 0.05).all(0)]
    assert 0.5 <= transmission.min() < transmission.max() <= 1.0
    grey = add_veil(torch.zeros(3, 200, 300), VeilOptions(0.5, 0.9, 150.0), torch.Generator().manual_seed(1))
    assert grey.diff(dim=-1).abs().max() < 0.02


def test_light_is_the_photographs_or_grey() -> None:
    photo = torch.stack([torch.full((40, 40), level) for level in (0.2, 0.4, 0.6)])
    photo[:, :8] = torch.tensor([0.7, 0.8, 0.9]).view(3, 1, 1)
    drawn = [random_light(photo, torch.Generator().manual_seed(seed)) for seed in range(80)]
    assert all(0.0 <= value <= 1.0 for light in drawn for value in light)
    spread = [max(light) - min(light) for light in drawn]
    assert 0.4 < sum(s <= 0.051 for s in spread) / 80 < 0.8
    assert any(light == pytest.approx((0.7, 0.8, 0.9), abs=1e-3) for light in drawn)  # the sky's


def test_layers_further_away_are_smaller_denser_and_dimmer() -> None:
    near, far = depth_layers(replace(PLAIN, density=0.7), 2)
    assert near == replace(PLAIN, density=0.7)
    assert (far.length, far.width) == (pytest.approx(18), pytest.approx(1.4))
    assert (far.density, far.brightness) == (1.0, pytest.approx(0.64))


def test_rain_on_a_photograph_is_its_names_and_what_is_asked_for_holds() -> None:
    photo = np.full((60, 80, 3), 0.5, np.float32)
    once, again, other = (rain_photo(photo, 1, name) for name in ("a", "a", "b"))
    assert (once == again).all()
    assert (once != other).any()
    dark = rain_photo(photo, 1, "a", AskedRain(streaks=(PLAIN,), composite="occlude", light=0.0))
    assert dark.max() == 0.5
    assert dark.min() < 0.3
    hazy = rain_photo(photo, 1, "a", AskedRain((), "add", None, VeilOptions(0.4, 1.0, 50.0)))
    assert 0.5 <= hazy.min() < hazy.max() <= 0.8


def test_the_light_asked_for_is_that_of_a_random_veil_too(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Rain(composite="add", veil=VeilOptions(0.5, 1.0, 50.0))
    monkeypatch.setattr(synthetic_rain, "random_rain", lambda *_: drawn)
    photo = np.full((60, 80, 3), 0.5, np.float32)
    random, dark = rain_photo(photo, 1, "a"), rain_photo(photo, 1, "a", AskedRain(light=0.0))
    assert random.min() > 0.5 > dark.max()
    np.testing.assert_allclose(dark, 1 - random, atol=1e-6)


def test_random_rain_is_varied_and_legal() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [streaks for _ in range(300) for streaks in random_streaks(generator)]
    assert all(0.5 <= s.length <= 90 and 0.1 <= s.width <= 10 and 0 < s.density <= 0.5 for s in drawn)
    assert min(s.angle for s in drawn) < -45
    assert max(s.angle for s in drawn) > 45
    for share in (
        sum(s.blur > 0 for s in drawn),
        sum(s.width < 0.8 for s in drawn),
        sum(s.fan > 0 for s in drawn),
        sum(s.patchy > 0 for s in drawn),
        sum(s.brightness * math.sqrt(s.density * s.length * s.width) < 0.06 for s in drawn),  # faint
    ):
        assert 0.08 < share / len(drawn) < 0.45


@pytest.mark.parametrize("share", [0.0, 0.23, 0.5])
def test_the_share_of_faint_rain(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {kind.__name__: each for each, kind, *_ in synthetic_rain._KINDS}
    names = list(before)
    marked = {name: lambda _, i=i: StreakOptions(length=float(i)) for i, name in enumerate(names)}
    for name, kind in marked.items():
        monkeypatch.setattr(synthetic_rain, name, kind)
    kinds = tuple((each, marked[kind.__name__], *rest) for each, kind, *rest in synthetic_rain._KINDS)
    monkeypatch.setattr(synthetic_rain, "_KINDS", kinds)
    generator = torch.Generator().manual_seed(1)
    drawn = [names[int(random_streaks(generator, 0.0, share)[0].length)] for _ in range(600)]
    more = share - before["_faint"]
    change = {"_faint": more, "_ordinary": -more / 2, "_thick": -more / 2}
    for name, share_before in before.items():
        assert drawn.count(name) / 600 == pytest.approx(share_before + change.get(name, 0.0), abs=0.05)


def test_random_rain_follows_the_shares_of_its_mixture() -> None:
    clean = torch.full((3, 32, 32), 0.5)
    rains = [random_rain(clean, torch.Generator().manual_seed(seed)) for seed in range(300)]
    o = RainOptions()
    for share, found in (
        (o.occlude, [rain.composite == "occlude" for rain in rains]),
        (o.screen, [rain.composite == "screen" for rain in rains]),
        (o.veil, [rain.veil is not None for rain in rains]),
    ):
        assert sum(found) / 300 == pytest.approx(share, abs=0.08)


def synthesise(
    options: RainOptions, layers: list[list[torch.Tensor]], seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    clean = torch.full((3, 64, 64), 0.25)
    return RainSynthesizer(layers, options)(clean, generator, generator), clean


def test_measured_layers_come_from_every_folder() -> None:
    folders = [[torch.full((90, 90), value, dtype=torch.uint8)] for value in (40, 80)]
    gains = set()
    for seed in range(12):
        rainy, clean = synthesise(OFF, folders, seed)
        gains.add(round((rainy - clean).mean().item(), 3))
    assert min(gains) == pytest.approx(40 / 255, rel=0.35)
    assert max(gains) == pytest.approx(80 / 255, rel=0.35)
    assert len(gains) > 6


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


def test_measured_layers_are_reduced_with_their_shape_kept() -> None:
    stripes = (100 + 100 * torch.sin(torch.arange(400) * (math.tau / 12))).byte().expand(400, 400)

    def spacing(options: RainOptions, seed: int) -> float:
        rainy, clean = synthesise(options, [[stripes]], seed)
        spectrum = torch.fft.rfft((rainy - clean)[0].mean(0)).abs()
        return 64 / (1 + spectrum[1:].argmax().item())

    plain = [spacing(OFF, seed) for seed in range(12)]
    reduced = [spacing(replace(OFF, reduced=1.0), seed) for seed in range(12)]
    assert 7 < min(plain) <= max(plain) < 19
    assert min(reduced) < 7
    assert sum(reduced) < 0.75 * sum(plain)
