"""A mask is a picture or a bool array; it says where keypoints may be."""

import numpy as np
import pytest

from idsr_cli.errors import ItemError
from idsr_cli.images.masks import allowed_pixels
from idsr_cli.images.photo import from_array


def test_pictures_and_bool_arrays() -> None:
    expected = np.zeros((4, 5), bool)
    expected[1, 2] = expected[3, 0] = True
    picture = np.zeros((4, 5, 3), np.uint8)
    picture[1, 2, 2], picture[3, 0] = 1, 255  # any colour counts
    for mask in (expected, expected[:, :, None], from_array(picture), from_array(expected.astype(np.float32))):
        allowed = allowed_pixels(mask, 5, 4)
        assert allowed.dtype == np.bool_
        np.testing.assert_array_equal(allowed, expected)


def test_masks_that_do_not_fit() -> None:
    with pytest.raises(ItemError, match="the mask has 5x4 pixels, the photograph 4x5"):
        allowed_pixels(np.ones((4, 5), bool), 4, 5)
    with pytest.raises(ItemError, match=r"the mask `m\.png` has 5x4 pixels"):
        allowed_pixels(from_array(np.ones((4, 5), np.uint8)), 5, 5, "m.png")
    for mask in (np.ones((4, 5, 3), bool), np.ones(5, bool), np.ones((4, 5), np.uint8)):
        with pytest.raises(ItemError, match="has no meaning") as caught:
            allowed_pixels(mask, 5, 4)
        assert caught.value.hint == "give (H, W) of bool"
