"""Recovered keypoints under many styles of rain, with one or several sets of weights.

Each style is `idsr rain` on the clean photographs, some compressed as JPEG afterwards; `idsr evaluate` scores them. The
styles "lookalikes" are dry: lines, grass, water and the like drawn into the photographs should stay unchanged. In the
styles "in rain" the same stand in rain, and should come back as they were without it.

    python benchmarks/rain_styles.py photographs -o out --weights base --weights run-dprnet --name before-after

Writes OUT/STYLE/rainy, OUT/STYLE/clean and OUT/STYLE/NAME, the report of `idsr evaluate`; prints a table of all styles,
and one of what was removed from the dry ones. Existing outputs are used again.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command_line import plain_errors
from PIL import Image

from idsr_cli.images.folders import photos_in
from idsr_cli.training.scenery import DRAWINGS


@dataclass(frozen=True)
class Style:
    """Options of `idsr rain`, empty if it is dry.

    Attributes:
        jpeg: quality of the compression after the rain, 0 = none.
        drawing: what is drawn into the clean photographs first, one of `scenery.DRAWINGS`.
    """

    rain: str
    jpeg: int = 0
    drawing: str = ""


# Upright and sparse, so that what is drawn is seen between the streaks.
_BEFORE_LOOKALIKES = "--length 14 --width 1.2 --density 0.004 --brightness 0.5 --angle 15 --light 0.9"

STYLES = {
    "fine": Style("--length 12 --width 1 --density 0.004 --brightness 0.35 --angle -8"),
    "long": Style("--length 60 --width 2 --density 0.001 --brightness 0.7 --angle 20"),
    "thick": Style("--length 40 --width 6 --density 0.0006 --brightness 0.6 --blur 2"),
    "dense": Style("--length 30 --width 1.5 --density 0.004 --layers 3 --brightness 0.8 --angle 10"),
    "drizzle": Style("--length 10 --width 1 --density 0.002 --brightness 0.2 --angle 5"),
    "slanting": Style("--length 40 --width 1.5 --density 0.0015 --brightness 0.6 --angle 60"),
    "near-horizontal": Style("--length 40 --width 1.5 --density 0.0015 --brightness 0.6 --angle 75"),
    "horizontal": Style("--length 35 --width 1.5 --density 0.0015 --brightness 0.6 --angle 88"),
    # Grey drops: darker than the sky, lighter than the rest.
    "grey light": Style("--length 24 --width 1.4 --density 0.008 --angle 25 --brightness 0.3 --light 0.72", 85),
    "dark on sky": Style("--length 45 --width 2 --density 0.0015 --angle -12 --brightness 0.6 --light 0.5", 90),
    # As if the photograph was reduced after it rained.
    "below a pixel": Style("--length 12 --width 0.5 --density 0.03 --brightness 0.6 --angle 12 --light 0.85", 90),
    "dashes": Style("--length 4 --width 1.2 --density 0.008 --brightness 0.5 --jitter 10 --light 0.9"),
    "veil": Style("--length 30 --width 1.5 --density 0.003 --brightness 0.5 --angle 8 --light 0.8 --veil 0.5"),
    "blobs": Style("--length 9 --width 2.5 --density 0.0015 --brightness 0.2 --angle 4 --light 0.9"),
    "near drops": Style("--length 60 --width 9 --density 0.00006 --brightness 0.3 --angle -6 --light 0.8"),
    "gusts": Style("--length 30 --width 1.5 --density 0.004 --brightness 0.5 --fan 15 --patchy 1 --light 0.8", 90),
    **{f"lookalikes: {name}": Style("", drawing=name) for name in DRAWINGS},
    **{f"in rain: {name}": Style(_BEFORE_LOOKALIKES, drawing=name) for name in DRAWINGS},
}


def draw(source: Path, target: Path, drawing: str, seed: int) -> None:
    """The photograph with lookalikes drawn into it."""
    with Image.open(source) as image:
        rgb = torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1).float() / 255.0
    drawn = DRAWINGS[drawing](rgb, torch.Generator().manual_seed(seed))
    Image.fromarray((drawn * 255.0).round().byte().permute(1, 2, 0).numpy()).save(target)


def compress(path: Path, quality: int) -> None:
    """Replace a picture by what JPEG compression at that quality makes of it."""
    with Image.open(path) as image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        image.save(path)


def idsr(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "idsr_cli", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def make(style: Style, photos: list[Path], folder: Path, seed: int) -> tuple[Path, Path]:
    """The style's rainy and clean folders, created if missing."""
    rainy, clean = folder / "rainy", folder / "clean"
    if rainy.exists():
        return rainy, clean
    clean.mkdir(parents=True)
    for i, path in enumerate(photos):
        if style.drawing:
            draw(path, clean / f"{path.stem}.png", style.drawing, seed + i)
        else:
            with Image.open(path) as image:
                image.convert("RGB").save(clean / f"{path.stem}.png")
    if not style.rain:
        shutil.copytree(clean, rainy)  # not a link: both would be one folder, whose pairs are told apart by name
    else:
        idsr("rain", clean, "-o", rainy, "--seed", seed, "-q", *style.rain.split())
        for path in photos_in(rainy) if style.jpeg else ():
            compress(path, style.jpeg)
    return rainy, clean


def is_whole(report: Path, count: int) -> bool:
    """Whether a report has all `count` pairs. After an interruption it has some; the same command completes it."""
    summary = report / "summary.json"
    return summary.exists() and all(m["pairs"] == count for m in json.loads(summary.read_text())["methods"])


@plain_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--weights", action="append", default=[])
    parser.add_argument("--count", type=int, default=12, help="photographs used, evenly spread over the folder")
    parser.add_argument("--style", action="append", choices=list(STYLES), help="only these")
    parser.add_argument("--splice", default="DD")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--name", default="report", help="of the reports; another one for other weights")
    options = parser.parse_args()
    found = photos_in(options.photographs)
    photos = [found[round(i * (len(found) - 1) / max(1, options.count - 1))] for i in range(options.count)]
    weights = options.weights or ["base"]
    stayed: list[str] = []
    for i, name in enumerate(options.style or STYLES):
        folder = options.output / name.replace(": ", "-").replace(" ", "-")
        rainy, clean = make(STYLES[name], photos, folder, options.seed)
        report = folder / options.name
        if not is_whole(report, len(photos_in(clean))):
            chosen = [argument for spec in weights for argument in ("--weights", spec)]
            idsr("evaluate", "--rainy", rainy, "--clean", clean, "-o", report, "--splice", options.splice,
                 "--threads", options.threads, "-q", *chosen)  # fmt: skip
        summary = json.loads((report / "summary.json").read_text())
        methods = summary["methods"]
        stayed += [stay(name, method) for method in summary.get("must_stay", ())]
        if not i:
            heads = " | ".join(f"{method['method']} true | gain | lost" for method in methods)
            print(f"| style | clean | {heads} |")
            print("|---" * (2 + 3 * len(methods)) + "|")
        print(row(name, methods), flush=True)
    if stayed:
        print("\n| must stay | method | unchanged | removed, grey levels | most | pixels |\n|---|---|---|---|---|---|")
        print("\n".join(stayed))


def row(name: str, methods: list[dict[str, Any]]) -> str:
    """A line of the table: mean `true`, gain over the rainy photograph with its interval, share that lost."""
    cells = [name, f"{methods[0]['clean']:.1f}"]
    for method in methods:
        gain = method.get("difference", {}).get("rainy", {}).get("true")
        between = f"{gain['mean']:+.1f} [{gain['low']:+.1f}, {gain['high']:+.1f}]" if gain else ""
        cells += [f"{method['true']:.1f}", between, f"{method['lost']:.0%}"]
    return f"| {' | '.join(cells)} |"


def stay(name: str, method: dict[str, Any]) -> str:
    """A line of the second table: what was removed from photographs without rain."""
    unchanged = f"{method['unchanged']} of {method['photographs']}"
    numbers = ("", "", "")
    if method["removed"] is not None:
        numbers = f"{method['removed']:.2f}", f"{method['most']:.2f}", f"{method['changed']:.1%}"
    return f"| {' | '.join((name, method['method'], unchanged, *numbers))} |"


if __name__ == "__main__":
    main()
