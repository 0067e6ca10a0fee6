"""A contact sheet of real rainy photographs, for visual inspection: rainy, derained, and what was removed.

    python benchmarks/contact_sheet.py photographs -o out --weights base

Writes OUT/derained, OUT/full/NAME.png with rainy | derained | removed x 4 at full size, and OUT/sheet.jpg with all of
them, each reduced to --width. Prints how many grey levels (root mean square) were removed from each, or "unchanged".
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from command_line import plain_errors
from PIL import Image, ImageDraw

from idsr_cli.images.folders import photos_in
from idsr_cli.images.photo import read_photo
from idsr_cli.rain_estimate import rain_level
from idsr_cli.runs.contact_sheet.thumbnails import amplified

GAP = 4
CAPTION = 16


def triple(rainy: np.ndarray, derained: np.ndarray) -> np.ndarray:
    """(H, W, 3) each in [0, 1] -> (H, 3 W + gaps, 3) uint8: both images, and grey plus 4 times what was removed."""
    removed = amplified(rainy, derained)
    gap = np.ones((len(rainy), GAP, 3))
    return np.rint(255.0 * np.concatenate((rainy, gap, derained, gap, removed), 1)).astype(np.uint8)


def sheet(pictures: dict[str, np.ndarray], width: int) -> Image.Image:
    """All triples below each other, each reduced to `width`, with a caption."""
    parts = []
    for caption, picture in pictures.items():
        image = Image.fromarray(picture)
        height = round(image.height * width / image.width)
        part = Image.new("RGB", (width, height + CAPTION), "white")
        part.paste(image.resize((width, height), Image.Resampling.LANCZOS), (0, CAPTION))
        ImageDraw.Draw(part).text((2, 2), caption, fill="black")
        parts.append(part)
    result = Image.new("RGB", (width, sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        result.paste(part, (0, top))
        top += part.height
    return result


@plain_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--weights", default="base")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--width", type=int, default=1200, help="of a row of the sheet, pixels")
    options = parser.parse_args()
    derained, full = options.output / "derained", options.output / "full"
    subprocess.run(
        [sys.executable, "-m", "idsr_cli", "derain", str(options.photographs), "-o", str(derained), "--format", "png",
         "--weights", options.weights, "--threads", str(options.threads), "--existing", "overwrite", "-q"],
        check=True,
    )  # fmt: skip
    full.mkdir(parents=True, exist_ok=True)
    pictures = {}
    for path in photos_in(options.photographs):
        rainy, dry = read_photo(path).oriented_rgb, read_photo(derained / f"{path.stem}.png").oriented_rgb
        level = rain_level(rainy, dry)
        picture = triple(rainy, dry)
        Image.fromarray(picture).save(full / f"{path.stem}.png")
        caption = f"{path.name}: {level:.1f} grey levels" if level else f"{path.name}: unchanged"
        print(caption, flush=True)
        pictures[caption] = picture
    sheet(pictures, options.width).save(options.output / "sheet.jpg", quality=85)


if __name__ == "__main__":
    main()
