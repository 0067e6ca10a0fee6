"""The tables of the descriptor's pixels against the definition of a turned square."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from idsr_cli.features import windows


@pytest.mark.parametrize("number", [60, 88, 113])
@pytest.mark.parametrize("share", [1.0, 0.9, 0.8])
def test_every_pixel_of_a_square_once_and_the_rows_of_cells_in_their_parts(number: int, share: float) -> None:
    """For squares of the table's width and of narrower ones that it serves, at any angle."""
    table = windows.turned(number)
    half = share * 1.03**number
    assert windows.band(np.array([half]))[0] >= number - windows.SPREAD
    radius = math.ceil(half * math.sqrt(2))
    grid = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1)
    for angle in np.random.default_rng(number).uniform(0, 90, 12):
        row = int(windows.angle_step(np.array([angle]))[0][0])
        y, x, distance, one = table.pixels[row]
        assert np.array_equal(distance, y * y + x * x)
        assert (one == 1).all()
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))

        def turned(y, x, cos=cos, sin=sin):
            return cos * y - sin * x, cos * x + sin * y

        listed = (np.abs(turned(y, x)) < half).all(0)
        expected = grid[:, (np.abs(turned(*grid)) < half).all(0)]
        assert sorted(zip(y[listed], x[listed], strict=True)) == list(map(tuple, expected.T.tolist()))
        down = turned(y, x)[0] / (half * 2 / 5)  # in cells, 0 at the centre
        for cell, part in enumerate(table.rows):
            used = np.flatnonzero(listed & (np.abs(down - (cell - 1.5)) < 1))
            assert part.start <= used[0]
            assert used[-1] < part.stop


def test_pixels_are_near_the_square() -> None:
    """Few are beyond it, and none is beyond the room that a window needs in its octave."""
    for number in (60, 88, 113):
        half = 1.03**number
        pixels = windows.turned(number).pixels
        assert pixels.shape[2] < 1.12 * 4 * half * half
        assert np.abs(pixels[:, :2]).max() <= math.ceil(half * math.sqrt(2)) + 1


def test_the_last_angle_below_a_full_turn() -> None:
    """One keypoint in a few million has it."""
    last = np.nextafter(np.float32(360), np.float32(0))
    for angle in (np.array([last, 0], np.float32), torch.tensor([last, 0])):
        row, quarter = windows.angle_step(angle)
        assert (row.tolist(), quarter.tolist()) == ([47, 0], [3, 0])
