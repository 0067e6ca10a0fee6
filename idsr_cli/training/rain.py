"""Rain for clean photographs: procedural streaks and measured streak layers, seeded, on any torch device.

A streak is the trace of one drop during the exposure (Garg and Nayar, "Photorealistic rendering of rain streaks",
2006): its length is fall speed times exposure time times focal length over distance, its width the drop's diameter at
that distance plus defocus, its brightness what the drop refracts from the sky, spread over the time it covers a pixel.
So near rain is long, wide and faint, far rain short, thin and dense, and wind turns all of it by the same few degrees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch.nn import functional as F

# Directions and lengths drawn per layer; drops share them out. More makes no visible difference.
_VARIANTS = 4
# Mean of measured layers, of white, from which on no more are added: next to nothing of the scene would be left.
_ENOUGH = 0.18


@dataclass(frozen=True)
class StreakOptions:
    """One layer of procedural streaks, in pixels of the image it falls on.

    Attributes:
        length: mean streak length, pixels (exposure time x speed); single streaks vary by +-30 %.
        width: full width at half maximum across the streak, pixels (drop size).
        angle: direction of fall, degrees from vertical, positive leans to the right at the bottom.
        jitter: standard deviation of the direction within the layer, degrees (turbulence).
        density: drops per pixel (rain rate).
        brightness: peak of the brightest streak, as a share of white.
        blur: sigma of the camera's defocus, pixels; spreads a streak and dims it accordingly.
    """

    length: float = 25.0
    width: float = 1.5
    angle: float = 0.0
    jitter: float = 3.0
    density: float = 0.002
    brightness: float = 0.6
    blur: float = 0.0


def streak_layer(size: tuple[int, int], options: StreakOptions, generator: torch.Generator) -> torch.Tensor:
    """(height, width) -> (H, W) float32 rain layer in [0, 1] on the generator's device, from that generator alone."""
    height, width = size
    device = generator.device
    # Streaks enter from outside the picture, so the canvas is larger by one reach on each side.
    sigma = math.hypot(max(options.width, 0.8) / 2.355, options.blur)
    reach = math.ceil(0.65 * options.length + 3 * sigma) + 1
    rows, columns = height + 2 * reach, width + 2 * reach
    drawn = torch.randn(_VARIANTS, 2, generator=generator, device=device)
    angle = torch.deg2rad(options.angle + options.jitter * drawn[:, 0])
    length = options.length * (1.0 + 0.15 * drawn[:, 1]).clamp(0.7, 1.3)

    y = torch.fft.fftfreq(rows, 1.0 / rows, device=device).view(1, -1, 1)
    x = torch.fft.fftfreq(columns, 1.0 / columns, device=device).view(1, 1, -1)
    sine, cosine = torch.sin(angle).view(-1, 1, 1), torch.cos(angle).view(-1, 1, 1)
    along, across = x * sine + y * cosine, x * cosine - y * sine
    # Defocus keeps the light of a streak: what it gains in width it loses in peak.
    peak = options.brightness * (max(options.width, 0.8) / 2.355) / sigma
    ends = torch.sigmoid((length.view(-1, 1, 1) / 2 - along.abs()) / max(1.0, options.blur))
    kernel = peak * ends * torch.exp(-0.5 * (across / sigma) ** 2)

    chance = torch.rand(_VARIANTS, rows, columns, generator=generator, device=device)
    strength = 0.3 + 0.7 * torch.rand(_VARIANTS, rows, columns, generator=generator, device=device)
    drops = torch.where(chance < options.density / _VARIANTS, strength, torch.zeros((), device=device))
    spectrum = (torch.fft.rfft2(drops) * torch.fft.rfft2(kernel)).sum(0)
    layer = torch.fft.irfft2(spectrum, s=(rows, columns))
    return layer[reach : reach + height, reach : reach + width].clamp(0.0, 1.0)


@dataclass(frozen=True)
class RainOptions:
    """How training rain is mixed, per sample. Shares are probabilities.

    Attributes:
        dry: share of samples without rain, so that the network learns to leave a dry photograph alone.
        procedural: share of rainy samples with procedural streaks; the rest uses measured layers if there are any.
        second: share of measured samples that get one more layer on top, and of those again, up to five in all or until
            the layers' mean is 0.18 of white.
        turn: share of measured layers turned by up to 25 degrees, for other winds; a fifth of them by any angle.
        screen: share blended as 1 - (1 - y)(1 - s), where bright scenes gain less; the rest adds and clips.
        veil: share of procedural samples that also get a thin even veil of scattered light.
        jpeg: share compressed as JPEG (quality 60-95) after the rain.
        noise: share with Gaussian sensor noise (sigma up to 3/255) in the rainy and the clean image alike.
        gamma: share whose photograph is re-exposed by a gamma in [0.7, 1.4] before it rains.
        lattice: share with thin bright or dark bars or a wire grid drawn into the clean photograph: regular lines that
            must stay. At least 40 % of these are dry.
    """

    dry: float = 0.12
    procedural: float = 0.3
    second: float = 0.4
    turn: float = 0.4
    screen: float = 0.2
    veil: float = 0.15
    jpeg: float = 0.12
    noise: float = 0.12
    gamma: float = 0.3
    lattice: float = 0.1


def random_streaks(generator: torch.Generator) -> list[StreakOptions]:
    """One to three layers, from drizzle to cloudburst, thin to out of focus, calm to near-horizontal. CPU generator."""

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=generator).item()

    def log_uniform(low: float, high: float) -> float:
        return low * (high / low) ** uniform(0.0, 1.0)

    # A storm, or a camera held sideways: any direction.
    wind = uniform(-90.0, 90.0) if uniform(0, 1) < 0.45 else uniform(-40.0, 40.0)
    layers = []
    for _ in range(1 + int(uniform(0.0, 3.0))):
        length, width = log_uniform(6.0, 70.0), log_uniform(0.8, 5.0)
        # Coverage = density x length x width; drawn directly so that long, wide streaks do not white out the picture.
        coverage = log_uniform(0.02, 0.5)
        layers.append(
            StreakOptions(
                length=length,
                width=width,
                angle=wind + uniform(-8.0, 8.0),
                jitter=uniform(0.0, 6.0),
                density=coverage / (length * width),
                brightness=uniform(0.15, 0.9),
                blur=uniform(0.5, 3.0) if uniform(0, 1) < 0.25 else 0.0,
            )
        )
    return layers


def blend(clean: torch.Tensor, layer: torch.Tensor, screen: bool = False) -> torch.Tensor:
    """Rain layer (H, W) or (3, H, W) onto a photograph (3, H, W), both in [0, 1]; clipped to [0, 1]."""
    return (1.0 - (1.0 - clean) * (1.0 - layer) if screen else clean + layer).clamp(0.0, 1.0)


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
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(3, H, W) clean in [0, 1] -> (rainy, clean), the clean one re-exposed or noisy if that was drawn.

        Args:
            clean: on the device of `device_generator`.
            generator: CPU generator; draws the parameters.
            device_generator: draws pixels.
        """
        o = self.options

        def chance(share: float) -> bool:
            return torch.rand((), generator=generator).item() < share

        if chance(o.gamma):
            clean = clean ** (0.7 * 2.0 ** torch.rand((), generator=generator).item())
        if chance(o.noise):
            sigma = 3.0 / 255.0 * torch.rand((), generator=generator).item()
            noise = torch.randn(clean.shape, generator=device_generator, device=clean.device)
            clean = (clean + sigma * noise).clamp(0.0, 1.0)
        lattice = chance(o.lattice)
        if lattice:
            clean = draw_lattice(clean, generator)
        if chance(max(o.dry, 0.4) if lattice else o.dry):
            return clean, clean
        if not self.layers or chance(o.procedural):
            rainy = clean
            screen = chance(o.screen)
            for streaks in random_streaks(generator):
                layer = streak_layer((clean.shape[-2], clean.shape[-1]), streaks, device_generator)
                rainy = blend(rainy, layer, screen)
            if chance(o.veil):
                share, light = torch.rand(2, generator=generator).tolist()
                rainy = rainy + 0.15 * share * (0.6 + 0.4 * light - rainy)
        else:
            layer = self.measured(clean, generator)
            for _ in range(4):
                if not chance(o.second) or layer.mean() > _ENOUGH:
                    break
                layer = layer + self.measured(clean, generator)
            rainy = blend(clean, layer, chance(o.screen))
        if chance(o.jpeg):
            rainy = jpeg_round_trip(rainy, 60 + int(36 * torch.rand((), generator=generator).item()))
        return (rainy * 255.0).round_() / 255.0, clean

    def measured(self, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """A random cut of a random measured layer: rescaled by 0.7..1.4, turned, mirrored, faint or strong."""
        draw = torch.rand(10, generator=generator).tolist()
        folder = self.layers[int(draw[0] * len(self.layers))]
        layer = folder[int(draw[1] * len(folder))].to(clean.device)
        height, width = clean.shape[-2:]
        zoom = 0.7 * 2.0 ** draw[2]
        turned = draw[7] < self.options.turn
        # A turned cut is taken from a square that holds it at any angle.
        rows, columns = (math.hypot(height, width),) * 2 if turned else (height, width)
        rows = min(layer.shape[0], math.ceil(rows / zoom))
        columns = min(layer.shape[1], math.ceil(columns / zoom))
        top = int(draw[3] * (layer.shape[0] - rows + 1))
        left = int(draw[4] * (layer.shape[1] - columns + 1))
        cut = layer[top : top + rows, left : left + columns].float() / 255.0
        if draw[5] < 0.5:
            cut = cut.flip(1)
        if turned:
            angle = math.radians((2.0 * draw[8] - 1.0) * (25.0 if draw[9] < 0.8 else 90.0))
            cut = _turned(cut, angle, zoom, height, width)
        else:
            cut = F.interpolate(cut[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0]
        return cut * (0.7 + 0.6 * draw[6])


def _turned(layer: torch.Tensor, angle: float, zoom: float, height: int, width: int) -> torch.Tensor:
    """(h, w) -> (height, width): the middle of the layer, turned by `angle` radians and enlarged by `zoom`."""
    rows, columns = layer.shape
    sine, cosine = math.sin(angle) / zoom, math.cos(angle) / zoom
    theta = torch.tensor(
        [[cosine * width / columns, -sine * height / columns, 0.0], [sine * width / rows, cosine * height / rows, 0.0]],
        device=layer.device,
    )
    grid = F.affine_grid(theta[None], [1, 1, height, width], align_corners=False)
    return F.grid_sample(layer[None, None], grid, padding_mode="reflection", align_corners=False)[0, 0]


def draw_lattice(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(3, H, W) in [0, 1] with regular bars over it, or two crossing sets: wires, railings, blinds. CPU generator.

    In half of them little or nothing is seen between the bars but one colour: a screen, a facade, a fence at night.
    """
    draw = torch.rand(11, generator=generator).tolist()
    height, width = image.shape[-2:]
    y = torch.arange(height, device=image.device, dtype=torch.float32)[:, None]
    x = torch.arange(width, device=image.device, dtype=torch.float32)[None]
    angle = math.radians(40.0 * (draw[0] - 0.5))
    spacing, thickness = 5.0 * 6.0 ** draw[1], 0.6 + 2.8 * draw[2]
    colour, behind = (
        level + 0.1 * (torch.rand(3, generator=generator).to(image.device) - 0.5) for level in (draw[3], draw[8] ** 2)
    )
    if draw[9] < 0.5:
        image = torch.lerp(image, behind.clamp(0.0, 1.0)[:, None, None], 0.6 + 0.4 * draw[10])
    cover = torch.zeros(height, width, device=image.device)
    for turn in (0.0, math.pi / 2)[: 1 + (draw[4] < 0.6)]:
        across = x * math.cos(angle + turn) + y * math.sin(angle + turn) + draw[5] * spacing
        distance = ((across + spacing / 2) % spacing - spacing / 2).abs()
        cover = torch.maximum(cover, (thickness / 2 + 0.5 - distance).clamp(0.0, 1.0))
    cover = cover * (0.3 + 0.7 * draw[6])
    return (image + cover * (colour.clamp(0.0, 1.0)[:, None, None] - image)).clamp(0.0, 1.0)


def jpeg_round_trip(image: torch.Tensor, quality: int) -> torch.Tensor:
    """(3, H, W) in [0, 1] -> the same after JPEG at `quality`, decoded again; goes through the CPU."""
    import cv2

    bgr = (image.permute(1, 2, 0).flip(-1) * 255.0).round().byte().cpu().numpy()
    coded = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, quality))[1]
    decoded = torch.from_numpy(cv2.imdecode(coded, cv2.IMREAD_COLOR)).to(image.device)
    return decoded.flip(-1).permute(2, 0, 1).float() / 255.0
