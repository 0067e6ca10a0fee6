"""Rain for clean photographs: procedural streaks and measured streak layers, seeded, on any torch device.

Streaks. A streak is the trace of one drop during the exposure (Garg and Nayar, "Photorealistic rendering of rain
streaks", 2006). Its length is fall speed times exposure time times focal length over distance. Its width is the drop's
diameter at that distance plus defocus. Near rain is therefore long, wide and faint, far rain short, thin and dense,
and wind turns all of it by about the same angle.

Compositing. A drop hides what is behind it for a share `a` of the exposure and shows refracted light E from the
surroundings instead (Garg and Nayar, "Vision and rain", 2007): I = (1 - a) B + a E. A streak is therefore brighter
than a dark background and darker than a background brighter than E, such as the sky. `composite` has this as
"occlude", and the two simpler models that most deraining data sets were made with: "add" and "screen".

Veil. Drops too far away to be seen one by one scatter light into the view like fog: I = t B + (1 - t) A, with a
transmission t that falls with distance.

Scale. A photograph that was reduced after it rained shows streaks thinner than one pixel. A streak of width w < 1 is
drawn at the pixel's own width with its light spread over the pixel, which is what an antialiased reduction gives.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

Composite = Literal["add", "screen", "occlude"]

# Different streaks (direction, length) per layer; each drop gets one of them. More make no visible difference.
_VARIANTS = 4
# No streak is drawn thinner than this, pixels at half maximum: thinner ones are dimmed instead.
_THINNEST = 0.8
# Drops cover at most this share of the exposure, so that the scene always shows through.
_MOST_COVERED = 0.95
# No further measured layer is added once their mean exceeds this share of white: the scene would disappear.
_DENSEST_MEAN = 0.18
# Each further layer of `depth_layers` is further away: smaller, denser and a little dimmer than the one before.
_DEPTH = {"length": 0.6, "width": 0.7, "density": 2.5, "brightness": 0.8}


@dataclass(frozen=True)
class StreakOptions:
    """One layer of procedural streaks, in pixels of the image it falls on.

    Attributes:
        length: mean streak length, pixels (exposure time x speed); single streaks vary by +-30 %.
        width: full width at half maximum across the streak, pixels (drop size). Under 0.8 px the streak keeps 0.8 px
            and loses brightness in proportion, as when a photograph is reduced.
        angle: direction of fall, degrees from vertical, positive leans to the right at the bottom.
        jitter: standard deviation of the direction within the layer, degrees (turbulence).
        density: drops per pixel (rain rate).
        brightness: peak of the brightest streak, as a share of white; for `occlude` the share of the exposure that the
            drop covers a pixel.
        blur: sigma of the camera's defocus, pixels; spreads a streak and dims it accordingly.
        fan: how far the direction turns from the middle to the left and right edge, degrees (perspective).
        patchy: 0..1, how much density and brightness change across the image (gusts, depth). At 1 some places have no
            streaks.
    """

    length: float = 25.0
    width: float = 1.5
    angle: float = 0.0
    jitter: float = 3.0
    density: float = 0.002
    brightness: float = 0.6
    blur: float = 0.0
    fan: float = 0.0
    patchy: float = 0.0


@dataclass(frozen=True)
class VeilOptions:
    """Haze of drops too far away to be seen one by one.

    Attributes:
        transmission: 0..1, the least share of the scene's own light that comes through; elsewhere up to 1.
        light: 0..1, brightness of the scattered light, as a share of white.
        reach: distance over which the transmission changes, pixels.
    """

    transmission: float = 0.7
    light: float = 0.8
    reach: float = 200.0


@dataclass(frozen=True)
class Rain:
    """Everything that is drawn onto one photograph.

    Attributes:
        streaks: layers, combined as 1 - prod(1 - layer).
        composite: how they are combined with the photograph, see `composite`.
        light: RGB of the light that drops show when they occlude, each 0..1.
        veil: haze under the streaks, or None.
    """

    streaks: tuple[StreakOptions, ...] = ()
    composite: Composite = "add"
    light: tuple[float, float, float] = (0.8, 0.8, 0.8)
    veil: VeilOptions | None = None


def _fast_length(n: int) -> int:
    """The smallest even number >= n without a prime factor above 5: Fourier transforms of such lengths are fast."""
    n += n % 2
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 2


def smooth_noise(size: tuple[int, int], knots: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    """(height, width), knots down and across -> (H, W) noise, smooth between them; on the generator's device."""
    values = torch.randn(1, 1, *knots, generator=generator, device=generator.device)
    return F.interpolate(values, size, mode="bicubic", align_corners=True)[0, 0]


def smooth_field(size: tuple[int, int], reach: float, generator: torch.Generator) -> torch.Tensor:
    """(height, width) -> (H, W) float32 in 0..1, mean about 0.5, smooth over `reach` px; on the generator's device."""
    knots = [max(2, round(n / max(reach, 1.0)) + 1) for n in size]
    return torch.sigmoid(1.5 * smooth_noise(size, knots, generator))


def streak_layer(size: tuple[int, int], options: StreakOptions, generator: torch.Generator) -> torch.Tensor:
    """(height, width) -> (H, W) float32 rain layer in [0, 1]; all randomness and the device are the generator's."""
    height, width = size
    device = generator.device
    across_sigma = max(options.width, _THINNEST) / 2.355
    sigma = math.hypot(across_sigma, options.blur)
    # Streaks also enter from outside the image, so the canvas is larger by one reach on each side.
    reach = math.ceil(0.65 * options.length + 3 * sigma) + 1
    rows, columns = _fast_length(height + 2 * reach), _fast_length(width + 2 * reach)
    drawn = torch.randn(_VARIANTS, 2, generator=generator, device=device)
    turn = options.fan * torch.linspace(-1.0, 1.0, _VARIANTS, device=device)
    angle = torch.deg2rad(options.angle + turn + options.jitter * drawn[:, 0])
    length = options.length * (1.0 + 0.15 * drawn[:, 1]).clamp(0.7, 1.3)

    y = torch.fft.fftfreq(rows, 1.0 / rows, device=device).view(1, -1, 1)
    x = torch.fft.fftfreq(columns, 1.0 / columns, device=device).view(1, 1, -1)
    sine, cosine = torch.sin(angle).view(-1, 1, 1), torch.cos(angle).view(-1, 1, 1)
    along, across = x * sine + y * cosine, x * cosine - y * sine
    # Total light is preserved: defocus and pixel size widen a streak and lower its peak in proportion.
    peak = options.brightness * (options.width / 2.355) / sigma
    ends = torch.sigmoid((length.view(-1, 1, 1) / 2 - along.abs()) / max(1.0, options.blur))
    kernel = peak * ends * torch.exp(-0.5 * (across / sigma) ** 2)

    chance = torch.rand(_VARIANTS, rows, columns, generator=generator, device=device)
    share = torch.full((1, 1, 1), options.density / _VARIANTS, device=device)
    if options.fan:
        # Each direction has its own band of columns, and neighbouring bands overlap.
        place = torch.linspace(0.0, _VARIANTS - 1.0, columns, device=device)
        band = (1.0 - (place[None] - torch.arange(_VARIANTS, device=device)[:, None]).abs()).clamp_min(0.0)
        share = share * _VARIANTS * band[:, None]
    strength = torch.ones((), device=device)
    if options.patchy:
        gusts, depth = (smooth_field((rows, columns), 0.5 * max(height, width), generator) for _ in range(2))
        # At full patchiness the number of drops varies between none and twice the mean.
        share = share * (1.0 - options.patchy + 2.0 * options.patchy * (2.0 * gusts - 0.5).clamp(0.0, 1.0))
        strength = 1.0 - 0.7 * options.patchy * depth
    # Where `chance` is below `share`, their ratio is uniform in 0..1: one number decides place and brightness.
    drops = torch.where(chance < share, (0.3 + 0.7 * chance / share) * strength, torch.zeros((), device=device))
    spectrum = (torch.fft.rfft2(drops) * torch.fft.rfft2(kernel)).sum(0)
    layer = torch.fft.irfft2(spectrum, s=(rows, columns))
    return layer[reach : reach + height, reach : reach + width].clamp(0.0, 1.0)


def streak_layers(size: tuple[int, int], streaks: Sequence[StreakOptions], generator: torch.Generator) -> torch.Tensor:
    """Several layers in front of each other: 1 - prod(1 - layer), (H, W) in [0, 1]."""
    through = torch.ones(size, device=generator.device)
    for options in streaks:
        through = through * (1.0 - streak_layer(size, options, generator))
    return 1.0 - through


def composite(
    clean: torch.Tensor,
    layer: torch.Tensor,
    how: Composite = "add",
    light: Sequence[float] = (0.8, 0.8, 0.8),
) -> torch.Tensor:
    """Rain layer (H, W) or (3, H, W) onto a photograph (3, H, W), both in [0, 1]; clipped to [0, 1].

    Args:
        clean: the photograph B.
        layer: the rain a.
        how: "add": B + a, clipped. "screen": 1 - (1 - B)(1 - a), so that bright places gain less. "occlude":
            (1 - a) B + a E, a at most 0.95: streaks are darker than whatever is brighter than E.
        light: RGB of E, each 0..1; only for "occlude".
    """
    if how == "occlude":
        ambient = torch.tensor(light, dtype=clean.dtype, device=clean.device).view(3, 1, 1)
        return torch.lerp(clean, ambient, layer.clamp(0.0, _MOST_COVERED).expand_as(clean)).clamp(0.0, 1.0)
    return (1.0 - (1.0 - clean) * (1.0 - layer) if how == "screen" else clean + layer).clamp(0.0, 1.0)


def add_veil(clean: torch.Tensor, veil: VeilOptions, generator: torch.Generator) -> torch.Tensor:
    """Haze, t B + (1 - t) A, on a photograph (3, H, W) in [0, 1]; t varies smoothly, `veil.transmission` to 1."""
    field_ = smooth_field((clean.shape[-2], clean.shape[-1]), veil.reach, generator)
    transmission = 1.0 - (1.0 - veil.transmission) * field_
    return torch.lerp(torch.full_like(clean, veil.light), clean, transmission.expand_as(clean))


def add_rain(
    clean: torch.Tensor, rain: Rain, generator: torch.Generator, layer: torch.Tensor | None = None
) -> torch.Tensor:
    """(3, H, W) in [0, 1] -> the same with this rain, on the generator's device.

    A measured `layer`, (H, W) in [0, 1], replaces `rain.streaks`.
    """
    if layer is None:
        layer = streak_layers((clean.shape[-2], clean.shape[-1]), rain.streaks, generator)
    behind = clean if rain.veil is None else add_veil(clean, rain.veil, generator)
    return composite(behind, layer, rain.composite, rain.light)


def depth_layers(nearest: StreakOptions, count: int) -> tuple[StreakOptions, ...]:
    """`count` layers from near to far: each smaller, denser and dimmer than the one before."""
    layers = []
    for i in range(count):
        scaled = {name: getattr(nearest, name) * factor**i for name, factor in _DEPTH.items()}
        # Shares are at most 1.
        scaled.update({name: min(1.0, scaled[name]) for name in ("density", "brightness")})
        layers.append(replace(nearest, **scaled))
    return tuple(layers)


@dataclass(frozen=True)
class AskedRain:
    """Settings of the rain that the user fixes; None = random for each photograph.

    Attributes:
        streaks: layers.
        composite: how they are combined with the photograph, see `composite`.
        light: grey level of the light that occluding drops and a random veil show, 0..1.
        veil: haze under the streaks. If `streaks` are given, None means no haze.
    """

    streaks: tuple[StreakOptions, ...] | None = None
    composite: Composite | None = None
    light: float | None = None
    veil: VeilOptions | None = None


def rain_photo(
    rgb: np.ndarray, seed: int, name: str, asked: AskedRain | None = None, measured: Sequence[torch.Tensor] = ()
) -> np.ndarray:
    """Rain on one photograph: (H, W, 3) float32 RGB in [0, 1] -> the same with rain.

    Args:
        rgb: the photograph, upright.
        seed: seed of the rain, together with `name`.
        name: name of the photograph; photographs of different names get different rain.
        asked: settings that are fixed; None = all are random.
        measured: streak layers, (H, W) uint8 each; a random crop of one replaces procedural streaks.
    """
    asked = asked or AskedRain()
    generator = generator_for(seed, name)
    image = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))
    rain = random_rain(image, generator)
    if asked.streaks is not None:
        rain = replace(rain, streaks=asked.streaks, veil=None)
    if asked.composite is not None:
        rain = replace(rain, composite=asked.composite)
    if asked.light is not None:
        veil = None if rain.veil is None else replace(rain.veil, light=asked.light)
        rain = replace(rain, light=(asked.light,) * 3, veil=veil)
    if asked.veil is not None:
        rain = replace(rain, veil=asked.veil)
    layer = RainSynthesizer([measured]).measured(image, generator) if measured else None
    return np.ascontiguousarray(add_rain(image, rain, generator, layer).numpy().transpose(1, 2, 0))


def generator_for(seed: int, name: str) -> torch.Generator:
    """A CPU generator that depends only on the seed and the photograph's name."""
    digest = hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogatepass")).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


class _Draw:
    """Random numbers from a CPU generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=self.generator).item()

    def log_uniform(self, low: float, high: float) -> float:
        return low * (high / low) ** self.uniform(0.0, 1.0)

    def chance(self, share: float) -> bool:
        return self.uniform(0.0, 1.0) < share


def _ordinary(draw: _Draw) -> StreakOptions:
    """Streaks of all lengths and widths; a quarter of the layers is out of focus."""
    length, width = draw.log_uniform(6.0, 70.0), draw.log_uniform(0.8, 5.0)
    # Coverage = density x length x width. It is drawn directly, so that long, wide streaks do not cover everything.
    density = draw.log_uniform(0.02, 0.5) / (length * width)
    blur = draw.uniform(0.5, 3.0) if draw.chance(0.25) else 0.0
    return StreakOptions(length, width, density=density, brightness=draw.uniform(0.15, 0.9), blur=blur)


def _fine(draw: _Draw) -> StreakOptions:
    """Thin, short, dense streaks: far rain, or a photograph reduced in size."""
    length, width = draw.log_uniform(4.0, 30.0), draw.uniform(0.3, 1.3)
    density = min(0.5, draw.log_uniform(0.05, 0.6) / (length * width))
    blur = draw.uniform(0.3, 1.0) if draw.chance(0.3) else 0.0
    return StreakOptions(length, width, density=density, brightness=draw.uniform(0.1, 0.6), blur=blur)


def _dashes(draw: _Draw) -> StreakOptions:
    """Dots and short dashes: a fast shutter, sleet, or flash."""
    length, width = draw.log_uniform(1.5, 9.0), draw.log_uniform(0.6, 3.0)
    density = min(0.5, draw.log_uniform(0.01, 0.3) / (length * width))
    return StreakOptions(length, width, density=density, brightness=draw.uniform(0.15, 0.8))


# Lengths and widths, pixels, in the order in which `_faint` names them.
_FAINT_SIZES = (
    ((3.0, 8.0), (1.0, 2.0)), ((5.0, 13.0), (2.0, 5.0)), ((40.0, 80.0), (6.0, 10.0)), ((30.0, 90.0), (3.0, 9.0)),
)  # fmt: skip


def _faint(draw: _Draw) -> StreakOptions:
    """Drizzle, blobs, single near drops and wide pale streaks, of 2 to 10 grey levels root mean square."""
    lengths, widths = _FAINT_SIZES[int(draw.uniform(0.0, len(_FAINT_SIZES)))]
    length, width = draw.log_uniform(*lengths), draw.log_uniform(*widths)
    coverage, rms = draw.log_uniform(0.002, 0.08), draw.log_uniform(2.0, 10.0)
    # A layer's root mean square is about 0.65 x brightness x the root of its coverage.
    brightness = min(0.4, rms / 255.0 / (0.65 * math.sqrt(coverage)))
    return StreakOptions(length, width, density=coverage / (length * width), brightness=brightness)


def _thick(draw: _Draw) -> StreakOptions:
    """Near drops: wide streaks with soft edges, most of them out of focus."""
    length, width = draw.log_uniform(20.0, 80.0), draw.log_uniform(2.5, 8.0)
    density = draw.log_uniform(0.03, 0.3) / (length * width)
    blur = draw.uniform(0.5, 3.0) if draw.chance(0.7) else 0.0
    return StreakOptions(length, width, density=density, brightness=draw.uniform(0.2, 0.8), blur=blur)


def _downpour(draw: _Draw) -> StreakOptions:
    """Dense bright streaks that leave little of the scene."""
    length, width = draw.log_uniform(15.0, 60.0), draw.uniform(1.0, 2.5)
    density = draw.log_uniform(0.08, 0.4) / (length * width)
    return StreakOptions(length, width, density=density, brightness=draw.uniform(0.4, 0.95))


# Share of rain that is faint, unless another is asked for.
_FAINT_SHARE = 0.17
# Kinds of rain: how often, how a layer is drawn, how many layers at most, how far their directions differ (degrees).
_KINDS = (
    (0.22, _ordinary, 3, 8.0),
    (0.24, _fine, 3, 8.0),
    (0.09, _dashes, 2, 8.0),
    (_FAINT_SHARE, _faint, 2, 8.0),
    (0.18, _thick, 2, 8.0),
    (0.1, _downpour, 4, 35.0),
)


def random_streaks(
    generator: torch.Generator, finer: float = 0.4, faint: float = _FAINT_SHARE
) -> tuple[StreakOptions, ...]:
    """One to four layers of one kind of rain, in about one direction unless it is a downpour.

    Args:
        generator: CPU generator.
        finer: probability that all streaks are reduced by a factor of 1.2 to 2.6, see `reduced`.
        faint: probability of drizzle, blobs, single near drops or wide pale streaks, 0 to 0.5. Ordinary and thick
            streaks, half each, give what it has more than 0.17.
    """
    draw = _Draw(generator)
    # Half of it falls in any direction: a storm, or a turned camera.
    wind = draw.uniform(-90.0, 90.0) if draw.chance(0.5) else draw.uniform(-40.0, 40.0)
    fan = draw.uniform(3.0, 15.0) if draw.chance(0.2) else 0.0
    patchy = draw.uniform(0.3, 1.0) if draw.chance(0.35) else 0.0
    more = faint - _FAINT_SHARE
    change = {_faint: more, _ordinary: -0.5 * more, _thick: -0.5 * more}
    shares = [share + change.get(kind, 0.0) for share, kind, *_ in _KINDS]
    which = bisect(list(accumulate(shares)), draw.uniform(0.0, 1.0))
    _, kind, most, spread = _KINDS[min(which, len(_KINDS) - 1)]
    # Many photographs were reduced after it rained: all of their streaks are smaller and closer together.
    scale = draw.log_uniform(1.2, 2.6) if draw.chance(finer) else 1.0
    return tuple(
        replace(
            reduced(kind(draw), scale),
            angle=wind + draw.uniform(-spread, spread),
            jitter=draw.uniform(0.0, 6.0),
            fan=fan,
            patchy=patchy,
        )
        for _ in range(1 + int(draw.uniform(0.0, most)))
    )


def reduced(streaks: StreakOptions, scale: float) -> StreakOptions:
    """The streaks of a photograph that was made `scale` times smaller after it rained.

    At most every second pixel is a drop; of denser rain some drops are left out.
    """
    return replace(
        streaks,
        length=streaks.length / scale,
        width=streaks.width / scale,
        blur=streaks.blur / scale,
        density=min(0.5, streaks.density * scale**2),
    )


def random_light(clean: torch.Tensor, generator: torch.Generator) -> tuple[float, float, float]:
    """The light that drops show: grey with a slight tint, or the photograph's own mean or bright part (its sky).

    Args:
        clean: (3, H, W) in [0, 1].
        generator: CPU generator.
    """
    draw = _Draw(generator)
    kind = draw.uniform(0.0, 1.0)
    if kind < 0.6:
        level = draw.uniform(0.35, 1.0)
        tint = [draw.uniform(-0.025, 0.025) for _ in range(3)]
        red, green, blue = (min(1.0, max(0.0, level + t)) for t in tint)
    else:
        pixels = clean.flatten(1)
        if kind < 0.8:
            # Drops gather light from a wide angle, most of it from the sky: somewhat brighter than the mean.
            colour = pixels.mean(1) * draw.uniform(1.0, 1.4)
        else:
            bright = pixels.mean(0)
            colour = pixels[:, bright >= bright.quantile(0.9)].mean(1)
        red, green, blue = colour.clamp(0.0, 1.0).tolist()
    return red, green, blue


def random_composite(share_occlude: float, share_screen: float, generator: torch.Generator) -> Composite:
    """Choose "occlude" or "screen" with these probabilities, otherwise "add". CPU generator."""
    which = torch.rand((), generator=generator).item()
    return "occlude" if which < share_occlude else "screen" if which < share_occlude + share_screen else "add"


def random_veil(generator: torch.Generator) -> VeilOptions:
    """Transmission 0.5 to 0.95, light 0.5 to 1, both changing over 100 to 300 px."""
    draw = _Draw(generator)
    return VeilOptions(draw.uniform(0.5, 0.95), draw.uniform(0.5, 1.0), draw.uniform(100.0, 300.0))


def random_rain(clean: torch.Tensor, generator: torch.Generator, options: RainOptions | None = None) -> Rain:
    """Procedural rain for one photograph (3, H, W), in the mixture of training. CPU generator."""
    o = options or RainOptions()
    veil = random_veil(generator) if torch.rand((), generator=generator).item() < o.veil else None
    how = random_composite(o.occlude, o.screen, generator)
    return Rain(random_streaks(generator, o.finer, o.faint), how, random_light(clean, generator), veil)


@dataclass(frozen=True)
class RainOptions:
    """How rain is mixed, per sample. Shares are probabilities.

    Attributes:
        procedural: share of rainy samples with procedural streaks; the others use measured layers if there are any.
        second: probability of one more measured layer, tried again after each, up to five layers in all or until their
            mean exceeds 0.18 of white.
        turn: share of measured layers turned by up to 25 degrees; a fifth of these is turned by any angle.
        reduced: share of measured layers reduced by a factor of 1.2 to 2.5, as in photographs that were reduced later.
        finer: share of samples with procedural streaks whose streaks are reduced so.
        faint: share of samples with procedural streaks whose rain is faint, see `random_streaks`.
        occlude, screen: shares composited this way; the others use "add".
        measured_added: share of the measured layers drawn to occlude that are added after all: the pairs they were
            measured on were made by adding.
        veil: share with a veil under the streaks.
    """

    procedural: float = 0.55
    second: float = 0.5
    turn: float = 0.4
    reduced: float = 0.45
    finer: float = 0.4
    faint: float = _FAINT_SHARE
    occlude: float = 0.55
    screen: float = 0.1
    measured_added: float = 0.6
    veil: float = 0.22


@dataclass
class RainSynthesizer:
    """Draws rain for one clean patch at a time; a pure function of its generators.

    Attributes:
        layers: folders of measured streak layers, each a list of (H, W) uint8 tensors; folders are drawn evenly.
        options: the mixture.
    """

    layers: Sequence[Sequence[torch.Tensor]] = ()
    options: RainOptions = field(default_factory=RainOptions)

    def __call__(
        self, clean: torch.Tensor, generator: torch.Generator, device_generator: torch.Generator
    ) -> torch.Tensor:
        """(3, H, W) clean in [0, 1] -> rainy, not rounded.

        Args:
            clean: on the device of `device_generator`.
            generator: CPU generator; draws the parameters.
            device_generator: draws pixels.
        """
        o = self.options
        draw = _Draw(generator)
        rain = random_rain(clean, generator, o)
        if not self.layers or draw.chance(o.procedural):
            return add_rain(clean, rain, device_generator)
        layer = self.measured(clean, generator)
        for _ in range(4):
            if not draw.chance(o.second) or layer.mean() > _DENSEST_MEAN:
                break
            layer = layer + self.measured(clean, generator)
        if rain.composite == "occlude" and draw.chance(o.measured_added):
            rain = replace(rain, composite="add")
        return add_rain(clean, rain, device_generator, layer)

    def measured(self, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """A random crop of a random measured layer, (H, W) of `clean`: rescaled, turned, mirrored, dimmed at random."""
        draw = torch.rand(12, generator=generator).tolist()
        folder = self.layers[int(draw[0] * len(self.layers))]
        layer = folder[int(draw[1] * len(folder))].to(clean.device)
        height, width = clean.shape[-2:]
        zoom = 0.7 * 2.0 ** draw[2]
        if draw[10] < self.options.reduced:
            zoom /= 1.2 * 2.1 ** draw[11]
        turned = draw[7] < self.options.turn
        # A turned crop is taken from a square that contains it at any angle.
        rows, columns = (math.hypot(height, width),) * 2 if turned else (height, width)
        # A layer that is too small for that is used whole, enlarged by the same factor in both directions.
        zoom = max(zoom, rows / layer.shape[0], columns / layer.shape[1])
        rows = min(layer.shape[0], math.ceil(rows / zoom))
        columns = min(layer.shape[1], math.ceil(columns / zoom))
        top = int(draw[3] * (layer.shape[0] - rows + 1))
        left = int(draw[4] * (layer.shape[1] - columns + 1))
        cut = layer[top : top + rows, left : left + columns].float() / 255.0
        if draw[5] < 0.5:
            cut = cut.flip(1)
        if turned:
            angle = math.radians((2.0 * draw[8] - 1.0) * (25.0 if draw[9] < 0.8 else 90.0))
            if zoom < 1.0:
                size = (math.ceil(rows * zoom), math.ceil(columns * zoom))
                cut, zoom = _resized(cut, size), 1.0
            cut = _turned(cut, angle, zoom, height, width)
        else:
            cut = _resized(cut, (height, width))
        return cut * (0.7 + 0.6 * draw[6])


def _resized(layer: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(layer[None, None], size, mode="bilinear", align_corners=False, antialias=True)[0, 0]


def _turned(layer: torch.Tensor, angle: float, zoom: float, height: int, width: int) -> torch.Tensor:
    """(h, w) -> (height, width): the centre of the layer, turned by `angle` radians and enlarged by `zoom`."""
    rows, columns = layer.shape
    sine, cosine = math.sin(angle) / zoom, math.cos(angle) / zoom
    theta = torch.tensor(
        [[cosine * width / columns, -sine * height / columns, 0.0], [sine * width / rows, cosine * height / rows, 0.0]],
        device=layer.device,
    )
    grid = F.affine_grid(theta[None], [1, 1, height, width], align_corners=False)
    return F.grid_sample(layer[None, None], grid, padding_mode="reflection", align_corners=False)[0, 0]
