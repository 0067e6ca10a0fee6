"""Seconds per photograph of each stage: both networks, the splice, and OpenCV's SIFT beside them.

    python benchmarks/stages.py PHOTOS... --threads 2

Medians over photographs, after one warm-up; ratios are to cv2.SIFT.detectAndCompute in the same run.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from idsr_cli.files.image import read_photo
from idsr_cli.inference import Restorer, choose_device, choose_precision
from idsr_cli.scale_space import grey_image
from idsr_cli.sift import splice
from idsr_cli.weights import find_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--weights")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    pair = find_weights(options.weights)
    device = choose_device(options.device)
    dtype = choose_precision(options.precision, device)
    networks = {"DPRNet": Restorer(pair.dprnet, device, dtype), "GGIRNet": Restorer(pair.ggirnet, device, dtype)}
    oracle = cv2.SIFT.create(enable_precise_upscale=True)
    seconds: dict[str, list[float]] = defaultdict(list)
    pixels = []

    def timed(stage: str, work: Callable[..., Any], *arguments: Any) -> Any:
        begun = time.perf_counter()
        result = work(*arguments)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds[stage].append(time.perf_counter() - begun)
        return result

    for photo in [options.photos[0], *options.photos]:
        rgb = read_photo(photo).rgb
        pixels.append(rgb.shape[0] * rgb.shape[1])
        restored = [timed(name, network, rgb) for name, network in networks.items()]
        planes = [grey_image(image).to(device) for image in restored]
        timed("splice", splice, *planes)
        eight_bit = cv2.cvtColor(np.rint(restored[0] * 255).astype(np.uint8), cv2.COLOR_RGB2GRAY)
        timed("cv2.SIFT", oracle.detectAndCompute, eight_bit, None)
    medians = {stage: statistics.median(values[1:]) for stage, values in seconds.items()}
    size = statistics.median(pixels[1:]) / 1e6
    print(f"{len(options.photos)} photographs, median {size:.2f} MP, {options.threads} threads, {device}, {dtype}")
    print(f"weights {pair.name} {pair.sha256[:12]}")
    for stage, value in medians.items():
        print(f"{stage:9} {value:7.3f} s  {value / medians['cv2.SIFT']:6.2f} x cv2.SIFT")
    total = medians["DPRNet"] + medians["GGIRNet"] + medians["splice"]
    print(f"{'total':9} {total:7.3f} s")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
