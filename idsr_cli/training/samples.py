"""One training sample: how a clean crop is changed before, by and after the rain."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch.nn import functional as F

from idsr_cli.synthetic_rain import RainSynthesizer, add_veil, random_veil
from idsr_cli.training.scenery import draw_any, draw_sky, film_scan

# Share of faint rain among the procedural rain on film scans.
_FAINT_ON_FILM = 0.5
# At least this share of the crops with rain lookalikes is dry, so that the network learns to leave these alone.
_DRY_LOOKALIKES = 0.35


@dataclass(frozen=True)
class SampleOptions:
    """Shares of samples; each is a probability.

    Attributes:
        dry: without rain, so that the network learns to leave a dry photograph alone.
        lookalikes: with lines, grass, leaves, water and the like drawn into the clean photograph, see `scenery`. At
            least 35 % of these are dry.
        sky: with a smooth bright gradient in place of the scene or part of it.
        film: as a noisy scan, mostly grey. A grey one stays grey in the rain, and half of the procedural rain on
            scans is faint, because grain is easily taken for it.
        gamma: with a gamma in [0.7, 1.4] applied before the rain.
        noise: with Gaussian sensor noise (sigma up to 3/255) in both the rainy and the clean image.
        haze: share of dry samples with a veil in both images: haze without rain is part of the scene.
        tone: with changed brightness, gamma and contrast in the rainy image only.
        flat: with the contrast of both images reduced, down to 0.35 times, as in mist: scene and rain are faint then.
        sharpen: with both images sharpened, as photographs made smaller for the web often are.
        jpeg: with the rainy image compressed as JPEG (quality 40-95); in dry samples both images.
    """

    dry: float = 0.12
    lookalikes: float = 0.34
    sky: float = 0.05
    film: float = 0.1
    gamma: float = 0.3
    noise: float = 0.12
    haze: float = 0.15
    tone: float = 0.03
    flat: float = 0.3
    sharpen: float = 0.15
    jpeg: float = 0.3


@dataclass
class SampleMaker:
    """Clean crop -> (rainy, clean); a pure function of its generators.

    Attributes:
        rain: the synthesiser.
        options: the shares.
    """

    rain: RainSynthesizer
    options: SampleOptions = field(default_factory=SampleOptions)

    def __call__(
        self, clean: torch.Tensor, generator: torch.Generator, device_generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(3, H, W) clean in [0, 1] -> (rainy, clean); the clean image is the network's target.

        Args:
            clean: on the device of `device_generator`.
            generator: CPU generator; draws the parameters.
            device_generator: draws pixels.
        """
        o = self.options

        def uniform(low: float, high: float) -> float:
            return low + (high - low) * torch.rand((), generator=generator).item()

        def chance(share: float) -> bool:
            return uniform(0.0, 1.0) < share

        if chance(o.gamma):
            clean = clean ** (0.7 * 2.0 ** uniform(0.0, 1.0))
        if chance(o.sky):
            clean = draw_sky(clean, generator)
        lookalikes = chance(o.lookalikes)
        if lookalikes:
            clean = draw_any(clean, generator)
        film = chance(o.film)
        if film:
            clean = film_scan(clean, generator)
        elif chance(o.noise):
            noise = torch.randn(clean.shape, generator=device_generator, device=clean.device)
            clean = (clean + uniform(0.0, 3.0 / 255.0) * noise).clamp(0.0, 1.0)
        sharpness = uniform(0.3, 1.2) if chance(o.sharpen) else 0.0
        contrast = uniform(0.35, 1.0) if chance(o.flat) else 1.0
        if chance(max(o.dry, _DRY_LOOKALIKES) if lookalikes else o.dry):
            if chance(o.haze):
                clean = add_veil(clean, random_veil(generator), device_generator)
            clean = _sharpened(_flattened(clean, contrast, clean), sharpness)
            if chance(o.jpeg):
                clean = jpeg_round_trip(clean, int(uniform(40, 96)))
            clean = _rounded(clean)
            return clean, clean
        rain = self.rain
        if film:
            rain = replace(rain, options=replace(rain.options, faint=_FAINT_ON_FILM))
        rainy = rain(clean, generator, device_generator)
        if film and torch.equal(clean[0], clean[1]):  # or the tint of the drops would give them away
            rainy = rainy.mean(0, keepdim=True).expand(3, -1, -1)
        rainy, clean = (_sharpened(_flattened(image, contrast, clean), sharpness) for image in (rainy, clean))
        if chance(o.tone):
            rainy = _toned(rainy, uniform(0.7, 1.2), uniform(0.8, 1.25), uniform(-0.08, 0.04))
        if chance(o.jpeg):
            rainy = jpeg_round_trip(rainy, int(uniform(40, 96)))
        return _rounded(rainy), clean


def _rounded(image: torch.Tensor) -> torch.Tensor:
    """To 8 bits, as photographs are: dry and rainy ones alike, or the network could tell them apart by it."""
    return (image * 255.0).round() / 255.0


def _sharpened(image: torch.Tensor, strength: float) -> torch.Tensor:
    """Unsharp mask over 3x3 pixels; `strength` times the detail is added."""
    if not strength:
        return image
    blurred = F.avg_pool2d(F.pad(image[None], (1, 1, 1, 1), mode="reflect"), 3, 1)[0]
    return (image + strength * (image - blurred)).clamp(0.0, 1.0)


def _flattened(image: torch.Tensor, contrast: float, clean: torch.Tensor) -> torch.Tensor:
    """Differences from the mean colour of the clean image are `contrast` times as large."""
    return image if contrast == 1.0 else torch.lerp(clean.mean((-2, -1), keepdim=True), image, contrast)


def _toned(image: torch.Tensor, contrast: float, gamma: float, lift: float) -> torch.Tensor:
    return ((image.clamp_min(0.0) ** gamma - 0.5) * contrast + 0.5 + lift).clamp(0.0, 1.0)


def jpeg_round_trip(image: torch.Tensor, quality: int) -> torch.Tensor:
    """(3, H, W) in [0, 1] -> the same after JPEG at `quality`, decoded again; goes through the CPU."""
    import cv2

    bgr = (image.permute(1, 2, 0).flip(-1) * 255.0).round().byte().cpu().numpy()
    coded = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, quality))[1]
    decoded = torch.from_numpy(cv2.imdecode(coded, cv2.IMREAD_COLOR)).to(image.device)
    return decoded.flip(-1).permute(2, 0, 1).float() / 255.0
