"""Rain lookalikes, drawn into clean photographs: lines, grass, spokes, grids, trees, water, walls, cloth, smooth skies.

A network that has not been trained on them removes masts, wires and grass as rain. So thin lines, dark on light and
light on dark, single and in bundles, straight and curved, are drawn into clean training photographs, often without any
rain; so are the sky between leaves, ripples, paint on a road, joints of walls and prints on cloth, which are taken for
drops and streaks. All functions take (3, H, W) in [0, 1] on any device and a CPU generator, and return the same shape
and range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from idsr_cli.scale_space import blur
from idsr_cli.synthetic_rain import StreakOptions, smooth_field, smooth_noise, streak_layer

# Rods of this width, px, and above have sharp edges.
_WIDE_ROD = 3.0
# Lines are drawn at this scale and then reduced, so that they can be thinner than a pixel.
_FINER = 3


def _numbers(generator: torch.Generator, count: int) -> np.ndarray:
    """(count,) float64, uniform in 0..1."""
    return torch.rand(count, generator=generator, dtype=torch.float64).numpy()


def _tinted(image: torch.Tensor, level: float, spread: float, tint: Sequence[float]) -> torch.Tensor:
    """(3, 1, 1) like `image`: a grey level, its channels up to half of `spread` away by `tint`, three in 0..1."""
    colour = torch.tensor(level + spread * (np.array(tint) - 0.5), dtype=image.dtype)
    return colour.clamp(0.0, 1.0).view(3, 1, 1).to(image.device)


def _colour(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(3, 1, 1): a dark, light or medium grey with a slight tint, like rigging, wires and stems."""
    level, dark, *tint = _numbers(generator, 5)
    level = 0.3 * level if dark < 0.5 else 0.75 + 0.25 * level if dark < 0.75 else level
    return _tinted(image, level, 0.12, tint)


def _strokes(size: tuple[int, int], curves: list[np.ndarray], widths: np.ndarray) -> torch.Tensor:
    """(H, W) coverage in 0..1 by curves, each (N, 2) x, y in pixels, with widths in pixels."""
    import cv2

    height, width = size
    canvas = np.zeros((height * _FINER, width * _FINER), np.uint8)
    for curve, thickness in zip(curves, widths, strict=True):
        points = np.rint(curve * (16.0 * _FINER)).astype(np.int32)
        cv2.polylines(canvas, [points], False, 255, max(1, round(thickness * _FINER)), cv2.LINE_AA, 4)
    small = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(small).float() / 255.0


def _curve(start: np.ndarray, angle: float, length: float, bend: float, points: int = 9) -> np.ndarray:
    """(points, 2): a stroke from `start` in direction `angle` (radians from straight up) that turns by `bend`."""
    turns = angle + bend * np.linspace(0.0, 1.0, points)
    steps = length / (points - 1) * np.stack((np.sin(turns), -np.cos(turns)), 1)
    return start + np.concatenate((np.zeros((1, 2)), np.cumsum(steps[:-1], 0)))


def _paint(image: torch.Tensor, cover: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
    return torch.lerp(image, colour.expand_as(image), cover.to(image.device).expand_as(image))


def draw_lines(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Masts, cables and rigging: a few straight or slightly curved lines across the image, each 0.4 to 5 px wide."""
    height, width = image.shape[-2:]
    count, kind, spread, base, thick = _numbers(generator, 5)
    side = math.hypot(height, width)
    direction = math.pi * (base - 0.5) if kind < 0.6 else math.radians(20.0 * (base - 0.5))
    curves, widths = [], []
    for _ in range(1 + int(count * count * 12)):
        x, y, turn, bend, w = _numbers(generator, 5)
        angle = direction + (2.0 * turn - 1.0) * math.radians(3.0 + 40.0 * spread * spread)
        middle = np.array([x * width, y * height])
        start = middle - 0.6 * side * np.array([math.sin(angle), -math.cos(angle)])
        curves.append(_curve(start, angle, 1.2 * side, 0.4 * (bend - 0.5) * spread))
        widths.append(0.4 + (0.6 + 4.0 * thick * thick) * w)
    cover = _strokes((height, width), curves, np.array(widths))
    return _paint(image, cover * (0.4 + 0.6 * float(_numbers(generator, 1)[0])), _colour(image, generator))


def draw_rods(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Umbrella shafts, sticks, poles and straps: opaque, 15 to 120 px long, mostly as grey as rain and near upright.

    A drop is translucent, and many are alike. A rod is opaque, mostly longer than the streaks, lies partly in the
    shadow, and often has a lit side. A third differ little from what is behind them, as a strap on a coat does. Most
    are soft, as in a photograph made smaller. None is wide and soft, or wide and faint: that is a drop near the camera.
    """
    size = (image.shape[-2], image.shape[-1])
    count, leans, soft = _numbers(generator, 3)
    softness = (0.0, 0.5, 0.7, 1.0)[int(4 * soft)]
    rows = torch.arange(size[0], dtype=torch.float32, device=image.device)[:, None]
    for _ in range(1 + int(10 * count * count)):
        x, y, lean, length, wide, bend, kind, lit, strong, level, shadow, *tint = _numbers(generator, 14)
        # Those of a crowd lean alike, and so does the rain.
        angle = math.radians(50.0 * (leans - 0.5) + 30.0 * (lean - 0.5))
        reach, width = 15.0 * 8.0**length, 1.0 + 4.5 * wide**3
        if kind < 0.75:  # short ones would be drops
            reach = max(30.0, reach)
        if kind < 0.3:
            width = min(2.0, width)
        foot = np.array([x * size[1], y * size[0] + reach / 2.0])
        rod = _curve(foot, angle, reach, 0.2 * (bend - 0.5))
        sigma = softness if width < _WIDE_ROD else 0.0
        cover = _softened(_strokes(size, [rod], np.array([width])), sigma)
        if kind < 0.3:
            shade = (0.06 + 0.24 * strong) * (1.0 if lit < 0.65 else -1.0)
            image = (image + shade * cover.to(image.device)).clamp(0.0, 1.0)
            continue
        grey = kind < 0.75
        colour = _tinted(image, 0.4 + 0.6 * level, 0.06, tint) if grey else _colour(image, generator)
        # The upper end, or the lower one, is in the shadow.
        up = ((foot[1] - rows) / reach).clamp(0.0, 1.0)
        shaded = colour * (1.0 - 0.8 * shadow * shadow * (up if lit < 0.7 else 1.0 - up))
        image = _paint(image, cover, shaded)
        aside = math.copysign(0.3 * width, lit - 0.5) * np.array([math.cos(angle), math.sin(angle)])
        side = _softened(_strokes(size, [rod + aside], np.array([0.4 * width])), sigma)
        image = _paint(image, (0.2 + 0.6 * strong) * side, shaded * 0.5 if grey else shaded + 0.4)
    return image.clamp(0.0, 1.0)


def _softened(cover: torch.Tensor, sigma: float) -> torch.Tensor:
    """(H, W) in 0..1, blurred by `sigma` px."""
    return blur(cover[None, None], sigma)[0, 0].clamp(0.0, 1.0) if sigma else cover


def draw_bundle(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Many nearly parallel lines: stripes, railings, cables, hair, pleats; spacing and width vary."""
    height, width = image.shape[-2:]
    direction, spacing, irregular, bend, length = _numbers(generator, 5)
    angle = math.pi * (direction - 0.5)
    spacing = 3.0 * 8.0**spacing
    side = math.hypot(height, width)
    across, along = np.array([math.cos(angle), math.sin(angle)]), np.array([math.sin(angle), -math.cos(angle)])
    centre = np.array([width, height]) / 2.0
    reach = side * (0.25 + 0.5 * length)
    curves, widths = [], []
    for i in range(math.ceil(-side / 2 / spacing), math.floor(side / 2 / spacing) + 1):
        shift, turn, w, offset = _numbers(generator, 4)
        start = centre + across * spacing * (i + irregular * (shift - 0.5))
        start = start - along * reach * (1.0 + irregular * (offset - 0.5))
        curves.append(_curve(start, angle + 0.15 * irregular * (turn - 0.5), 2.0 * reach, 0.8 * (bend - 0.5)))
        widths.append(0.35 + w * min(3.0, 0.45 * spacing))
    cover = _strokes((height, width), curves, np.array(widths))
    # Stripes are opaque; pale see-through lines side by side would be rain.
    return _paint(image, cover * (0.7 + 0.3 * float(_numbers(generator, 1)[0])), _colour(image, generator))


def draw_grass(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Grass, reeds, needles, twigs: many short curved strokes in two or three colours."""
    height, width = image.shape[-2:]
    count, direction, spread, length, thick, everywhere = _numbers(generator, 6)
    mean = math.radians(50.0 * (direction - 0.5)) if everywhere < 0.8 else math.pi * (direction - 0.5)
    for _ in range(2 + (spread > 0.5)):
        curves, widths = [], []
        for _ in range(20 + int(150 * count)):
            x, y, turn, bend, size, w = _numbers(generator, 6)
            angle = mean + (2.0 * turn - 1.0) * math.radians(25.0 + 40.0 * spread)
            start = np.array([x * width, y * height * 1.2])
            reach = (6.0 + 60.0 * length) * (0.4 + size)
            curves.append(_curve(start, angle, reach, math.copysign(0.3 + 1.2 * abs(bend - 0.5), bend - 0.5), 6))
            widths.append(0.4 + (0.5 + 2.0 * thick) * w)
        cover = _strokes((height, width), curves, np.array(widths))
        # Leaves and stems are opaque, bent, and seldom all of one direction: that tells them from rain.
        image = _paint(image, cover * (0.7 + 0.3 * float(_numbers(generator, 1)[0])), _colour(image, generator))
    return image


def draw_meadow(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """High grass, corn or fur: dense rooted strokes, pale before dark, that fill the picture up to an uneven edge."""
    height, width = image.shape[-2:]
    edge, length, thick, lean, contrast, tone = _numbers(generator, 6)
    top = height * (0.7 * edge - 0.1)
    ground = _colour(image, generator)
    rows = torch.arange(height, device=image.device, dtype=torch.float32).view(1, -1, 1)
    soil = torch.sigmoid((rows - top - 0.15 * height) / (0.04 * height))
    image = torch.lerp(image, (0.6 * ground).expand_as(image), soil.expand_as(image))
    mean, reach = math.radians(40.0 * (lean - 0.5)), 8.0 + 50.0 * length
    layers = 5
    for i in range(layers):
        curves, widths = [], []
        for _ in range(30 + int(1.2 * width * height / reach**1.5 / layers)):
            x, y, turn, bend, size, w = _numbers(generator, 6)
            root = np.array([x * 1.1 * width, top + y * (1.15 * height - top)])
            angle = mean + (2.0 * turn - 1.0) * math.radians(18.0)
            curves.append(
                _curve(root, angle, reach * (0.4 + size), math.copysign(0.2 + abs(bend - 0.5), bend - 0.5), 6)
            )
            widths.append(0.4 + (0.4 + 1.8 * thick) * w)
        # Stems nearer to the viewer are lighter or darker than those behind.
        level = (2.0 * (i + 1) / layers - 1.0) * (0.15 + 0.5 * contrast) * (1.0 if tone < 0.7 else -1.0)
        cover = _strokes((height, width), curves, np.array(widths))
        image = _paint(image, 0.9 * cover, (ground + level).clamp(0.0, 1.0))
    return image


def draw_spokes(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Lines from one point, with circles around it or stripes between them: a wheel, an umbrella, rigging at a mast."""
    import cv2

    height, width = image.shape[-2:]
    x, y, count, radius, first, thick, kind, part = _numbers(generator, 8)
    centre = np.array([x * width, y * height])
    number = 5 + int(20 * count)
    reach = (0.2 + 0.8 * radius) * math.hypot(height, width)
    turn = 2.0 * math.pi if part < 0.6 else math.radians(20.0 + 80.0 * part)
    angles = 2.0 * math.pi * first + turn * np.arange(number) / number
    ends = centre + reach * np.stack((np.sin(angles), -np.cos(angles)), 1)
    if kind < 0.3:
        canvas = np.zeros((height * _FINER, width * _FINER), np.uint8)
        for i in range(0, number - 1, 2):
            corners = np.rint(np.stack((centre, ends[i], ends[i + 1])) * _FINER).astype(np.int32)
            cv2.fillPoly(canvas, [corners], 255)
        small = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
        cover = torch.from_numpy(small).float() / 255.0
    else:
        curves = [np.stack((centre, end)) for end in ends]
        if kind < 0.7:
            round_ = np.linspace(0.0, turn, 60) + 2.0 * math.pi * first
            curves += [centre + r * reach * np.stack((np.sin(round_), -np.cos(round_)), 1) for r in (0.95, 0.3)]
        cover = _strokes((height, width), curves, np.full(len(curves), 0.5 + 2.5 * thick * thick))
    return _paint(image, cover, _colour(image, generator))


def draw_sky(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A smooth bright gradient in place of the scene or of its upper part, where faint rain is most visible."""
    height, width = image.shape[-2:]
    field = smooth_field((height, width), 1.5 * max(height, width), generator).to(image.device)
    level, span, part, *tint = _numbers(generator, 6)
    colour = _tinted(image, level * 0.5 + 0.35, 0.1, tint)
    sky = (colour + (0.1 + 0.4 * span) * (field - 0.5)).clamp(0.0, 1.0)
    if part < 0.5:
        return sky.expand_as(image).clone()
    edge = torch.sigmoid((torch.arange(height, device=image.device) / height - part) * 40.0).view(1, -1, 1)
    return torch.lerp(sky.expand_as(image), image, edge.expand_as(image))


def film_scan(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A grey, noisy scan: no colour, and grain of 2 to 12 grey levels over one to two pixels."""
    sigma, coarse, toned = _numbers(generator, 3)
    grey = image.mean(0, keepdim=True)
    grain = torch.randn(1, 1, *image.shape[-2:], generator=generator)
    if coarse < 0.5:
        grain = 1.9 * torch.nn.functional.avg_pool2d(grain, 3, 1, 1, count_include_pad=False)
    image = grey if toned < 0.8 else torch.lerp(image, grey.expand_as(image), 0.7)
    return (image + (2.0 + 10.0 * sigma) / 255.0 * grain[0].to(image.device)).clamp(0.0, 1.0).expand(3, -1, -1)


def draw_lattice(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(3, H, W) in [0, 1] with regular bars over it, or two crossing sets: wires, railings, blinds. CPU generator.

    In half of them one colour hides most or all of the scene between the bars: a screen, a facade, a fence at night.
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
        cover = torch.maximum(cover, (thickness / 2 + 0.5 - _to_multiple(across, spacing)).clamp(0.0, 1.0))
    cover = cover * (0.3 + 0.7 * draw[6])
    return (image + cover * (colour.clamp(0.0, 1.0)[:, None, None] - image)).clamp(0.0, 1.0)


def _noise(size: tuple[int, int], reach: tuple[float, float], generator: torch.Generator) -> torch.Tensor:
    """(height, width), (down, across) in px -> (H, W) Gaussian noise of deviation about 1, smooth over `reach`."""
    return smooth_noise(size, [max(2, math.ceil(n / r) + 1) for n, r in zip(size, reach, strict=True)], generator)


def draw_leaves(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A crown against the sky: dark leaves or twigs with small bright gaps, in a part of the image or in all of it."""
    height, width = image.shape[-2:]
    size, share, sky, dark, upright, spread, *tint = _numbers(generator, 9)
    reach = 2.5 * 4.0**size
    stretch = 2.0 ** (upright - 0.3)
    gaps = _noise((height, width), (reach * stretch, reach / stretch), generator)
    gaps = gaps + 0.5 * _noise((height, width), (0.45 * reach, 0.45 * reach), generator)
    gaps = gaps + 0.8 * _noise((height, width), (6.0 * reach, 6.0 * reach), generator)
    level = float(np.quantile(gaps.numpy(), 0.97 - 0.45 * share))
    cover = torch.sigmoid(6.0 * (gaps - level)).to(image.device)
    crown = _paint(image * (0.15 + 0.55 * dark), cover, _tinted(image, 0.7 + 0.3 * sky, 0.08, tint))
    if spread < 0.4:
        return crown
    return _paint(image, torch.sigmoid(5.0 * _noise((height, width), (height / 2, width / 2), generator)), crown)


def draw_crown(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Trees against a bright sky, often one without detail: dense inside, with more and more sky towards their edge."""
    height, width = image.shape[-2:]
    size, sky, mist, tone, texture, top, hard, *tint = _numbers(generator, 10)
    reach = 2.0 * 4.0**size
    leaves = torch.zeros(height, width)
    for finer, weight in ((4.0, 1.0), (1.6, 0.8), (0.7, 0.7)):
        leaves = leaves + weight * _noise((height, width), (finer * reach, finer * reach), generator)
    rows = torch.linspace(0.0, 1.0, height)[:, None]
    outline = 4.0 * (rows - 0.8 * top + 0.1) + 1.5 * _noise((height, width), (0.4 * height, 0.4 * width), generator)
    cover = torch.sigmoid((3.0 + 9.0 * hard) * (leaves + outline)).to(image.device)
    light = _tinted(image, 0.8 + 0.35 * sky, 0.08, tint)
    crown = torch.lerp(image, image.mean((-2, -1), keepdim=True), 0.3 + 0.6 * texture) * (0.25 + 0.6 * tone)
    crown = torch.lerp(crown, light.expand_as(crown), 0.55 * mist)
    return _paint(light.expand_as(image), cover, crown)


def draw_ripples(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Water below an uneven edge: level waves that are smaller far away, or bright reflections broken by them."""
    height, width = image.shape[-2:]
    edge, size, contrast, mirror, opaque, dark, *tint = _numbers(generator, 9)
    reach = 1.8 * 4.0**size
    waves = torch.zeros(height, width)
    for finer in (1.0, 0.5):
        far = _noise((height, width), (0.6 * finer * reach, 3.0 * finer * reach), generator)
        near = _noise((height, width), (1.6 * finer * reach, 7.0 * finer * reach), generator)
        waves = waves + finer * torch.lerp(far, near, torch.linspace(0.0, 1.0, height)[:, None])
    if mirror < 0.25:  # upright reflections, cut by the waves; in a part only, for rain looks like them
        upright = _noise((height, width), (14.0 * reach, 3.0 + 3.0 * reach), generator).clamp_min(0.0)
        waves = upright * (0.6 + waves).clamp_min(0.0)
    rows = torch.linspace(0.0, 1.0, height)[:, None]
    water = torch.sigmoid(25.0 * (rows - 0.7 * edge)).to(image.device)
    colour = _tinted(image, 0.1 + 0.6 * dark, 0.15, tint)
    ground = torch.lerp(image, colour.expand_as(image), 0.3 + 0.7 * opaque)
    lit = (ground + (0.01 + 0.12 * contrast) * waves.to(image.device)).clamp(0.0, 1.0)
    return _paint(image, water, lit)


def draw_paint(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Worn paint on a road or wall: a few wide, straight, often faint bands that taper, whole or broken into dashes."""
    height, width = image.shape[-2:]
    count, faint, worn, dashed = _numbers(generator, 4)
    cover = torch.zeros(height, width)
    for _ in range(1 + int(3 * count)):
        x, y, turn, length, near, taper, period, phase = _numbers(generator, 8)
        angle, reach, thick = math.pi * (turn - 0.5), (0.3 + 0.9 * length) * height, 1.5 + 10.0 * near * near
        start = np.array([x * width, (0.3 + y) * height])
        steps = np.linspace(0.0, 1.0, 24)
        if dashed < 0.5:
            steps = steps[((steps * (2.0 + 4.0 * period) + phase) % 1.0) < 0.6]
        points = start + reach * steps[:, None] * np.array([math.sin(angle), -math.cos(angle)])
        pieces = [
            np.stack((point, point + reach / 23 * np.array([math.sin(angle), -math.cos(angle)]))) for point in points
        ]
        cover = torch.maximum(cover, _strokes((height, width), pieces, thick * (1.0 - 0.8 * taper * steps)))
    wear = 1.0 - worn * torch.sigmoid(3.0 * _noise((height, width), (3.0, 3.0), generator))
    level, *tint = _numbers(generator, 4)
    colour = _tinted(image, 0.65 + 0.35 * level, 0.1, tint)
    return _paint(image, (0.15 + 0.75 * faint * faint) * wear * cover, colour)


def draw_bricks(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A wall or a pavement, whole or in part, turned and in perspective: courses of stones with joints between them.

    The upright joints are short, and shifted from course to course. They are what is taken for rain.
    """
    height, width = image.shape[-2:]
    size, shape, turn, depth, thick, uneven, bond, texture, strength, spread = _numbers(generator, 10)
    y = torch.arange(height, dtype=torch.float32)[:, None] - height / 2
    x = torch.arange(width, dtype=torch.float32)[None] - width / 2
    angle = math.radians(30.0 * (turn - 0.5))
    far = 1.0 + 1.2 * depth * depth * (0.5 - y / height)
    course = 4.0 * 6.0**size  # height of a stone, pixels
    stone = course * (0.6 + 3.0 * shape)
    row = (y * math.cos(angle) - x * math.sin(angle)) * far / course
    shift = (0.5 if bond < 0.7 else 0.37) * row.floor() + 0.15 * uneven * torch.sin(12.9898 * row.floor())
    column = (x * math.cos(angle) + y * math.sin(angle)) * far / stone + shift
    to_joint = torch.minimum(course * _to_multiple(row, 1.0), stone * _to_multiple(column, 1.0))
    joint = (0.8 + 1.2 * thick * thick - to_joint).clamp(0.0, 1.0)
    tone = 43.7 * torch.sin(78.233 * row.floor() + 37.719 * column.floor())  # as good as chance, one number per stone
    tone = (0.12 * uneven * (tone - tone.floor() - 0.5)).to(image.device)
    level, light, *tint = _numbers(generator, 5)
    wall = torch.lerp(_tinted(image, 0.2 + 0.5 * level, 0.3, tint).expand_as(image), image, 0.3 + 0.7 * texture) + tone
    mortar = _tinted(image, 0.65 + 0.35 * level if light < 0.6 else 0.4 * level, 0.1, tint)
    wall = _paint(wall.clamp(0.0, 1.0), (0.15 + 0.75 * strength) * joint, mortar)
    if spread < 0.6:
        return wall
    return _paint(image, torch.sigmoid(8.0 * _noise((height, width), (height / 2, width / 2), generator)), wall)


def draw_print(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Printed cloth in folds, in a part of the image: marks of one shape in rows, as on a dress, an umbrella or a bag.

    Rain has no rows and no edge, and one sees through it.
    """
    height, width = image.shape[-2:]
    size, shape, turn, spacing, offset, uneven, mirrored, fold, spread, x, y = _numbers(generator, 11)
    long = 3.0 * 7.0**size  # of a mark, pixels
    thick = max(1.0, long * (0.15 + 0.85 * shape * shape))
    step, row_step = long * (1.2 + spacing), max(thick * (1.5 + 2.5 * spacing), 0.6 * long)
    angle = math.pi * (turn - 0.5)
    along, across = np.array([math.sin(angle), -math.cos(angle)]), np.array([math.cos(angle), math.sin(angle)])
    reach = (0.3 + 0.5 * spread) * math.hypot(height, width)
    middle = np.array([x * width, y * height])
    rows, columns = (np.arange(-math.ceil(reach / each), math.ceil(reach / each) + 1) for each in (row_step, step))
    row, column = (grid.ravel() for grid in np.meshgrid(rows, columns, indexing="ij"))
    dx, dy = 0.4 * uneven * (_numbers(generator, 2 * row.size).reshape(-1, 2) - 0.5).T
    odd = row % 2  # every other row is shifted in half of the prints, and turned in a third
    places = middle + np.outer(step * (column + 0.5 * odd * round(offset) + dx), along)
    places += np.outer(row_step * (row + dy), across)
    tilt = 0.6 * odd * (mirrored < 0.33)
    ways = np.outer(np.cos(tilt), along) + np.outer(np.sin(tilt), across)
    seen = ((places > -long) & (places < np.array([width, height]) + long)).all(1)
    ends = 0.5 * (long - thick) * ways[seen]
    curves = list(np.stack((places[seen] - ends, places[seen] + ends), 1))
    marks = _strokes((height, width), curves, np.full(len(curves), thick))
    strength, under = _numbers(generator, 2)
    folds = 0.25 * fold * _noise((height, width), (4.0 + 20.0 * fold, 60.0), generator).to(image.device)
    cloth = torch.lerp(_colour(image, generator).expand_as(image), image, 0.3 * float(under))
    cloth = _paint(cloth, (0.5 + 0.5 * float(strength)) * marks, _colour(image, generator)) * (1.0 + folds)
    column = torch.arange(width, dtype=torch.float32)[None] - middle[0]
    row = torch.arange(height, dtype=torch.float32)[:, None] - middle[1]
    edge = 0.35 * reach * _noise((height, width), (height / 3, width / 3), generator)
    return _paint(image, _piece(column, row, 0.75 * reach + edge), cloth.clamp(0.0, 1.0))


def _piece(column: torch.Tensor, row: torch.Tensor, reach: torch.Tensor) -> torch.Tensor:
    """(1, W), (H, 1) from the middle, (H, W), px -> (H, W) cover in 0..1 of cloth: its edge is `reach` away."""
    return ((reach - torch.hypot(column, row)) / 1.5).clamp(0.0, 1.0)


def _tartan_bands(along: torch.Tensor, unit: float, generator: torch.Generator) -> torch.Tensor:
    """(H, W) position in px -> (H, W) share in 0..1 of the second colour: 1 to 4 bands in each `unit`."""
    cover = torch.zeros_like(along)
    for _ in range(1 + int(4 * float(_numbers(generator, 1)[0]))):
        where, wide, strong = _numbers(generator, 3)
        half = unit * (0.04 + 0.2 * wide)
        to_band = _to_multiple(along - where * unit, unit)
        cover = torch.maximum(cover, (0.4 + 0.6 * strong) * (half + 0.5 - to_band).clamp(0.0, 1.0))
    return cover


def draw_tartan(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Checked cloth, in a part of the image: bands of two or three colours that cross, in folds or on an umbrella.

    The bands of an umbrella turn from one panel to the next, so that some of them run as the rain does. Only that
    they are regular, cross others and end at an edge tells them from it.
    """
    height, width = image.shape[-2:]
    size, turn, kind, bend, x, y, spread, panels, first, flat = _numbers(generator, 10)
    unit, squeeze = 5.0 * 6.0**size, 0.5 + 0.5 * flat  # one repeat of the pattern, pixels
    column = torch.arange(width, dtype=torch.float32)[None] - x * width
    row = torch.arange(height, dtype=torch.float32)[:, None] - y * height
    reach = (0.2 + 0.6 * spread) * math.hypot(height, width)
    # Most cloth hangs or stands upright, as most rain does.
    angle = math.pi * (turn - 0.5) if kind < 0.35 else math.radians(60.0 * (turn - 0.5))
    turns = torch.full((height, width), angle)
    if kind > 0.6:  # 6 to 12 panels around the tip of an umbrella, `squeeze` times as wide as high
        panel = 2.0 * math.pi / (6 + int(7 * panels))
        way = torch.atan2(column, squeeze * row)
        turns = panel * ((way - first * panel) / panel).round() + first * panel
        turns = -torch.atan2(squeeze * torch.sin(turns), torch.cos(turns))
    across = column * torch.cos(turns) + row * torch.sin(turns)
    along = row * torch.cos(turns) - column * torch.sin(turns)
    fold = _noise((height, width), (60.0, 25.0), generator)
    across, along = (each + bend * bend * 2.5 * fold for each in (across, along))
    under, crossed, thin, opaque, dark = _numbers(generator, 5)
    cloth = torch.rand(3, 1, 1, generator=generator).to(image.device) * (0.2 + 0.8 * dark)
    cloth = torch.lerp(cloth.expand_as(image), image, 0.25 * float(under))
    second, third = (_pale(image, generator) for _ in range(2))
    for position, colour in ((across, second), (along, second if thin < 0.5 else third))[: 1 + (crossed < 0.85)]:
        cloth = _paint(cloth, (0.45 + 0.5 * opaque) * _tartan_bands(position, unit, generator), colour)
    shade = 1.0 + (0.05 + 0.2 * bend) * fold.to(image.device)
    edge = 0.2 * reach * _noise((height, width), (height / 2, width / 2), generator)
    return _paint(image, _piece(column, row, reach + edge), (cloth * shade).clamp(0.0, 1.0))


def _pale(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(3, 1, 1): mostly white or pale, as the bands of cloth that look like rain are, else any colour."""
    level, pale, *tint = _numbers(generator, 5)
    if pale < 0.65:
        return _tinted(image, 0.7 + 0.3 * level, 0.3, tint)
    return torch.tensor(tint, dtype=image.dtype).view(3, 1, 1).to(image.device)


def _to_multiple(x: torch.Tensor, unit: float) -> torch.Tensor:
    """How far each number is from the nearest multiple of `unit`, 0 to half of that."""
    return ((x + unit / 2) % unit - unit / 2).abs()


DRAWINGS: dict[str, Callable[[torch.Tensor, torch.Generator], torch.Tensor]] = {
    "lines": draw_lines,
    "rods": draw_rods,
    "bundle": draw_bundle,
    "grass": draw_grass,
    "meadow": draw_meadow,
    "spokes": draw_spokes,
    "lattice": draw_lattice,
    "leaves": draw_leaves,
    "crown": draw_crown,
    "ripples": draw_ripples,
    "paint": draw_paint,
    "bricks": draw_bricks,
    "print": draw_print,
    "tartan": draw_tartan,
}
# How often a drawing is chosen, where that is not once. Checked cloth, crowns and high grass are what networks spoil
# most; rods, prints, water and joints come next.
_OFTEN = {"rods": 8, "crown": 6, "ripples": 2, "bricks": 2, "print": 4, "tartan": 22, "meadow": 8}


def draw_any(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """One of `DRAWINGS`, in 35 % of the cases on a smooth sky."""
    which, sky = _numbers(generator, 2)
    if sky < 0.35:
        image = draw_sky(image, generator)
    return _one_of({name: _OFTEN.get(name, 1) for name in DRAWINGS}, float(which))(image, generator)


def _one_of(times: Mapping[str, int], which: float) -> Callable[[torch.Tensor, torch.Generator], torch.Tensor]:
    """The drawing at `which`, 0..1, of `DRAWINGS` with each name so many times."""
    names = [name for name, count in times.items() for _ in range(count)]
    return DRAWINGS[names[int(which * len(names))]]


# How often which is drawn over real rainy photographs, where thin opaque things are what a network spoils most.
_ON_REAL = {"rods": 5, "tartan": 3, "lines": 1, "bundle": 1, "print": 1}


def drawing_for_real(size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """What a drawing does to the pixels of a photograph of unknown content: `image * gain + colour`.

    Args:
        size: height, width in px.
        generator: CPU generator.

    Returns:
        (6, H, W) float32 in 0..1: gain, then colour, of three channels each. Where nothing is drawn: 1 and 0.
    """
    draw = _one_of(_ON_REAL, float(_numbers(generator, 1)[0]))
    state = generator.get_state()
    on_black = draw(torch.zeros(3, *size), generator)
    generator.set_state(state)
    on_white = draw(torch.ones(3, *size), generator)
    return torch.cat(((on_white - on_black).clamp_min(0.0), on_black))


def near_drops(size: tuple[int, int], generator: torch.Generator, narrowest: float = 2.5) -> torch.Tensor:
    """A few drops near the camera, for any photograph: `image * (1 - share) + light`.

    They are what rods are mistaken for, and the other way round: a network needs to see both in the same photographs.

    Args:
        size: height, width in px.
        generator: CPU generator.
        narrowest: least width of the drops, px; they are up to 10 px wide.

    Returns:
        (4, H, W) float32 in 0..1: share, then light times share, of three channels. Where no drop is: 0.
    """
    wide, long, covered, strong, soft, lean, light, *tint = _numbers(generator, 10)
    width = narrowest * (10.0 / narrowest) ** wide
    length = min(90.0, max(25.0, width * (5.0 + 7.0 * long)))
    drops = StreakOptions(
        length,
        width,
        angle=60.0 * (lean - 0.5),
        density=0.01 * 6.0**covered / (length * width),
        brightness=0.08 + 0.32 * strong,
        blur=1.5 * soft if soft > 0.5 else 0.0,
    )
    share = streak_layer(size, drops, generator)[None]
    return torch.cat((share, share * _tinted(share, 0.6 + 0.4 * light, 0.05, tint)))


def behind_drops(image: torch.Tensor, drops: torch.Tensor) -> torch.Tensor:
    """(..., 3, H, W) in [0, 1] behind `near_drops`, (..., 4, H, W): the same shape and range."""
    share, light = drops.split((1, 3), -3)
    return image * (1.0 - share) + light
