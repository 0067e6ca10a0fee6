"""How close `idsr_cli.features.sift` comes to OpenCV's SIFT on the same 8-bit photographs.

Prints a row for each image: OpenCV's keypoints, how many of them are found (within 0.01 px, 0.1 % size, 1 degree), how
many of ours are extra, and how far the descriptors of the found ones are apart (L1 over 128 values of 0..255).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from command_line import plain_errors

from idsr_cli.features import sift
from idsr_cli.images.folders import photos_in
from idsr_cli.keypoints import Keypoints


def compare(ours: Keypoints, grey: np.ndarray) -> tuple[int, float, float, float, float]:
    """OpenCV's count, fraction located, fraction extra, mean descriptor L1, fraction of descriptors identical."""
    points, expected = cv2.SIFT.create(enable_precise_upscale=True).detectAndCompute(grey, None)
    if not points or not len(ours):
        return len(points), float(len(points) == len(ours)), float(len(ours) > len(points)), 0.0, 1.0
    xy = np.array([p.pt for p in points], np.float32)
    size = np.array([p.size for p in points], np.float32)
    angle = np.array([p.angle for p in points], np.float32)
    pairs = np.full(len(points), -1)
    order = np.argsort(ours.xy[:, 0], kind="stable")
    x = ours.xy[order, 0]
    for i in range(len(points)):
        near = order[np.searchsorted(x, xy[i, 0] - 0.01) : np.searchsorted(x, xy[i, 0] + 0.01, side="right")]
        turn = np.abs((ours.angle[near] - angle[i] + 180) % 360 - 180)
        fits = (np.hypot(*(ours.xy[near] - xy[i]).T) <= 0.01) & (turn <= 1)
        fits &= np.abs(2 * ours.scale[near] / size[i] - 1) <= 1e-3
        if fits.any():
            pairs[i] = near[fits][np.argmin(turn[fits])]
    found = pairs >= 0
    extra = len(ours) - len(np.unique(pairs[found]))
    distance = np.abs(ours.descriptors[pairs[found]].astype(np.float32) - expected[found]).sum(1)
    count = len(points)
    return count, float(found.mean()), extra / count, float(distance.mean()), float((distance == 0).mean())


def expand(given: Path) -> list[Path]:
    """The photographs of a folder tree, or the file itself."""
    return photos_in(given) if given.is_dir() else [given]


@plain_errors()
def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path, help="photographs that OpenCV can read, and folders of them")
    parser.add_argument("--device", default="cpu", help="where our SIFT runs (default: cpu)")
    arguments = parser.parse_args()
    paths = [path for given in arguments.images for path in expand(given)]
    print(f"{'image':32} {'size':>11} {'OpenCV':>7} {'located':>8} {'extra':>7} {'L1 mean':>8} {'identical':>9}")
    unread = []
    for path in paths:
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if grey is None:
            unread.append(path)
            continue
        ours = sift(torch.from_numpy(grey).float().to(arguments.device))
        count, located, extra, distance, identical = compare(ours, grey)
        name, size = "/".join(path.parts[-2:])[-32:], f"{grey.shape[1]}x{grey.shape[0]}"
        print(f"{name:32} {size:>11} {count:7} {located:8.2%} {extra:7.2%} {distance:8.3f} {identical:9.1%}")
    if unread:
        parser.error(f"OpenCV cannot read {', '.join(map(str, unread))}")


if __name__ == "__main__":
    main()
