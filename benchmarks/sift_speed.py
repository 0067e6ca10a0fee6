"""Time of the two-image splice on a CPU, as a multiple of one `cv2.SIFT.detectAndCompute` of the same image.

The second image is a slightly blurred copy, so both pyramids are built. The two contenders take turns, each in a
process of its own, since they change how the other's large blocks of memory are handed out. `ratio` is of their least
times, `median` of their median times.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import numpy as np
import torch

from idsr_cli.sift import splice


def contender(name: str, pipe: Connection) -> None:
    """Answer each (path, threads, repeats) with the seconds of a call for each repeat; an empty path ends it."""
    while True:
        path, threads, repeats = pipe.recv()
        if not path:
            return
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        grey = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
        call: Callable[[], object]
        if name == "opencv":
            call = partial(cv2.SIFT.create(enable_precise_upscale=True).detectAndCompute, grey, None)
        else:
            first = torch.from_numpy(grey).float()
            call = partial(splice, first, torch.from_numpy(cv2.GaussianBlur(first.numpy(), (0, 0), 0.5)))
        call()
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        pipe.send(seconds)


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path, help="photographs that OpenCV can read")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="thread counts (default: 1 2)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender, of 3 runs (default: 5)")
    arguments = parser.parse_args()
    for path in arguments.images:
        if not cv2.haveImageReader(str(path)):
            parser.error(f"cannot read {path}")
    context = multiprocessing.get_context("spawn")
    pipes = []
    for name in ("opencv", "splice"):
        ours, theirs = context.Pipe()
        context.Process(target=contender, args=(name, theirs), daemon=True).start()
        pipes.append(ours)
    print(f"{'image':32} {'threads':>7} {'OpenCV ms':>9} {'splice ms':>9} {'ratio':>6} {'median':>6}")
    for threads in arguments.threads:
        ratios = []
        for path in arguments.images:
            seconds: list[list[float]] = [[], []]
            for _ in range(arguments.rounds):
                for pipe, times in zip(pipes, seconds, strict=True):
                    pipe.send((str(path), threads, 3))
                    times += pipe.recv()
            opencv, splicing = 1e3 * np.min(seconds, axis=1)
            ratios.append(splicing / opencv)
            median = np.median(seconds[1]) / np.median(seconds[0])
            name = "/".join(path.parts[-2:])[-32:]
            print(f"{name:32} {threads:7} {opencv:9.1f} {splicing:9.1f} {ratios[-1]:6.2f} {median:6.2f}", flush=True)
        print(f"{threads} thread(s): mean ratio {np.mean(ratios):.2f}, largest {max(ratios):.2f}")
    for pipe in pipes:
        pipe.send(("", 0, 0))


if __name__ == "__main__":
    main()
