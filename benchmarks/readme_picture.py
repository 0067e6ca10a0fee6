"""The README's picture: keypoints of the clean photograph that plain SIFT and idsr find again in the rain.

    python benchmarks/readme_picture.py examples/rainy/lighthouse.jpg examples/clean/lighthouse.jpg docs/recovered.jpg

A keypoint counts as found again when it matches the clean one (Lowe ratio 0.8) within 3 pixels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from command_line import plain_errors

from idsr_cli.drawing import draw_keypoints
from idsr_cli.evaluation.metrics import LOWE_RATIO, MATCH_RADIUS
from idsr_cli.extraction import extract
from idsr_cli.features import SiftOptions, sift
from idsr_cli.images.photo import read_photo
from idsr_cli.keypoints import Keypoints
from idsr_cli.restoration import RestorationOptions
from idsr_cli.scale_space import grey_image
from idsr_cli.weights import find_weights


def found_again(keypoints: Keypoints, clean: Keypoints) -> Keypoints:
    """The keypoints that match a keypoint of the clean photograph at the same place."""
    matches = cv2.BFMatcher().knnMatch(
        keypoints.descriptors.astype(np.float32), clean.descriptors.astype(np.float32), 2
    )
    kept = [
        a.queryIdx
        for a, b in matches
        if a.distance < LOWE_RATIO * b.distance
        and np.hypot(*(keypoints.xy[a.queryIdx] - clean.xy[a.trainIdx])) <= MATCH_RADIUS
    ]
    return keypoints.select(np.array(kept, int))


@plain_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rainy", type=Path)
    parser.add_argument("clean", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--weights")
    options = parser.parse_args()
    rainy, clean = read_photo(options.rainy).rgb, read_photo(options.clean).rgb
    pair = find_weights(options.weights)
    views = RestorationOptions(pair, pair.splice, "cpu", "fp32").build().restore(rainy, pair.splice)
    target = sift(grey_image(clean))
    before = found_again(sift(grey_image(rainy)), target)
    after = found_again(extract(views, SiftOptions()), target)
    captions = (f"rainy photograph, plain SIFT: {len(before)} of {len(target)}", f"idsr: {len(after)} of {len(target)}")
    panels = []
    for image, kept, caption in zip((rainy, views[0].rgb), (before, after), captions, strict=True):
        drawn = np.rint(255 * draw_keypoints(image, kept)[:, :, ::-1]).astype(np.uint8)
        size = (960, round(960 * drawn.shape[0] / drawn.shape[1]))
        panel = cv2.resize(drawn, size, interpolation=cv2.INTER_AREA)
        cv2.rectangle(panel, (0, 0), (960, 44), (24, 20, 20), -1)
        cv2.putText(panel, caption, (14, 31), cv2.FONT_HERSHEY_SIMPLEX, 0.85, (240, 240, 240), 2, cv2.LINE_AA)
        panels.append(panel)
    cv2.imwrite(str(options.output), np.hstack(panels), (cv2.IMWRITE_JPEG_QUALITY, 88))
    print(f"{options.output}: {captions[0]}; {captions[1]}")


if __name__ == "__main__":
    main()
