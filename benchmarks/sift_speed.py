"""Time of the two-image splice on a CPU, as a multiple of one `cv2.SIFT.detectAndCompute` of the same image.

The second image is a slightly blurred copy, so both pyramids are built. The two contenders take turns; the ratio is of
their least times, the median ratio of pairs stands beside it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from idsr_cli.sift import splice


def seconds(function: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path, help="photographs that OpenCV can read")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="thread counts (default: 1 2)")
    parser.add_argument("--repeats", type=int, default=9, help="runs of each, after one to warm up (default: 9)")
    arguments = parser.parse_args()
    head = f"{'image':32} {'size':>11} {'threads':>7} {'OpenCV':>7}"
    print(f"{head} {'OpenCV ms':>9} {'splice ms':>9} {'ratio':>6} {'median':>6}")
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        ratios = []
        for path in arguments.images:
            grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            if grey is None:
                parser.error(f"cannot read {path}")
            a = torch.from_numpy(grey).float()
            b = torch.from_numpy(cv2.GaussianBlur(a.numpy(), (0, 0), 0.5))
            opencv = cv2.SIFT_create(enable_precise_upscale=True)
            count = len(opencv.detectAndCompute(grey, None)[0])
            splice(a, b)
            times = np.array(
                [
                    (seconds(lambda: opencv.detectAndCompute(grey, None)), seconds(lambda: splice(a, b)))
                    for _ in range(arguments.repeats)
                ]
            )
            theirs, ours = 1e3 * times.min(0)
            ratios.append(ours / theirs)
            name, size = "/".join(path.parts[-2:])[-32:], f"{grey.shape[1]}x{grey.shape[0]}"
            median = np.median(times[:, 1] / times[:, 0])
            print(
                f"{name:32} {size:>11} {threads:7} {count:7} {theirs:9.1f} {ours:9.1f} {ours / theirs:6.2f} {median:6.2f}"
            )
        print(f"{threads} thread(s): mean ratio {np.mean(ratios):.2f}, largest {max(ratios):.2f}")


if __name__ == "__main__":
    main()
