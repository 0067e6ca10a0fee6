from __future__ import annotations

import cv2
import numpy as np
import pytest


def _noise(rng: np.random.Generator, shape: tuple[int, int], exponent: float) -> np.ndarray:
    """Noise of spectrum 1/f^exponent, 0..255; photographs have such spectra."""
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.normal(size=shape)) / frequency**exponent
    image = np.fft.irfft2(spectrum, s=shape)
    return np.clip(128 + 50 * image / image.std(), 0, 255)


def _polygons(rng: np.random.Generator, shape: tuple[int, int], count: int) -> np.ndarray:
    image = np.full(shape, 120, np.uint8)
    for _ in range(count):
        centre = rng.uniform(0, 1, 2) * shape[::-1]
        points = centre + rng.normal(0, min(shape) / 8, (rng.integers(3, 7), 2))
        cv2.fillPoly(image, [points.astype(np.int32)], int(rng.integers(256)), cv2.LINE_AA)
    return image


def _text(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    image = np.full(shape, 240, np.uint8)
    for y in range(20, shape[0], 24):
        words = "".join(chr(c) for c in rng.integers(33, 127, 60))
        cv2.putText(image, words, (3, y), cv2.FONT_HERSHEY_SIMPLEX, rng.uniform(0.4, 0.9), 20, 1, cv2.LINE_AA)
    return image


def _blobs(rng: np.random.Generator, shape: tuple[int, int], count: int) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.full(shape, 128.0)
    for _ in range(count):
        cy, cx = rng.uniform(0, 1, 2) * shape
        sigma = rng.uniform(1.5, 12)
        image += rng.uniform(-90, 90) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * sigma**2))
    return np.clip(image, 0, 255)


@pytest.fixture(scope="session")
def scenes() -> dict[str, np.ndarray]:
    """Grey pictures of different content and odd sizes, uint8."""
    rng = np.random.default_rng(20)
    y, x = np.mgrid[:181, :241]
    # Slanted: an axis-aligned board is symmetric, so rounding would decide between equal extrema.
    row, column = 0.97 * y + 0.21 * x + 0.0004 * x * y, 0.95 * x - 0.17 * y + 0.0007 * x * x
    pictures = {
        "photo-like": _noise(rng, (333, 511), 1.3),
        "rough": _noise(rng, (257, 255), 0.9),
        "smooth": _noise(rng, (301, 400), 2.0),
        "polygons": _polygons(rng, (240, 321), 60),
        "text": _text(rng, (200, 307)),
        "blobs": _blobs(rng, (211, 187), 90),
        "checkers": 255.0 * ((column // 13 + row // 13) % 2),
        "rings": 127 + 60 * np.sin((x - 100) ** 2 / 300 + y / 9) + 60 * np.sin((y - 80) ** 2 / 170 + x / 7),
        "tiny": _noise(rng, (47, 61), 1.3),
        "strip": _noise(rng, (31, 500), 1.3),
        "white noise": rng.uniform(0, 255, (101, 97)),
        "megapixel": 0.6 * _noise(rng, (900, 1101), 1.3) + 0.4 * _polygons(rng, (900, 1101), 150),
    }
    return {name: np.clip(picture, 0, 255).round().astype(np.uint8) for name, picture in pictures.items()}
