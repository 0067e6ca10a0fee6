"""A multi-view set with known cameras, rendered from photographs: for `sfm.py` where no set of one's own is at hand.

The photographs are hung up as planes at different depths and angles, like the fronts of houses around a yard; a camera
walks past on an arc and looks at the middle. Views are homographies of the photographs, drawn at twice the size and
reduced. EXIF names one camera with its true focal length.

    python benchmarks/render_scene.py photographs -o views --views 11 --size 640x480

This is real texture on a made-up scene: flat, sharp everywhere, without reflections, and nothing moves. It tells ways
of making features apart; it does not tell how many points a real place gives.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from command_line import parse_size, plain_errors
from PIL import Image

from idsr_cli.images.folders import photos_in
from idsr_cli.images.photo import read_photo

FOCAL = 1.1  # of the longer side
GROUND = (96, 104, 88)
SKY = (168, 184, 208)


@dataclass(frozen=True)
class Plane:
    """A photograph in the scene: its middle, its width, and how far it is turned about the vertical, degrees.

    x is to the right, y down, z away from the walker; the walker is near the origin.
    """

    x: float
    y: float
    z: float
    width: float
    angle: float

    def corners(self, aspect: float) -> np.ndarray:
        """(4, 3): top left, top right, bottom right, bottom left, for a photograph of height = aspect x width."""
        a, w = math.radians(self.angle), self.width / 2
        side, down = w * np.array([math.cos(a), 0, math.sin(a)]), np.array([0, w * aspect, 0])
        middle = np.array([self.x, self.y, self.z])
        return np.stack((middle - side - down, middle + side - down, middle + side + down, middle - side + down))


# Furthest first, as they are drawn: a row at the back, two sides, and three in front of them.
PLANES = (
    Plane(-6.2, -1.2, 13.0, 6.5, 10), Plane(0.4, -1.1, 14.0, 7.0, 0), Plane(7.0, -1.2, 13.0, 6.5, -10),
    Plane(-5.6, 0.2, 9.6, 4.5, 55), Plane(6.0, 0.2, 9.6, 4.5, -55),
    Plane(-2.1, 1.6, 9.4, 2.4, -12), Plane(2.5, 1.7, 8.6, 2.4, 14), Plane(0.3, 2.0, 7.4, 1.8, 4),
)  # fmt: skip
MIDDLE = np.array([0.3, 0.2, 11.0])


def camera(step: float) -> tuple[np.ndarray, np.ndarray]:
    """(3, 3) rotation from scene to camera and (3,) place of the camera; step from -1 to 1 along the arc."""
    angle = math.radians(16.0 * step)
    place = MIDDLE + 11.0 * np.array([math.sin(angle), 0.03 * math.cos(3 * angle), -math.cos(angle)])
    forward = (MIDDLE - place) / np.linalg.norm(MIDDLE - place)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    return np.stack((right, np.cross(forward, right), forward)), place


def render(photos: list[np.ndarray], step: float, width: int, height: int) -> np.ndarray:
    """The view from one place, (height, width, 3) uint8; the photographs are (H, W, 3) uint8."""
    wide, high = 2 * width, 2 * height
    rotation, place = camera(step)
    focal = FOCAL * max(wide, high)
    view = np.empty((high, wide, 3), np.uint8)
    view[: high // 2], view[high // 2 :] = SKY, GROUND
    for plane, photo in zip(PLANES, photos, strict=False):
        rows, columns = photo.shape[:2]
        x, y, z = rotation @ (plane.corners(rows / columns) - place).T
        to = np.stack((focal * x / z + (wide - 1) / 2, focal * y / z + (high - 1) / 2), 1).astype(np.float32)
        # A photograph that appears smaller is reduced before it is warped: warping alone would alias.
        shrink = max(1, round(columns / np.linalg.norm(to[1] - to[0])))
        small = cv2.resize(photo, (columns // shrink, rows // shrink), interpolation=cv2.INTER_AREA)
        right, bottom = small.shape[1] - 0.5, small.shape[0] - 0.5
        edges = np.array([[-0.5, -0.5], [right, -0.5], [right, bottom], [-0.5, bottom]], np.float32)
        homography = cv2.getPerspectiveTransform(edges, to)
        cv2.warpPerspective(small, homography, (wide, high), view, cv2.INTER_CUBIC, borderMode=cv2.BORDER_TRANSPARENT)
    return cv2.resize(view, (width, height), interpolation=cv2.INTER_AREA)


def write(folder: Path, output: Path, views: int, width: int, height: int) -> None:
    """Render the views of a scene made of the folder's photographs; needs at least one, uses them in turn."""
    found = [np.rint(255 * read_photo(path).oriented_rgb).astype(np.uint8) for path in photos_in(folder)]
    photos = [found[i % len(found)] for i in range(len(PLANES))]
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "idsr", "rendered"
    exif.get_ifd(0x8769)[0xA405] = round(36 * FOCAL)  # of 35 mm film, which is 36 mm wide
    output.mkdir(parents=True, exist_ok=True)
    for i in range(views):
        step = 2 * i / max(1, views - 1) - 1
        Image.fromarray(render(photos, step, width, height)).save(output / f"{i:02}.jpg", quality=95, exif=exif)


@plain_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help=f"folder; {len(PLANES)} are hung up, fewer repeat")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--views", type=int, default=11)
    parser.add_argument(
        "--size", type=parse_size, default=(640, 480), metavar="WIDTHxHEIGHT", help="(default: 640x480)"
    )
    options = parser.parse_args()
    write(options.photographs, options.output, options.views, *options.size)


if __name__ == "__main__":
    main()
