"""Gradients of squares, read line by line and pixel by pixel."""

import numpy as np

from idsr_cli.features.gradients import Anchors, polar_gradients, square_gradients
from idsr_cli.features.scratch import Scratch
from idsr_cli.features.windows import axis_aligned

HEIGHT, WIDTH, RADIUS = 30, 41, 5


def anchors(rows: list[int], columns: list[int]) -> Anchors:
    row, column = np.array(rows), np.array(columns)
    width, height = (np.full(len(row), side) for side in (WIDTH, HEIGHT))
    return Anchors(row * WIDTH + column, width, row, column, height, np.ones(len(row), np.float32))


def test_squares_and_single_pixels_give_the_same_bytes() -> None:
    samples = np.random.default_rng(0).random(HEIGHT * WIDTH, np.float32)
    anchor = anchors([6, 15, 23], [6, 20, 34])
    window = axis_aligned(RADIUS)
    offset = (window.y * np.float32(WIDTH) + window.x).astype(np.int64)
    squares = square_gradients(samples, anchor, RADIUS, Scratch())
    assert squares is not None
    for of_squares, of_pixels in zip(squares, polar_gradients(samples, anchor, offset, Scratch()), strict=True):
        assert of_squares.shape == (3, (2 * RADIUS + 1) ** 2)
        assert of_squares.tobytes() == of_pixels.tobytes()


def test_squares_beyond_the_buffer_are_refused() -> None:
    samples = np.zeros(HEIGHT * WIDTH, np.float32)
    for row, column, within in ((6, 6, True), (5, 40, False), (23, 34, True), (23, 35, False)):
        found = square_gradients(samples, anchors([15, row], [20, column]), RADIUS, Scratch())
        assert (found is not None) == within
