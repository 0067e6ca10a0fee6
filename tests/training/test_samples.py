"""Training samples: the shares of each kind are right, and changes to the clean image appear in both images."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from idsr_cli.synthetic_rain import RainOptions, RainSynthesizer
from idsr_cli.training import batches, scenery
from idsr_cli.training.batches import BatchSource, contrasted
from idsr_cli.training.samples import SampleMaker, SampleOptions
from idsr_cli.views import CONTRAST, Contrasted

OFF = SampleOptions(dry=0, lookalikes=0, sky=0, film=0, gamma=0, noise=0, haze=0, tone=0, flat=0, sharpen=0, jpeg=0)
EVEN = RainOptions(procedural=0, second=0, turn=0, reduced=0, occlude=0, screen=0, measured_added=0, veil=0)
LAYERS = [[torch.full((90, 90), 50, dtype=torch.uint8)]]


def sample(
    options: SampleOptions, layers: list[list[torch.Tensor]] = LAYERS, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    clean = torch.full((3, 64, 64), 0.25)
    return SampleMaker(RainSynthesizer(layers, EVEN), options)(clean, generator, generator)


def test_dry_samples_are_untouched() -> None:
    rainy, clean = sample(replace(OFF, dry=1.0))
    assert torch.equal(rainy, clean)
    assert torch.equal(clean, torch.full((3, 64, 64), 64 / 255))


def test_degradations_act_where_they_should() -> None:
    noisy = sample(replace(OFF, noise=1.0), seed=2)
    assert noisy[1].std() > 1e-4  # the clean image has the noise too
    exposed = sample(replace(OFF, gamma=1.0), seed=1)
    assert exposed[1].mean().item() != pytest.approx(0.25, abs=1e-3)
    rainy, clean = sample(OFF)
    assert torch.equal(rainy * 255, (rainy * 255).round())
    toned = [sample(replace(OFF, tone=1.0), seed=seed) for seed in range(6)]
    assert all(torch.equal(target, clean) for _, target in toned)
    assert len({round(image.mean().item(), 3) for image, _ in toned}) > len({round(rainy.mean().item(), 3)})
    generator = torch.Generator().manual_seed(3)
    textured = torch.rand(3, 64, 64, generator=generator)
    coded, target = SampleMaker(RainSynthesizer(LAYERS, EVEN), replace(OFF, jpeg=1.0))(textured, generator, generator)
    assert torch.equal(target, textured)
    assert (coded - (textured + 50 / 255).clamp(0, 1)).abs().mean() > 0.01


def test_contrast_is_reduced_in_both_pictures() -> None:
    textured = 0.3 + 0.2 * torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(3))
    layer = [torch.zeros(64, 64, dtype=torch.uint8)]
    layer[0][:, ::8] = 50
    for dry in (0.0, 1.0):
        generator = torch.Generator().manual_seed(1)
        maker = SampleMaker(RainSynthesizer([layer], EVEN), replace(OFF, flat=1.0, dry=dry))
        rainy, clean = maker(textured, generator, generator)
        contrast = (clean.std() / textured.std()).item()
        assert 0.34 < contrast < 0.9
        torch.testing.assert_close(clean.mean((1, 2)), textured.mean((1, 2)), rtol=0, atol=2e-3)
        added = (rainy - clean).max().item()
        assert added == (pytest.approx(50 / 255 * contrast, rel=0.4) if not dry else 0)


def test_sharpening_is_of_both_pictures() -> None:
    textured = 0.3 + 0.2 * torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(0)
    maker = SampleMaker(RainSynthesizer(LAYERS, EVEN), replace(OFF, sharpen=1.0))
    rainy, clean = maker(textured, generator, generator)
    assert clean.std() > 1.2 * textured.std()
    assert (rainy - clean).std() < 0.01  # even rain: both were sharpened alike


def test_dry_and_rainy_pictures_have_8_bits() -> None:
    for seed in range(8):
        for dry in (0.0, 1.0):
            rainy, _ = sample(replace(OFF, dry=dry, gamma=1.0, noise=1.0), seed=seed)
            assert torch.equal(rainy, (rainy * 255).round() / 255)


def test_haze_without_rain_stays() -> None:
    rainy, clean = sample(replace(OFF, dry=1.0, haze=1.0))
    assert torch.equal(rainy, clean)
    assert clean.mean() > 0.26


def test_a_film_scan_is_grey_and_grainy_on_both_sides() -> None:
    scans = [sample(replace(OFF, film=1.0, dry=1.0), seed=seed)[1] for seed in range(8)]
    assert all(scan.std() > 1.5 / 255 for scan in scans)
    assert sum(torch.equal(scan[0], scan[1]) for scan in scans) >= 4


def test_a_grey_film_scan_is_grey_in_tinted_rain() -> None:
    grey = 0
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        maker = SampleMaker(RainSynthesizer([], RainOptions(occlude=1.0, veil=0.0)), replace(OFF, film=1.0))
        photo = torch.tensor([0.3, 0.25, 0.2]).view(3, 1, 1).expand(3, 64, 64)
        rainy, clean = maker(photo, generator, generator)
        if torch.equal(clean[0], clean[1]):
            assert torch.equal(rainy[0], rainy[1])
            assert torch.equal(rainy[0], rainy[2])
            grey += 1
        assert not torch.equal(rainy, clean)
    assert 6 <= grey < 12


def test_half_of_the_procedural_rain_on_film_scans_is_faint(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def rain(self: RainSynthesizer, clean: torch.Tensor, *generators: torch.Generator) -> torch.Tensor:
        asked.append(self.options.faint)
        return clean

    monkeypatch.setattr(RainSynthesizer, "__call__", rain)
    sample(replace(OFF, film=1.0))
    sample(OFF)
    assert asked == [0.5, EVEN.faint]


def test_batches_mix_photographs_and_pairs_of_any_size() -> None:
    photos = [torch.full((3, 20, 300), 100, dtype=torch.uint8)]  # smaller than the patch: mirrored up
    pair = torch.cat((torch.full((3, 70, 70), 200, dtype=torch.uint8), torch.full((3, 70, 70), 20, dtype=torch.uint8)))
    source = BatchSource(
        photos, [pair], SampleMaker(RainSynthesizer(), replace(OFF, dry=1.0)), patch=64, pair_share=0.5, views=0.0
    )
    generator = torch.Generator().manual_seed(0)
    batch = source(40, generator, generator)
    rainy, clean = batch.rainy, batch.clean
    assert batch.real is None
    assert rainy.shape == clean.shape == (40, 3, 64, 64)
    from_pairs = (clean.mean((1, 2, 3)) * 255).round() == 20
    assert 10 <= int(from_pairs.sum()) <= 30
    assert ((rainy[from_pairs] * 255).round() == 200).all()
    assert torch.equal(rainy[~from_pairs], clean[~from_pairs])
    with pytest.raises(ValueError, match="no photographs"):
        BatchSource([], [], SampleMaker(RainSynthesizer()))


def test_real_photographs_come_beside_the_pairs_and_do_not_change_them() -> None:
    photos = [torch.randint(0, 256, (3, 90, 90), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)]
    real = [torch.arange(100, dtype=torch.uint8).repeat(3, 100, 1).contiguous()]
    make = SampleMaker(RainSynthesizer(), OFF)
    without, beside = BatchSource(photos, [], make, 64), BatchSource(photos, [], make, 64, real=real)
    a, b = (source(8, g, g) for source in (without, beside) for g in [torch.Generator().manual_seed(0)])
    assert torch.equal(a.rainy, b.rainy)
    assert torch.equal(a.clean, b.clean)
    assert b.real is not None
    assert b.real.shape == (2, 3, 64, 64)
    assert b.drawings is not None
    assert b.drawings.shape == (2, 10, 64, 64)
    assert (b.real.diff(dim=-2) == 0).all()  # not turned
    assert torch.allclose(b.real.diff(dim=-1).abs() * 255, torch.ones(()), atol=1e-3)  # not zoomed
    g = torch.Generator().manual_seed(0)
    assert len(beside(1, g, g).real) == 1  # type: ignore[arg-type]


def test_large_batches_have_about_as_many_pixels() -> None:
    photos = [torch.full((3, 200, 200), 100, dtype=torch.uint8)]
    source = BatchSource(photos, [], SampleMaker(RainSynthesizer(), replace(OFF, dry=1.0)), patch=64, large=0.5)
    generator = torch.Generator().manual_seed(0)
    sides = [tuple(source(9, generator, generator).rainy.shape) for _ in range(20)]
    assert set(sides) == {(9, 3, 64, 64), (4, 3, 96, 96)}


def test_samples_are_also_seen_at_half_and_a_third_of_the_size_and_with_more_contrast(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []

    def make(clean: torch.Tensor, *generators: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(clean.shape[-1])
        return torch.full_like(clean, 0.5), torch.full_like(clean, 0.45)

    monkeypatch.setattr(batches, "_DROPS_IN_VIEWS", 0.0)
    photos = [torch.full((3, 200, 200), 100, dtype=torch.uint8)]
    source = BatchSource(photos, [], make, patch=48, views=1.0)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    batch = source(60, generator, generator)
    assert batch.rainy.shape == batch.clean.shape == (60, 3, 48, 48)
    plain, half, third = (seen.count(48 * times) for times in (1, 2, 3))
    assert plain + half + third == 60
    assert third < min(plain, half)
    raised = {48: 0, 96: 0, 144: 0}
    for side, rainy, clean in zip(seen, batch.rainy, batch.clean, strict=True):
        times = (rainy - clean).mean().item() / 0.05
        assert times == pytest.approx(1.0, abs=2e-3) or times == pytest.approx(CONTRAST, abs=2e-3)
        raised[side] += times > 1.5
    assert raised[48] == plain
    assert half // 4 < raised[96] < half
    assert raised[144] == 0
    source.views = 0.0
    seen.clear()
    source(40, generator, generator)
    assert set(seen) == {48}


def test_near_drops_fall_in_some_of_the_reduced_samples() -> None:
    photos = [torch.full((3, 300, 300), 40, dtype=torch.uint8)]
    source = BatchSource(photos, [], SampleMaker(RainSynthesizer(), replace(OFF, dry=1.0)), patch=64, views=1.0)
    generator = torch.Generator().manual_seed(0)
    batch = source(60, generator, generator)
    rained = ((batch.rainy - batch.clean).abs().amax((1, 2, 3)) > 0.02).sum()
    assert 9 <= rained <= 27  # of the others some get no drop, or faint ones
    assert (batch.rainy >= batch.clean - 1e-6).all()
    source.views = 0.0
    assert torch.equal(*source(20, generator, generator).parts[:2])  # type: ignore[arg-type]


def test_contrast_is_raised_as_the_remover_raises_it() -> None:
    image = torch.rand(3, 80, 90, generator=torch.Generator().manual_seed(0))
    view = Contrasted(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
    rainy, clean = contrasted(image, image * 0.9)
    expected = torch.from_numpy(view.seen(slice(0, 80), slice(0, 90))).permute(2, 0, 1)
    assert torch.allclose(rainy, expected, atol=2e-3)
    within = (rainy > 0.0) & (rainy < 1.0) & (clean > 0.0)
    assert torch.allclose((rainy - clean)[within], CONTRAST * 0.1 * image[within], atol=1e-5)


@pytest.mark.parametrize("name", list(scenery.DRAWINGS))
def test_what_looks_like_rain_is_part_of_the_clean_photograph(name: str) -> None:
    drawn = 0
    for seed in range(12):
        bare = torch.full((3, 64, 96), 0.5)
        image = scenery.DRAWINGS[name](bare, torch.Generator().manual_seed(seed))
        again = scenery.DRAWINGS[name](bare, torch.Generator().manual_seed(seed))
        assert torch.equal(image, again)
        assert image.shape == bare.shape
        assert image.min() >= 0.0
        assert image.max() <= 1.0
        assert torch.equal(bare, torch.full((3, 64, 96), 0.5))
        drawn += bool(((image - bare).abs().amax(0) > 0.02).double().mean() > 0.005)
    assert drawn >= 9


def test_what_networks_spoil_most_is_drawn_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def noting(name: str) -> Any:
        return lambda image, _: drawn.append(name) or image

    monkeypatch.setattr(scenery, "DRAWINGS", {name: noting(name) for name in scenery.DRAWINGS})
    generator = torch.Generator().manual_seed(0)
    for _ in range(2000):
        scenery.draw_any(torch.full((3, 8, 8), 0.5), generator)
    for name in scenery.DRAWINGS:
        times = {"rods": 8, "crown": 6, "ripples": 2, "bricks": 2, "print": 4, "tartan": 22, "meadow": 8}.get(name, 1)
        assert drawn.count(name) / 2000 == pytest.approx(times / (len(scenery.DRAWINGS) + 45), abs=0.03)


def test_a_drawing_for_real_photographs_suits_any_of_them() -> None:
    photo = 0.1 + 0.8 * torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    drawn = 0
    for seed in range(40):
        layer = scenery.drawing_for_real((64, 64), torch.Generator().manual_seed(seed))
        assert layer.shape == (6, 64, 64)
        assert layer.min() >= 0.0
        assert layer.max() <= 1.0
        once, twice = (scenery.drawing_for_real((64, 64), torch.Generator().manual_seed(seed)) for _ in range(2))
        assert torch.equal(once, twice)
        drawn += bool((layer[:3] < 0.9).any())
        seen = photo * layer[:3] + layer[3:]
        untouched = (layer[:3] == 1.0) & (layer[3:] == 0.0)
        assert torch.equal(seen[untouched], photo[untouched])
    assert drawn >= 30  # the rest lies outside


def test_rods_are_opaque_and_not_all_alike() -> None:
    black, white = torch.zeros(3, 96, 96), torch.ones(3, 96, 96)
    opaque = covered = 0
    for seed in range(40):
        on_black, on_white = (scenery.draw_rods(x, torch.Generator().manual_seed(seed)) for x in (black, white))
        through = (on_white - on_black).amin(0)
        covered += bool((through < 0.98).any())
        opaque += bool((through < 0.05).any())
    assert 15 <= opaque < covered <= 40  # the others differ little from what is behind them


def test_no_rod_is_wide_and_soft_as_near_drops_are(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, float]] = []
    strokes, softened = scenery._strokes, scenery._softened
    monkeypatch.setattr(scenery, "_strokes", lambda s, c, w: (seen.append((float(w[0]), 0.0)), strokes(s, c, w))[1])
    monkeypatch.setattr(
        scenery, "_softened", lambda c, sigma: (seen.append((seen.pop()[0], sigma)), softened(c, sigma))[1]
    )
    for seed in range(60):
        scenery.draw_rods(torch.full((3, 48, 48), 0.5), torch.Generator().manual_seed(seed))
    assert max(width for width, _ in seen) > 4.0
    assert max(width for width, sigma in seen if sigma) < 3.0


def test_near_drops_are_wide_soft_few_and_pale() -> None:
    covered, strongest = [], []
    for seed in range(40):
        drops = scenery.near_drops((96, 96), torch.Generator().manual_seed(seed))
        assert drops.shape == (4, 96, 96)
        assert torch.equal(drops, scenery.near_drops((96, 96), torch.Generator().manual_seed(seed)))
        share, light = drops[:1], drops[1:]
        seen = share.expand(3, -1, -1) > 0.02
        assert ((light / share)[seen] > 0.5).all()
        assert (light <= share).all()
        assert share.diff(dim=-1).abs().max() < 0.2  # no edges
        covered.append(float((share > 0.02).double().mean()))
        strongest.append(float(share.max()))
    assert 0.01 < sum(covered) / 40 < 0.15
    assert max(strongest) < 0.6


def test_lookalikes_are_often_dry() -> None:
    pairs = [sample(replace(OFF, lookalikes=1.0), seed=seed) for seed in range(200)]
    dry = sum(torch.equal(rainy, clean) for rainy, clean in pairs)
    assert 50 <= dry <= 90  # 35 %, and three standard deviations
    assert sum(clean.std() > 0.01 for _, clean in pairs) > 50


def test_a_drawn_sky_is_smooth() -> None:
    for seed in range(6):
        noise = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(seed))
        sky = scenery.draw_sky(noise, torch.Generator().manual_seed(seed))
        assert sky[:, :16].diff(dim=-1).abs().max() < 0.05


def test_bands_of_checked_cloth_repeat_and_cross() -> None:
    def crossing(name: str) -> int:
        """How many of 24 drawings have one frequency that stands out, both down and across."""
        found = 0
        for seed in range(24):
            drawn = scenery.DRAWINGS[name](torch.full((3, 96, 96), 0.5), torch.Generator().manual_seed(seed)).mean(0)
            spectra = [torch.fft.rfft(side - side.mean(0), dim=0)[3:].abs() for side in (drawn, drawn.T)]
            found += all(s.max() > 15.0 * s.median() for s in spectra)
        return found

    assert crossing("tartan") >= 12
    assert crossing("grass") == 0


def test_rods_are_few_and_nearer_to_upright_than_to_level() -> None:
    bare = torch.full((3, 128, 128), 0.5)
    slant = []
    for seed in range(12):
        drawn = scenery.DRAWINGS["rods"](bare, torch.Generator().manual_seed(seed)).mean(0)
        changed = (drawn - 0.5).abs() > 0.02  # straps are faint
        assert 10 <= changed.sum() <= 4000  # a few strokes
        slant.append(float(drawn.diff(dim=1).abs().sum() / drawn.diff(dim=0).abs().sum()))
    assert sum(s > 1.0 for s in slant) >= 11


def test_a_lattice_is_regular() -> None:
    bare = torch.full((3, 128, 128), 0.5)
    drawn = [scenery.draw_lattice(bare, torch.Generator().manual_seed(seed)) for seed in range(8)]
    kept = [(image == bare).all(0).any().item() for image in drawn]
    assert set(kept) == {False, True}  # the scene between the bars stays, or becomes one colour
    for image in drawn:
        assert image.min() >= 0.0
        assert image.max() <= 1.0
        between = image[0].flatten().mode().values
        assert 0.02 < (image[0] != between).double().mean() < 0.95
        # A strong line in the spectrum away from its centre shows a period.
        spectrum = torch.fft.rfft2((image - image.mean()).sum(0)).abs()
        assert spectrum.max() > 20 * spectrum.median()
